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

PROBE_TOLERANCE_NATS = 1e-3  # float32 paths differ by about 1e-5; a forgotten soft cap by 1e-1


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

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def forward(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        prompt_of: Sequence[int],
    ) -> TokenLogps:
        """Score `completions[i]` after `prompts[prompt_of[i]]`, both as token ids.

        Every prompt and completion holds at least one token. Padding goes to the right, where
        causal attention never looks, so the result does not depend on what shares the forward.
        """
        starts = [len(prompts[p]) for p in prompt_of]
        pairs = zip(prompt_of, completions, strict=True)
        joined = [torch.tensor([*prompts[p], *completion]) for p, completion in pairs]
        input_ids = pad_sequence(joined, batch_first=True).to(self.device)  # (C, L)
        # Position t of a sequence predicts token t + 1.
        row = [i for i, c in enumerate(completions) for _ in c]
        at = [starts[i] - 1 + t for i, c in enumerate(completions) for t in range(len(c))]
        rows = torch.tensor(row, device=self.device)  # (N,), N completion tokens in all
        positions = torch.tensor(at, device=self.device)  # (N,)
        with self._autocast():
            token_logps = self._token_logps(input_ids, rows, positions)  # (N,)
        lengths = torch.tensor([len(c) for c in completions], device=self.device)
        mask = torch.arange(int(lengths.max()), device=self.device) < lengths[:, None]  # (C, T)
        padded = token_logps.new_zeros(mask.shape).masked_scatter(mask, token_logps)
        return TokenLogps(padded, mask)

    def _token_logps(self, input_ids: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
        targets = input_ids[rows, positions + 1]  # (N,)
        if not self.head_last:
            logits = self.model(input_ids=input_ids, use_cache=False).logits  # (C, L, V)
            wide = logits[rows, positions].to(torch.promote_types(logits.dtype, torch.float32))
            return torch.log_softmax(wide, dim=-1).gather(-1, targets[:, None])[:, 0]
        decoder = self.model.base_model
        hidden = decoder(input_ids=input_ids, use_cache=False).last_hidden_state  # (C, L, H)
        head = self.model.get_output_embeddings()
        scale, softcap = _logit_shape(self.model.config.get_text_config())
        return completion_logps(
            hidden[rows, positions],  # (N, H)
            head.weight,
            targets,
            head_bias=getattr(head, "bias", None),
            logit_scale=scale,
            softcap=softcap,
        )

    def _autocast(self) -> Any:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)


def build_scorer(model: Any, *, dtype: str = "auto") -> Scorer:
    """A scorer for `model`, head-last where two probe rows agree with the model's own forward.

    dtype: model.dtype of the configuration; auto computes in bfloat16 on a GPU that has it.
    """
    on_gpu = next(model.parameters()).device.type == "cuda"
    in_bfloat16 = dtype == "auto" and on_gpu and torch.cuda.is_bf16_supported()
    scorer = Scorer(model, autocast=torch.bfloat16 if in_bfloat16 else None)
    scorer.head_last = _probe_agrees(scorer)
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


def _logit_shape(config: Any) -> tuple[float, float | None]:
    """How the model scales and caps its logits: (factor, soft cap or None).

    Gemma 2 caps (final_logit_softcapping); Cohere multiplies (logit_scale); Granite divides
    (logits_scaling). Whatever else a model does shows in the probe.
    """
    scale = getattr(config, "logit_scale", None) or 1.0
    scale /= getattr(config, "logits_scaling", None) or 1.0
    return scale, getattr(config, "final_logit_softcapping", None)


def _probe_agrees(scorer: Scorer) -> bool:
    """Score two made-up rows head-last and plainly; True where they agree."""
    if scorer.model.get_output_embeddings() is None or scorer.model.base_model is scorer.model:
        return False
    vocabulary = scorer.model.get_input_embeddings().weight.shape[0]
    ids = [(7919 * i + 13) % vocabulary for i in range(24)]  # spread over the vocabulary
    prompts, completions = [ids[:5], ids[5:8]], [ids[8:19], ids[19:24]]
    with torch.no_grad():
        head_last = scorer(prompts, completions, range(2)).logps
        scorer.head_last = False
        plain = scorer(prompts, completions, range(2)).logps
    tolerance = PROBE_TOLERANCE_NATS if scorer.autocast is None else 0.1
    return bool(torch.allclose(head_last, plain, rtol=0.0, atol=tolerance))
