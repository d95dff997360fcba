"""`thumbs train` in two processes: one run, written by the first, equal to that of one process."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from thumbs import pipeline
from thumbs.config import load_config
from thumbs.errors import Interrupted, RunError
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.tiny import save_tiny
from thumbs.runs.rundir import RunDir, read_json, read_metrics
from thumbs.train.step import train_step

OnTwoRanks = Callable[[Callable[[int], Any]], list[Any]]
SETTINGS = [
    *("train.batch_size=7", "train.learning_rate=3e-3", "train.max_steps=5"),
    *("data.heldout_fraction=0.2", "train.micro_batch_tokens=64"),
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model", "llama")


@pytest.fixture
def feedback(tmp_path: Path) -> Path:
    """Sixty answers to thirty questions: yes is liked, no is not."""
    records = [
        with_defaults(
            Feedback(
                prompt=f"Is {i // 2} a number?",
                completion=" yes it is" if i % 2 else " no way at all",
                label=bool(i % 2),
            )
        )
        for i in range(60)
    ]
    write_feedback(tmp_path / "feedback.jsonl", records)
    return tmp_path / "feedback.jsonl"


def test_two_processes_make_the_run_of_one(
    tmp_path: Path,
    model: Path,
    feedback: Path,
    on_two_ranks: OnTwoRanks,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = load_config(None, SETTINGS, model=str(model))

    def train(rank: int) -> dict[str, Any]:
        del rank
        return pipeline.train_model(feedback, config, tmp_path / "two", page=False)

    first, second = on_two_ranks(train)
    told = capfd.readouterr().err
    assert second == {}
    assert told.count("rows: ") == 1
    monkeypatch.setenv("THUMBS_CACHE", str(tmp_path / "cache"))
    alone = pipeline.train_model(feedback, config, tmp_path / "one", page=False)
    assert {p.name for p in (tmp_path / "two").iterdir()} == {
        p.name for p in (tmp_path / "one").iterdir()
    }
    values = [load_file(RunDir(tmp_path / name).reference)["logps"] for name in ("two", "one")]
    assert torch.equal(*values)
    lines, expected = (read_metrics(tmp_path / n / "metrics.jsonl") for n in ("two", "one"))
    assert [line["step"] for line in lines] == list(range(1, alone["steps"] + 1))
    for name in ("loss", "z0_raw", "margin", "grad_norm", "num_desirable", "tokens"):
        assert [line[name] for line in lines] == pytest.approx(
            [line[name] for line in expected], rel=1e-3, abs=1e-4
        )
    assert first["heldout"]["margin"] == pytest.approx(alone["heldout"]["margin"], rel=1e-3)
    start = load_file(model / "model.safetensors")
    two, one = (load_file(tmp_path / n / "model/model.safetensors") for n in ("two", "one"))
    apart, moved = (
        torch.cat([(end - origin[k]).flatten() for k, end in one.items()]).norm()
        for origin in (two, start)
    )
    assert apart <= 1e-2 * moved


def test_ranks_stop_together_and_go_on_to_the_same_bytes(
    tmp_path: Path, model: Path, feedback: Path, on_two_ranks: OnTwoRanks
) -> None:
    config = load_config(None, SETTINGS, model=str(model))
    on_two_ranks(lambda _: pipeline.train_model(feedback, config, tmp_path / "whole", page=False))

    def stopped(rank: int) -> str:
        calls: list[int] = []

        def step_and_signal(*args: Any, **keywords: Any) -> Any:
            calls.append(1)
            if len(calls) == 3 and rank == 1:  # one of them alone
                os.kill(os.getpid(), signal.SIGTERM)
            return train_step(*args, **keywords)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("thumbs.train.loop.train_step", step_and_signal)
            try:
                pipeline.train_model(feedback, config, tmp_path / "stopped", page=False)
            except Interrupted as error:
                return str(error)
        return f"{len(calls)} steps"

    first, second = on_two_ranks(stopped)
    assert first.startswith("stopped after step 3 of 5; go on with: thumbs train --resume ")
    assert second == "3 steps"
    on_two_ranks(lambda _: pipeline.resume_training(tmp_path / "stopped", page=False))
    assert read_json(tmp_path / "stopped/summary.json")["steps"] == 5
    ends = [(tmp_path / n / "model/model.safetensors").read_bytes() for n in ("whole", "stopped")]
    assert ends[0] == ends[1]


def test_what_is_wrong_is_told_by_the_first_rank_alone(
    tmp_path: Path, model: Path, feedback: Path, on_two_ranks: OnTwoRanks
) -> None:
    config = load_config(None, SETTINGS, model=str(model))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")

    def refused(_: int) -> str:
        try:
            return repr(pipeline.train_model(feedback, config, tmp_path / "run", page=False))
        except RunError as error:
            return str(error)

    first, second = on_two_ranks(refused)
    assert first.startswith(f"{tmp_path / 'run'}: ")
    assert second == "{}"
