"""What the report reads of one run folder; files a run has not written yet are absent, not errors.

In: a run folder. Out: `RunRecord`. Knows no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from thumbs.errors import ConfigError, RunError
from thumbs.report.shape import (
    AUDIT,
    DATA,
    EVALUATIONS,
    SAMPLES,
    STEPS,
    SUMMARY,
    wrong_value,
)
from thumbs.runs.rundir import open_run, read_json, read_metrics
from thumbs.yaml_text import read_yaml


@dataclass(frozen=True)
class RunRecord:
    """One run as its files tell it.

    name: unique among the runs of one report. config: flat, {"loss.beta": 0.1}.
    data, summary: {} while the run has not written them. steps: one mapping per optimizer step.
    evaluations: one per evaluation on the way. audit: what `thumbs audit` found, {} before it.
    examples: answers before and after, of a demo or of `thumbs eval --samples`.
    """

    name: str
    config_text: str
    config: dict[str, Any]
    data: dict[str, Any]
    steps: list[dict[str, Any]]
    summary: dict[str, Any]
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    audit: dict[str, Any] = field(default_factory=dict)
    examples: list[dict[str, str]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether the run wrote its summary."""
        return bool(self.summary)

    def column(self, key: str) -> tuple[list[int], list[float]]:
        """The steps at which `key` has a number, and the numbers; heldout.KEY: of evaluations."""
        of_evaluations = key.startswith("heldout.")
        lines, key = (
            self.evaluations if of_evaluations else self.steps,
            key.removeprefix("heldout."),
        )
        known = [line for line in lines if line.get(key) is not None]
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
    try:
        config = read_yaml(run.config, advice="Restore it, or start the run again.")
    except ConfigError as error:
        raise RunError(str(error)) from None
    summary = _read_mapping(run.summary, SUMMARY)
    asked = _read_mapping(run.samples, SAMPLES).get("examples") or []
    return RunRecord(
        name=name,
        config_text=run.config.read_text(encoding="utf-8"),
        config=dict(_flat(config)),
        data=_read_mapping(run.data, DATA),
        steps=_read_lines(run.metrics, STEPS),
        summary=summary,
        audit=_read_mapping(run.audit, AUDIT),
        examples=[*((summary.get("demo") or {}).get("examples") or []), *asked],
        evaluations=_read_lines(run.heldout, EVALUATIONS),
    )


def _read_lines(path: Path, shape: TypeAdapter[Any]) -> list[dict[str, Any]]:
    """The last line of every step; none where the run has not written the file."""
    lines = read_metrics(path)
    if wrong := wrong_value(shape, lines):
        raise RunError(f"{path}: {wrong}; remove that line to see the others")
    return list({line["step"]: line for line in lines}.values())


def _read_mapping(path: Path, shape: TypeAdapter[Any]) -> dict[str, Any]:
    """The object in a JSON file; {} where the run has not written the file yet."""
    if not path.is_file():
        return {}
    found: dict[str, Any] = read_json(path)
    if wrong := wrong_value(shape, found):
        raise RunError(f"{path}: {wrong}; the file is damaged: restore it, or run it again")
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
