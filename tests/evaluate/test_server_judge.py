"""The request to a judge, and how strictly its verdict is read."""

from pathlib import Path

import pytest

from thumbs.errors import ConfigError
from thumbs.evaluate.judging import Question, Verdict, text_of
from thumbs.evaluate.server_judge import load_judge_template, parse_verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("It is correct.\n[[A]]", "first"),
        ("[[B]]", "second"),
        ("[[C]]", "tie"),
        ("[[A]]. As I said: [[A]]", "first"),
        ("[[A]] at first sight, but [[B]]", None),
        ("A", None),
        ("[A]", None),
        ("[[D]]", None),
        ("[[a]]", None),
        ("", None),
        ("<think>[[A]]? no</think>\n[[B]]", "second"),
        ("<think>[[A]] is what I will", None),  # cut while it thought
    ],
)
def test_a_verdict_is_the_one_mark_of_a_reply(reply: str, verdict: Verdict | None) -> None:
    assert parse_verdict(reply) == verdict


def test_the_request_shows_prompt_and_answers_as_they_are() -> None:
    template = load_judge_template(None)
    shown = template.render(Question("2 < 3 & {{ first }}?", "<b>yes</b>", "{% no %}"))
    assert "<<<PROMPT\n2 < 3 & {{ first }}?\nPROMPT>>>" in shown
    assert "<<<ANSWER A\n<b>yes</b>\nANSWER A>>>" in shown
    assert "<<<ANSWER B\n{% no %}\nANSWER B>>>" in shown


def test_a_conversation_is_shown_with_who_speaks() -> None:
    one = [{"role": "user", "content": "Hi"}]
    assert text_of(one) == "Hi"
    more = [{"role": "system", "content": "Be kind"}, *one]
    assert text_of(more) == "[system]\nBe kind\n\n[user]\nHi"


def test_a_template_of_the_user_replaces_ours(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{{ prompt }}|{{ first }}|{{ second }}", encoding="utf-8")
    template = load_judge_template(file)
    assert template.render(Question("p", "a", "b")) == "p|a|b"
    assert template.sha256 != load_judge_template(None).sha256


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ prompt }} {{ first }}", r"never shows \{\{ second \}\}"),
        ("{{ prompt }} {{ answer }}", "'answer' is undefined"),
        ("{% if %}", "line 1"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_a_template_that_cannot_serve_is_refused(source: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(source, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_judge_template(file)


def test_a_template_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_judge_template(tmp_path / "none.jinja")
