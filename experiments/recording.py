"""What an experiment leaves behind: experiments/results/NAME.json.

In: outcomes of trials. Out: a record with the command, the seeds, the versions, the machine and the
date; and what pages need of it: solved problems by method and seed.
"""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from benchmarks.measured import machine, versions

from experiments.conditions import FAST
from experiments.harness import ROOT, Outcome
from experiments.resampling import Interval, difference, mean_interval
from thumbs.files import write_bytes

RESULTS = ROOT / "experiments" / "results"
Record = dict[str, Any]
# What is kept of a tuning trial.
TUNED = ("method", "start", "condition", "learning_rate", "seed", "accuracy")


def parser(description: str | None) -> argparse.ArgumentParser:
    """What every experiment takes: --seeds, --name, --finished-only."""
    found = argparse.ArgumentParser(description=(description or "").strip().splitlines()[0])
    found.add_argument("--seeds", type=int, nargs="+", help="instead of the experiment's own")
    found.add_argument("--name", help="of the results, where they are not the published ones")
    found.add_argument(
        "--finished-only", action="store_true", help="record the trials that are done; run none"
    )
    return found


def record(
    name: str, outcomes: Sequence[Outcome], tuning: Sequence[Outcome] = (), **more: Any
) -> Record:
    """Write results/NAME.json, except in a smoke run, and print a table of its exams."""
    found: Record = {
        "experiment": name,
        "command": shlex.join(["python", "-m", _module(), *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions("thumbs", "torch", "transformers"),
        "seeds": sorted({outcome["seed"] for outcome in outcomes}),
        "outcomes": [rounded(outcome) for outcome in outcomes],
        "tuning": [{key: outcome[key] for key in TUNED} for outcome in tuning],
        **more,
    }
    if not FAST:
        lines = orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n"
        write_bytes(RESULTS / f"{name}.json", lines)
    if all("correct" in outcome for outcome in outcomes):
        print(summary(found))
    return found


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else Path(sys.argv[0]).name


def rounded(outcome: Outcome) -> Outcome:
    """An outcome with numbers of six digits."""
    return {
        key: float(f"{value:.6g}") if isinstance(value, float) else value
        for key, value in outcome.items()
    }


def read_record(name: str) -> Record | None:
    """A committed record; None where the experiment was not run."""
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        return None
    found: Record = orjson.loads(file.read_bytes())
    return found


def solved(outcomes: Sequence[Outcome], **wanted: Any) -> dict[int, list[float]]:
    """By seed, which problems were solved, of the outcomes whose keys are as wanted."""
    return {
        outcome["seed"]: [float(mark) for mark in outcome["correct"]]
        for outcome in chosen(outcomes, **wanted)
    }


def chosen(outcomes: Sequence[Outcome], **wanted: Any) -> list[Outcome]:
    return [o for o in outcomes if all(o[key] == value for key, value in wanted.items())]


def accuracy(outcomes: Sequence[Outcome], **wanted: Any) -> Interval:
    """Sampled accuracy with its interval."""
    return mean_interval(list(solved(outcomes, **wanted).values()))


def lead(
    outcomes: Sequence[Outcome], first: Mapping[str, Any], second: Mapping[str, Any]
) -> Interval:
    """How much more accurate the outcomes like `first` are than those like `second`."""
    return difference(solved(outcomes, **first), solved(outcomes, **second))


def summary(found: Record) -> str:
    """Accuracy by method and condition, a line each."""
    groups = {
        (o["method"], orjson.dumps(o["condition"]).decode(), o["learning_rate"]): None
        for o in found["outcomes"]
    }
    lines = []
    for method, condition, rate in groups:
        own = {"method": method, "condition": orjson.loads(condition), "learning_rate": rate}
        mean, low, high = accuracy(found["outcomes"], **own)
        num = len(solved(found["outcomes"], **own))
        lines.append(
            f"{method:24} {condition:40} lr {rate:<7g} {mean:.3f} ({low:.3f} to {high:.3f}), "
            f"{num} seeds"
        )
    return "\n".join(lines)
