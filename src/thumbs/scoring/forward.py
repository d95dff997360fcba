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
from thumbs.models.load import multiplies_bfloat16
from thumbs.models.row_dropout import RowDropout, seed_dropout
from thumbs.models.value_head import VALUE_HEAD
from thumbs.scoring import packed
from thumbs.scoring.packed import Pack, PromptStates
from thumbs.scoring.probe import head_last_agrees
from thumbs.scoring.rope import LengthDependentRope
from thumbs.scoring.sharing import packs_agree, trees_agree
from thumbs.scoring.tree import (
    Layout,
    TokenSequence,
    Trees,
    attention_masks,
    lay_out,
    plant,
)
from thumbs.scoring.windows import other_windows

# Width from which products in bfloat16 pay on a CPU that has them. Forward and backward of 16
# answers, float32's time over autocast's, 2 cores of an AMD EPYC (avx512_bf16), torch 2.13: width
# 64 0.87, 128 1.13, 192 1.09, 256 1.51, 384 1.54, 768 1.74.
BFLOAT16_WIDTH_CPU = 256


@dataclass(frozen=True)
class TokenLogps:
    """Log-probabilities in nats of completion tokens, right-padded with 0 where `mask` is False."""

    logps: Tensor  # (C, T) float32 or wider
    mask: Tensor  # (C, T) bool: is there a token
    prompts: PromptStates | None = None  # what the prompts leave, where it was to be kept
    values: Tensor | None = None  # (C, T) of the value head, before each token; no head: None


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
        self.shares_prompts = False
        self.packs = False
        self.compiled = False
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
        *,
        keep_prompts: bool = False,
        after: PromptStates | None = None,
    ) -> TokenLogps:
        """Score `completions[i]` after `prompts[prompt_of[i]]`, both as token ids.

        dropout_seeds: one per completion for the dropout of adapters; none: nothing is dropped.
        keep_prompts: return what the prompts leave behind, without gradient, for `after` of another
            call with other completions of the same prompts. Both need `packs`.

        Every prompt and completion holds at least one token. A token's score does not depend on
        what shares the forward.
        """
        states = None
        if self.packs and not dropout_seeds:
            if after is None:
                window = getattr(self.model.config.get_text_config(), "sliding_window", None)
                row = packed.pack(prompts, completions, prompt_of, window=window, keep=keep_prompts)
            else:
                row = packed.pack_after(after, prompts, completions, prompt_of)
            token_logps, states = self._packed_forward(row), row.kept  # (N,)
        else:
            token_logps = self._token_logps(prompts, completions, prompt_of, dropout_seeds)  # (N,)
        sizes = [len(completion) for completion in completions]
        mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]  # (C, T)
        mask = mask.to(self.device, non_blocking=True)
        padded = pad_sequence(
            list(torch.split(token_logps, sizes)), batch_first=True
        )  # (C, T, ...)
        if self.value_head is None:
            return TokenLogps(padded, mask, states)
        return TokenLogps(padded[..., 0], mask, states, padded[..., 1])

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

    @property
    def value_head(self) -> Any:
        """The head that predicts the reward of an answer, which the policy has beside its own."""
        return getattr(self.model, VALUE_HEAD, None)

    def _head_scores(self, states: Tensor, targets: Tensor) -> Tensor:
        """(N,) log-probs; (N, 2) log-probs and values where there is a value head."""
        logps = self.head_logps(states, targets)
        if self.value_head is None:
            return logps
        return torch.stack([logps, self.value_head(states).to(logps.dtype)], dim=-1)

    def lay_out(
        self,
        sequences: Sequence[TokenSequence],
        *,
        max_tokens: int,
        drops: bool = False,
        whole_prompts: bool = False,
    ) -> Layout:
        """Cut sequences into forwards of at most `max_tokens` tokens, padding included.

        drops: the forwards will have dropout, which belongs to rows of their own. whole_prompts:
            the sequences of a prompt stay in one forward, however long.
        """
        return lay_out(
            sequences,
            max_tokens=max_tokens,
            share=self.shares_prompts and not drops,
            pad=drops or not self.packs,
            whole_prompts=whole_prompts,
        )

    def notes(self) -> list[str]:
        """What a run says about how its model is computed, if it is out of the ordinary."""
        notes = []
        if not self.head_last:
            notes.append("the model's own forward is used: its head does more than a projection")
        if self.rope:
            notes.append(f"the model has {self.rope}; rows that differ in that share no forward")
        narrow = self.autocast or self.model.get_input_embeddings().weight.dtype
        slow = self.device.type == "cpu" and not multiplies_bfloat16(self.device)
        if narrow == torch.bfloat16 and slow:
            # Seen, GFLOP/s of one core: AVX2 0.8 against 50 in float32, AVX-512 38 against 75.
            notes.append("this CPU has no bfloat16 products: expect 2 to 7 times float32's time")
        if not self.shares_prompts and not self.rope:
            why = "the model cannot share it"
            if _is_exact(self.model):
                why = "in float64 sums are to agree to the last digit"
            notes.append(f"every answer is computed with its own prompt: {why}")
        return notes

    def _token_logps(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        prompt_of: Sequence[int],
        dropout_seeds: Sequence[int],
    ) -> Tensor:
        """(N, ...) scores of the tokens of all completions, one completion after the other."""
        if not self.rope:
            share = self.shares_prompts and not dropout_seeds  # these drop other inputs per row
            trees = plant(prompts, completions, prompt_of, share=share)
            return self._one_forward(trees, dropout_seeds)
        together: dict[tuple[int, ...], list[int]] = {}
        for i, completion in enumerate(completions):
            num_tokens = len(prompts[prompt_of[i]]) + len(completion)
            together.setdefault(self.rope.frequencies(num_tokens), []).append(i)
        parts: list[Tensor] = [torch.empty(0)] * len(completions)
        for members in together.values():
            self.rope.forget()
            own = [completions[i] for i in members]
            trees = plant(prompts, own, [prompt_of[i] for i in members], share=False)
            seeds = [dropout_seeds[i] for i in members] if dropout_seeds else ()
            logps = self._one_forward(trees, seeds)
            sizes = [len(completion) for completion in own]
            for i, part in zip(members, torch.split(logps, sizes), strict=True):
                parts[i] = part
        return torch.cat(parts)

    def _packed_forward(self, row: Pack) -> Tensor:
        """(N, ...) scores of the completion tokens of one row without padding."""
        inputs: dict[str, Any] = {
            "input_ids": row.input_ids.to(self.device),
            "position_ids": row.position_ids.to(self.device),
            "attention_mask": packed.layer_windows(self.model.config.get_text_config()),
            "use_cache": False,
            "row": row,
        }
        before, targets = row.before.to(self.device), row.targets.to(self.device)
        seed_dropout(self.model, (), ())
        with self.compute():
            if self.head_last:
                states = self.model.base_model(**inputs).last_hidden_state[0]  # (L, H)
                packed.keep_ends(row, states)
                if row.after is not None and row.after.ends is not None:
                    states = torch.cat([row.after.ends, states])
                return self._head_scores(states[before], targets)
            logits = self.model(**inputs).logits[0]  # (L, V)
            packed.keep_ends(row, logits)
            if row.after is not None and row.after.ends is not None:
                logits = torch.cat([row.after.ends, logits])
            wide = logits[before].to(torch.promote_types(logits.dtype, torch.float32))  # (N, V)
            return torch.log_softmax(wide, dim=-1).gather(-1, targets[:, None])[:, 0]

    def _one_forward(self, trees: Trees, dropout_seeds: Sequence[int]) -> Tensor:
        tree_tokens = (trees.segments >= 0).sum(dim=1).tolist() if dropout_seeds else []
        trees = trees.to(self.device)
        targets = trees.input_ids[trees.rows, trees.after]  # (N,)
        inputs: dict[str, Any] = {"input_ids": trees.input_ids, "use_cache": False}
        if trees.share_prompts:
            config = self.model.config.get_text_config()
            dtype = self.autocast or next(self.model.parameters()).dtype
            masks = attention_masks(trees, config, dtype)
            inputs |= {"position_ids": trees.position_ids, "attention_mask": masks}
        seed_dropout(self.model, dropout_seeds, tree_tokens)
        with self.compute():
            if self.head_last:
                states = self.model.base_model(**inputs).last_hidden_state  # (R, L, H)
                return self._head_scores(states[trees.rows, trees.before], targets)
            logits = self.model(**inputs).logits  # (R, L, V)
            wide = logits[trees.rows, trees.before]
            wide = wide.to(torch.promote_types(logits.dtype, torch.float32))  # (N, V)
            return torch.log_softmax(wide, dim=-1).gather(-1, targets[:, None])[:, 0]

    def compute(self) -> Any:
        """The context of a forward: autocast where it is on."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)


def build_scorer(model: Any, *, dtype: str = "auto") -> Scorer:
    """A scorer for `model`, head-last where two probe rows agree with the model's own forward.

    dtype: model.dtype of the configuration. mixed_bfloat16 computes in bfloat16; auto does where
    the device is good at it, and where frozen weights are stored in less than float32 beside
    float32 adapters.
    """
    sizes = {weight.dtype.itemsize for weight in model.parameters()}
    has_narrow_weights = min(sizes) < 4
    in_bfloat16 = (
        dtype == "mixed_bfloat16"
        or (has_narrow_weights and (dtype == "auto" or max(sizes) >= 4))
        or (dtype == "auto" and max(sizes) <= 4 and _gains_from_bfloat16(model))
    )
    scorer = Scorer(model, autocast=torch.bfloat16 if in_bfloat16 else None)
    head = model.get_output_embeddings() or nn.Module()
    drops_before_head = any(isinstance(module, RowDropout) for module in head.modules())
    # float32 tells more than autocast
    with scorer.compute() if has_narrow_weights else nullcontext():
        agrees = head_last_agrees(model, scorer.head_logps)
    scorer.head_last = agrees and not drops_before_head
    scorer.shares_prompts = (
        not scorer.rope
        and not _is_exact(model)
        and not other_windows(model.config.get_text_config())
        and trees_agree(scorer)
    )
    on_cpu = scorer.device.type == "cpu"  # elsewhere many small products would wait for launches
    if scorer.shares_prompts and on_cpu and _takes_own_attention(model):
        model.set_attn_implementation(packed.NAME)
        scorer.packs = packs_agree(scorer)
        if not scorer.packs:
            model.set_attn_implementation("sdpa")
    return scorer


def _is_exact(model: Any) -> bool:
    """float64 is there to compare to the last digit; norms that compute in float32 (Llama's) turn a
    difference in attention's last digit into one in the eighth."""
    return bool(next(model.parameters()).dtype == torch.float64)


def _gains_from_bfloat16(model: Any) -> bool:
    """Is a float32 model faster with products in bfloat16 on its device?"""
    weight: Tensor = model.get_input_embeddings().weight
    wide_enough = weight.device.type != "cpu" or weight.shape[1] >= BFLOAT16_WIDTH_CPU
    return wide_enough and multiplies_bfloat16(weight.device)


def score_in_micro_batches(
    scorer: Scorer, sequences: Sequence[TokenSequence], *, max_tokens: int
) -> list[Tensor]:
    """Log-probs (one tensor of its length per sequence) of many (prompt ids, completion ids).

    Runs without gradient, in forwards of at most `max_tokens` padded tokens, longest first.
    """
    scores: list[Tensor | None] = [None] * len(sequences)
    layout = scorer.lay_out(sequences, max_tokens=max_tokens)
    for forward in layout.forwards:
        prompts, prompt_of = index_prompts([sequences[i][0] for i in forward])
        completions = [sequences[i][1] for i in forward]
        with torch.no_grad():
            scored = scorer(prompts, completions, prompt_of)
        for place, i in enumerate(forward):
            scores[i] = scored.logps[place, : len(completions[place])]
    return [score for score in scores if score is not None]


def index_prompts(
    prompts: Sequence[Sequence[int]],
) -> tuple[list[tuple[int, ...]], list[int]]:
    """The distinct prompts in the order of first use, and which of them each one is."""
    numbers: dict[tuple[int, ...], int] = {}
    prompt_of = [numbers.setdefault(tuple(prompt), len(numbers)) for prompt in prompts]
    return list(numbers), prompt_of


def _takes_own_attention(model: Any) -> bool:
    asked = getattr(model, "_can_set_attn_implementation", None)
    return (
        asked is not None and asked() and model.config._attn_implementation in ("sdpa", packed.NAME)
    )


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
