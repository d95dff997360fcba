"""What makes two models the same: a hash of weights, settings and code, not their name.

In: a loaded model, what its files say. Out: `ModelIdentity`, under which its scores are kept.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thumbs.files import sha256_bytes

# Settings that a copy of the same model may have otherwise.
TELLS_NOTHING = {
    *("_name_or_path", "_commit_hash", "transformers_version", "architectures", "use_cache"),
    *("dtype", "torch_dtype", "id2label", "label2id"),
    *("base_model_name_or_path", "inference_mode", "revision", "peft_version", "lora_dropout"),
}


@dataclass(frozen=True)
class ModelIdentity:
    """What makes two models the same: the weights as loaded and their settings, not their name.

    settings_sha256: of config.json and of an adapter's, which say what the weights compute.
    """

    name_or_path: str
    revision: str | None
    weight_sha256: str
    dtype: str
    settings_sha256: str = ""

    @property
    def sha256(self) -> str:
        """Of weights and settings."""
        return sha256_bytes(f"{self.weight_sha256} {self.settings_sha256}".encode())


def weight_sha256(model: torch.nn.Module) -> str:
    """A hash over every weight's name, dtype, shape and bytes."""
    return tensors_sha256(model.state_dict())


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """A hash over every tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            flat = tensor.detach().contiguous().view(-1).view(torch.uint8).cpu()
            digest.update(flat.numpy().data)
    return digest.hexdigest()


def settings_sha256_of(settings: Mapping[str, Any]) -> str:
    """Of what a config.json or adapter_config.json says about the computation."""
    telling = {key: value for key, value in settings.items() if key not in TELLS_NOTHING}
    return sha256_bytes(json.dumps(telling, sort_keys=True, default=str).encode())


def code_sha256(model: torch.nn.Module) -> str | None:
    """Of the Python files that came with a model; None where its code is that of transformers."""
    modules = {kind.__module__ for kind in type(model).__mro__}
    own = sorted(name for name in modules if name.startswith("transformers_modules."))
    folders = {Path(str(sys.modules[name].__file__)).parent for name in own}
    files = sorted(file for folder in folders for file in folder.glob("*.py"))
    return sha256_bytes(b"".join(file.read_bytes() for file in files)) if files else None
