"""Answers to many prompts: greedy or sampled, in batches, the same whatever shares a batch.

In: any transformers causal language model and token ids. Out: token ids. Prompts of similar length
share a left-padded batch and a key-value cache. Knows no chat and no feedback.

Shapes: B rows of one batch, T the longest prompt among them, V the vocabulary.
"""

import inspect
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from thumbs.errors import ModelError
from thumbs.progress import progress_bar


def generate(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 64,
    stop_ids: Collection[int] | None = None,
) -> list[list[int]]:
    """Continue each prompt until a stop token or `max_new_tokens`.

    Token t of prompt i is drawn with the uniform number (seed, i, t) by inverting the cumulative
    distribution. Two models asked with one seed therefore answer with common random numbers, and
    batch_size or the other prompts do not change an answer beyond rounding of the logits.

    Args:
        model: a transformers causal language model; left in the mode it came in.
        tokenizer: its tokenizer; only its end token is read, and only where `stop_ids` is None.
        prompts: token ids of each prompt, none empty.
        max_new_tokens: the most tokens a completion may have.
        temperature: divides the logits, > 0; 0 takes the likeliest token (greedy).
        top_p: draws only from the likeliest tokens that together reach this mass, in (0, 1]
            (the nucleus of arXiv 1904.09751v2).
        seed: names the uniform numbers.
        batch_size: prompts per forward; performance only.
        stop_ids: tokens that end a completion; None takes the tokenizer's and the model's.

    Returns:
        Completions in the order of `prompts`, the stop token included where one was reached.

    Raises:
        ModelError: a prompt is empty, or does not fit the model's context.
    """
    _check(model, prompts, max_new_tokens)
    stops = stop_ids_of(model, tokenizer) if stop_ids is None else set(stop_ids)
    completions: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    title = "greedy" if temperature == 0 else "sample"
    with _no_dropout(model), progress_bar(title, len(prompts), "answers") as bar:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            uniforms = _uniforms(seed, chosen, max_new_tokens) if temperature > 0 else None
            batch = [prompts[i] for i in chosen]
            tokens = _continue_batch(
                model, batch, uniforms, max_new_tokens, temperature, top_p, stops
            )
            for i, row in zip(chosen, tokens.tolist(), strict=True):
                completions[i] = _until_stop(row, stops)
            bar.advance(len(chosen))
    return completions


@torch.no_grad()
def _continue_batch(
    model: Any,
    prompts: list[list[int]],
    uniforms: torch.Tensor | None,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    stops: set[int],
) -> torch.Tensor:
    """Return (B, <= max_new_tokens) new tokens; what follows a row's stop token means nothing."""
    longest = max(map(len, prompts))
    padded = [[0] * (longest - len(ids)) + ids for ids in prompts]  # masked, so any id will do
    kept = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts]
    tokens = torch.tensor(padded, device=model.device)  # (B, T)
    mask = torch.tensor(kept, device=model.device)  # (B, T)
    stop = torch.tensor(sorted(stops), device=model.device)
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=model.device)  # (B,)
    cache = None
    drawn: list[torch.Tensor] = []
    accepted = set(inspect.signature(model.forward).parameters)
    for step in range(max_new_tokens):
        arguments = {
            "input_ids": tokens,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :],
            "past_key_values": cache,
            "use_cache": True,
            "logits_to_keep": 1,
        }
        out = model(**{k: v for k, v in arguments.items() if k in accepted})
        cache = out.past_key_values
        logits = out.logits[:, -1].float()  # (B, V)
        if uniforms is None:
            token = logits.argmax(-1)  # (B,)
        else:
            token = _sample(logits / temperature, uniforms[:, step], top_p)  # (B,)
        drawn.append(token)
        finished |= torch.isin(token, stop)
        if bool(finished.all()):
            break
        tokens = token[:, None]  # (B, 1)
        mask = torch.cat((mask, torch.ones_like(tokens)), dim=1)
    return torch.stack(drawn, dim=1)


def _sample(logits: torch.Tensor, uniform: torch.Tensor, top_p: float) -> torch.Tensor:
    """Invert each row's cumulative distribution at its uniform number: (B, V), (B,) -> (B,)."""
    shares = logits.double().softmax(-1)  # (B, V) float64
    if top_p < 1:
        shares = _nucleus(shares, top_p)
    cumulative = shares.cumsum(-1)  # (B, V) float64
    target = uniform.to(logits.device) * cumulative[:, -1]  # (B,) below the last entry
    # right=True: the first entry above the target, so a token of probability 0 is never drawn.
    return torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]


def _nucleus(shares: torch.Tensor, top_p: float) -> torch.Tensor:
    """The shares of the likeliest tokens that together reach `top_p`, 0 elsewhere: (B, V)."""
    ordered, order = shares.sort(-1, descending=True)  # (B, V)
    before = ordered.cumsum(-1) - ordered  # mass of the likelier ones; 0 for the first
    kept = torch.where(before < top_p, ordered, 0.0)
    return torch.zeros_like(shares).scatter(-1, order, kept)


def _uniforms(seed: int, indices: list[int], num_tokens: int) -> torch.Tensor:
    """Return (B, num_tokens) uniform numbers in [0, 1), float64, a stream for each prompt index."""
    rows = [
        np.random.Generator(np.random.Philox(key=[seed, i])).random(num_tokens) for i in indices
    ]
    return torch.from_numpy(np.stack(rows))


def _until_stop(tokens: list[int], stops: set[int]) -> list[int]:
    ends = (t for t, token in enumerate(tokens) if token in stops)
    return tokens[: next(ends, len(tokens)) + 1]


def stop_ids_of(model: Any, tokenizer: Any) -> set[int]:
    """The end tokens of the tokenizer and of the model's own settings for generation."""
    configured = model.generation_config.eos_token_id
    of_model = configured if isinstance(configured, list) else [configured]
    return {i for i in (tokenizer.eos_token_id, *of_model) if i is not None}


def context_of(model: Any) -> int | None:
    """The most tokens of a prompt and its answer; None: the model sets no limit."""
    found: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found


def _check(model: Any, prompts: list[list[int]], max_new_tokens: int) -> None:
    context = context_of(model)
    for i, ids in enumerate(prompts):
        if not ids:
            raise ModelError(f"prompt {i} is empty; a model needs at least one token to continue.")
        if context is not None and len(ids) + max_new_tokens > context:
            raise ModelError(
                f"prompt {i} has {len(ids)} tokens, which with {max_new_tokens} new ones exceed "
                f"the model's context of {context}; shorten the prompt or ask for fewer tokens."
            )


@contextmanager
def _no_dropout(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
