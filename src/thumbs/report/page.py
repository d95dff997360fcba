"""RUN/report.html: one self-contained page, from nothing but run folders.

In: run folders. Out: one HTML file without scripts, fonts or anything else from elsewhere.
All text of the runs is escaped; only the drawings of svg.py go in as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from thumbs.errors import RunError
from thumbs.files import require_writable, write_bytes
from thumbs.report import charts, reward_charts, tables, wording
from thumbs.report.run_record import RunRecord, read_runs
from thumbs.report.svg import Chart, draw
from thumbs.runs.rundir import RunDir
from thumbs.visible import visible


@dataclass(frozen=True)
class Tile:
    """A number worth seeing first."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Drawing:
    """A chart and its SVG."""

    chart: Chart
    svg: Markup


def write_report(runs: Path | Sequence[Path], out: Path | None = None) -> Path:
    """Render the report of a run, or of several side by side.

    Args:
        runs: run folders. out: the file to write; None: RUN/report.html, and for several runs
            report.html in the folder that holds the first.

    Returns:
        The file written. The same run folders give the same bytes.

    Raises:
        RunError: no run was named, a path is no run folder, a file of it is damaged, or `out` is a
            folder.
    """
    paths = [runs] if isinstance(runs, Path) else list(runs)
    if not paths:
        raise RunError("thumbs report: no run was named; give one or more run folders")
    first = paths[0].resolve()
    records = read_runs(paths)
    target = out or (RunDir(paths[0]).report if len(paths) == 1 else first.parent / "report.html")
    if target.is_dir():
        raise RunError(f"--out {target}: is a folder, must be a file; try {target / 'report.html'}")
    if target.is_file() and target.suffix not in (".html", ".htm"):
        raise RunError(f"--out {target}: exists and is no page; name a file that ends in .html")
    require_writable(target)
    write_bytes(target, render(records).encode())
    return target


def render(runs: list[RunRecord]) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    roc = charts.roc_chart(runs)
    several = len(runs) > 1
    return environment.get_template("page.html.j2").render(
        headline=wording.headline(runs),
        title=", ".join(run.name for run in runs),
        several=several,
        tiles=[] if several else _tiles(runs[0]),
        comparison=tables.comparison_table(runs) if several else None,
        differences=tables.difference_table(runs) if several else None,
        training=[_drawing(chart) for chart in charts.training_charts(runs)],
        roc=None if roc is None else _drawing(roc),
        runs=[_section(number, run, several=several) for number, run in enumerate(runs, 1)],
    )


def _shown(value: object) -> object:
    """A value of the template; text of the data with its control characters written out."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _section(number: int, run: RunRecord, *, several: bool) -> dict[str, Any]:
    """Everything the template shows of one run."""
    demo = run.summary.get("demo") or {}
    return {
        "id": f"run-{number}",
        "name": run.name,
        "notices": wording.notices(run),
        "verdict": wording.baseline_verdict(run.heldout("after")) if several or demo else "",
        "z0_answer": wording.z0_answer(run),
        "heldout": tables.heldout_table(run),
        "baselines": tables.baseline_table(run),
        "rewards": [
            _drawing(chart)
            for chart in (
                reward_charts.reward_chart(run, f"rewards-of-{number}"),
                reward_charts.calibration_chart(run, f"calibration-of-{number}"),
            )
            if chart is not None
        ],
        "audit": tables.audit_table(run),
        "data": tables.data_table(run),
        "speed": tables.speed_table(run),
        "origin": tables.origin_table(run),
        "examples": run.examples,
        "command": run.summary.get("command") or "",
        "config": run.config_text,
    }


def _drawing(chart: Chart) -> Drawing:
    return Drawing(chart, Markup(draw(chart)))


def _tiles(run: RunRecord) -> list[Tile]:
    """The result first, then what it cost; only what is known."""
    demo, after = run.summary.get("demo"), run.heldout("after")
    tiles = []
    if demo:
        tiles += [
            Tile("Solved before", wording.percent(demo["before"]), _sure(demo.get("before_ci"))),
            Tile("Solved after", wording.percent(demo["after"]), _sure(demo.get("after_ci"))),
        ]
    if after.get("auc") is not None:
        tiles.append(
            Tile("Held-out AUC", wording.number(after["auc"]), wording.between(after.get("auc_ci")))
        )
    if after.get("accuracy") is not None and not demo:
        note = _sure(after.get("accuracy_ci"))
        tiles.append(Tile("Held-out accuracy", wording.percent(after["accuracy"]), note))
    if run.data.get("train_rows") is not None:
        tiles.append(Tile("Rated answers", wording.number(run.data["train_rows"]), "trained on"))
    if run.summary.get("seconds") is not None:
        steps = f"{wording.number(len(run.steps))} steps"
        tiles.append(Tile("Took", wording.duration(run.summary["seconds"]), steps))
    return tiles


def _sure(ends: list[float] | None) -> str:
    return wording.between(ends, shares=True)
