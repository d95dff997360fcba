"""One optimizer step over one batch, whatever the size of its micro-batches.

In: the policy, a planned batch, reference values, a loss. Out: moved weights and numbers.
All means divide by counts of the whole batch, so every loss waits for z0. Where a rank's rows are
one forward, that comes first and the y' go on from its prompts: no token is computed twice. Where
they are more, the y' forwards of the whole batch give z0, then every micro-batch has its forward
and backward. That computes prompts twice, which is less than every micro-batch's forward twice, and
the activations of one micro-batch exist at a time.

Legend: B rows of the batch, G z0 groups, C rows of a micro-batch, T tokens of its longest
completion.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from thumbs.core.baseline import KLBaseline, kl_baseline, log_ratio_sums, reference_points
from thumbs.core.kto_losses import clip_tokens
from thumbs.core.logprobs import sequence_logps
from thumbs.core.loss_inputs import LossInputs, LossTerms
from thumbs.core.metrics import accuracy_at, margin, saturation
from thumbs.data.plan import Batch
from thumbs.data.rows import Row
from thumbs.errors import NonFiniteError
from thumbs.scoring.backoff import whatever_the_forwards
from thumbs.scoring.forward import Scorer
from thumbs.scoring.packed import PromptStates
from thumbs.stopping import StopRequest
from thumbs.train.gradients import clip_gradients, squared_norms, sum_gradients
from thumbs.train.ranks import ALONE, Ranks, Share, divide
from thumbs.train.scored_pairs import ScoredPairs, TrainingData, score_pairs

BoundLoss = Callable[[LossInputs], LossTerms]  # a loss of core/losses.py with its constants given


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """The constants of a step; beta is for the logged rewards only.

    whole_prompts: the loss compares rows of a prompt, which stay in one forward. z0_of_policy: z0
    is the mean of log pi without the clamp at 0. token_clip: of token log-ratios in z0, nats.
    """

    loss: BoundLoss
    beta: float
    max_grad_norm: float
    micro_batch_tokens: int
    dropout_seed: int | None = None  # of the adapters' dropout, drawn per step and row
    whole_prompts: bool = False
    z0_of_policy: bool = False
    token_clip: tuple[float, float] | None = None
    ranks: Ranks = ALONE


@dataclass(frozen=True)
class StepResult:
    """A step's numbers, from whole-batch sums; z0 and log-ratios in nats.

    padding: share of computed tokens that were padding. clamped: share of z0 groups whose raw mean
    was below 0; None where the loss has no z0. stopping: whether any rank was asked to stop.
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
    stopping: bool = False


def train_step(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    data: TrainingData,
    settings: StepSettings,
    *,
    step: int = 0,
    shift: float = 0.0,
    stop: StopRequest | None = None,
) -> StepResult:
    """Estimate z0, accumulate the gradient of the batch's mean loss, clip it, step.

    Every rank calls this with the whole batch and returns the same numbers. Besides gradients the
    ranks sum twice, and values are read by the host once. shift: for losses that take one.

    Raises:
        NonFiniteError: a loss or the gradient is not finite; the weights have not moved.
        OutOfMemory: the optimizer's state does not fit. Where a forward or backward does not, its
            own error comes out, and the weights have not moved.
    """
    optimizer.zero_grad(set_to_none=True)  # those of the last step, or of one that did not fit
    ranks = settings.ranks
    tokens = _TokenCount()
    shares = divide(batch, data.rows, ranks.count, whole_prompts=settings.whole_prompts)
    forwards = _own_forwards(scorer, shares, batch, data, settings, tokens)
    first = None
    if len(forwards) == 1 and scorer.packs and settings.dropout_seed is None:
        own = [batch.rows[place] for place in shares[ranks.rank].places]
        pairs = [(own[i], own[i]) for i in forwards[0]] or [_filler(batch, data)]
        first = score_pairs(scorer, pairs, data, keep_prompts=True)
    after = first.prompts if first else None
    sums = _mismatched_sums(scorer, shares, batch, data, settings, tokens, after)  # (G, 3)
    points = reference_points(sums, clamp=not settings.z0_of_policy)  # (G,)
    whole = _Whole(batch, _per_row(points, batch), shift, step)
    measured = _learn(scorer, shares, whole, data, settings, forwards, first)  # (2, B)
    sum_gradients([p for p in scorer.parameters() if p.requires_grad], ranks)
    trained = [p for p in scorer.parameters() if p.grad is not None]
    of_shards, of_whole = torch.split(squared_norms(trained), 1)  # (1,), (1,)
    asked = torch.full_like(of_shards, stop is not None and stop.came)  # (1,)
    reduced = ranks.sum(torch.cat([measured.flatten(), asked, of_shards]))  # (2 B + 2,)
    norm = (reduced[-1] + of_whole[0]).sqrt()  # ()
    clip_gradients(trained, norm, settings.max_grad_norm)
    read = torch.cat([reduced[:-1], norm[None], sums.flatten()]).cpu()  # the one wait of the step
    per_row, num_stops, grad_norm, sums = torch.split(
        read, [2 * len(batch.rows), 1, 1, sums.numel()]
    )
    losses, log_ratio = per_row.view(2, -1)  # (B,), (B,)
    rows = [data.rows[i] for i in batch.rows]
    _require_finite(losses, grad_norm, rows)
    with whatever_the_forwards():
        optimizer.step()
    clamp = not settings.z0_of_policy
    baselines = [kl_baseline(*group, clamp=clamp) for group in sums.view(-1, 3)]
    result = _result(batch, baselines, rows, losses, log_ratio, settings, grad_norm, tokens)
    return replace(result, stopping=bool(num_stops))


