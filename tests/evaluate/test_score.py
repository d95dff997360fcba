"""Evaluation scores rows under the policy with pairings of its own."""

from typing import Any

import pytest
import torch

from thumbs.config import load_config
from thumbs.data.plan import plan_columns
from thumbs.data.rows import Row
from thumbs.errors import NonFiniteError
from thumbs.evaluate.score import evaluate_heldout, plan_evaluation
from thumbs.files import cache_folder
from thumbs.models.identity import ModelIdentity
from thumbs.models.tiny import tiny_model
from thumbs.scoring.backoff import Budget
from thumbs.scoring.cache import ScoreCache
from thumbs.scoring.forward import build_scorer
from thumbs.scoring.planned import planned_sequences
from thumbs.scoring.reference import ReferenceValues, reference_pass


def make_rows() -> list[Row]:
    return [
        Row(
            key=f"k{i}",
            prompt_ids=(10 + i, 11, 12),
            completion_ids=(50 + i, 60 + i),
            loss_mask=(True, i % 2 == 0),
            desirable=i % 2 == 0,
            weight=1.0,
            record_id=f"r{i}",
            conversation=f"c{i}",
            cut=False,
        )
        for i in range(8)
    ]


def test_pitfall_23_evaluation_pairs_do_not_depend_on_the_seed_of_the_run() -> None:
    columns = plan_columns(make_rows())
    plans = [
        plan_evaluation(columns, range(8), load_config(None, [f"train.seed={seed}"]))
        for seed in (0, 1)
    ]
    assert plans[0] == plans[1]
    pairs = [pair for batch in plans[0] for group in batch.groups for pair in group.mismatched]
    assert sorted(x for x, _ in pairs) == list(range(8))
    assert sorted(y for _, y in pairs) == list(range(8))


def test_scores_are_sums_over_loss_tokens_of_policy_minus_reference() -> None:
    rows = make_rows()
    config = load_config(None, [])
    batches = plan_evaluation(plan_columns(rows), range(8), config)
    planned = planned_sequences(rows, batches)
    reference, policy = tiny_model("llama", seed=0), tiny_model("llama", seed=1)
    identity = ModelIdentity("tiny", None, "seed 0", "float32")
    scores = reference_pass(build_scorer(reference), planned, ScoreCache(cache_folder()), identity)
    metrics = evaluate_heldout(
        build_scorer(policy),
        rows,
        range(8),
        batches,
        ReferenceValues(planned.place, scores),
        beta=0.1,
        budget=Budget(11),
    ).to_dict()

    def log_ratio(x: int, y: int) -> float:
        ids = torch.tensor([[*rows[x].prompt_ids, *rows[y].completion_ids]])
        total = 0.0
        for model, sign in ((policy, 1.0), (reference, -1.0)):
            with torch.no_grad():
                logps = model(input_ids=ids).logits[0].log_softmax(-1)
            for t, (token, counts) in enumerate(
                zip(rows[y].completion_ids, rows[y].loss_mask, strict=True)
            ):
                total += sign * logps[2 + t, token].item() * counts
        return total

    ratios = [log_ratio(i, i) for i in range(8)]
    up, down = ratios[0::2], ratios[1::2]
    pairs = [pair for batch in batches for group in batch.groups for pair in group.mismatched]
    z0 = max(0.0, sum(log_ratio(x, y) for x, y in pairs) / len(pairs))
    assert abs(metrics["margin"] - (sum(up) / 4 - sum(down) / 4)) < 1e-4
    assert abs(metrics["z0"] - z0) < 1e-4
    right = sum(r > z0 for r in up) + sum(r <= z0 for r in down)
    assert metrics["accuracy"] == right / 8


@pytest.mark.parametrize("broken", ["policy", "reference"])
def test_a_model_that_gives_no_numbers_is_named_with_the_records(broken: str) -> None:
    rows = make_rows()
    batches = plan_evaluation(plan_columns(rows), range(8), load_config(None, []))
    planned = planned_sequences(rows, batches)
    reference, policy = tiny_model("llama", seed=0), tiny_model("llama", seed=1)
    model: Any = {"policy": policy, "reference": reference}[broken]
    with torch.no_grad():
        model.get_input_embeddings().weight[54] = float("nan")  # a token of record r4 alone
    identity = ModelIdentity("tiny", None, f"{broken} broken", "float32")
    scores = reference_pass(build_scorer(reference), planned, ScoreCache(cache_folder()), identity)
    with pytest.raises(NonFiniteError, match=f"^held-out records .*r4.*: the {broken} gives"):
        evaluate_heldout(
            build_scorer(policy),
            rows,
            range(8),
            batches,
            ReferenceValues(planned.place, scores),
            beta=0.1,
            budget=Budget(11),
        )
