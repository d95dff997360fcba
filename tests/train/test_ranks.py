"""Two ranks take the step of one process: shares, gradients, numbers, and what they say to whom."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from thumbs.core.kto_losses import kto
from thumbs.core.loss_inputs import LossInputs, LossTerms
from thumbs.data.plan import Batch, Group, PlanSettings, plan_columns, plan_epochs
from thumbs.data.rows import Row
from thumbs.errors import NonFiniteError
from thumbs.files import cache_folder
from thumbs.models.identity import ModelIdentity
from thumbs.models.tiny import tiny_model
from thumbs.scoring.cache import ScoreCache
from thumbs.scoring.forward import Scorer, build_scorer
from thumbs.scoring.planned import planned_sequences
from thumbs.scoring.reference import ReferenceValues, reference_pass
from thumbs.train.ranks import ALONE, Ranks, Share, divide
from thumbs.train.scored_pairs import TrainingData
from thumbs.train.step import StepResult, StepSettings, train_step

OnTwoRanks = Callable[[Callable[[int], Any]], list[Any]]
ROW_TOKENS = 30  # room for one row a forward, and for some of the short ones together


def row(number: int, prompt: list[int], completion: list[int], *, desirable: bool) -> Row:
    return Row(
        key=f"row-{number:02d}",
        prompt_ids=tuple(prompt),
        completion_ids=tuple(completion),
        loss_mask=(True,) * len(completion),
        desirable=desirable,
        weight=0.5 if number == 2 else 1.0,
        record_id=f"record-{number}",
        conversation=f"c{number}",
        cut=False,
    )


def make_rows(num_rows: int) -> list[Row]:
    """Rows on prompts that every third row shares; only row 0 is undesirable."""
    draw = torch.Generator().manual_seed(0)
    rows = []
    for i in range(num_rows):
        prompt = [20 + 3 * (i % 3) + k for k in range(3 + 4 * (i % 3))]
        completion = torch.randint(5, 500, (1 + (5 * i) % 11,), generator=draw).tolist()
        rows.append(row(i, prompt, completion, desirable=i > 0))
    return rows


def make_data(num_rows: int, group_rows: int | None = None) -> tuple[Batch, TrainingData]:
    rows = make_rows(num_rows)
    planned = PlanSettings(
        batch_size=num_rows, epochs=1, seed=0, max_tokens=64, group_rows=group_rows
    )
    batch = plan_epochs(plan_columns(rows), range(num_rows), planned)[0][0]
    sequences = planned_sequences(rows, [batch])
    identity = ModelIdentity("tiny", None, "tiny", "float32")
    scorer = build_scorer(tiny_model("llama", initializer_range=0.1))
    scores = reference_pass(scorer, sequences, ScoreCache(cache_folder()), identity)
    return batch, TrainingData(rows, ReferenceValues(sequences.place, scores))


def drifted_scorer() -> Scorer:
    """A policy a little away from the reference, so that log-ratios and z0 are not 0."""
    model = tiny_model("llama", initializer_range=0.1)
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.02)
    return build_scorer(model)


def settings(ranks: Ranks, **changes: Any) -> StepSettings:
    loss = partial(kto, beta=0.1, desirable_weight=1.0, undesirable_weight=1.5)
    made: dict[str, Any] = {"loss": loss, "beta": 0.1, "max_grad_norm": 1e9}
    return StepSettings(**(made | {"micro_batch_tokens": ROW_TOKENS, "ranks": ranks} | changes))


def shard(scorer: Scorer) -> None:
    mesh = init_device_mesh("cpu", (2,))
    layers: Any = scorer.model.base_model.layers
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(scorer, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().flatten()


def weights(scorer: Scorer) -> Tensor:
    return torch.cat([whole(p) for p in scorer.parameters()])


def gradient(scorer: Scorer) -> Tensor:
    return torch.cat([whole(p.grad) for p in scorer.parameters() if p.grad is not None])


def relative_distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def one_step(
    batch: Batch, data: TrainingData, ranks: Ranks, *, sharded: bool = False, **changes: Any
) -> tuple[Tensor, StepResult]:
    scorer = drifted_scorer()
    if sharded:
        shard(scorer)
    optimizer = torch.optim.SGD(scorer.parameters(), lr=0.0)
    result = train_step(scorer, optimizer, batch, data, settings(ranks, **changes))
    return gradient(scorer), result


def test_shares_by_hand() -> None:
    # Prompt a of 4 tokens with rows 0 and 2 (1 and 2 tokens), prompt b of 9 with row 1 (3 tokens).
    rows = [
        row(0, [1] * 4, [5], desirable=True),
        row(1, [2] * 9, [6] * 3, desirable=True),
        row(2, [1] * 4, [7] * 2, desirable=False),
    ]
    pairs = ((0, 1), (1, 2))
    batch = Batch((Group((2, 1, 0), pairs, 1),))
    # a: 4 + 1 + 2, and 4 + 3 of the pair (0, 1): 14. b: 9 + 3, and 9 + 2 of (1, 2): 23. A fair
    # number is 3 // 2 = 1, so a's rows part: row 2 costs 4 + 2 = 6, row 0 4 + 1 + 4 + 3 = 12.
    shares = divide(batch, rows, 2)
    assert shares == [Share((1,), ((0, (1, 2)),)), Share((0, 2), ((0, (0, 1)),))]
    assert divide(batch, rows, 1) == [Share((0, 1, 2), ((0, (0, 1)), (0, (1, 2))))]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5, 8])
def test_every_row_and_pair_is_in_one_share_and_no_rank_stands_idle(num_ranks: int) -> None:
    batch, data = make_data(16, group_rows=8)
    shares = divide(batch, data.rows, num_ranks)
    assert sorted(place for share in shares for place in share.places) == list(range(16))
    pairs = [(g, pair) for g, group in enumerate(batch.groups) for pair in group.mismatched]
    assert sorted(pair for share in shares for pair in share.mismatched) == sorted(pairs)
    assert all(share.places for share in shares)
    for share in shares:
        own = {batch.rows[place] for place in share.places}
        assert {x for _, (x, _) in share.mismatched} <= own


def test_shares_are_about_equal_in_tokens() -> None:
    rows = [
        row(i, [i] * (5 + 7 * i % 40), [5] * (1 + 3 * i % 20), desirable=True) for i in range(32)
    ]
    batch = Batch((Group(tuple(range(32)), (), 0),))
    totals = [
        sum(len(rows[i].prompt_ids) + len(rows[i].completion_ids) for i in share.places)
        for share in divide(batch, rows, 4)
    ]
    assert max(totals) <= 1.1 * min(totals)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("num_rows", [1, 7, 12])
def test_two_ranks_have_the_gradient_and_the_numbers_of_one_process(
    on_two_ranks: OnTwoRanks, num_rows: int, *, sharded: bool
) -> None:
    batch, data = make_data(num_rows, group_rows=None if num_rows < 12 else 6)
    expected, numbers = one_step(batch, data, ALONE)
    # Pitfall 11: one rank has no undesirable row, and of one row in all the other has none.
    lacking = [
        all(data.rows[batch.rows[place]].desirable for place in share.places)
        for share in divide(batch, data.rows, 2)
    ]
    assert sorted(lacking) == [False, True]
    assert num_rows == 1 or numbers.z0_raw != 0.0
    ranks = on_two_ranks(lambda rank: one_step(batch, data, Ranks(rank, 2), sharded=sharded))
    for got, result in ranks:
        assert relative_distance(got, expected) <= 1e-5
        for name, value in asdict(numbers).items():
            if name != "padding":  # which is a matter of forwards
                same = value if value is None else pytest.approx(value, rel=1e-4, abs=1e-6)
                assert getattr(result, name) == same, name
    assert ranks[0][1] == ranks[1][1]


@pytest.mark.parametrize("sharded", [False, True])
def test_ten_steps_on_two_ranks_differ_by_a_thousandth_of_the_update_at_most(
    on_two_ranks: OnTwoRanks, *, sharded: bool
) -> None:
    batch, data = make_data(7)

    def update(ranks: Ranks) -> Tensor:
        scorer = drifted_scorer()
        start = weights(scorer)
        if ranks.count > 1 and sharded:
            shard(scorer)
        optimizer = torch.optim.AdamW(scorer.parameters(), lr=1e-3, weight_decay=0.0)
        for _ in range(10):
            train_step(scorer, optimizer, batch, data, settings(ranks, max_grad_norm=0.1))
        return weights(scorer) - start

    alone = update(ALONE)
    first, second = on_two_ranks(lambda rank: update(Ranks(rank, 2)))
    assert relative_distance(first, alone) <= 1e-3
    assert torch.equal(first, second)


def test_pitfall_12_a_row_that_is_not_finite_on_one_rank_stops_every_rank(
    on_two_ranks: OnTwoRanks,
) -> None:
    batch, data = make_data(7)

    def broken(inputs: LossInputs) -> LossTerms:
        terms = kto(inputs, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0)
        bad = torch.where(inputs.desirable, terms.losses, terms.losses * float("nan"))
        return LossTerms(bad, terms.rewards)

    def refused(rank: int) -> tuple[str, bool]:
        scorer = drifted_scorer()
        before = weights(scorer)
        optimizer = torch.optim.SGD(scorer.parameters(), lr=1.0)
        with pytest.raises(NonFiniteError) as caught:
            train_step(scorer, optimizer, batch, data, settings(Ranks(rank, 2), loss=broken))
        return str(caught.value), torch.equal(weights(scorer), before)

    for message, is_unchanged in on_two_ranks(refused):
        assert message.startswith("the loss is not a finite number on records record-0;")
        assert is_unchanged


class DataReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations whose result the host must wait for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        name = func._schema.name
        waits = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"}
        by_mask = name == "aten::index" and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        # transformers 5.23 looks for packed rows once in a forward that comes without a mask.
        is_theirs = any("masking_utils" in frame.filename for frame in traceback.extract_stack())
        if (name.removeprefix("aten::") in waits or by_mask) and not is_theirs:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def host_reads(patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the reads of tensors by the host, `cpu` being the one that copies to it."""
    with DataReads() as mode:
        for name in ("cpu", "tolist"):
            real = getattr(Tensor, name)

            def read(tensor: Tensor, name: str = name, real: Any = real) -> Any:
                mode.seen.append(name)
                return real(tensor)

            patch.setattr(Tensor, name, read)
        yield mode.seen


