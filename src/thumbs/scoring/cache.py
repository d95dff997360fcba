"""Scores of sequences on disk, found by their content and shared between runs.

In: a key that hashes everything the scores depend on. Out: the same float32 values, or nothing.
A file is whole or absent: written aside, synced, renamed; a damaged one is reported as absent.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from thumbs.errors import ConfigError
from thumbs.files import sha256_bytes, write_bytes


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

    def get(self, key: str, lengths: Sequence[int]) -> list[Tensor] | None:
        """The scores under `key`, a float32 tensor per length; None if absent or damaged."""
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                flat = file.get_tensor("logps")
                metadata = file.metadata() or {}
        except (FileNotFoundError, SafetensorError):
            return None
        if len(flat) != sum(lengths) or metadata.get("sha256") != _sha256(flat):
            return None
        return list(flat.split(list(lengths)))

    def put(self, key: str, scores: Sequence[Tensor]) -> None:
        """Store `scores` under `key`, whole or not at all."""
        flat = torch.cat(list(scores))
        write_bytes(self._path(key), save({"logps": flat}, metadata={"sha256": _sha256(flat)}))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"


def _sha256(flat: Tensor) -> str:
    return sha256_bytes(flat.contiguous().view(torch.uint8).numpy().tobytes())
