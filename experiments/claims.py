"""The claims of docs/reproduction.md, one section each, from the records of the experiments.

In: the records, by name; None where an experiment was not run. Out: Markdown. What a record lacks
is said to be not run; nothing is filled in.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from experiments.published import (
    DPO_7B,
    DPO_30B,
    DPO_MISTRAL,
    KTO_7B,
    KTO_30B,
    KTO_MISTRAL,
    ONE_Y_MISTRAL,
    TENTH,
    ZEPHYR,
    compare,
)
from experiments.recording import Record, accuracy, chosen, lead
from experiments.resampling import Interval
from experiments.tables import has_methods, method_table, plot, points, row, share, student
from experiments.x4_imbalance import condition, weighted

HOLDS, FAILS, UNTOLD = "holds", "does not hold", "cannot be told at this scale"
NOT_RUN = "not run"
Records = Mapping[str, Record | None]


@dataclass(frozen=True)
class Claim:
    """One claim: what the paper says, what was measured, the verdict of that."""

    title: str
    published: str
    body: str
    verdict: str

    def section(self) -> str:
        return (
            f"### {self.title}\n\n- Paper: {self.published}\n- Verdict: **{self.verdict}**.\n\n"
            f"{self.body}\n"
        )


def not_run(title: str, published: str, command: str) -> Claim:
    return Claim(title, published, f"Not run. `{command}` runs it.", NOT_RUN)


def verdict(interval: Interval) -> str:
    """Whether a difference that should be positive is: by which side of 0 its interval lies."""
    _, low, high = interval
    return HOLDS if low > 0 else FAILS if high < 0 else UNTOLD


def claims(records: Records) -> list[Claim]:
    """All claims, in the order of the experiments."""
    makers: Sequence[Callable[[Records], Claim]] = (
        *(_methods, _noise, _contradictions, _undesirable_heavy, _desirable_heavy),
        *(_ablations, _rates, _one_answer, _without_sft, _sizes),
    )
    return [make(records) for make in makers]


# ---- X1


def _methods(records: Records) -> Claim:
    title = "X1. KTO is as good as DPO or better, from votes on single answers"
    published = (
        f"GSM8K {ZEPHYR['KTO']['GSM8K']:.1%} against {ZEPHYR['DPO']['GSM8K']:.1%} (Zephyr, one "
        f"run); judged wins {KTO_7B.rate:.3f} against {DPO_7B.rate:.3f} (Llama-7B without SFT)"
    )
    record = records["x1_methods"]
    if record is None or not has_methods(record, "KTO", "DPO"):
        return not_run(title, published, "python -m experiments.x1_methods")
    found = record["outcomes"]
    ahead = lead(found, {"method": "KTO"}, {"method": "DPO"})
    names = list(dict.fromkeys(o["method"] for o in found))
    lines = [
        "Clean votes, each method at its tuned rate.",
        "",
        method_table(record, [{"method": name} for name in names], rival="KTO"),
        "",
        f"KTO - DPO: {points(ahead)}.{_against(found, 'SFT on positives')}",
    ]
    return Claim(title, published, "\n".join(lines), verdict(ahead))


def _against(found: Sequence[Any], rival: str) -> str:
    if not chosen(found, method=rival):
        return ""
    return f" KTO - {rival}: {points(lead(found, {'method': 'KTO'}, {'method': rival}))}."


# ---- X2


def _noise(records: Records) -> Claim:
    title = "X2. KTO bears wrong labels better than DPO"
    published = "argued from theorem 4.3 and from noisy public feedback; no table of its own"
    record = records["x2_label_noise"]
    if record is None or not has_methods(record, "KTO", "DPO"):
        return not_run(title, published, "python -m experiments.x2_label_noise")
    found = record["outcomes"]
    main = {"condition": {"flips": 0.25}}
    rivals = [m for m in ("DPO", "SFT on positives", "BCO") if chosen(found, method=m, **main)]
    leads = {
        rival: lead(found, {"method": "KTO", **main}, {"method": rival, **main}) for rival in rivals
    }
    levels = sorted({o["condition"].get("flips", 0.0) for o in found})
    lines = []
    for level in levels:
        flips = {"flips": level} if level else {}
        names = list(dict.fromkeys(o["method"] for o in chosen(found, condition=flips)))
        wanted = [{"method": name, "condition": flips} for name in names]
        lines += [f"{level:.0%} of the votes turned round:", ""]
        lines += [method_table(record, wanted, rival="KTO"), ""]
    missing = [f"{share:.0%}" for share in (0.0, 0.1, 0.4) if share not in levels]
    if missing:
        lines += [f"Not run: {', '.join(missing)}.", ""]
    lines += [f"- KTO - {rival} at 25 %: {points(found)}." for rival, found in leads.items()]
    lines += ["", _again(records, record), "", plot("x2_label_noise", "accuracy by method")]
    return Claim(title, published, "\n".join(lines), verdict(leads["DPO"]))


def _again(records: Records, record: Record) -> str:
    """Whether new seeds give a mean inside the interval, widened by half their own."""
    again = records["x2_again"]
    if again is None:
        return "Not run again with new seeds."
    main = {"condition": {"flips": 0.25}}
    lines = [
        "Run again from scratch with the new seeds "
        f"{', '.join(map(str, again['seeds']))}; inside means that the new mean lies in the "
        "interval above, widened on both sides by half the width of the new one.",
        "",
        row("method", "published", "again", "inside"),
        row(*["---"] * 4),
    ]
    for method in dict.fromkeys(o["method"] for o in again["outcomes"]):
        old = accuracy(record["outcomes"], method=method, **main)
        new = accuracy(again["outcomes"], method=method, **main)
        inside = "yes" if lies_inside(old, new) else "no"
        lines.append(row(method, share(old), share(new), inside))
    return "\n".join(lines)


def lies_inside(old: Interval, new: Interval) -> bool:
    """Whether the mean of `new` lies in `old` widened by half the width of `new` on each side."""
    half = (new[2] - new[1]) / 2
    return old[1] - half <= new[0] <= old[2] + half


# ---- X3


def _contradictions(records: Records) -> Claim:
    title = "X3. Under contradicting raters KTO gives the majority's answer, DPO may not"
    published = "theorem 4.3: DPO's optimum keeps the minority's answer beyond a predicted ratio"
    record = records["x3_contradictions"]
    if record is None or not record["table"]:
        return not_run(title, published, "python -m experiments.x3_contradictions")
    lines = [
        "Both sides of a crossing are ratios pi_ref(minority) / pi_ref(majority); seven questions "
        "a run, intervals over seeds (Student's t, of the logarithm). Above the crossing the "
        "minority's answer stays the likelier one. The last column is the least probability of the "
        "majority's answer over the questions, the mean of the seeds. A run is converged where its "
        "last gradient is under a thousandth of its first; those that are not are in the numbers.",
        "",
        row("votes", "beta", "loss", "predicted", "measured", "runs", "converged", "least p"),
        row(*["---"] * 8),
    ]
    right, kto = [], []
    for line in record["table"]:
        measured = [value for value in line["measured"] if value is not None]
        found = student(measured) if measured else None
        predicted = line["predicted"]
        least = statistics.fmean(line["least_probability_a"])
        if line["method"] == "DPO":
            right.append(found is not None and abs(found[0] - predicted) < 0.1)
        else:
            kto.append(least > 0.5)
        lines.append(
            row(
                "{} : {}".format(*line["votes"]),
                f"{line['beta']:g}",
                line["method"],
                "none" if predicted is None else f"{_exp(predicted):.3g}",
                "none" if found is None else "{:.3g} ({:.3g} to {:.3g})".format(*map(_exp, found)),
                str(len(line["measured"])),
                str(line["converged"]),
                f"{least:.3f}",
            )
        )
    agreed = all(right) and all(kto) and bool(right) and bool(kto)
    lines += [
        "",
        f"Crossings of DPO within a tenth of a nat of the prediction: {sum(right)} of "
        f"{len(right)}. Settings where KTO makes the majority's answer the likelier one for every "
        f"question: {sum(kto)} of {len(kto)}.",
        "",
        plot("x3_contradictions", "log-odds of the majority's answer"),
    ]
    return Claim(title, published, "\n".join(lines), HOLDS if agreed else FAILS)


def _exp(value: float) -> float:
    return math.exp(value)


# ---- X4


def _undesirable_heavy(records: Records) -> Claim:
    title = "X4a. With few desirable votes their weight should be raised (the paper's rule)"
    published = (
        "lambda_D n_D / (lambda_U n_U) in [1, 3/2]; with 10 % of the desirable answers wins "
        f"{TENTH.rate:.3f} against DPO's {DPO_7B.rate:.3f} (p {compare(TENTH, DPO_7B)['p']:.2f})"
    )
    return _imbalance(records, title, published, ("1:3", "1:10", "1:50"), "1:10")


def _desirable_heavy(records: Records) -> Claim:
    title = "X4b. With few undesirable votes their weight should be raised (the paper's rule)"
    published = "the same rule, from the other side"
    claim = _imbalance(records, title, published, ("3:1", "10:1", "50:1"), "10:1")
    if claim.verdict == NOT_RUN:
        return claim
    return replace(claim, body=f"{claim.body}\n\n{plot('x4_imbalance', 'accuracy by weight')}")


def _imbalance(
    records: Records, title: str, published: str, ratios: Sequence[str], main: str
) -> Claim:
    record = records["x4_imbalance"]
    rule, ones = "KTO, rule", "KTO, weights 1"
    at_main = condition(main).describe()
    if record is None or not all(
        chosen(record["outcomes"], method=m, condition=at_main) for m in (rule, ones)
    ):
        return not_run(title, published, f"python -m experiments.x4_imbalance --ratios {main}")
    found = record["outcomes"]
    lines = []
    for ratio in ratios:
        own = {"condition": condition(ratio).describe()}
        names = list(dict.fromkeys(o["method"] for o in chosen(found, **own)))
        if not names:
            lines += [f"{ratio}: not run.", ""]
            continue
        wanted = [{"method": name, **own} for name in names]
        lines += [f"Desirable : undesirable {ratio}:", ""]
        lines += [method_table(record, wanted, rival=rule), ""]
        missing = [name for name in weighted(ratio) if name not in names]
        if missing:
            lines += [f"Not run at {ratio}: {', '.join(missing)}.", ""]
    ahead = lead(
        found, {"method": rule, "condition": at_main}, {"method": ones, "condition": at_main}
    )
    lines.append(f"The rule - weights 1 at {main}: {points(ahead)}.")
    same = records["x4_one_rate"]
    if same is not None and chosen(same["outcomes"], method=rule, condition=at_main):
        wanted = [{"method": name, "condition": at_main} for name in (rule, ones)]
        lines += [
            "",
            "A rate that one tuning seed likes may be wild on others, so here with one rate for "
            f"both:\n\n{method_table(same, wanted, rival=rule)}",
            "",
            f"At one rate the rule - weights 1: {points(lead(same['outcomes'], *wanted))}.",
        ]
    return Claim(title, published, "\n".join(lines), verdict(ahead))


# ---- X5 to X9


def _ablations(records: Records) -> Claim:
    title = "X5. Every part of KTO is needed"
    published = (
        f"without z0 GSM8K {ZEPHYR['no z0']['GSM8K']:.1%} instead of "
        f"{ZEPHYR['KTO']['GSM8K']:.1%}, BBH {ZEPHYR['no z0']['BBH']:.1%} instead of "
        f"{ZEPHYR['KTO']['BBH']:.1%} (4.0 and 3.6 points; secondary sources swap them)"
    )
    record = records["x5_ablations"]
    if record is None or not has_methods(record, "KTO", "APO-zero"):
        return not_run(title, published, "python -m experiments.x5_ablations")
    found = record["outcomes"]
    lines, verdicts = [], []
    for name, is_off in (("Off-policy, a new form", True), ("On-policy", False)):
        own = [o for o in found if ("form" in o["condition"]) == is_off]
        if not own:
            lines += [f"{name}: not run.", ""]
            continue
        active = statistics.fmean(o["z0_active"] for o in own if o["method"] == "KTO")
        regime = own[0]["condition"]
        names = list(dict.fromkeys(o["method"] for o in own))
        wanted = [{"method": n, "condition": regime} for n in names]
        lines += [f"{name}; KTO's z0 is above 0 in {active:.0%} of its steps:", ""]
        lines += [method_table(record, wanted, rival="KTO"), ""]
        parts = ({"method": m, "condition": regime} for m in ("KTO", "APO-zero"))
        verdicts.append(verdict(lead(found, *parts)))
    lines.append("APO-zero is KTO without z0.")
    return Claim(title, published, "\n".join(lines), f"z0: {verdicts[0]}")


def _rates(records: Records) -> Claim:
    title = "X6. KTO's best learning rate is 2 to 10 times DPO's"
    published = "5e-6 for KTO with 8B parameters, 2 to 10 times DPO's best"
    record = records["x6_learning_rate"]
    if record is None or not has_methods(record, "KTO", "DPO"):
        return not_run(title, published, "python -m experiments.x6_learning_rate")
    found = record["outcomes"]
    rates = sorted({o["learning_rate"] for o in found})
    lines = [row("rate", "KTO", "DPO"), row(*["---"] * 3)]
    for rate in rates:
        cells = [
            share(accuracy(found, method=m, learning_rate=rate))
            if chosen(found, method=m, learning_rate=rate)
            else "not run"
            for m in ("KTO", "DPO")
        ]
        lines.append(row(f"{rate:g}", *cells))
    best = {method: best_rates(found, method) for method in ("KTO", "DPO")}
    ratios = [best["KTO"][s] / best["DPO"][s] for s in best["KTO"].keys() & best["DPO"].keys()]
    middle = statistics.median(ratios)
    told = ", ".join(f"{ratio:.3g}" for ratio in sorted(ratios))
    lines += ["", plot("x6_learning_rate", "accuracy by rate")]
    lines += ["", f"KTO's best rate over DPO's, seed by seed: {told}; median {middle:.3g}."]
    return Claim(title, published, "\n".join(lines), HOLDS if 2 <= middle <= 10 else FAILS)


def best_rates(found: Sequence[Any], method: str) -> dict[int, float]:
    """By seed the rate of the highest accuracy; of equals the lowest."""
    best: dict[int, Any] = {}
    for outcome in sorted(chosen(found, method=method), key=lambda o: o["learning_rate"]):
        seed = outcome["seed"]
        if seed not in best or outcome["accuracy"] > best[seed]["accuracy"]:
            best[seed] = outcome
    return {seed: outcome["learning_rate"] for seed, outcome in best.items()}


def _one_answer(records: Records) -> Claim:
    title = "X7. One answer per prompt is enough"
    p = compare(ONE_Y_MISTRAL, DPO_MISTRAL)["p"]
    published = (
        f"wins {ONE_Y_MISTRAL.rate:.3f} with one answer per prompt, {KTO_MISTRAL.rate:.3f} with "
        f"all, DPO {DPO_MISTRAL.rate:.3f} (one answer against DPO: p {p:.2f})"
    )
    record = records["x7_one_answer"]
    if record is None or not has_methods(record, "KTO", "KTO, one answer"):
        return not_run(title, published, "python -m experiments.x7_one_answer")
    found = record["outcomes"]
    names = list(dict.fromkeys(o["method"] for o in found))
    ahead = lead(found, {"method": "KTO, one answer"}, {"method": "KTO"})
    lines = [
        method_table(record, [{"method": name} for name in names], rival="KTO"),
        "",
        f"One answer - four answers, as many votes: {points(ahead)}. The claim holds where the "
        "interval leaves no loss of more than 2 points.",
    ]
    told = HOLDS if ahead[1] > -0.02 else FAILS if ahead[2] < -0.02 else UNTOLD
    return Claim(title, published, "\n".join(lines), told)


def _without_sft(records: Records) -> Claim:
    title = "X8. KTO does without SFT, DPO does not"
    published = "KTO alone comes near SFT and KTO (Llama-13B, 30B); DPO alone tends to ramble"
    record = records["x8_without_sft"]
    first, second = {"method": "KTO without SFT"}, {"method": "DPO without SFT"}
    if record is None or not has_methods(record, first["method"], second["method"]):
        return not_run(title, published, "python -m experiments.x8_without_sft")
    found = record["outcomes"]
    names = list(dict.fromkeys(o["method"] for o in found))
    ahead = lead(found, first, second)
    lines = [
        method_table(record, [{"method": name} for name in names], rival=first["method"]),
        "",
        f"KTO - DPO, both without SFT: {points(ahead)}.",
    ]
    return Claim(title, published, "\n".join(lines), verdict(ahead))


def _sizes(records: Records) -> Claim:
    title = "X9. KTO's lead over DPO appears with size"
    leads = (compare(KTO_7B, DPO_7B), compare(KTO_30B, DPO_30B))
    told = " and ".join(f"{100 * found['difference']:+.1f} points" for found in leads)
    published = f"judged wins of KTO less those of DPO, without SFT: {told} at 7B and 30B"
    record = records["x9_model_size"]
    if record is None or not record["outcomes"]:
        return not_run(title, published, "make reproduce-x9")
    names = list(dict.fromkeys(o["method"] for o in record["outcomes"]))
    table = method_table(record, [{"method": name} for name in names])
    return Claim(title, published, table, UNTOLD)
