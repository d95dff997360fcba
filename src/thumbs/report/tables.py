"""The report's tables, as text cells: held-out numbers, data, speed, origin, several runs compared.

In: `RunRecord`s. Out: `Table`s, not yet escaped.
"""

from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from thumbs.report.run_record import RunRecord
from thumbs.report.wording import (
    BASELINES,
    MISSING,
    between,
    cut,
    duration,
    number,
    percent,
    with_interval,
)

SHOWN_TEXT = 240  # characters of a prompt or an answer
_HELDOUT_ROWS = [
    ("auc", "AUC", "chance that a desirable answer outranks an undesirable one"),
    ("auc_within_prompt", "AUC within a prompt", "the same, among answers to one prompt"),
    ("accuracy", "Accuracy", "rows on the right side of z0"),
    ("margin", "Margin, nats", "mean log-ratio of desirable minus undesirable answers"),
]


@dataclass(frozen=True)
class Table:
    """The first cell of each row is its header; notes: small print below some of them."""

    caption: str
    headers: list[str]
    rows: list[list[str]]
    notes: dict[str, str] = field(default_factory=dict)


def heldout_table(run: RunRecord) -> Table | None:
    """Before and after training, with intervals, a missing number replaced by its reason."""
    before, after = run.heldout("before"), run.heldout("after")
    if not before and not after:
        return None
    rows = [[name, _measured(before, key), _measured(after, key)] for key, name, _ in _HELDOUT_ROWS]
    rows.append(["Saturated", *(percent(side.get("saturation")) for side in (before, after))])
    notes = {name: note for _, name, note in _HELDOUT_ROWS}
    notes["Saturated"] = "rows so far from z0 that they hardly teach any more"
    known = after or before
    caption = (
        f"{number(known.get('n'))} held-out answers to {number(known.get('num_prompts'))} prompts "
        f"({number(known.get('num_desirable'))} desirable, {number(known.get('num_undesirable'))} "
        "undesirable); in brackets 95 % intervals that draw whole prompts"
    )
    return Table(caption, ["Measure", "Before", "After"], rows, notes)


def baseline_table(run: RunRecord) -> Table | None:
    """AUC on the same rows of scores that need no training."""
    baselines = (run.heldout("after") or run.heldout("before")).get("baselines") or {}
    rows = [
        [
            _capital(BASELINES.get(key, key)),
            with_interval(found["auc"], found.get("auc_ci")),
            with_interval(found.get("gain"), found.get("gain_ci")),
        ]
        for key, found in baselines.items()
        if found.get("auc") is not None
    ]
    caption = (
        "The bar to pass: scores on the same rows that need no training. "
        "Far below 0.5 counts as much as far above: the score then works upside down."
    )
    return Table(caption, ["Score", "AUC", "The model beats it by"], rows) if rows else None


def audit_table(run: RunRecord) -> Table | None:
    """The rows that the trained policy disbelieves most."""
    audit = run.audit
    if not audit:
        return None
    rows = [
        [
            "thumbs up" if found["label"] else "thumbs down",
            f"{found['reward']:+.3f}",
            f"{found['gradient_weight']:.2f}",
            found["split"],
            cut(found["prompt"], SHOWN_TEXT),
            cut(found["completion"], SHOWN_TEXT),
        ]
        for found in audit["top"]
    ]
    parts = ", ".join(
        f"{number(part['flagged'])} of {number(part['rows'])} {name} rows"
        for name, part in audit["splits"].items()
    )
    caption = (
        f"{parts} have the reward of the other label: their thumb is probably wrong. The worst "
        "come first; slope is how much a row still teaches (1: most). All of them: "
        "thumbs audit RUN --out suspects.jsonl"
    )
    return Table(caption, ["Label", "Reward", "Slope", "Part", "Prompt", "Answer"], rows)


def data_table(run: RunRecord) -> Table | None:
    """What went in, what was dropped or cut and why, and the weights in force."""
    data = run.data
    if not data:
        return None
    feedback = data.get("feedback") or {}
    weights = data.get("weights") or {}
    rows = [
        ["Feedback file", number(feedback.get("path"))],
        ["Records in it", number(feedback.get("records"))],
        *[[_words(name), number(n)] for name, n in (data.get("counts") or {}).items()],
        *_import_drops(run),
        *_reasons("Dropped", data.get("drops"), "nothing"),
        *_reasons("Cut", data.get("cuts"), "nothing"),
        ["Training rows", number(data.get("train_rows"))],
        ["Held-out rows", number(data.get("heldout_rows"))],
        [
            "Desirable / undesirable",
            f"{number(data.get('desirable'))} / {number(data.get('undesirable'))}",
        ],
        ["Prompts", number(data.get("prompts"))],
        ["Weight of a desirable answer", _plain(weights.get("desirable_weight"))],
        ["Weight of an undesirable answer", _plain(weights.get("undesirable_weight"))],
        ["Why these weights", number(weights.get("reason"))],
    ]
    return Table("Counted by reason: nothing is lost unseen", ["What", "Value"], rows)


