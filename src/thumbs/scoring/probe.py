"""Whether a model's logits are what head-last scoring makes of its decoder's states.

In: a model, and the function that turns states into log-probs. Out: True or False; weights as they
were. Knows nothing of rows; asked once per model, at load.

A fresh or small model has logits so flat that a forgotten soft cap or factor moves them by less
than rounding does. So the states that enter the head are stretched until the logits spread as those
of a large model do, and head weights that are still zero (biases, the second matrix of an adapter)
are drawn at random for the time of the question.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

SPREADS = (1.0, 20.0)  # standard deviations of the logits; a cap shows at 20, a small shift at 1
# Largest difference of log-probs, and of states, as a share of their spread. float32 paths differ
# by 1e-6, bfloat16 paths by up to 0.03 (seen with Mamba); a forgotten cap makes 2.
TOLERANCE = 1e-4
TOLERANCE_NARROW = 0.1
NUM_TOKENS = 12
TARGETS_PER_STATE = 4

HeadLogps = Callable[[Tensor, Tensor], Tensor]  # (N, H) states, (N,) tokens -> (N,) nats


def head_last_agrees(model: Any, head_logps: HeadLogps) -> bool:
    """Do two made-up rows get the log-probs of the model's own forward? Legend: see forward.py.

    False too where the model offers no decoder below a head, or holds weights outside of both.
    """
    head, decoder = model.get_output_embeddings(), model.base_model
    if head is None or decoder is model or not _is_projection(head):
        return False
    if _has_other_weights(model, decoder, head):
        return False
    zeros = [w for w in head.parameters() if w.is_floating_point() and not w.any()]
    biases, matrices = [w for w in zeros if w.ndim < 2], [w for w in zeros if w.ndim >= 2]
    with torch.no_grad(), _drawn(matrices):
        ids = _probe_ids(model)  # (2, L)
        states = _decoder_states(decoder, ids)  # (2, L, H)
        entered, logits = _own_forward(model, head, ids)  # (2, L, H), (2, L, V)
        if states is None or entered is None or entered.shape != states.shape:
            return False
        narrowest = min(torch.finfo(t.dtype).bits for t in (entered, head.weight, logits))
        tolerance = TOLERANCE if narrowest >= 32 else TOLERANCE_NARROW
        if (entered - states).abs().max() > tolerance * states.abs().max():
            return False
        spread = logits.float().std(dim=-1).mean().item()
        if not 0.0 < spread < float("inf"):
            return False
        with _drawn(biases):  # they are not stretched, so the spread is measured without them
            return all(
                _difference(model, head, ids, states, head_logps, stretch=wanted / spread)
                <= tolerance * wanted
                for wanted in SPREADS
            )


def _difference(
    model: Any, head: Any, ids: Tensor, states: Tensor, head_logps: HeadLogps, *, stretch: float
) -> float:
    """Nats between head-last and the model's own forward, at most, with stretched states."""
    _, logits = _own_forward(model, head, ids, stretch=stretch)
    num_states = ids.numel()
    targets = _targets(model, num_states * TARGETS_PER_STATE).to(ids.device)
    own = torch.log_softmax(logits.flatten(0, 1).to(_wide(logits)), dim=-1)  # (N, V)
    expected = own.gather(1, targets.view(num_states, -1)).flatten()
    stretched = (stretch * states).flatten(0, 1).repeat_interleave(TARGETS_PER_STATE, dim=0)
    return (head_logps(stretched, targets) - expected).abs().max().item()  # nan agrees with nothing


def _own_forward(
    model: Any, head: Any, ids: Tensor, *, stretch: float = 1.0
) -> tuple[Tensor | None, Tensor]:
    """What entered the head (None unless it was called once) and the model's logits."""
    entered: list[Tensor] = []

    def stretch_input(_head: Any, inputs: tuple[Any, ...]) -> Any:
        entered.extend(inputs[:1])
        return (stretch * inputs[0], *inputs[1:]) if inputs else None

    with head.register_forward_pre_hook(stretch_input):
        logits = model(input_ids=ids, use_cache=False).logits
    return (entered[0] if len(entered) == 1 else None), logits


def _decoder_states(decoder: Any, ids: Tensor) -> Tensor | None:
    """Its last hidden states, or None where it cannot be called as decoders are."""
    try:
        states = decoder(input_ids=ids, use_cache=False).last_hidden_state
    except (TypeError, AttributeError):
        return None
    return states if isinstance(states, Tensor) else None


def _is_projection(head: Any) -> bool:
    weight = getattr(head, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and weight.is_floating_point()


def _has_other_weights(model: Any, decoder: Any, head: Any) -> bool:
    """A weight outside decoder and head may be a start that changes nothing yet, as a bias of 0."""
    known = {id(weight) for part in (decoder, head) for weight in part.parameters()}
    return any(id(weight) not in known for weight in model.parameters())


@contextmanager
def _drawn(zeros: list[Tensor]) -> Iterator[None]:
    """Random values in weights that are all 0; zeros again afterwards."""
    draw = torch.Generator().manual_seed(0)
    try:
        for weight in zeros:
            scale = 1.0 if weight.ndim < 2 else weight.shape[-1] ** -0.5
            weight.copy_(scale * torch.randn(weight.shape, generator=draw))
        torch.clear_autocast_cache()  # which holds the zeros in bfloat16
        yield
    finally:
        for weight in zeros:
            weight.zero_()
        torch.clear_autocast_cache()


def _probe_ids(model: Any) -> Tensor:
    """(2, L) token ids spread over the vocabulary."""
    embeddings: Tensor = model.get_input_embeddings().weight
    ids = torch.arange(2 * NUM_TOKENS, device=embeddings.device) * 7919 + 13
    return (ids % embeddings.shape[0]).view(2, NUM_TOKENS)


def _targets(model: Any, count: int) -> Tensor:
    """(count,) tokens spread over the vocabulary, the special ones first."""
    config = model.config.get_text_config()
    special = [getattr(config, f"{name}_token_id", None) for name in ("bos", "eos", "pad")]
    size = model.get_input_embeddings().weight.shape[0]
    first = [token for token in special if isinstance(token, int) and 0 <= token < size]
    return torch.tensor([*first, *((5003 * i + 7) % size for i in range(count))][:count])


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