def test_a_step_waits_for_the_device_once_and_sums_over_the_ranks_twice(
    on_two_ranks: OnTwoRanks,
) -> None:
    batch, data = make_data(12, group_rows=6)

    def counted(rank: int) -> tuple[list[int], list[str], int]:
        scorer = drifted_scorer()
        forwards: list[int] = []
        scorer.register_forward_hook(lambda *_: forwards.append(1))
        optimizer = torch.optim.SGD(scorer.parameters(), lr=0.0)
        sizes: list[int] = []
        real = torch.distributed.all_reduce

        def all_reduce(tensor: Tensor) -> None:
            sizes.append(tensor.numel())
            real(tensor)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.distributed, "all_reduce", all_reduce)
            with host_reads(patch) as reads:
                train_step(scorer, optimizer, batch, data, settings(Ranks(rank, 2)))
        return sizes, reads, len(forwards)

    (sizes, reads, forwards), (_, _, forwards_of_other) = on_two_ranks(counted)
    num_weights = sum(p.numel() for p in drifted_scorer().parameters())
    # Two groups' sums, squares and counts; all gradients; two numbers a row, a part of the norm and
    # whether to stop.
    assert sizes == [2 * 3, num_weights, 2 * 12 + 2]
    assert reads.index("cpu") == 0  # nothing is read before the copy, and what follows reads that
    assert reads.count("cpu") == 1
    assert forwards == forwards_of_other > 2


def test_ranks_of_a_loss_of_pairs_take_whole_prompts() -> None:
    rows = [row(i, [20 + i // 4], [30] * 5, desirable=bool(i % 2)) for i in range(8)]
    batch = Batch((Group(tuple(range(8)), (), 0),))
    halves = divide(batch, rows, 4)
    assert sorted(len(share.places) for share in halves) == [2, 2, 2, 2]
    whole = divide(batch, rows, 4, whole_prompts=True)
    places = [share.places for share in whole]
    assert sorted(places) == [(), (), (0, 1, 2, 3), (4, 5, 6, 7)]
