"""The reference pass: every sequence of the plan scored once, before training.

In: the planned (prompt, completion) sequences and the reference. Out: one float32 log-prob per
completion token, cached by content and frozen into the run. After the pass no reference model is
needed: the step reads values only.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from thumbs.errors import Interrupted, RunError
from thumbs.files import write_bytes
from thumbs.models.identity import ModelIdentity
from thumbs.progress import progress_bar
from thumbs.scoring.backoff import Budget
from thumbs.scoring.cache import ScoreCache, tensor_sha256
from thumbs.scoring.forward import Scorer, score_in_micro_batches
from thumbs.scoring.planned import Places, PlannedSequences
from thumbs.scoring.tree import TREE_TOKENS, TokenSequence
from thumbs.stopping import stopping_after

FORWARD_TOKENS = 4_096  # padded tokens of one forward, as long as memory holds them


class TokenScores(Sequence[Tensor]):
    """The log-probs of many completions in one tensor; `scores[i]` is a view of it.

    flat: (all tokens,) float32. ends: (number of completions + 1,) from 0.
    """

    def __init__(self, flat: Tensor, ends: NDArray[np.int64]) -> None:
        self.flat = flat
        self.ends = ends

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        return self.flat[int(self.ends[i]) : int(self.ends[i + 1])]


class ReferenceValues:
    """Reference log-probs per completion token, looked up by the rows of prompt and completion.

    sha256: of all values, in the order of the plan.
    """

    def __init__(self, place: Places, scores: Sequence[Tensor], sha256: str = "") -> None:
        self._place = place
        self._scores = scores
        self.sha256 = sha256

    def __getitem__(self, pair: tuple[int, int]) -> Tensor:
        """(T,) float32: log-probs of the second row's completion after the first row's prompt."""
        return self._scores[self._place[pair]]


def reference_pass(
    scorer: Scorer, planned: PlannedSequences, cache: ScoreCache, identity: ModelIdentity
) -> "TokenScores":
    """Score every planned sequence under the reference, taking what the cache already holds.

    The cache is shared by all runs with this reference, whatever their seed, epochs and batches: of
    each chunk only the sequences that no run has scored are computed, together, and committed
    whole. So an interrupted pass goes on where it stopped.

    A sequence is scored beside others, which may move its last bits. So the same plan on the same
    machine gives the same bytes from an empty cache, and again from a cache that this plan filled,
    also after an interruption; where other plans filled a part of it before, values agree to
    rounding. Either way a run freezes what it uses.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the chunk in hand was finished.
        OutputError: there is no room in the cache.
    """
    known = cache.of(_how(scorer, identity))
    digests, lengths, tokens = planned.digests(), planned.lengths, planned.tokens
    places = known.look_up(digests)
    scores = TokenScores(torch.empty(int(lengths.sum())), _ends(lengths))
    from_cache = 0
    budget = Budget(FORWARD_TOKENS, "tokens of a forward")
    with (
        stopping_after("this part of the reference pass") as stop,
        progress_bar("reference pass", int(tokens.sum()), "tokens") as bar,
    ):
        for number, chunk in enumerate(planned.chunks, 1):
            found = {i: known.read(int(places[i]), int(lengths[i])) for i in chunk}
            missing = [i for i in chunk if found[i] is None]
            from_cache += len(chunk) - len(missing)
            if missing:
                sequences = planned.sequences(missing)
                values = budget.spend(
                    functools.partial(_score, scorer, sequences),
                    what="this part of the reference pass",
                    longest=int(tokens[missing].max()),
                )
                known.put(digests[missing], values)
                found.update(zip(missing, values, strict=True))
            for i, value in found.items():
                assert value is not None, "scored just now"
                scores[i].copy_(value)
            told = f"{from_cache:,} of {len(planned):,} sequences from the cache"
            bar.advance(int(tokens[chunk.start : chunk.stop].sum()), told)
            if stop.came:
                done = f"{number} of {len(planned.chunks)} parts"
                raise Interrupted(f"stopped in the reference pass after {done}")
    return scores


def _score(scorer: Scorer, sequences: Sequence[TokenSequence], forward_tokens: int) -> list[Tensor]:
    scored = score_in_micro_batches(scorer, sequences, max_tokens=forward_tokens)
    return [score.float().cpu() for score in scored]


def freeze_reference(path: Path, planned: PlannedSequences, scores: "TokenScores") -> None:
    """Write the values a run uses into the run; from then on only these are read."""
    flat = scores.flat
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
    scores = TokenScores(flat, _ends(planned.lengths))
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


def _how(scorer: Scorer, identity: ModelIdentity) -> str:
    """What scores depend on beside token ids, which hold template and truncation."""
    attention = scorer.model.config._attn_implementation
    how = (
        *(identity.sha256, identity.dtype, str(scorer.autocast), scorer.head_last),
        *(scorer.device.type, attention, FORWARD_TOKENS, torch.get_num_threads()),
        *(scorer.shares_prompts, TREE_TOKENS),
        *(("compiled",) if scorer.compiled else ()),
    )
    return repr(how)


def _ends(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)])
