"""The sequences of a plan: every (x, y) and (x, y'), each distinct one once, in an order to score.

In: rows and batches. Out: which prompt is followed by which completion, in chunks that only depend
on what the sequences hold. Arrays of numbers; token ids are made when a chunk is scored. Must not
know: models, scores, files.

Legend: S distinct sequences, n rows.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from thumbs.data.plan import Batch
from thumbs.data.rows import Row, StoredRows, store_rows

CHUNK_TOKENS = 16_384  # tokens scored between two commits to the cache

TokenSequence = tuple[tuple[int, ...], tuple[int, ...]]  # (prompt ids, completion ids)


@dataclass(frozen=True, eq=False)
class Places:
    """Where the sequence of (row of the prompt, row of the completion) stands in the plan.

    codes: (S,) sorted, prompt number * number of texts + text number. positions: (S,).
    """

    rows: StoredRows
    codes: NDArray[np.int64]
    positions: NDArray[np.int64]

    def __getitem__(self, pair: tuple[int, int]) -> int:
        rows = self.rows
        code = int(rows.prompt[pair[0]]) * len(rows.text_digest) + int(rows.text[pair[1]])
        at = int(np.searchsorted(self.codes, code))
        if at == len(self.codes) or self.codes[at] != code:
            raise KeyError(pair)
        return int(self.positions[at])


@dataclass(frozen=True, eq=False)
class PlannedSequences:
    """The distinct (prompt, completion) sequences of a plan.

    x, y: (S,) a row that has the prompt and a row that has the completion.
    chunks: the sequences in runs that are scored and committed together.
    """

    rows: StoredRows
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    chunks: list[range]
    place: Places

    def __len__(self) -> int:
        return len(self.x)

    def sequences(self, positions: Iterable[int]) -> list[TokenSequence]:
        """The token ids of some sequences."""
        rows = self.rows
        return [
            (
                tuple(rows.prompts[int(rows.prompt[self.x[i]])].tolist()),
                tuple(rows.completions[int(self.y[i])].tolist()),
            )
            for i in positions
        ]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(S,) tokens of each completion."""
        return self.rows.completion_tokens[self.y]

    @property
    def tokens(self) -> NDArray[np.int64]:
        """(S,) tokens of prompt and completion."""
        return self.rows.prompt_tokens[self.x] + self.lengths

    def digests(self) -> NDArray[np.uint8]:
        """(S, 32) a hash of each sequence's prompt ids, then one of its completion ids."""
        prompts = self.rows.prompt_digest[self.rows.prompt[self.x]]
        texts = self.rows.text_digest[self.rows.text[self.y]]
        return np.concatenate([prompts, texts], axis=1)

    def sha256(self) -> str:
        """A hash of all sequences, in order."""
        return hashlib.sha256(self.digests().data).hexdigest()


def planned_sequences(rows: Sequence[Row], batches: Iterable[Batch]) -> PlannedSequences:
    """Every (x, y) of `rows` and every (x, y') of `batches`, each distinct one once.

    All that follows one prompt stands together, answers of every epoch among them, so that the
    prompt is computed once; prompts are ordered by the length of it all, longest first, completions
    by theirs. What is equally long stands in the order of its hash.
    """
    stored = store_rows(rows)
    own = np.arange(len(stored))
    numbers = np.fromiter(
        chain.from_iterable(pair for b in batches for g in b.groups for pair in g.mismatched),
        np.int64,
    )
    x, y = np.concatenate([own, numbers[0::2]]), np.concatenate([own, numbers[1::2]])
    codes, first = np.unique(_codes(stored, x, y), return_index=True)  # (S,)
    x, y = x[first], y[first]
    prompt, lengths = stored.prompt[x], stored.completion_tokens[y]  # (S,)
    following = np.bincount(prompt, weights=lengths, minlength=len(stored.prompts))
    size = stored.prompts.lengths + following.astype(np.int64)  # by prompt
    order = np.lexsort(
        (
            *_words(stored.text_digest)[:, stored.text[y]],
            -lengths,
            *_words(stored.prompt_digest)[:, prompt],
            -size[prompt],
        )
    )  # the last key decides first
    positions = np.empty_like(order)
    positions[order] = np.arange(len(order))
    x, y = x[order], y[order]
    chunks = list(_chunks(stored.prompt[x], stored.prompt_tokens[x], stored.completion_tokens[y]))
    return PlannedSequences(stored, x, y, chunks, Places(stored, codes, positions))


def _codes(rows: StoredRows, x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each pair that is equal where prompt and completion have equal ids."""
    return rows.prompt[x].astype(np.int64) * len(rows.text_digest) + rows.text[y]


def _words(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(2, number of digests): the digests as numbers, the first half less significant."""
    return np.ascontiguousarray(digests).view(">u8").astype(np.uint64).T[::-1]


def _chunks(
    prompt: NDArray[np.int32],
    prompt_tokens: NDArray[np.int64],
    completion_tokens: NDArray[np.int64],
) -> Iterator[range]:
    """Runs of sequences that close at the first new prompt after CHUNK_TOKENS tokens.

    A prompt with more answers than fit twice that is cut, too.
    """
    begin, tokens, before = 0, 0, -1
    numbers = zip(prompt.tolist(), prompt_tokens.tolist(), completion_tokens.tolist(), strict=True)
    for i, (number, of_prompt, of_completion) in enumerate(numbers):
        is_new = i == begin or number != before
        if tokens >= (CHUNK_TOKENS if is_new else 2 * CHUNK_TOKENS):
            yield range(begin, i)
            begin, tokens, is_new = i, 0, True
        tokens += of_completion + (of_prompt if is_new else 0)
        before = number
    if len(prompt):
        yield range(begin, len(prompt))
