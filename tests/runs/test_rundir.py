"""A run folder is made, found again, and its JSON survives a kill."""

import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from thumbs.errors import Interrupted, OutputError, RunError
from thumbs.runs.rundir import (
    RunDir,
    append_metrics,
    existing_run,
    is_run,
    keep_metrics_until,
    new_run,
    open_run,
    read_json,
    read_metrics,
    resumable,
    write_json,
)


def test_everything_of_a_run_lies_where_the_layout_says(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    places = {
        *(run.config, run.data, run.metrics, run.summary, run.report),
        *(run.reference, run.checkpoints, run.model),
    }
    assert {str(place.relative_to(tmp_path)) for place in places} == {
        *("config.yaml", "data.json", "metrics.jsonl", "summary.json", "report.html"),
        *("reference/values.safetensors", "checkpoints", "model"),
    }


def test_a_new_folder_becomes_a_run_once_its_configuration_stands(tmp_path: Path) -> None:
    with new_run(tmp_path / "runs" / "one") as run:
        assert not is_run(run.path)
        run.config.write_text("loss: {}\n")
        with pytest.raises(RunError, match="is working on this run"), existing_run(run.path):
            pass
    assert open_run(run.path) == run
    assert [path.name for path in run.path.iterdir()] == ["config.yaml"]


def fail_before_the_run_stands(path: Path) -> None:
    with new_run(path) as run:
        write_json(run.data, {"rows": 3})
        (run.path / ".config.yaml.1.partial").write_text("model")
        raise KeyboardInterrupt


def test_a_start_that_fails_leaves_no_folder_it_made(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail_before_the_run_stands(tmp_path / "runs" / "one")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fail_before_the_run_stands(tmp_path / "mine")
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_start_that_was_killed_can_be_given_again(tmp_path: Path) -> None:
    left = tmp_path / "run"
    left.mkdir()
    for name in (".lock", "data.json", ".config.yaml.123.partial"):
        (left / name).write_text("half")
    with pytest.raises(RunError, match="stopped before the run began"):
        open_run(left)
    with new_run(left) as run:
        assert [path.name for path in left.iterdir()] == [".lock"]
        run.config.write_text("")
    assert is_run(left)


def test_a_data_file_of_somebody_else_is_not_taken_for_a_killed_start(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("mine")
    with pytest.raises(RunError, match="is not empty"), new_run(tmp_path):
        pass
    assert (tmp_path / "data.json").read_text() == "mine"


def test_a_folder_with_content_is_refused_with_the_way_to_continue_it(tmp_path: Path) -> None:
    path = tmp_path / "my runs"
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    with (
        pytest.raises(RunError, match="is not empty; give --out another"),
        new_run(path),
    ):
        pass
    (path / "config.yaml").write_text("")
    command = f"continue it with: thumbs train --resume '{path}'"
    with pytest.raises(RunError, match=command), new_run(path):
        pass
    assert (path / "notes.txt").read_text() == "mine"


def test_a_file_is_no_place_for_a_run(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RunError, match="is a file"), new_run(file):
        pass
    refusal = r"file/below: cannot be written, .*file is a file"
    with pytest.raises(OutputError, match=refusal), new_run(file / "below"):
        pass


def test_what_killed_processes_left_half_is_removed_when_a_run_goes_on(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.config.write_text("")
    for path in (run.path, run.checkpoints, run.reference.parent):
        (path / ".folder.partial").mkdir(parents=True)
        (path / ".folder.partial" / "half").write_text("")
        (path / ".file.json.77.partial").write_text("")
        (path / "kept").write_text("")
    with existing_run(tmp_path):
        found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    kept = {"kept", "checkpoints", "checkpoints/kept", "reference", "reference/kept"}
    assert found == {".lock", "config.yaml", *kept}


@pytest.mark.parametrize(
    ("stopped_by", "error", "told"),
    [
        (KeyboardInterrupt(), Interrupted, "stopped; go on with: "),
        (Interrupted("stopped after step 3 of 9"), Interrupted, "step 3 of 9; go on with: "),
        (OutputError("x: could not be written."), OutputError, "written. Then go on with: "),
    ],
)
def test_whatever_stops_a_run_tells_the_command_to_go_on(
    tmp_path: Path, stopped_by: BaseException, error: type[Exception], told: str
) -> None:
    path = tmp_path / "a  b's run"
    with pytest.raises(error) as stopped, resumable(path):
        raise stopped_by
    text = str(stopped.value)
    assert told in text
    command = text.partition("go on with: ")[2]
    assert shlex.split(command) == ["thumbs", "train", "--resume", str(path)]


def test_what_is_no_run_is_refused_by_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        open_run(tmp_path / "absent")
    with pytest.raises(RunError, match=r"is not a run folder \(no config.yaml\)"):
        open_run(tmp_path)


def test_json_reads_back_as_written(tmp_path: Path) -> None:
    value = {"steps": [1, 2], "z0": 0.25, "name": "größe"}
    write_json(tmp_path / "summary.json", value)
    assert read_json(tmp_path / "summary.json") == value


def test_json_that_is_missing_or_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    with pytest.raises(RunError, match="is missing; the run was stopped"):
        read_json(path)
    path.write_text('{"steps": [1')
    with pytest.raises(RunError, match="is not JSON"):
        read_json(path)


def test_a_last_line_cut_by_a_kill_is_left_out_and_then_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    for step in (1, 2, 3):
        append_metrics(path, {"step": step, "loss": step / 8})
    with path.open("ab") as file:
        file.write(b'{"step": 4, "lo')
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]
    keep_metrics_until(path, 2)
    append_metrics(path, {"step": 3, "loss": 0.5})
    assert read_metrics(path) == [
        {"step": 1, "loss": 0.125},
        {"step": 2, "loss": 0.25},
        {"step": 3, "loss": 0.5},
    ]


def test_damaged_metrics_of_a_later_step_are_written_again_and_of_an_earlier_one_told(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.jsonl"
    content = b'{"step":1}\n{"step":2}\n\0\0\0\n{"step":4}\n'
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"metrics.jsonl:3: is damaged .* Remove that line"):
        keep_metrics_until(path, 4)
    assert path.read_bytes() == content
    keep_metrics_until(path, 2)
    assert path.read_bytes() == b'{"step":1}\n{"step":2}\n'


def test_without_room_for_a_line_of_metrics_the_steps_before_are_kept(
    tmp_path: Path, small_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "metrics.jsonl"
    append_metrics(path, {"step": 1, "loss": 0.5})
    room = path.stat().st_size + 5  # for the beginning of a second line
    with small_disk(room), pytest.raises(OutputError, match=r"metrics.jsonl: could not be written"):
        append_metrics(path, {"step": 2, "loss": 0.25})
    assert path.stat().st_size == room
    keep_metrics_until(path, 1)
    append_metrics(path, {"step": 2, "loss": 0.25})
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
