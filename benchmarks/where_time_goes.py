"""Where the seconds of a run go: its phases, and the operations of its steps.

`make profile`, or: python -m benchmarks.where_time_goes. The scenarios are those of `make bench`.
"""

import functools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measured import machine, setting_lines, versions, write_results
from benchmarks.scenarios import SCENARIOS, THREADS, save_inputs, thumbs_settings
from thumbs.config import load_config
from thumbs.core.losses import load_loss
from thumbs.files import cache_folder
from thumbs.models.load import load_model
from thumbs.prepare import prepare
from thumbs.scoring.cache import ScoreCache
from thumbs.scoring.forward import build_scorer
from thumbs.scoring.reference import ReferenceValues, reference_pass
from thumbs.train.optim import build_optimizer
from thumbs.train.scored_pairs import TrainingData
from thumbs.train.step import StepSettings, train_step

NUM_ROWS = 128
NAMES = ("bf16", "fp32")
MICRO_BATCH_TOKENS = 4_096
PROFILED_STEPS = 2
KINDS = {
    "matrix products": ("mm", "addmm", "addmm_", "bmm", "baddbmm", "mkldnn_linear"),
    "copies, casts, zeros": ("copy_", "cat", "fill_", "zero_", "_to_copy", "contiguous"),
    "exponentials and softmax": ("exp_", "exp", "_softmax", "_softmax_backward_data", "log_"),
    "other element-wise": (
        *("add", "add_", "sub", "sub_", "mul", "mul_", "div", "pow", "rsqrt", "neg", "silu"),
        *("silu_backward", "where", "masked_fill_", "triu_", "sum", "mean", "amax"),
    ),
    "optimizer": ("_fused_adamw_", "linalg_vector_norm", "_foreach_norm", "_foreach_mul_"),
}


def main() -> None:
    """Write results/profile.json and .md."""
    torch.set_num_threads(THREADS)
    imports = _seconds_of(
        lambda: subprocess.run([sys.executable, "-c", "import thumbs.pipeline"], check=True)
    )
    record: dict[str, Any] = {
        "command": "make profile",
        "machine": machine(),
        "threads": THREADS,
        "rows": NUM_ROWS,
        "versions": {"thumbs": versions("thumbs", "transformers", "torch")},
        "import_seconds": imports,
        "scenarios": {},
    }
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["THUMBS_CACHE"] = f"{folder}/cache"  # nothing of an earlier run is found
            record["scenarios"][name] = measure(name, Path(folder))
    record["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    write_results("profile", record, page(record))


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Seconds of every phase of one scenario, and shares of the time of its steps."""
    inputs = save_inputs(SCENARIOS[name], folder, NUM_ROWS)
    changes = [f"{key}={value}" for key, value in thumbs_settings(SCENARIOS[name]).items()]
    config = load_config(None, changes, model=str(inputs.model))
    phases: dict[str, float] = {}

    def timed(phase: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = work()
        phases[phase] = time.perf_counter() - started
        return result

    prepared = timed("read, tokenise, plan", lambda: prepare(inputs.feedback, config, date.today()))
    policy = timed("load", lambda: load_model(config.model, device=torch.device("cpu")))
    scorer = timed("probe", lambda: build_scorer(policy.model, dtype=config.model.dtype))
    cache = ScoreCache(cache_folder())
    scores = timed(
        "reference pass", lambda: reference_pass(scorer, prepared.planned, cache, policy.identity)
    )
    data = TrainingData(prepared.rows, ReferenceValues(prepared.planned.place, scores))
    optimizer = build_optimizer(policy.model, config.train)
    loss = functools.partial(
        load_loss(config.loss.name),
        beta=config.loss.beta,
        desirable_weight=float(prepared.weights["desirable_weight"]),
        undesirable_weight=float(prepared.weights["undesirable_weight"]),
    )
    settings = StepSettings(
        loss=loss,
        beta=config.loss.beta,
        max_grad_norm=config.train.max_grad_norm,
        micro_batch_tokens=MICRO_BATCH_TOKENS,
    )
    batches = prepared.epochs[0]

    def learn(first: int, last: int) -> None:
        for batch in batches[first:last]:
            train_step(scorer, optimizer, batch, data, settings)

    timed(f"{len(batches)} steps", lambda: learn(0, len(batches)))
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        learn(0, PROFILED_STEPS)
    return {"phases": phases, "shares": _shares(profiled)}


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    lines = [
        f"# Where the time goes: {record['rows']} rows of `make bench`, 25M Llama",
        "",
        f"Importing takes {record['import_seconds']:.1f} s. Seconds of the other phases:",
        "",
    ]
    scenarios = record["scenarios"]
    lines += _table("phase", {n: s["phases"] for n, s in scenarios.items()}, "{:.2f}")
    lines += ["", f"Shares of the time of {PROFILED_STEPS} steps, by operation:", ""]
    lines += _table("kind", {n: s["shares"] for n, s in scenarios.items()}, "{:.1%}")
    return "\n".join([*lines, "", setting_lines(record), ""])


def _table(head: str, columns: dict[str, dict[str, float]], form: str) -> list[str]:
    names = list(columns)
    rows = list(columns[names[0]])
    return [
        f"| {head} | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
        *(
            f"| {row} | " + " | ".join(form.format(columns[name][row]) for name in names) + " |"
            for row in rows
        ),
    ]


def _shares(profiled: Any) -> dict[str, float]:
    """Of the time spent in each kind of operation itself; what has no kind is the rest."""
    kind_of = {f"aten::{name}": kind for kind, names in KINDS.items() for name in names}
    seconds = dict.fromkeys([*KINDS, "the rest (Python, bookkeeping, other operations)"], 0.0)
    rest = list(seconds)[-1]
    for event in profiled.key_averages():
        seconds[kind_of.get(event.key, rest)] += event.self_cpu_time_total
    total = sum(seconds.values())
    return {kind: spent / total for kind, spent in seconds.items()}


def _seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
