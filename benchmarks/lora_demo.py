"""Adapters against whole weights on the demo: which share of the gain do they keep?

`make lora-demo`, or: python -m benchmarks.lora_demo
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measured import machine, run_measured, setting_lines, versions, write_results

SEEDS = (0, 1, 2)
# Ten times the demo's rate for whole weights, the usual step for adapters; no other was tried.
LORA = ("model.lora.r=16", "train.learning_rate=1e-3")
THREADS = 1


def main() -> None:
    """Write results/lora_demo.json and .md."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = [compare(Path(folder), seed) for seed in SEEDS]
    record = {
        "command": "make lora-demo",
        "machine": machine(),
        "versions": {"thumbs": versions("thumbs", "torch", "transformers", "peft")},
        "lora": list(LORA),
        "seeds": seeds,
        "gain_kept": sum(s["lora"]["difference"] for s in seeds)
        / sum(s["full"]["difference"] for s in seeds),
    }
    write_results("lora_demo", record, page(record))


def compare(folder: Path, seed: int) -> dict[str, Any]:
    """The demo of one seed with whole weights and with adapters."""
    return {
        "seed": seed,
        "full": demo(folder / f"full-{seed}", seed, ()),
        "lora": demo(folder / f"lora-{seed}", seed, LORA),
    }


def demo(out: Path, seed: int, changes: tuple[str, ...]) -> dict[str, Any]:
    """The numbers of one `thumbs demo`, a process of its own, and the size of what it saved."""
    sets = [part for change in changes for part in ("--set", change)]
    command = [sys.executable, "-m", "thumbs", "demo", "--out", str(out), "--seed", str(seed)]
    scratch = out.with_name(f"{out.name}-cache")  # the reference pass is part of the time
    measured = run_measured([*command, "--json", *sets], threads=THREADS, scratch=scratch)
    told = json.loads(measured.stdout)
    kept = ("before", "after", "difference", "ci_low", "ci_high", "greedy_before", "greedy_after")
    weights = [path.stat().st_size for path in (out / "model").glob("*.safetensors")]
    return {
        **{key: told[key] for key in kept},
        "seconds": measured.seconds,
        "peak_bytes": measured.peak_bytes,
        "weights_bytes": sum(weights),
    }


def page(record: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Adapters and whole weights on the demo",
        "",
        "1,000 unseen problems, sampled at temperature 1 with the same random numbers before and "
        "after; 95 % intervals of the paired difference.",
        "",
        f"Adapters: {', '.join(record['lora'])}; everything else as in `thumbs demo`.",
        "",
        "| seed | trained | sampled | difference (95 % interval) | greedy | saved weights |",
        "|---|---|---|---|---|---|",
    ]
    for seed in record["seeds"]:
        for name in ("full", "lora"):
            lines.append(_line(seed["seed"], name, seed[name]))
    lines += [
        "",
        f"Adapters keep {record['gain_kept']:.0%} of the gain of whole weights, over all seeds.",
        "",
        setting_lines(record),
    ]
    return "\n".join(lines) + "\n"


def _line(seed: int, name: str, numbers: dict[str, Any]) -> str:
    points = {key: 100 * numbers[key] for key in ("difference", "ci_low", "ci_high")}
    return (
        f"| {seed} | {name} | {numbers['before']:.1%} to {numbers['after']:.1%} "
        f"| {points['difference']:.1f} ({points['ci_low']:.1f} to {points['ci_high']:.1f}) "
        f"| {numbers['greedy_before']:.1%} to {numbers['greedy_after']:.1%} "
        f"| {numbers['weights_bytes'] / 1e6:.2f} MB |"
    )


if __name__ == "__main__":
    main()
