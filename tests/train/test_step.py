"""The step: the same result whatever the micro-batches, padding or order, and by hand."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from thumbs.core.kto_losses import kto
from thumbs.core.loss_inputs import LossInputs, LossTerms
from thumbs.data.plan import Batch, Group, PlanSettings, plan_columns, plan_epochs
from thumbs.data.rows import Row
from thumbs.errors import NonFiniteError
from thumbs.files import cache_folder
from thumbs.models.identity import ModelIdentity, weight_sha256
from thumbs.models.load import switch_off_dropout
from thumbs.models.tiny import tiny_model
from thumbs.scoring.cache import ScoreCache
from thumbs.scoring.forward import Scorer, build_scorer
from thumbs.scoring.planned import planned_sequences
from thumbs.scoring.reference import ReferenceValues, reference_pass
from thumbs.train.scored_pairs import TrainingData
from thumbs.train.step import StepResult, StepSettings, train_step

NUM_ROWS = 12


def make_rows(seed: int = 0) -> list[Row]:
    """Twelve rows of unequal length on nine prompts, both labels, one of weight 1/2."""
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for i in range(NUM_ROWS):
        prompt = torch.randint(
            5, 500, (3 + (i % 9),), generator=torch.Generator().manual_seed(i % 9)
        )
        completion = torch.randint(5, 500, (1 + (5 * i) % 11,), generator=draw)
        ids = tuple(completion.tolist())
        rows.append(
            Row(
                key=f"row-{i:02d}",
                prompt_ids=tuple(prompt.tolist()),
                completion_ids=ids,
                loss_mask=(True,) * len(ids),
                desirable=i % 3 != 0,
                weight=0.5 if i == 4 else 1.0,
                record_id=f"record-{i}",
                conversation=f"c{i}",
                cut=False,
            )
        )
    return rows


def one_batch(rows: list[Row]) -> Batch:
    settings = PlanSettings(batch_size=len(rows), epochs=1, seed=0, max_tokens=64)
    return plan_epochs(plan_columns(rows), range(len(rows)), settings)[0][0]


def reference_values(model: Any, rows: list[Row], batch: Batch) -> ReferenceValues:
    planned = planned_sequences(rows, [batch])
    identity = ModelIdentity("tiny", None, weight_sha256(model), "float32")
    scores = reference_pass(build_scorer(model), planned, ScoreCache(cache_folder()), identity)
    return ReferenceValues(planned.place, scores)


def drifted(family: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """A reference and a policy a little away from it, so that log-ratios and z0 are not 0."""
    reference = tiny_model(family, dtype=dtype)
    policy = tiny_model(family, dtype=dtype)
    switch_off_dropout(policy)
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw, dtype=dtype), alpha=0.02)
    return reference, policy


def settings(micro_batch_tokens: int, **changes: Any) -> StepSettings:
    loss = partial(kto, beta=0.1, desirable_weight=1.0, undesirable_weight=1.5)
    made = StepSettings(
        loss=loss, beta=0.1, max_grad_norm=1e9, micro_batch_tokens=micro_batch_tokens
    )
    return replace(made, **changes)


def gradient_of_step(
    policy: Any, batch: Batch, data: TrainingData, micro_batch_tokens: int
) -> tuple[torch.Tensor, StepResult]:
    scorer = build_scorer(policy)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    result = train_step(scorer, optimizer, batch, data, settings(micro_batch_tokens))
    grads = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    return torch.cat(grads).clone(), result


def relative_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_gradient_does_not_depend_on_the_micro_batch(
    family: str, dtype: torch.dtype, bound: float
) -> None:
    rows = make_rows()
    batch = one_batch(rows)
    reference, policy = drifted(family, dtype)
    data = TrainingData(rows, reference_values(reference, rows, batch))
    longest = max(len(r.prompt_ids) + len(r.completion_ids) for r in rows)
    whole, _ = gradient_of_step(policy, batch, data, 10_000)
    for tokens in (1, 7 * longest):  # one row a forward; seven rows a forward
        parts, _ = gradient_of_step(policy, batch, data, tokens)
        assert relative_distance(parts, whole) <= bound


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_gradient_does_not_depend_on_the_row_order(family: str) -> None:
    rows = make_rows()
    batch = one_batch(rows)
    reference, policy = drifted(family, torch.float32)
    whole, result = gradient_of_step(
        policy, batch, TrainingData(rows, reference_values(reference, rows, batch)), 10_000
    )
    turned = rows[::-1]
    other = one_batch(turned)
    data = TrainingData(turned, reference_values(reference, turned, other))
    gradient, other_result = gradient_of_step(policy, other, data, 60)
    assert relative_distance(gradient, whole) <= 1e-5
    assert other_result.z0_raw == pytest.approx(result.z0_raw, rel=1e-4)
    assert result.z0_raw != 0.0


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_ten_steps_differ_by_a_thousandth_of_the_update_at_most(family: str) -> None:
    rows = make_rows()
    batch = one_batch(rows)
    ends = []
    for tokens in (1, 10_000):
        reference, policy = drifted(family, torch.float32)
        start = torch.nn.utils.parameters_to_vector(policy.parameters()).detach().clone()
        data = TrainingData(rows, reference_values(reference, rows, batch))
        scorer = build_scorer(policy)
        optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3, weight_decay=0.0)
        for _ in range(10):
            train_step(scorer, optimizer, batch, data, settings(tokens))
        end = torch.nn.utils.parameters_to_vector(policy.parameters()).detach()
        ends.append(end - start)
    assert relative_distance(ends[0], ends[1]) <= 1e-3


def test_the_step_equals_the_loss_computed_in_one_piece() -> None:
    rows = make_rows()
    batch = one_batch(rows)
    reference, policy = drifted("llama", torch.float64)
    data = TrainingData(rows, reference_values(reference, rows, batch))
    gradient, result = gradient_of_step(policy, batch, data, 30)

    def log_ratio(x: int, y: int) -> torch.Tensor:
        prompt, completion = rows[x].prompt_ids, rows[y].completion_ids
        ids = torch.tensor([[*prompt, *completion]])
        total = torch.zeros((), dtype=torch.float64)
        for model, sign in ((policy, 1.0), (reference, -1.0)):
            logps = model(input_ids=ids).logits[0].log_softmax(-1)
            at = torch.arange(len(prompt) - 1, len(prompt) + len(completion) - 1)
            total = total + sign * logps[at, torch.tensor(completion)].sum()
        return total

    with torch.no_grad():
        raw = torch.stack([log_ratio(x, y) for x, y in batch.groups[0].mismatched]).mean()
    z0 = raw.clamp(min=0)
    total = torch.zeros((), dtype=torch.float64)
    for i, row in enumerate(rows):
        r = log_ratio(i, i)
        margin = r - z0 if row.desirable else z0 - r
        total = total + row.weight * (1.0 if row.desirable else 1.5) * torch.sigmoid(-0.1 * margin)
    policy.zero_grad()
    torch.autograd.backward(total / NUM_ROWS)
    by_hand = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    # The reference's values are kept in float32, hence 1e-6 and not 1e-12.
    assert result.z0_raw == pytest.approx(raw.item(), rel=1e-6)
    assert result.loss == pytest.approx(total.item() / NUM_ROWS, rel=1e-6)
    assert relative_distance(gradient, by_hand) <= 1e-6


def test_pitfall_07_z0_carries_no_gradient_and_its_forward_keeps_no_graph() -> None:
    rows = make_rows()
    batch = one_batch(rows)
    reference, policy = drifted("llama", torch.float32)
    data = TrainingData(rows, reference_values(reference, rows, batch))
    seen: list[torch.Tensor] = []

    def spy(inputs: LossInputs) -> LossTerms:
        seen.append(inputs.z0)
        return kto(inputs, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0)

    scorer = build_scorer(policy)
    with_gradient: list[bool] = []
    scorer.register_forward_hook(lambda *_: with_gradient.append(torch.is_grad_enabled()))
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    train_step(scorer, optimizer, batch, data, settings(10_000, loss=spy))
    assert len(seen) == 1
    assert not seen[0].requires_grad
    assert with_gradient == [True, False]  # the forward of (x, y), then the y' after its prompts


def test_pitfall_08_both_score_the_same_mismatched_ids_under_accumulation() -> None:
    # Policy = reference: every mismatched log-ratio is 0 only if both scored the same (x, y') ids.
    rows = make_rows()
    batch = one_batch(rows)
    model = tiny_model("llama")
    data = TrainingData(rows, reference_values(model, rows, batch))
    _, result = gradient_of_step(model, batch, data, 1)
    assert result.z0_raw == pytest.approx(0.0, abs=1e-4)
    assert result.z0_se == pytest.approx(0.0, abs=1e-4)


def test_pitfall_10_the_loss_divides_by_the_rows_of_the_batch_not_of_the_micro_batch() -> None:
    # Policy = reference, so every row's loss is w / 2: (8 * 1 - 1/2 + 4 * 1.5) ups and downs.
    rows = make_rows()
    batch = one_batch(rows)
    model = tiny_model("llama")
    data = TrainingData(rows, reference_values(model, rows, batch))
    parts, result = gradient_of_step(model, batch, data, 40)
    whole, _ = gradient_of_step(model, batch, data, 10_000)
    assert relative_distance(parts, whole) <= 1e-5
    # 8 desirable of weight 1, one of them halved: 7.5; 4 undesirable of weight 1.5: 6.
    assert result.loss == pytest.approx((7.5 + 6.0) / 2 / NUM_ROWS, rel=1e-5)


def test_pitfall_12_a_non_finite_row_stops_the_step_before_the_update() -> None:
    rows = make_rows()
    batch = one_batch(rows)
    reference, policy = drifted("llama", torch.float32)
    data = TrainingData(rows, reference_values(reference, rows, batch))
    before = weight_sha256(policy)

    def broken(inputs: LossInputs) -> LossTerms:
        terms = kto(inputs, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0)
        bad = torch.where(inputs.desirable, terms.losses, terms.losses * float("nan"))
        return LossTerms(bad, terms.rewards)

    optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
    with pytest.raises(NonFiniteError, match="record-") as caught:
        train_step(build_scorer(policy), optimizer, batch, data, settings(10_000, loss=broken))
    assert weight_sha256(policy) == before
    named = {name for name in (f"record-{i}" for i in range(0, NUM_ROWS, 3)) if name in str(caught)}
    assert named  # undesirable rows only
    assert "record-1," not in str(caught.value)


def test_pitfall_13_the_metrics_of_a_step_do_not_depend_on_the_micro_batch() -> None:
    rows = make_rows()
    batch = one_batch(rows)
    reference, policy = drifted("llama", torch.float32)
    data = TrainingData(rows, reference_values(reference, rows, batch))
    _, alone = gradient_of_step(policy, batch, data, 1)
    _, whole = gradient_of_step(policy, batch, data, 10_000)
    for name in ("loss", "z0_raw", "reward_desirable", "reward_undesirable", "margin", "accuracy"):
        assert getattr(alone, name) == pytest.approx(getattr(whole, name), rel=1e-4)
    assert alone.padding == whole.padding == 0.0  # rows stand end to end, however many
    assert alone.tokens == whole.tokens


def test_pitfall_19_dropout_is_off_in_every_pass_even_in_training_mode() -> None:
    model = tiny_model("gpt2")  # GPT-2 comes with dropout 0.1
    switch_off_dropout(model)
    model.train()
    scorer = Scorer(model)
    first = scorer([[5, 6, 7]], [[8, 9]], [0]).logps
    assert torch.equal(first, scorer([[5, 6, 7]], [[8, 9]], [0]).logps)


def test_the_log_ratio_is_zero_at_step_zero() -> None:
    rows = make_rows()
    batch = one_batch(rows)
    model = tiny_model("llama")
    data = TrainingData(rows, reference_values(model, rows, batch))
    _, result = gradient_of_step(model, batch, data, 10_000)
    assert result.margin == pytest.approx(0.0, abs=1e-4)
    assert result.reward_desirable == pytest.approx(0.0, abs=1e-5)


def test_rows_of_a_group_share_its_own_z0() -> None:
    rows = make_rows()
    columns = plan_columns(rows)
    planned = PlanSettings(batch_size=NUM_ROWS, epochs=1, seed=0, max_tokens=64, group_rows=6)
    batch = plan_epochs(columns, range(NUM_ROWS), planned)[0][0]
    reference, policy = drifted("llama", torch.float32)
    data = TrainingData(rows, reference_values(reference, rows, batch))
    seen: list[torch.Tensor] = []

    def spy(inputs: LossInputs) -> LossTerms:
        seen.append(inputs.z0)
        return kto(inputs, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0)

    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    train_step(build_scorer(policy), optimizer, batch, data, settings(10_000, loss=spy))
    singles = [Batch((group,)) for group in batch.groups]
    assert [len(b.rows) for b in singles] == [6, 6]
    expected = {
        train_step(build_scorer(policy), optimizer, b, data, settings(10_000)).z0 for b in singles
    }
    assert {round(z, 5) for z in seen[0].tolist()} == {round(z or 0.0, 5) for z in expected}


def test_one_group_without_a_partner_has_z0_zero_and_is_counted() -> None:
    rows = make_rows()[:1]
    batch = Batch((Group((0,), (), 1),))
    reference, policy = drifted("llama", torch.float32)
    data = TrainingData(rows, reference_values(reference, rows, batch))
    _, result = gradient_of_step(policy, batch, data, 10_000)
    assert (result.z0, result.unmatched) == (0.0, 1)
