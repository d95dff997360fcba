"""What a run tells in the end and on the way: RUN/summary.json, lines of held-out numbers.

In: the progress of the loop, held-out metrics, the files of the model. Out: plain values for JSON.
"""

import platform
import shlex
import sys
from importlib.metadata import version
from typing import Any

from thumbs.config import Config
from thumbs.evaluate.heldout import HeldoutMetrics
from thumbs.files import sha256_file
from thumbs.runs.rundir import RunDir
from thumbs.train.loop import Progress

PACKAGES = ("thumbs", "torch", "transformers")
# Of RUN/heldout.jsonl, each with the ends of its 95 % interval.
ESTIMATES = ("auc", "auc_within_prompt", "accuracy", "margin")


def summarise(
    run: RunDir,
    config: Config,
    progress: Progress,
    before: HeldoutMetrics | None,
    after: HeldoutMetrics | None,
    seconds: float,
) -> dict[str, Any]:
    """RUN/summary.json. best_step: of the best evaluation, null where there was none on the way.
    model_step: whose weights RUN/model holds.
    """
    last = progress.last or {}
    best = progress.standing.best_step or None
    weights = run.model.glob("*.safetensors")
    return {
        "run": str(run.path),
        "model": str(run.model),
        "steps": progress.step,
        "best_step": best,
        "model_step": best if config.train.takes_best else progress.step,
        "guard_trips": progress.guard_trips,
        "loss": last.get("loss"),
        "z0": last.get("z0"),
        "heldout": {
            "before": before.to_dict() if before else None,
            "after": after.to_dict() if after else None,
        },
        "seconds": seconds,
        "command": shlex.join(["thumbs", *sys.argv[1:]]),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "model_sha256": {file.name: sha256_file(file) for file in sorted(weights)},
    }


def heldout_line(metrics: HeldoutMetrics) -> dict[str, Any]:
    """The numbers of an evaluation on the way, flat: auc, auc_low, auc_high, ..., z0 (nats)."""
    numbers = metrics.to_dict()
    line = {"n": numbers["n"]}
    for name in ESTIMATES:
        low, high = numbers[f"{name}_ci"] or (None, None)
        line |= {name: numbers[name], f"{name}_low": low, f"{name}_high": high}
    return line | {"saturation": numbers["saturation"], "z0": numbers["z0"]}


def told(run: RunDir, summary: dict[str, Any]) -> dict[str, Any]:
    """What `train` prints of a summary."""
    keys = ("run", "model", "steps", "loss", "z0", "seconds")
    told = {key: summary[key] for key in keys} | {"heldout": summary["heldout"]["after"]}
    return told | {"report": str(run.report)}
