"""results/bench.json as one Markdown page. Pure: a record in, text out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.scenarios import SCENARIOS
from thumbs.scoring.work import share_of_ceiling

Measurement = Mapping[str, Any]
HEADINGS = ("", "seconds", "CPU seconds", "peak MB", "rows/s", "rows/s in steps", "last loss")


@dataclass(frozen=True)
class Spread:
    """The middle and the ends of repeated figures."""

    middle: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if self.count == 1:
            return f"{self.middle:.1f}"
        return f"{self.middle:.1f} ({self.low:.1f}-{self.high:.1f})"


def spread(figures: Sequence[float]) -> Spread:
    """Median, least, most.

    >>> str(spread([3.0, 1.0, 2.5]))
    '2.5 (1.0-3.0)'
    """
    return Spread(median(figures), min(figures), max(figures), len(figures))


def page(record: Mapping[str, Any]) -> str:
    """Every scenario that was measured."""
    parts = [_INTRODUCTION]
    for name, scenario in SCENARIOS.items():
        if name in record["scenarios"]:
            parts.append(_scenario(name, scenario.title, record["scenarios"][name]))
    return "\n".join(parts)


def runs_of(measurements: Mapping[str, Measurement]) -> dict[str, list[Measurement]]:
    """The runs over all rows that ended well, by side, thumbs first."""
    found: dict[str, list[Measurement]] = {}
    for key, measurement in measurements.items():
        kind, _, rest = key.partition(" ")
        if kind == "full" and "failed" not in measurement:
            found.setdefault(rest.rpartition(" ")[0], []).append(measurement)
    return dict(sorted(found.items(), key=lambda item: item[0] != "thumbs"))


def comparison(measurements: Mapping[str, Measurement]) -> dict[str, float]:
    """thumbs against the fastest and the leanest peer, as shares of theirs.

    seconds: of medians of whole jobs. peak: of the lowest peak of any setting of any peer, over all
    rows where that setting ran over all of them, else in the sweep.
    """
    runs = runs_of(measurements)
    ours = runs.pop("thumbs", [])
    if not ours or not runs:
        return {}
    theirs = min(median(run["seconds"] for run in found) for found in runs.values())
    peaks = {side: max(run["peak_mb"] for run in found) for side, found in runs.items()}
    for key, measurement in measurements.items():
        if key.startswith("sweep ") and "failed" not in measurement:
            peaks.setdefault(key.removeprefix("sweep "), measurement["peak_mb"])
    return {
        "seconds": median(run["seconds"] for run in ours) / theirs,
        "peak": max(run["peak_mb"] for run in ours) / min(peaks.values()),
    }


def ceiling_shares(scenario: Mapping[str, Any]) -> list[float]:
    """Of each thumbs run: the share of the ceiling of its dtype that its steps reached."""
    measurements = scenario["measurements"]
    runs = runs_of(measurements).get("thumbs", [])
    if "ceiling" not in measurements or not runs or len(scenario["flops"]) < 2:
        return []
    dtype = "float32" if runs[0]["settings"]["model.dtype"] == "float32" else "bfloat16"
    ceiling = 1e9 * measurements["ceiling"][dtype]["best"]
    return [share_of_ceiling(scenario["flops"], run["step_seconds"], ceiling) for run in runs]


def _scenario(name: str, title: str, scenario: Mapping[str, Any]) -> str:
    conditions, data = scenario["conditions"], scenario["data"]
    measurements: Mapping[str, Measurement] = scenario["measurements"]
    told = [
        f"## {name}: {title}",
        "",
        f"{data['rows']} rows of {data['prompts']} prompts ({conditions['source']}), on average "
        f"{data['mean_prompt_tokens']:.0f} + {data['mean_completion_tokens']:.0f} tokens, the "
        f"longest {data['longest_tokens']}; a Llama of {conditions['parameters'] / 1e6:.1f}M; "
        f"batches of {conditions['batch_rows']}; {conditions['threads']} threads.",
        "",
        *_table(HEADINGS, [_side_cells(found) for found in runs_of(measurements).values()]),
        "",
        *_ratios(measurements),
        *_ceiling_lines(scenario),
        *_disturbed(measurements),
        "",
        f"The sweep, the first {conditions['sweep_rows']} rows, one run each:",
        "",
        *_table(("", "seconds", "peak MB", "others' CPU seconds"), _sweep_cells(measurements)),
        "",
        *_losses([found for key, found in measurements.items() if key.startswith("losses ")]),
        *_settings(conditions, measurements),
    ]
    return "\n".join(told) + "\n"


def _table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> list[str]:
    heads = list(headings)
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _side_cells(runs: Sequence[Measurement]) -> list[str]:
    rows = runs[0]["rows"]
    in_steps = spread([rows / sum(run["step_seconds"]) for run in runs])
    return [
        f"{runs[0]['title']} ({len(runs)} runs)",
        str(spread([run["seconds"] for run in runs])),
        f"{median(run['cpu_seconds'] for run in runs):.0f}",
        f"{max(run['peak_mb'] for run in runs):.0f}",
        str(spread([rows / run["seconds"] for run in runs])),
        str(in_steps),
        f"{runs[-1]['losses'][-1]:.4f}",
    ]


def _sweep_cells(measurements: Mapping[str, Measurement]) -> list[list[str]]:
    cells = []
    for key, found in measurements.items():
        if key.startswith("sweep "):
            if "failed" in found:
                cells.append([found["title"], f"failed: {found['failed'][:80]}", "", ""])
            else:
                others = found["others_cpu_seconds"]
                told = "unknown" if others is None else f"{others:.1f}"
                cells.append(
                    [found["title"], f"{found['seconds']:.1f}", f"{found['peak_mb']:.0f}", told]
                )
    return cells


def _ratios(measurements: Mapping[str, Measurement]) -> list[str]:
    shares = comparison(measurements)
    if not shares:
        return []
    return [
        f"- Whole job: thumbs takes {shares['seconds']:.2f} of the seconds of the fastest peer "
        f"({1 / shares['seconds']:.2f} times as fast), medians.",
        f"- Peak memory: thumbs {shares['peak']:.2f} of the lowest of any swept setting of a peer.",
    ]


def _ceiling_lines(scenario: Mapping[str, Any]) -> list[str]:
    shares = ceiling_shares(scenario)
    if not shares:
        return []
    ceiling = scenario["measurements"]["ceiling"]
    best = {dtype: ceiling[dtype]["best"] for dtype in ("float32", "bfloat16")}
    return [
        f"- thumbs' steps, without the first, reach {spread([100 * s for s in shares])} % of the "
        f"fastest matrix product found here in their dtype (float32 {best['float32']:.0f}, "
        f"bfloat16 {best['bfloat16']:.0f} GFLOP/s). Work counted: products with weights, "
        f"{sum(scenario['flops']) / 1e12:.2f} TFLOP, none of attention."
    ]


def _disturbed(measurements: Mapping[str, Measurement]) -> list[str]:
    names = [key for key, found in measurements.items() if found.get("disturbed")]
    if not names:
        return ["- Others used less than 5 % of a core during every measurement."]
    return [
        "- DISTURBED, others used more than 5 % of a core in three attempts: " + ", ".join(names)
    ]


def _losses(found: Sequence[Measurement]) -> list[str]:
    if not found:
        return []
    curves = [found[0]["thumbs"], *(losses["trl"] for losses in found)]
    rows = [
        [str(step), *(f"{loss:.4f}" for loss in losses)]
        for step, losses in enumerate(zip(*curves, strict=True), 1)
    ]
    names = [losses["peer"] for losses in found]
    apart = [
        f"- At step 0 the log-probs of the answers differ from those of {losses['peer']} by at "
        f"most {losses['reference_apart_max']:.2g} nats, on average "
        f"{losses['reference_apart_mean']:.2g}, of {losses['reference_mean']:.0f}."
        for losses in found
    ]
    return [
        "Losses on the same batches in the same order:",
        "",
        *_table(("step", "thumbs", *names), rows),
        "",
        *apart,
        "- The losses differ because z0 does: TRL takes it from the rows of one forward and pairs "
        "each row with its neighbour's answer, also where that was written for the same prompt; "
        "thumbs takes it from the whole batch and answers to other prompts.",
        "",
    ]


def _settings(
    conditions: Mapping[str, Any], measurements: Mapping[str, Measurement]
) -> Iterable[str]:
    found = conditions["machine"]
    yield f"- Machine: {found['cpu']}, {found['cores']} cores, {found['system']}"
    told: dict[str, Measurement] = {}
    commits: dict[str, None] = {}
    for measurement in measurements.values():
        if "settings" in measurement:
            told.setdefault(measurement["title"], measurement)
            if "commit" in measurement:
                commits[measurement["commit"]] = None
    yield f"- thumbs at commit: {', '.join(commits)}"
    packages: dict[str, None] = {}
    for measurement in told.values():
        versions = measurement["versions"]
        packages[", ".join(f"{name} {text}" for name, text in versions.items())] = None
    yield from (f"- Versions: {line}" for line in packages)


_INTRODUCTION = """# Seconds and memory beside TRL

One epoch of KTO (`make bench`). Each figure is of a process of its own: wall-clock seconds with
imports, loading, reference pass, steps and saving; the peak of resident memory. Median and range of
runs over all rows, the sides in turn; memory is the highest of these runs. "rows/s in steps" leaves
out everything but the optimizer steps. Peers: cached reference, no checkpointing, and of 2, 4 and 8
rows per forward the fastest in a sweep over the first rows; where it says defaults, as TRL comes
(checkpointing, reference in every step). All of it is on a CPU: TRL 1.16's head is made for a GPU,
so none of it tells the ratio on one.
"""
