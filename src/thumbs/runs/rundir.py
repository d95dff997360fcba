"""A run on disk: where everything lies, and how its JSON is read and written.

    RUN/ config.yaml  data.json  metrics.jsonl  summary.json  report.html
         heldout.jsonl (only where train.eval_every: a line per evaluation on the way)
         audit.json (only after thumbs audit: what it found, for the page)
         samples.json (only after thumbs eval --samples: answers before and after, for the page)
         reference/values.safetensors  checkpoints/step-000100/  model/
         adapter/ (only where model.lora.merge: adapters, which are in model/ otherwise)
         .lock (while a process works on it)

Knows no torch: report pages read runs on machines without it.
"""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from thumbs.errors import Interrupted, OutOfMemory, OutputError, RunError, shown
from thumbs.files import full_disk_told, remove_partials, require_writable, write_bytes
from thumbs.runs.lock import LOCK, locked


@dataclass(frozen=True)
class RunDir:
    """The paths of a run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def data(self) -> Path:
        return self.path / "data.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def heldout(self) -> Path:
        return self.path / "heldout.jsonl"

    @property
    def audit(self) -> Path:
        return self.path / "audit.json"

    @property
    def samples(self) -> Path:
        return self.path / "samples.json"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def reference(self) -> Path:
        return self.path / "reference" / "values.safetensors"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        return self.path / "model"


def require_unused(path: Path) -> None:
    """Refuse, before any work, a folder that is in use or that could not be made.

    A start that was killed before the run stood leaves its lock, and beside it only what it had
    written for the run: such a folder is not in use.

    Raises:
        RunError: `path` is a file or a folder that is not empty.
        OutputError: nothing could be written there.
    """
    require_writable(path)
    if path.is_file():
        raise RunError(f"{path}: is a file; give --out a new folder")
    if path.is_dir() and any(path.iterdir()) and not _is_left_by_a_start(path):
        command = shlex.join(["thumbs", "train", "--resume", str(path)])
        hint = f"continue it with: {command}, or " if is_run(path) else ""
        raise RunError(f"{path}: exists and is not empty; {hint}give --out another folder")


@contextmanager
def new_run(path: Path) -> Iterator[RunDir]:
    """A new run, held by this process alone while the block runs.

    Until its config.yaml is written it is no run; a block that fails before leaves nothing.

    Raises:
        RunError: the folder is in use, or cannot be made.
    """
    require_unused(path)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: the folder cannot be made ({error.strerror})") from None
    run = RunDir(path)
    try:
        with locked(path):
            require_unused(path)  # again: another process may have been here before the lock
            _remove_leftovers(run)
            try:
                yield run
            except BaseException:
                if not is_run(path):
                    _remove_leftovers(run)
                raise
    finally:
        if not is_run(path):
            with suppress(OSError):  # somebody else's content: the folder stays
                for folder in made:
                    folder.rmdir()


@contextmanager
def existing_run(path: Path) -> Iterator[RunDir]:
    """The run in `path`, held by this process alone; what killed processes left half is removed.

    Raises:
        RunError: `path` is not a run folder, or another process holds it.
    """
    run = open_run(path)
    with locked(path):
        for folder in (path, run.checkpoints, run.reference.parent):
            remove_partials(folder)
        yield run


@contextmanager
def resumable(path: Path) -> Iterator[None]:
    """What stops the block and is no mistake in it ends in a line with the command to go on."""
    command = shlex.join(["thumbs", "train", "--resume", str(path)])
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; go on with: {command}") from None
    except Interrupted as error:
        raise Interrupted(f"{error}; go on with: {command}") from None
    except (OutputError, OutOfMemory) as error:
        raise type(error)(f"{error} Then go on with: {command}") from None


def open_run(path: Path) -> RunDir:
    """An existing run, to read.

    Raises:
        RunError: `path` is not a run folder.
    """
    if not is_run(path):
        found = "is not a run folder (no config.yaml)" if path.is_dir() else "no such folder"
        if path.is_file():
            found = "is a file, not a run folder"
        if path.is_dir() and _is_left_by_a_start(path):
            raise RunError(
                f"{path}: was stopped before the run began, so there is nothing to go on with. "
                "Give the command that was to start it again."
            )
        raise RunError(f"{path}: {found}. Give a folder that thumbs train --out made.")
    return RunDir(path)


def is_run(path: Path) -> bool:
    """Whether `path` is a folder that `thumbs train` began to fill; config.yaml comes last."""
    return (path / "config.yaml").is_file()


def _is_left_by_a_start(path: Path) -> bool:
    names = {entry.name for entry in path.iterdir()}
    begun = {name for name in names if name.startswith(".") and name.endswith(".partial")}
    return LOCK in names and names <= {LOCK, "data.json", *begun}


def _remove_leftovers(run: RunDir) -> None:
    run.data.unlink(missing_ok=True)
    remove_partials(run.path)


def read_json(path: Path) -> Any:
    """The JSON in `path`.

    Raises:
        RunError: the file is missing or not JSON.
    """
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path}: is missing; the run was stopped before it was written") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); restore it") from None
    except orjson.JSONDecodeError as error:
        raise RunError(f"{path}: is not JSON ({error}); start the run again") from None


def read_described(run: RunDir) -> dict[str, Any]:
    """What RUN/data.json says of the feedback file, the date of the run and the policy.

    Raises:
        RunError: the file is missing, or holds something else.
    """
    if not run.data.exists():
        raise RunError(
            f"{run.data}: is missing, so what the run was trained on is not known. Restore it from "
            "a copy, or start a new run; finished weights stay in model/ and checkpoints/."
        )
    found = read_json(run.data)
    for key in ("feedback.path", "feedback.sha256", "policy.weight_sha256", "today"):
        value: Any = found
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, str) or "\0" in value:
            finding = f"{key} must be text, but is {shown(value)}"
            raise RunError(f"{run.data}: {finding}; the file is damaged: start the run again")
    try:
        date.fromisoformat(found["today"])
    except ValueError:
        finding = f"today must be a date like 2026-01-01, but is {shown(found['today'])}"
        raise RunError(f"{run.data}: {finding}; start the run again") from None
    return dict(found)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_bytes(path, orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")


def append_metrics(path: Path, line: Mapping[str, Any]) -> None:
    """Add one step's line to metrics.jsonl.

    Raises:
        OutputError: there is no room for it.
    """
    with full_disk_told(path), path.open("ab") as file:
        file.write(orjson.dumps(line) + b"\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The steps of metrics.jsonl; a last line cut by a kill is left out.

    Raises:
        RunError: a line is no step.
    """
    if not path.is_file():
        return []
    steps = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            steps += [_step(line)] if line else []
        except ValueError as error:
            finding = f"{path}:{number}: {error}"
            raise RunError(f"{finding}; remove that line to see the others") from None
    return steps


def keep_metrics_until(path: Path, step: int) -> None:
    """Keep the lines of steps up to `step`; a resumed run writes the others again.

    Raises:
        RunError: one of the kept lines is damaged.
    """
    kept = []
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            if _step(line)["step"] > step:
                break
        except ValueError as error:
            if number > step:
                break
            raise RunError(
                f"{path}:{number}: is damaged ({error}). Remove that line to go on without it."
            ) from None
        kept.append(line + b"\n")
    write_bytes(path, b"".join(kept))


def _step(line: bytes) -> dict[str, Any]:
    """The numbers of one step.

    Raises:
        ValueError: what is wrong with the line.
    """
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from None
    is_flat = isinstance(found, dict) and not any(
        isinstance(value, dict | list) for value in found.values()
    )
    if not is_flat or type(found.get("step")) is not int:
        raise ValueError(f'must be an object of numbers with a "step", but is {shown(found)}')
    return dict(found)
