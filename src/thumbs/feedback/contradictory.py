"""Prompts on which raters prefer either of two answers, and what DPO would make of them.

In: a feedback file; later log-probs of the answers under a reference. Out: pairs of answers that
were each liked where the other was not, and on which of them the optimum of DPO gives the
minority's answer. Holds the texts of such answers only.

Of the votes on answers a and b of one prompt, a wins up_a * down_b pairs and b wins up_b * down_a
(a paired loss pairs every desirable with every undesirable answer). With p the majority's share,
DPO's optimum has log pi(a) - log pi(b) = logit(p) / beta + log ref(a) - log ref(b), and so gives
the minority's answer b where logit(p) / beta < log ref(b) - log ref(a). Source: arXiv 2402.01306v4,
theorem 4.3.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from thumbs.feedback.file import read_feedback, read_feedback_entries
from thumbs.feedback.record import Feedback, digest, parse_record

SHOWN_RATERS = 20  # of either label of an answer


@dataclass(frozen=True)
class ContradictoryPair:
    """majority, minority: records of the two answers, whichever label they have; wins: of each."""

    majority: Feedback
    minority: Feedback
    wins: tuple[int, int]

    @property
    def p(self) -> float:
        """The share of pairs that the majority's answer wins; 1/2 where they are tied."""
        return self.wins[0] / sum(self.wins)


@dataclass
class RatedAnswer:
    """An answer with both labels: one of its records, its votes, and the first raters of each."""

    record: Feedback
    up: int = 0
    down: int = 0
    up_raters: list[str] = field(default_factory=list)
    down_raters: list[str] = field(default_factory=list)


def rated_answers(path: Path, answers: frozenset[int]) -> list[RatedAnswer]:
    """Those answers of a file, in the order of their first vote.

    answers: their hashes. The file has been read strictly before, so lines of other answers are
    passed over by their hash alone.
    """
    found: dict[int, RatedAnswer] = {}
    for place, entry in read_feedback_entries(path) if answers else ():
        sides = [entry.get("prompt"), entry.get("completion")]
        if int(digest(sides), 16) not in answers:
            continue
        record = parse_record(entry, place)
        answer = found.setdefault(answer_hash(record), RatedAnswer(record))
        raters = answer.up_raters if record.label else answer.down_raters
        if len(raters) < SHOWN_RATERS:
            raters.append(record.rater)
        answer.up += record.label
        answer.down += not record.label
    return list(found.values())


def contradictory_pairs(answers: Iterable[RatedAnswer]) -> list[ContradictoryPair]:
    """The pairs of answers that share a prompt; only answers with both labels can pair so."""
    by_prompt: dict[str, list[RatedAnswer]] = {}
    for answer in answers:
        by_prompt.setdefault(digest(answer.record.prompt), []).append(answer)
    return [pair for prompt in by_prompt.values() for pair in _pairs(prompt)]


def contradictory_answers(path: Path) -> frozenset[int]:
    """The hashes of the answers of a file that have both labels."""
    labels: dict[int, int] = {}
    for record in read_feedback(path):
        name = answer_hash(record)
        labels[name] = labels.get(name, 0) | (2 if record.label else 1)
    return frozenset(name for name, bits in labels.items() if bits == 3)


def answer_hash(record: Feedback) -> int:
    """The number of an answer: its prompt and its completion."""
    return int(digest([record.prompt, record.completion]), 16)


def flips(pair: ContradictoryPair, log_ratio: float, beta: float) -> bool:
    """Whether DPO's optimum gives the minority's answer.

    log_ratio: log ref(minority) - log ref(majority), nats. A tie has no minority.

    >>> record = Feedback("q", "a", True)
    >>> pair = ContradictoryPair(record, record, (6, 4))  # logit(.6) / 0.1 = 4.05 = log 57.7
    >>> flips(pair, math.log(57), 0.1), flips(pair, math.log(58), 0.1)
    (False, True)
    """
    if pair.wins[0] == pair.wins[1]:
        return False
    return math.log(pair.wins[0] / pair.wins[1]) / beta < log_ratio


def forecast(
    pairs: Sequence[ContradictoryPair], log_ratios: Sequence[float], beta: float
) -> dict[str, float | int]:
    """How many contradictory pairs and prompts there are, and on which share DPO flips."""
    flipped = [flips(p, ratio, beta) for p, ratio in zip(pairs, log_ratios, strict=True)]
    prompts = [digest(pair.majority.prompt) for pair in pairs]
    turned = {prompt for prompt, turns in zip(prompts, flipped, strict=True) if turns}
    return {
        "pairs": len(pairs),
        "flipped_pairs": sum(flipped),
        "prompts": len(set(prompts)),
        "flipped_prompts": len(turned),
        "share": len(turned) / len(set(prompts)) if prompts else 0.0,
        "beta": beta,
    }


def _pairs(answers: Sequence[RatedAnswer]) -> Iterator[ContradictoryPair]:
    for a, b in combinations(answers, 2):
        wins = a.up * b.down, b.up * a.down
        if all(wins):
            first, second = (a, b) if wins[0] >= wins[1] else (b, a)
            yield ContradictoryPair(first.record, second.record, (max(wins), min(wins)))
