"""Skipping the estimate of z0: by hand, in simulation against its bound, and in real training."""

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from thumbs import pipeline
from thumbs.config import load_config
from thumbs.errors import ConfigError, Interrupted
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.tiny import save_tiny
from thumbs.report.run_record import read_runs
from thumbs.report.wording import z0_answer
from thumbs.runs.rundir import read_metrics
from thumbs.train import loop
from thumbs.train.adaptive_z0 import CHECKS, MARGIN, Z0Memory, read_memory, stationary_error
from thumbs.train.step import train_step

CHECK_EVERY = 8
CLEAR, UNCLEAR = (-4.0, 1.0), (-2.0, 1.0)  # 4 and 2 standard errors below 0, the margin being 3


def remember(*estimates: tuple[float, float | None]) -> Z0Memory:
    memory = Z0Memory()
    for estimate in estimates:
        memory = memory.after(*estimate)
    return memory


def simulate(
    mean: Callable[[int], float], num_steps: int, seed: int = 0
) -> list[tuple[float, float, bool]]:
    """(z0 used, z0 of an estimate on every step, whether estimated) for raw ~ N(mean(step), 1)."""
    draw = random.Random(seed)
    memory, seen = Z0Memory(), []
    for step in range(num_steps):
        raw = draw.gauss(mean(step), 1.0)
        estimated = memory.estimates_next(CHECK_EVERY)
        memory = memory.after(raw, 1.0) if estimated else memory.after(None, None)
        seen.append((max(0.0, raw) if estimated else 0.0, max(0.0, raw), estimated))
    return seen


# ---- the rule


def test_three_clearly_negative_estimates_skip_seven_steps_and_one_is_checked() -> None:
    assert (CHECKS, MARGIN) == (3, 3.0)
    assert remember(CLEAR, CLEAR).estimates_next(CHECK_EVERY)
    memory = remember(CLEAR, CLEAR, CLEAR)
    for _ in range(7):
        assert not memory.estimates_next(CHECK_EVERY)
        memory = memory.after(None, None)
    assert memory.estimates_next(CHECK_EVERY)
    assert not memory.after(*CLEAR).estimates_next(CHECK_EVERY)


@pytest.mark.parametrize("unclear", [UNCLEAR, (1.0, 0.1), (-3.0, 1.0), (-9.0, None), (0.0, 0.0)])
def test_an_estimate_that_is_not_clearly_negative_brings_back_three(
    unclear: tuple[float, float | None],
) -> None:
    memory = remember(CLEAR, CLEAR, CLEAR, unclear)
    for _ in range(3):
        assert memory.estimates_next(CHECK_EVERY)
        memory = memory.after(*CLEAR)
    assert not memory.estimates_next(CHECK_EVERY)


def test_other_estimators_estimate_on_every_step_and_so_does_a_check_of_every_one() -> None:
    memory = remember(CLEAR, CLEAR, CLEAR)
    assert memory.estimates_next(None)
    assert memory.estimates_next(1)


def test_the_memory_goes_through_a_checkpoint() -> None:
    memory = remember(CLEAR, (1 / 3, None), (-0.1, 1e-9)).after(None, None)
    assert read_memory(json.loads(json.dumps(asdict(memory)))) == memory


# ---- the bound


@pytest.mark.parametrize("height", [-3.0, -2.4, -1.5, 0.0])
def test_the_error_of_a_mean_that_stands_still_is_the_one_of_the_formula(height: float) -> None:
    # Errors of single steps spread by less than 0.1: 20,000 steps know their mean to 0.0007.
    seen = simulate(lambda _: height, 20_000)
    error = sum(full - used for used, full, _ in seen) / len(seen)
    assert error == pytest.approx(stationary_error(height, CHECK_EVERY), abs=1e-3)


def test_the_expected_error_is_below_0_0004_standard_errors_whatever_the_mean() -> None:
    heights = [-h / 100 for h in range(-300, 1_000)]
    assert max(stationary_error(h, CHECK_EVERY) for h in heights) < 4e-4


