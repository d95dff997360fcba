"""From 1,000 to 1,000,000 rows: what plan, reading, tokenising and the way to step 1 cost.

`make scale`, or: python -m benchmarks.scale. Every figure is of a process of its own.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from benchmarks.measured import (
    ROOT,
    Measured,
    machine,
    run_measured,
    setting_lines,
    versions,
    write_results,
)
from benchmarks.scenarios import save_model
from thumbs.config import load_config
from thumbs.data.plan import PlanSettings, plan_columns, plan_epochs
from thumbs.data.rows import DIGEST_BYTES, Parts, StoredRows
from thumbs.feedback.importing import import_feedback
from thumbs.models.tiny import llama_25m
from thumbs.scoring.cache import KnownScores
from thumbs.scoring.planned import planned_sequences

PAIRS = ROOT.parent / "shared" / "data" / "hh-harmless" / "pairs.jsonl"
PLAN_ROWS = (1_000, 10_000, 100_000, 1_000_000)
FRONT_ROWS = (1_000, 10_000, 100_000)
START_ROWS = (128, 10_000)
MAX_TOKENS = 512
BATCH_ROWS = 32
THREADS = 2


def main() -> None:
    """Write results/scale.json and .md, or do one part and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=[*PARTS])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.part:
        figures = PARTS[given.part](given.rows, given.folder)
        print(json.dumps(figures | {"peak_mb": _peak_mb()}))
        return
    if not PAIRS.is_file():
        print("error: ../shared/data/hh-harmless/pairs.jsonl is not there", file=sys.stderr)
        raise SystemExit(2)
    with tempfile.TemporaryDirectory() as folder:
        record = measure(Path(folder))
    write_results("scale", record, page(record))


def measure(folder: Path) -> dict[str, Any]:
    """Every part at every size, one after the other."""
    save_model(folder / "model", llama_25m(), PAIRS.read_text(encoding="utf-8").splitlines())
    import_feedback([PAIRS], folder / "all.jsonl")
    found: dict[str, Any] = {"plan": [_part("plan", n, folder) for n in PLAN_ROWS]}
    found["front"] = []
    for n in FRONT_ROWS:
        _write_rows(folder, n)
        found["front"].append(_part("front", n, folder) | {"again": _part("front", n, folder)})
    found["start"] = []
    for n in START_ROWS:
        _write_rows(folder, n)
        _part("start", n, folder)  # fills the caches
        found["start"].append(_part("start", n, folder))
    return {
        "command": "make scale",
        "machine": machine(),
        "threads": THREADS,
        "versions": {"thumbs": versions("thumbs", "transformers", "tokenizers", "torch", "scipy")},
        **found,
    }


def measure_plan(n: int, folder: Path) -> dict[str, float]:
    """Plan of one epoch and index of its sequences, from lengths and hashes as they are stored."""
    rows = _stored(n)
    settings = PlanSettings(batch_size=BATCH_ROWS, epochs=1, seed=0, max_tokens=MAX_TOKENS)
    started = time.perf_counter()
    columns = plan_columns(rows)
    [batches] = plan_epochs(columns, range(n), settings)
    planned_at = time.perf_counter()
    planned = planned_sequences(rows, batches)
    digests = planned.digests()
    indexed_at = time.perf_counter()
    cache = folder / f"cache-{n}"
    cache.mkdir(exist_ok=True)
    save_file({"sequences": digests}, cache / "known.safetensors")
    asked_at = time.perf_counter()
    places = KnownScores(cache).look_up(digests)
    looked_up = time.perf_counter() - asked_at
    assert (places == np.arange(len(planned))).all(), "every sequence is found where it stands"
    return {
        "plan_seconds": planned_at - started,
        "index_seconds": indexed_at - planned_at + looked_up,
        "sequences": len(planned),
        "unmatched": sum(batch.unmatched for batch in batches),
    }


def measure_front(n: int, folder: Path) -> dict[str, float]:
    """All that comes before a model is loaded: read, tokenise, plan."""
    from thumbs.prepare import prepare

    config = _config(folder)
    started = time.perf_counter()
    prepared = prepare(_feedback(folder, n), config, date(2026, 1, 1))
    return {
        "prepare_seconds": time.perf_counter() - started,
        "rows": len(prepared.rows),
        "tokens": int(prepared.rows.tokens.sum()),
    }


