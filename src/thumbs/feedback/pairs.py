"""A judged pair of answers as two records with one prompt.

In: the prompt and its two answers. Out: the better answer desirable, the other one undesirable;
answers that cannot be used are counted. Knows no tool and no file.
"""

from collections.abc import Iterator
from typing import NamedTuple

from thumbs.feedback.clean import EMPTY_SIDES, Tally, empty_side
from thumbs.feedback.messages import ANSWER_FAULTS, fault_of_answer
from thumbs.feedback.record import ABSENT_JSON, Feedback, Text, parse_record

SAME_ANSWERS = "answer of a pair whose two answers are the same"
PARTS_EARLY = "answer of a pair that parts before its last answer"
PAIR_DROPS = (SAME_ANSWERS, PARTS_EARLY, *EMPTY_SIDES, *ANSWER_FAULTS)


class Pair(NamedTuple):
    """One prompt and its two answers.

    scores, models: the raw ratings of chosen and rejected as text, and what wrote them.
    """

    prompt: Text
    chosen: Text
    rejected: Text
    scores: tuple[str, str] = ("", "")
    tools: str = ABSENT_JSON
    models: tuple[str, str] = ("", "")


def pair_records(pair: Pair, place: str, tally: Tally, *, source: str) -> Iterator[Feedback]:
    """Two records, or fewer where an answer is unfit: one answer's fault leaves the other."""
    fault = _fault_of(pair)
    if fault:
        tally.dropped[fault] += 2
        return
    answers = ((pair.chosen, True), (pair.rejected, False))
    told = zip(answers, pair.scores, pair.models, strict=True)
    for (completion, label), score, model in told:
        fault = empty_side(pair.prompt, completion) or fault_of_answer(completion)
        if fault:
            tally.dropped[fault] += 1
            continue
        sides = {"prompt": pair.prompt, "completion": completion, "label": label}
        rest = {"score": score, "tools": pair.tools, "source": source, "model": model}
        yield parse_record({**sides, **rest}, place)


def _fault_of(pair: Pair) -> str:
    """Why the two answers cannot be judged against each other, or ""."""
    if pair.chosen == pair.rejected:
        return SAME_ANSWERS
    sides = (side for side in (pair.chosen, pair.rejected) if isinstance(side, list))
    if any(isinstance(turn, dict) and turn.get("role") == "user" for s in sides for turn in s):
        return PARTS_EARLY
    return ""
