"""One optimizer step over one batch, whatever the size of its micro-batches.

In: the policy, a planned batch, reference values, a loss. Out: moved weights and numbers.
Order: the y' forwards of the whole batch give z0; then forward and backward of every micro-batch;
then clip and step. All means divide by counts of the whole batch.

Legend: B rows of the batch, C rows of a micro-batch, T tokens of its longest completion.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from thumbs.core.logprobs import sequence_logps
from thumbs.core.losses import (
    KLBaseline,
    LossInputs,
    LossTerms,
    kl_baseline,
    log_ratio_sums,
)
from thumbs.core.metrics import accuracy_at, margin, saturation
from thumbs.data.plan import Batch, Group
from thumbs.data.rows import Row
from thumbs.errors import NonFiniteError
from thumbs.scoring.forward import Scorer, index_prompts
from thumbs.scoring.reference import ReferenceValues
from thumbs.scoring.tree import lay_out

BoundLoss = Callable[[LossInputs], LossTerms]  # a loss of core/losses.py with its constants given


@dataclass(frozen=True)
class TrainingData:
    """What a step reads: all rows of the run and the reference's values of every planned pair."""

    rows: Sequence[Row]
    reference: ReferenceValues


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """The constants of a step; beta is for the logged rewards only."""

    loss: BoundLoss
    beta: float
    max_grad_norm: float
    micro_batch_tokens: int
    dropout_seed: int | None = None  # of the adapters' dropout, drawn per step and row


@dataclass(frozen=True)
class StepResult:
    """A step's numbers, from whole-batch sums; z0 and log-ratios in nats.

    padding: share of computed tokens that were padding. clamped: share of z0 groups whose raw mean
    was below 0; None where the loss has no z0.
    """

    loss: float
    z0: float | None
    z0_raw: float | None
    z0_se: float | None
    clamped: float | None
    unmatched: int
    reward_desirable: float | None
    reward_undesirable: float | None
    margin: float | None
    accuracy: float | None
    saturation: float | None
    num_desirable: int
    num_undesirable: int
    grad_norm: float
    tokens: int
    padding: float


def train_step(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    data: TrainingData,
    settings: StepSettings,
    *,
    step: int = 0,
) -> StepResult:
    """Estimate z0, accumulate the gradient of the batch's mean loss, clip it, step.

    Raises:
        NonFiniteError: a loss or the gradient is not finite; the weights have not moved.
    """
    tokens = _TokenCount()
    baselines = [_baseline(scorer, group, data, settings, tokens) for group in batch.groups]
    z0 = torch.cat(
        [b.z0.expand(len(group.rows)) for b, group in zip(baselines, batch.groups, strict=True)]
    )  # (B,)
    rows = [data.rows[i] for i in batch.rows]
    losses = torch.zeros(len(rows), dtype=torch.float64)  # (B,)
    log_ratio = torch.zeros(len(rows), dtype=torch.float64)  # (B,)
    optimizer.zero_grad(set_to_none=True)
    for forward in _forwards(scorer, [(i, i) for i in batch.rows], data, settings, tokens):
        members = [batch.rows[i] for i in forward]
        seeds = _dropout_seeds(settings.dropout_seed, step, [rows[i] for i in forward])
        inputs = _loss_inputs(scorer, members, data, z0[forward], seeds)
        terms = settings.loss(inputs)
        weight = terms.losses.new_tensor([rows[i].weight for i in forward])  # (C,)
        weighted = weight * terms.losses
        _require_finite(weighted.detach(), [rows[i] for i in forward])
        torch.autograd.backward(weighted.sum() / len(rows))
        losses[forward] = weighted.detach().double().cpu()
        log_ratio[forward] = inputs.log_ratio().detach().double().cpu()
    trained = [p for p in scorer.parameters() if p.grad is not None]
    grad_norm = gradient_norm(trained)
    torch.nn.utils.clip_grads_with_norm_(trained, settings.max_grad_norm, grad_norm)
    if not torch.isfinite(grad_norm):
        _refuse("the gradient", rows)
    optimizer.step()
    return _result(batch, baselines, rows, losses, log_ratio, z0.cpu(), settings, grad_norm, tokens)


