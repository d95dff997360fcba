"""The part of docs/theory.md on human-aware losses, from the record."""

from typing import Any

WHY = {
    "reference": "it depends on more than the log-ratio: the log-probs themselves count",
    "tokens": "it depends on how the log-ratio is spread over the tokens",
    "point": "it has no reference point: other answers change nothing",
    "distance": "it depends on more than the distance from the reference point",
    "rising": "its value falls again beyond a point",
    "concave": "its value grows ever faster above the reference point",
    "one_value": "the two labels have values of different shapes",
}
DROPPED = {
    "zero": "a reference point that is always 0 is allowed",
    "uniform": "the reference gives every answer alike",
    "signed": "undesirable rows are measured by z - r",
}


def halo_section(part: dict[str, Any]) -> str:
    """The section of a record's `halo`."""
    losses: dict[str, dict[str, Any]] = part["losses"]
    members = [name for name, found in losses.items() if found["member"]]
    lines = [
        f"| `{name}` | {'**yes**' if found['member'] else 'no'} | {_why(found)} "
        f"| {_member_if(found)} |"
        for name, found in losses.items()
    ]
    return f"""\
## Which losses are human-aware losses?

**The definition** (3.4 in the paper). A human-aware loss is a mean of a v(r - z) over the rows,
plus a constant of the data. r is the log-ratio of an answer and z the mean log-ratio of other
answers, the reference point. a is +1 or -1 for each row. v is one function that never falls, and is
concave above 0: a person who is winning cares less about each further gain.

**What was computed.** Every loss was called on rows of two tokens with log-ratios from
{part["distances"][0]:g} to {part["distances"][-1]:g} nats around the reference point, beta
{part["beta"]:g}. From the losses and their slopes it was decided whether only the log-ratio counts,
whether there is a reference point and only the distance from it counts, and whether v has the right
shape. A row of a paired loss is the desirable answer; the other answer is its reference point. The
weights of the labels may differ: they only say how much a row counts. z is held still, as in
training.

| loss | human-aware | why not | would be, if |
|---|---|---|---|
{chr(10).join(lines)}

![v' of every loss, by distance from the reference point](theory/halo.svg)

**Where this is stricter than the literature.**

- The paper counts PPO-Clip among these losses. The clipped ratio of `ppo_offline`, exp(r), as a
  function of the log-ratio r, is not concave: up to the clip each further nat gains more. Nor does
  the state value enter as something that is taken from r.
- Losses that take the logarithm of a sigmoid (`kto_concave`, `bco`, `bce`, `npo`) have the right
  shape for desirable rows. For undesirable rows the letter of the definition wants v of r - z, and
  that is convex. Read with z - r, the way the paper writes KTO's own value, they pass. `kto` passes
  both ways, as its sigmoid is symmetric.
- "z is the mean log-ratio of other answers" leaves open of which. Any number between the lowest and
  the highest log-ratio is the mean under some distribution, so 0 could be called one. Here a loss
  has a reference point only if other answers change the loss.
- All rows here are equally long. `simpo` divides by the length, so for answers of unequal length
  it also
  needs a factor per answer in front of r.
- z0 of `kto` is clamped at 0. While the clamp holds, `kto` is `apo_zero`.

**What follows.** {_names(members)} are human-aware losses by the letter. The name is no mark of
quality: `kto_identity` is one, with a value without any risk aversion. Choose by measurements on
your task; the table tells what a loss looks at.
"""


def _why(found: dict[str, Any]) -> str:
    reasons = []
    for check, labels in found["failed"].items():
        only = len(labels) < len(found["value_slopes"])
        reasons.append(WHY[check] + (f" ({labels[0]} rows)" if only else ""))
    return "; ".join(reasons)


def _member_if(found: dict[str, Any]) -> str:
    if found["member"]:
        return ""
    if found["member_if"] is None:
        return "none of these"
    return ", and ".join(DROPPED[change] for change in found["member_if"])


def _names(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return ", ".join(quoted[:-1]) + f" and {quoted[-1]}"
