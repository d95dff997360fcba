"""The shift of BCO: the middle of the mean rewards of the two labels, as the run has met them.

In: the mean reward of either label in a batch. Out: the shift for the next batch. A step takes the
shift of the batches before it, so it does not depend on how its own batch is cut; before the first
step all rewards are 0, and so is the shift. Knows no loss and no model.
"""

from dataclasses import dataclass

DECAY = 0.9  # what a step keeps of the means before it


@dataclass(frozen=True)
class RewardShift:
    """Moving means of the rewards of desirable and undesirable rows; None before the first.

    >>> round(RewardShift().after(0.4, -0.2).after(0.6, None).value, 6)  # (0.42 - 0.2) / 2
    0.11
    """

    desirable: float | None = None
    undesirable: float | None = None

    @property
    def value(self) -> float:
        """The middle of both means; 0.0 until there is one of each."""
        if self.desirable is None or self.undesirable is None:
            return 0.0
        return 0.5 * (self.desirable + self.undesirable)

    def after(self, desirable: float | None, undesirable: float | None) -> "RewardShift":
        """The means after a batch; None: the batch had no row of that label.

        Source: arXiv 2404.04656, section on the reward shift (an exponential moving average).
        """
        return RewardShift(_moved(self.desirable, desirable), _moved(self.undesirable, undesirable))


def _moved(mean: float | None, met: float | None) -> float | None:
    if mean is None or met is None:
        return met if mean is None else mean
    return DECAY * mean + (1 - DECAY) * met
