"""UltraFeedback: instructions with several scored completions.

In: {"instruction", "completions": [{"model", "response", "custom_system_prompt", "overall_score",
"critique", "annotations": {aspect: {"Rating", "Rationale"}}}]}. Out: a record per completion whose
score --threshold can place: the overall score, or the rating of the aspect that --score-name names
(helpfulness, honesty, instruction_following, truthfulness). The system prompt that a completion was
made under is part of its prompt. Sources: README.md of OpenBMB/UltraFeedback, "Dataset Format", and
src/data_annotation/fix_overall_score_issue.py there.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge, Vote
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.rated import RECORD_DROPS, mapping, rated_record, sequence
from thumbs.feedback.record import Feedback, Message, keys_found

NAME = "ultrafeedback"
READS = "instruction and completions with overall_score, or an aspect's Rating (--score-name)"
WITHOUT_SCORE = "completion without a score"
DROPS = (*RECORD_DROPS, WITHOUT_SCORE, NEITHER, ON_THRESHOLD)

OVERALL = "overall_score"
NO_RATING = (None, "", "N/A")


class Completion(NamedTuple):
    """An answer with its question."""

    place: str
    instruction: str
    given: Mapping[str, Any]


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
    where, score_name = ", ".join(map(str, paths)), options.score_name or OVERALL
    if not (options.threshold or options.up or options.down):
        finding = "scores on a scale, which need a threshold"
        advice = "Give --threshold 7, mean, median or per-prompt-mean"
        raise FeedbackError(f"{where}: {finding}. {advice}.")
    _require_score(paths, score_name, where)

    def votes() -> Iterator[Vote]:
        for one in _completions(paths):
            score = _score(one.given, score_name)
            if score not in NO_RATING:
                yield Vote(score, one.instruction)

    judge = Judge(options, votes, f"score {score_name!r}")
    for one in _completions(paths):
        score = _score(one.given, score_name)
        if score in NO_RATING:
            tally.dropped[WITHOUT_SCORE] += 1
            continue
        label = judge.label(Vote(score, one.instruction), one.place, tally)
        if label is not None:
            yield from _record(one, label, score, tally)


def _record(one: Completion, label: bool, score: object, tally: Tally) -> Iterator[Feedback]:
    prompt: list[Message] = [{"role": "user", "content": one.instruction}]
    system = one.given.get("custom_system_prompt")
    if isinstance(system, str) and system.strip():
        prompt.insert(0, {"role": "system", "content": system})
    record = rated_record(
        prompt,
        [{"role": "assistant", "content": one.given.get("response")}],
        label,
        one.place,
        tally,
        score=score,
        source=NAME,
        model=one.given.get("model"),
        comment=one.given.get("critique"),
    )
    if record is not None:
        yield record


def _require_score(paths: Sequence[Path], name: str, where: str) -> None:
    """Refuse a score that no completion has, and name those there are."""
    found: dict[str, None] = {}
    for one in _completions(paths):
        names = {OVERALL, *mapping(one.given.get("annotations"))}
        found.update({key: None for key in names if _score(one.given, key) not in NO_RATING})
    if name not in found:
        scores = ", ".join(sorted(found)) or "none"
        finding = f"no completion has the score {name!r}; found: {scores}"
        raise FeedbackError(f"{where}: --score-name: {finding}.")


def _completions(paths: Sequence[Path]) -> Iterator[Completion]:
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        instruction = entry.get("instruction")
        if not isinstance(instruction, str):
            found = f"but is {shown(instruction)}; the keys found: {keys_found(entry)}"
            raise FeedbackError(f'{place}: "instruction" must be text, {found}.')
        for i, given in enumerate(map(mapping, sequence(entry.get("completions"))), start=1):
            yield Completion(f"{place}: completion {i}", instruction, given)


def _score(given: Mapping[str, Any], name: str) -> object:
    """A score on its own, or the rating of an aspect; some releases keep that in a list."""
    if name == OVERALL:
        return given.get(OVERALL)
    found = mapping(given.get("annotations")).get(name)
    found = found[0] if isinstance(found, list) and found else found
    return mapping(found).get("Rating") if isinstance(found, Mapping) else found
