"""The two sides of `make bench` as processes: thumbs, and a TRL version with a setting.

In: a scenario, files. Out: figures of one process each: seconds, memory, losses, step seconds.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measured import ROOT, Measured, run_measured, versions
from benchmarks.scenarios import (
    PEERS,
    THREADS,
    Inputs,
    Peer,
    Scenario,
    thumbs_settings,
    trl_settings,
)
from thumbs.prepare import Prepared
from thumbs.runs.rundir import RunDir
from thumbs.scoring.reference import read_frozen_reference

ATTEMPTS = 3  # of a measurement during which others used the machine
OTHERS_SHARE = 0.05  # of one core


@dataclass(frozen=True)
class Side:
    """A trainer with its settings. peer: which TRL version, or thumbs. python: that runs it."""

    key: str
    title: str
    peer: str
    python: str
    job: str  # JSON: the settings

    def run(
        self, inputs: Inputs, feedback: Path, scratch: Path, *, wants_reference: bool = False
    ) -> dict[str, Any]:
        """One process; its run and its caches lie in `scratch`."""
        settings = json.loads(self.job)
        if self.peer == "thumbs":
            return _run_thumbs(self, settings, inputs, feedback, scratch)
        job = settings | {"wants_reference": wants_reference}
        return _run_trl(self, job, inputs, feedback, scratch)


def thumbs_side(scenario: Scenario) -> Side:
    """thumbs, all settings but those of the scenario at their defaults."""
    return Side("thumbs", "thumbs", "thumbs", sys.executable, json.dumps(thumbs_settings(scenario)))


def trl_side(
    scenario: Scenario, peer: Peer, python: str, forward_rows: int, *, default: bool = False
) -> Side:
    """A TRL version with so many rows per forward."""
    settings = trl_settings(scenario, peer, forward_rows, default=default)
    job = json.dumps({"config": settings, "lora_rank": scenario.lora_rank})
    how = "its defaults, " if default else ""
    kind = "default" if default else "cached"
    title = f"{peer.title}, {how}{forward_rows} rows per forward"
    # Another name than that of the cached runs, so that the sweep never chooses it.
    return Side(f"{peer.key}-{kind}-{forward_rows}", title, f"{peer.key}-{kind}", python, job)


def peer_sides(
    scenario: Scenario, pythons: Mapping[str, str], forward_rows: Sequence[int]
) -> list[Side]:
    """Every peer at its best settings but for the rows per forward, which are swept."""
    return [
        trl_side(scenario, peer, pythons[peer.key], rows) for peer in PEERS for rows in forward_rows
    ]


def measure(side: Side, inputs: Inputs, feedback: Path) -> dict[str, Any]:
    """One measurement, begun anew (three times at most) while others used the machine.

    Kept is the one that was disturbed least. A process that failed is told as such.
    """
    best: dict[str, Any] | None = None
    for attempt in range(1, ATTEMPTS + 1):
        print(f"{side.title}: {feedback.stem}, attempt {attempt}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = side.run(inputs, feedback, Path(folder))
            except SystemExit as error:
                return {"title": side.title, "failed": str(error).replace(folder, "")}
        found |= {"title": side.title, "attempts": attempt}
        if best is None or (found["others_share"] or 0) < (best["others_share"] or 0):
            best = found
        if not is_disturbed(found["others_share"]):
            break
    assert best is not None
    return best | {"attempts": attempt, "disturbed": is_disturbed(best["others_share"])}


def is_disturbed(others_share: float | None) -> bool:
    """Did others use more than OTHERS_SHARE of a core? False where the system does not tell."""
    return others_share is not None and others_share > OTHERS_SHARE


def measured_ceiling(inputs: Inputs, scratch: Path) -> dict[str, Any]:
    """GFLOP/s of the fastest products, in a process of its own with the same threads."""
    config = inputs.config
    sizes = (config.hidden_size, config.intermediate_size, config.vocab_size)
    command = [sys.executable, "-m", "benchmarks.ceiling", "cpu", *map(str, sizes)]
    measured = run_measured(command, threads=THREADS, scratch=scratch)
    found: dict[str, Any] = json.loads(measured.stdout)
    return found | {"others_share": _others_share(measured)}


def reference_sums(run: Path, prepared: Prepared) -> list[float]:
    """The reference's log-prob of each row's answer, from a run's frozen values."""
    values = read_frozen_reference(RunDir(run).reference, prepared.planned)
    return [
        sum(v for v, counts in zip(values[(i, i)].tolist(), row.loss_mask, strict=True) if counts)
        for i, row in enumerate(prepared.rows)
    ]


def _run_thumbs(
    side: Side, settings: Mapping[str, Any], inputs: Inputs, feedback: Path, scratch: Path
) -> dict[str, Any]:
    changes = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    files = [str(feedback), "--model", str(inputs.model), "--out", str(scratch / "run")]
    command = [side.python, "-m", "thumbs", "train", *files, *changes, "--json"]
    measured = run_measured(command, threads=THREADS, scratch=scratch)
    lines = (scratch / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    return {
        **figures(measured),
        "rows": sum(step["num_desirable"] + step["num_undesirable"] for step in steps),
        "steps": len(steps),
        "losses": [step["loss"] for step in steps],
        "z0": [step["z0"] for step in steps],
        "step_seconds": [step["seconds"] for step in steps],
        "settings": dict(settings),
        "versions": versions("thumbs", "transformers", "torch"),
        "commit": commit(),
    }


def _run_trl(
    side: Side, job: dict[str, Any], inputs: Inputs, feedback: Path, scratch: Path
) -> dict[str, Any]:
    out = scratch / "trl.json"
    files = [str(inputs.model), str(feedback), json.dumps(job), str(out)]
    command = [side.python, "-m", "benchmarks.trl_bench", *files]
    measured = run_measured(command, threads=THREADS, scratch=scratch)
    told: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return {**figures(measured), **told, "settings": job["config"]}


def figures(measured: Measured) -> dict[str, float | None]:
    """The figures of a process."""
    others = measured.others_cpu_seconds
    return {
        "seconds": round(measured.seconds, 2),
        "cpu_seconds": round(measured.cpu_seconds, 2),
        "others_cpu_seconds": others if others is None else round(others, 2),
        "others_share": _others_share(measured),
        "peak_mb": round(measured.peak_bytes / 1e6, 0),
    }


def _others_share(measured: Measured) -> float | None:
    """What others used, as a share of one core."""
    others = measured.others_cpu_seconds
    return None if others is None else round(others / measured.seconds, 4)


def commit() -> str:
    """The commit of the sources measured, with a + where they differ from it; "unknown" without
    git."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()
