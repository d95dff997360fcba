"""How many tokens go through the model at once: `train.micro_batch_tokens`, and its auto.

In: a configuration, a loaded policy, the plan. Out: a number of tokens, and a line that says why.
It is about memory and speed only: the result of a run does not depend on it, up to rounding.
"""

import os
from typing import Any

import torch

from thumbs.config import Config
from thumbs.models.free_memory import free_bytes
from thumbs.models.load import LoadedModel, multiplies_bfloat16
from thumbs.prepare import Prepared
from thumbs.progress import console
from thumbs.scoring.forward import BFLOAT16_WIDTH_CPU
from thumbs.scoring.memory import ModelShape, largest_budget, peak_bytes
from thumbs.train.ranks import ALONE, Ranks

# More than these buys no speed: on a CPU a step of a few thousand tokens keeps every core busy.
MOST_TOKENS = {"cpu": 4_096, "cuda": 16_384}
STATE_BYTES = {"adamw": 16.0, "adamw_kahan": 14.0, "adamw_8bit": 10.0}  # per trained weight


def micro_batch_tokens(
    config: Config, policy: LoadedModel, prepared: Prepared, ranks: Ranks = ALONE
) -> int:
    """What the configuration says; for auto the most that pays and fits, which is told."""
    given = config.train.micro_batch_tokens
    if given != "auto":
        return int(given)
    device = next(policy.model.parameters()).device
    most = MOST_TOKENS[device.type]
    free = free_bytes(device)
    if free is None:
        return most
    shape = shape_of(config, policy.model)
    loaded = sum(p.numel() * p.element_size() for p in policy.model.parameters())
    room = (free + loaded) // _ranks_on_this_device(device, ranks)
    largest, keys = batch_tokens(prepared), mean_keys(prepared)
    tokens = largest_budget(shape, room, keys=keys, most=most, largest=largest)
    needed = peak_bytes(shape, min(tokens, largest), keys=keys)
    name = f"train.micro_batch_tokens: auto is {tokens:,}"
    sizes = f"about {_gib(needed)} of {_gib(room)} free"
    if needed > room:
        console.print(
            f"warning: {name}, the least, but a run needs {sizes}: it may run out of memory. See "
            "train.gradient_checkpointing, model.lora, data.max_tokens",
            soft_wrap=True,
        )
    elif tokens < most:
        console.print(f"{name}, the most that fits ({sizes})", soft_wrap=True)
    else:
        console.print(f"{name}, more buys no speed here ({sizes})", soft_wrap=True)
    return tokens


def tokens_without_gradient(config: Config, device: torch.device) -> int:
    """Tokens of a forward that keeps nothing: as given, or the most that pays."""
    given = config.train.micro_batch_tokens
    return MOST_TOKENS[device.type] if given == "auto" else int(given)


def shape_of(config: Config, model: Any) -> ModelShape:
    """The sizes of a model, be it on the meta device, trained the way `config` says."""
    sizes = model.config.get_text_config()
    parameters = list(model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    frozen = [p for p in parameters if not p.requires_grad]
    frozen_bytes = sum(p.numel() * p.element_size() for p in frozen)
    num_frozen = sum(p.numel() for p in frozen)
    heads = getattr(sizes, "num_attention_heads", 1)
    head_width = getattr(sizes, "head_dim", None) or sizes.hidden_size // heads
    device = parameters[0].device
    width = {p.element_size() for p in parameters if p.requires_grad}
    on_cpu = device.type in ("cpu", "meta")
    return ModelShape(
        parameters=trained + num_frozen,
        trained=trained,
        hidden=sizes.hidden_size,
        intermediate=_intermediate(sizes),
        layers=sizes.num_hidden_layers,
        heads=heads,
        kv_width=(getattr(sizes, "num_key_value_heads", None) or heads) * head_width,
        vocabulary=sizes.vocab_size,
        weight_bytes=frozen_bytes / num_frozen if num_frozen else 4.0,
        state_bytes=STATE_BYTES[config.train.optimizer] * (max(width, default=4) / 4),
        compute_bytes=_compute_bytes(config, sizes.hidden_size, device),
        checkpoints=config.train.gradient_checkpointing,
        packs=on_cpu,
    )


def batch_tokens(prepared: Prepared) -> int:
    """Tokens of the largest batch of the plan: its prompts once, its answers, and those of z0."""
    columns, largest = prepared.columns, 0
    for batch in (batch for epoch in prepared.epochs for batch in epoch):
        rows = list(batch.rows)
        first = {int(columns.prompt[row]): row for row in rows}
        others = [y for group in batch.groups for _, y in group.mismatched]
        prompts = int(columns.prompt_tokens[list(first.values())].sum())
        largest = max(largest, prompts + int(columns.completion_tokens[[*rows, *others]].sum()))
    return largest


def mean_keys(prepared: Prepared) -> int:
    """How many tokens a token of the training rows attends to, about."""
    rows = prepared.training
    lengths = (prepared.columns.prompt_tokens + prepared.columns.completion_tokens)[rows]
    return int((lengths.astype(float) ** 2).sum() / max(1, lengths.sum()))


def _intermediate(sizes: Any) -> int:
    experts = getattr(sizes, "num_experts_per_tok", None)
    of_expert = getattr(sizes, "moe_intermediate_size", None)
    if experts and of_expert:
        return int(experts * of_expert)
    named = (getattr(sizes, name, None) for name in ("intermediate_size", "n_inner", "ffn_dim"))
    return int(next((width for width in named if width), 4 * sizes.hidden_size))


def _compute_bytes(config: Config, hidden: int, device: torch.device) -> int:
    if config.model.dtype in ("mixed_bfloat16", "bfloat16"):
        return 2
    place = torch.device("cpu") if device.type == "meta" else device
    wide_enough = place.type != "cpu" or hidden >= BFLOAT16_WIDTH_CPU
    auto = config.model.dtype == "auto" and wide_enough and multiplies_bfloat16(place)
    return 2 if auto else 4


def _ranks_on_this_device(device: torch.device, ranks: Ranks) -> int:
    if device.type == "cuda":
        return 1
    return int(os.environ.get("LOCAL_WORLD_SIZE", ranks.count))


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2g} GiB" if num_bytes < 10 * 2**30 else f"{num_bytes >> 30} GiB"
