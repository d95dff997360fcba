"""Going on with a run: what may differ, what may be damaged, what is told; stops and full disks."""

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaModel

from thumbs import cli, pipeline
from thumbs.budget import MOST_TOKENS
from thumbs.config import load_config
from thumbs.errors import CheckpointError, Interrupted, OutputError, RunError
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.tiny import save_tiny
from thumbs.runs.rundir import read_metrics

SmallDisk = Callable[[int], AbstractContextManager[None]]
SETTINGS = [
    *("train.batch_size=8", "train.epochs=2", "train.learning_rate=3e-3"),
    *("train.save_every=2", "train.keep_last=3", "data.heldout_fraction=0.2"),
]
STOPPED_AFTER = 5


def signal_at_call(
    number: int, real: Callable[..., Any], *signals: int, after: Path | None = None
) -> Callable[..., Any]:
    """`real`, whose call `number` (once `after` exists) sends this process `signals` first."""
    calls: list[int] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        if after is None or after.exists():
            calls.append(1)
            if len(calls) == number:
                for one in signals:
                    os.kill(os.getpid(), one)
        return real(*args, **kwargs)

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, feedback, an unbroken run and one that SIGTERM stopped in its fifth step."""
    folder = tmp_path_factory.mktemp("resume")
    save_tiny(folder / "model", "llama")
    records = [
        with_defaults(
            Feedback(prompt=f"Is {i // 2} odd?", completion=f" yes {i % 5}", label=bool(i % 2))
        )
        for i in range(36)
    ]
    write_feedback(folder / "feedback.jsonl", records)
    begin(folder, "unbroken")
    backward = signal_at_call(STOPPED_AFTER, torch.autograd.backward, signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autograd, "backward", backward)
        patch.setenv("THUMBS_CACHE", str(folder / "cache"))
        with pytest.raises(Interrupted, match=f"stopped after step {STOPPED_AFTER} of "):
            begin(folder, "stopped")
    steps = [path.name for path in sorted((folder / "stopped" / "checkpoints").iterdir())]
    assert steps == ["step-000002", "step-000004", "step-000005"]
    return folder


@pytest.fixture
def stopped(folder: Path, tmp_path: Path) -> Path:
    """A copy of the stopped run, to do anything to."""
    return Path(shutil.copytree(folder / "stopped", tmp_path / "a run"))


def begin(folder: Path, name: str, *changes: str) -> dict[str, Any]:
    config = load_config(None, [*SETTINGS, *changes], model=str(folder / "model"))
    return pipeline.train_model(folder / "feedback.jsonl", config, folder / name, page=False)


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def edit_config(run: Path, stage: str, key: str, value: object) -> None:
    tree = yaml.safe_load((run / "config.yaml").read_text())
    tree[stage][key] = value
    (run / "config.yaml").write_text(yaml.safe_dump(tree))


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


# ---- what may differ, and what may not


def test_a_run_whose_settings_are_lost_says_so(stopped: Path) -> None:
    (stopped / "config.yaml").write_text("")
    with pytest.raises(RunError, match=r"config\.yaml: names no model .*Restore"):
        pipeline.resume_training(stopped)


def test_a_run_whose_description_is_lost_says_what_is_left(stopped: Path) -> None:
    (stopped / "data.json").unlink()
    with pytest.raises(RunError, match=r"data\.json: is missing.*stay in model/ and checkpoints/"):
        pipeline.resume_training(stopped)


def test_pitfall_22_a_stopped_run_ends_in_the_bytes_of_an_unbroken_one(
    folder: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline.resume_training(stopped, page=False)
    assert weights(stopped) == weights(folder / "unbroken")


def test_a_run_begun_with_relative_paths_goes_on_from_anywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        backward = signal_at_call(1, torch.autograd.backward, signal.SIGINT)
        patch.setattr(torch.autograd, "backward", backward)
        config = load_config(None, SETTINGS, model="model")
        with pytest.raises(Interrupted):
            pipeline.train_model(Path("feedback.jsonl"), config, Path("relative"))
    monkeypatch.chdir(tmp_path)
    pipeline.resume_training(folder / "relative", page=False)
    assert weights(folder / "relative") == weights(folder / "unbroken")


@pytest.mark.parametrize(
    ("stage", "key", "value", "told"),
    [
        ("train", "learning_rate", 0.001, "it began with 0.003, run has 0.001"),
        ("loss", "beta", 0.5, "it began with 0.1, run has 0.5"),
        ("train", "max_steps", 6, "it began with None, run has 6"),
        ("train", "seed", 1, "it began with 0, run has 1"),
    ],
)
def test_settings_that_change_the_result_are_refused_with_what_differs(
    stopped: Path, stage: str, key: str, value: object, told: str
) -> None:
    edit_config(stopped, stage, key, value)
    with pytest.raises(CheckpointError) as error:
        pipeline.resume_training(stopped)
    text = str(error.value)
    assert text.startswith(f"{stopped / 'config.yaml'}: is not what the run began with: ")
    assert f"{stage}.{key}: {told}" in text
    assert "\n" not in text


def test_settings_that_do_not_change_the_result_may_be_edited(folder: Path, stopped: Path) -> None:
    for key, value in (("save_every", 3), ("keep_last", 1), ("eval_every", 2)):
        edit_config(stopped, "train", key, value)
    pipeline.resume_training(stopped, page=False)
    assert weights(stopped) == weights(folder / "unbroken")
    kept = [int(path.name[5:]) for path in (stopped / "checkpoints").iterdir()]
    evaluations = read_metrics(stopped / "heldout.jsonl")
    best = next(line["step"] for line in reversed(evaluations) if line["is_best"])
    assert sorted(kept) == sorted({best, evaluations[-1]["step"]})


def test_settings_that_change_rounding_may_be_edited_and_the_run_says_so(
    folder: Path, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_config(stopped, "train", "micro_batch_tokens", 40)
    pipeline.resume_training(stopped, page=False)
    [line] = [x for x in capsys.readouterr().err.splitlines() if "last bits" in x]
    assert "(micro_batch_tokens: was 4096, now 40)" in line
    unbroken, run = (read_metrics(r / "metrics.jsonl") for r in (folder / "unbroken", stopped))
    assert run[-1]["loss"] == pytest.approx(unbroken[-1]["loss"], rel=1e-4, abs=0)


def test_what_the_run_resolved_holds_whatever_is_automatic_today(
    folder: Path,
    stopped: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(MOST_TOKENS, "cpu", 40)
    pipeline.resume_training(stopped, page=False)
    assert "last bits" not in capsys.readouterr().err
    assert weights(stopped) == weights(folder / "unbroken")


def test_another_number_of_threads_goes_on_and_is_told(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(2)
    try:
        pipeline.resume_training(stopped, page=False)
    finally:
        torch.set_num_threads(1)
    assert "may differ from those of an unbroken run (threads: was 1, now 2)" in (
        capsys.readouterr().err
    )


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(
    folder: Path, stopped: Path
) -> None:
    if not (folder / "other").exists():
        begin(folder, "other", "train.learning_rate=1e-3", "loss.beta=0.2")
    source = folder / "other" / "checkpoints" / "step-000006"
    shutil.copytree(source, stopped / "checkpoints" / "step-000006")
    with pytest.raises(CheckpointError) as error:
        pipeline.resume_training(stopped)
    text = str(error.value)
    assert text.startswith(f"{stopped / 'checkpoints' / 'step-000006'}: is of another run: ")
    assert "loss.beta: checkpoint has 0.2, run has 0.1; " in text
    assert "train.learning_rate: checkpoint has 0.001, run has 0.003" in text


# ---- damage


def test_a_damaged_checkpoint_costs_steps_and_no_bytes(
    folder: Path, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_a_byte(stopped / "checkpoints" / "step-000005" / "optimizer.safetensors")
    pipeline.resume_training(stopped, page=False)
    assert "optimizer.safetensors is damaged" in capsys.readouterr().err
    assert weights(stopped) == weights(folder / "unbroken")


def test_without_a_whole_checkpoint_the_run_starts_over_and_ends_in_the_same_bytes(
    folder: Path, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for checkpoint in (stopped / "checkpoints").iterdir():
        (checkpoint / "manifest.json").unlink()
    pipeline.resume_training(stopped, page=False)
    assert "the run starts from the beginning" in capsys.readouterr().err
    assert weights(stopped) == weights(folder / "unbroken")


@pytest.mark.parametrize("damage", ["flipped", "absent"])
def test_damaged_reference_values_are_made_again_where_they_are_the_same(
    folder: Path, stopped: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    values = stopped / "reference" / "values.safetensors"
    if damage == "flipped":
        flip_a_byte(values)
    else:
        values.unlink()
    pipeline.resume_training(stopped, page=False)
    if damage != "absent":
        assert "values are made again" in capsys.readouterr().err
    assert weights(stopped) == weights(folder / "unbroken")


def test_reference_values_that_cannot_be_made_again_as_they_were_are_refused(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stopped / "reference" / "values.safetensors").unlink()
    forward = LlamaModel.forward

    def other_forward(*args: Any, **kwargs: Any) -> Any:
        result = forward(*args, **kwargs)
        result.last_hidden_state.data *= 1.001
        return result

    monkeypatch.setattr(LlamaModel, "forward", other_forward)  # as another kernel would
    with pytest.raises(CheckpointError, match="reference values: checkpoint has sha256"):
        pipeline.resume_training(stopped)


def test_a_reference_that_changed_before_its_pass_ended_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thumbs_cache: Path
) -> None:
    save_tiny(tmp_path / "other", "llama", seed=3)
    twice, began = (signal.SIGINT, signal.SIGINT), thumbs_cache / "reference"
    forward = signal_at_call(1, LlamaModel.forward, *twice, after=began)
    with monkeypatch.context() as patch:
        patch.setattr(LlamaModel, "forward", forward)
        with pytest.raises(Interrupted):
            begin(folder, str(tmp_path / "run"), f"model.reference={tmp_path / 'other'}")
    save_tiny(tmp_path / "other", "llama", seed=4)
    with pytest.raises(CheckpointError, match="the reference holds other weights, or says"):
        pipeline.resume_training(tmp_path / "run")


def test_a_complete_run_gets_its_missing_page_and_its_damaged_model_again(
    folder: Path, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pipeline.resume_training(stopped)
    with pytest.raises(RunError, match="this run is complete; see"):
        pipeline.resume_training(stopped)
    (stopped / "report.html").unlink()
    assert pipeline.resume_training(stopped) == first
    assert (stopped / "report.html").is_file()
    flip_a_byte(stopped / "model" / "model.safetensors")
    pipeline.resume_training(stopped, page=False)
    assert "model.safetensors: is damaged; the model is made again" in capsys.readouterr().err
    assert weights(stopped) == weights(folder / "unbroken")


# ---- stops


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `thumbs arguments`."""
    monkeypatch.setattr(sys, "argv", ["thumbs", *arguments])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    return int(end.value.code or 0)


