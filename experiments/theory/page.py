"""docs/theory.md from the record; the part on human-aware losses is made by halo_page."""

import math
import re
import textwrap
from typing import Any

from experiments.theory.halo_page import halo_section

WIDTH = 100
HEAD = """\
# What the theory says, and what the code does

The paper behind KTO (arXiv 2402.01306v4) makes claims about its loss and about DPO. This page puts
four of them to the test. Each is computed with the losses that training uses, on answers so few
that every probability is known. There is no model and no sampling, so there are no intervals. `make
theory` computes everything and writes this page; the numbers are in
[theory.json](../experiments/results/theory.json), and tests assert each claim by its number.

Words: `r` is the log-ratio of an answer, log pi - log pi_ref, in nats. `z0` is the reference point
that KTO compares it with. `beta` scales both. The reference, pi_ref, is the model before training.
More: [training.md](training.md#what-is-optimised).
"""


def page(record: dict[str, Any]) -> str:
    """The page of a record."""
    sections = [
        HEAD,
        _vanishing(record["vanishing"]),
        _values(record["values"]),
        _flips(record["flips"]),
        _family(record["flips"]),
        _weights(record["flips"]),
        halo_section(record["halo"]),
    ]
    return wrapped("\n".join(sections))


def wrapped(text: str) -> str:
    """Paragraphs and points filled to WIDTH; headings and tables as they are."""
    blocks = re.split(r"\n(?=- )|\n{2,}", text.strip())
    joints = re.findall(r"\n(?=- )|\n{2,}", text.strip())
    filled = [
        block
        if block.startswith(("|", "#"))
        else textwrap.fill(
            " ".join(block.split()),
            WIDTH,
            subsequent_indent="  " if block.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for block in blocks
    ]
    return "".join(block + joint for block, joint in zip(filled, [*joints, "\n"], strict=True))


def _vanishing(part: dict[str, Any]) -> str:
    above, below = part["weights"]["above"], part["weights"]["below"]
    lines = [
        f"| {d} | {up:.3g} | {down:.3g} | {norm:.3g} |"
        for d, up, down, norm in zip(
            part["distances"], above, below, part["update_norms"], strict=True
        )
    ]
    moving = part["weights_with_moving_z0"]
    wrong = part["curves"]["kto_concave"]["desirable"][0]
    return f"""\
## Proposition 4.1: far from the reference point nothing is learnt

**The claim.** As the reward of an answer goes to plus or minus infinity, its update under KTO goes
to zero.

**What was computed.** The slope of the loss at rows ever further from z0, with beta
{part["beta"]:g}. The last column is the length of the whole gradient at the logits of a policy of
two answers, for an undesirable answer of that log-ratio.

| distance from z0, nats | slope / beta above z0 | slope / beta below z0 | gradient at the logits |
|---|---|---|---|
{chr(10).join(lines)}

![The slope of kto falls to zero on both sides of z0; kto_concave keeps its slope on one side,
kto_identity on both](theory/vanishing.svg)

**It holds** at a fixed z0, for both labels and on both sides. It is a fact about the distance from
z0, not about the reward: where z0 rises along with the rewards, and rows stay
{part["kept_distance"]:g} nats above it, the slope / beta stays {moving[0]:.3g} at z0 =
{part["moving_z0"][0]:g} and at z0 = {part["moving_z0"][-1]:g}. The ablations show that it comes
from the value: `kto_concave` keeps {wrong:.3g} for a desirable answer {-part["curve_distances"][0]}
nats below z0, and `kto_identity` keeps {part["curves"]["kto_identity"]["desirable"][0]:.3g}
everywhere.

**What follows.** A wrong label on an answer that the policy is sure of does little harm. The same
goes for a right label: a desirable answer that the policy has left far behind is not brought back.
If `saturation` in metrics.jsonl is near 1, most rows no longer teach anything.
"""


def _values(part: dict[str, Any]) -> str:
    a, b = part["values_a"][1][0], part["values_b"][1][0]
    differences = part["differences"]
    return f"""\
## Theorem 4.2: what preferences cannot tell apart, values can

**The claim.** Add to a reward any number h(x) that depends on the prompt only. The best policy
stays the same, and so does the probability that one answer is preferred to another. The value that
a person gives to the answers may still change.

**What was computed.** Two prompts with three answers each, and two rewards that differ by
h = {part["shift"]:g} on the second prompt; beta {part["beta"]:g}.

| largest difference | |
|---|---|
| of the best policies | {part["policy_difference"]:.0e} |
| of the preferences (Bradley-Terry) | {part["preference_difference"]:.0e} |
| of DPO's losses | {part["loss_differences"]["dpo"]:.0e} |
| of the values, one reference point shared by both prompts | {differences["shared"]:.3f} |
| of the values, a reference point for each prompt | {differences["per prompt"]:.0e} |
| of the values, shared point, the same h at both prompts | {part["same_shift_difference"]:.0e} |

The first answer to the second prompt has the value {a:.3f} under the one reward and {b:.3f} under
the other, measured from the shared point.

![With a shared reference point the values differ as soon as h is not 0; with one per prompt they do
not](theory/values.svg)

**It holds only with a shared reference point,** and only where h differs between prompts. A
reference point of each prompt moves along with h, and the values are equal. The clamp, z0 >= 0, can
break that again: with h = {-part["shift"]:g} it cuts the second prompt's point, and the values
differ by {part["clamped_difference_at_minus_shift"]:.3f}. This needs rewards whose mean is below 0.
The exact mean of a policy's own log-ratios never is; an estimate from a batch may be.

**What follows.** `kto` has one z0 for the whole batch, so the theorem applies to it: an answer is
judged against what the policy does on other prompts too. Prompts on which every answer is good
count as gains, where a paired loss sees only the difference between answers.
"""


def _flips(part: dict[str, Any]) -> str:
    off = max(abs(row["measured"] - row["predicted"]) for row in part["boundaries"])
    cells = part["cells"]
    agree = sum(cell["predicted_flip"] == cell["dpo_flip"] for cell in cells)
    dpo_flips, kto_flips = (sum(cell[key] for cell in cells) for key in ("dpo_flip", "kto_flip"))
    low = min(cells, key=lambda cell: float(cell["kto"]))
    worked = part["worked"]
    odds = worked["p"] / (1 - worked["p"])
    return f"""\
## Theorem 4.3: contradicting raters

**The claim.** A share p > 1/2 of the raters prefers answer a to answer b; the others prefer b. At
the optimum of DPO the log-ratios of the two lie logit(p) / beta apart. So DPO gives the minority's
answer b where the reference prefers b by more than a factor of (p / (1 - p))^(1 / beta). KTO with
equal weights gives a.

**What was computed.** A policy over three answers: a, b, and c, which nobody has rated. Its logits
are trained by gradient descent on all votes at once, starting from the reference. z0 of KTO is the
exact KL of the policy, and KTO gets {part["most_steps"]} steps. The grid: p
{_list(part["shares"])}; beta {_list(part["betas"])}; reference ratio pi_ref(b) / pi_ref(a)
{_list(part["ratios"])}.

| | |
|---|---|
| r(a) - r(b) under DPO, largest distance from logit(p) / beta | {part["gap_error"]:.0e} nats |
| log of the ratio at which DPO flips, largest distance from the prediction | {off:.0e} nats |
| cells where DPO gives the predicted answer | {agree} of {len(cells)} |
| cells where DPO gives the minority's answer | {dpo_flips} of {len(cells)} |
| cells where KTO gives the minority's answer | {kto_flips} of {len(cells)} |
| lowest probability of a under KTO (p {low["p"]:g}, beta {low["beta"]:g}, ratio {low["ratio"]:g}) \
| {low["kto"]:.3f} |

![The gap between log-ratios that DPO settles on, against logit(p) / beta](theory/gaps.svg)

![The reference ratio at which DPO flips, against the prediction](theory/flips.svg)

![The probability of the majority's answer under KTO and DPO](theory/majority.svg)

One example in full: p {worked["p"]:g}, beta {worked["beta"]:g}, and a reference of
{_policy(worked["reference"])} for a, b and c. DPO settles on
{_policy(worked["policies"]["dpo"])}, KTO on {_policy(worked["policies"]["kto"])}. At this p and
beta DPO flips above a ratio of {odds ** (1 / worked["beta"]):.1f}.

**It holds,** with three things to know:

- DPO fixes the ratio of a and b only. How much c gets depends on the way there; the
  figures are those of gradient descent from the reference.
- KTO's optimum is no mixture: it puts everything on a. It is reached at infinity, and slowly at a
  large beta, for the reason of proposition 4.1.
- The weights of the labels must be equal, or nearly: see [below](#with-unequal-weights).

**What follows.** Where raters disagree and the answer the majority likes is rare under the model,
DPO may train the minority's answer. `thumbs check --model` counts such prompts in a file, with the
pairs that `loss.name=dpo` would train on: every up of one answer with every down of another, so two
votes of three for each of two answers make odds of 4 : 1, not 2 : 1. With a smaller beta DPO flips
later. KTO follows the majority but forgets that there was a minority: if you
want answers in proportion to the votes, use another loss.
"""


def _family(part: dict[str, Any]) -> str:
    example = part["example"]
    lines = [
        f"| `{m['loss']}` | {m['beta']:g} | {_policy(m['policy'])} | {m['given']} | {m['gap']:.2f} "
        f"| {'yes' if m['settled'] else 'no'} |"
        for m in part["family"]
    ]
    small, large = part["betas"][0], max(m["beta"] for m in part["family"])
    calibrated = _of(part, "bce", large)
    crowded = _of(part, "bce", small)
    shifted = _of(part, "bco", large)
    logit = math.log(example["p"] / (1 - example["p"]))
    return f"""\
### The other losses on the same votes

p {example["p"]:g}, and a reference of {_policy(example["reference"])} for a, b and c.
`still` says whether the descent came to rest; where it did not, the figures still move slowly.

| loss | beta | policy: a, b, c | likeliest | r(a) - r(b), nats | still |
|---|---|---|---|---|---|
{chr(10).join(lines)}

- `bce` is calibrated: at beta {large:g} the rewards of a and b are {calibrated["rewards"][0]:.3f}
  and {calibrated["rewards"][1]:.3f}, and logit(p) is {logit:.3f}. That needs room: probabilities
  sum to 1, so an answer can gain only what others lose. At beta {small:g} there is not enough, and
  the rewards are {crowded["rewards"][0]:.3f} and {crowded["rewards"][1]:.3f}.
- `bco` is calibrated up to its shift only. At beta {large:g} the rewards are
  {shifted["rewards"][0]:.3f} and {shifted["rewards"][1]:.3f}, and the shift is
  {shifted["shift"]:.3f}.
- Both lie 2 logit(p) / beta apart where there is room, twice as far as under `dpo`. They flip too,
  at the square of DPO's ratio. What b loses and a does not gain goes to c, which nobody has rated.
- `ipo` settles at (2 p - 1) / (2 beta), at beta {large:g} {_of(part, "ipo", large)["gap"]:.2f}
  nats. That is less than `dpo`, so it flips earlier.
- `sft` on desirable answers gives the answers in proportion to the votes.
"""


def _weights(part: dict[str, Any]) -> str:
    example = part["weights_example"]
    p = example["p"]
    lines = [
        f"| {row['ratio']:g} | {_way(row['a_is_pushed_up'])} | {_way(row['b_is_pushed_up'])} "
        f"| {_policy(row['policy'])} | {row['given']} |"
        for row in part["weights"]
    ]
    return f"""\
### With unequal weights

Theorem 4.3 takes the weights of both labels to be equal. With a desirable row weighing w times an
undesirable one, KTO raises a where w p > 1 - p, and raises b where w (1 - p) > p. So a goes up and
b goes down only for w between (1 - p) / p = {(1 - p) / p:.3g} and p / (1 - p) = {p / (1 - p):.3g}.
Here p is {p:g}, beta {example["beta"]:g}, and the reference {_policy(example["reference"])}.

| w | a is pushed | b is pushed | policy: a, b, c | likeliest |
|---|---|---|---|---|
{chr(10).join(lines)}

**What follows.** Below that range both answers are pushed down. The mass goes to an answer that
nobody has rated, and may stay long on the minority's answer before: the table shows where
{part["most_steps"]} steps lead. Above it both are pushed up, and the claim promises nothing.
These votes have as many thumbs up as down. Where thumbs of one kind were merely
collected more rarely, a weight that makes up for it restores that. Where people dislike most
answers, a weight that makes up for it tells KTO that they do not.
"""


def _of(part: dict[str, Any], loss: str, beta: float) -> dict[str, Any]:
    found: dict[str, Any] = next(
        m for m in part["family"] if (m["loss"], m["beta"]) == (loss, beta)
    )
    return found


def _way(up: bool) -> str:
    return "up" if up else "down"


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _policy(probabilities: list[float]) -> str:
    return "(" + ", ".join(f"{probability:.3f}" for probability in probabilities) + ")"
