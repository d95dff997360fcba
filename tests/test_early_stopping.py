"""Held-out evaluations on the way: lines, the best checkpoint, its model, an early end."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from thumbs import pipeline
from thumbs.config import load_config
from thumbs.errors import CheckpointError, ConfigError, Interrupted
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.tiny import save_tiny
from thumbs.runs.rundir import read_json, read_metrics
from thumbs.train.step import train_step

OnTwoRanks = Callable[[Callable[[int], Any]], list[Any]]
# Noise in the labels and a high rate: the held-out AUC rises, then wanders.
SETTINGS = [
    *("train.batch_size=6", "train.epochs=3", "train.learning_rate=1e-2"),
    *("train.save_every=1000", "train.keep_last=1", "data.heldout_fraction=0.4"),
    "train.eval_every=1",
]
EARLY = "train.early_stopping=2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, feedback, and runs: to the end, to the end with the best kept, ended early."""
    folder = tmp_path_factory.mktemp("early")
    save_tiny(folder / "model", "llama")
    records = [
        with_defaults(
            Feedback(
                prompt=f"Is {i // 3} odd?",
                completion=f" yes {i % 7}",
                label=(i % 7 < 4) != (i % 5 == 0),
            )
        )
        for i in range(60)
    ]
    write_feedback(folder / "feedback.jsonl", records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THUMBS_CACHE", str(folder / "cache"))
        begin(folder, "plain")
        begin(folder, "best", "train.keep_best=true")
        begin(folder, "early", EARLY)
    return folder


def begin(folder: Path, name: str, *changes: str) -> dict[str, Any]:
    config = load_config(None, [*SETTINGS, *changes], model=str(folder / "model"))
    return pipeline.train_model(folder / "feedback.jsonl", config, folder / name, page=False)


def lines(run: Path) -> list[dict[str, Any]]:
    return read_metrics(run / "heldout.jsonl")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def saved_steps(run: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (run / "checkpoints").iterdir())


def best_of(aucs: list[float]) -> int:
    return 1 + max(range(len(aucs)), key=lambda i: (aucs[i], -i))


def assert_same(run: Path, unbroken: Path) -> None:
    """The bytes of the model and of the evaluations are those of the unbroken run."""
    for name in ("model/model.safetensors", "heldout.jsonl"):
        assert (run / name).read_bytes() == (unbroken / name).read_bytes(), name
    ours, theirs = (read_json(each / "summary.json") for each in (run, unbroken))
    for key in ("steps", "best_step", "model_step", "heldout"):
        assert ours[key] == theirs[key], key


# ---- what an evaluation leaves


def test_every_evaluation_has_its_line(folder: Path) -> None:
    found, summary = lines(folder / "plain"), read_json(folder / "plain" / "summary.json")
    assert [line["step"] for line in found] == list(range(1, summary["steps"] + 1))
    after = summary["heldout"]["after"]
    last = found[-1]
    assert (last["auc"], last["margin"], last["z0"]) == tuple(
        after[k] for k in ("auc", "margin", "z0")
    )
    assert [last["auc_low"], last["auc_high"]] == after["auc_ci"]
    bests = [line["step"] for line in found if line["is_best"]]
    assert bests[-1] == best_of([line["auc"] for line in found]) == summary["best_step"]


def test_an_evaluation_follows_the_last_step_whatever_the_interval(folder: Path) -> None:
    begin(folder, "rare", "train.eval_every=4", "train.max_steps=6")
    assert [line["step"] for line in lines(folder / "rare")] == [4, 6]


def test_the_best_checkpoint_stays_beside_the_newest_and_the_model_is_the_last(
    folder: Path,
) -> None:
    summary = read_json(folder / "plain" / "summary.json")
    best, steps = summary["best_step"], summary["steps"]
    assert best < steps
    assert saved_steps(folder / "plain") == [best, steps]
    assert summary["model_step"] == steps
    newest = load_file(
        folder / "plain" / "checkpoints" / f"step-{steps:06d}" / "policy.safetensors"
    )
    saved = weights(folder / "plain")
    assert all(torch.equal(newest[name], saved[name]) for name in saved)


def test_looking_changes_nothing(folder: Path) -> None:
    begin(folder, "blind", "train.eval_every=null")
    assert not (folder / "blind" / "heldout.jsonl").exists()
    ours, theirs = weights(folder / "blind"), weights(folder / "plain")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_with_keep_best_the_model_is_that_of_the_best_evaluation(folder: Path) -> None:
    run = folder / "best"
    summary = read_json(run / "summary.json")
    best = best_of([line["auc"] for line in lines(run)])
    assert summary["model_step"] == summary["best_step"] == best < summary["steps"]
    policy = load_file(run / "checkpoints" / f"step-{best:06d}" / "policy.safetensors")
    saved = weights(run)
    assert all(torch.equal(policy[name], saved[name]) for name in saved)
    assert summary["heldout"]["after"]["auc"] == lines(run)[best - 1]["auc"]
    assert lines(run) == lines(folder / "plain")


@pytest.mark.parametrize(
    "changes",
    [
        ["model.lora.r=4", "train.learning_rate=1e-1"],
        ["model.lora.r=4", "model.lora.merge=true", "train.learning_rate=1e-1"],
        ["loss.name=ppo_offline"],
    ],
    ids=["adapters", "merged adapters", "value head"],
)
def test_the_best_is_kept_of_whatever_is_trained(
    folder: Path, tmp_path: Path, changes: list[str]
) -> None:
    begin(folder, str(tmp_path / "run"), EARLY, *changes)
    summary = read_json(tmp_path / "run" / "summary.json")
    aucs = [line["auc"] for line in lines(tmp_path / "run")]
    best = best_of(aucs)
    assert summary["model_step"] == best < summary["steps"]
    assert summary["heldout"]["after"]["auc"] == aucs[best - 1] != aucs[-1]


def test_patience_ends_the_run_and_the_model_is_the_best(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = read_json(folder / "early" / "summary.json")
    aucs = [line["auc"] for line in lines(folder / "early")]
    whole = [line["auc"] for line in lines(folder / "plain")]
    assert aucs == whole[: len(aucs)]
    assert len(aucs) < len(whole)
    best = best_of(aucs)
    assert (summary["steps"], summary["model_step"]) == (best + 2, best)
    again = begin(folder, "early-again", EARLY)
    told = " ".join(capsys.readouterr().err.split())
    assert again["steps"] == best + 2
    assert f"ended early, after step {best + 2} of {len(whole)}: 2 evaluations in a row" in told
    assert f"the model is that of step {best} of {best + 2}, whose held-out AUC was best" in told


# ---- stops, kills, damage


@pytest.mark.parametrize("times", [1, 2], ids=["stop", "kill"])
def test_a_run_stopped_around_an_evaluation_ends_in_the_same_bytes(
    folder: Path, tmp_path: Path, times: int
) -> None:
    summary = read_json(folder / "early" / "summary.json")
    for step in (summary["best_step"], summary["steps"] - 1, summary["steps"]):
        run = tmp_path / f"run-{step}"

        def step_and_stop(*args: Any, stopped: int = step, **keywords: Any) -> Any:
            for _ in range(times if keywords["step"] + 1 == stopped else 0):
                os.kill(os.getpid(), signal.SIGINT)
            return train_step(*args, **keywords)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("thumbs.train.loop.train_step", step_and_stop)
            with pytest.raises(Interrupted):
                begin(folder, str(run), EARLY)
        if times == 1:  # the evaluation of the step waits for the run that goes on
            assert [line["step"] for line in lines(run)] == list(range(1, step))
        pipeline.resume_training(run, page=False)
        assert_same(run, folder / "early")


def test_a_line_that_a_kill_cut_or_no_checkpoint_knows_is_written_again(
    folder: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(folder / "early", tmp_path / "run"))
    (run / "summary.json").unlink()
    shutil.rmtree(run / "model")
    steps = read_json(folder / "early" / "summary.json")["steps"]
    shutil.rmtree(run / "checkpoints" / f"step-{steps:06d}")  # the best one is left
    with (run / "heldout.jsonl").open("ab") as file:
        file.write(b'{"step": 99, "auc"')
    pipeline.resume_training(run, page=False)
    assert_same(run, folder / "early")


def test_a_damaged_best_checkpoint_is_told_with_a_way_to_make_it_again(
    folder: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(folder / "early", tmp_path / "run"))
    summary = read_json(run / "summary.json")
    (run / "summary.json").unlink()
    shutil.rmtree(run / "model")
    best = run / "checkpoints" / f"step-{summary['best_step']:06d}"
    (best / "policy.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError) as error:
        pipeline.resume_training(run)
    assert str(error.value).startswith(f"{best}: policy.safetensors is damaged")
    assert "delete it and every later one" in str(error.value)
    assert not (run / "model").exists()
    shutil.rmtree(run / "checkpoints")
    pipeline.resume_training(run, page=False)
    assert_same(run, folder / "early")


def test_when_to_look_cannot_be_edited_where_it_decides_the_model(
    folder: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(folder / "early", tmp_path / "run"))
    (run / "summary.json").unlink()
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree["train"]["eval_every"] = 2
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(CheckpointError, match=r"train\.eval_every: it began with 1, run has 2"):
        pipeline.resume_training(run)


def test_ranks_end_early_together(folder: Path, tmp_path: Path, on_two_ranks: OnTwoRanks) -> None:
    config = load_config(None, [*SETTINGS, EARLY], model=str(folder / "model"))

    def train(_: int) -> int:
        calls: list[int] = []

        def counted(*args: Any, **keywords: Any) -> Any:
            calls.append(1)
            return train_step(*args, **keywords)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("thumbs.train.loop.train_step", counted)
            pipeline.train_model(folder / "feedback.jsonl", config, tmp_path / "two", page=False)
        return len(calls)

    first, second = on_two_ranks(train)
    summary = read_json(tmp_path / "two" / "summary.json")
    assert first == second == summary["steps"]
    assert summary["steps"] < len(lines(folder / "plain"))
    assert summary["model_step"] == best_of([line["auc"] for line in lines(tmp_path / "two")])


# ---- errors


@pytest.mark.parametrize("change", ["train.early_stopping=3", "train.keep_best=true"])
def test_without_evaluations_there_is_no_best(change: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.eval_every is null, so nothing") as error:
        load_config(None, [change], model="m")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["train.early_stopping=3", "train.keep_best=true"])
def test_held_out_rows_without_both_labels_tell_no_best(
    folder: Path, tmp_path: Path, change: str
) -> None:
    records = [
        with_defaults(Feedback(prompt=f"Is {i} odd?", completion=f" yes {i}", label=i < 10))
        for i in range(10)
    ]
    write_feedback(tmp_path / "up.jsonl", records)
    for fraction, told in (("0.5", "held-out rows are all desirable"), ("1e-9", "no row is held")):
        settings = [*SETTINGS, change, f"data.heldout_fraction={fraction}"]
        config = load_config(None, settings, model=str(folder / "model"))
        with pytest.raises(ConfigError, match=told) as error:
            pipeline.train_model(tmp_path / "up.jsonl", config, tmp_path / "run")
        assert str(error.value).startswith(change.partition("=")[0])
        assert not (tmp_path / "run").exists()
