"""What the experiments say about the defaults: a section of docs/reproduction.md.

In: the records. Out: Markdown, with the figures each sentence stands on.
"""

from experiments.claims import FAILS, HOLDS, Records, verdict
from experiments.methods import best_rate, mean_accuracies
from experiments.recording import Record, chosen, lead
from experiments.tables import plot, points, row
from experiments.x4_imbalance import condition as votes_in
from experiments.x11_beta import name_of
from thumbs.config import LossConfig
from thumbs.demo.embedded import DEMO_SETTINGS

RULE, ONES, STEEP = "KTO, rule", "KTO, weights 1", "KTO, 4 x rule"


def defaults(records: Records) -> str:
    """The section."""
    lines = [
        "## What this says about the defaults",
        "",
        f"- `auto` weights, few desirable votes: {_weights(records, '1:10', raised=True)}",
        f"- `auto` weights, few undesirable votes: {_weights(records, '10:1', raised=False)}",
        f"- `loss.beta`: {_beta(records)}",
        "- `train.learning_rate`: 5e-6 is for 8B parameters and cannot be tested on 1M; what the "
        f"demo sets is {DEMO_SETTINGS['train.learning_rate']:g}. The rates that did best on the "
        "validation split (300 problems, three seeds) are below.",
        "",
        _chosen_rates(records),
        "",
    ]
    return "\n".join(lines)


def _weights(records: Records, ratio: str, *, raised: bool) -> str:
    """Whether `auto` does right at this ratio: it raises the rare label's weight, or leaves it."""
    record = records["x4_imbalance"]
    own = {"condition": votes_in(ratio).describe()}
    if record is None or not all(chosen(record["outcomes"], method=m, **own) for m in (RULE, ONES)):
        return f"not run at {ratio}."
    rule = lead(record["outcomes"], {"method": RULE, **own}, {"method": ONES, **own})
    told = verdict(rule)
    does = "raises the rare label's weight" if raised else "leaves the weights at 1"
    if told not in (HOLDS, FAILS):
        judged = "neither is shown to be better, so it may stay"
    else:
        judged = "supported" if (told == HOLDS) == raised else "contradicted: it should change"
    more = ""
    if chosen(record["outcomes"], method=STEEP, **own):
        steep = lead(record["outcomes"], {"method": STEEP, **own}, {"method": RULE, **own})
        more = f" Four times the rule against the rule: {points(steep)}."
    return f"it {does}. The rule against weights 1 at {ratio}: {points(rule)}; {judged}.{more}"


def _beta(records: Records) -> str:
    """Whether another beta does better than the default, on clean and on noisy votes."""
    record = records["x11_beta"]
    default = LossConfig().beta
    if record is None or not chosen(record["outcomes"], method=name_of(default)):
        return f"no experiment varied it, so {default:g} rests on the paper alone."
    told = []
    for words, condition in (("clean votes", {}), ("25 % turned round", {"flips": 0.25})):
        own = chosen(record["outcomes"], condition=condition)
        others = dict.fromkeys(o["method"] for o in own if o["method"] != name_of(default))
        leads = [
            f"{name} {points(lead(own, {'method': name}, {'method': name_of(default)}), unit='')}"
            for name in others
        ]
        told.append(f"{words}: {', '.join(leads)}")
    return (
        f"the default is {default:g}. At one learning rate, ahead of it by so many points on "
        f"{'; on '.join(told)}. The default stays the paper's, which is of models of 7B and more; "
        "where one of these leads is above 0, it is worth a try on data of one's own."
        f"\n\n  {plot('x11_beta', 'accuracy by beta')}\n"
    )


def _chosen_rates(records: Records) -> str:
    """Which rate each method took, in which condition, and what the others gave."""
    lines = [row("condition", "method", "accuracy on the validation split by rate", "taken")]
    lines.append(row(*["---"] * 4))
    seen = set()
    for name, record in records.items():
        for condition_text, method, cells, taken in _tuned(record) if record else []:
            line = row(condition_text, method, cells, taken)
            if line not in seen and name != "x2_again":
                seen.add(line)
                lines.append(line)
    return "\n".join(lines) if seen else "No rate was tuned yet."


def _tuned(record: Record) -> list[tuple[str, str, str, str]]:
    tuning = record.get("tuning", [])
    groups = dict.fromkeys((str(o["condition"]), o["method"]) for o in tuning)
    found = []
    for condition_text, method in groups:
        own = [o for o in tuning if (str(o["condition"]), o["method"]) == (condition_text, method)]
        means = mean_accuracies(own)
        best = best_rate(own)
        edge = best in (min(means), max(means))
        found.append(
            (
                told_condition(own[0]["condition"]),
                method,
                ", ".join(f"{rate:g}: {mean:.1%}" for rate, mean in means.items()),
                f"{best:g}" + (", the end of the grid" if edge else ""),
            )
        )
    return found


def told_condition(found: dict[str, object]) -> str:
    """A condition in words."""
    return ", ".join(f"{key} {value}" for key, value in found.items()) or "clean votes"
