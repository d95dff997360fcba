"""train.micro_batch_tokens: auto on this machine, and on one with little left."""

from pathlib import Path

import pytest
import torch

from thumbs import budget, pipeline
from thumbs.config import load_config
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.tiny import save_tiny, tiny_model
from thumbs.runs.rundir import read_json, read_metrics
from thumbs.scoring.memory import WORKSPACE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "model", "llama")
    records = [
        with_defaults(Feedback(prompt=f"Is {i // 2} odd?", completion=" yes", label=bool(i % 2)))
        for i in range(12)
    ]
    write_feedback(tmp_path / "feedback.jsonl", records)
    return tmp_path


def train(folder: Path, name: str, *changes: str) -> int:
    chosen = ["data.heldout_fraction=0", "train.batch_size=6", *changes]
    config = load_config(None, chosen, model=str(folder / "model"))
    pipeline.train_model(folder / "feedback.jsonl", config, folder / name, page=False)
    told = read_json(folder / name / "data.json")["origin"]["machine"]["micro_batch_tokens"]
    assert {
        line["micro_batch_tokens"] for line in read_metrics(folder / name / "metrics.jsonl")
    } == {told}
    return int(told)


def test_a_machine_with_room_takes_what_pays(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(folder, "run") == 4_096
    told = capsys.readouterr().err
    assert "train.micro_batch_tokens: auto is 4,096, more buys no speed here (about 0." in told


def test_with_little_left_a_forward_is_smaller_and_the_run_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "batch_tokens", lambda _: 4_096)  # as if the batches were large
    monkeypatch.setattr(budget, "free_bytes", lambda _: WORKSPACE + (45 << 20))
    tokens = train(folder, "run")
    assert 256 < tokens < 4_096
    told = capsys.readouterr().err
    assert f"auto is {tokens:,}, the most that fits (about 0.1" in told
    monkeypatch.setattr(budget, "free_bytes", lambda _: 1 << 20)
    assert train(folder, "less") == 256
    assert "warning: train.micro_batch_tokens: auto is 256, the least" in capsys.readouterr().err


def test_a_given_number_is_taken_and_nothing_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(folder, "run", "train.micro_batch_tokens=77") == 77
    assert "auto is" not in capsys.readouterr().err


def test_the_largest_batch_counts_prompts_once_and_the_answers_of_z0(folder: Path) -> None:
    from datetime import date

    from thumbs.prepare import prepare

    chosen = ["data.heldout_fraction=0", "train.batch_size=6"]
    config = load_config(None, chosen, model=str(folder / "model"))
    prepared = prepare(folder / "feedback.jsonl", config, date(2026, 1, 1))
    by_hand = []
    for batch in prepared.epochs[0]:
        rows = [prepared.rows[i] for i in batch.rows]
        prompts = {row.prompt_ids for row in rows}
        others = [prepared.rows[y] for group in batch.groups for _, y in group.mismatched]
        answers = sum(len(row.completion_ids) for row in [*rows, *others])
        by_hand.append(sum(map(len, prompts)) + answers)
    assert budget.batch_tokens(prepared) == max(by_hand)


def test_the_shape_of_a_model_is_read_without_its_weights() -> None:
    config = load_config(None, ["model.dtype=float32"], model="x")
    model = tiny_model("llama")
    shape = budget.shape_of(config, model)
    assert shape.parameters == shape.trained == sum(p.numel() for p in model.parameters())
    assert (shape.state_bytes, shape.compute_bytes) == (16.0, 4)
    with torch.device("meta"):
        skeleton = type(model)(model.config)
    assert budget.shape_of(config, skeleton) == shape
