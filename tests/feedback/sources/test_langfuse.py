"""Langfuse: whose scores are votes, and a score that comes two ways."""

from pathlib import Path
from typing import Any

from tests.feedback.sources.reading import Reading

from thumbs.feedback.clean import Tally
from thumbs.feedback.provider_json import CUT
from thumbs.feedback.sources.langfuse import IN_BOTH, OF_EVALUATOR, detect, read

READING = Reading("langfuse", read)
rows, refusal = READING.rows, READING.refusal
TRACE = {"id": "t", "sessionId": "s", "userId": "u", "input": "2+2?", "output": "4"}


def score(value: float, source: str = "API", name: str = "vote", **more: Any) -> dict[str, Any]:
    given = {"id": f"{name} {source}", "traceId": "t", "name": name, "dataType": "NUMERIC"}
    return {**given, "source": source, "value": value, **more}


def test_scores_of_evaluators_are_left_out_and_counted(tmp_path: Path) -> None:
    tally = Tally()
    entries = [TRACE, score(1), score(0, "EVAL"), score(0.3, "EVAL", "judge")]
    assert [one.label for one in rows(tmp_path, *entries, tally=tally)] == [True]
    assert tally.dropped[OF_EVALUATOR] == 1
    said = refusal(tmp_path, TRACE, score(0, "EVAL", "judge"))
    assert "no scores but of evaluators: judge" in said
    [asked] = rows(tmp_path, TRACE, score(0, "EVAL", "judge"), score_name="judge")
    assert asked.label is False


def test_a_column_gives_way_to_the_scores_of_the_api(tmp_path: Path) -> None:
    tally = Tally()
    [one] = rows(tmp_path, {**TRACE, "vote": [1]}, score(0), tally=tally)
    assert one.label is False
    assert tally.dropped[IN_BOTH] == 1
    [alone] = rows(tmp_path, {**TRACE, "vote": [1]})
    assert alone.label is True


def test_the_values_found_are_shown_as_they_stand(tmp_path: Path) -> None:
    said = refusal(tmp_path, TRACE, score(-1))
    assert "the values found: -1 (1)" in said
    [one] = rows(tmp_path, TRACE, score(-1), down=("-1",), up=("1",))
    assert one.label is False


def test_an_answer_that_was_cut_is_left_out_and_counted(tmp_path: Path) -> None:
    tally = Tally()
    said = {"role": "assistant", "content": "4 and"}

    def output(reason: str) -> dict[str, Any]:
        return {"output": {"choices": [{"message": said, "finish_reason": reason}]}}

    whole = {**TRACE, **output("stop"), "id": "w", "vote": [1]}
    cut = {**TRACE, **output("length"), "id": "c", "vote": [1]}
    assert len(rows(tmp_path, whole, cut, tally=tally)) == 1
    assert tally.dropped[CUT] == 1
    kept = Tally(keep=frozenset({"unfinished"}))
    assert len(rows(tmp_path, whole, cut, tally=kept)) == 2


def test_an_observation_is_known_by_its_kind_and_trace(tmp_path: Path) -> None:
    seen = {"id": "o", "traceId": "t", "type": "GENERATION", "input": "2+2?", "output": "4"}
    vote = {**score(1), "observationId": "o"}
    assert detect(seen)
    assert not detect({**seen, "type": "of our own"})
    assert [one.label for one in rows(tmp_path, seen, vote)] == [True]
