"""The peak memory that `thumbs plan` foretells, beside that of the run.

`make memory`, or: python -m benchmarks.memory

A plan and a run of a few steps, each a process of its own, of the Llamas of 25M (32,000 words) and
43M (151,936 words) in float32 and bfloat16, of adapters, and of shapes drawn from a seed.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import LlamaConfig

from benchmarks.measured import machine, run_measured, setting_lines, versions, write_results
from benchmarks.scenarios import SCENARIOS, model_config, save_model, write_rows
from benchmarks.synthetic_text import pair_lines
from thumbs.models.tiny import llama_25m

ROWS, BATCH_ROWS, STEPS, THREADS = 48, 16, 3, 2
NUM_TEXTS = 600


def main() -> None:
    """Measure, print, write results/memory.json and .md."""
    parser = argparse.ArgumentParser(prog="benchmarks.memory", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shapes", type=int, default=5)
    options = parser.parse_args()
    texts = list(pair_lines(NUM_TEXTS, options.seed))
    rows = []
    for title, config, changes in cases(options.seed, options.shapes):
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"title": title, **peaks(config, changes, texts, Path(folder))})
        print(rows[-1], file=sys.stderr, flush=True)
    record = {
        "command": f"python -m benchmarks.memory --seed {options.seed} --shapes {options.shapes}",
        "machine": machine(),
        "versions": {"thumbs": versions("thumbs", "transformers", "torch")},
        "rows": rows,
    }
    write_results("memory", record, page(record))


def cases(seed: int, num_shapes: int) -> Iterator[tuple[str, LlamaConfig, dict[str, Any]]]:
    """Titles, models and settings."""
    small, large = llama_25m(), model_config(SCENARIOS["large-vocab"])
    yield "25M, float32", small, {"model.dtype": "float32"}
    yield "25M, bfloat16 products", small, {"model.dtype": "mixed_bfloat16"}
    yield "43M, float32", large, {"model.dtype": "float32"}
    yield "43M, bfloat16 products", large, {"model.dtype": "mixed_bfloat16"}
    yield "25M, adapters of rank 16", small, {"model.dtype": "float32", "model.lora.r": 16}
    draw = random.Random(seed)
    for _ in range(num_shapes):
        config = drawn(draw)
        sizes = (config.hidden_size, config.intermediate_size, config.num_hidden_layers)
        title = "drawn: width {}, MLP {}, {} layers".format(*sizes)
        yield f"{title}, {config.vocab_size:,} words", config, {"model.dtype": "float32"}


def drawn(draw: random.Random) -> LlamaConfig:
    """A Llama of random sizes."""
    heads, width = draw.choice([4, 8, 12]), draw.choice([32, 64])
    return LlamaConfig(
        **{
            **llama_25m(vocab_size=draw.choice([16_000, 32_000, 64_000])).to_dict(),
            "hidden_size": heads * width,
            "head_dim": width,
            "intermediate_size": draw.choice([512, 1024, 2048]),
            "num_hidden_layers": draw.choice([2, 4, 8]),
            "num_attention_heads": heads,
            "num_key_value_heads": heads // draw.choice([1, 2]),
        }
    )


def peaks(
    config: LlamaConfig, changes: dict[str, Any], texts: list[str], folder: Path
) -> dict[str, Any]:
    """What the plan says and what the run took, in bytes."""
    parameters = save_model(folder / "model", config, texts)
    write_rows(folder / "feedback.jsonl", texts, ROWS, one_answer=False)
    chosen = {
        **changes,
        "data.heldout_fraction": 0,
        "train.batch_size": BATCH_ROWS,
        "train.max_steps": STEPS,
    }
    words = [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]
    files = [str(folder / "feedback.jsonl"), "--model", str(folder / "model")]
    thumbs = [sys.executable, "-m", "thumbs"]
    plan = [*thumbs, "plan", *files, *words, "--json"]
    told = json.loads(run_measured(plan, threads=THREADS, scratch=folder).stdout)
    train = [*thumbs, "train", *files, "--out", str(folder / "run"), *words, "--json"]
    run = run_measured(train, threads=THREADS, scratch=folder)
    return {
        "parameters": parameters,
        "planned": told["peak_bytes"],
        "measured": run.peak_bytes,
        "ratio": round(told["peak_bytes"] / run.peak_bytes, 3),
    }


def page(record: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Peak memory, planned and measured",
        "",
        "`thumbs plan` against a run of a few steps (`make memory`); memory of whole processes.",
        "",
        "|  | parameters | planned MB | measured MB | planned / measured |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        sizes = f"{row['planned'] / 1e6:,.0f} | {row['measured'] / 1e6:,.0f} | {row['ratio']:.2f}"
        lines.append(f"| {row['title']} | {row['parameters'] / 1e6:.1f}M | {sizes} |")
    worst = max(record["rows"], key=lambda row: abs(1 - row["ratio"]))
    lines += ["", f"- Farthest off: {worst['ratio']:.2f} ({worst['title']}).", ""]
    return "\n".join(lines) + setting_lines(record) + "\n"


if __name__ == "__main__":
    main()
