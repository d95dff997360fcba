"""Log-probs of given tokens from hidden states, without ever holding all logits.

In: the hidden states that predict completion tokens, the head's weight, the tokens. Out: one
log-prob (nats) per token, differentiable in hidden states, weight and bias. This module does not
know models, masks of prompts, or losses.

Products of states and head are made tile by tile (some rows times some of the vocabulary) and made
again for the gradient; a softmax over the vocabulary needs only its running log-sum-exp between
tiles. Products small enough to be one tile are kept for the gradient instead. What follows them is
computed part by part of a tile, in float32, so that it stays in a CPU's cache.

Shapes: N tokens, H hidden size, V vocabulary, B rows, T completion tokens; n and c rows and columns
of one tile, p rows of one part.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# At most this many logits (128 MiB in float32) are one tile, kept between forward and backward.
KEPT_LOGITS = 2**25
# Logits of one tile beyond that. CPU: 2**20 to 2**23 were equally fast (one core, H 384, V 32000);
# elsewhere a larger tile to fill the device, not measured.
TILE_LOGITS_CPU = 2**22
TILE_LOGITS = 2**26
TILE_ROWS = 1024
PART_LOGITS = 2**20  # wide logits of one part on a CPU: 4 MiB, a few times its second-level cache


@dataclass(frozen=True)
class _Recipe:
    """How logits are made: products in `product_dtype`, the rest in `wide_dtype`, `tile` (n, c)."""

    logit_scale: float
    softcap: float | None
    product_dtype: torch.dtype
    wide_dtype: torch.dtype
    tile: tuple[int, int]
    keep_products: bool


def completion_logps(
    hidden: Tensor,
    head_weight: Tensor,
    targets: Tensor,
    *,
    head_bias: Tensor | None = None,
    logit_scale: float = 1.0,
    softcap: float | None = None,
    tile: tuple[int, int] | None = None,
) -> Tensor:
    """Log-prob of each target token under the head's softmax.

    logps[i] = z[i, targets[i]] - log sum_v exp z[i, v], with
    z = cap(logit_scale * (hidden @ head_weight.T + head_bias)) and
    cap(u) = softcap * tanh(u / softcap).

    Matrix products run in the dtype of the inputs, or in autocast's where it is on; everything
    after them in float32 (float64 for float64 inputs). Gradients come in their input's dtype; an
    input that needs none costs nothing. Second derivatives are not offered.

    >>> hidden, head_weight = torch.tensor([[1.0]]), torch.tensor([[0.0], [3.0]]).log1p()
    >>> completion_logps(hidden, head_weight, torch.tensor([1])).exp()  # 4 / (1 + 4)
    tensor([0.8000])

    Args:
        hidden: (N, H), the state at the position before each target.
        head_weight: (V, H), in the dtype of `hidden` unless autocast is on.
        targets: (N,) int64 in [0, V). A target outside has log-prob nan, never a number.
        head_bias: (V,) or None.
        logit_scale: multiplies the logits (Cohere's logit_scale, 1 / Granite's logits_scaling).
        softcap: bound of the logits, after the scale (Gemma's final_logit_softcapping), or None.
        tile: (rows, columns) of the logits made at once; None chooses.

    Returns:
        (N,) float32, or float64 for float64 inputs; nats.

    Raises:
        ValueError: shapes that do not fit together.
        TypeError: dtypes that do not.
    """
    _check_head_inputs(hidden, head_weight, targets, head_bias)
    device_type = hidden.device.type
    product_dtype = hidden.dtype
    if torch.is_autocast_enabled(device_type) and hidden.dtype != torch.float64:
        product_dtype = torch.get_autocast_dtype(device_type)
    elif head_weight.dtype != hidden.dtype:
        raise TypeError(
            f"hidden is {hidden.dtype} and head_weight {head_weight.dtype}: "
            "cast one to the other's dtype, or run under torch.autocast"
        )
    tile = tile or _tile(hidden.shape[0], head_weight.shape[0], device_type)
    needs_gradient = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (hidden, head_weight, head_bias)
    )
    fits_one_tile = hidden.shape[0] <= tile[0] and head_weight.shape[0] <= tile[1]
    recipe = _Recipe(
        logit_scale=logit_scale,
        softcap=softcap,
        product_dtype=product_dtype,
        wide_dtype=torch.promote_types(hidden.dtype, torch.float32),
        tile=tile,
        keep_products=needs_gradient and fits_one_tile,
    )
    apply = cast(Any, _CompletionLogps.apply)
    return cast(Tensor, apply(hidden, head_weight, head_bias, targets, recipe))


def sequence_logps(token_logps: Tensor, mask: Tensor) -> Tensor:
    """Sum of each row's completion-token log-probs; what lies outside the mask is never read.

    >>> token_logps = torch.tensor([[-1.0, -2.0, float("-inf")]])
    >>> sequence_logps(token_logps, torch.tensor([[True, True, False]]))
    tensor([-3.])

    Args:
        token_logps: (B, T) nats.
        mask: (B, T) bool, True on completion tokens.

    Returns:
        (B,) float32 or wider; nats.

    Raises:
        ValueError: shapes differ.
        TypeError: the mask is not bool.
    """
    if token_logps.shape != mask.shape or token_logps.dim() != 2:
        raise ValueError(
            "token_logps and mask must both be (B, T), "
            f"but are {tuple(token_logps.shape)} and {tuple(mask.shape)}"
        )
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be bool, but is {mask.dtype}")
    wide = token_logps.to(torch.promote_types(token_logps.dtype, torch.float32))
    return torch.where(mask, wide, torch.zeros_like(wide)).sum(dim=1)  # (B,)


class _CompletionLogps(torch.autograd.Function):
    """Tiles of products, made in forward and, where not kept, again in backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        recipe: _Recipe,
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            states = hidden.to(recipe.product_dtype)  # (N, H)
            wide = recipe.wide_dtype
            log_sum = states.new_full(targets.shape, -torch.inf, dtype=wide)  # (N,)
            target_logits = states.new_full(targets.shape, torch.nan, dtype=wide)  # (N,)
            kept = None
            for columns, head in _vocabulary_slices(weight, recipe):
                for rows in _slices(states.shape[0], recipe.tile[0]):
                    products = states[rows] @ head.T  # (n, c)
                    kept = products if recipe.keep_products else None
                    for part in _parts(rows, products):
                        logits = _logits(
                            products[_within(part, rows)], _part(bias, columns), recipe
                        )
                        inside, place = _locate(targets[part], columns)
                        picked = logits.gather(1, place).squeeze(1)  # (p,)
                        target_logits[part] = torch.where(inside, picked, target_logits[part])
                        log_sum[part] = torch.logaddexp(log_sum[part], _log_sum_exp(logits))
        ctx.save_for_backward(hidden, weight, bias, targets, log_sum)
        ctx.recipe, ctx.kept = recipe, kept  # kept is used up by the first backward
        return target_logits - log_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """d logps / d logits = one-hot - softmax: `errors` times a `factor` that is one per row."""
        hidden, weight, bias, targets, log_sum = ctx.saved_tensors
        recipe: _Recipe = ctx.recipe
        kept, ctx.kept = ctx.kept, None
        wide = recipe.wide_dtype
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.zeros_like(hidden, dtype=wide) if wants_hidden else None
        grad_weight = torch.empty_like(weight) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if wants_bias else None
        with torch.autocast(hidden.device.type, enabled=False):
            states = hidden.to(recipe.product_dtype)  # (N, H)
            factor = (grad * -recipe.logit_scale).unsqueeze(1)  # (N, 1)
            scaled = (states * factor).to(recipe.product_dtype)  # (N, H)
            row_slices = _slices(states.shape[0], recipe.tile[0])
            # One pass over the rows writes the head's gradient in place; several sum it wide first.
            in_place = len(row_slices) == 1 or weight.dtype == wide
            for columns, head in _vocabulary_slices(weight, recipe):
                weight_sum = None
                if grad_weight is not None:
                    slot = grad_weight[columns]
                    weight_sum = slot if in_place else torch.empty_like(slot, dtype=wide)
                for rows in row_slices:
                    products = states[rows] @ head.T if kept is None else kept  # (n, c)
                    for part in _parts(rows, products):  # errors take the place of the products
                        own = products[_within(part, rows)]
                        logits = _logits(own, _part(bias, columns), recipe)
                        place = _locate(targets[part], columns)
                        errors = _softmax_errors(logits, log_sum[part], place, recipe.softcap)
                        if grad_bias is not None:
                            grad_bias[columns] += errors.T @ factor[part, 0]
                        own.copy_(errors)
                    if grad_hidden is not None:
                        _add_product(grad_hidden[rows], products, head)
                    if weight_sum is not None:
                        _add_product(weight_sum, products.T, scaled[rows], fresh=rows.start == 0)
                    del products  # else they live on beside the next tile
                if grad_weight is not None and weight_sum is not None and not in_place:
                    grad_weight[columns] = weight_sum
            if grad_hidden is not None:
                grad_hidden = (grad_hidden * factor).to(hidden.dtype)  # (N, H)
            if grad_bias is not None:
                grad_bias = grad_bias.to(bias.dtype)  # (V,)
        return grad_hidden, grad_weight, grad_bias, None, None


def _parts(rows: slice, products: Tensor) -> list[slice]:
    """The rows of a tile in slices whose wide logits stay in a CPU's cache."""
    size = max(1, PART_LOGITS // products.shape[1])
    if products.device.type != "cpu":
        size = products.shape[0]
    ends = range(rows.start, max(rows.stop, rows.start + 1), max(size, 1))
    return [slice(start, min(start + size, rows.stop)) for start in ends]


def _within(part: slice, rows: slice) -> slice:
    return slice(part.start - rows.start, part.stop - rows.start)


def _logits(products: Tensor, bias: Tensor | None, recipe: _Recipe) -> Tensor:
    """(p, c) logits, scaled and capped, in a buffer of their own."""
    logits = products.to(recipe.wide_dtype, copy=True)  # (p, c)
    if bias is not None:
        logits += bias
    if recipe.logit_scale != 1.0:
        logits *= recipe.logit_scale
    if recipe.softcap is not None:
        logits.div_(recipe.softcap).tanh_().mul_(recipe.softcap)
    return logits


def _log_sum_exp(logits: Tensor) -> Tensor:
    """(p,) log-sum-exp over the columns; the logits are used up."""
    peak = logits.amax(dim=1, keepdim=True)  # (p, 1)
    return logits.sub_(peak).exp_().sum(dim=1).log_().add_(peak.squeeze(1))


def _softmax_errors(
    logits: Tensor, log_sum: Tensor, place: tuple[Tensor, Tensor], softcap: float | None
) -> Tensor:
    """(p, c) softmax minus one-hot target, times the slope of the soft cap."""
    inside, column = place
    slope = None if softcap is None else 1 - (logits / softcap).square_()  # 1 - tanh(u / softcap)^2
    errors = logits.sub_(log_sum.unsqueeze(1)).exp_()  # (p, c)
    errors.scatter_add_(1, column, -inside.to(errors.dtype).unsqueeze(1))
    return errors if slope is None else errors.mul_(slope)


def _locate(targets: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """(n,) bool: the target is among these columns; (n, 1): its column, or any where it is not."""
    inside = (targets >= columns.start) & (targets < columns.stop)
    column = (targets - columns.start).clamp(0, columns.stop - columns.start - 1)
    return inside, column.unsqueeze(1)


def _add_product(total: Tensor, left: Tensor, right: Tensor, *, fresh: bool = False) -> None:
    """total += left @ right, in the dtype of `total`; a fresh total is overwritten, never read."""
    if total.dtype == left.dtype:
        total.addmm_(left, right, beta=0 if fresh else 1)
    elif fresh:
        total.copy_(left @ right)
    else:
        total += left @ right


def _vocabulary_slices(weight: Tensor, recipe: _Recipe) -> Iterator[tuple[slice, Tensor]]:
    """Columns of the logits with their (c, H) rows of the head, in the dtype of the products."""
    for columns in _slices(weight.shape[0], recipe.tile[1]):
        yield columns, weight[columns].to(recipe.product_dtype)


def _slices(length: int, size: int) -> list[slice]:
    """Consecutive slices of at most `size`; one empty slice where there is nothing."""
    return [slice(start, min(start + size, length)) for start in range(0, max(length, 1), size)]


def _part(bias: Tensor | None, columns: slice) -> Tensor | None:
    return None if bias is None else bias[columns]


def _tile(num_rows: int, num_columns: int, device_type: str) -> tuple[int, int]:
    """Rows and columns of a tile: everything where that is small, else bounded on both sides."""
    if num_rows * num_columns <= KEPT_LOGITS:
        return max(num_rows, 1), num_columns
    rows = min(num_rows, TILE_ROWS)
    return rows, (TILE_LOGITS_CPU if device_type == "cpu" else TILE_LOGITS) // rows


def _check_head_inputs(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None
) -> None:
    if (
        hidden.dim() != 2
        or weight.dim() != 2
        or hidden.shape[1] != weight.shape[1]
        or targets.shape != hidden.shape[:1]
        or (bias is not None and bias.shape != weight.shape[:1])
    ):
        raise ValueError(
            "hidden (N, H), head_weight (V, H), targets (N,) and head_bias (V,) do not fit: "
            f"{tuple(hidden.shape)}, {tuple(weight.shape)}, {tuple(targets.shape)}, "
            f"{None if bias is None else tuple(bias.shape)}"
        )
    if targets.dtype != torch.int64:
        raise TypeError(f"targets must be int64, but are {targets.dtype}")
    if not (hidden.is_floating_point() and weight.is_floating_point()):
        raise TypeError(f"hidden is {hidden.dtype} and head_weight {weight.dtype}, not floats")