def measure_start(n: int, folder: Path) -> dict[str, float]:
    """`thumbs train` up to its first step, without imports and without loading the model.

    The reference's values are zeros: what is measured is finding them.
    """
    from thumbs import pipeline
    from thumbs.models import load
    from thumbs.scoring import reference
    from thumbs.train import loop

    marks: dict[str, float] = {}
    load_model = load.load_model

    class FirstStepError(Exception):
        pass

    def timed_load(*args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        loaded = load_model(*args, **options)
        marks["load_seconds"] = time.perf_counter() - began
        return loaded

    def first_step(*_args: Any, **_options: Any) -> Any:
        raise FirstStepError

    def zeros(_scorer: Any, sequences: Sequence[Any], **_options: Any) -> list[torch.Tensor]:
        return [torch.zeros(len(completion)) for _, completion in sequences]

    changes: list[tuple[Any, str, Any]] = [
        (pipeline, "load_model", timed_load),
        (loop, "train_step", first_step),
        (reference, "score_in_micro_batches", zeros),
    ]
    for module, name, stand_in in changes:
        setattr(module, name, stand_in)
    config = _config(folder)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        began = time.perf_counter()
        try:
            pipeline.train_model(_feedback(folder, n), config, Path(out) / "run")
        except FirstStepError:
            marks["rest_seconds"] = time.perf_counter() - began - marks["load_seconds"]
    return marks


PARTS: dict[str, Callable[[int, Path], dict[str, float]]] = {
    "plan": measure_plan,
    "front": measure_front,
    "start": measure_start,
}


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    plan = "\n".join(
        f"| {r['num_rows']:,} | {r['plan_seconds']:.2f} | {r['index_seconds']:.2f} | "
        f"{1e6 * (r['plan_seconds'] + r['index_seconds']) / r['num_rows']:.0f} | "
        f"{r['sequences']:,} | {r['peak_mb']:.0f} |"
        for r in record["plan"]
    )
    front = "\n".join(
        f"| {r['num_rows']:,} | {r['prepare_seconds']:.2f} | "
        f"{1e6 * r['prepare_seconds'] / r['num_rows']:.0f} | {r['peak_mb']:.0f} | "
        f"{r['again']['prepare_seconds']:.2f} | {r['again']['peak_mb']:.0f} | {r['tokens']:,} |"
        for r in record["front"]
    )
    start = "\n".join(
        f"| {r['num_rows']:,} | {r['rest_seconds']:.2f} | {r['load_seconds']:.2f} | "
        f"{r['seconds']:.2f} | {r['peak_mb']:.0f} |"
        for r in record["start"]
    )
    others = [r["others_cpu_seconds"] for part in ("plan", "front", "start") for r in record[part]]
    shared = ", ".join("unknown" if s is None else f"{s:g}" for s in others)
    return f"""# From 1,000 to 1,000,000 rows, {record["threads"]} threads

Every line is a process of its own, run once; peak MB is that of the whole process, imports
included, the forks that tokenise not. CPU seconds the rest of the machine used meanwhile, line by
line: {shared}.

## Plan of one epoch and index of its sequences

From made-up rows as they are stored: lengths and hashes, two answers a prompt, batches of
{BATCH_ROWS}. The index holds every (x, y) and (x, y') and finds each one in a cache that has all.

| rows | plan s | index s | microseconds a row | sequences | peak MB |
|---|---|---|---|---|---|
{plan}

## Read, tokenise, plan

Rows of hh-harmless of at most {MAX_TOKENS} tokens, repeated with a number in prompt and answer so
that all differ; then once more, with the rows from the cache.

| rows | s | microseconds a row | peak MB | again s | again peak MB | tokens |
|---|---|---|---|---|---|---|
{front}

## `thumbs train` up to its first step

A 25M Llama; rows and reference values from the cache (the values are zeros here, so that the
cache is filled in no time). "Rest" is all beside imports and loading the model; the whole process
ends where the first step would begin, with the imports of this script in it.

| rows | rest s | loading s | whole process s | peak MB |
|---|---|---|---|---|
{start}

{setting_lines(record)}
"""


def _part(name: str, n: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", "--part", name]
    command += ["--rows", str(n), "--folder", str(folder)]
    measured: Measured = run_measured(command, threads=THREADS, scratch=folder)
    others = measured.others_cpu_seconds
    return {
        "num_rows": n,
        **json.loads(measured.stdout),
        "seconds": round(measured.seconds, 2),
        "cpu_seconds": round(measured.cpu_seconds, 2),
        "others_cpu_seconds": others if others is None else round(others, 1),
    }


def _peak_mb() -> float:
    """The most this process held; what wait4 tells begins at the size of the parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return round(int(line.split()[1]) * 1024 / 1e6)


def _config(folder: Path) -> Any:
    settings = [f"data.max_tokens={MAX_TOKENS}", f"train.batch_size={BATCH_ROWS}"]
    return load_config(None, settings, model=str(folder / "model"))


def _feedback(folder: Path, n: int) -> Path:
    return folder / f"rows-{n}.jsonl"


def _write_rows(folder: Path, n: int) -> None:
    """n real records; from the second time on each carries a number that makes it another."""
    records = [json.loads(line) for line in (folder / "all.jsonl").open(encoding="utf-8")]
    with _feedback(folder, n).open("w", encoding="utf-8") as file:
        for i in range(n):
            time_met, place = divmod(i, len(records))
            record = json.loads(json.dumps(records[place]))
            if time_met:
                for message in (record["prompt"][0], record["completion"][0]):
                    message["content"] += f" ({time_met})"
                record["id"] += f"-{time_met}"
                record["conversation"] += f"-{time_met}"
            file.write(json.dumps(record) + "\n")


def _stored(n: int) -> StoredRows:
    """n rows, two to a prompt, of which lengths and hashes are there and token ids are not."""
    draw = np.random.default_rng(0)

    def parts(count: int, low: int, high: int) -> Parts:
        lengths = draw.integers(low, high, count)
        return Parts(np.zeros(0, np.int32), np.concatenate([[0], np.cumsum(lengths)]))

    def texts(width: int) -> Parts:
        content = draw.integers(97, 123, n * width, np.uint8)
        return Parts(content, np.arange(n + 1, dtype=np.int64) * width)

    num_prompts = (n + 1) // 2
    return StoredRows(
        prompt=(np.arange(n) // 2).astype(np.int32),
        text=np.arange(n, dtype=np.int32),
        prompts=parts(num_prompts, 20, 300),
        completions=parts(n, 5, 200),
        loss=np.zeros(0, np.bool_),
        prompt_digest=draw.integers(0, 256, (num_prompts, DIGEST_BYTES), np.uint8),
        text_digest=draw.integers(0, 256, (n, DIGEST_BYTES), np.uint8),
        desirable=np.arange(n) % 2 == 0,
        weight=np.ones(n),
        cut=np.zeros(n, np.bool_),
        key=texts(34),
        record_id=texts(16),
        conversation=texts(16),
    )


if __name__ == "__main__":
    main()
