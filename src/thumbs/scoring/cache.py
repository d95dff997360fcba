"""Scores of sequences on disk, found by their content and shared between runs.

In: a key that hashes everything the scores depend on. Out: the same float32 values, or nothing.
A file is whole or absent: written aside, synced, renamed; a damaged one is reported as absent.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from thumbs.errors import ConfigError, OutputError
from thumbs.files import remove_partials, sha256_bytes, write_bytes

LEFT_BEHIND_SECONDS = 86_400  # after a day an unfinished file is no longer being written


def cache_folder() -> Path:
    """Where scores are kept: $THUMBS_CACHE, else $XDG_CACHE_HOME/thumbs, else ~/.cache/thumbs."""
    if named := os.environ.get("THUMBS_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thumbs"


class ScoreCache:
    """Chunks of scores under one folder, a file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "reference"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: the cache folder cannot be made ({error.strerror}). "
                "Name a writable one in the environment variable THUMBS_CACHE."
            ) from None
        for folder in self.folder.iterdir():
            remove_partials(folder, older_than=time.time() - LEFT_BEHIND_SECONDS)

    def get(self, key: str, lengths: Sequence[int]) -> list[Tensor] | None:
        """The scores under `key`, a float32 tensor per length; None if absent or damaged."""
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                flat = file.get_tensor("logps")
                metadata = file.metadata() or {}
        except (OSError, SafetensorError):
            return None
        if len(flat) != sum(lengths) or metadata.get("sha256") != tensor_sha256(flat):
            return None
        return list(flat.split(list(lengths)))

    def put(self, key: str, scores: Sequence[Tensor]) -> None:
        """Store `scores` under `key`, whole or not at all.

        Raises:
            OutputError: there is no room for them.
        """
        flat = torch.cat(list(scores))
        content = save({"logps": flat}, metadata={"sha256": tensor_sha256(flat)})
        try:
            write_bytes(self._path(key), content)
        except OutputError as error:
            raise OutputError(f"{error} THUMBS_CACHE can name another folder.") from None

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"


def tensor_sha256(flat: Tensor) -> str:
    """The hash of a tensor's bytes as hex."""
    return sha256_bytes(flat.contiguous().view(torch.uint8).numpy().tobytes())
