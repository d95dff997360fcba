"""A run folder is made, found again, and its JSON survives a kill."""

from pathlib import Path

import pytest

from thumbs.errors import OutputError, RunError
from thumbs.runs.rundir import (
    RunDir,
    append_metrics,
    create_run,
    is_run,
    keep_metrics_until,
    open_run,
    read_json,
    read_metrics,
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
    run = create_run(tmp_path / "runs" / "one")
    assert not is_run(run.path)
    run.config.write_text("loss: {}\n")
    assert open_run(run.path) == run


def test_a_folder_with_content_is_refused_with_the_way_to_continue_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="exists and is not empty; give --out another folder"):
        create_run(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(RunError, match=f"continue it with: thumbs train --resume {tmp_path}"):
        create_run(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_is_no_place_for_a_run(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(RunError, match="is a file"):
        create_run(file)
    with pytest.raises(OutputError, match=r"file/below: cannot be written, .*file is a file"):
        create_run(file / "below")


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
