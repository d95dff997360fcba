"""The report's sentences and number formats: what the numbers say, in plain words.

In: `RunRecord`s. Out: text, not yet escaped. No claim goes further than its interval.
"""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from thumbs.report.run_record import RunRecord

MISSING = "—"
CHANCE = 0.5  # AUC of a coin
SPACE = "\u00a0"  # where a line must not break
BASELINES = {
    "reference_mean_token_logp": "the untrained model's own probability",
    "completion_tokens": "the length of the answer",
}


@dataclass(frozen=True)
class Headline:
    """claim: one line, the result. detail: what was trained on what, and how sure the claim is."""

    claim: str
    detail: str


def number(value: Any, digits: int = 3) -> str:
    """1234 as 1,234; 0.71249 as 0.712; 0.0000125 as 1.25e-05; what is missing as a dash."""
    if value is None:
        return MISSING
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if float(value).is_integer() and abs(value) >= 1000:
        return f"{value:,.0f}"
    if value != 0 and abs(value) < 10.0**-digits:
        return f"{value:.{max(digits - 1, 0)}e}"
    return f"{value:,.{digits}f}"


def percent(share: float | None) -> str:
    """0.7125 as 71.2 %."""
    return MISSING if share is None else f"{100 * share:.1f}{SPACE}%"


def between(ends: list[float] | None, *, shares: bool = False, digits: int = 3) -> str:
    """The ends of an interval: `0.661 to 0.764`; "" where there is none or it has no width."""
    if not ends or ends[0] == ends[1]:
        return ""
    low, high = (percent(end) if shares else number(end, digits) for end in ends)
    return f"{low} to{SPACE}{high}"


def with_interval(value: float | None, ends: list[float] | None) -> str:
    """`0.713 (0.661 to 0.764)`."""
    inside = between(ends)
    return f"{number(value)} ({inside})" if inside else number(value)


