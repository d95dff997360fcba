"""`thumbs check`: what is in a feedback file, what is wrong with it, and what to set.

In: a feedback file, read once. Out: counts, the weights they imply, and warnings in words. Holds
hashes and lengths, never texts. Lengths are in characters; tokens come with a model, later.
"""

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from thumbs.feedback.balance import auto_weights
from thumbs.feedback.file import read_feedback
from thumbs.feedback.record import Feedback, Text, content_id, digest

DESIRABLE, UNDESIRABLE = 1, 2  # bits: which labels an answer or a prompt has met
BOTH = DESIRABLE | UNDESIRABLE

HEAVY_IMBALANCE = 10  # one label this many times the other: METHOD's 1:10 experiments
LENGTH_GAP = 1.5  # ratio of median answer lengths from which length predicts the label


@dataclass(frozen=True)
class CheckResult:
    """What `thumbs check` found.

    prompts, conversations: how many different ones.
    duplicates: records that repeat an earlier one's prompt, completion, label and rater.
    contradictions: answers (prompt and completion) that have both labels.
    mixed_prompts: prompts with a desirable and an undesirable answer.
    weights: desirable_weight, undesirable_weight and the reason, over the whole file.
    lengths: characters of prompts and answers: median, p95 (95 % are no longer), longest.
    tokens: the same in tokens and what a limit would cut; None without a model.
    models: how many records of either label each model has; "" where it is not known.
    rated_twice: answers judged by several known raters; agreement: the share of those on which all
        gave one label, None if there are none.
    notes: what reading left out or assumed, by name.
    """

    records: int
    prompts: int
    conversations: int
    desirable: int
    undesirable: int
    duplicates: int
    contradictions: int
    mixed_prompts: int
    weights: dict[str, float | str]
    lengths: dict[str, dict[str, int]]
    tokens: dict[str, Any] | None
    raters: int
    models: dict[str, dict[str, int]]
    rated_twice: int
    agreement: float | None
    notes: dict[str, int]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return asdict(self)


@dataclass
class Census:
    """What one pass over the records leaves in memory: hashes, lengths, counts."""

    labels: Counter[bool] = field(default_factory=Counter)
    seen: set[int] = field(default_factory=set)
    duplicates: int = 0
    prompts: dict[int, int] = field(default_factory=dict)  # hash -> label bits
    answers: dict[int, int] = field(default_factory=dict)  # hash -> label bits
    first_rater: dict[int, int] = field(default_factory=dict)  # hash of answer -> of rater
    rated_twice: set[int] = field(default_factory=set)
    conversations: set[int] = field(default_factory=set)
    raters: set[int] = field(default_factory=set)
    models: dict[str, Counter[bool]] = field(default_factory=dict)
    num_weightless: int = 0
    prompt_lengths: "array[int]" = field(default_factory=lambda: array("q"))
    answer_lengths: "dict[bool, array[int]]" = field(
        default_factory=lambda: {True: array("q"), False: array("q")}
    )


def check_feedback(path: Path) -> CheckResult:
    """Read a feedback file once and say what is in it.

    Raises:
        FeedbackError: it cannot be read, or a record is malformed.
    """
    notes: Counter[str] = Counter()
    census = Census()
    for record in read_feedback(path, notes):
        _count(census, record)
    num_desirable, num_undesirable = census.labels[True], census.labels[False]
    desirable_weight, undesirable_weight, reason = auto_weights(num_desirable, num_undesirable)
    num_agreeing = sum(census.answers[answer] != BOTH for answer in census.rated_twice)
    return CheckResult(
        records=census.labels.total(),
        prompts=len(census.prompts),
        conversations=len(census.conversations),
        desirable=num_desirable,
        undesirable=num_undesirable,
        duplicates=census.duplicates,
        contradictions=_num_mixed(census.answers),
        mixed_prompts=_num_mixed(census.prompts),
        weights={
            "desirable_weight": desirable_weight,
            "undesirable_weight": undesirable_weight,
            "reason": reason,
        },
        lengths={name: _length_summary(lengths) for name, lengths in _lengths_of(census).items()},
        tokens=None,
        raters=len(census.raters),
        models={
            model: {"desirable": labels[True], "undesirable": labels[False]}
            for model, labels in census.models.items()
        },
        rated_twice=len(census.rated_twice),
        agreement=num_agreeing / len(census.rated_twice) if census.rated_twice else None,
        notes={name: count for name, count in notes.items() if count},
        warnings=_warnings_of(census, notes),
    )


