"""Do the rewards of both labels fall together? The sign of a learning rate that is too high.

In: the mean reward of either label, step by step. Out: whether both are below 0 and fell from one
window of steps to the next by more than their spread explains. Knows no model and no file.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW = 20  # steps; two of them are compared
STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class Guard:
    """The mean rewards of the last steps that had rows of both labels, oldest first."""

    desirable: tuple[float, ...] = ()
    undesirable: tuple[float, ...] = ()

    def after(self, desirable: float | None, undesirable: float | None) -> "Guard":
        """With one more step; None: its batch had no row of that label, and does not count."""
        if desirable is None or undesirable is None:
            return self
        return Guard(
            (*self.desirable, desirable)[-2 * WINDOW :],
            (*self.undesirable, undesirable)[-2 * WINDOW :],
        )

    @property
    def trips(self) -> bool:
        """Whether the rewards of both labels are negative and fall.

        >>> falling = tuple(-0.1 * step for step in range(2 * WINDOW))
        >>> rising = tuple(0.1 * step for step in range(2 * WINDOW))
        >>> Guard(falling, falling).trips, Guard(rising, falling).trips
        (True, False)
        """
        return _falls(self.desirable) and _falls(self.undesirable)


def _falls(rewards: Sequence[float]) -> bool:
    if len(rewards) < 2 * WINDOW:
        return False
    early, late = rewards[:WINDOW], rewards[WINDOW:]
    fell = statistics.fmean(early) - statistics.fmean(late)
    spread = math.sqrt((statistics.variance(early) + statistics.variance(late)) / WINDOW)
    return statistics.fmean(late) < 0 and fell > STANDARD_ERRORS * spread
