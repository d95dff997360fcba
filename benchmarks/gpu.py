"""thumbs on a GPU, beside TRL where it can be imported: tokens/s, memory, model FLOP utilisation.

python -m benchmarks.gpu [--trl-python P]. Randomly initialised models of Qwen3's shapes (0.6B and
1.7B), made-up rows of the lengths of hh-harmless, weights in float32 and products in bfloat16.
`--tiny --device cpu` runs the same path with a tiny shape, to test it.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config

from benchmarks.bench_sides import figures
from benchmarks.measured import RESULTS, machine, run_measured, versions
from benchmarks.scenarios import BATCH_ROWS, LEARNING_RATE, MAX_TOKENS, SEED, save_model, write_rows
from benchmarks.synthetic_text import pair_lines
from thumbs.config import load_config
from thumbs.files import write_bytes
from thumbs.prepare import prepare
from thumbs.scoring.work import Shape, plan_flops, share_of_ceiling

CPU_THREADS = min(8, os.cpu_count() or 1)
TRL_FORWARD_ROWS = (4, 16)
_QWEN3: dict[str, Any] = {
    "vocab_size": 151_936,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
# Source: config.json of Qwen/Qwen3-0.6B and Qwen/Qwen3-1.7B.
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": {**_QWEN3, "hidden_size": 1024, "intermediate_size": 3072},
    "qwen3-1.7b": {**_QWEN3, "hidden_size": 2048, "intermediate_size": 6144},
}
TINY: dict[str, dict[str, Any]] = {
    "tiny": {
        **_QWEN3,
        "vocab_size": 16_384,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
    }
}


def main() -> None:
    """Write results/gpu.json and print it; exit code 2 where the device is not there."""
    options = parse(sys.argv[1:])
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "error: --device cuda: there is no CUDA device; try the path with --tiny --device cpu",
            file=sys.stderr,
        )
        raise SystemExit(2)
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for the processes of both sides
    shapes = TINY if options.tiny else SHAPES
    record: dict[str, Any] = {
        "machine": machine() | {"device": _device_name(options.device)},
        "versions": versions("thumbs", "transformers", "torch"),
        "rows": options.rows,
        "batch_rows": options.batch,
        "models": {},
    }
    for name, shape in shapes.items():
        with tempfile.TemporaryDirectory() as folder:
            record["models"][name] = run_shape(shape, options, Path(folder))
        options.out.mkdir(parents=True, exist_ok=True)
        write_bytes(options.out / "gpu.json", (json.dumps(record, indent=1) + "\n").encode())
    print(json.dumps(record, indent=1))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__)
    parser.add_argument("--trl-python", help="a Python that has TRL; default: this one, if it has")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny shape, to test the path")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2 * BATCH_ROWS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(arguments)
    if options.trl_python is None and find_spec("trl") is not None:
        options.trl_python = sys.executable
    return options


def run_shape(
    shape: Mapping[str, Any], options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    """The ceiling, thumbs and TRL with one model."""
    pairs = list(pair_lines(options.rows, SEED))  # of which half the answers are trained on
    model, feedback = folder / "model", folder / "feedback.jsonl"
    config = Qwen3Config(**shape)
    parameters = save_model(model, config, pairs)
    write_rows(feedback, pairs, options.rows, one_answer=False)
    sizes = (config.hidden_size, config.intermediate_size, config.vocab_size)
    command = [sys.executable, "-m", "benchmarks.ceiling", options.device, *map(str, sizes)]
    measured = run_measured(command, threads=CPU_THREADS, scratch=folder / "ceiling")
    ceiling = json.loads(measured.stdout)
    settings = {
        "model.dtype": "mixed_bfloat16",
        "data.heldout_fraction": 0,
        "data.max_tokens": MAX_TOKENS,
        "train.batch_size": options.batch,
        "train.learning_rate": LEARNING_RATE,
        "train.seed": SEED,
    }
    changes = [f"{key}={value}" for key, value in settings.items()]
    prepared = prepare(feedback, load_config(None, changes, model=str(model)), date.today())
    body = parameters - config.vocab_size * config.hidden_size
    needed = Shape(body, config.hidden_size, config.vocab_size)
    flops = plan_flops(prepared.epochs[0], prepared.rows, needed)
    tokens = sum(len(row.prompt_ids) + len(row.completion_ids) for row in prepared.rows)
    sides = {"thumbs": run_thumbs(model, feedback, changes, folder / "thumbs")}
    if options.trl_python:
        for rows in TRL_FORWARD_ROWS:
            sides[f"TRL, {rows} rows per forward"] = run_trl(
                options, model, feedback, rows, folder / f"trl-{rows}"
            )
    best = 1e9 * ceiling["bfloat16"]["best"]
    return {
        "parameters": parameters,
        "tokens": tokens,
        "tflop": sum(flops) / 1e12,
        "ceiling": ceiling,
        "sides": {name: side | rates(side, tokens, flops, best) for name, side in sides.items()},
    }


def rates(
    side: Mapping[str, Any], tokens: int, flops: Sequence[int], ceiling: float
) -> dict[str, float]:
    """Tokens of prompts and answers per second of the steps, and the share of the ceiling.

    tokens: of all rows, each with its own prompt, whoever computes it how often. Both leave the
    first step out as warm-up.
    """
    seconds = side["step_seconds"]
    return {
        "tokens_per_second": tokens * (len(seconds) - 1) / len(seconds) / sum(seconds[1:]),
        "model_flop_utilisation": share_of_ceiling(flops, seconds, ceiling),
    }


def run_thumbs(
    model: Path, feedback: Path, changes: Sequence[str], scratch: Path
) -> dict[str, Any]:
    """`thumbs train` as a process of its own."""
    scratch.mkdir()
    out = scratch / "job.json"
    sets = [word for change in changes for word in ("--set", change)]
    files = [str(feedback), "--model", str(model), "--out", str(scratch / "run"), *sets, "--json"]
    command = [sys.executable, "-m", "benchmarks.thumbs_job", str(out), "train", *files]
    measured = run_measured(command, threads=CPU_THREADS, scratch=scratch)
    lines = (scratch / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    told: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return {**figures(measured), **told, "step_seconds": [step["seconds"] for step in steps]}


def run_trl(
    options: argparse.Namespace, model: Path, feedback: Path, forward_rows: int, scratch: Path
) -> dict[str, Any]:
    """TRL with a cached reference and no checkpointing, so many rows per forward."""
    scratch.mkdir()
    out = scratch / "trl.json"
    settings = {
        "use_cpu": options.device == "cpu",
        "per_device_train_batch_size": forward_rows,
        "gradient_accumulation_steps": options.batch // forward_rows,
        "num_train_epochs": 1,
        "max_length": MAX_TOKENS,
        "learning_rate": LEARNING_RATE,
        "bf16": True,
        "model_init_kwargs": {"dtype": "float32"},
        "precompute_ref_log_probs": True,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "disable_tqdm": True,
        "seed": SEED,
    }
    job = {"config": settings, "lora_rank": None, "wants_reference": False}
    files = [str(model), str(feedback), json.dumps(job), str(out)]
    command = [options.trl_python, "-m", "benchmarks.trl_bench", *files]
    measured = run_measured(command, threads=CPU_THREADS, scratch=scratch)
    told: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return {**figures(measured), **told}


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


if __name__ == "__main__":
    main()
