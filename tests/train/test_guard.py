"""The guard of the learning rate: when it trips, what it says, and that a stopped run goes on."""

from pathlib import Path
from typing import Any

import pytest

from thumbs import pipeline
from thumbs.config import load_config
from thumbs.errors import Interrupted
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.tiny import save_tiny
from thumbs.runs.rundir import read_json, read_metrics
from thumbs.train.guard import FAR, WINDOW, Guard

TOO_HIGH, FITTING = 0.1, 0.001
SAID = "the rewards of both labels fall together"


def after(steps: list[tuple[float | None, float | None]]) -> Guard:
    guard = Guard()
    for desirable, undesirable in steps:
        guard = guard.after(desirable, undesirable)
    return guard


def line(start: float, slope: float, num: int = 2 * WINDOW) -> list[float]:
    return [start + slope * step for step in range(num)]


@pytest.mark.parametrize(
    ("desirable", "undesirable", "trips"),
    [
        (line(0, -0.1), line(0, -0.2), True),
        (line(0, 0.1), line(0, -0.1), False),  # what training is for
        (line(0, -0.1), line(0, 0.1), False),
        (line(9, -0.1), line(0, -0.1), False),  # the desirable ones are still above the reference
        (line(-1, 0), line(-1, 0), False),  # low, and not falling
        (line(0, -0.01, 2 * WINDOW - 1), line(0, -0.01, 2 * WINDOW - 1), False),  # too few steps
        (
            [-1 + (-1) ** step - 0.001 * step for step in range(2 * WINDOW)],  # within the spread
            line(0, -0.1),
            False,
        ),
    ],
)
def test_it_trips_where_both_are_negative_and_fall(
    desirable: list[float], undesirable: list[float], trips: bool
) -> None:
    assert after(list(zip(desirable, undesirable, strict=True))).trips is trips


@pytest.mark.parametrize(
    ("desirable", "undesirable", "trips"),
    [
        (line(-60, 0, WINDOW), line(-60, 0, WINDOW), True),  # fell before it was looked at
        (line(-60, 0, WINDOW), line(-50, 0, WINDOW), True),
        (line(-60, 0, WINDOW), line(-70, 0, WINDOW), False),  # the desirable one is ahead
        (line(-60, 0, WINDOW), line(-0.9, 0, WINDOW), False),  # one label stays where it was
        (line(-60, 0, WINDOW - 1), line(-60, 0, WINDOW - 1), False),  # too few steps
        (  # ahead by 0.5 with a spread of 2: a standard error of 0.46
            [-5 + 2 * (-1) ** step for step in range(WINDOW)],
            line(-5.5, 0, WINDOW),
            True,
        ),
    ],
)
def test_it_trips_where_both_have_fallen_far_and_nothing_is_told_apart(
    desirable: list[float], undesirable: list[float], trips: bool
) -> None:
    assert after(list(zip(desirable, undesirable, strict=True))).trips is trips


def test_a_batch_of_one_label_does_not_count_and_old_steps_are_forgotten() -> None:
    falling: list[tuple[float | None, float | None]] = [(r, r) for r in line(0, -0.1)]
    mixed = [step for pair in falling for step in (pair, (None, 5.0), (5.0, None))]
    assert after(mixed) == after(falling)
    flat: list[tuple[float | None, float | None]] = [(-0.5, -0.5)] * (2 * WINDOW)
    assert not after([*falling, *flat]).trips


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guard")
    save_tiny(folder / "model", "llama")
    records = [
        with_defaults(Feedback(prompt=f"Is {i // 2} odd?", completion=f" {i % 5}", label=i % 2 > 0))
        for i in range(36)
    ]
    write_feedback(folder / "feedback.jsonl", records)
    return folder


def train(folder: Path, out: Path, learning_rate: float, *changes: str) -> dict[str, Any]:
    fixed = ["train.batch_size=8", "train.epochs=10", "train.schedule=constant"]
    fixed += ["data.heldout_fraction=0", f"train.learning_rate={learning_rate}"]
    config = load_config(None, [*fixed, *changes], model=str(folder / "model"))
    return pipeline.train_model(folder / "feedback.jsonl", config, out, page=False)


def test_a_learning_rate_that_is_too_high_is_told_once_with_the_remedy(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(folder, tmp_path / "run", TOO_HIGH)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count(SAID) == 1
    assert "train.learning_rate a third of it" in said
    trips = read_json(tmp_path / "run" / "summary.json")["guard_trips"]
    assert trips[0] == WINDOW  # it fell at once
    rows = list(read_metrics(tmp_path / "run" / "metrics.jsonl"))
    for reward in ("reward_desirable", "reward_undesirable"):
        assert sum(row[reward] for row in rows[:WINDOW]) < WINDOW * FAR


@pytest.mark.parametrize(("rate", "guard"), [(FITTING, "warn"), (TOO_HIGH, "ignore")])
def test_a_learning_rate_that_fits_and_a_guard_to_ignore_say_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rate: float, guard: str
) -> None:
    train(folder, tmp_path / "run", rate, f"train.guard={guard}")
    assert SAID not in " ".join(capsys.readouterr().err.split())
    assert read_json(tmp_path / "run" / "summary.json")["guard_trips"] == []


def test_a_run_the_guard_stopped_goes_on_to_the_bytes_of_one_it_only_warned(
    folder: Path, tmp_path: Path
) -> None:
    whole = train(folder, tmp_path / "warned", TOO_HIGH)
    with pytest.raises(Interrupted, match=f"stopped after step {WINDOW} of 50: {SAID}"):
        train(folder, tmp_path / "stopped", TOO_HIGH, "train.guard=stop")
    assert [path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir()][-1:]
    with pytest.raises(Interrupted, match=f"stopped after step {2 * WINDOW} of 50"):
        pipeline.resume_training(tmp_path / "stopped", page=False)
    resumed = pipeline.resume_training(tmp_path / "stopped", page=False)
    assert resumed["steps"] == whole["steps"] == 50
    files = [tmp_path / name / "model" / "model.safetensors" for name in ("warned", "stopped")]
    assert files[0].read_bytes() == files[1].read_bytes()
