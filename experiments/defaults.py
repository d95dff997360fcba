"""What the experiments say about the defaults: a section of docs/reproduction.md.

In: the records. Out: Markdown, with the figures each sentence stands on.
"""

from experiments.claims import FAILS, HOLDS, Records, verdict
from experiments.methods import best_rate, mean_accuracies
from experiments.recording import Record, chosen, lead
from experiments.tables import plot, points, row
from experiments.x4_imbalance import ONES, RULE, STEEP, counts
from experiments.x4_imbalance import condition as votes_in
from experiments.x11_beta import name_of
from thumbs.config import LossConfig
from thumbs.demo.embedded import DEMO_SETTINGS
from thumbs.feedback.balance import auto_weights

NO_LOSS = ("KTO", "KTO, one answer", "SFT base")


def defaults(records: Records) -> str:
    """The section."""
    lines = [
        "## What this says about the defaults",
        "",
        f"- `loss.name`: {_loss(records)}",
        *(
            f"- `auto` weights, desirable : undesirable {ratio}: {_weights(records, ratio)}"
            for ratio in ("1:3", "1:10", "3:1", "10:1")
        ),
        f"- `loss.beta`: {_beta(records)}",
        "- `train.learning_rate`: 5e-6 is for 8B parameters and cannot be tested on 1M; what the "
        f"demo sets is {DEMO_SETTINGS['train.learning_rate']:g}, below the best of the table, so "
        "that its likeliest answers get no worse. The rates that did best on the validation split "
        "(300 problems, three seeds) are below.",
        "",
        _chosen_rates(records),
        "",
    ]
    return "\n".join(lines)


def _loss(records: Records) -> str:
    """Which losses do better than the default, on clean and on noisy votes."""
    default = LossConfig().name
    told = []
    for name, words, condition in (
        ("x1_methods", "clean votes", {}),
        ("x2_label_noise", "25 % turned round", {"flips": 0.25}),
    ):
        record = records[name]
        own = chosen(record["outcomes"], condition=condition) if record else []
        if chosen(own, method="KTO"):
            others = dict.fromkeys(o["method"] for o in own if o["method"] not in NO_LOSS)
            leads = {m: lead(own, {"method": m}, {"method": "KTO"}) for m in others}
            ahead = [f"{m} {points(a, unit='')}" for m, a in leads.items() if verdict(a) == HOLDS]
            told.append(f"{words}: {', '.join(ahead) or 'none'}")
    if not told:
        return f"the default is `{default}`; not run."
    return (
        f"the default is `{default}`. Ahead of it by so many points and the whole interval, each "
        f"at its tuned rate, on {'; on '.join(told)}. It stays, as what this tool is for: people's "
        "votes are noisy. Where they are mostly right, `sft` on the desirable answers is the "
        "baseline to beat."
    )


def _weights(records: Records, ratio: str) -> str:
    """Whether `auto` does right at this ratio: it raises the rare label's weight, or leaves it."""
    raised = auto_weights(*counts(ratio))[0] > 1
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
        more = f" Four times the rule against the rule: {points(steep)}"
        more += "; worth a try." if verdict(steep) == HOLDS else "."
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
        for told, method, cells, taken in _tuned(record) if record else []:
            line = row(told, method, cells, taken)
            if line not in seen and name != "x2_again":
                seen.add(line)
                lines.append(line)
    return "\n".join(lines) if seen else "No rate was tuned yet."


def _tuned(record: Record) -> list[tuple[str, str, str, str]]:
    tuning = record.get("tuning", [])
    groups = dict.fromkeys((o["start"], str(o["condition"]), o["method"]) for o in tuning)
    found = []
    for group in groups:
        own = [o for o in tuning if (o["start"], str(o["condition"]), o["method"]) == group]
        means = mean_accuracies(own)
        best = best_rate(own)
        edge = best in (min(means), max(means))
        found.append(
            (
                told_condition(own[0]["condition"]) + told_start(own[0]["start"]),
                own[0]["method"],
                ", ".join(f"{rate:g}: {mean:.1%}" for rate, mean in means.items()),
                f"{best:g}" + (", the end of the grid" if edge else ""),
            )
        )
    return found


def told_condition(found: dict[str, object]) -> str:
    """A condition in words."""
    return ", ".join(f"{key} {value}" for key, value in found.items()) or "clean votes"


def told_start(start: str) -> str:
    """The model that the votes train, where it is not the demo's."""
    return "" if start == "embedded" else f"; from: {start}"