def duration(seconds: float | None) -> str:
    """192.4 as 3 min 12 s."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = (hours, "h", minutes, "min") if hours else (minutes, "min", rest, "s")
    return SPACE.join(map(str, parts))


def headline(runs: list[RunRecord]) -> Headline:
    """What the page is about, before anything else."""
    if len(runs) > 1:
        unfinished = sum(not run.finished for run in runs)
        waiting = f" {unfinished} of them still in progress." if unfinished else ""
        return Headline(f"{len(runs)} runs side by side", f"Their curves are overlaid.{waiting}")
    run = runs[0]
    if not run.finished:
        num_steps = len(run.steps)
        claim = f"In progress: {number(num_steps)} {'step' if num_steps == 1 else 'steps'} so far"
        return Headline(claim, _trained(run, "is being trained"))
    if run.summary.get("demo"):
        return _demo_headline(run, run.summary["demo"])
    return _heldout_headline(run)


def z0_answer(run: RunRecord) -> str:
    """How often z0 was 0 and whether that is normal; "" for a loss without z0."""
    _, z0 = run.column("z0")
    _, raw = run.column("z0_raw")
    if not z0 or not raw:
        return ""
    zero = fmean(value == 0 for value in z0)
    if zero == 0:
        return (
            f"z0 was above 0 on every step, {number(z0[-1])} nats at the end: training has made "
            "the model more likely than the reference to give answers that belong to other "
            "prompts. Each answer is judged against that shift, not against 0."
        )
    return (
        f"z0 was 0 on {percent(zero)} of the steps. Is that normal? Yes: z0 estimates, in nats, "
        "how much more likely the model has become to give answers that belong to other prompts, "
        "and it is never allowed below 0. It stays at 0 when training moves the model away from "
        "such answers, which is common when the rated answers came from this model or from data "
        "it was tuned on before. Each answer is then judged against the reference itself. "
        f"Lowest raw estimate: {number(min(raw))} nats."
    ) + (
        f" It was estimated on {number(len(raw))} of {number(len(z0))} steps: loss.z0.estimator="
        "adaptive leaves it out where it would have come out below 0."
        if len(raw) < len(z0)
        else ""
    )


def notices(run: RunRecord) -> list[str]:
    """What a reader must know before trusting the numbers: the run's warnings and our own."""
    found = [str(warning) for warning in run.data.get("warnings") or []]
    if not run.finished:
        found.insert(0, "This run has not finished: there is no summary yet. Render again later.")
    model_step, steps = run.summary.get("model_step"), run.summary.get("steps")
    if model_step is not None and steps is not None and model_step < steps:
        found.append(
            f"The model is that of step {number(model_step)}, whose held-out AUC was best; "
            f"training went on to step {number(steps)}. An AUC that was picked as the best of "
            "several is a little too good: measure it on other feedback."
        )
    up, down = (run.column(f"reward_{label}")[1] for label in ("desirable", "undesirable"))
    ends = [fmean(values[-max(1, len(values) // 5) :]) for values in (up, down) if values]
    if len(ends) == 2 and max(ends) < 0:
        found.append(
            f"Rewards of both labels ended below 0 ({number(ends[0])} desirable, {number(ends[1])} "
            "undesirable): the model now avoids both kinds of answer. If answers got worse, lower "
            "train.learning_rate."
        )
    return found


def baseline_verdict(after: dict[str, Any]) -> str:
    """Whether the trained reward beats the best score that needs no training; "" if unknown."""
    rivals = [
        (max(found["auc"], 1 - found["auc"]), name, found)
        for name, found in (after.get("baselines") or {}).items()
        if found.get("auc") is not None
    ]
    if after.get("auc") is None or not rivals:
        return ""
    strongest, name, found = max(rivals, key=lambda rival: rival[0])
    rival = f"{BASELINES.get(name, name)} alone ({percent(strongest)})"
    low, high = found.get("gain_ci") or (-1.0, 1.0)
    if low > 0:
        return f"The trained reward beats {rival}."
    if high < 0:
        return f"The trained reward is worse than {rival}."
    return f"The trained reward cannot be told from {rival}: the difference may be chance."


def _demo_headline(run: RunRecord, demo: dict[str, Any]) -> Headline:
    low, high = demo["ci_low"], demo["ci_high"]
    before, after = percent(demo["before"]), percent(demo["after"])
    if low > 0:
        claim, verdict = f"{after} of unseen problems solved, up from {before}", "better"
    elif high < 0:
        claim, verdict = f"{after} of unseen problems solved, down from {before}", "worse"
    else:
        claim = f"{after} of unseen problems solved, {before} before: no measurable difference"
        verdict = "not distinguishable from no change"
    change = (
        f"Difference {100 * demo['difference']:+.1f} points, 95 % interval {100 * low:+.1f} to "
        f"{100 * high:+.1f}: {verdict}."
    )
    greedy = ""
    if demo.get("greedy_before") is not None and demo.get("greedy_after") is not None:
        greedy = (
            f" Without sampling (greedy): {percent(demo['greedy_after'])}, "
            f"{percent(demo['greedy_before'])} before."
        )
    return Headline(claim, f"{_trained(run, 'was trained')} {change}{greedy}")


def _heldout_headline(run: RunRecord) -> Headline:
    before, after = run.heldout("before"), run.heldout("after")
    trained = _trained(run, "was trained")
    auc = after.get("auc")
    if auc is None:
        why = (after.get("missing") or {}).get("auc", "no rows were held out")
        return Headline("Trained, but not measured", f"{trained} No held-out AUC: {why}.")
    ends = after.get("auc_ci")
    claim = (
        f"The desirable answer ranks above the undesirable one in {percent(auc)} of unseen cases"
    )
    if before.get("auc") is not None:
        claim += f", {percent(before['auc'])} before"
    if ends and ends[0] <= CHANCE <= ends[1]:
        claim += ": not distinguishable from chance"
    sure = f"95 % interval {between(ends, shares=True)}: {_against_chance(ends)}." if ends else ""
    return Headline(claim, " ".join(filter(None, [trained, sure, baseline_verdict(after)])))


def _against_chance(ends: list[float]) -> str:
    if ends[0] > CHANCE:
        return "better than chance"
    return "worse than chance" if ends[1] < CHANCE else "not distinguishable from chance"


def _trained(run: RunRecord, verb: str) -> str:
    data = run.data
    model = run.config.get("model.name_or_path") or run.summary.get("model") or "The model"
    loss = str(run.config.get("loss.name", "")).upper().replace("_", "-")
    how = f" with {loss}" if loss and ":" not in loss else ""
    rows = data.get("train_rows")
    if rows is None:
        return f"{model} {verb}{how}."
    up, down = data.get("desirable"), data.get("undesirable")
    split = f" ({number(up)} desirable, {number(down)} undesirable)" if up is not None else ""
    return f"{model} {verb}{how} on {number(rows)} rated answers{split}."


def cut(text: str, most: int) -> str:
    """Text of at most `most` characters, its end marked where some is left out."""
    return text if len(text) <= most else f"{text[: most - 4].rstrip()} ..."
