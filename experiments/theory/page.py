"""docs/theory.md, from the numbers of experiments/results/theory.json; no figure stands here."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FAILURES = {
    "reference": "reads more of the log-probs than the log-ratio to the reference",
    "tokens": "tells the tokens of an answer apart",
    "point": "has no reference point but 0",
    "distance": "is no function of the distance from its reference point",
    "rising": "has a v that falls in places",
    "concave": "has a v that is not concave above the reference point",
    "one_value": "has another v for either label",
}
DROPPED = {
    "zero": "0 counts as a reference point",
    "uniform": "the reference may give every answer alike",
    "signed": "undesirable rows are measured by z - r",
}


def theory_page(found: Mapping[str, Any]) -> str:
    """The whole page."""
    parts = (_opening(found), _vanishing(found["vanishing"]), _values(found["values"]))
    more = (_flips(found["flips"]), _family(found["flips"]), _halo(found["halo"]))
    return "\n".join([*parts, *more])


def _opening(found: Mapping[str, Any]) -> str:
    return f"""# Theory, computed

What arXiv 2402.01306v4 proves about KTO and DPO, computed here with the losses that `thumbs train`
uses. `{found["command"]}` computes all of it (half a minute, no randomness) and writes
`experiments/results/theory.json`; this page and its plots are made from that file. The same
statements are tests in `tests/experiments/test_theory.py`.

r is the log-ratio log pi(y|x) / pi_ref(y|x) of an answer, in nats; z0 is KTO's reference point.
"""


def _vanishing(found: Mapping[str, Any]) -> str:
    rows = zip(
        found["distances"],
        found["weights"]["above"],
        found["weights"]["below"],
        found["update_norms"],
        strict=True,
    )
    table = _table(
        (
            "distance of r from z0, nats",
            "weight, r above z0",
            "weight, r below z0",
            "length of the gradient",
        ),
        ([_number(value) for value in row] for row in rows),
    )
    moving = ", ".join(
        f"{_number(weight)} at z0 = {_number(z0)}"
        for z0, weight in zip(found["moving_z0"], found["weights_with_moving_z0"], strict=True)
    )
    return f"""## Proposition 4.1: far from the reference point nothing is learned

A row's weight in the step is |dL/dr| / beta. With kto it falls to 0 on both sides of z0: an
answer that is already settled teaches little, and so does one that is hopeless, a wrong label for
instance.
beta = {_number(found["beta"])}, a desirable row; the gradient is that of the logits of two answers.

{table}
![Weight of a row by its distance from z0](theory/vanishing.svg)

`kto_concave` keeps its weight on the losing side and `kto_identity` everywhere, so neither forgets
a hopeless row.

**A condition.** The proposition lets r grow while z0 stays. Where z0 grows with r, the weight
stays: with r = z0 + {_number(found["kept_distance"])} it is {moving}.

**For users.** A row far out costs a forward and teaches nothing; `saturation` in a run's metrics is
the share of such rows.
"""


def _values(found: Mapping[str, Any]) -> str:
    differences, losses = found["differences"], found["loss_differences"]
    clamped = found["curves"]["per prompt, clamped"]
    most = clamped.index(max(clamped))
    return f"""## Theorem 4.2: what preferences cannot tell apart, values can

Two rewards that differ by a number per prompt, h(x), have the same best policy and the same
Bradley-Terry preferences. Two prompts with three answers each, h = 0 and
{_number(found["shift"])}, beta = {_number(found["beta"])}; largest differences over all answers:

{
        _table(
            ("what", "largest difference"),
            (
                ("best policies", _number(found["policy_difference"])),
                ("preferences", _number(found["preference_difference"])),
                ("losses of dpo", _number(losses["dpo"])),
                (
                    "values of kto, one reference point for all prompts",
                    _number(differences["shared"]),
                ),
                (
                    "values of kto, a reference point per prompt",
                    _number(differences["per prompt"]),
                ),
                (
                    "the same, clamped at 0",
                    _number(differences["per prompt, clamped"]),
                ),
                (
                    "values of kto, one reference point, the same h for all prompts",
                    _number(found["same_shift_difference"]),
                ),
            ),
        )
    }
![Largest difference of values by h of the second prompt](theory/values.svg)

**A condition.** The theorem needs one reference point for all prompts, as thumbs has it (one per
batch). With one per prompt, h cancels and the values are equal again; clamped at 0 it cancels only
where the clamp does not act: at h = {_number(found["shifts"][most])} values differ by
{_number(clamped[most])}.
"""


def _flips(found: Mapping[str, Any]) -> str:
    gaps, lines, cells = found["gaps"], found["boundaries"], found["cells"]
    worst = max(abs(gap["measured"] - gap["predicted"]) for gap in gaps)
    worst_line = max(abs(line["measured"] - line["predicted"]) for line in lines)
    wrong = sum(cell["dpo_flip"] != cell["predicted_flip"] for cell in cells)
    flipped = sum(cell["dpo_flip"] for cell in cells)
    worked = found["worked"]
    rows = []
    for p in found["shares"]:
        own = [line for line in lines if line["p"] == p]
        rows.append(
            [
                _number(p),
                *(f"{line['measured']:.3f} / {line['predicted']:.3f}" for line in own),
            ]
        )
    table = _table(("p", *(f"beta {_number(beta)}" for beta in found["betas"])), rows)
    return f"""## Theorem 4.3: whose answer is given when raters contradict each other

