"""When z0 need not be estimated: `loss.z0.estimator=adaptive`.

In: the raw estimates of past steps with their standard errors. Out: whether the next step
estimates. A step that does not takes z0 = 0, which is what the clamp makes of a negative estimate,
and its forwards over the mismatched answers are saved.

An estimate of standard error s is clearly negative where raw + MARGIN * s < 0. A step skips its
estimate where each of the last CHECKS estimates was clearly negative and the last of them is less
than `check_every` steps ago. So no more than check_every - 1 steps in a row are skipped, and one
estimate that is not clearly negative brings back estimates on every step, CHECKS at the least.

What a skip can cost. A step that skips uses 0 where max(0, raw) would have been used. Let the true
mean be h s, and raw normal around it. Then E max(0, raw) = s e(h), e(h) = phi(h) + h Phi(h); an
estimate is clearly negative with p = Phi(-MARGIN - h); and with q = p^CHECKS, k = check_every - 1 a
share k q / (1 + k q) of the steps is skipped, the state being decided anew at every estimate. While
the mean stands still, the expected error per step is therefore

    s e(h) k q / (1 + k q),

at most 0.0004 s for check_every = 8, whatever the mean (`stationary_error`; largest near h = -2.4).
A mean that moves up is seen by the next estimate, at most check_every steps after it reached 0:
with h >= 0 an estimate is clearly negative with a chance below Phi(-3) = 0.0014. Until then each
step errs by max(0, raw), which is what z0 would have been.

Source: METHOD.md, "z0", point 5; the rule and its bound are worked out here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from thumbs.data.plan import Batch
from thumbs.train.step import StepResult

CHECKS = 3  # estimates that must agree
MARGIN = 3.0  # standard errors below 0


@dataclass(frozen=True)
class Z0Memory:
    """What decides whether the next step estimates; checkpointed.

    estimates: the last CHECKS of (raw, its standard error or None below two rows), nats, oldest
    first. skipped: steps since the last of them.
    """

    estimates: tuple[tuple[float, float | None], ...] = ()
    skipped: int = 0

    def estimates_next(self, check_every: int | None) -> bool:
        """Whether the next step estimates z0; check_every: None estimates on every step."""
        if check_every is None or len(self.estimates) < CHECKS:
            return True
        negative = all(_is_clearly_negative(raw, se) for raw, se in self.estimates)
        return not negative or self.skipped + 1 >= check_every

    def after(self, raw: float | None, standard_error: float | None) -> "Z0Memory":
        """The memory after a step; raw: None where it was not estimated."""
        if raw is None:
            return Z0Memory(self.estimates, self.skipped + 1)
        return Z0Memory((*self.estimates, (raw, standard_error))[-CHECKS:])


def step_adaptively(
    step: Callable[[Batch], StepResult], batch: Batch, memory: Z0Memory, check_every: int | None
) -> tuple[StepResult, Z0Memory]:
    """Run `step` over `batch`, without its mismatched pairs where z0 need not be estimated.

    Returns:
        What the step measured, and the memory after it. Of a skipped estimate z0 is 0, z0_raw and
        z0_se are None, and it counts as clamped.
    """
    if not any(group.mismatched for group in batch.groups):
        return step(batch), memory
    if memory.estimates_next(check_every):
        result = step(batch)
        return result, memory.after(result.z0_raw, result.z0_se)
    bare = Batch(tuple(replace(group, mismatched=()) for group in batch.groups))
    result = replace(step(bare), z0=0.0, z0_raw=None, z0_se=None, clamped=1.0)
    return result, memory.after(None, None)


def read_memory(stored: dict[str, Any]) -> Z0Memory:
    """The memory whose `asdict` went through JSON."""
    estimates: Sequence[Sequence[Any]] = stored["estimates"]
    return Z0Memory(tuple((raw, se) for raw, se in estimates), stored["skipped"])


def stationary_error(height: float, check_every: int) -> float:
    """The expected error of z0 per step, in standard errors, of a mean that stands still.

    height: the mean of the raw estimate, in standard errors. See the module for the formula.

    >>> round(stationary_error(-2.4, 8), 5)
    0.00034
    """
    density = math.exp(-0.5 * height**2) / math.sqrt(2 * math.pi)
    lost = density + height * _below(height)
    weight = (check_every - 1) * _below(-MARGIN - height) ** CHECKS
    return lost * weight / (1 + weight)


def _is_clearly_negative(raw: float, standard_error: float | None) -> bool:
    return standard_error is not None and raw + MARGIN * standard_error < 0


def _below(x: float) -> float:
    """Phi(x): the share of a standard normal below x."""
    return 0.5 * math.erfc(-x / math.sqrt(2))