def gradient_norm(parameters: Sequence[Tensor]) -> Tensor:
    """() Euclidean norm of all gradients, summed in float32 or wider whatever their dtype."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    wide = [torch.promote_types(g.dtype, torch.float32) for g in gradients]
    norms = [torch.linalg.vector_norm(g, dtype=w) for g, w in zip(gradients, wide, strict=True)]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def mismatched_sums(scorer: Scorer, pairs: Sequence[tuple[int, int]], data: TrainingData) -> Tensor:
    """(3,) sums that `kl_baseline` pools, of one forward over (row of x, row of y') pairs."""
    with torch.no_grad():
        policy, reference, mask = _score_pairs(scorer, pairs, data)
    return log_ratio_sums(sequence_logps(policy, mask), sequence_logps(reference, mask))


def _baseline(
    scorer: Scorer,
    group: Group,
    data: TrainingData,
    settings: StepSettings,
    tokens: "_TokenCount",
) -> KLBaseline:
    sums = torch.zeros(3, dtype=torch.float64, device=scorer.device)
    for forward in _forwards(scorer, group.mismatched, data, settings, tokens):
        sums += mismatched_sums(scorer, [group.mismatched[i] for i in forward], data)
    return kl_baseline(*sums)


def _loss_inputs(
    scorer: Scorer,
    forward: Sequence[int],
    data: TrainingData,
    z0: Tensor,
    dropout_seeds: Sequence[int],
) -> LossInputs:
    policy, reference, mask = _score_pairs(scorer, [(i, i) for i in forward], data, dropout_seeds)
    desirable = torch.tensor([data.rows[i].desirable for i in forward], device=policy.device)
    return LossInputs(policy, reference, mask, desirable, z0)


def _score_pairs(
    scorer: Scorer,
    pairs: Sequence[tuple[int, int]],
    data: TrainingData,
    dropout_seeds: Sequence[int] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    """Policy and reference log-probs and the loss mask, each (C, T), of y_j after x_i."""
    prompts, prompt_of = index_prompts([data.rows[x].prompt_ids for x, _ in pairs])
    completions = [data.rows[y].completion_ids for _, y in pairs]
    policy = scorer(prompts, completions, prompt_of, dropout_seeds).logps
    reference = pad_sequence([data.reference[pair] for pair in pairs], batch_first=True)
    masks = [torch.tensor(data.rows[y].loss_mask) for _, y in pairs]
    mask = pad_sequence(masks, batch_first=True)  # False beyond a completion's end
    return policy, reference.to(policy), mask.to(policy.device)


def _dropout_seeds(seed: int | None, step: int, rows: Sequence[Row]) -> list[int]:
    """A seed per row that depends on the step and the row's content, not on its place."""
    if seed is None:
        return []
    names = (f"{seed} {step} {row.key}".encode() for row in rows)
    return [int.from_bytes(hashlib.sha256(name).digest()[:7], "little") for name in names]


class _TokenCount:
    """Tokens of sequences, of the trees that share their prompts, and of those trees padded."""

    def __init__(self) -> None:
        self.of_rows = 0
        self.real = 0
        self.computed = 0


def _forwards(
    scorer: Scorer,
    pairs: Sequence[tuple[int, int]],
    data: TrainingData,
    settings: StepSettings,
    tokens: _TokenCount,
) -> list[list[int]]:
    """Positions in `pairs` of each forward, counted into `tokens`."""
    sequences = [(data.rows[x].prompt_ids, data.rows[y].completion_ids) for x, y in pairs]
    share = scorer.shares_prompts and settings.dropout_seed is None
    layout = lay_out(sequences, max_tokens=settings.micro_batch_tokens, share=share)
    tokens.of_rows += sum(len(prompt) + len(completion) for prompt, completion in sequences)
    tokens.real += layout.num_tokens
    tokens.computed += layout.num_computed
    return layout.forwards


def _require_finite(losses: Tensor, rows: Sequence[Row]) -> None:
    finite = torch.isfinite(losses)
    if not finite.all():
        _refuse("the loss", [row for row, ok in zip(rows, finite.tolist(), strict=True) if not ok])


def _refuse(what: str, rows: Sequence[Row]) -> None:
    names = ", ".join(row.record_id for row in rows[:4]) + (", ..." if len(rows) > 4 else "")
    raise NonFiniteError(
        f"{what} is not a finite number on records {names}; the weights were not changed. Lower "
        "train.learning_rate, or leave the records out with data.exclude."
    )


def _result(
    batch: Batch,
    baselines: Sequence[KLBaseline],
    rows: Sequence[Row],
    losses: Tensor,
    log_ratio: Tensor,
    z0: Tensor,
    settings: StepSettings,
    grad_norm: Tensor,
    tokens: _TokenCount,
) -> StepResult:
    desirable = torch.tensor([row.desirable for row in rows])
    rewards = settings.beta * log_ratio
    has_z0 = any(group.mismatched or group.unmatched for group in batch.groups)
    count = len(baselines)
    return StepResult(
        loss=losses.mean().item(),
        z0=sum(b.z0.item() for b in baselines) / count if has_z0 else None,
        z0_raw=sum(b.raw for b in baselines) / count if has_z0 else None,
        z0_se=baselines[0].standard_error if has_z0 and count == 1 else None,
        clamped=sum(b.raw < 0 for b in baselines) / count if has_z0 else None,
        unmatched=batch.unmatched,
        reward_desirable=_mean(rewards[desirable]),
        reward_undesirable=_mean(rewards[~desirable]),
        margin=margin(log_ratio, desirable),
        accuracy=accuracy_at(log_ratio, z0, desirable),
        saturation=saturation(log_ratio, z0, beta=settings.beta),
        num_desirable=int(desirable.sum()),
        num_undesirable=int((~desirable).sum()),
        grad_norm=grad_norm.item(),
        tokens=tokens.of_rows,
        padding=1 - tokens.real / max(tokens.computed, 1),
    )


def _mean(values: Tensor) -> float | None:
    return values.mean().item() if values.numel() else None
