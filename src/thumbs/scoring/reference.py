"""The reference pass: every sequence of the plan scored once, before training.

In: the planned (prompt, completion) sequences and the reference. Out: one float32 log-prob per
completion token, cached by content and frozen into the run. After the pass no reference model is
needed: the step reads values only.
"""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from thumbs.data.plan import Batch
from thumbs.data.rows import Row
from thumbs.errors import Interrupted, RunError
from thumbs.files import write_bytes
from thumbs.models.load import ModelIdentity
from thumbs.progress import progress_bar
from thumbs.scoring.cache import ScoreCache, tensor_sha256
from thumbs.scoring.forward import Scorer, score_in_micro_batches
from thumbs.scoring.tree import TREE_TOKENS
from thumbs.stopping import stopping_after

CHUNK_TOKENS = 16_384  # tokens scored between two commits to the cache
FORWARD_TOKENS = 4_096  # padded tokens of one forward; part of what a chunk's bytes depend on

TokenSequence = tuple[tuple[int, ...], tuple[int, ...]]  # (prompt ids, completion ids)


@dataclass(frozen=True)
class PlannedSequences:
    """The distinct (prompt, completion) sequences of a plan, in chunks that only depend on it.

    place maps (row of the prompt, row of the completion) to a position in `sequences`.
    """

    sequences: list[TokenSequence]
    chunks: list[range]
    place: dict[tuple[int, int], int]

    @property
    def num_tokens(self) -> int:
        return sum(len(prompt) + len(completion) for prompt, completion in self.sequences)

    def sha256(self) -> str:
        """A hash of all token ids, in order."""
        digest = hashlib.sha256()
        for sequence in self.sequences:
            _hash_ids(digest, sequence)
        return digest.hexdigest()


class ReferenceValues:
    """Reference log-probs per completion token, looked up by the rows of prompt and completion.

    sha256: of all values, in the order of the plan.
    """

    def __init__(
        self, place: dict[tuple[int, int], int], scores: Sequence[Tensor], sha256: str = ""
    ) -> None:
        self._place = place
        self._scores = scores
        self.sha256 = sha256

    def __getitem__(self, pair: tuple[int, int]) -> Tensor:
        """(T,) float32: log-probs of the second row's completion after the first row's prompt."""
        return self._scores[self._place[pair]]


def planned_sequences(rows: Sequence[Row], batches: Iterable[Batch]) -> PlannedSequences:
    """Every (x, y) of `rows` and every (x, y') of `batches`, each distinct one once.

    All that follows one prompt stands together, answers of every epoch among them, so that the
    prompt is computed once; prompts are ordered by the length of it all, longest first.
    """
    own = [(i, i) for i in range(len(rows))]
    mismatched = [pair for b in batches for group in b.groups for pair in group.mismatched]
    completions: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for x, y in (*own, *mismatched):
        completions.setdefault(rows[x].prompt_ids, set()).add(rows[y].completion_ids)
    size = {prompt: len(prompt) + sum(map(len, found)) for prompt, found in completions.items()}
    sequences = [
        (prompt, completion)
        for prompt in sorted(completions, key=lambda prompt: (-size[prompt], prompt))
        for completion in sorted(completions[prompt], key=lambda ids: (-len(ids), ids))
    ]
    position = {sequence: i for i, sequence in enumerate(sequences)}
    place = {pair: position[_sequence(rows, pair)] for pair in (*own, *mismatched)}
    return PlannedSequences(sequences, list(_chunks(sequences)), place)


