"""A run on disk: where everything lies, and how its JSON is read and written.

    RUN/ config.yaml  data.json  metrics.jsonl  summary.json  report.html
         reference/values.safetensors  checkpoints/step-000100/  model/
         adapter/ (only where model.lora.merge: adapters, which are in model/ otherwise)

Knows no torch: report pages read runs on machines without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from thumbs.errors import RunError
from thumbs.files import require_writable, write_bytes


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

    Raises:
        RunError: `path` is a file or a folder that is not empty.
        OutputError: nothing could be written there.
    """
    require_writable(path)
    if path.is_file():
        raise RunError(f"{path}: is a file; give --out a new folder")
    if path.is_dir() and any(path.iterdir()):
        hint = f"continue it with: thumbs train --resume {path}, or " if is_run(path) else ""
        raise RunError(f"{path}: exists and is not empty; {hint}give --out another folder")


def create_run(path: Path) -> RunDir:
    """Make an empty run folder.

    Raises:
        RunError: the folder exists and is not empty, or cannot be made.
    """
    require_unused(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: the folder cannot be made ({error.strerror})") from None
    return RunDir(path)


def open_run(path: Path) -> RunDir:
    """An existing run.

    Raises:
        RunError: `path` is not a run folder.
    """
    if not is_run(path):
        found = "is not a run folder (no config.yaml)" if path.is_dir() else "no such folder"
        if path.is_file():
            found = "is a file, not a run folder"
        raise RunError(f"{path}: {found}. Give a folder that thumbs train --out made.")
    return RunDir(path)


def is_run(path: Path) -> bool:
    """Whether `path` is a folder that `thumbs train` began to fill."""
    return (path / "config.yaml").is_file()


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
    found = read_json(run.data)
    for key in ("feedback.path", "feedback.sha256", "policy.weight_sha256", "today"):
        value: Any = found
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, str) or "\0" in value:
            finding = f"{key} must be text, but is {value!r:.80}"
            raise RunError(f"{run.data}: {finding}; the file is damaged: start the run again")
    try:
        date.fromisoformat(found["today"])
    except ValueError:
        finding = f"today must be a date like 2026-01-01, but is {found['today']!r:.80}"
        raise RunError(f"{run.data}: {finding}; start the run again") from None
    return dict(found)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_bytes(path, orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")


def append_metrics(path: Path, line: Mapping[str, Any]) -> None:
    """Add one step's line to metrics.jsonl."""
    with path.open("ab") as file:
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
            found = orjson.loads(line or b"{}")
        except orjson.JSONDecodeError as error:
            finding = f"not JSON ({error}); remove that line to see the others"
            raise RunError(f"{path}:{number}: {finding}") from None
        if line and not (isinstance(found, dict) and isinstance(found.get("step"), int)):
            finding = f'must be an object with a "step", but is {found!r:.80}'
            raise RunError(f"{path}:{number}: {finding}; remove that line to see the others")
        steps += [found] if line else []
    return steps


def keep_metrics_until(path: Path, step: int) -> None:
    """Drop the lines of steps after `step`; a resumed run writes them again."""
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    write_bytes(path, b"".join(orjson.dumps(line) + b"\n" for line in kept))
