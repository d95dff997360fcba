"""Seconds and memory of thumbs beside TRL's, on the same rows, model and batch.

`make bench`, or: python -m benchmarks.bench --trl-python P --trl024-python Q [--scenario bf16]

Every figure is of a process of its own, imports, loading and reference pass included, with fresh
caches. Each setting of a peer runs once over the first rows; its fastest then runs over all of
them, in turn with thumbs. Results are written after every measurement; what is there is not
measured again. The machine has to be quiet: what others used is recorded, and a measurement during
which that was much is repeated.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bench_page import page
from benchmarks.bench_results import Results
from benchmarks.bench_sides import (
    Side,
    measure,
    measured_ceiling,
    peer_sides,
    reference_sums,
    thumbs_side,
    trl_side,
)
from benchmarks.measured import RESULTS, machine, run_measured, versions
from benchmarks.scenarios import (
    BATCH_ROWS,
    DEFAULT_FORWARD_ROWS,
    FORWARD_ROWS,
    LORA_RANK,
    PEERS,
    SCENARIOS,
    SEED,
    SWEEP_ROWS,
    THREADS,
    Inputs,
    Scenario,
    save_inputs,
    thumbs_settings,
)
from thumbs.config import load_config
from thumbs.feedback.file import read_feedback, write_feedback
from thumbs.prepare import Prepared, prepare
from thumbs.scoring.work import Shape, plan_flops

TRIED_AGAIN = ("full", "all")


def main() -> None:
    """Measure what is missing in results/bench.json and write results/bench.md."""
    options = parse(sys.argv[1:])
    results = Results(options.out / "bench.json")
    for name in options.scenario:
        with tempfile.TemporaryDirectory() as folder:
            run_scenario(SCENARIOS[name], options, results, Path(folder))
        text = page(results.record)
        (options.out / "bench.md").write_text(text, encoding="utf-8")
    print(text)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="benchmarks.bench", description=__doc__)
    parser.add_argument("--trl-python", required=True, help="a Python that has TRL 1.16")
    parser.add_argument("--trl024-python", required=True, help="a Python that has TRL 0.24")
    parser.add_argument("--scenario", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--repeats", type=int, default=3, help="runs over all rows of each side")
    parser.add_argument("--rows", type=int, default=128, help=f"a multiple of {BATCH_ROWS}")
    parser.add_argument("--again", nargs="?", const="full", choices=TRIED_AGAIN, help=(
        "measure the runs over all rows again; all: the sweep, too"
    ))  # fmt: skip
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(arguments)
    if options.rows < BATCH_ROWS or options.rows % BATCH_ROWS:
        # Batches of unlike sizes would not be the same on both sides.
        parser.error(f"--rows {options.rows}: is no multiple of {BATCH_ROWS}; give one, as 128")
    if options.repeats < 1:
        parser.error(f"--repeats {options.repeats}: is below 1; give 1 or more")
    options.pythons = {"trl116": options.trl_python, "trl024": options.trl024_python}
    return options


def run_scenario(
    scenario: Scenario, options: argparse.Namespace, results: Results, folder: Path
) -> None:
    """Every measurement of a scenario that the results lack."""
    inputs = save_inputs(scenario, folder, options.rows)
    conditions = {
        "machine": machine(),
        "threads": THREADS,
        "rows": options.rows,
        "sweep_rows": min(SWEEP_ROWS, options.rows),
        "batch_rows": BATCH_ROWS,
        "seed": SEED,
        "source": inputs.source,
        "parameters": inputs.parameters,
        "versions": versions("transformers", "torch"),
    }
    results.open(scenario.name, conditions, again=options.again)
    prepared = plan_of(scenario, inputs)
    results.keep("data", describe(prepared))
    results.once("ceiling", lambda: measured_ceiling(inputs, folder))
    flops = plan_flops(prepared.epochs[0], prepared.rows, shape_of(scenario, inputs))
    results.keep("flops", flops)
    sides = peer_sides(scenario, options.pythons, FORWARD_ROWS)
    warm_up(sides, folder)
    for side in sides:
        results.once(f"sweep {side.key}", partial(measure, side, inputs, inputs.few))
    chosen = [thumbs_side(scenario), *fastest(sides, results)]
    if scenario.has_default_peer:
        peer, rows = PEERS[0], DEFAULT_FORWARD_ROWS
        chosen.append(trl_side(scenario, peer, options.pythons[peer.key], rows, default=True))
    for repeat in range(options.repeats):
        for side in chosen:  # in turn, so that a slow hour of the machine meets every side
            key = f"full {side.key} {repeat + 1}"
            results.once(key, partial(measure, side, inputs, inputs.feedback))
    smallest = leanest(sides, results)
    if smallest is not None and smallest not in chosen:
        key = f"full {smallest.key} 1"
        results.once(key, lambda: measure(smallest, inputs, inputs.feedback))
    if scenario.follows_losses:
        for peer in PEERS:
            side = trl_side(scenario, peer, options.pythons[peer.key], DEFAULT_FORWARD_ROWS)
            follow = partial(compare_losses, scenario, side, inputs, prepared)
            results.once(f"losses {peer.key}", follow)


def warm_up(sides: Sequence[Side], folder: Path) -> None:
    """Read every side's libraries once, so that none is measured while the disk is."""
    imports = dict.fromkeys((side.python, "import benchmarks.trl_bench") for side in sides)
    for python, code in [(sys.executable, "import thumbs.pipeline"), *imports]:
        run_measured([python, "-c", code], threads=THREADS, scratch=folder)


