"""A tokenised record, and many of them as columns: a row costs its tokens and little more.

In: rows, one at a time. Out: the same rows, made again from the columns where they are asked for.
Must not know: records, tokenizers, batches.

A Python tuple takes 36 bytes for a token id that is not shared; a column takes 4. Equal prompts are
kept once. Legend: n rows, P distinct prompts, Q distinct completions.
"""

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 16  # two of 2^32 texts have equal digests with a probability of 2^-65


@dataclass(frozen=True, slots=True)
class Row:
    """One tokenised record.

    key: hash of the content, ":" and how many equal rows came before it.
    loss_mask: over completion_ids, which of them carry loss.
    weight: multiplies the row's loss.
    cut: the completion lost its right end, and with it the end token.
    """

    key: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    desirable: bool
    weight: float
    record_id: str
    conversation: str
    cut: bool


@dataclass(frozen=True)
class Parts:
    """Pieces of different lengths in one array, one after the other.

    ends: (number of pieces + 1,) from 0: piece i is flat[ends[i] : ends[i + 1]].
    """

    flat: NDArray[Any]
    ends: NDArray[np.int64]

    def __getitem__(self, i: int) -> NDArray[Any]:
        return self.flat[self.ends[i] : self.ends[i + 1]]

    def __len__(self) -> int:
        return len(self.ends) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.ends)


@dataclass(frozen=True, eq=False)
class StoredRows(Sequence[Row]):
    """Rows as columns; `rows[i]` makes a `Row` of them.

    prompt, text: which distinct prompt or completion a row has, numbered by first use.
    prompts, completions, loss: token ids by distinct prompt and by row; the loss mask by row.
    prompt_digest, text_digest: (P, 16), (Q, 16) hashes of the token ids.
    key, record_id, conversation: UTF-8 by row.
    """

    prompt: NDArray[np.int32]  # (n,)
    text: NDArray[np.int32]  # (n,)
    prompts: Parts  # int32
    completions: Parts  # int32
    loss: NDArray[np.bool_]  # as completions.flat
    prompt_digest: NDArray[np.uint8]
    text_digest: NDArray[np.uint8]
    desirable: NDArray[np.bool_]  # (n,)
    weight: NDArray[np.float64]  # (n,)
    cut: NDArray[np.bool_]  # (n,)
    key: Parts
    record_id: Parts
    conversation: Parts

    def __len__(self) -> int:
        return len(self.prompt)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        begin, end = self.completions.ends[i], self.completions.ends[i + 1]
        return Row(
            text_at(self.key, i),
            tuple(self.prompts[int(self.prompt[i])].tolist()),
            tuple(self.completions[i].tolist()),
            tuple(self.loss[begin:end].tolist()),
            bool(self.desirable[i]),
            float(self.weight[i]),
            text_at(self.record_id, i),
            text_at(self.conversation, i),
            bool(self.cut[i]),
        )

    @property
    def prompt_tokens(self) -> NDArray[np.int64]:
        """(n,) tokens of each row's prompt."""
        return self.prompts.lengths[self.prompt]

    @property
    def completion_tokens(self) -> NDArray[np.int64]:
        """(n,) tokens of each row's completion."""
        return self.completions.lengths

    @property
    def tokens(self) -> NDArray[np.int64]:
        """(n,) tokens of each row."""
        return self.prompt_tokens + self.completion_tokens

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every column by name; `from_arrays` takes them back."""
        found: dict[str, NDArray[Any]] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            if isinstance(column, Parts):
                found[field.name], found[f"{field.name}.ends"] = column.flat, column.ends
            else:
                found[field.name] = column
        return found

    @staticmethod
    def from_arrays(arrays: dict[str, NDArray[Any]]) -> "StoredRows":
        """The rows whose `arrays()` these are.

        Raises:
            KeyError: a column is missing.
        """
        columns: dict[str, Any] = {}
        for field in fields(StoredRows):
            flat, ends = arrays[field.name], arrays.get(f"{field.name}.ends")
            columns[field.name] = flat if ends is None else Parts(flat, ends)
        return StoredRows(**columns)


def store_rows(rows: Iterable[Row]) -> StoredRows:
    """The rows as columns; columns are returned as they are."""
    if isinstance(rows, StoredRows):
        return rows
    numbered_prompts, numbered_texts = _Numbers(), _Numbers()
    prompts, completions, masks = _Pieces("i"), _Pieces("i"), array("b")
    names = {name: _Pieces("B") for name in ("key", "record_id", "conversation")}
    prompt, text = array("i"), array("i")
    desirable, cut, weight = array("b"), array("b"), array("d")
    for row in rows:
        before, after = array("i", row.prompt_ids), array("i", row.completion_ids)
        prompt.append(numbered_prompts.number(before))
        text.append(numbered_texts.number(after))
        if prompt[-1] == len(prompts):
            prompts.add(before)
        completions.add(after)
        masks.extend(row.loss_mask)
        desirable.append(row.desirable)
        weight.append(row.weight)
        cut.append(row.cut)
        for name, pieces in names.items():
            pieces.add(array("B", getattr(row, name).encode()))
    return StoredRows(
        prompt=_column(prompt, np.int32),
        text=_column(text, np.int32),
        prompts=prompts.parts(np.int32),
        completions=completions.parts(np.int32),
        loss=_column(masks, np.bool_),
        prompt_digest=numbered_prompts.digests(),
        text_digest=numbered_texts.digests(),
        desirable=_column(desirable, np.bool_),
        weight=_column(weight, np.float64),
        cut=_column(cut, np.bool_),
        **{name: pieces.parts(np.uint8) for name, pieces in names.items()},
    )


def text_at(column: Parts, i: int) -> str:
    """The i-th text of a column of UTF-8."""
    return column[i].tobytes().decode()


def texts_of(column: Parts) -> list[str]:
    """Every text of a column of UTF-8."""
    content, ends = column.flat.tobytes(), column.ends.tolist()
    return [content[a:b].decode() for a, b in pairwise(ends)]


class _Pieces:
    """Pieces that are put one behind the other; `code` is that of Python's arrays."""

    def __init__(self, code: str) -> None:
        self.flat = array(code)
        self.ends = array("q", [0])

    def add(self, piece: "array[int]") -> None:
        self.flat.extend(piece)
        self.ends.append(len(self.flat))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def parts(self, dtype: Any) -> Parts:
        return Parts(_column(self.flat, dtype), _column(self.ends, np.int64))


class _Numbers:
    """Lists of token ids, numbered by first use, equal ones alike."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def number(self, ids: "array[int]") -> int:
        digest = hashlib.sha256(ids.tobytes()).digest()[:DIGEST_BYTES]
        return self._numbers.setdefault(digest, len(self._numbers))

    def digests(self) -> NDArray[np.uint8]:
        """(distinct, 16)"""
        return np.frombuffer(b"".join(self._numbers), np.uint8).reshape(-1, DIGEST_BYTES)


def _column(values: "array[Any]", dtype: Any) -> NDArray[Any]:
    """The array's own memory, seen as `dtype` of the same width."""
    return np.frombuffer(values, dtype) if len(values) else np.zeros(0, dtype)
