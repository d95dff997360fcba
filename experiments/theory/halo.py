"""Which losses of the table are human-aware losses (HALOs), found by calling them.

Definition 3.4 of arXiv 2402.01306v4: a loss is one where it can be written as the mean over rows of
a v(r - E_Q[r]) plus a constant of the data, with a of each row +1 or -1, and one v that never falls
and is concave above 0. For a loss whose value and slope dL/dr can be had anywhere, this says:

- reference: other log-probs with the same log-ratio change no slope;
- tokens: the same log-ratio spread otherwise over the tokens changes no slope;
- point: the loss reads a reference point, and changes with it;
- distance: reference point and log-ratio moved together change nothing;
- rising: the slopes of rows of one label have one sign, that of a;
- concave: above the reference point |slope| = v' never grows;
- one_value: both labels have the same v', up to their weights.

A row of a paired loss is the desirable answer; Q is then a point mass on the other one. Out: for
every loss which of these hold. Losses that fail are tried again with the definition relaxed
(`RELAXED`).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.theory.rows import REFERENCE, losses_and_slopes
from thumbs.core.losses import LOSSES
from thumbs.loss_table import LOSS_TABLE

BETA = 0.5
TOLERANCE = 1e-9
DISTANCES = tuple(step / 4 for step in range(-32, 33))  # r - z, nats; symmetric about 0
POINTS = (0.0, 0.75, -0.5)  # z, nats
OTHER_REFERENCE = -5.0  # log pi_ref, nats
EVEN, UNEVEN = 0.5, 0.9  # the share of a log-ratio that the first of two tokens has
CHECKS = ("reference", "tokens", "point", "distance", "rising", "concave", "one_value")
LABELS = {"desirable": True, "undesirable": False}

# What is dropped from the definition, alone or together, fewest first.
RELAXED: tuple[tuple[str, ...], ...] = (
    (),
    ("zero",),
    ("uniform",),
    ("signed",),
    ("zero", "signed"),
    ("zero", "uniform"),
)


@dataclass(frozen=True)
class Row:
    """What a loss does with rows of one label.

    slopes: (D,) dL/dr at DISTANCES. broken: of the checks `reference`, `tokens`, `point` and
    `distance` those that do not hold.
    """

    slopes: Tensor
    broken: frozenset[str]


def memberships() -> dict[str, Any]:
    """For every loss of the table: what holds, and the least relaxed definition it meets."""
    return {
        "beta": BETA,
        "distances": list(DISTANCES),
        "losses": {name: membership(name) for name in LOSSES},
    }


def membership(name: str) -> dict[str, Any]:
    """What is known of one loss.

    Returns:
        member; failed: by check, the labels at whose rows it fails; member_if: what is to be
        dropped from the definition, None where that does not help; value_slopes: v' by label.
    """
    failed = {relaxed: failures(name, relaxed) for relaxed in RELAXED}
    enough = next((relaxed for relaxed in RELAXED if not failed[relaxed]), None)
    return {
        "member": not failed[()],
        "failed": failed[()],
        "member_if": None if enough is None else list(enough),
        "value_slopes": {
            label: _upright(row.slopes).tolist() for label, row in rows_of(name, REFERENCE).items()
        },
    }


def failures(name: str, relaxed: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """The checks that do not hold, in the order of CHECKS, and the labels of the rows they fail at.

    Where a slope changes with log-probs of the same log-ratio, there is no v(r - z) whose shape
    could be looked at.

    relaxed: "zero" allows a reference point that is always 0; "uniform" takes a reference that
    gives every answer alike; "signed" measures undesirable rows by z - r, as section 4 of the paper
    writes the value of KTO: their v then falls in r.
    """
    waived = {{"zero": "point", "uniform": "reference"}.get(change) for change in relaxed}
    rows = rows_of(name, 0.0 if "uniform" in relaxed else REFERENCE)
    failed: dict[str, list[str]] = {}
    for label, row in rows.items():
        for check in row.broken - waived:
            failed.setdefault(check, []).append(label)
    if "reference" not in failed:
        seen = {label: _seen(row.slopes, label, relaxed) for label, row in rows.items()}
        for label, slopes in seen.items():
            shape = _shape_failure(slopes)
            if shape:
                failed.setdefault(shape, []).append(label)
        first, *others = [_upright(slopes) / slopes.abs().max() for slopes in seen.values()]
        if any(_differ(first, other) for other in others):
            failed["one_value"] = list(seen)
    return {check: failed[check] for check in CHECKS if check in failed}


def rows_of(name: str, reference: float) -> dict[str, Row]:
    """The rows that a loss uses, by label; of pairs the desirable answer."""
    labels = ["desirable"] if LOSS_TABLE[name].pairs else list(LABELS)
    rows = {label: _row(name, reference, desirable=LABELS[label]) for label in labels}
    return {label: row for label, row in rows.items() if bool((row.slopes != 0).any())}


def _row(name: str, reference: float, *, desirable: bool) -> Row:
    distances = torch.tensor(DISTANCES, dtype=torch.float64)  # (D,)

    def at(
        log_ratio: Tensor, z: float = POINTS[0], reference: float = reference, share: float = EVEN
    ) -> tuple[Tensor, Tensor]:
        return losses_and_slopes(
            name,
            log_ratio,
            desirable=desirable,
            beta=BETA,
            z=z,
            reference=reference,
            first_token=share,
        )

    losses, slopes = at(distances)
    broken = set()
    if _differ(slopes, at(distances, reference=OTHER_REFERENCE)[1]):
        broken.add("reference")
    if _differ(slopes, at(distances, share=UNEVEN)[1]):
        broken.add("tokens")
    if not _differ(losses, at(distances, z=POINTS[1])[0]):
        broken.add("point")  # its reference point is always 0, and r the distance from it
    else:
        moved = [at(distances + z, z=z) for z in POINTS[1:]]
        if any(_differ(losses, other) or _differ(slopes, slope) for other, slope in moved):
            broken.add("distance")
    return Row(slopes, frozenset(broken))


def _seen(slopes: Tensor, label: str, relaxed: tuple[str, ...]) -> Tensor:
    """Slopes by the distance that v is a function of: of undesirable rows z - r, where `signed`."""
    return -slopes.flip(0) if "signed" in relaxed and label == "undesirable" else slopes


def _shape_failure(slopes: Tensor) -> str | None:
    """`rising` or `concave`, where v of these slopes is not."""
    if float(_upright(slopes).min()) < -TOLERANCE:
        return "rising"
    above = slopes.abs()[len(DISTANCES) // 2 :]  # at and above the reference point
    return "concave" if float((above[1:] - above[:-1]).max()) > TOLERANCE else None


def _upright(slopes: Tensor) -> Tensor:
    """v': the slopes with the sign that makes the steepest one positive."""
    return slopes * slopes[slopes.abs().argmax()].sign()


def _differ(first: Tensor, second: Tensor) -> bool:
    return not torch.allclose(first, second, rtol=TOLERANCE, atol=TOLERANCE)
