"""How much memory a run needs, from the shape of its model alone, and the forward that fits.

In: sizes of a model, what is trained and how, tokens of a forward, free bytes. Out: bytes. Pure
functions; no weights and no device. The coefficients count what a decoder layer of the Llama kind
keeps for its backward pass; `make memory` sets them against measured peaks.

Legend: h hidden width, i width of the MLP, k width of all keys of a token.
"""

from dataclasses import dataclass

FLOAT32 = 4  # bytes
LEAST_TOKENS = 256  # of one forward; a longer row goes alone whatever the budget
RESERVE = 0.1  # share of what is free that is left to others
KEPT_KEYS = 512  # a prompt or answer that meets no more than these keeps its attention weights
WORKSPACE = 120 << 20  # bytes: buffers of the products' libraries, threads, the allocator's slack


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What memory depends on of a model and of how it is trained.

    parameters, trained: numbers of weights, of all and of those that are trained.
    weight_bytes: of one frozen weight; trained ones take 4. state_bytes: of one trained weight:
        itself, its gradient and the optimizer's moments.
    compute_bytes: of one activation of a product: 2 in bfloat16, else 4.
    intermediate: width of the MLP; of a mixture, of the experts a token goes to, together.
    """

    parameters: int
    trained: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_width: int
    vocabulary: int
    weight_bytes: float = FLOAT32
    state_bytes: float = 4 * FLOAT32
    compute_bytes: int = FLOAT32
    checkpoints: bool = False
    packs: bool = True

    @property
    def trains_adapters(self) -> bool:
        """Whether most of the weights are frozen."""
        return self.trained < self.parameters


def fixed_bytes(shape: ModelShape) -> int:
    """Weights, gradients and moments, and the copies that products in bfloat16 take of weights."""
    frozen = (shape.parameters - shape.trained) * shape.weight_bytes
    copies = shape.parameters * shape.compute_bytes if shape.compute_bytes < FLOAT32 else 0
    return int(frozen + shape.trained * shape.state_bytes + copies)


def token_bytes(shape: ModelShape, *, keys: int) -> int:
    """What one token with gradient keeps for the backward pass, over all layers.

    keys: how many tokens a token attends to, on average.
    """
    h, i, k = shape.hidden, shape.intermediate, shape.kv_width
    wide, narrow = FLOAT32, shape.compute_bytes
    norms = 4 * h * wide  # each of two norms: its input, and what it has normed
    products = (4 * h + 2 * k + 4 * i) * narrow  # their inputs, queries, keys, values, gates
    if narrow < wide:
        products += 2 * h * wide  # the residual stream stays wide
    weights = shape.heads * min(keys, KEPT_KEYS) * wide
    if not shape.packs:
        weights = 0  # fused attention keeps none
    layer = norms + products + weights
    if shape.checkpoints:  # one layer at a time, and what goes into each
        return layer + shape.layers * h * wide
    return shape.layers * layer


def forward_bytes(shape: ModelShape, tokens: int, *, keys: int) -> int:
    """Activations of a forward of `tokens` tokens and its backward: kept ones, and those at work.

    At work are the gradients of one layer's widest activations, and a part of the head's logits.
    """
    at_work = 3 * (shape.hidden + shape.intermediate) * FLOAT32
    head = min(tokens, 4_096) * shape.hidden * 2 * FLOAT32
    return tokens * (token_bytes(shape, keys=keys) + at_work) + head


def peak_bytes(shape: ModelShape, tokens: int, *, keys: int) -> int:
    """The most a run holds beside its program and its data."""
    return fixed_bytes(shape) + forward_bytes(shape, tokens, keys=keys) + WORKSPACE


def largest_budget(shape: ModelShape, free: int, *, keys: int, most: int, largest: int) -> int:
    """Tokens of the largest forward that fits into `free` bytes, at most `most`.

    largest: tokens of the largest batch, which no forward exceeds.

    Halves of `most`, so that runs on unlike machines share layouts; LEAST_TOKENS where even that
    does not fit.
    """
    tokens = most
    while tokens > LEAST_TOKENS:
        if peak_bytes(shape, min(tokens, largest), keys=keys) <= free * (1 - RESERVE):
            return tokens
        tokens //= 2
    return max(tokens, min(LEAST_TOKENS, most))
