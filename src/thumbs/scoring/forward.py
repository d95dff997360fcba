"""The scoring module: prompts and completions in, the log-probability of every token out.

Legend: C completions, T tokens of the longest completion, L tokens of the longest sequence,
H hidden width, V vocabulary. The caller says which prompt each completion follows, so that a
prompt can be computed once for all its completions without changing any caller.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from thumbs.core.logprobs import completion_logps
from thumbs.data.plan import micro_batches
from thumbs.models.row_dropout import RowDropout, seed_dropout
from thumbs.scoring.probe import head_last_agrees
from thumbs.scoring.rope import LengthDependentRope


@dataclass(frozen=True)
class TokenLogps:
    """Log-probabilities in nats of completion tokens, right-padded with 0 where `mask` is False."""

    logps: Tensor  # (C, T) float32 or wider
    mask: Tensor  # (C, T) bool: is there a token


class Scorer(nn.Module):
    """Scores completions under a causal language model, plainly or head-last.

    Head-last runs the decoder below the head and applies the head to completion positions only, so
    that (C, L, V) logits never exist. It is used where it agrees with the model's own forward.
    """

    def __init__(self, model: Any, *, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.model = model
        self.autocast = autocast
        self.head_last = True
        self.rope = LengthDependentRope(model)

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def forward(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        prompt_of: Sequence[int],
        dropout_seeds: Sequence[int] = (),
    ) -> TokenLogps:
        """Score `completions[i]` after `prompts[prompt_of[i]]`, both as token ids.

        dropout_seeds: one per completion for the dropout of adapters; none: nothing is dropped.

        Every prompt and completion holds at least one token. Padding goes to the right, where
        causal attention never looks, so the result does not depend on what shares the forward.
        """
        pairs = zip(prompt_of, completions, strict=True)
        joined = [torch.tensor([*prompts[p], *completion]) for p, completion in pairs]
        starts = [len(prompts[p]) for p in prompt_of]
        token_logps = self._token_logps(
            joined, starts, dropout_seeds
        )  # (N,), N completion tokens in all
        lengths = torch.tensor([len(c) for c in completions], device=self.device)
        mask = torch.arange(int(lengths.max()), device=self.device) < lengths[:, None]  # (C, T)
        padded = token_logps.new_zeros(mask.shape).masked_scatter(mask, token_logps)
        return TokenLogps(padded, mask)

    def head_logps(self, states: Tensor, targets: Tensor) -> Tensor:
        """(N,) log-probs of `targets` (N,) from the decoder's states (N, H) before them."""
        head = self.model.get_output_embeddings()
        scale, softcap = _logit_shape(self.model.config.get_text_config())
        if self.autocast is None:
            states = states.to(head.weight.dtype)  # Mamba adds its layers up in float32
        return completion_logps(
            states,
            _head_weight(head),
            targets,
            head_bias=getattr(head, "bias", None),
            logit_scale=scale,
            softcap=softcap,
        )

    def notes(self) -> list[str]:
        """What a run says about how its model is computed, if it is out of the ordinary."""
        notes = []
        if not self.head_last:
            notes.append("the model's own forward is used: its head does more than a projection")
        if self.rope:
            notes.append(f"the model has {self.rope}; rows that differ in that share no forward")
        narrow = self.autocast or self.model.get_input_embeddings().weight.dtype
        slow = self.device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
        if narrow == torch.bfloat16 and slow:  # seen: 0.8 GFLOP/s against 50 in float32
            notes.append("this CPU has no bfloat16 products: expect about 7 times float32's time")
        return notes

    def _token_logps(
        self, joined: Sequence[Tensor], starts: Sequence[int], dropout_seeds: Sequence[int]
    ) -> Tensor:
        """(N,) log-probs of what follows position `starts[i]` of each sequence, in their order."""
        if not self.rope:
            return self._one_forward(joined, starts, dropout_seeds)
        together: dict[tuple[int, ...], list[int]] = {}
        for i, ids in enumerate(joined):
            together.setdefault(self.rope.frequencies(len(ids)), []).append(i)
        parts: list[Tensor] = [joined[0]] * len(joined)
        for members in together.values():
            self.rope.forget()
            of_members = [starts[i] for i in members]
            seeds = [dropout_seeds[i] for i in members] if dropout_seeds else ()
            logps = self._one_forward([joined[i] for i in members], of_members, seeds)
            sizes = [len(joined[i]) - start for i, start in zip(members, of_members, strict=True)]
            for i, part in zip(members, torch.split(logps, sizes), strict=True):
                parts[i] = part
        return torch.cat(parts)

    def _one_forward(
        self, joined: Sequence[Tensor], starts: Sequence[int], dropout_seeds: Sequence[int]
    ) -> Tensor:
        input_ids = pad_sequence(list(joined), batch_first=True).to(self.device)  # (C, L)
        # Position t of a sequence predicts token t + 1.
        spans = [range(start - 1, len(ids) - 1) for start, ids in zip(starts, joined, strict=True)]
        row = [i for i, span in enumerate(spans) for _ in span]
        rows = torch.tensor(row, device=self.device)  # (N,)
        positions = torch.tensor([t for span in spans for t in span], device=self.device)  # (N,)
        targets = input_ids[rows, positions + 1]  # (N,)
        seed_dropout(self.model, dropout_seeds, [len(ids) for ids in joined])
        with self.compute():
            if self.head_last:
                decoder = self.model.base_model
                hidden = decoder(input_ids=input_ids, use_cache=False).last_hidden_state
                return self.head_logps(hidden[rows, positions], targets)  # from (C, L, H)
            logits = self.model(input_ids=input_ids, use_cache=False).logits  # (C, L, V)
            wide = logits[rows, positions].to(torch.promote_types(logits.dtype, torch.float32))
            return torch.log_softmax(wide, dim=-1).gather(-1, targets[:, None])[:, 0]

    def compute(self) -> Any:
        """The context of a forward: autocast where it is on."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)


def build_scorer(model: Any, *, dtype: str = "auto") -> Scorer:
    """A scorer for `model`, head-last where two probe rows agree with the model's own forward.

    dtype: model.dtype of the configuration; auto computes in bfloat16 on a GPU that has it, and
    where frozen weights are stored in less than float32 beside float32 adapters.
    """
    on_gpu = next(model.parameters()).device.type == "cuda"
    sizes = {weight.dtype.itemsize for weight in model.parameters()}
    has_narrow_weights = min(sizes) < 4
    in_bfloat16 = (has_narrow_weights and (dtype == "auto" or max(sizes) >= 4)) or (
        dtype == "auto" and on_gpu and torch.cuda.is_bf16_supported()
    )
    scorer = Scorer(model, autocast=torch.bfloat16 if in_bfloat16 else None)
    head = model.get_output_embeddings() or nn.Module()
    drops_before_head = any(isinstance(module, RowDropout) for module in head.modules())
    # float32 tells more than autocast
    with scorer.compute() if has_narrow_weights else nullcontext():
        agrees = head_last_agrees(model, scorer.head_logps)
    scorer.head_last = agrees and not drops_before_head
    return scorer


def score_in_micro_batches(
    scorer: Scorer, sequences: Sequence[tuple[Sequence[int], Sequence[int]]], *, max_tokens: int
) -> list[Tensor]:
    """Log-probs (one tensor of its length per sequence) of many (prompt ids, completion ids).

    Runs without gradient, in forwards of at most `max_tokens` padded tokens, longest first.
    """
    scores: list[Tensor | None] = [None] * len(sequences)
    lengths = [len(prompt) + len(completion) for prompt, completion in sequences]
    for forward in micro_batches(lengths, max_tokens=max_tokens):
        prompts = [sequences[i][0] for i in forward]
        completions = [sequences[i][1] for i in forward]
        with torch.no_grad():
            scored = scorer(prompts, completions, range(len(forward)))
        for place, i in enumerate(forward):
            scores[i] = scored.logps[place, : len(completions[place])]
    return [score for score in scores if score is not None]


def _head_weight(head: Any) -> Tensor:
    """(V, H): the head's weights with the LoRA adapter on them, if there is one."""
    if not hasattr(head, "get_delta_weight"):
        weight: Tensor = head.weight
        return weight
    deltas = [head.get_delta_weight(name) for name in head.active_adapters]
    adapted: Tensor = sum(deltas, start=head.get_base_layer().weight)
    return adapted


def _logit_shape(config: Any) -> tuple[float, float | None]:
    """How the model scales and caps its logits: (factor, soft cap or None).

    Gemma 2 caps (final_logit_softcapping), RecurrentGemma too (logits_soft_cap); Cohere multiplies
    (logit_scale); Granite divides (logits_scaling). Whatever else a model does shows in the probe.
    """
    keys = ("logit_scale", "logits_scaling", "final_logit_softcapping", "logits_soft_cap")
    found = [getattr(config, key, None) for key in keys]
    factor, divisor, *caps = [n if isinstance(n, int | float) and n > 0 else None for n in found]
    return (factor or 1.0) / (divisor or 1.0), caps[0] or caps[1]
