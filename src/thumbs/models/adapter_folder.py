"""The folder of a LoRA adapter, before it is loaded: is it one, whole, and of which model?

In: a name. Out: a folder with safetensors, the name of its model. Knows no peft, which takes
seconds to import and which most runs do not need.
"""

import json
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError

from thumbs.errors import ModelError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def find_adapter(name: str) -> Path:
    """The folder of the adapter `name`, a folder or a hub id (whose safetensors are fetched).

    Raises:
        ModelError: no such adapter, or one without safetensors.
    """
    folder = Path(name)
    if not folder.is_dir():
        files = [ADAPTER_CONFIG, "*.safetensors"]
        try:
            folder = Path(snapshot_download(name, allow_patterns=files))
        except (OSError, ValueError, HFValidationError) as error:
            raise ModelError(f"{name}: the adapter cannot be found: {one_line(error)}") from None
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(f"{name}: holds no {ADAPTER_CONFIG}, so it is not a LoRA adapter.")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        pickles = sorted(file.name for file in folder.glob("*.bin"))
        found = f"pickle weights only ({pickles[0]})" if pickles else "no weights"
        raise ModelError(
            f"{name}: holds {found}, but {ADAPTER_WEIGHTS} is needed. Save the adapter again with "
            "peft's save_pretrained(FOLDER), which writes safetensors."
        )
    return folder


def is_adapter_folder(name: str) -> bool:
    """Whether `name` is a folder that holds an adapter and no whole model."""
    folder = Path(name)
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of_adapter(folder: Path) -> str:
    """The model that the adapter in `folder` was trained on, as its configuration names it.

    Raises:
        ModelError: it names none, or a folder that is gone.
    """
    try:
        named = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        base = named.get("base_model_name_or_path")
    except (ValueError, AttributeError, OSError) as error:
        raise ModelError(f"{folder / ADAPTER_CONFIG}: is not readable: {error}") from None
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"{folder}: does not say which model it belongs to. Give that model, and the adapter "
            f"with --set model.adapter={folder}"
        )
    if base.startswith(("/", ".")) and not Path(base).is_dir():
        raise ModelError(
            f"{folder}: its model {base} is not there any more. Give the model's new place, and "
            f"the adapter with --set model.adapter={folder}"
        )
    return base


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
