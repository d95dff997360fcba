"""A claim of the paper and what was measured: a section of docs/reproduction.md.

In: what an experiment's `claim` found. Out: Markdown. Knows no experiment; each file x*.py has its
own claim. What a record lacks is said to be not run; nothing is filled in.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.recording import Record
from experiments.resampling import Interval

HOLDS, FAILS, UNTOLD = "holds", "does not hold", "cannot be told at this scale"
NOT_RUN = "not run"
NEAR = 0.02  # a share of the problems: what "as good as" may lose
Records = Mapping[str, Record | None]  # by name; None where an experiment was not run


@dataclass(frozen=True)
class Claim:
    """One claim: what the paper says, what was measured, the verdict of that."""

    title: str
    published: str
    body: str
    verdict: str

    def section(self) -> str:
        return (
            f"### {self.title}\n\n- Paper: {self.published}\n- Verdict: **{self.verdict}**.\n\n"
            f"{self.body}\n"
        )


def not_run(title: str, published: str, command: str) -> Claim:
    return Claim(title, published, f"Not run. `{command}` runs it.", NOT_RUN)


def verdict(interval: Interval) -> str:
    """Whether a difference that should be positive is: by which side of 0 its interval lies."""
    return _beyond(interval, 0.0)


def as_good(interval: Interval) -> str:
    """Whether a difference loses no more than NEAR: by which side of that its interval lies."""
    return _beyond(interval, -NEAR)


def _beyond(interval: Interval, least: float) -> str:
    _, low, high = interval
    return HOLDS if low > least else FAILS if high < least else UNTOLD