A share p of the raters prefers answer a to answer b, the others b to a; nobody has rated a third
answer. The logits of the three answers are trained on all votes by gradient descent, from the
reference, with nothing of the theorem in the code. The theorem says for dpo
u* = log pi(a)/pi(b) - log pi_ref(a)/pi_ref(b) = logit(p) / beta. So where the reference prefers b
by more than u*, dpo gives the answer of the minority.

- u as the descent ends, {len(gaps)} settings of p and beta: {_apart(worst)} the theorem.
- The log reference ratio from which dpo flips, found by halving: {_apart(worst_line)} the theorem.
  Measured / predicted, in nats:

{table}
- {len(cells)} settings of p, beta and reference ratio: dpo gives the minority's answer in {
        flipped
    },
  {wrong} otherwise than predicted; kto with equal weights gives it in
  {sum(cell["kto_flip"] for cell in cells)}.

![u at the end of the descent beside logit(p) / beta](theory/gaps.svg)

![Who is given, by p and reference ratio](theory/flips.svg)

**Worked example.** p = {_number(worked["p"])}, beta = {_number(worked["beta"])}, reference
{_policy(worked["reference"])}: dpo ends at {_policy(worked["policies"]["dpo"])}, kto at
{_policy(worked["policies"]["kto"])}. KTO's best policy is deterministic: it collapses onto the
majority, so its descent never ends.

**A condition.** KTO follows the majority where its weights do not outweigh it. With beta =
{_number(found["weights_example"]["beta"])}, p = {_number(found["weights_example"]["p"])}, reference
{_policy(found["weights_example"]["reference"])}, after as many steps:

{
        _table(
            ("desirable / undesirable weight", "policy (a, b, unrated)", "given"),
            (
                [_number(line["ratio"]), _policy(line["policy"]), line["given"]]
                for line in found["weights"]
            ),
        )
    }
"""


def _family(found: Mapping[str, Any]) -> str:
    example = found["example"]
    table = _table(
        ("loss", "beta", "policy (a, b, unrated)", "rewards of a, b", "given", "settled"),
        (
            [
                f"`{line['loss']}`",
                _number(line["beta"]),
                _policy(line["policy"]),
                ", ".join(f"{reward:.3f}" for reward in line["rewards"][:2]),
                line["given"],
                f"after {line['steps']} steps" if line["settled"] else f"not in {line['steps']}",
            ]
            for line in found["family"]
        ),
    )
    return f"""## The other losses on one contradiction

p = {_number(example["p"])}, reference {_policy(example["reference"])}. Losses of -log sigmoid
(`bce`, `bco`, `kto_concave`) settle on rewards that say how sure the raters are; `kto`, `apo_zero`
and `kto_identity` run off towards one answer, whatever the share. A reward cannot pass
-beta log pi_ref: where a low beta keeps it from its place, the policy goes to the end of what
it can.

{table}
**For users.** Where raters disagree and the majority is to win, kto; where the share itself should
show in the policy, bce or bco. `thumbs check --model` tells on how many prompts of a file dpo would
side with the minority.
"""


def _halo(found: Mapping[str, Any]) -> str:
    rows = []
    for name, loss in found["losses"].items():
        why = "; ".join(
            FAILURES[check] + ("" if len(labels) > 1 else f" ({labels[0]} rows)")
            for check, labels in loss["failed"].items()
        )
        relaxed = loss["member_if"]
        if loss["member"]:
            then = ""
        elif relaxed is None:
            then = "in none of the relaxed forms"
        else:
            then = "if " + " and ".join(DROPPED[change] for change in relaxed)
        rows.append([f"`{name}`", "yes" if loss["member"] else "no", why, then])
    members = [f"`{name}`" for name, loss in found["losses"].items() if loss["member"]]
    return f"""## Which losses are human-aware losses

Definition 3.4: a loss is one where it is the mean of a v(r - E_Q[r]) plus a constant, a = +1 or -1
by row, v never falling and concave above 0. Each loss is called on rows whose log-ratio, reference
point, reference log-probs and tokens are moved in turn, and its slopes tell what it depends on.
A row of a loss of pairs is the desirable answer, and Q a point mass on the other one.

By the letter: {", ".join(members)}. v' of those:

![Slope of the value by the distance from the reference point](theory/halo.svg)

{_table(("loss", "by the letter", "what fails", "member"), rows)}
This looks at whole answers. The paper counts PPO-Clip as a member with the state's value as
reference point, token by token; `ppo_offline` is not one of whole answers. What a loss is worth in
training is a matter of experiments, not of membership.
"""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _apart(nats: float) -> str:
    return f"at most {_number(nats)} nats from" if nats else "to nine digits that of"


def _policy(policy: Sequence[float]) -> str:
    return "(" + ", ".join(f"{share:.3f}" for share in policy) + ")"


def _number(value: float) -> str:
    return f"{value:.3g}"
