"""UltraFeedback: instructions with several scored completions.

In: {"instruction", "completions": [{"model", "response", "overall_score", "annotations"}]}. Out: a
record per completion whose score --threshold can place: the overall score, or the rating of the
aspect that --score-name names (helpfulness, honesty, ...). Source: openbmb/UltraFeedback.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge, Vote
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.rated import RECORD_DROPS, mapping, rated_record, sequence
from thumbs.feedback.record import Feedback, Message

NAME = "ultrafeedback"
READS = "instruction and completions with overall_score, or an aspect's Rating (--score-name)"
WITHOUT_SCORE = "completion without a score"
DROPS = (*RECORD_DROPS, WITHOUT_SCORE, NEITHER, ON_THRESHOLD)

NO_RATING = (None, "", "N/A")


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is an instruction with completions."""
    completions = sequence(entry.get("completions"))
    first = mapping(completions[0]) if completions else {}
    return "instruction" in entry and "response" in first


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per scored completion.

    Raises:
        FeedbackError: neither a threshold nor values are given, or no completion has the score.
    """
    if not (options.threshold or options.up or options.down):
        finding = "scores on a scale, which need a threshold"
        advice = "Give --threshold 7, mean, median or per-prompt-mean"
        raise FeedbackError(f"{', '.join(map(str, paths))}: {finding}. {advice}.")

    def votes() -> Iterator[Vote]:
        for _, entry, completion in _completions(paths):
            score = _score(completion, options.score_name)
            if score not in NO_RATING:
                yield Vote(score, entry["instruction"])

    judge = Judge(options, votes, f"score {options.score_name or 'overall_score'!r}")
    for place, entry, completion in _completions(paths):
        score = _score(completion, options.score_name)
        if score in NO_RATING:
            tally.dropped[WITHOUT_SCORE] += 1
            continue
        label = judge.label(Vote(score, entry["instruction"]), place, tally)
        if label is None:
            continue
        prompt: list[Message] = [{"role": "user", "content": entry["instruction"]}]
        system = completion.get("custom_system_prompt")
        if isinstance(system, str) and system.strip():
            prompt.insert(0, {"role": "system", "content": system})
        answer = [{"role": "assistant", "content": completion.get("response")}]
        rest = {"score": score, "source": NAME, "model": completion.get("model")}
        rest["comment"] = completion.get("critique")
        record = rated_record(prompt, answer, label, place, tally, **rest)
        if record is not None:
            yield record


def _completions(
    paths: Sequence[Path],
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        for i, completion in enumerate(map(mapping, sequence(entry.get("completions"))), start=1):
            yield f"{place}: completion {i}", entry, completion


def _score(completion: Mapping[str, Any], aspect: str) -> object:
    if not aspect or aspect == "overall_score":
        return completion.get("overall_score")
    found = mapping(completion.get("annotations")).get(aspect)
    found = found[0] if isinstance(found, list) and found else found
    return mapping(found).get("Rating") if isinstance(found, Mapping) else found
