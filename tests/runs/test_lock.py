"""One process holds a run; a kill lets it go."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from thumbs.errors import RunError
from thumbs.runs.lock import locked
from thumbs.runs.rundir import existing_run, new_run, require_unused

HOLD = """
import sys
from pathlib import Path
from thumbs.runs.rundir import existing_run, new_run
with {how}(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another_process(folder: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    code = [sys.executable, "-c", HOLD.format(how=how), str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(code, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_on_a_run_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with held_by_another_process(tmp_path, "existing_run") as process:
        told = rf"{tmp_path}: process {process.pid} on .* is working on this run. Wait until it"
        with pytest.raises(RunError, match=told), existing_run(tmp_path):
            pass
        with pytest.raises(RunError, match="not empty; continue it with"), new_run(tmp_path):
            pass
        process.kill()
        process.wait()
        with existing_run(tmp_path):  # the file is still there, its lock is not
            assert (tmp_path / ".lock").is_file()
    assert not (tmp_path / ".lock").exists()


def test_a_run_that_is_just_being_made_is_refused_to_a_second_process(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "one"
    with held_by_another_process(path, "new_run") as process:
        with pytest.raises(RunError, match="is working on this run"), new_run(path):
            pass
        with pytest.raises(RunError, match="stopped before the run began"), existing_run(path):
            pass
        process.kill()
        process.wait()
        require_unused(path)
        with new_run(path) as run:
            run.config.write_text("")
    assert [entry.name for entry in path.iterdir()] == ["config.yaml"]


def test_of_many_processes_that_start_at_once_one_gets_the_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    code = [sys.executable, "-c", HOLD.format(how="existing_run"), str(tmp_path)]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(code, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)
    ]
    losers = [p for p in processes if p.stdout is not None and p.stdout.readline() == ""]
    errors = [p.communicate()[1] for p in losers]
    assert len(losers) == 3
    assert all("is working on this run" in error for error in errors)
    [winner] = [p for p in processes if p not in losers]
    winner.communicate("")
    assert winner.returncode == 0


def test_the_file_goes_when_the_block_ends(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert (tmp_path / ".lock").is_file()
    assert list(tmp_path.iterdir()) == []
