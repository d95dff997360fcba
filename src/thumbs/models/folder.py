"""What is wrong with a model, as far as its folder tells without loading it.

In: names. Out: nothing, or a ModelError. Cheap: opens headers, reads no weights. A hub id is left
to the loading.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from thumbs.errors import ConfigError, ModelError

# What save_pretrained of a fast tokenizer writes, and the older forms it can still be built from.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
# Those that are JSON, and the keys they need.
TOKENIZER_KEYS: dict[str, tuple[str, ...]] = {
    "tokenizer.json": ("added_tokens", "model"),
    "tokenizer_config.json": (),
    "special_tokens_map.json": (),
    "added_tokens.json": (),
}
INDEX = "model.safetensors.index.json"


def require_name(name: str) -> None:
    """Refuse an empty name.

    Raises:
        ModelError: it is empty.
    """
    if not name:
        raise ModelError("--model: is missing. Give a model folder or a hub id.")


def require_folder_or_hub_id(name: str) -> None:
    """Refuse a path that leads nowhere, or to a file.

    Raises:
        ModelError: it does.
    """
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    folder = Path(name)
    looks_like_path |= "/" in name and folder.parent.is_dir()  # a misspelt one, no owner/name
    if looks_like_path and not folder.exists():
        raise ModelError(f"{name}: no such folder. Give a model folder or a hub id (owner/name).")
    if folder.is_file():
        raise ModelError(f"{name}: is a file. Give the folder that holds config.json and weights.")


def require_weights(name: str) -> None:
    """Refuse a folder without a readable config.json and undamaged safetensors.

    Raises:
        ModelError: what is missing or damaged.
    """
    require_folder_or_hub_id(name)
    folder = Path(name)
    if not folder.is_dir():
        return
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name}: holds no config.json, so it is not a model folder.")
    _read_object(folder / "config.json")
    weights = sorted(folder.glob("*.safetensors"))
    pickles = sorted(file.name for file in [*folder.glob("*.bin"), *folder.glob("*.pt")])
    if pickles and not weights:
        raise ModelError(
            f"{name}: holds pickle weights only ({pickles[0]}), which can run code when loaded. "
            "Convert them once: from_pretrained(...).save_pretrained(FOLDER) writes safetensors."
        )
    if not weights:
        raise ModelError(f"{name}: holds no weights (*.safetensors).")
    for file in weights:
        _require_whole(file)
    if (folder / INDEX).is_file():
        _require_parts(folder)


def require_tokenizer(name: str) -> None:
    """Refuse a folder without a readable tokenizer.

    Raises:
        ModelError: what is missing or damaged.
    """
    require_folder_or_hub_id(name)
    folder = Path(name)
    if not folder.is_dir():
        return
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ModelError(
            f"{name}: holds no tokenizer ({', '.join(TOKENIZER_FILES)}). "
            "Save one there or name another with --set model.tokenizer=FOLDER."
        )
    for file, keys in TOKENIZER_KEYS.items():
        found = _read_object(folder / file) if (folder / file).is_file() else dict.fromkeys(keys)
        if missing := [key for key in keys if key not in found]:
            raise ModelError(
                f"{folder / file}: {missing[0]!r} is missing; it needs {' and '.join(keys)}. "
                "Copy or download the folder again."
            )


def require_attention(name: str | None) -> None:
    """Refuse an attention that transformers does not know; owner/name is a kernel of the hub.

    Paged attention is for generation only, and flex_attention aborts the process on a CPU.

    Raises:
        ConfigError: it does not, or it is one of these.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    known = {"eager", *ALL_ATTENTION_FUNCTIONS.valid_keys()}
    known = {key for key in known if not key.startswith(("flex", "paged"))}
    if name is not None and "/" not in name and name not in known:
        raise ConfigError(
            f"model.attn_implementation: {name!r} is unknown; allowed: "
            f"{', '.join(sorted(known))}, or null"
        )


def _read_object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{file}: is not readable JSON ({reason}). Copy or download the folder again."
        ) from None
    if not isinstance(found, dict):
        raise ModelError(
            f"{file}: must hold a JSON object, but holds {type(found).__name__}. "
            "Copy or download the folder again."
        )
    return found


def _require_whole(file: Path) -> None:
    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{file}: is cut or damaged ({reason}). Copy or download it again."
        ) from None


def _require_parts(folder: Path) -> None:
    parts = _read_object(folder / INDEX).get("weight_map")
    names = set(parts.values()) if isinstance(parts, dict) else set()
    missing = sorted(name for name in names if not (folder / str(name)).is_file())
    if missing or not names:
        found = f"{missing[0]} is missing" if missing else "it names no file"
        raise ModelError(f"{folder / INDEX}: {found}. Copy or download the folder again.")
