"""What the report reads of one run folder; files a run has not written yet are absent, not errors.

In: a run folder. Out: `RunRecord`. Knows no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from thumbs.errors import RunError
from thumbs.runs.rundir import open_run, read_json, read_metrics


@dataclass(frozen=True)
class RunRecord:
    """One run as its files tell it.

    name: unique among the runs of one report. config: flat, {"loss.beta": 0.1}.
    data, summary: {} while the run has not written them. steps: one mapping per optimizer step.
    """

    name: str
    config_text: str
    config: dict[str, Any]
    data: dict[str, Any]
    steps: list[dict[str, Any]]
    summary: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the run wrote its summary."""
        return bool(self.summary)

    def column(self, key: str) -> tuple[list[int], list[float]]:
        """The steps at which `key` has a number, and the numbers."""
        known = [line for line in self.steps if line.get(key) is not None]
        return [line["step"] for line in known], [float(line[key]) for line in known]

    def heldout(self, when: str) -> dict[str, Any]:
        """The held-out numbers `before` or `after` training; {} where there are none."""
        return (self.summary.get("heldout") or {}).get(when) or {}


def read_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """The runs in the order given.

    Raises:
        RunError: a path is not a run folder, or one of its files is damaged.
    """
    return [_read_run(path, name) for path, name in zip(paths, _names(paths), strict=True)]


def _read_run(path: Path, name: str) -> RunRecord:
    run = open_run(path)
    text = run.config.read_text(encoding="utf-8")
    try:
        config = yaml.safe_load(text) or {}
        steps = read_metrics(run.metrics)
    except yaml.YAMLError as error:
        raise RunError(f"{run.config}: is not YAML ({_one_line(error)}); restore it") from None
    except orjson.JSONDecodeError as error:
        raise RunError(
            f"{run.metrics}: a line is not JSON ({error}); remove that line to see the others"
        ) from None
    return RunRecord(
        name=name,
        config_text=text,
        config=dict(_flat(config)),
        data=_read_mapping(run.data),
        steps=list({line["step"]: line for line in steps}.values()),
        summary=_read_mapping(run.summary),
    )


def _read_mapping(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where the run has not written the file yet."""
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise RunError(f"{path}: holds {type(found).__name__}, must be an object; run it again")
    return found


def _names(paths: Sequence[Path]) -> list[str]:
    """Folder names; with the parent where two are equal, numbered where that is not enough."""
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.resolve().parent.name}/{path.resolve().name}" for path in paths]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    return names


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield prefix, value
        return
    for key, inner in value.items():
        yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
