"""The labels of every batch on 2,000 preference pairs, planned here and loaded by TRL.

`make label-blocks`, or: python -m benchmarks.label_blocks --trl-python PYTHON_WITH_TRL
"""

import argparse
import json
import random
import tempfile
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.measured import machine, run_measured, setting_lines, versions, write_results
from thumbs.data.plan import PlanColumns, PlanSettings, plan_columns, plan_epochs
from thumbs.data.tokenizing import tokenize
from thumbs.feedback.file import read_feedback
from thumbs.feedback.importing import import_feedback
from thumbs.models.tiny import save_tiny, tiny_tokenizer

NUM_PAIRS = 2_000
SEED = 0
TRL_BATCH_ROWS = 8  # per device, TRL's default
BATCH_SIZES = (7, 8, 32)  # an odd one, TRL's, thumbs' default
MAX_TOKENS = 512


def main() -> None:
    """Write results/label_blocks.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl-python", required=True, help="a Python that has TRL")
    trl_python = parser.parse_args().trl_python
    with tempfile.TemporaryDirectory() as folder:
        record = compare(Path(folder), trl_python)
    write_results("label_blocks", record, page(record))


def compare(folder: Path, trl_python: str) -> dict[str, Any]:
    """The counts of thumbs, and of TRL for the pairs and for the feedback file made of them."""
    pairs, feedback = folder / "pairs.jsonl", folder / "feedback.jsonl"
    pairs.write_text("".join(map(_line, make_pairs(NUM_PAIRS, SEED))), encoding="utf-8")
    imported = import_feedback([pairs], feedback)
    columns = columns_of(feedback)
    model = save_tiny(folder / "model", "llama")
    on_pairs = run_trl(trl_python, model, pairs, folder / "pairs.json")
    on_feedback = run_trl(trl_python, model, feedback, folder / "feedback.json")
    return {
        "command": "make label-blocks",
        "machine": machine(),
        "versions": {
            "thumbs": versions("thumbs", "transformers", "numpy", "scipy"),
            "TRL": on_pairs.pop("versions"),
        },
        "data": {
            "pairs": NUM_PAIRS,
            "seed": SEED,
            "desirable": imported.desirable,
            "undesirable": imported.undesirable,
        },
        "thumbs": [count_labels(columns, batch_size) for batch_size in BATCH_SIZES],
        "trl_on_the_pairs": on_pairs,
        "trl_on_the_feedback_file": {k: v for k, v in on_feedback.items() if k != "versions"},
    }


def make_pairs(num_pairs: int, seed: int) -> list[dict[str, str]]:
    """Distinct sums as TRL preference pairs: the chosen answer is right, the rejected one wrong."""
    rng = random.Random(seed)
    terms = rng.sample([(a, b) for a in range(10, 100) for b in range(10, 100)], num_pairs)
    return [
        {
            "prompt": f"What is {a} plus {b}?",
            "chosen": f" {a} plus {b} is {a + b}.",
            "rejected": f" {a} plus {b} is {a + b + rng.choice((-10, -1, 1, 10))}.",
        }
        for a, b in terms
    ]


def columns_of(feedback: Path) -> PlanColumns:
    """The plan's columns of a feedback file."""
    tokenized = tokenize(
        read_feedback(feedback),
        tiny_tokenizer(),
        max_tokens=MAX_TOKENS,
        min_completion_tokens=1,
        chat_template=None,
        keep_cut=False,
        today=date(2026, 1, 1),
    )
    return plan_columns(tokenized.rows)


def count_labels(columns: PlanColumns, batch_size: int) -> dict[str, Any]:
    """How many batches hold how many desirable rows, and how far any is from the data's share."""
    settings = PlanSettings(batch_size=batch_size, epochs=1, seed=SEED, max_tokens=MAX_TOKENS)
    [batches] = plan_epochs(columns, range(len(columns)), settings)
    desirable = [int(columns.desirable[list(batch.rows)].sum()) for batch in batches]
    sizes = [len(batch.rows) for batch in batches]
    share = float(columns.desirable.mean())
    off = [abs(count - share * size) for count, size in zip(desirable, sizes, strict=True)]
    histogram = Counter(desirable)
    pairs = [pair for batch in batches for group in batch.groups for pair in group.mismatched]
    return {
        "batch_size": batch_size,
        "rows": sum(sizes),
        "batches": len(batches),
        "batches_of_one_label": sum(
            count in (0, size) for count, size in zip(desirable, sizes, strict=True)
        ),
        "batches_by_desirable_rows": {str(count): histogram[count] for count in sorted(histogram)},
        "most_rows_off_the_share": max(off),
        "same_prompt_pairs": sum(bool(columns.prompt[x] == columns.prompt[y]) for x, y in pairs),
        "unmatched_rows": sum(batch.unmatched for batch in batches),
    }


def run_trl(trl_python: str, model: Path, file: Path, out: Path) -> dict[str, Any]:
    """The counts of TRL's dataloader over `file`."""
    module = [trl_python, "-m", "benchmarks.trl_label_blocks"]
    command = [*module, str(model), str(file), str(TRL_BATCH_ROWS), str(out)]
    run_measured(command, threads=1, scratch=out.parent)
    counts: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return counts


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    data = record["data"]
    runs = [(f"thumbs, batches of {run['batch_size']}", run) for run in record["thumbs"]]
    name = f"TRL, micro-batches of {TRL_BATCH_ROWS}"
    runs += [(f"{name}, the pairs (unpaired by TRL)", record["trl_on_the_pairs"])]
    runs += [(f"{name}, the feedback file", record["trl_on_the_feedback_file"])]
    rows = "\n".join(f"| {title} | {_cells(run)} |" for title, run in runs)
    worst = max(run["most_rows_off_the_share"] for run in record["thumbs"])
    return f"""# The labels of every batch

{data["pairs"]:,} distinct pairs (seeded sums, seed {data["seed"]}): {data["desirable"]:,} desirable
and {data["undesirable"]:,} undesirable rows. The pairs as a TRL preference file, and the feedback
file `thumbs import` makes of it, in which both answers of a pair stand next to each other.

| | batches | of one label | desirable rows in a batch: batches | y' that answers x itself |
|---|---|---|---|---|
{rows}

In thumbs no batch is more than {worst:.2f} rows off the data's share of labels. TRL takes the rows
in the order of the file: blocks of labels where it unpaired the pairs itself; balanced batches with
the feedback file, but then its y' is the neighbour's answer, which for every second row was written
for the same prompt.

{setting_lines(record)}
"""


def _cells(run: dict[str, Any]) -> str:
    histogram = run["batches_by_desirable_rows"]
    desirable = ", ".join(f"{count}: {batches}" for count, batches in histogram.items())
    same_prompt = f"{run['same_prompt_pairs']} of {run['rows']} pairs"
    return f"{run['batches']} | {run['batches_of_one_label']} | {desirable} | {same_prompt}"


def _line(pair: dict[str, str]) -> str:
    return json.dumps(pair) + "\n"


if __name__ == "__main__":
    main()
