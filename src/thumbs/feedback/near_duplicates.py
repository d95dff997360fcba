"""Answers that are nearly the same, as a report: MinHash signatures compared band by band.

In: texts, one at a time. Out: groups of records whose texts share most of their words in a row. No
record is left out for it. Memory: 320 bytes a record.

A text is the set of its runs of SHINGLE words. Of PERMUTATIONS random orders of all runs a
signature keeps the first run of the text in each; two texts agree in a share of these that is, on
average, the Jaccard similarity of their sets. Texts that agree in all of one band of BAND orders
are compared, and are one group where they agree in a share of LEAST or more of all. Source: A.
Broder, "On the resemblance and containment of documents" (1997); Leskovec et al., "Mining of
massive datasets", 3.4.
"""

import re
from array import array
from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\w+")
SHINGLE = 3
BANDS, BAND = 8, 8
PERMUTATIONS = BANDS * BAND
LEAST = 0.8
SEED = 0


class NearDuplicates:
    """Collects texts and groups those that are nearly the same."""

    def __init__(self) -> None:
        draw = np.random.default_rng(SEED)
        self._factors = draw.integers(1, 2**63, PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
        self._offsets = draw.integers(0, 2**63, PERMUTATIONS, dtype=np.uint64)
        self._signatures = array("I")
        self._count = 0

    def add(self, text: str) -> None:
        """Note the next text."""
        runs = _runs(text)
        with np.errstate(over="ignore"):
            mixed = runs[:, None] * self._factors + self._offsets  # (runs, PERMUTATIONS)
        least = (mixed >> np.uint64(32)).min(axis=0).astype(np.uint32)
        self._signatures.frombytes(least.tobytes())
        self._count += 1

    def groups(self) -> list[list[int]]:
        """The numbers of texts that are nearly the same, the largest group first."""
        signatures = np.frombuffer(self._signatures, np.uint32).reshape(self._count, PERMUTATIONS)
        parent = np.arange(self._count)
        for band in range(BANDS):
            columns = np.ascontiguousarray(signatures[:, band * BAND : (band + 1) * BAND])
            keys = columns.view(np.dtype((np.void, columns.itemsize * BAND)))[:, 0]
            order = np.argsort(keys, kind="stable")
            same = keys[order][1:] == keys[order][:-1]
            for one, other in zip(order[:-1][same], order[1:][same], strict=True):
                if (signatures[one] == signatures[other]).mean() >= LEAST:
                    _join(parent, int(one), int(other))
        return sorted(_members(parent), key=lambda group: (-len(group), group))


def _runs(text: str) -> NDArray[np.uint64]:
    """Hashes of every SHINGLE words in a row; of all words where there are fewer."""
    words = WORD.findall(text.casefold())
    last = max(1, len(words) - SHINGLE + 1)
    parts = {" ".join(words[start : start + SHINGLE]) for start in range(last)}
    hashes = b"".join(blake2b(part.encode(), digest_size=8).digest() for part in parts)
    return np.frombuffer(hashes, np.uint64)


def _join(parent: NDArray[np.int64], one: int, other: int) -> None:
    first, second = sorted((_root(parent, one), _root(parent, other)))
    parent[second] = first


def _root(parent: NDArray[np.int64], place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = int(parent[place])
    return place


def _members(parent: NDArray[np.int64]) -> Iterator[list[int]]:
    moved = np.flatnonzero(parent != np.arange(len(parent)))
    by_root: dict[int, list[int]] = {}
    for place in moved.tolist():
        root = _root(parent, place)
        by_root.setdefault(root, [root]).append(place)
    yield from by_root.values()
