"""`thumbs check`: what is in a feedback file, what is wrong with it, and what to set.

In: a feedback file, read once. Out: counts, the weights they imply, and warnings in words. Holds
hashes and lengths, never texts. Lengths are in characters; tokens come with a model, later.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from thumbs.feedback.balance import auto_weights
from thumbs.feedback.contradictory import (
    RatedAnswer,
    answer_hash,
    contradictory_pairs,
    rated_answers,
)
from thumbs.feedback.file import read_feedback
from thumbs.feedback.near_duplicates import NearDuplicates
from thumbs.feedback.raters import RaterVotes, rated_by
from thumbs.feedback.record import Feedback, Text, content_id, digest
from thumbs.feedback.split import split_heldout
from thumbs.feedback.votes import Ballot

DESIRABLE, UNDESIRABLE = 1, 2  # bits: which labels an answer or a prompt has met
BOTH = DESIRABLE | UNDESIRABLE

HEAVY_IMBALANCE = 10  # one label this many times the other: METHOD's 1:10 experiments
SHOWN_RATERS = 20
SHOWN_CONTRADICTIONS = 10
DEFAULT_SEED, DEFAULT_HELDOUT = 0, 0.1  # train.seed, data.heldout_fraction
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
    models: how many records of either label each model has; "" where it is not known; the share of
        desirable ones with its 95 % interval (Wilson).
    rated_twice: answers judged by several known raters; agreement: the share of those on which all
        gave one label, alpha: Krippendorff's, both None if there are none.
    rater_votes: of the SHOWN_RATERS with most votes; suspicious_raters: whose votes are always of
        one label where that is a surprise, see `raters.py`.
    training_weights: the weights of the part that a run with default settings trains on.
    contradiction_examples: of the first answers with both labels, their texts and votes.
    length_histogram: answers by label and length; edges: in characters, powers of 2.
    near_duplicates: groups of answers that are nearly the same, the ids of the first; None unless
        asked for.
    dpo_forecast: contradictory pairs of answers; with a model, what DPO would make of them.
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
    models: dict[str, dict[str, Any]]
    rated_twice: int
    agreement: float | None
    alpha: float | None
    rater_votes: list[dict[str, Any]]
    suspicious_raters: list[str]
    training_weights: dict[str, float | str]
    contradiction_examples: list[dict[str, Any]]
    length_histogram: dict[str, list[int]]
    near_duplicates: dict[str, Any] | None
    dpo_forecast: dict[str, Any]
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
    raters: dict[str, list[int]] = field(default_factory=dict)  # undesirable, desirable votes
    ballot: Ballot = field(default_factory=Ballot)
    training: Counter[bool] = field(default_factory=Counter)
    models: dict[str, Counter[bool]] = field(default_factory=dict)
    num_weightless: int = 0
    prompt_lengths: "array[int]" = field(default_factory=lambda: array("q"))
    answer_lengths: "dict[bool, array[int]]" = field(
        default_factory=lambda: {True: array("q"), False: array("q")}
    )


def check_feedback(path: Path, *, near_duplicates: bool = False) -> CheckResult:
    """Read a feedback file once, and once more where answers have both labels; say what is in it.

    near_duplicates: also look for answers that are nearly the same.

    Raises:
        FeedbackError: it cannot be read, or a record is malformed.
    """
    notes: Counter[str] = Counter()
    census = Census()
    near, ids = NearDuplicates(), list[str]()
    for record in read_feedback(path, notes):
        _count(census, record)
        if near_duplicates:
            near.add(_last_text(record.completion))
            ids.append(record.id)
    num_desirable, num_undesirable = census.labels[True], census.labels[False]
    desirable_weight, undesirable_weight, reason = auto_weights(num_desirable, num_undesirable)
    num_agreeing = sum(census.answers[answer] != BOTH for answer in census.rated_twice)
    raters = rated_by({name: (up, down) for name, (down, up) in census.raters.items()})
    both = frozenset(answer for answer, bits in census.answers.items() if bits == BOTH)
    contradicted = rated_answers(path, both)
    pairs = contradictory_pairs(contradicted)
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
        raters=len(census.raters.keys() - {""}),
        models={model: _model_row(labels) for model, labels in census.models.items()},
        rated_twice=len(census.rated_twice),
        agreement=num_agreeing / len(census.rated_twice) if census.rated_twice else None,
        alpha=census.ballot.agreement().alpha if census.rated_twice else None,
        rater_votes=[asdict(one) for one in raters[:SHOWN_RATERS]],
        suspicious_raters=[one.rater for one in raters if one.suspicious],
        training_weights=_weights_of(census.training),
        contradiction_examples=_examples(contradicted),
        length_histogram=_histogram(census),
        near_duplicates=_near(near, ids) if near_duplicates else None,
        dpo_forecast={
            "pairs": len(pairs),
            "prompts": len({digest(pair.majority.prompt) for pair in pairs}),
            "needs": "log-probs of a reference: give --model" if pairs else None,
        },
        notes={name: count for name, count in notes.items() if count},
        warnings=_warnings_of(census, notes, raters),
    )


def _count(census: Census, record: Feedback) -> None:
    census.labels[record.label] += 1
    census.num_weightless += record.weight == 0
    judgement = int(content_id(record), 16)
    census.duplicates += judgement in census.seen
    census.seen.add(judgement)
    bit = DESIRABLE if record.label else UNDESIRABLE
    prompt, answer = _hash(record.prompt), answer_hash(record)
    census.prompts[prompt] = census.prompts.get(prompt, 0) | bit
    census.answers[answer] = census.answers.get(answer, 0) | bit
    census.conversations.add(hash(record.conversation))
    census.models.setdefault(record.model, Counter())[record.label] += 1
    census.raters.setdefault(record.rater, [0, 0])[record.label] += 1
    if not split_heldout(record.conversation, DEFAULT_SEED, DEFAULT_HELDOUT):
        census.training[record.label] += 1
    if record.rater:
        rater = hash(record.rater)
        census.ballot.add(record, answer)
        if census.first_rater.setdefault(answer, rater) != rater:
            census.rated_twice.add(answer)
    census.prompt_lengths.append(_num_characters(record.prompt))
    census.answer_lengths[record.label].append(_num_characters(record.completion))


def _warnings_of(census: Census, notes: Counter[str], raters: Sequence[RaterVotes]) -> list[str]:
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
    warnings += [
        f"rater {one.rater} is {one.suspicious} in {one.desirable + one.undesirable} votes; the "
        "others are not: look at these votes, or leave them out"
        for one in raters
        if one.suspicious
    ]
    warnings += [f"{name} ({count} records)" for name, count in notes.items() if count]
    return warnings


def _weights_of(labels: Counter[bool]) -> dict[str, float | str]:
    if not labels.total():
        return {}
    desirable, undesirable, reason = auto_weights(labels[True], labels[False])
    weights = {"desirable_weight": desirable, "undesirable_weight": undesirable}
    return {**weights, "reason": reason}


def _model_row(labels: Counter[bool]) -> dict[str, Any]:
    from scipy.stats import binomtest

    share = binomtest(labels[True], labels.total()).proportion_ci(method="wilson")
    return {
        "desirable": labels[True],
        "undesirable": labels[False],
        "share": labels[True] / labels.total(),
        "share_ci": [float(share.low), float(share.high)],
    }


def _examples(answers: Sequence[RatedAnswer]) -> list[dict[str, Any]]:
    """The first answers with both labels: texts, and who says what."""
    return [
        {
            "prompt": _last_text(answer.record.prompt),
            "completion": _last_text(answer.record.completion),
            "desirable": answer.up_raters,
            "undesirable": answer.down_raters,
        }
        for answer in answers[:SHOWN_CONTRADICTIONS]
    ]


def _near(near: NearDuplicates, ids: Sequence[str]) -> dict[str, Any]:
    groups = near.groups()
    shown = [[ids[i] for i in group[:SHOWN_RATERS]] for group in groups[:SHOWN_CONTRADICTIONS]]
    return {"groups": len(groups), "records": sum(map(len, groups)), "examples": shown}


def _last_text(side: Text) -> str:
    return side if isinstance(side, str) else str(side[-1]["content"])


def _histogram(census: Census) -> dict[str, list[int]]:
    """Answers by label and power of 2 of their characters: [2^i, 2^(i+1))."""
    counts = {label: Counter[int]() for label in (True, False)}
    for label, lengths in census.answer_lengths.items():
        counts[label].update(max(0, length.bit_length() - 1) for length in lengths)
    powers = [power for counter in counts.values() for power in counter]
    bins = range(min(powers, default=0), max(powers, default=0) + 1)
    return {
        "edges": [2**power for power in (*bins, bins[-1] + 1)],
        "desirable": [counts[True][power] for power in bins],
        "undesirable": [counts[False][power] for power in bins],
    }


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
