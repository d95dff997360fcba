"""Do the rewards of both labels fall together? The sign of a learning rate that is too high.

In: the mean reward of either label, step by step. Out: whether both are below 0 and fell from one
window of steps to the next by more than their spread explains; or lie far below the 0 that a run
starts from, with the desirable one not ahead. Knows no model and no file.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW = 20  # steps; two of them are compared
STANDARD_ERRORS = 3.0
FAR = -1.0  # a reward, beta * nats: sigmoid is 0.27 there; 10 nats at beta 0.1


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
        """Whether the rewards of both labels are negative and fall, or have fallen at once.

        >>> falling = tuple(-0.1 * step for step in range(2 * WINDOW))
        >>> rising = tuple(0.1 * step for step in range(2 * WINDOW))
        >>> Guard(falling, falling).trips, Guard(rising, falling).trips
        (True, False)
        >>> Guard((-30.0,) * WINDOW, (-30.0,) * WINDOW).trips
        True
        """
        fall = _falls(self.desirable) and _falls(self.undesirable)
        return fall or _have_fallen(self.desirable, self.undesirable)


def _falls(rewards: Sequence[float]) -> bool:
    if len(rewards) < 2 * WINDOW:
        return False
    early, late = rewards[:WINDOW], rewards[WINDOW:]
    fell = statistics.fmean(early) - statistics.fmean(late)
    spread = math.sqrt((statistics.variance(early) + statistics.variance(late)) / WINDOW)
    return statistics.fmean(late) < 0 and fell > STANDARD_ERRORS * spread


def _have_fallen(desirable: Sequence[float], undesirable: Sequence[float]) -> bool:
    """Both lie below FAR for a window of steps, and the desirable one is not ahead of the other."""
    if len(desirable) < WINDOW:
        return False
    up, down = desirable[-WINDOW:], undesirable[-WINDOW:]
    margins = [a - b for a, b in zip(up, down, strict=True)]
    ahead = statistics.fmean(margins) > STANDARD_ERRORS * statistics.stdev(margins) / WINDOW**0.5
    return max(statistics.fmean(up), statistics.fmean(down)) < FAR and not ahead
