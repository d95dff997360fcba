"""Whether a model scores answers that share a forward as it scores each alone; asked at load.

In: a scorer (forward.py). Out: True or False; the scorer as it was. A short probe: what only shows
in long forwards is in windows.py and rope.py.
"""

from typing import Any

import torch
from torch import Tensor

# What models raise that take no mask of four dimensions, or no word of how a row is packed.
PROBE_ERRORS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


def trees_agree(scorer: Any) -> bool:
    """Does the model score completions that share their prompt's forward as it does alone?

    A model that takes no mask of four dimensions says so by an error.
    """
    prompts, completions, prompt_of = _probe_sequences(scorer)
    with torch.no_grad():
        alone = scorer(prompts, completions, prompt_of).logps
        scorer.shares_prompts = True
        try:
            shared = scorer(prompts, completions, prompt_of).logps
        except PROBE_ERRORS:
            return False
        finally:
            scorer.shares_prompts = False
    return _agree(scorer, alone, shared)


def packs_agree(scorer: Any) -> bool:
    """The same for one row without padding, and for completions that go on from kept prompts."""
    prompts, completions, prompt_of = _probe_sequences(scorer)
    with torch.no_grad():
        alone = scorer(prompts, completions, prompt_of).logps
        scorer.packs = True
        try:
            first = scorer(prompts, completions[::-1], prompt_of[::-1], keep_prompts=True)
            later = scorer(prompts, completions, prompt_of, after=first.prompts).logps
        except PROBE_ERRORS:
            return False
        finally:
            scorer.packs = False
    return _agree(scorer, alone, first.logps.flip(0)) and _agree(scorer, alone, later)


def _probe_sequences(scorer: Any) -> tuple[list[list[int]], list[list[int]], list[int]]:
    size = scorer.model.get_input_embeddings().weight.shape[0]
    ids = [(7919 * i + 13) % size for i in range(40)]
    return [ids[:9], ids[9:12]], [ids[12:20], ids[20:23], ids[23:40]], [0, 0, 1]


def _agree(scorer: Any, alone: Tensor, shared: Tensor) -> bool:
    tolerance = 1e-3 if scorer.autocast is None and alone.dtype == torch.float32 else 0.1
    return bool(torch.allclose(alone, shared, rtol=0.0, atol=tolerance))
