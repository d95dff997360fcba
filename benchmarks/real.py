"""256 real rows through `thumbs` and, the feedback file unchanged, through TRL.

`make real`, or: python -m benchmarks.real --trl-python PYTHON_WITH_TRL
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measured import (
    ROOT,
    Measured,
    machine,
    run_measured,
    setting_lines,
    versions,
    write_results,
)
from thumbs.models.tiny import llama_25m, random_model, train_bpe

PAIRS = ROOT.parent / "shared" / "data" / "hh-harmless" / "pairs.jsonl"
NUM_PAIRS = 128
VOCAB_SIZE = 16_000
MAX_TOKENS = 512
BATCH_ROWS = 16
LEARNING_RATE = 1e-4  # the model is random and small; both trainers get the same
SEED = 0
THREADS = 2
THUMBS_SETTINGS = {
    "model.dtype": "float32",
    "data.heldout_fraction": 0,  # so that both trainers train on every row
    "data.max_tokens": MAX_TOKENS,
    "train.batch_size": BATCH_ROWS,
    "train.learning_rate": LEARNING_RATE,
    "train.seed": SEED,
}
TRL_FORWARD_ROWS = 2  # pads least: the fewest TRL accepts
TRL_SETTINGS = {
    "per_device_train_batch_size": TRL_FORWARD_ROWS,
    "gradient_accumulation_steps": BATCH_ROWS // TRL_FORWARD_ROWS,
    "num_train_epochs": 1,
    "max_length": MAX_TOKENS,
    "learning_rate": LEARNING_RATE,
    "warmup_steps": 0.1,
    "precompute_ref_log_probs": True,
    "gradient_checkpointing": False,
    "bf16": False,  # its default is True; both compute in float32 here
    "logging_steps": 1,
    "disable_tqdm": True,
    "seed": SEED,
}


def main() -> None:
    """Write results/real.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl-python", required=True, help="a Python that has TRL")
    trl_python = parser.parse_args().trl_python
    if not PAIRS.is_file():
        print("error: ../shared/data/hh-harmless/pairs.jsonl is not there", file=sys.stderr)
        raise SystemExit(2)
    with tempfile.TemporaryDirectory() as folder:
        record = compare(Path(folder), trl_python)
    write_results("real", record, page(record))


def compare(folder: Path, trl_python: str) -> dict[str, Any]:
    """Both runs, one after the other, on one feedback file and one model."""
    pairs, feedback, model = (folder / name for name in ("pairs.jsonl", "feedback.jsonl", "model"))
    data = choose_pairs(pairs)
    data["parameters"] = save_model(model)
    thumbs = [sys.executable, "-m", "thumbs"]
    imported = _run(folder, [*thumbs, "import", str(pairs), "--out", str(feedback), "--json"])
    data["import"] = _portable(json.loads(imported.stdout), folder)
    ours = run_thumbs(thumbs, model, feedback, folder)
    theirs = run_trl(trl_python, model, feedback, folder)
    return {
        "command": "make real",
        "machine": machine(),
        "threads": THREADS,
        "versions": {
            "thumbs": versions("thumbs", "transformers", "torch"),
            "TRL": theirs.pop("versions"),
        },
        "data": data,
        "thumbs": ours,
        "trl": theirs,
    }


def choose_pairs(out: Path) -> dict[str, Any]:
    """Write the first NUM_PAIRS pairs without an empty answer, and count the others met."""
    chosen: list[str] = []
    num_empty = 0
    with PAIRS.open(encoding="utf-8") as lines:
        for line in lines:
            empty = sum(not _answer(transcript) for transcript in json.loads(line).values())
            num_empty += empty
            if not empty:
                chosen.append(line)
            if len(chosen) == NUM_PAIRS:
                break
    out.write_text("".join(chosen), encoding="utf-8")
    return {"source": "hh-harmless", "pairs": len(chosen), "empty_answers_left_out": num_empty}