def test_far_below_0_seven_of_eight_estimates_are_saved_without_any_error() -> None:
    seen = simulate(lambda _: -8.0, 803)
    assert all(used == full for used, full, _ in seen)
    assert sum(estimated for *_, estimated in seen) == 3 + 100


@pytest.mark.parametrize("seed", range(20))
def test_a_mean_that_rises_above_0_is_noticed_within_check_every_steps(seed: int) -> None:
    # From -6 to +6 in 120 steps, 0 at step 60. A check below -3 there has a chance of 0.0014.
    seen = simulate(lambda step: -6.0 + min(step, 120) / 10, 160, seed)
    first = next(step for step in range(60, 160) if seen[step][2])
    assert first < 60 + CHECK_EVERY
    assert all(estimated for *_, estimated in seen[first:])


# ---- real training


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, mostly disliked answers, and a run that estimates z0 on every step."""
    folder = tmp_path_factory.mktemp("adaptive")
    save_tiny(folder / "model", "llama")
    records = [
        with_defaults(
            Feedback(prompt=f"Is {i} a number?", completion=f" no {i % 7} way", label=i % 8 == 0)
        )
        for i in range(64)
    ]
    write_feedback(folder / "feedback.jsonl", records)
    begin(folder, "full", "mismatched")
    return folder


def begin(folder: Path, name: str, estimator: str) -> None:
    settings = [
        *("train.batch_size=16", "train.epochs=6", "train.learning_rate=3e-3"),
        *("data.heldout_fraction=0", "train.save_every=9", "loss.z0.check_every=4"),
        f"loss.z0.estimator={estimator}",
    ]
    config = load_config(None, settings, model=str(folder / "model"))
    pipeline.train_model(folder / "feedback.jsonl", config, folder / name, page=False)


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    found = read_metrics(folder / name / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def weights(folder: Path, name: str) -> bytes:
    return (folder / name / "model" / "model.safetensors").read_bytes()


def test_a_run_that_skips_estimates_ends_where_the_full_estimator_ends(folder: Path) -> None:
    begin(folder, "adaptive", "adaptive")
    full, adaptive = lines(folder, "full"), lines(folder, "adaptive")
    skipped = [line for line in adaptive if line["z0_raw"] is None]
    assert len(skipped) >= 6
    assert {(line["z0"], line["z0_se"]) for line in skipped} == {(0.0, None)}
    # The bound of a step is 0.0004 standard errors. Here no skipped estimate was above 0 at all.
    errors = [abs(a["z0"] - f["z0"]) for a, f in zip(adaptive, full, strict=True)]
    assert max(errors) == 0.0
    assert weights(folder, "adaptive") == weights(folder, "full")
    assert [a["clamped_share"] for a in adaptive] == [f["clamped_share"] for f in full]
    assert sum(a["tokens"] for a in adaptive) < sum(f["tokens"] for f in full)
    (record,) = read_runs([folder / "adaptive"])
    said = z0_answer(record).replace("\xa0", " ")
    assert f"estimated on {len(adaptive) - len(skipped)} of {len(adaptive)} steps" in said


def test_pitfall_22_a_run_stopped_between_two_estimates_ends_with_the_same_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(folder, "unbroken", "adaptive")
    done: list[int] = []

    def stop_in_the_twentieth(*args: Any, **keywords: Any) -> object:
        done.append(1)
        if len(done) == 20:
            raise KeyboardInterrupt
        return train_step(*args, **keywords)

    monkeypatch.setattr(loop, "train_step", stop_in_the_twentieth)
    with pytest.raises(Interrupted):
        begin(folder, "stopped", "adaptive")
    monkeypatch.undo()
    assert lines(folder, "unbroken")[17]["z0_raw"] is None  # step 18, the last checkpoint
    pipeline.resume_training(folder / "stopped", page=False)
    assert weights(folder, "stopped") == weights(folder, "unbroken")
    assert lines(folder, "stopped") == lines(folder, "unbroken")


def test_groups_within_a_batch_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"group_rows is 4.*leave loss\.z0\.group_rows out"):
        load_config(None, ["loss.z0.estimator=adaptive", "loss.z0.group_rows=4"])
