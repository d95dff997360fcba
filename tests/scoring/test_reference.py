"""The reference pass scores each planned sequence once, resumes, and is frozen into the run."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thumbs.data.plan import Batch, Group, PlanSettings, plan_columns, plan_epochs
from thumbs.data.rows import Row
from thumbs.errors import RunError
from thumbs.models.identity import ModelIdentity, weight_sha256
from thumbs.models.tiny import tiny_model
from thumbs.scoring import planned as planned_module
from thumbs.scoring.cache import ScoreCache
from thumbs.scoring.forward import Scorer, TokenLogps, build_scorer
from thumbs.scoring.packed import PromptStates
from thumbs.scoring.planned import PlannedSequences, TokenSequence, planned_sequences
from thumbs.scoring.reference import freeze_reference, read_frozen_reference, reference_pass


class CountingScorer(Scorer):
    """A scorer that counts the sequences it was given and is stopped after `limit` of them."""

    scored = 0
    limit = 10_000

    def forward(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        prompt_of: Sequence[int],
        dropout_seeds: Sequence[int] = (),
        *,
        keep_prompts: bool = False,
        after: PromptStates | None = None,
    ) -> TokenLogps:
        if self.scored + len(completions) > self.limit:
            raise KeyboardInterrupt
        self.scored += len(completions)
        return super().forward(
            prompts,
            completions,
            prompt_of,
            dropout_seeds,
            keep_prompts=keep_prompts,
            after=after,
        )


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned_module, "CHUNK_TOKENS", 60)


@pytest.fixture
def model() -> Any:
    return tiny_model("llama", initializer_range=0.2)


def identity(model: Any) -> ModelIdentity:
    return ModelIdentity("tiny", None, weight_sha256(model), "float32")


def row(prompt: Sequence[int], completion: Sequence[int], *, desirable: bool = True) -> Row:
    key = f"{list(prompt)}{list(completion)}:0"
    carries_loss = (True,) * len(completion)
    return Row(key, tuple(prompt), tuple(completion), carries_loss, desirable, 1.0, key, key, False)


def some_rows(n: int = 12) -> list[Row]:
    numbers = np.random.default_rng(0)

    def ids(length: int) -> list[int]:
        return [int(i) for i in numbers.integers(5, 500, length)]

    return [row([5 + i, *ids(i % 4)], ids(3 + i % 5)) for i in range(n)]


def batches_of(rows: Sequence[Row], seed: int = 0) -> list[Batch]:
    settings = PlanSettings(batch_size=4, epochs=1, seed=seed, max_tokens=100)
    return plan_epochs(plan_columns(rows), range(len(rows)), settings)[0]


def as_sequences(planned: PlannedSequences) -> list[list[TokenSequence]]:
    return [planned.sequences(chunk) for chunk in planned.chunks]


def in_order(planned: PlannedSequences) -> list[TokenSequence]:
    return planned.sequences(range(len(planned)))


def pairs_of(rows: Sequence[Row], batches: Sequence[Batch]) -> list[tuple[int, int]]:
    own = [(i, i) for i in range(len(rows))]
    return [*own, *(pair for b in batches for g in b.groups for pair in g.mismatched)]


def test_each_distinct_sequence_is_planned_once_by_hand() -> None:
    rows = [row([5], [6, 7]), row([8, 9], [6, 7]), row([5], [6, 7]), row([8, 9], [4])]
    pairs = ((0, 3), (1, 2), (2, 3), (3, 0))  # (prompt's row, completion's row)
    planned = planned_sequences(rows, [Batch((Group((0, 1, 2, 3), pairs, 0),))])
    # By prompt: 8 9 with all that follows it has 5 tokens, 5 has 4; longer completions first.
    # Rows 0 and 2 are one sequence; (8 9 | 6 7) is row 1's own and a pair's.
    assert in_order(planned) == [
        *(((8, 9), (6, 7)), ((8, 9), (4,))),
        *(((5,), (6, 7)), ((5,), (4,))),
    ]
    own = {(0, 0): 2, (1, 1): 0, (2, 2): 2, (3, 3): 1}
    places = {**own, (0, 3): 3, (2, 3): 3, (1, 2): 0, (3, 0): 0}
    assert {pair: planned.place[pair] for pair in places} == places
    assert planned.tokens.tolist() == [4, 3, 3, 2]


def test_chunks_cover_every_sequence_in_order_and_close_between_prompts() -> None:
    rows = some_rows(30)
    planned = planned_sequences(rows, batches_of(rows))
    assert [i for c in planned.chunks for i in c] == list(range(len(planned)))
    chunks = as_sequences(planned)
    assert len(chunks) > 3
    for before, after in pairwise(chunks):
        assert before[-1][0] != after[0][0]
        # 60 tokens, each prompt once, are reached by the last prompt and not without it.
        last = [s for s in before if s[0] == before[-1][0]]
        assert tokens_of(before) >= 60 > tokens_of(before) - tokens_of(last)


def tokens_of(sequences: Sequence[TokenSequence]) -> int:
    return sum(map(len, {prompt for prompt, _ in sequences})) + sum(len(c) for _, c in sequences)


def test_chunks_are_a_function_of_content_and_not_of_the_order_of_the_file() -> None:
    rows = some_rows()
    backward = rows[::-1]
    there = planned_sequences(rows, batches_of(rows))
    back = planned_sequences(backward, batches_of(backward))
    assert as_sequences(there) == as_sequences(back)
    assert there.sha256() == back.sha256()


def test_every_score_is_the_models_own(model: Any, tmp_path: Path) -> None:
    rows = some_rows()
    planned = planned_sequences(rows, batches_of(rows))
    scores = reference_pass(build_scorer(model), planned, ScoreCache(tmp_path), identity(model))
    for (prompt, completion), score in zip(in_order(planned), scores, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
        logps = torch.log_softmax(logits, dim=-1)[len(prompt) - 1 : -1]  # (T, V)
        expected = logps.gather(1, torch.tensor(completion)[:, None])[:, 0]
        torch.testing.assert_close(score, expected, rtol=0.0, atol=1e-5)


def test_an_interrupted_pass_goes_on_where_it_stopped(model: Any, tmp_path: Path) -> None:
    rows = some_rows()
    planned = planned_sequences(rows, batches_of(rows))
    first, total = len(planned.chunks[0]), len(planned)
    cache = ScoreCache(tmp_path / "cache")
    stopped = CountingScorer(model)
    stopped.limit = first  # one chunk goes through, the second is stopped
    with pytest.raises(KeyboardInterrupt):
        reference_pass(stopped, planned, cache, identity(model))
    again, fresh = CountingScorer(model), CountingScorer(model)
    resumed = reference_pass(again, planned, cache, identity(model))
    assert (stopped.scored, again.scored) == (first, total - first)
    whole = reference_pass(fresh, planned, ScoreCache(tmp_path / "other"), identity(model))
    assert fresh.scored == total
    assert all(torch.equal(a, b) for a, b in zip(resumed, whole, strict=True))


def test_a_second_run_scores_nothing_and_says_so(
    model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = some_rows()
    planned = planned_sequences(rows, batches_of(rows))
    reference_pass(CountingScorer(model), planned, ScoreCache(tmp_path), identity(model))
    second = CountingScorer(model)
    reference_pass(second, planned, ScoreCache(tmp_path), identity(model))
    assert second.scored == 0
    n = len(planned)
    assert f"{n} of {n} sequences from the cache" in capsys.readouterr().err


def test_a_run_with_another_seed_scores_only_what_no_run_has_scored(
    model: Any, tmp_path: Path
) -> None:
    rows = some_rows()
    plans = [planned_sequences(rows, batches_of(rows, seed)) for seed in range(3)]
    known: set[TokenSequence] = set()
    for planned in plans:
        scorer = CountingScorer(model)
        reference_pass(scorer, planned, ScoreCache(tmp_path), identity(model))
        assert scorer.scored == len(set(in_order(planned)) - known)
        known |= set(in_order(planned))
    assert scorer.scored <= len(rows)  # at most the pairs, none of the rows' own


def test_what_other_plans_scored_changes_no_bytes_of_what_this_plan_scored(
    model: Any, tmp_path: Path
) -> None:
    rows = some_rows()
    ours, theirs = (planned_sequences(rows, batches_of(rows, seed)) for seed in (0, 1))
    scorer, cache = build_scorer(model), ScoreCache(tmp_path)
    first = reference_pass(scorer, ours, cache, identity(model))
    reference_pass(scorer, theirs, cache, identity(model))
    again = reference_pass(scorer, ours, cache, identity(model))
    assert torch.equal(first.flat, again.flat)
    alone = reference_pass(scorer, theirs, ScoreCache(tmp_path / "other"), identity(model))
    after = reference_pass(scorer, theirs, cache, identity(model))
    torch.testing.assert_close(after.flat, alone.flat, rtol=0.0, atol=1e-5)


def test_a_damaged_chunk_is_scored_again_and_only_that_one(model: Any, tmp_path: Path) -> None:
    rows = some_rows()
    planned = planned_sequences(rows, batches_of(rows))
    before = reference_pass(CountingScorer(model), planned, ScoreCache(tmp_path), identity(model))
    file = sorted(tmp_path.rglob("*.safetensors"))[0]
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = CountingScorer(model)
    after = reference_pass(again, planned, ScoreCache(tmp_path), identity(model))
    assert again.scored in {len(chunk) for chunk in planned.chunks}
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert file.read_bytes() == content


def test_pitfall_20_scores_of_other_tokens_models_or_dtypes_are_not_taken(
    model: Any, tmp_path: Path
) -> None:
    rows = [row([5, 6], [7, 8, 9])]
    planned, cache, ours = planned_sequences(rows, []), ScoreCache(tmp_path), identity(model)
    wide = CountingScorer(model, autocast=torch.bfloat16)
    plain = CountingScorer(model)
    plain.head_last = False
    moved = planned_sequences([row([5], [6, 7, 8, 9])], [])  # the same ids, cut elsewhere
    other = planned_sequences([row([5, 6], [7, 8, 4])], [])
    for scorer, sequences, who in (
        (CountingScorer(model), planned, ours),
        (CountingScorer(model), other, ours),
        (CountingScorer(model), moved, ours),
        (CountingScorer(model), planned, replace(ours, weight_sha256="0" * 64)),
        (CountingScorer(model), planned, replace(ours, dtype="bfloat16")),
        (wide, planned, ours),
        (plain, planned, ours),
    ):
        reference_pass(scorer, sequences, cache, who)
        assert scorer.scored == 1
    renamed = CountingScorer(model)
    reference_pass(renamed, planned, cache, replace(ours, name_or_path="elsewhere"))
    assert renamed.scored == 0  # a moved folder with the same weights is the same model


def test_pitfall_18_cached_values_are_float32_and_the_log_ratio_starts_at_zero(
    model: Any, tmp_path: Path
) -> None:
    rows = some_rows()
    planned = planned_sequences(rows, batches_of(rows))
    scorer = build_scorer(model)
    scores = reference_pass(scorer, planned, ScoreCache(tmp_path), identity(model))
    path = tmp_path / "values.safetensors"
    freeze_reference(path, planned, scores)
    values = read_frozen_reference(path, planned)
    for x, y in pairs_of(rows, batches_of(rows)):
        # Alone in its forward, unlike in the pass: re-batching may cost 1e-4 nats in float32.
        with torch.no_grad():
            policy = scorer([rows[x].prompt_ids], [rows[y].completion_ids], [0]).logps[0]
        assert values[x, y].dtype == torch.float32
        assert abs(float((policy - values[x, y]).sum())) < 1e-4


def test_frozen_values_are_those_of_the_pass(model: Any, tmp_path: Path) -> None:
    rows = some_rows()
    planned = planned_sequences(rows, batches_of(rows))
    scores = reference_pass(build_scorer(model), planned, ScoreCache(tmp_path), identity(model))
    path = tmp_path / "run" / "reference" / "values.safetensors"
    freeze_reference(path, planned, scores)
    values = read_frozen_reference(path, planned)
    for pair in pairs_of(rows, batches_of(rows)):
        assert torch.equal(values[pair], scores[planned.place[pair]])
    pairs = pairs_of(rows, batches_of(rows))
    with pytest.raises(KeyError):
        values[next((0, y) for y in range(len(rows)) if (0, y) not in pairs)]


def test_frozen_values_of_another_plan_are_refused(model: Any, tmp_path: Path) -> None:
    rows = some_rows()
    planned = planned_sequences(rows, [])
    path = tmp_path / "values.safetensors"
    with pytest.raises(RunError, match="is missing"):
        read_frozen_reference(path, planned)
    scores = reference_pass(build_scorer(model), planned, ScoreCache(tmp_path), identity(model))
    freeze_reference(path, planned, scores)
    with pytest.raises(RunError, match="belongs to another plan"):
        read_frozen_reference(path, planned_sequences([*rows[1:], row([5], [9, 9])], []))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RunError, match="is damaged"):
        read_frozen_reference(path, planned)
