"""From judgements to a win rate: both orders, ties, intervals, length.

In: what a judge said of each comparison. Out: the numbers of `thumbs compare`. Knows no judge, no
model, no file. N comparisons that have an outcome, C prompts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtrit

from thumbs.evaluate.intervals import Floats
from thumbs.evaluate.judging import Judgement
from thumbs.evaluate.share_interval import share_interval

SEED = 0  # of the intervals, whatever the seed of the answers
# Outside, nearly every answer of one side wins at every length, and the fit says nothing
# (arXiv 2404.04475v1 calibrates on models between such rates).
LENGTH_CONTROL_BETWEEN = (0.2, 0.8)
SURE_VERDICTS = 6  # all for one place: by chance in 2 of 2^6
_RIDGE = 1.0  # on the slope of the length: as much as one comparison in doubt
_NEWTON_STEPS = 50


@dataclass(frozen=True)
class Compared:
    """One comparison.

    a_first, b_first: what the judge said with that side's answer shown first; None: not asked.
    identical: both answers are the same text, a tie that nobody was asked about.
    prompt: names the cluster. length_a, length_b: characters.
    """

    prompt: str
    length_a: int
    length_b: int
    a_first: Judgement | None = None
    b_first: Judgement | None = None
    identical: bool = False

    @property
    def asked(self) -> list[Judgement]:
        return [judgement for judgement in (self.a_first, self.b_first) if judgement is not None]

    @property
    def sides(self) -> list[float | None]:
        """By order asked: 1 where A's answer was the better, 0 where B's, 1/2 for a tie."""
        worth = {"first": 1.0, "second": 0.0, "tie": 0.5}
        found: list[float | None] = []
        if self.a_first is not None:
            verdict = self.a_first.verdict
            found.append(None if verdict is None else worth[verdict])
        if self.b_first is not None:
            verdict = self.b_first.verdict
            found.append(None if verdict is None else 1 - worth[verdict])
        return found

    @property
    def outcome(self) -> float | None:
        """1 won, 0 lost, 1/2 tied or the orders disagree; None where a judgement has no verdict."""
        if self.identical:
            return 0.5
        sides = self.sides
        if None in sides or not sides:
            return None
        return sides[0] if len(set(sides)) == 1 else 0.5


def win_rate(compared: Sequence[Compared]) -> dict[str, Any]:
    """The win rate of A over B, (wins + ties / 2) / n, with a 95 % interval, and what is behind it.

    Comparisons without a verdict are left out of n and counted. consistency: the share of pairs
    with both verdicts whose orders agree, first_position_rate: the share of verdicts other than
    ties for the answer shown first, both None for a judge that no order could sway.
    """
    scored = [(c, outcome) for c in compared if (outcome := c.outcome) is not None]
    outcomes = np.array([outcome for _, outcome in scored], dtype=np.float64)
    prompts = np.array([c.prompt for c, _ in scored])
    reasons = Counter(
        next(judgement.reason for judgement in c.asked if judgement.verdict is None)
        for c in compared
        if c.outcome is None
    )
    numbers: dict[str, Any] = {"win_rate": None, "ci_low": None, "ci_high": None, "method": None}
    if scored:
        (low, high), method = share_interval(outcomes, prompts, seed=SEED)
        rate = float(outcomes.mean())
        numbers = {"win_rate": rate, "ci_low": low, "ci_high": high, "method": method}
    low, high = numbers["ci_low"], numbers["ci_high"]
    return {
        **numbers,
        "n": len(scored),
        "wins": int((outcomes == 1).sum()),
        "losses": int((outcomes == 0).sum()),
        "ties": int((outcomes == 0.5).sum()),
        "identical": sum(c.identical for c in compared),
        "nulls": sum(reasons.values()),
        "null_reasons": dict(reasons),
        "num_prompts": int(np.unique(prompts).size),
        "distinguishable": bool(scored) and not low <= 0.5 <= high,
        **order_numbers(compared),
        "length_control": length_control(
            outcomes,
            np.array([c.length_a - c.length_b for c, _ in scored], dtype=np.float64),
            prompts,
        ),
        "mean_characters_a": _mean([c.length_a for c in compared]),
        "mean_characters_b": _mean([c.length_b for c in compared]),
    }


def order_numbers(compared: Sequence[Compared]) -> dict[str, Any]:
    """How much the order of the answers swayed the judge; None where it was asked in one order.

    first_position_ci: its 95 % interval, drawn by prompt. follows_position: whether the orders
    mostly disagree and it is one place that wins.
    """
    two = [c for c in compared if len(c.asked) == 2]
    both = [c.sides for c in two if None not in c.sides]
    consistency = sum(a == b for a, b in both) / len(both) if both else None
    decided = [
        (c.prompt, float(judgement.verdict == "first"))
        for c in two
        for judgement in c.asked
        if judgement.verdict in ("first", "second")
    ]
    numbers: dict[str, Any] = {"consistency": consistency, "first_position_rate": None}
    if not decided:
        return {**numbers, "first_position_ci": None, "follows_position": False}
    prompts, firsts = zip(*decided, strict=True)
    rate = sum(firsts) / len(firsts)
    low, high = share_interval(firsts, prompts, seed=SEED).interval
    always = rate in (0.0, 1.0) and len(firsts) >= SURE_VERDICTS
    one_place = always or not low <= 0.5 <= high
    return {
        **numbers,
        "first_position_rate": rate,
        "first_position_ci": [low, high],
        "follows_position": consistency is not None and consistency < 0.5 and one_place,
    }


def length_control(
    outcomes: Floats, differences: Floats, prompts: NDArray[np.str_]
) -> dict[str, Any]:
    """The win rate that answers of equal length would have, by a logistic fit.

    P(A wins) = sigmoid(theta + phi * tanh(d / s)), d = characters of A - of B, s their standard
    deviation; ties count as half a win, half a loss. phi has the penalty phi^2 / 2. The controlled
    rate is sigmoid(theta); its 95 % interval is theta -+ t * se, se from the sandwich over prompts,
    t Student's of C - 1.

    Args:
        outcomes: (N,) in {0, 1/2, 1}. differences: (N,) characters. prompts: (N,) clusters.

    Returns:
        win_rate, ci_low, ci_high, slope (phi), all None with the `reason` where it is not shown.

    Source: after arXiv 2404.04475v1, section 3, without its terms of the model and the prompt.
    """
    reason = _why_no_length_control(outcomes, differences, prompts)
    if reason:
        keys = ("win_rate", "ci_low", "ci_high", "slope")
        return {**dict.fromkeys(keys), "reason": reason}
    x = np.stack([np.ones_like(differences), np.tanh(differences / differences.std())], axis=1)
    penalty = np.diag([0.0, _RIDGE])
    beta = np.zeros(2)  # (theta, phi)
    for _ in range(_NEWTON_STEPS):
        share = expit(x @ beta)  # (N,)
        bend = x.T @ (x * (share * (1 - share))[:, None]) + penalty  # (2, 2)
        step = np.linalg.solve(bend, x.T @ (outcomes - share) - penalty @ beta)
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    share = expit(x @ beta)
    bend = x.T @ (x * (share * (1 - share))[:, None]) + penalty
    _, cluster = np.unique(prompts, return_inverse=True)
    num_clusters = int(cluster.max()) + 1
    pulls = np.zeros((num_clusters, 2))  # each prompt's gradient
    np.add.at(pulls, cluster, x * (outcomes - share)[:, None])
    inverse = np.linalg.inv(bend)
    spread = inverse @ (pulls.T @ pulls) @ inverse * num_clusters / (num_clusters - 1)
    half = float(stdtrit(num_clusters - 1, 0.975)) * float(spread[0, 0]) ** 0.5
    low, rate, high = (float(expit(beta[0] + by)) for by in (-half, 0.0, half))
    slope = float(beta[1])
    return {"win_rate": rate, "ci_low": low, "ci_high": high, "slope": slope, "reason": ""}


def _why_no_length_control(outcomes: Floats, differences: Floats, prompts: NDArray[np.str_]) -> str:
    low, high = LENGTH_CONTROL_BETWEEN
    if np.unique(prompts).size < 10:
        return "fewer than 10 prompts"
    if not low <= outcomes.mean() <= high:
        return f"the win rate is outside {low:.0%} to {high:.0%}, where it would mislead"
    return "" if differences.std() > 0 else "the answers do not differ in length"


def _mean(numbers: Sequence[int]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
