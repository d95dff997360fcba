"""`thumbs plan`: what a run would be, before anything of it is computed.

In: a feedback file, a configuration. Out: steps, tokens, padding, weights, memory, seconds, and
three rows with their loss mask. Reads the tokenizer and config.json; loads no weights.
"""

import os
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from thumbs.budget import MOST_TOKENS, batch_tokens, mean_keys, shape_of
from thumbs.config import Config
from thumbs.data.plan import Batch
from thumbs.models.free_memory import free_bytes, resident_bytes
from thumbs.models.load import pick_device
from thumbs.models.skeleton import skeleton
from thumbs.prepare import Prepared, prepare
from thumbs.scoring.memory import ModelShape, largest_budget, peak_bytes
from thumbs.scoring.tree import lay_out
from thumbs.scoring.work import Shape, Tokens, plan_flops, step_flops

# The share of the fastest product that steps reach: benchmarks/results/bench.md, bf16 and fp32.
EFFICIENCY = {2: 0.44, 4: 0.59}
PRODUCT_ROWS, PRODUCT_SECONDS = 2048, 0.3
BYTES_PER_SECOND = 400e6  # written to disk: checkpoints and the model
SHOWN_ROWS = 3


def plan_run(feedback: Path, config: Config) -> dict[str, Any]:
    """What a run of `config` on `feedback` would be.

    Returns:
        steps, tokens (computed, every prompt once per batch), padding (share of computed tokens),
        weights, drops, micro_batch_tokens, reference_tokens, peak_bytes (of the whole process),
        free_bytes, seconds_estimate, rows (three of them).
    """
    device = pick_device()
    prepared = prepare(feedback, config, date.today())
    model = skeleton(config.model, device=device)
    shape = shape_of(config, model)
    batches = [batch for epoch in prepared.epochs for batch in epoch][: config.train.max_steps]
    keys, largest = mean_keys(prepared), batch_tokens(prepared)
    free = free_bytes(device)
    tokens = _micro_batch_tokens(config, shape, free, keys, largest, device)
    own = resident_bytes() if device.type == "cpu" else 0
    layouts = [_layout(batch, prepared, tokens, pad=not shape.packs) for batch in batches]
    computed = sum(computed for _, computed in layouts)
    real = sum(real for real, _ in layouts)
    reference_tokens = int(prepared.planned.tokens.sum())
    return {
        "steps": len(batches),
        "epochs": config.train.epochs,
        "train_rows": len(prepared.training),
        "heldout_rows": len(prepared.heldout),
        "tokens": real,
        "padding": 1 - real / max(1, computed),
        "reference_tokens": reference_tokens,
        "weights": prepared.weights,
        "drops": dict(prepared.tokenized.drops)
        | ({"without_partner": prepared.unpaired} if prepared.unpaired else {})
        | ({"excluded": prepared.excluded} if prepared.excluded else {}),
        "cuts": prepared.tokenized.counts,
        "unmatched": sum(batch.unmatched for batch in batches),
        "parameters": shape.parameters,
        "trained_parameters": shape.trained,
        "micro_batch_tokens": tokens,
        "peak_bytes": own + peak_bytes(shape, min(tokens, largest), keys=keys),
        "free_bytes": free,
        "device": str(device),
        "seconds_estimate": _seconds(batches, prepared, shape, reference_tokens, device),
        "rows": [_shown(prepared, place) for place in _places(prepared)],
    }


def _micro_batch_tokens(
    config: Config,
    shape: ModelShape,
    free: int | None,
    keys: int,
    largest: int,
    device: torch.device,
) -> int:
    given = config.train.micro_batch_tokens
    if given != "auto":
        return int(given)
    most = MOST_TOKENS[device.type]
    if free is None:
        return most
    return largest_budget(shape, free, keys=keys, most=most, largest=largest)


