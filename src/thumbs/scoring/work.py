"""The arithmetic of a training step, from its plan alone, to set measured seconds against.

In: the batches of a plan, the lengths of its rows, the shape of a model. Out: floating-point
operations that no implementation of the method can leave out. Pure functions.

Counted: products with weights. Not counted: attention between tokens, norms, softmax, the
optimizer, a forward that is computed again. So the share of a ceiling is rather too small.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from thumbs.data.plan import Batch
from thumbs.data.rows import Row


@dataclass(frozen=True)
class Shape:
    """What the work depends on of a model.

    body: weights between embedding and head. adapters: weights of LoRA adapters in the body; with
    any, the body and the head are frozen.
    """

    body: int
    hidden: int
    vocabulary: int
    adapters: int = 0


@dataclass(frozen=True)
class Tokens:
    """Tokens of a step: each distinct prompt counted once, and the answers."""

    prompts: int
    completions: int
    mismatched: int  # answers y' that z0 is taken from, scored without gradient


def step_tokens(batch: Batch, rows: Sequence[Row]) -> Tokens:
    """Tokens that a step over `batch` has to compute.

    Every y' follows a prompt of the batch, so it adds its own tokens only.
    """
    prompts = {rows[i].prompt_ids for i in batch.rows}
    pairs = [pair for group in batch.groups for pair in group.mismatched]
    return Tokens(
        sum(map(len, prompts)),
        sum(len(rows[i].completion_ids) for i in batch.rows),
        sum(len(rows[y].completion_ids) for _, y in pairs),
    )


def step_flops(tokens: Tokens, shape: Shape) -> int:
    """Floating-point operations of a step.

    A weight takes 2 per token forward, 2 for the gradient of its input and, where it is trained, 2
    for its own. The head is applied to the tokens of answers only.
    """
    factor = 4 if shape.adapters else 6
    body, head = shape.body, shape.hidden * shape.vocabulary
    with_gradient = tokens.prompts + tokens.completions
    return (
        (factor * body + 6 * shape.adapters) * with_gradient
        + 2 * (body + shape.adapters) * tokens.mismatched
        + factor * head * tokens.completions
        + 2 * head * tokens.mismatched
    )


def plan_flops(batches: Iterable[Batch], rows: Sequence[Row], shape: Shape) -> list[int]:
    """Floating-point operations of each step."""
    return [step_flops(step_tokens(batch, rows), shape) for batch in batches]


def share_of_ceiling(flops: Sequence[int], seconds: Sequence[float], ceiling: float) -> float:
    """Work over what `ceiling` operations a second would do in the same time, the first step left
    out as warm-up.

    >>> share_of_ceiling([9, 100, 200], [5.0, 2.0, 4.0], 100.0)  # 300 / (6 * 100)
    0.5
    """
    return sum(flops[1:]) / (sum(seconds[1:]) * ceiling)
