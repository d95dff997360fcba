"""Gradients after the last backward: summed over the ranks, measured, made short.

In: parameters with gradients, whole ones or FSDP2's shards. Out: the same, changed in place; norms
that no host has read yet.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from thumbs.train.ranks import Ranks

BUCKET_ELEMENTS = 2**25  # of one reduction; 128 MiB in float32


def sum_gradients(parameters: Sequence[Tensor], ranks: Ranks) -> None:
    """Sum the gradients over the ranks, in float32 or wider; a missing one counts as zeros.

    FSDP2 has already taken the mean of sharded ones; they are made the sum.
    """
    if ranks.count == 1:
        return
    whole = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if isinstance(parameter.grad, DTensor):
            parameter.grad.to_local().mul_(ranks.count)
        else:
            whole.append(parameter.grad)
    for bucket in _buckets(whole):
        wide = torch.promote_types(bucket[0].dtype, torch.float32)
        total = ranks.sum(torch.cat([gradient.flatten().to(wide) for gradient in bucket]))
        for gradient, part in zip(
            bucket, torch.split(total, [g.numel() for g in bucket]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))


def squared_norms(parameters: Sequence[Tensor]) -> Tensor:
    """(2,) float64: squared Euclidean norms of this rank's shards and of the whole gradients.

    Summed in float32 or wider whatever the dtype. The first is a part of the sum over the ranks,
    the second is the same on every rank.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    shards = [g.to_local() for g in gradients if isinstance(g, DTensor)]
    whole = [g for g in gradients if not isinstance(g, DTensor)]
    zero = torch.zeros((), dtype=torch.float64, device=gradients[0].device)
    return torch.stack(
        [_norm(part).double().square() if part else zero for part in (shards, whole)]
    )


def clip_gradients(parameters: Sequence[Tensor], norm: Tensor, max_norm: float) -> None:
    """Scale the gradients down to `max_norm` where their `norm` () is above it."""
    wide = torch.promote_types(parameters[0].dtype, torch.float32)
    torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm.to(wide))


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    wide = [torch.promote_types(g.dtype, torch.float32) for g in gradients]
    norms = [torch.linalg.vector_norm(g, dtype=w) for g, w in zip(gradients, wide, strict=True)]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one dtype and at most BUCKET_ELEMENTS together; a larger one goes alone."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        size = sum(g.numel() for g in bucket) + gradient.numel()
        if bucket and (size > BUCKET_ELEMENTS or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