def plan_of(scenario: Scenario, inputs: Inputs) -> Prepared:
    """The rows and batches that thumbs will train on."""
    changes = [f"{key}={value}" for key, value in thumbs_settings(scenario).items()]
    config = load_config(None, changes, model=str(inputs.model))
    prepared = prepare(inputs.feedback, config, date.today())
    cut = sum(prepared.tokenized.counts.values()) + sum(prepared.tokenized.drops.values())
    assert not cut, "a row is longer than MAX_TOKENS: the sides would train on other tokens"
    return prepared


def describe(prepared: Prepared) -> dict[str, Any]:
    """Counts and lengths of the rows."""
    rows = prepared.rows
    prompts = {row.prompt_ids for row in rows}
    return {
        "rows": len(rows),
        "prompts": len(prompts),
        "desirable": sum(row.desirable for row in rows),
        "mean_prompt_tokens": sum(len(row.prompt_ids) for row in rows) / len(rows),
        "mean_completion_tokens": sum(len(row.completion_ids) for row in rows) / len(rows),
        "longest_tokens": max(len(row.prompt_ids) + len(row.completion_ids) for row in rows),
    }


def shape_of(scenario: Scenario, inputs: Inputs) -> Shape:
    """What the arithmetic of a step depends on; embedding and head are one tensor."""
    config = inputs.config
    body = inputs.parameters - config.vocab_size * config.hidden_size
    adapters = 0
    if scenario.lora_rank:
        head_width = config.hidden_size // config.num_attention_heads
        narrow = (config.num_key_value_heads or config.num_attention_heads) * head_width
        h, i = config.hidden_size, config.intermediate_size
        ends = [(h, h), (h, narrow), (h, narrow), (h, h), (h, i), (h, i), (i, h)]
        adapters = config.num_hidden_layers * LORA_RANK * sum(map(sum, ends))
    return Shape(body, config.hidden_size, config.vocab_size, adapters)


def fastest(sides: Sequence[Side], results: Results) -> list[Side]:
    """Of each peer the setting that took the fewest seconds in the sweep."""
    best: dict[str, Side] = {}
    for side in sides:
        seconds = results.figure(f"sweep {side.key}", "seconds")
        if seconds is None:
            continue
        held = best.get(side.peer)
        if held is None or seconds < (results.figure(f"sweep {held.key}", "seconds") or 0.0):
            best[side.peer] = side
    return list(best.values())


def leanest(sides: Sequence[Side], results: Results) -> Side | None:
    """The setting of any peer with the lowest peak of memory in the sweep."""
    peaks = {side: results.figure(f"sweep {side.key}", "peak_mb") for side in sides}
    known = {side: peak for side, peak in peaks.items() if peak is not None}
    return min(known, key=lambda side: known[side]) if known else None


def compare_losses(
    scenario: Scenario, theirs: Side, inputs: Inputs, prepared: Prepared
) -> dict[str, Any]:
    """Losses of both sides on the same batches in the same order, and log-probs at step 0."""
    order = [prepared.rows[i] for batch in prepared.epochs[0] for i in batch.rows]
    records = {record.id: record for record in read_feedback(inputs.feedback)}
    ordered = inputs.feedback.with_name("ordered.jsonl")
    write_feedback(ordered, [records[row.record_id] for row in order])
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        ours = thumbs_side(scenario).run(inputs, inputs.feedback, scratch)
        sums = reference_sums(scratch / "run", prepared)
    with tempfile.TemporaryDirectory() as folder:
        told = theirs.run(inputs, ordered, Path(folder), wants_reference=True)
    by_place = [sums[i] for batch in prepared.epochs[0] for i in batch.rows]
    apart = [abs(a - b) for a, b in zip(by_place, told["reference_logps"], strict=True)]
    return {
        "peer": theirs.title,
        "thumbs": ours["losses"],
        "thumbs_z0": ours["z0"],
        "trl": told["losses"],
        "reference_mean": sum(by_place) / len(by_place),
        "reference_apart_max": max(apart),
        "reference_apart_mean": sum(apart) / len(apart),
    }


if __name__ == "__main__":
    main()