def reference_pass(
    scorer: Scorer, planned: PlannedSequences, cache: ScoreCache, identity: ModelIdentity
) -> list[Tensor]:
    """Score every planned sequence under the reference, taking what the cache already holds.

    Each chunk is committed whole, so an interrupted pass goes on where it stopped.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the chunk in hand was finished.
        OutputError: there is no room in the cache.
    """
    scores: list[Tensor] = []
    from_cache = 0
    with (
        stopping_after("this part of the reference pass") as stop,
        progress_bar("reference pass", planned.num_tokens, "tokens") as bar,
    ):
        for number, chunk in enumerate(planned.chunks, 1):
            sequences = [planned.sequences[i] for i in chunk]
            key = _chunk_key(sequences, scorer, identity)
            lengths = [len(completion) for _, completion in sequences]
            values = cache.get(key, lengths)
            from_cache += values is not None
            if values is None:
                scored = score_in_micro_batches(scorer, sequences, max_tokens=FORWARD_TOKENS)
                values = [score.float().cpu() for score in scored]
                cache.put(key, values)
            scores += values
            tokens = sum(len(p) + len(c) for p, c in sequences)
            bar.advance(tokens, f"{from_cache} of {len(planned.chunks)} chunks from the cache")
            if stop.came:
                done = f"{number} of {len(planned.chunks)} parts"
                raise Interrupted(f"stopped in the reference pass after {done}")
    return scores


def freeze_reference(path: Path, planned: PlannedSequences, scores: Sequence[Tensor]) -> None:
    """Write the values a run uses into the run; from then on only these are read."""
    flat = torch.cat(list(scores))
    metadata = {"sequences_sha256": planned.sha256(), "sha256": tensor_sha256(flat)}
    write_bytes(path, save({"logps": flat}, metadata=metadata))


def frozen_damage(path: Path) -> str | None:
    """What is wrong with the frozen values, as they stand; None where they are whole."""
    if not path.is_file():
        return "is missing"
    try:
        _read_verified(path)
    except RunError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def read_frozen_reference(path: Path, planned: PlannedSequences) -> ReferenceValues:
    """The values `freeze_reference` wrote for the same plan.

    Raises:
        RunError: the file is missing, damaged or was written for other sequences.
    """
    flat, metadata = _read_verified(path)
    if metadata.get("sequences_sha256") != planned.sha256():
        raise RunError(
            f"{path}: belongs to another plan: the feedback file, the tokenizer or the "
            "configuration changed since the run began. Restore them or start a new run."
        )
    lengths = [len(c) for _, c in planned.sequences]
    scores: Sequence[Tensor] = flat.split(lengths)  # type: ignore[no-untyped-call]
    return ReferenceValues(planned.place, scores, metadata["sha256"])


def _read_verified(path: Path) -> tuple[Tensor, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            flat = file.get_tensor("logps")
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise RunError(f"{path}: is missing") from None
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: is damaged ({error})") from None
    if metadata.get("sha256") != tensor_sha256(flat):
        raise RunError(f"{path}: is damaged (its sha256 is not the one stored with it)")
    return flat, metadata


def _sequence(rows: Sequence[Row], pair: tuple[int, int]) -> TokenSequence:
    return rows[pair[0]].prompt_ids, rows[pair[1]].completion_ids


def _chunks(ordered: Sequence[TokenSequence]) -> Iterator[range]:
    """Runs of sequences that close at the first new prompt after CHUNK_TOKENS tokens.

    A prompt with more answers than fit twice that is cut, too.
    """
    begin, tokens = 0, 0
    for i, (prompt, completion) in enumerate(ordered):
        is_new = i == begin or prompt != ordered[i - 1][0]
        if tokens >= (CHUNK_TOKENS if is_new else 2 * CHUNK_TOKENS):
            yield range(begin, i)
            begin, tokens, is_new = i, 0, True
        tokens += len(completion) + (len(prompt) if is_new else 0)
    if ordered:
        yield range(begin, len(ordered))


def _chunk_key(sequences: Sequence[TokenSequence], scorer: Scorer, identity: ModelIdentity) -> str:
    """Token ids hold template and truncation; the rest is the model and how it computes."""
    attention = scorer.model.config._attn_implementation
    how = (
        *(identity.weight_sha256, identity.dtype, str(scorer.autocast), scorer.head_last),
        *(scorer.device.type, attention, FORWARD_TOKENS, torch.get_num_threads()),
        *(scorer.shares_prompts, TREE_TOKENS),
    )
    digest = hashlib.sha256(repr(how).encode())
    for sequence in sequences:
        _hash_ids(digest, sequence)
    return digest.hexdigest()


def _hash_ids(digest: "hashlib._Hash", sequence: TokenSequence) -> None:
    for ids in sequence:
        digest.update(len(ids).to_bytes(8, "little"))
        digest.update(array("q", ids).tobytes())
