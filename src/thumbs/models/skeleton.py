"""A model without its weights: the modules and shapes its configuration makes.

In: where a model is, how it is to be trained. Out: the same modules on the meta device, adapters
included, for what depends on shapes only. Reads config.json, no weights.
"""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from thumbs.config import ModelConfig
from thumbs.errors import ModelError
from thumbs.models.folder import require_name
from thumbs.models.load import base_and_adapter

WIDE = ("auto", "float32", "mixed_bfloat16")


def skeleton(config: ModelConfig, *, device: torch.device) -> Any:
    """The modules of `config`, in the dtypes a run on `device` would hold them in.

    Raises:
        ModelError: there is no model of that name, or none of its kind can be made.
    """
    require_name(config.name_or_path)
    name, adapter = base_and_adapter(config)
    try:
        shape = AutoConfig.from_pretrained(
            name, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
        with torch.device("meta"):
            build: Any = AutoModelForCausalLM.from_config
            model = build(shape, trust_remote_code=config.trust_remote_code)
    except Exception as error:  # noqa: BLE001, a damaged config.json trips it anywhere
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(f"{name}: its config.json makes no model: {reason}.") from None
    frozen = config.lora is not None or adapter is not None
    model = model.to(_dtype(config, shape, device, frozen=frozen))
    if config.lora is not None:
        from thumbs.models.lora import add_lora  # brings peft, which most runs do without

        add_lora(model, config.lora, seed=0)
    elif adapter is not None:
        model.requires_grad_(False)
    return model


def _dtype(config: ModelConfig, shape: Any, device: torch.device, *, frozen: bool) -> torch.dtype:
    if config.dtype not in WIDE:
        found: torch.dtype = getattr(torch, config.dtype)
        return found
    if frozen and device.type != "cpu":
        stored = getattr(shape, "dtype", None)
        return stored if isinstance(stored, torch.dtype) else torch.float32
    return torch.float32
