"""`thumbs compare` with servers that fail or refuse, and with kills and company: paid once."""

import time
import warnings
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from tests.comparing import prefers_good, request, written
from tests.evaluate.scripted_server import Act, scripted_server

from thumbs import pipeline
from thumbs.errors import ConfigError, Interrupted
from thumbs.evaluate.chat_server import Patience


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return written(tmp_path)


def faulty(body: dict[str, Any], number: int) -> Act:
    """Of three requests one stalls, or brings garbage, or nothing, the others are judged."""
    faults = [
        Act(stall=3.0),
        Act(body="<html>Bad gateway</html>"),
        Act(hang_up=True),
        Act(status=503, body="overloaded"),
        Act(body='{"choices": []}'),
    ]
    return prefers_good(body) if number % 3 else faults[number // 3 % len(faults)]


def test_stalls_garbage_and_hang_ups_lose_no_judgement(
    files: dict[str, Path], tmp_path: Path
) -> None:
    patience = Patience(timeout_seconds=0.6, attempts=8, pause_seconds=0.01)
    with scripted_server(faulty) as server:
        result = pipeline.compare(
            request(files, server.url, tmp_path / "out", patience=patience, concurrency=8)
        )
        assert (result["wins"], result["nulls"]) == (12, 0)
        assert max(Counter(server.paid).values()) == 1
        assert len(server.paid) == 24


def test_a_server_that_dies_midway_is_resumed_and_nothing_is_paid_twice(
    files: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def dies(body: dict[str, Any], number: int) -> Act:
        return prefers_good(body) if number <= 10 else Act(hang_up=True)

    with scripted_server(dies) as server:
        with pytest.raises(Interrupted, match="same command again"):
            pipeline.compare(request(files, server.url, out))
        assert not (out / "comparison.json").exists()
        assert len(server.paid) == 10
        server.answer = lambda body, _: prefers_good(body)
        result = pipeline.compare(request(files, server.url, out))
        assert result["wins"] == 12
        assert max(Counter(server.paid).values()) == 1
        assert len(server.paid) == 24
        again = pipeline.compare(request(files, server.url, out))
        assert len(server.paid) == 24
        assert again == result


def test_a_server_that_knows_no_such_model_is_the_users_mistake(
    files: dict[str, Path], tmp_path: Path
) -> None:
    answers = {404: "no such model", 400: "max_tokens is unknown"}
    for status, words in answers.items():
        act = Act(status, words)
        with (
            scripted_server(lambda *_, act=act: act) as server,
            pytest.raises(ConfigError, match=words),
        ):
            pipeline.compare(request(files, server.url, tmp_path / "out"))


def test_a_server_that_refuses_all_is_told_though_the_cache_holds_other_judgements(
    files: dict[str, Path],
) -> None:
    with scripted_server(lambda body, _: prefers_good(body)) as server:
        pipeline.compare(request(files, server.url, None))
        server.answer = lambda *_: Act(400, "max_tokens is\nunknown \x1b[31m")
        words = r"refuses every request: status 400 max_tokens is unknown [^\x1b]*\[31m"
        with pytest.raises(ConfigError, match=words):
            pipeline.compare(request(files, server.url, None, model="another"))


def test_one_refused_question_is_a_null_that_is_asked_again(
    files: dict[str, Path], tmp_path: Path
) -> None:
    def strict(body: dict[str, Any], _: int) -> Act:
        return Act(400, "too long") if "What is 3 " in str(body) else prefers_good(body)

    with scripted_server(strict) as server:
        result = pipeline.compare(request(files, server.url, tmp_path / "out"))
        assert (result["nulls"], result["null_reasons"]) == (1, {"refused by the server": 1})
        server.answer = lambda body, _: prefers_good(body)
        assert pipeline.compare(request(files, server.url, tmp_path / "out"))["nulls"] == 0
        assert len(server.paid) == 24


def test_comparisons_at_once_in_one_cache_all_end_and_pay_for_each_judgement_once(
    files: dict[str, Path],
) -> None:
    def slow(body: dict[str, Any], _: int) -> Act:
        time.sleep(0.02)
        return prefers_good(body)

    with scripted_server(slow) as server:
        same = request(files, server.url, None)
        other = request(files, server.url, None, model="another")
        with warnings.catch_warnings():
            # Python 3.12 warns of threads; those of a parent that are idle do no harm here.
            warnings.simplefilter("ignore", DeprecationWarning)
            started = [
                get_context("fork").Process(target=pipeline.compare, args=(asked,))
                for asked in (same, same, other)
            ]
            for process in started:
                process.start()
        for process in started:
            process.join()
        assert [process.exitcode for process in started] == [0, 0, 0]
        asked_of = Counter(body["model"] for body in server.bodies)
        assert asked_of == {"tiny": 24, "another": 24}
        assert pipeline.compare(other)["wins"] == 12
        assert len(server.bodies) == 48


def test_a_kill_of_the_comparison_itself_loses_only_what_was_under_way(
    files: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    kept = out / "judgements.jsonl"

    def slow(body: dict[str, Any], _: int) -> Act:
        time.sleep(0.02)
        return prefers_good(body)

    with scripted_server(slow) as server:
        asked = request(files, server.url, out)
        with warnings.catch_warnings():
            # Python 3.12 warns of threads; those of a parent that are idle do no harm here.
            warnings.simplefilter("ignore", DeprecationWarning)
            process = get_context("fork").Process(target=pipeline.compare, args=(asked,))
            process.start()
        while not kept.is_file() or kept.read_bytes().count(b"\n") < 8:
            assert process.is_alive()
            time.sleep(0.002)
        process.kill()
        process.join()
        before = kept.read_bytes()
        num_kept = before.count(b"\n")
        assert 8 <= num_kept < 24
        assert pipeline.compare(asked)["wins"] == 12
        assert kept.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
        assert 24 <= len(server.asked) <= 24 + 4  # those of the four under way are asked again
