"""One server: what is tried again, how long is waited, whose key is sent."""

import time
from typing import Any

import pytest
from tests.evaluate.scripted_server import Act, says, scripted_server

from thumbs.errors import ConfigError, Interrupted
from thumbs.evaluate.chat_server import ChatServer, Patience, asked_pause, chat_endpoint

ASK = [{"role": "user", "content": "hello"}]


def server_at(url: str, **changes: Any) -> ChatServer:
    patience = Patience(timeout_seconds=1.0, attempts=3, pause_seconds=0.01)
    return ChatServer(url, "tiny", "judge", **({"patience": patience} | changes))


def test_a_reply_comes_with_its_tokens_and_options_are_sent() -> None:
    with scripted_server(lambda *_: says("hi")) as script:
        server = server_at(script.url, options={"reasoning_effort": "low", "temperature": None})
        reply = server.reply(ASK, temperature=0, max_tokens=3)
        server.close()
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("hi", 10, 2)
    sent = {"model": "tiny", "messages": ASK, "stream": False}
    assert script.bodies == [{**sent, "max_tokens": 3, "reasoning_effort": "low"}]


@pytest.mark.parametrize(
    ("usage", "tokens", "is_told"),
    [
        ('{"prompt_tokens": 10.0, "completion_tokens": 2.0}', (10, 2), False),
        ('{"prompt_tokens": null, "completion_tokens": 2}', (0, 2), False),
        ("null", (0, 0), False),
        ("{}", (0, 0), False),
        ('{"prompt_tokens": "10", "completion_tokens": null}', (0, 0), True),
        ('{"prompt_tokens": NaN, "completion_tokens": 2}', (0, 2), True),
        ('{"prompt_tokens": 1e999, "completion_tokens": 2}', (0, 2), True),
        ('{"prompt_tokens": -5, "completion_tokens": 2.5}', (0, 0), True),
        ('{"prompt_tokens": 99999999999999999999, "completion_tokens": true}', (0, 0), True),
        ("[10, 2]", (0, 0), True),
        ("[]", (0, 0), True),
        ('"12"', (0, 0), True),
    ],
)
def test_a_reply_is_kept_whatever_its_usage_which_is_told_once(
    usage: str, tokens: tuple[int, int], is_told: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    body = '{"choices": [{"message": {"content": "[[A]]"}}], "usage": ' + usage + "}"
    with scripted_server(lambda *_: Act(body=body)) as script:
        server = server_at(script.url)
        for _ in range(2):
            reply = server.reply(ASK)
            assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("[[A]]", *tokens)
        server.close()
    assert len(script.asked) == 2
    told = "".join(capfd.readouterr().err.split())
    assert told.count("isnocountoftokens") == is_told


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (r'"\ud800 [[A]]"', "\ufffd [[A]]"),
        (r'"\ud83d\ude00 [[A]]"', "\U0001f600 [[A]]"),
        ('[{"type": "text", "text": "[["}, {"type": "text", "text": "A]]"}]', "[[A]]"),
        ('[{"type": "thinking", "text": "[[B]]"}, {"text": "[[A]]"}]', "[[A]]"),
        ("[]", ""),
        ("null", ""),
    ],
)
def test_a_text_in_parts_or_with_half_a_character_is_a_reply(content: str, text: str) -> None:
    body = '{"choices": [{"message": {"content": ' + content + "}}]}"
    with scripted_server(lambda *_: Act(body=body)) as script:
        server = server_at(script.url)
        assert server.reply(ASK).text == text
        server.close()


@pytest.mark.parametrize("content", ["3", '["[[A]]"]', '{"text": "[[A]]"}'])
def test_what_is_neither_text_nor_parts_is_tried_again(content: str) -> None:
    body = '{"choices": [{"message": {"content": ' + content + "}}]}"
    with scripted_server(lambda *_: Act(body=body)) as script:
        server = server_at(script.url)
        with pytest.raises(Interrupted, match=r"no reply in 3 attempts: .* without text"):
            server.reply(ASK)
        server.close()


def test_the_pause_a_server_asks_for_is_kept() -> None:
    def busy(_: Any, number: int) -> Act:
        return says("hi") if number == 2 else Act(429, "slow down", {"Retry-After": "0.7"})

    with scripted_server(busy) as script:
        server = server_at(script.url)
        assert server.reply(ASK).text == "hi"
        server.close()
    assert script.times[1] - script.times[0] >= 0.7
    assert server.retries == 1


def test_retry_after_is_seconds_or_a_date_and_ten_minutes_at_most() -> None:
    assert asked_pause("7", 0.0) == 7
    # 1970-01-01 00:01:40 is second 100; from second 60 that is 40 away, from 200 it is past.
    date = "Thu, 01 Jan 1970 00:01:40 GMT"
    assert asked_pause(date, 60.0) == 40
    assert asked_pause(date, 200.0) == 0
    assert asked_pause(None, 0.0) is None
    assert asked_pause("soon", 0.0) is None
    for long in ("601", "inf", "nan"):
        with pytest.raises(Interrupted, match="asks to wait"):
            asked_pause(long, 0.0)


def test_pauses_double_with_every_attempt() -> None:
    with scripted_server(lambda *_: Act(500)) as script:
        server = server_at(script.url, patience=Patience(1.0, 4, 0.2))
        with pytest.raises(Interrupted, match="no reply in 4 attempts: status 500"):
            server.reply(ASK)
        server.close()
    first, second, third = (b - a for a, b in zip(script.times, script.times[1:], strict=False))
    # Between half of 0.2, 0.4, 0.8 and the whole, and what the machine adds.
    assert first >= 0.1
    assert second >= 0.2
    assert third >= 0.4


def test_a_reply_that_drips_is_given_up_when_its_time_is_over() -> None:
    with scripted_server(lambda *_: Act(stall=1.5)) as script:
        server = server_at(script.url, patience=Patience(0.3, 1, 0.01))
        begun = time.monotonic()
        with pytest.raises(Interrupted, match="ReadTimeout"):
            server.reply(ASK)
        assert time.monotonic() - begun < 1.4
        server.close()


def test_nobody_listening_is_told_as_such() -> None:
    server = server_at("http://127.0.0.1:9/v1")
    with pytest.raises(Interrupted, match=r"127.0.0.1:9/v1.*ConnectError"):
        server.reply(ASK)
    server.close()


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with scripted_server(lambda *_: Act(307, "", {"Location": "http://example.org/"})) as script:
        server = server_at(script.url)
        with pytest.raises(ConfigError, match="status 307"):
            server.reply(ASK)
        server.close()


def test_openais_key_goes_to_openai_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    with scripted_server(lambda *_: says("hi")) as script:
        server = server_at(script.url)
        server.reply(ASK)
        server.close()
    assert script.authorizations == [None]
    assert server_at("https://api.openai.com/v1")._key == "sk-openai"
    assert server_at("http://api.openai.com/v1")._key == ""
    monkeypatch.setenv("THUMBS_API_KEY", "any")
    monkeypatch.setenv("THUMBS_A_API_KEY", "of-a")
    assert server_at("http://host/v1")._key == "any"
    assert ChatServer("http://host/v1", "tiny", "a")._key == "of-a"


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1/chat/completions"),
        ("http://localhost:8000/", "http://localhost:8000/v1/chat/completions"),
        ("https://host/openai/v1/", "https://host/openai/v1/chat/completions"),
        ("http://host/v1/chat/completions", "http://host/v1/chat/completions"),
    ],
)
def test_the_endpoint_follows_from_the_url(url: str, endpoint: str) -> None:
    assert chat_endpoint(url) == endpoint
