"""The page for people: blind, escaped, resumable, closed to everybody else."""

import re
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from html import unescape
from pathlib import Path

import httpx2
import pytest

from thumbs.errors import ConfigError
from thumbs.evaluate.human_page import SKIPPED, HumanJudge
from thumbs.evaluate.journal import open_journal
from thumbs.evaluate.judging import Judgement, Question

INJECTION = "<script>alert(1)</script>{{ 7 * 7 }}"
QUESTIONS = [
    Question(f"prompt {i} {INJECTION}", f"good {i} {INJECTION}", f"bad {i}") for i in range(12)
]


def rated(
    path: Path,
    visit: Callable[[str, httpx2.Client], None],
    questions: Sequence[Question] = QUESTIONS,
    seed: int = 0,
) -> list[Judgement]:
    """What the judge returns while `visit(url, client)` plays the person."""
    found: list[Judgement] = []
    told: list[str] = []
    came = threading.Event()

    def announce(url: str) -> None:
        told.append(url)
        came.set()

    def work() -> None:
        with open_journal(path) as journal:
            found.extend(HumanJudge(journal, seed, announce=announce).judge(questions))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    if came.wait(10):
        with httpx2.Client(follow_redirects=True) as client:
            visit(told[0], client)
    thread.join(10)
    return found


def shown(page: str) -> tuple[str, list[str]]:
    """The key of a page, and prompt, left and right."""
    texts = re.findall(r'<div class="text" dir="auto">(.*?)</div>', page, re.DOTALL)
    (key,) = re.findall(r'name="key" value="([0-9a-f]+)"', page)
    return key, [unescape(text) for text in texts]


def choose(url: str, client: httpx2.Client, page: str, choice: str) -> str:
    key, _ = shown(page)
    return client.post(url + "verdict", data={"key": key, "verdict": choice}).text


def prefer_good(url: str, client: httpx2.Client) -> None:
    page = client.get(url).text
    while "All are judged" not in page:
        left = shown(page)[1][1]
        page = choose(url, client, page, "left" if left.startswith("good") else "right")


def test_a_person_who_knows_is_understood_whatever_the_side(tmp_path: Path) -> None:
    sides: list[bool] = []
    order: list[str] = []

    def visit(url: str, client: httpx2.Client) -> None:
        page = client.get(url).text
        while "All are judged" not in page:
            prompt, left, right = shown(page)[1]
            assert "good" in left + right
            sides.append(left.startswith("good"))
            order.append(prompt)
            page = choose(url, client, page, "left" if sides[-1] else "right")

    found = rated(tmp_path / "judgements.jsonl", visit)
    assert [judgement.verdict for judgement in found] == ["first"] * 12
    assert 0 < sum(sides) < 12  # blind: the good one is not always on one side
    assert order != [question.prompt for question in QUESTIONS]
    assert sorted(order) == sorted(str(question.prompt) for question in QUESTIONS)


def test_text_is_escaped_and_the_page_runs_its_own_script_only(tmp_path: Path) -> None:
    def visit(url: str, client: httpx2.Client) -> None:
        response = client.get(url)
        assert "<script>alert" not in response.text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;{{ 7 * 7 }}" in response.text
        policy = response.headers["Content-Security-Policy"]
        nonce = re.findall(r"script-src 'nonce-([\w-]+)'", policy)[0]
        assert re.findall(r"<script[^>]*>", response.text) == [f'<script nonce="{nonce}">']
        assert "default-src 'none'" in policy
        prefer_good(url, client)

    assert len(rated(tmp_path / "j.jsonl", visit)) == 12


def test_the_work_goes_on_where_it_stopped_and_nothing_counts_twice(tmp_path: Path) -> None:
    path = tmp_path / "judgements.jsonl"

    first = QUESTIONS[:4]
    found = rated(path, finish_four, first)
    assert [j.verdict for j in found].count("tie") == 3
    assert [j.reason for j in found].count(SKIPPED) == 1

    def rest(url: str, client: httpx2.Client) -> None:
        assert "4 of 12 judged" in client.get(url).text
        prefer_good(url, client)

    again = rated(path, rest)
    assert [j.verdict for j in again].count("first") == 8
    assert again[:4] == found


def finish_four(url: str, client: httpx2.Client) -> None:
    page = client.get(url).text
    page = choose(url, client, page, "tie")
    stale = page
    page = choose(url, client, page, "left")
    page = choose(url, client, page, "undo")
    assert "1 of 4 judged" in page
    assert shown(page) == shown(stale)
    page = choose(url, client, page, "skip")
    page = choose(url, client, page, "nonsense")
    assert "2 of 4 judged" in page
    stale = page
    page = choose(url, client, page, "tie")
    page = choose(url, client, stale, "left")  # an old page sent again changes nothing
    assert "3 of 4 judged" in page
    choose(url, client, page, "tie")


def test_strangers_get_nothing(tmp_path: Path) -> None:
    statuses: list[int] = []

    def visit(url: str, client: httpx2.Client) -> None:
        root = str(httpx2.URL(url).copy_with(path="/"))
        statuses.append(client.get(root).status_code)
        statuses.append(client.post(root + "verdict", data={"verdict": "tie"}).status_code)
        statuses.append(client.get(url, headers={"Host": "evil.example"}).status_code)
        with suppress(httpx2.HTTPError):
            statuses.append(client.post(url + "verdict", content=b"x" * 20_000).status_code)
        prefer_good(url, client)

    assert len(rated(tmp_path / "j.jsonl", visit)) == 12
    assert statuses[:3] == [404, 404, 403]
    assert statuses[3:] in ([413], [])


def test_a_port_that_is_taken_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as place, open_journal(tmp_path / "j.jsonl") as journal:
        place.bind(("127.0.0.1", 0))
        place.listen()
        port = place.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--port {port}: cannot be served"):
            HumanJudge(journal, 0, port).judge(QUESTIONS)


def test_all_judged_before_needs_no_page(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    found = rated(path, prefer_good)
    with open_journal(path) as journal:
        quiet = HumanJudge(journal, 0, announce=lambda _: (_ for _ in ()).throw(AssertionError))
        assert quiet.judge(QUESTIONS) == found
