"""Any causal language model of transformers, by folder or hub id, with its tokenizer.

In: names and options. Out: a loaded model with dropout off, its tokenizer and what identifies its
weights. Weights come from safetensors only; code that comes with a model runs only when asked for.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from thumbs.config import ModelConfig
from thumbs.errors import ModelError

LOADING_ERRORS = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)
# What save_pretrained of a fast tokenizer writes, and the older forms it can still be built from.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


@dataclass(frozen=True)
class ModelIdentity:
    """What makes two models the same: the weights as loaded, not their name."""

    name_or_path: str
    revision: str | None
    weight_sha256: str
    dtype: str


@dataclass
class LoadedModel:
    """A model ready to score: evaluation mode, dropout off, on its device."""

    model: PreTrainedModel
    tokenizer: Any
    identity: ModelIdentity


def load_model(config: ModelConfig, *, device: torch.device) -> LoadedModel:
    """The policy of `config` with its tokenizer, weights in the dtype the optimizer will keep.

    Raises:
        ModelError: no such model, no safetensors, no tokenizer, or weights that do not fit.
    """
    _require_name(config.name_or_path)
    _require_folder_or_hub_id(config.name_or_path)
    _require_safetensors(config.name_or_path)
    tokenizer = load_tokenizer(config)
    dtype = torch.float32 if config.dtype == "auto" else getattr(torch, config.dtype)
    return _load(config, config.name_or_path, tokenizer, dtype, device)


def load_reference(config: ModelConfig, tokenizer: Any, *, device: torch.device) -> LoadedModel:
    """The model `config.reference`, frozen, in the dtype it is stored in."""
    assert config.reference is not None, "without model.reference the policy is its own reference"
    loaded = _load(config, config.reference, tokenizer, "auto", device)
    loaded.model.requires_grad_(False)
    return loaded


def load_tokenizer(config: ModelConfig) -> Any:
    """The tokenizer of `config`, a fast one (offsets are needed to place the loss mask)."""
    name = config.tokenizer or config.name_or_path
    _require_folder_or_hub_id(name)
    folder = Path(name)
    if folder.is_dir() and not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ModelError(
            f"{name}: holds no tokenizer ({', '.join(TOKENIZER_FILES)}). "
            "Save one there or name another with --set model.tokenizer=FOLDER."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{name}: the tokenizer cannot be loaded: {_one_line(error)}") from None
    if not tokenizer.is_fast:
        raise ModelError(
            f"{name}: is a slow tokenizer ({type(tokenizer).__name__}), which gives no offsets. "
            "Convert it once with AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)."
        )
    return tokenizer


def pick_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def weight_sha256(model: torch.nn.Module) -> str:
    """A hash over every weight's name, dtype, shape and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            flat = tensor.detach().contiguous().view(-1).view(torch.uint8).cpu()
            digest.update(flat.numpy().data)
    return digest.hexdigest()


def _load(
    config: ModelConfig,
    name: str,
    tokenizer: Any,
    dtype: torch.dtype | str,
    device: torch.device,
) -> LoadedModel:
    _require_folder_or_hub_id(name)
    _require_safetensors(name)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    loaded: Any
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            name,
            revision=config.revision if name == config.name_or_path else None,
            dtype=dtype,
            attn_implementation=config.attn_implementation,
            trust_remote_code=config.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    except LOADING_ERRORS as error:
        raise ModelError(f"{name}: the model cannot be loaded: {_one_line(error)}") from None
    model, info = loaded
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(
            f"{name}: {len(missing)} weights are missing from the files, for example "
            f"{missing[0]!r}; training would start from random values there. Use a whole model."
        )
    _require_vocabulary(name, model, tokenizer)
    switch_off_dropout(model)
    identity = ModelIdentity(name, config.revision, weight_sha256(model), str(model.dtype)[6:])
    return LoadedModel(model.eval().to(device), tokenizer, identity)


def switch_off_dropout(model: torch.nn.Module) -> None:
    """Set every dropout probability to 0, so that training mode scores like evaluation mode."""
    for module in model.modules():
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def _require_name(name: str) -> None:
    if not name:
        raise ModelError("--model: is missing. Give a model folder or a hub id.")


def _require_folder_or_hub_id(name: str) -> None:
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    folder = Path(name)
    if looks_like_path and not folder.exists():
        raise ModelError(f"{name}: no such folder. Give a model folder or a hub id (owner/name).")
    if folder.is_file():
        raise ModelError(f"{name}: is a file. Give the folder that holds config.json and weights.")


def _require_safetensors(name: str) -> None:
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(f"{name}: holds no config.json, so it is not a model folder.")
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickles = sorted(file.name for file in [*folder.glob("*.bin"), *folder.glob("*.pt")])
    if pickles:
        raise ModelError(
            f"{name}: holds pickle weights only ({pickles[0]}), which can run code when loaded. "
            "Convert them once: from_pretrained(...).save_pretrained(FOLDER) writes safetensors."
        )
    raise ModelError(f"{name}: holds no weights (*.safetensors).")


def _require_vocabulary(name: str, model: PreTrainedModel, tokenizer: Any) -> None:
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"{name}: the tokenizer has {len(tokenizer):,} tokens but the model embeds {rows:,}; "
            "they do not belong together. Name the right one with --set model.tokenizer=FOLDER."
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