def _mismatched_sums(
    scorer: Scorer,
    shares: Sequence[Share],
    batch: Batch,
    data: TrainingData,
    settings: StepSettings,
    tokens: "_TokenCount",
    after: PromptStates | None,
) -> Tensor:
    """(G, 3) float64: what `reference_points` takes, of each group of the batch over all ranks.

    after: what the prompts of this rank's rows have left; None computes them here.
    """
    sums = torch.zeros(len(batch.groups), 3, dtype=torch.float64, device=scorer.device)
    if not any(group.mismatched for group in batch.groups):
        return sums
    planned = [[pair for _, pair in share.mismatched] for share in shares]
    own = shares[settings.ranks.rank].mismatched
    for forward in _forwards(scorer, planned, data, settings, tokens, after is not None):
        members = [own[i] for i in forward]
        with torch.no_grad():
            if not members:
                score_pairs(scorer, [_filler(batch, data)], data)
                continue
            pairs = [pair for _, pair in members]
            scored = score_pairs(scorer, pairs, data, after=after)
        policy, reference = scored.policy, scored.reference
        if settings.z0_of_policy:
            reference = torch.zeros_like(reference)
        if settings.token_clip is not None:
            policy = clip_tokens(policy, reference, *settings.token_clip)
        totals = sequence_logps(policy, scored.mask), sequence_logps(reference, scored.mask)  # (C,)
        for number in sorted({number for number, _ in members}):
            counted = torch.tensor([number == other for other, _ in members])
            sums[number] += log_ratio_sums(*totals, counted.to(sums.device, non_blocking=True))
    return settings.ranks.sum(sums)


class _Whole(NamedTuple):
    """What is known of the whole batch before its rows are learned from; z0: (B,) nats."""

    batch: Batch
    z0: Tensor
    shift: float
    step: int


def _learn(
    scorer: Scorer,
    shares: Sequence[Share],
    whole: _Whole,
    data: TrainingData,
    settings: StepSettings,
    forwards: Sequence[Sequence[int]],
    first: ScoredPairs | None,
) -> Tensor:
    """Forward and backward of this rank's rows; (2, B) float64 weighted losses and log-ratios.

    Rows of other ranks are 0 in it. first: the only forward, where it is done.
    """
    own, batch, z0 = shares[settings.ranks.rank].places, whole.batch, whole.z0
    measured = torch.zeros(2, len(z0), dtype=torch.float64, device=z0.device)
    for forward in forwards:
        if not forward:
            policy = (first or score_pairs(scorer, [_filler(batch, data)], data)).policy
            torch.autograd.backward(policy, torch.zeros_like(policy))
            continue
        places = [own[i] for i in forward]
        rows = [data.rows[batch.rows[place]] for place in places]
        index = torch.tensor(places).to(z0.device, non_blocking=True)  # (C,)
        seeds = _dropout_seeds(settings.dropout_seed, whole.step, rows)
        pairs = [(batch.rows[place], batch.rows[place]) for place in places]
        scored = first or score_pairs(scorer, pairs, data, seeds)
        inputs = scored.loss_inputs([row.desirable for row in rows], z0[index], whole.shift)
        terms = settings.loss(inputs)
        weight = torch.tensor([row.weight for row in rows])  # (C,)
        weighted = weight.to(terms.losses, non_blocking=True) * terms.losses
        torch.autograd.backward(weighted.sum() / len(batch.rows))
        found = torch.stack([weighted.detach().double(), inputs.log_ratio().detach().double()])
        measured.index_copy_(1, index, found)
    return measured


def _dropout_seeds(seed: int | None, step: int, rows: Sequence[Row]) -> list[int]:
    """A seed per row that depends on the step and the row's content, not on its place."""
    if seed is None:
        return []
    names = (f"{seed} {step} {row.key}".encode() for row in rows)
    return [int.from_bytes(hashlib.sha256(name).digest()[:7], "little") for name in names]


