"""Feedback files of HALOs: answers labelled one by one, or two against each other.

In: a list of {"type": "binary_feedback", "prompt", "output", "label", "reward"} or of {"type":
"pairwise_feedback", "prompt", "output_A", "output_B", "label", "reward_A", "reward_B"}. Out: a
record per binary entry, two per pair. Sources: HALOs train/label.py, which writes the labels 1 and
0 (of a pair: 1 if A is better) and gives equal rewards a 0, and get_feedback in train/data.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally, empty_side
from thumbs.feedback.entries import read_entries
from thumbs.feedback.messages import fault_of_answer, plain_messages
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.pairs import PAIR_DROPS, Pair, pair_records
from thumbs.feedback.record import Feedback, Text, keys_found, parse_record

NAME = "halos"
READS = "binary_feedback and pairwise_feedback of train/label.py; labels 1 and 0"
UNJUDGED = "entry without a judgement"
EQUAL = "answer of a pair with equal rewards"
CONTRADICTED = "answer of a pair whose label contradicts its rewards"
DROPS = (UNJUDGED, EQUAL, CONTRADICTED, *PAIR_DROPS)

TYPES = ("binary_feedback", "pairwise_feedback", "scalar_feedback")
BINARY_KEYS = ("type", "prompt", "output", "label", "reward")
PAIR_KEYS = ("type", "prompt", "output_A", "output_B", "label", "reward_A", "reward_B")


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is one of the three kinds that HALOs writes."""
    is_pair = {"prompt", "output_A", "output_B"} <= entry.keys()
    return is_pair or ({"prompt", "output"} <= entry.keys() and entry.get("type") in TYPES)


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, these files are read one way
) -> Iterator[Feedback]:
    """A record per binary entry and two per pair; rewards without a judgement are counted."""
    for path in paths:
        for place, entry in read_entries(path):
            is_pair = "output_A" in entry or "output_B" in entry
            keys = PAIR_KEYS if is_pair else BINARY_KEYS
            tally.changed.update(f"key {key!r} is not used" for key in entry if key not in keys)
            if "label" not in entry:
                tally.dropped[UNJUDGED] += 1
            elif is_pair:
                yield from _pair_records(entry, place, tally)
            else:
                yield from _binary_record(entry, place, tally)


def _binary_record(entry: dict[str, Any], place: str, tally: Tally) -> Iterator[Feedback]:
    prompt, completion = (_side(entry, key, place, tally) for key in ("prompt", "output"))
    label = bool(_label_of(entry, place))
    fault = empty_side(prompt, completion) or fault_of_answer(completion)
    if fault:
        tally.dropped[fault] += 1
        return
    score = _text(_reward_of(entry, "reward", place))
    row = {"prompt": prompt, "completion": completion, "label": label, "score": score}
    yield parse_record({**row, "source": NAME}, place)


def _pair_records(entry: dict[str, Any], place: str, tally: Tally) -> Iterator[Feedback]:
    prompt, a, b = (_side(entry, key, place, tally) for key in ("prompt", "output_A", "output_B"))
    label = _label_of(entry, place)
    reward_a, reward_b = (_reward_of(entry, key, place) for key in ("reward_A", "reward_B"))
    if reward_a is not None and reward_b is not None:
        if reward_a == reward_b:
            tally.dropped[EQUAL] += 2
            return
        if (reward_a > reward_b) != bool(label):
            tally.dropped[CONTRADICTED] += 2
            return
    scores = _text(reward_a), _text(reward_b)
    pair = Pair(prompt, a, b, scores) if label else Pair(prompt, b, a, scores[::-1])
    yield from pair_records(pair, place, tally, source=NAME)


def _side(entry: dict[str, Any], key: str, place: str, tally: Tally) -> Text:
    if key not in entry:
        raise FeedbackError(f'{place}: "{key}" is missing; the keys found: {keys_found(entry)}.')
    side = entry[key]
    if isinstance(side, str):
        return side
    return plain_messages(side or [], f'{place}: "{key}"', tally)


def _label_of(entry: dict[str, Any], place: str) -> int:
    label = entry["label"]
    if not isinstance(label, int) or label not in (0, 1):  # true and false are the ints 1 and 0
        raise FeedbackError(f'{place}: "label" must be 1 or 0, but is {shown(label)}.')
    return label


def _reward_of(entry: dict[str, Any], key: str, place: str) -> float | None:
    reward = entry.get(key)
    if isinstance(reward, bool) or not isinstance(reward, int | float | None):
        raise FeedbackError(f'{place}: "{key}" must be a number, but is {shown(reward)}.')
    return reward


def _text(reward: float | None) -> str:
    return "" if reward is None else str(reward)
