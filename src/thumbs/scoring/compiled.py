"""The decoder layers of a scorer's model, compiled: `train.compile`.

In: a scorer. Out: the same scorer, whose layers run as kernels that torch.compile (inductor) makes.
Layers are compiled one by one, in place: layers alike share their kernels, so the time to compile
does not grow with the depth, and names of weights stay as they are. Lengths and numbers of rows are
symbols in the kernels, so that other ones compile nothing new.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.modeling_layers import GradientCheckpointingLayer

from thumbs.errors import ConfigError
from thumbs.scoring import packed
from thumbs.scoring.forward import Scorer

# Versions of a layer's code: with and without gradient, with and without the mask of shared
# prompts, one row or several, each kind of layer. Past the limit a layer runs as uncompiled.
MOST_VERSIONS = 64
# nats; two rows of random tokens differ from uncompiled by 5e-6 in float32.
TOLERANCE, TOLERANCE_BFLOAT16 = 1e-3, 0.1


def compile_layers(scorer: Scorer, *, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the decoder layers of `scorer.model` and try them, forward and backward.

    backend: of torch.compile.

    Raises:
        ConfigError: the model has no layers to compile, or they do not compile here, or not to the
            same log-probs. The layers then are as they were.
    """
    layers = [m for m in scorer.model.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not layers:
        raise _refusal(scorer, "it has none of transformers' decoder layers")
    expected = _trial(scorer)
    # Its blocks differ from row to row: traced, each layout of a row would be a version of its own.
    untraced: Any = torch.compiler.disable
    AttentionInterface.register(packed.NAME, untraced(packed.attention))
    for layer in layers:
        layer.compile(backend=backend, dynamic=True, recompile_limit=MOST_VERSIONS)
    try:
        found = _trial(scorer)
    except Exception as error:  # noqa: BLE001, compilers fail in any way
        _restore(layers)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = " ".join([f"{type(error).__name__}:", *lines[:2]])  # the first may name the backend
        raise _refusal(scorer, said[:200]) from None
    wide = scorer.autocast is None and found.dtype != torch.bfloat16
    difference = (found - expected).abs().max().item()
    if not difference <= (TOLERANCE if wide else TOLERANCE_BFLOAT16):
        _restore(layers)
        raise _refusal(scorer, f"log-probs come out {difference:.3g} nats away")
    scorer.compiled = True


def _trial(scorer: Scorer) -> Tensor:
    """(C, T) log-probs of a few tokens, forward and backward; gradients are as they were after."""
    size = scorer.model.get_input_embeddings().weight.shape[0]
    ids = [(7919 * i + 13) % size for i in range(24)]
    logps: Tensor = scorer(
        [ids[:5], ids[5:8]], [ids[8:12], ids[12:18], ids[18:]], [0, 0, 1]
    ).logps  # (C, T)
    trained = [p for p in scorer.model.parameters() if p.requires_grad]
    if trained:
        torch.autograd.grad(logps.sum(), trained, allow_unused=True)
    return logps.detach()


def _restore(layers: Sequence[torch.nn.Module]) -> None:
    for layer in layers:
        layer._compiled_call_impl = None


def _refusal(scorer: Scorer, reason: str) -> ConfigError:
    return ConfigError(
        f"train.compile: the layers of {type(scorer.model).__name__} cannot be compiled here: "
        f"{reason}. Set train.compile=false (in a run's config.yaml before --resume)."
    )