def _filler(batch: Batch, data: TrainingData) -> tuple[int, int]:
    """The row, as a pair, of a forward that counts for nothing: the batch's shortest."""
    shortest = min(
        batch.rows,
        key=lambda i: (len(data.rows[i].prompt_ids) + len(data.rows[i].completion_ids), i),
    )
    return shortest, shortest


class _TokenCount:
    """Tokens of sequences, of the trees that share their prompts, and of those trees padded."""

    def __init__(self) -> None:
        self.of_rows = 0
        self.real = 0
        self.computed = 0


def _own_forwards(
    scorer: Scorer,
    shares: Sequence[Share],
    batch: Batch,
    data: TrainingData,
    settings: StepSettings,
    tokens: _TokenCount,
) -> list[list[int]]:
    """Of each training forward of this rank, positions in its places."""
    planned = [[(batch.rows[i], batch.rows[i]) for i in share.places] for share in shares]
    return _forwards(scorer, planned, data, settings, tokens, whole_prompts=settings.whole_prompts)


def _forwards(
    scorer: Scorer,
    planned: Sequence[Sequence[tuple[int, int]]],
    data: TrainingData,
    settings: StepSettings,
    tokens: _TokenCount,
    goes_on: bool = False,
    whole_prompts: bool = False,
) -> list[list[int]]:
    """Of each forward of this rank, positions in its pairs; `tokens` counts those of all ranks.

    planned: the pairs of every rank. All ranks run as many forwards, as FSDP2 needs: where this one
    has fewer, empty forwards follow. goes_on: the prompts are computed already.
    """
    layouts = []
    drops = settings.dropout_seed is not None
    for pairs in planned:
        sequences = [(data.rows[x].prompt_ids, data.rows[y].completion_ids) for x, y in pairs]
        tokens.of_rows += sum(len(prompt) + len(completion) for prompt, completion in sequences)
        if goes_on:
            sequences = [((), completion) for _, completion in sequences]
        layout = scorer.lay_out(
            sequences,
            max_tokens=settings.micro_batch_tokens,
            drops=drops,
            whole_prompts=whole_prompts,
        )
        tokens.real += layout.num_tokens
        tokens.computed += layout.num_computed
        layouts.append(layout.forwards)
    own = layouts[settings.ranks.rank]
    return own + [[]] * (max(map(len, layouts)) - len(own))


def _require_finite(losses: Tensor, grad_norm: Tensor, rows: Sequence[Row]) -> None:
    finite = torch.isfinite(losses).tolist()
    if not all(finite):
        _refuse("the loss", [row for row, ok in zip(rows, finite, strict=True) if not ok])
    if not torch.isfinite(grad_norm):
        _refuse("the gradient", rows)


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
    settings: StepSettings,
    grad_norm: Tensor,
    tokens: _TokenCount,
) -> StepResult:
    desirable = torch.tensor([row.desirable for row in rows])
    rewards = settings.beta * log_ratio
    # The rewards are log-ratios, and a z0 that is a mean of log pi is no point among them.
    points = [torch.zeros_like(b.z0) if settings.z0_of_policy else b.z0 for b in baselines]
    point = _per_row(points, batch)
    has_z0 = any(group.mismatched or group.unmatched for group in batch.groups)
    count = len(baselines)
    return StepResult(
        loss=losses.mean().item(),
        z0=sum(b.z0.item() for b in baselines) / count if has_z0 else None,
        z0_raw=sum(b.raw for b in baselines) / count if has_z0 else None,
        z0_se=baselines[0].standard_error if has_z0 and count == 1 else None,
        clamped=sum(b.raw < b.z0.item() for b in baselines) / count if has_z0 else None,
        unmatched=batch.unmatched,
        reward_desirable=_mean(rewards[desirable]),
        reward_undesirable=_mean(rewards[~desirable]),
        margin=margin(log_ratio, desirable),
        accuracy=accuracy_at(log_ratio, point, desirable),
        saturation=saturation(log_ratio, point, beta=settings.beta),
        num_desirable=int(desirable.sum()),
        num_undesirable=int((~desirable).sum()),
        grad_norm=grad_norm.item(),
        tokens=tokens.of_rows,
        padding=1 - tokens.real / max(tokens.computed, 1),
    )


def _per_row(points: Iterable[Tensor], batch: Batch) -> Tensor:
    """(B,) the point () of each row's group."""
    groups = zip(points, batch.groups, strict=True)
    return torch.cat([point.expand(len(group.rows)) for point, group in groups])


def _mean(values: Tensor) -> float | None:
    return values.mean().item() if values.numel() else None