def _count(census: Census, record: Feedback) -> None:
    census.labels[record.label] += 1
    census.num_weightless += record.weight == 0
    judgement = int(content_id(record), 16)
    census.duplicates += judgement in census.seen
    census.seen.add(judgement)
    bit = DESIRABLE if record.label else UNDESIRABLE
    prompt, answer = _hash(record.prompt), _hash([record.prompt, record.completion])
    census.prompts[prompt] = census.prompts.get(prompt, 0) | bit
    census.answers[answer] = census.answers.get(answer, 0) | bit
    census.conversations.add(_hash(record.conversation))
    census.models.setdefault(record.model, Counter())[record.label] += 1
    if record.rater:
        rater = _hash(record.rater)
        census.raters.add(rater)
        if census.first_rater.setdefault(answer, rater) != rater:
            census.rated_twice.add(answer)
    census.prompt_lengths.append(_num_characters(record.prompt))
    census.answer_lengths[record.label].append(_num_characters(record.completion))


def _warnings_of(census: Census, notes: Counter[str]) -> list[str]:
    num_up, num_down = census.labels[True], census.labels[False]
    num_contradictions = _num_mixed(census.answers)
    warnings = []
    if not num_up or not num_down:
        label = "desirable" if num_up else "undesirable"
        warnings.append(f"every record is {label}: there is nothing to tell it from")
    elif max(num_up, num_down) >= HEAVY_IMBALANCE * min(num_up, num_down):
        warnings.append(f"heavy imbalance: {num_up} desirable, {num_down} undesirable")
    if len(census.prompts) < 2:
        warnings.append("only one prompt: z0 needs answers to other prompts")
    if num_contradictions:
        warnings.append(f"{num_contradictions} answers have both labels")
    if census.duplicates:
        warnings.append(f"{census.duplicates} records repeat an earlier one")
    if census.num_weightless:
        warnings.append(f"{census.num_weightless} records have weight 0 and teach nothing")
    medians = [_length_summary(lengths)["median"] for lengths in census.answer_lengths.values()]
    if num_up and num_down and max(medians) > LENGTH_GAP * max(1, min(medians)):
        finding = f"{medians[0]} characters desirable, {medians[1]} undesirable (medians)"
        warnings.append(f"length alone predicts the label: answers have {finding}")
    warnings += [f"{name} ({count} records)" for name, count in notes.items() if count]
    return warnings


def _lengths_of(census: Census) -> dict[str, Iterable[int]]:
    desirable, undesirable = census.answer_lengths[True], census.answer_lengths[False]
    return {
        "prompt": census.prompt_lengths,
        "completion": desirable + undesirable,
        "completion_desirable": desirable,
        "completion_undesirable": undesirable,
    }


def _length_summary(lengths: Iterable[int]) -> dict[str, int]:
    """The nearest-rank quantiles: the smallest length that 50 %, 95 % do not exceed."""
    ranked = sorted(lengths) or [0]
    ranks = {"median": -(-len(ranked) * 50 // 100), "p95": -(-len(ranked) * 95 // 100)}
    return {**{name: ranked[rank - 1] for name, rank in ranks.items()}, "longest": ranked[-1]}


def _num_characters(side: Text) -> int:
    return len(side) if isinstance(side, str) else sum(len(turn["content"]) for turn in side)


def _num_mixed(labels: dict[int, int]) -> int:
    return sum(bits == BOTH for bits in labels.values())


def _hash(value: object) -> int:
    return int(digest(value), 16)