def arguments_of(folder: Path, out: Path) -> list[str]:
    changes = [word for change in SETTINGS for word in ("--set", change)]
    files = [str(folder / "feedback.jsonl"), "--model", str(folder / "model"), "--out", str(out)]
    return ["train", *files, *changes]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_loading_leaves_nothing_and_exits_75(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load = signal_at_call(1, AutoModelForCausalLM.from_pretrained, number)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    assert run_cli(monkeypatch, *arguments_of(folder, tmp_path / "runs" / "one")) == 75
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"


@pytest.mark.parametrize("times", [1, 2])
def test_a_stop_in_the_reference_pass_finishes_its_part_and_the_second_stops_at_once(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    capsys: pytest.CaptureFixture[str],
    thumbs_cache: Path,
) -> None:
    run = tmp_path / "my run"
    began = thumbs_cache / "reference"
    forward = signal_at_call(1, LlamaModel.forward, *[signal.SIGTERM] * times, after=began)
    with monkeypatch.context() as patch:
        patch.setattr(LlamaModel, "forward", forward)
        assert run_cli(patch, *arguments_of(folder, run)) == 75
    command = capsys.readouterr().err.splitlines()[-1].partition("go on with: ")[2]
    assert shlex.split(command) == ["thumbs", "train", "--resume", str(run)]
    parts = list((thumbs_cache / "reference").rglob("*.safetensors"))
    assert len(parts) == (1 if times == 1 else 0)
    assert not (run / "reference").exists()
    assert run_cli(monkeypatch, *shlex.split(command)[1:]) == 0
    assert weights(run) == weights(folder / "unbroken")


def test_a_second_stop_in_a_step_loses_that_step_only(
    folder: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        twice = (signal.SIGINT, signal.SIGINT)
        patch.setattr(
            torch.autograd, "backward", signal_at_call(1, torch.autograd.backward, *twice)
        )
        with pytest.raises(Interrupted, match=r"^stopped; go on with: thumbs train --resume '"):
            pipeline.resume_training(stopped)
    assert (stopped / "checkpoints" / f"step-{STOPPED_AFTER:06d}").is_dir()
    assert list(stopped.rglob("*.partial")) == []
    pipeline.resume_training(stopped, page=False)
    assert weights(stopped) == weights(folder / "unbroken")


def test_a_stop_in_the_last_step_saves_it_and_leaves_the_model_to_the_next(
    folder: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = len(read_metrics(folder / "unbroken" / "metrics.jsonl"))
    step = signal_at_call(total - STOPPED_AFTER, torch.autograd.backward, signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "backward", step)
        with pytest.raises(Interrupted, match=f"after step {total} of {total}"):
            pipeline.resume_training(stopped)
    assert not (stopped / "model").exists()
    pipeline.resume_training(stopped, page=False)
    assert weights(stopped) == weights(folder / "unbroken")


# ---- full disks


@pytest.mark.parametrize("what", ["checkpoint", "model"])
def test_a_full_disk_ends_in_one_line_and_the_run_goes_on_when_there_is_room(
    folder: Path,
    stopped: Path,
    what: str,
    small_disk: SmallDisk,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = len(weights(folder / "unbroken"))
    if what == "model":  # the last checkpoint stands, the model does not
        pipeline.resume_training(stopped, page=False)
        (stopped / "summary.json").unlink()
        shutil.rmtree(stopped / "model")
        capsys.readouterr()
    before = sorted(path.name for path in (stopped / "checkpoints").iterdir())
    # The optimizer's two moments take twice the room of the weights.
    with small_disk(size + size // 2 if what == "checkpoint" else size // 2):
        assert run_cli(monkeypatch, "train", "--resume", str(stopped)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    place = "checkpoints/step-000006" if what == "checkpoint" else "model"
    assert line.startswith(f"error: {stopped / place}: could not be written: File too large (")
    assert f"Free some space. Then go on with: thumbs train --resume '{stopped}'" in line
    assert sorted(path.name for path in (stopped / "checkpoints").iterdir()) == before
    assert not (stopped / "model").exists()
    assert list(stopped.rglob("*.partial")) == []
    pipeline.resume_training(stopped, page=False)
    assert weights(stopped) == weights(folder / "unbroken")


def test_without_room_in_the_cache_the_run_waits_for_it(
    folder: Path,
    tmp_path: Path,
    small_disk: SmallDisk,
    monkeypatch: pytest.MonkeyPatch,
    thumbs_cache: Path,
) -> None:
    forward, no_room = LlamaModel.forward, ExitStack()

    def fill_the_disk(*args: Any, **kwargs: Any) -> Any:
        if (thumbs_cache / "reference").exists():  # the pass has begun
            no_room.enter_context(small_disk(100))
        return forward(*args, **kwargs)

    with no_room, monkeypatch.context() as patch:
        patch.setattr(LlamaModel, "forward", fill_the_disk)
        with pytest.raises(OutputError) as error:
            begin(folder, str(tmp_path / "run"))
    text = str(error.value)
    assert "safetensors: could not be written: File too large" in text
    assert "THUMBS_CACHE can name another folder. Then go on with: thumbs train --resume" in text
    pipeline.resume_training(tmp_path / "run", page=False)
    assert weights(tmp_path / "run") == weights(folder / "unbroken")
