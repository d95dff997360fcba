"""Tokenised rows on disk, found by everything they depend on and shared between runs.

In: the hash of a feedback file, a tokenizer, a template, the limits. Out: the same rows, or none.
A file is whole or absent; a damaged one is reported as absent, with a line.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from thumbs.data.rows import StoredRows
from thumbs.data.tokenizing import TokenizedRows
from thumbs.data.tokens import Setting
from thumbs.errors import OutputError
from thumbs.feedback import record
from thumbs.files import cache_folder, sha256_bytes, write_bytes
from thumbs.progress import console

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokens_key(
    feedback_sha256: str, left_out: set[str], setting: Setting, changed: str = ""
) -> str:
    """A hash of what rows depend on: records, tokenizer, rendered date, limits and our code.

    left_out: the ids of records that were excluded. changed: how records were, before.
    """
    template = setting.template
    parts = (
        feedback_sha256,
        sorted(left_out),
        _tokenizer_sha256(setting.tokenizer),
        None if template is None else [template.source, template.tool_source],
        list(setting.bos_ids),
        [setting.max_tokens, setting.min_completion_tokens, setting.keep_cut],
        changed,
        [transformers.__version__, tokenizers.__version__, _code_sha256()],
    )
    return sha256_bytes(json.dumps(parts).encode())


def read_tokens(key: str) -> tuple[TokenizedRows, int] | None:
    """The rows under `key` and how many records were excluded; None if absent or damaged."""
    path = _path(key)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        if metadata.get("sha256") == _sha256(arrays, metadata.get("told", "")):
            told = json.loads(metadata["told"])
            excluded = told.pop("excluded")
            return TokenizedRows(StoredRows.from_arrays(arrays), **told), excluded
    except (OSError, SafetensorError):
        pass
    console.print(f"{path}: is damaged; the records are tokenised again", soft_wrap=True)
    return None


def write_tokens(key: str, tokenized: TokenizedRows, excluded: int) -> None:
    """Store rows under `key`, whole or not at all.

    Raises:
        OutputError: there is no room for them.
    """
    told = json.dumps(
        {
            "counts": tokenized.counts,
            "drops": tokenized.drops,
            "refusals": tokenized.refusals,
            "excluded": excluded,
        }
    )
    arrays = tokenized.rows.arrays()
    content = save(arrays, metadata={"told": told, "sha256": _sha256(arrays, told)})
    try:
        write_bytes(_path(key), content)
    except OutputError as error:
        raise OutputError(f"{error} THUMBS_CACHE can name another folder.") from None


def _path(key: str) -> Path:
    return cache_folder() / "tokens" / f"{key}.safetensors"


def _sha256(arrays: dict[str, NDArray[Any]], told: str) -> str:
    digest = hashlib.sha256(told.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _tokenizer_sha256(tokenizer: "PreTrainedTokenizerBase") -> str:
    """A hash of what the tokenizer does, wherever its files came from."""
    fast: Any = tokenizer
    tokens = json.dumps(sorted((k, str(v)) for k, v in fast.special_tokens_map.items()))
    content = f"{type(fast).__name__} {tokens} {fast.backend_tokenizer.to_str()}"
    return sha256_bytes(content.encode())


def _code_sha256() -> str:
    """A hash of our modules that turn a record into a row."""
    own, feedback = Path(__file__).parent, Path(record.__file__).parent
    files = sorted([*own.glob("*.py"), *feedback.glob("*.py")])
    return sha256_bytes(b"".join(file.read_bytes() for file in files))