def _import_drops(run: RunRecord) -> list[list[str]]:
    """What the import left out, altered and did not read, where it wrote the feedback file."""
    found = run.data.get("import")
    if not found:
        return []
    return [
        ["Imported from", number(found.get("source"))],
        *_reasons("Dropped by the import", found.get("dropped"), "nothing"),
        *_reasons("Changed by the import", found.get("changed"), "nothing"),
        *(_reasons("Files not read", found["skipped"], "none") if found.get("skipped") else []),
    ]


def speed_table(run: RunRecord) -> Table | None:
    """Rows and tokens per second of the training steps, padding and whole time."""
    if not run.steps:
        return None
    seconds = _total(run, "seconds")
    rows_seen = _total(run, "num_desirable") + _total(run, "num_undesirable")
    rows = [
        ["Steps", number(len(run.steps))],
        ["Training steps took", duration(seconds)],
        ["Whole job took", duration(run.summary.get("seconds"))],
        ["Rows per second", _rate(rows_seen, seconds)],
        ["Tokens per second", _rate(_total(run, "tokens"), seconds)],
        ["Padding", _padding(run)],
    ]
    return Table("Speed of training", ["What", "Value"], rows)


def origin_table(run: RunRecord) -> Table | None:
    """What fixes the run besides its configuration: hashes and versions."""
    reference = run.data.get("reference") or {}
    rows = [
        ["Feedback sha256", (run.data.get("feedback") or {}).get("sha256")],
        ["Reference model", reference.get("name_or_path")],
        ["Reference revision", reference.get("revision")],
        ["Reference weights sha256", reference.get("weight_sha256")],
        *[[name, version] for name, version in (run.summary.get("versions") or {}).items()],
    ]
    known = [[name, str(value)] for name, value in rows if value]
    return (
        Table("Identity of the inputs, and versions", ["What", "Value"], known) if known else None
    )


def comparison_table(runs: list[RunRecord]) -> Table:
    """One row per run: the result, and what it cost."""
    headers = ["Run", "AUC", "AUC within a prompt", "Accuracy", "Final loss", "z0 = 0", "Took"]
    demo = any(run.summary.get("demo") for run in runs)
    if demo:
        headers[1:1] = ["Solved before", "Solved after", "Difference"]
    rows = []
    for run in runs:
        after = run.heldout("after")
        auc, within, accuracy = (
            with_interval(after.get(key), after.get(f"{key}_ci"))
            for key in ("auc", "auc_within_prompt", "accuracy")
        )
        took = duration(run.summary.get("seconds")) if run.finished else "in progress"
        cells = [auc, within, accuracy, _last(run, "loss"), _zero_share(run), took]
        rows.append([run.name, *(_demo_cells(run) if demo else []), *cells])
    return Table("Held-out numbers after training", headers, rows)


def difference_table(runs: list[RunRecord]) -> Table:
    """The configuration keys that are not the same in all runs."""
    keys = {key: None for run in runs for key in run.config}
    rows = []
    for key in keys:
        values = [str(run.config[key]) if key in run.config else MISSING for run in runs]
        if len(set(values)) > 1:
            rows.append([key, *values])
    headers = ["Key", *[run.name for run in runs]]
    return Table("Configuration keys that differ", headers, rows)


def _measured(side: dict[str, Any], key: str) -> str:
    if side.get(key) is None:
        reason = (side.get("missing") or {}).get(key)
        return f"{MISSING} ({reason})" if reason else MISSING
    return with_interval(side[key], side.get(f"{key}_ci"))


def _reasons(verb: str, counts: dict[str, Any] | None, none: str) -> list[list[str]]:
    """One row per reason that occurred, or one that says nothing did."""
    seen = {reason: n for reason, n in (counts or {}).items() if n}
    if not seen:
        return [[verb, none]]
    return [[f"{verb}: {_words(reason, capital=False)}", number(n)] for reason, n in seen.items()]


def _demo_cells(run: RunRecord) -> list[str]:
    demo = run.summary.get("demo")
    if not demo:
        return [MISSING] * 3
    points = f"{100 * demo['ci_low']:+.1f} to {100 * demo['ci_high']:+.1f}"
    return [
        _share(demo["before"], demo.get("before_ci")),
        _share(demo["after"], demo.get("after_ci")),
        f"{100 * demo['difference']:+.1f} points ({points})",
    ]


def _share(share: float, ends: list[float] | None) -> str:
    inside = between(ends, shares=True)
    return f"{percent(share)} ({inside})" if inside else percent(share)


def _zero_share(run: RunRecord) -> str:
    _, z0 = run.column("z0")
    return f"{percent(fmean(value == 0 for value in z0))} of steps" if z0 else MISSING


def _padding(run: RunRecord) -> str:
    _, shares = run.column("padding")
    return percent(fmean(shares)) if shares else MISSING


def _last(run: RunRecord, key: str) -> str:
    _, values = run.column(key)
    return number(values[-1]) if values else MISSING


def _total(run: RunRecord, key: str) -> float:
    return sum(run.column(key)[1])


def _rate(amount: float, seconds: float) -> str:
    if not seconds or not amount:
        return MISSING
    rate = amount / seconds
    return number(round(rate)) if rate >= 100 else number(rate, 1)


def _plain(value: float | None) -> str:
    return MISSING if value is None else f"{value:g}"


def _words(name: str, *, capital: bool = True) -> str:
    words = name.replace("_", " ")
    return _capital(words) if capital else words


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