def save_model(folder: Path) -> int:
    """Write a random 25M Llama with a tokenizer of the same texts; its number of parameters."""
    with PAIRS.open(encoding="utf-8") as lines:
        texts = [text for line in lines for text in json.loads(line).values()]
    train_bpe(texts, VOCAB_SIZE, chat_template="chatml").save_pretrained(folder)
    model = random_model(llama_25m(), seed=SEED)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def run_thumbs(thumbs: Sequence[str], model: Path, feedback: Path, folder: Path) -> dict[str, Any]:
    """`thumbs train` as its own process."""
    changes = [
        text for key, value in THUMBS_SETTINGS.items() for text in ("--set", f"{key}={value}")
    ]
    files = [str(feedback), "--model", str(model), "--out", str(folder / "run")]
    measured = _run(folder, [*thumbs, "train", *files, *changes, "--json"])
    told = _portable(json.loads(measured.stdout), folder)
    return {**_figures(measured), "settings": THUMBS_SETTINGS, "told": told}


def run_trl(trl_python: str, model: Path, feedback: Path, folder: Path) -> dict[str, Any]:
    """TRL's KTOTrainer as its own process."""
    out = folder / "trl.json"
    files = [str(model), str(feedback), json.dumps(TRL_SETTINGS), str(out)]
    measured = _run(folder, [trl_python, "-m", "benchmarks.trl_real", *files])
    told = json.loads(out.read_text(encoding="utf-8"))
    found = told.pop("versions")
    return {**_figures(measured), "settings": TRL_SETTINGS, "told": told, "versions": found}


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    data, ours, theirs = record["data"], record["thumbs"], record["trl"]
    told = theirs["told"]
    rows = data["import"]["records"]
    thumbs_name = f"thumbs {record['versions']['thumbs']['thumbs']}"
    thumbs_cells = f"{rows} | {ours['told']['steps']} | {_size(ours)} | {ours['told']['loss']:.4f}"
    trl_name = f"TRL {record['versions']['TRL']['trl']}"
    trl_cells = f"{told['rows']} | {told['steps']} | {_size(theirs)} | {told['loss_last_step']:.4f}"
    return f"""# {rows} real rows, a 25M Llama, {record["threads"]} threads

Both answers of the first {data["pairs"]} pairs of hh-harmless without an empty answer
(empty answers met and left out: {data["empty_answers_left_out"]}), through `thumbs import`, then
one epoch of KTO in float32, in batches of {BATCH_ROWS} rows of at most {MAX_TOKENS} tokens, with a
randomly initialised Llama of {data["parameters"] / 1e6:.1f}M parameters. TRL gets the same feedback
file as it is, by `datasets.load_dataset("json")`. Each run is a process of its own, one after the
other; the figures are those of the whole process, imports and reference pass included, and of one
run each.

| | rows | steps | seconds | CPU seconds | others' CPU seconds | peak MB | last loss |
|---|---|---|---|---|---|---|---|
| {thumbs_name} | {thumbs_cells} |
| {trl_name} | {trl_cells} |

- TRL's setting: cached reference, no checkpointing, float32 on both sides
  (the default of both may be bf16), {TRL_FORWARD_ROWS} rows per forward, accumulated to
  {BATCH_ROWS}. One setting, not a sweep, on a CPU: nothing here tells TRL's best, or anything about
  a GPU.
- Others' CPU seconds are what the rest of the machine used meanwhile: the wall-clock seconds of a
  run that had to share its cores are longer than those of a machine of its own, and not a
  measurement of speed.
- The losses cannot be compared: the batches hold other rows, and TRL takes z0 from the rows of one
  forward. In the order of this file {told["same_prompt_pairs"]} of its {told["rows"]} mismatched
  answers were written for the very prompt they are paired with.

{setting_lines(record)}
"""


def _run(folder: Path, command: Sequence[str]) -> Measured:
    return run_measured(command, threads=THREADS, scratch=folder)


def _figures(measured: Measured) -> dict[str, float | None]:
    others = measured.others_cpu_seconds
    return {
        "seconds": round(measured.seconds, 1),
        "cpu_seconds": round(measured.cpu_seconds, 1),
        "others_cpu_seconds": others if others is None else round(others, 1),
        "peak_mb": round(measured.peak_bytes / 1e6, 0),
    }


def _size(run: dict[str, Any]) -> str:
    keys = ("seconds", "cpu_seconds", "others_cpu_seconds", "peak_mb")
    return " | ".join("unknown" if run[key] is None else f"{run[key]:g}" for key in keys)


def _answer(transcript: str) -> str:
    return transcript.rpartition("\n\nAssistant:")[2].strip()


def _portable(told: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a command told, without the temporary folder's name."""
    cleaned: dict[str, Any] = json.loads(json.dumps(told).replace(f"{folder}/", ""))
    return cleaned


if __name__ == "__main__":
    main()