def _layout(batch: Batch, prepared: Prepared, tokens: int, *, pad: bool) -> tuple[int, int]:
    """Tokens of a step, and those computed with padding; the y' go on from prompts computed."""
    rows = prepared.rows
    sequences = [(rows[i].prompt_ids, rows[i].completion_ids) for i in batch.rows]
    others = [rows[y].completion_ids for group in batch.groups for _, y in group.mismatched]
    own = lay_out(sequences, max_tokens=tokens, share=True, pad=pad)
    real, computed = own.num_tokens, own.num_computed
    if others and len(own.forwards) == 1 and not pad:
        more = sum(map(len, others))
        return real + more, computed + more
    if others:
        pairs = [pair for group in batch.groups for pair in group.mismatched]
        sequences = [(rows[x].prompt_ids, rows[y].completion_ids) for x, y in pairs]
        first = lay_out(sequences, max_tokens=tokens, share=True, pad=pad)
        return real + first.num_tokens, computed + first.num_computed
    return real, computed


def _seconds(
    batches: Sequence[Batch],
    prepared: Prepared,
    shape: ModelShape,
    reference_tokens: int,
    device: torch.device,
) -> float:
    """Start, reference pass, steps and saving, from the speed of one product measured here."""
    head = shape.hidden * shape.vocabulary
    adapters = shape.trained if shape.trains_adapters else 0
    body = shape.parameters - adapters - head
    work = Shape(max(body, 0), shape.hidden, shape.vocabulary, adapters)
    of_steps = sum(plan_flops(batches, prepared.rows, work))
    answers = int(prepared.columns.completion_tokens.sum())
    of_reference = step_flops(Tokens(0, 0, reference_tokens), work)
    of_reference -= 2 * head * max(0, reference_tokens - answers)
    rate = product_rate(shape.hidden, shape.intermediate, shape.compute_bytes, device)
    rate *= EFFICIENCY[shape.compute_bytes]
    written = 12 * shape.trained + shape.weight_bytes * shape.parameters
    return _seconds_since_start() + (of_steps + of_reference) / rate + written / BYTES_PER_SECOND


def product_rate(hidden: int, intermediate: int, num_bytes: int, device: torch.device) -> float:
    """Operations a second of the fastest product of the model's own shape, measured here."""
    dtype = torch.bfloat16 if num_bytes == 2 else torch.float32
    left = torch.randn(PRODUCT_ROWS, hidden, device=device).to(dtype)
    right = torch.randn(hidden, intermediate, device=device).to(dtype)
    fastest, begun = float("inf"), time.perf_counter()
    while fastest == float("inf") or time.perf_counter() - begun < PRODUCT_SECONDS:
        started = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * PRODUCT_ROWS * hidden * intermediate / fastest


def _seconds_since_start() -> float:
    """What this process took so far: a run imports and tokenises as much."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return time.process_time()
    return uptime - ticks / os.sysconf("SC_CLK_TCK")


def _places(prepared: Prepared) -> list[int]:
    """The first rows to train on, of both labels if there are."""
    rows, training = prepared.rows, prepared.training
    first = {bool(rows.desirable[i]): i for i in reversed(training)}
    return list(dict.fromkeys([*first.values(), *training]))[:SHOWN_ROWS]


def _shown(prepared: Prepared, place: int) -> dict[str, Any]:
    """A row as text: pieces with and without loss, in their order."""
    row, decode = prepared.rows[place], prepared.tokenizer.decode
    pieces: list[dict[str, Any]] = [{"text": decode(list(row.prompt_ids)), "loss": False}]
    start = 0
    ids, mask = row.completion_ids, row.loss_mask
    for end in range(1, len(ids) + 1):
        if end == len(ids) or mask[end] != mask[start]:
            pieces.append({"text": decode(list(ids[start:end])), "loss": mask[start]})
            start = end
    return {
        "id": row.record_id,
        "desirable": row.desirable,
        "prompt_tokens": len(row.prompt_ids),
        "completion_tokens": len(ids),
        "loss_tokens": sum(mask),
        "pieces": pieces,
    }
