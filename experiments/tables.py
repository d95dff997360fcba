"""Tables of the experiments' outcomes, and how their numbers are written.

In: a record. Out: Markdown.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from experiments.recording import Record, accuracy, chosen, lead, solved
from experiments.resampling import Interval


def method_table(
    record: Record, wanted: Sequence[Mapping[str, Any]], *, rival: str | None = None
) -> str:
    """A line for each method: accuracy, what it is ahead of or behind `rival`, greedy, length."""
    found = record["outcomes"]
    against = [f"less {rival}, points"] if rival else []
    lines = [row("method", "rate", "seeds", "sampled", *against, "greedy", "tokens")]
    lines.append(row(*["---"] * (6 + len(against))))
    ordered = sorted(wanted, key=lambda own: -accuracy(found, **own)[0])
    for own in ordered:
        outcomes = chosen(found, **own)
        rates = {o["learning_rate"] for o in outcomes}
        beside = ["-"] if rival else []
        if rival and own["method"] != rival and chosen(found, **{**own, "method": rival}):
            beside = [points(lead(found, own, {**own, "method": rival}), unit="")]
        lines.append(
            row(
                own["method"],
                ", ".join(f"{rate:g}" for rate in sorted(rates) if rate) or "-",
                str(len(solved(found, **own))),
                share(accuracy(found, **own)),
                *beside,
                f"{statistics.fmean(o['greedy'] for o in outcomes):.1%}",
                f"{statistics.fmean(o['answer_tokens'] for o in outcomes):.1f}",
            )
        )
    return "\n".join(lines)


def has_methods(record: Record, *methods: str) -> bool:
    """Whether some seed has an outcome of each method."""
    seeds = [set(solved(record["outcomes"], method=method)) for method in methods]
    return bool(set.intersection(*seeds))


def student(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval over seeds by Student's t; of one value that value thrice."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return [mean] * 3
    spread = stats.sem(values)
    if spread == 0:
        return [mean] * 3
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=spread)
    return [mean, float(low), float(high)]


def plot(name: str, told: str) -> str:
    """The picture of an experiment; `told` is what it shows."""
    return f"![{told}](reproduction/{name}.svg)"


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def share(interval: Interval) -> str:
    return "{:.1%} ({:.1%} to {:.1%})".format(*interval)


def points(interval: Interval, unit: str = " points") -> str:
    """A difference in percentage points, signed."""
    mean, low, high = (100 * value for value in interval)
    return f"{mean:+.1f}{unit} ({low:+.1f} to {high:+.1f})"
