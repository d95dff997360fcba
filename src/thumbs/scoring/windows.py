"""How far back a model's layers see, where that is no matter of the mask they are given.

In: a model's configuration. Out: settings of windows that the layers apply themselves, by counting
places. Where prompts are shared, places are not positions, and a short probe does not show it.
"""

import re
from typing import Any

# GPT-Neo's window_size, Doge's keep_window_size, Llama 4's attention_chunk_size.
NAMES = re.compile(r"window|attention_chunk|attn_chunk|local_attn|local_attention|attention_span")
# What masks are made of here, or what says nothing of a width.
OF_MASKS = re.compile(r"sliding_window(_pattern|_size)?|max_window_layers|use_sliding_window")


def other_windows(config: Any) -> dict[str, int]:
    """Settings of `config` that name a width of attention other than `sliding_window`.

    >>> from transformers import GPTNeoConfig, MistralConfig
    >>> other_windows(GPTNeoConfig()), other_windows(MistralConfig())
    ({'window_size': 256}, {})
    """
    found = {name.lstrip("_"): value for name, value in config.to_dict().items()}
    return {
        name: value
        for name, value in found.items()
        if NAMES.search(name)
        and not OF_MASKS.fullmatch(name)
        and isinstance(value, int)
        and not isinstance(value, bool)
        and value > 0
    }
