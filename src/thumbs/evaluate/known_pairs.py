"""Pairs of answers that people have judged, to measure a judge by.

In: files as they are published (LLMBar, PandaLM, MT-bench's human judgements) or the same said
plainly ({prompt, first, second, better}). Out: pairs with the human verdict, and what was left out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from thumbs.errors import FeedbackError, shown
from thumbs.evaluate.intervals import Interval
from thumbs.evaluate.judging import Judge, Judgement, Question, Verdict
from thumbs.evaluate.share_interval import share_interval
from thumbs.evaluate.winrate import SEED, Compared, order_numbers
from thumbs.feedback.entries import read_entries
from thumbs.feedback.record import keys_found

NO_MAJORITY = "annotators without a majority"
LATER_TURN = "judged on a later turn"
SAME_ANSWERS = "both answers are the same text"

_NUMBERED: dict[object, Verdict] = {0: "tie", 1: "first", 2: "second"}
_WINNERS: dict[object, Verdict] = {
    "model_a": "first",
    "model_b": "second",
    **dict.fromkeys(("tie", "tie (inconsistent)", "tie (bothbad)"), "tie"),
}
ALLOWED = (
    "LLMBar's input, output_1, output_2, label; PandaLM's instruction, response1, response2, "
    "annotator1, ...; MT-bench's conversation_a, conversation_b, winner; or prompt, first, second, "
    "better (first, second or tie)"
)


@dataclass(frozen=True)
class KnownPair:
    """A question and what people said."""

    question: Question
    verdict: Verdict


def read_known_pairs(paths: Sequence[Path], dropped: Counter[str]) -> list[KnownPair]:
    """The pairs of all files; what is left out is counted by reason.

    Raises:
        FeedbackError: a file that cannot be read, an entry of no known kind, or no pair at all.
    """
    pairs = []
    for path in paths:
        for place, entry in read_entries(path):
            found = _pair(entry, place)
            if isinstance(found, str):
                dropped[found] += 1
            elif found.question.first == found.question.second:
                dropped[SAME_ANSWERS] += 1
            else:
                pairs.append(found)
    if not pairs:
        names = ", ".join(map(str, paths))
        raise FeedbackError(f"{names}: no pair to measure a judge by. Allowed: {ALLOWED}.")
    return pairs


def judge_accuracy(judge: Judge, pairs: Sequence[KnownPair]) -> dict[str, Any]:
    """How often the judge says what people said, with a 95 % interval over instructions.

    A judge that an order could sway is asked in both; disagreement is a tie. A pair on which it
    gives no verdict counts as wrong: it was of no help. accuracy_one_order: the mean over single
    judgements, as LLMBar reports it.
    """
    questions = [pair.question for pair in pairs]
    turned = [Question(q.prompt, q.second, q.first) for q in questions]
    asked = judge.judge([*questions, *(turned if judge.sees_order else [])])
    forward, backward = asked[: len(pairs)], asked[len(pairs) :]
    worth = {"first": 1.0, "second": 0.0, "tie": 0.5}
    compared = [
        Compared(repr(pair.question.prompt), 0, 0, a, b)
        for pair, a, b in zip_longest(pairs, forward, backward)
    ]
    known = [worth[pair.verdict] for pair in pairs]
    right = np.array([c.outcome == k for c, k in zip(compared, known, strict=True)], dtype=float)
    singles = [side == k for c, k in zip(compared, known, strict=True) for side in c.sides]
    interval, method = share_interval(right, [c.prompt for c in compared], seed=SEED)
    return {
        **_accuracy(right, interval),
        "method": method,
        "n": len(pairs),
        "accuracy_one_order": sum(singles) / len(singles),
        "known": dict(Counter(pair.verdict for pair in pairs)),
        "ties": sum(c.outcome == 0.5 for c in compared),
        "nulls": sum(c.outcome is None for c in compared),
        "null_reasons": _reasons(asked),
        **order_numbers(compared),
    }


def _accuracy(right: Any, interval: Interval) -> dict[str, float]:
    return {"accuracy": float(right.mean()), "ci_low": interval.low, "ci_high": interval.high}


def _reasons(judgements: Sequence[Judgement]) -> dict[str, int]:
    return dict(Counter(j.reason for j in judgements if j.verdict is None))


def _pair(entry: Mapping[str, Any], place: str) -> KnownPair | str:
    """The pair of an entry, or why it has none."""
    if {"input", "output_1", "output_2", "label"} <= entry.keys():
        texts = [entry[key] for key in ("input", "output_1", "output_2")]
        return _checked(texts, _known(entry["label"], _NUMBERED, place), place)
    if {"instruction", "response1", "response2", "annotator1"} <= entry.keys():
        prompt = "\n\n".join(filter(None, (entry["instruction"], entry.get("input"))))
        verdict = _majority(entry, place)
        texts = [prompt, entry["response1"], entry["response2"]]
        return NO_MAJORITY if verdict is None else _checked(texts, verdict, place)
    if {"conversation_a", "conversation_b", "winner"} <= entry.keys():
        if entry.get("turn", 1) != 1:  # the first answers, which the prompt would hold, differ
            return LATER_TURN
        a, b = entry["conversation_a"], entry["conversation_b"]
        texts = [a[0]["content"], a[1]["content"], b[1]["content"]]
        return _checked(texts, _known(entry["winner"], _WINNERS, place), place)
    if {"prompt", "first", "second", "better"} <= entry.keys():
        texts = [entry[key] for key in ("prompt", "first", "second")]
        plain: dict[object, Verdict] = {"first": "first", "second": "second", "tie": "tie"}
        return _checked(texts, _known(entry["better"], plain, place), place)
    raise FeedbackError(
        f"{place}: is no judged pair; the keys found: {keys_found(entry)}. Allowed: {ALLOWED}."
    )


def _majority(entry: Mapping[str, Any], place: str) -> Verdict | None:
    """What more than half of PandaLM's annotators said."""
    said = [value for key, value in sorted(entry.items()) if key.startswith("annotator")]
    ((most, times),) = Counter(_known(value, _NUMBERED, place) for value in said).most_common(1)
    return most if 2 * times > len(said) else None


def _known(found: object, allowed: Mapping[object, Verdict], place: str) -> Verdict:
    try:
        return allowed[found]
    except (KeyError, TypeError):
        names = ", ".join(map(str, allowed))
        raise FeedbackError(
            f"{place}: the human verdict must be one of {names}, but is {shown(found)}."
        ) from None


def _checked(texts: Sequence[object], verdict: Verdict, place: str) -> KnownPair:
    for text in texts:
        if not isinstance(text, str | bool | int | float):  # PandaLM has answers true and 3
            raise FeedbackError(f"{place}: prompt and answers must be text, but is {shown(text)}.")
    prompt, first, second = map(str, texts)
    return KnownPair(Question(prompt, first, second), verdict)
