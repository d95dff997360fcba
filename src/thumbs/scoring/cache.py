"""Scores of sequences on disk, found by what was scored and shared between runs.

In: digests of sequences, and a text that holds all else the scores depend on. Out: the same float32
values, or nothing. A file holds the sequences that were scored together; it is whole or absent:
written aside, synced, renamed. A damaged one is reported as absent.

Legend: S sequences that are asked for, N sequences on disk, K sequences of one file.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from thumbs.errors import ConfigError, OutputError
from thumbs.files import remove_partials, sha256_bytes, write_bytes

LEFT_BEHIND_SECONDS = 86_400  # after a day an unfinished file is no longer being written
ABSENT = -1
OPEN_FILES = 64  # a run with another seed finds a chunk's values in a few files, in the same order
DIGEST_BYTES = 32

Digests = NDArray[np.uint8]  # (S, 32): of each sequence


class ScoreCache:
    """All scores under one folder, those of one model and way of computing in a folder each."""

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

    def of(self, how: str) -> "KnownScores":
        """The scores of one model; `how`: everything they depend on beside the token ids."""
        return KnownScores(self.folder / sha256_bytes(how.encode())[:32])


class KnownScores:
    """The scores in one folder, indexed when this is made.

    Of a sequence that stands in several files, the first file by name is taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: list[Path] = []
        found: list[Digests] = []
        for path in sorted(folder.glob("*.safetensors")):
            digests = _digests_of(path)
            if digests is not None:
                self._files.append(path)
                found.append(digests)
        self._begins = np.cumsum([0, *map(len, found)])
        self._digests = np.concatenate([np.zeros((0, DIGEST_BYTES), np.uint8), *found])  # (N, 32)
        heads = _heads(self._digests)
        self._order = np.argsort(heads, kind="stable")  # (N,)
        self._heads = heads[self._order]
        self._open: OrderedDict[int, list[Tensor] | None] = OrderedDict()

    def look_up(self, digests: Digests) -> NDArray[np.int64]:
        """(S,) what to give to `read` for each sequence, or ABSENT."""
        places = np.full(len(digests), ABSENT, np.int64)
        at = np.searchsorted(self._heads, _heads(digests))
        waiting = np.flatnonzero(at < len(self._heads))
        while waiting.size:  # once over, but for digests that begin alike
            candidates = self._order[at[waiting]]
            same = (self._digests[candidates] == digests[waiting]).all(axis=1)
            places[waiting[same]] = candidates[same]
            alike = ~same & (_heads(self._digests[candidates]) == _heads(digests[waiting]))
            waiting = waiting[alike]
            at[waiting] += 1
            waiting = waiting[at[waiting] < len(self._heads)]
        return places

    def read(self, place: int, length: int) -> Tensor | None:
        """The (length,) scores at a place of `look_up`; None if absent or damaged."""
        if place == ABSENT:
            return None
        number = int(np.searchsorted(self._begins, place, side="right")) - 1
        if number not in self._open:
            self._open[number] = _scores_of(self._files[number])
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        scores = self._open[number]
        if scores is None:
            return None
        score = scores[place - int(self._begins[number])]
        return score if len(score) == length else None

    def put(self, digests: Digests, scores: Sequence[Tensor]) -> None:
        """Store the scores of some sequences in one file, whole or not at all.

        Raises:
            OutputError: there is no room for them.
        """
        tensors = {
            "logps": torch.cat(list(scores)),
            "lengths": torch.tensor([len(score) for score in scores], dtype=torch.int32),
            "sequences": torch.from_numpy(np.array(digests)),
        }
        content = save(tensors, metadata={"sha256": _sha256(tensors)})
        name = sha256_bytes(digests.tobytes())
        try:
            write_bytes(self.folder / f"{name}.safetensors", content)
        except OutputError as error:
            raise OutputError(f"{error} THUMBS_CACHE can name another folder.") from None


def tensor_sha256(flat: Tensor) -> str:
    """The hash of a tensor's bytes as hex."""
    return sha256_bytes(flat.contiguous().view(torch.uint8).numpy().data)


def _heads(digests: Digests) -> NDArray[np.uint64]:
    """(S,) the first 8 bytes of each digest as a number."""
    return np.ascontiguousarray(digests[:, :8]).view(np.uint64)[:, 0]


def _digests_of(path: Path) -> Digests | None:
    try:
        with safe_open(path, framework="np") as file:
            digests: Digests = file.get_tensor("sequences")
    except (OSError, SafetensorError):
        return None
    is_whole = digests.dtype == np.uint8 and digests.shape[1:] == (DIGEST_BYTES,)
    return digests if is_whole else None


def _scores_of(path: Path) -> list[Tensor] | None:
    """The scores of a file, one tensor per sequence; None where it is absent or damaged.

    A damaged file is removed: the index would find it before a whole one with other company.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in ("logps", "lengths", "sequences")}
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    if metadata.get("sha256") != _sha256(tensors):
        with suppress(OSError):
            path.unlink()
        return None
    return list(tensors["logps"].split(tensors["lengths"].tolist()))


def _sha256(tensors: dict[str, Tensor]) -> str:
    parts = [f"{name} {tensor_sha256(tensors[name])}" for name in sorted(tensors)]
    return sha256_bytes("\n".join(parts).encode())
