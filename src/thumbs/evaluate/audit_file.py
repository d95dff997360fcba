"""Disbelieved rows as a file: feedback records with what the run thinks of them.

In: records and findings. Out: .jsonl, which is a feedback file too (its further keys are not read),
or .csv, to look at the labels in a spreadsheet. `data.exclude` takes either.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from thumbs.errors import OutputError
from thumbs.evaluate.audit import Finding
from thumbs.feedback.record import ABSENT_JSON, JSON_KEYS, KEYS, Feedback, Text
from thumbs.feedback.spreadsheet import cell
from thumbs.files import written_aside

SIDES = ("prompt", "completion")
TEXTS = ("id", "rater", "source", "model", "score", "comment", "time", "conversation")
LABELS = {True: "true", False: "false"}
# Of a table. The label first after the id, since it is what is to be judged.
COLUMNS = (
    *("id", "label", "reward", "margin", "gradient_weight", "split", "prompt", "completion"),
    *("rater", "source", "model", "score", "comment", "time", "conversation"),
)


@dataclass(frozen=True)
class Suspect:
    """A record, what the run thinks of it, and which part of the run it is of."""

    record: Feedback
    finding: Finding
    split: str

    def judged(self) -> dict[str, Any]:
        """What is not of the record."""
        found = self.finding
        return {
            "reward": found.reward,
            "margin": found.margin,
            "gradient_weight": found.gradient_weight,
            "split": self.split,
        }


def require_audit_name(path: Path) -> None:
    """Refuse a name whose ending says neither format.

    Raises:
        OutputError: it does not.
    """
    if path.suffix.lower() not in WRITERS:
        raise OutputError(
            f"--out {path}: the name must end in {' or '.join(WRITERS)}; try "
            f"{path.with_suffix('.jsonl')}."
        )


def write_suspects(path: Path, suspects: Sequence[Suspect]) -> None:
    """Write the file, whole or not at all.

    Raises:
        OutputError: it cannot be written, or its name has another ending.
    """
    require_audit_name(path)
    with written_aside(path) as aside:
        WRITERS[path.suffix.lower()](aside, suspects)


def transcript(side: Text) -> str:
    """A prompt or completion as text; a single message without its role."""
    if isinstance(side, str):
        return side
    if len(side) == 1:
        return str(side[0]["content"])
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in side)


def _write_lines(path: Path, suspects: Sequence[Suspect]) -> None:
    absent = {
        key for key in JSON_KEYS if all(getattr(s.record, key) == ABSENT_JSON for s in suspects)
    }
    with path.open("wb") as file:
        for suspect in suspects:
            record = {key: getattr(suspect.record, key) for key in KEYS if key not in absent}
            first = {key: record.pop(key) for key in ("id", "label")}
            file.write(orjson.dumps(first | suspect.judged() | record) + b"\n")


def _write_table(path: Path, suspects: Sequence[Suspect]) -> None:
    # The byte order mark tells spreadsheets that the file is UTF-8.
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for suspect in suspects:
            record = suspect.record
            texts = {key: cell(getattr(record, key)) for key in TEXTS}
            sides = {key: cell(transcript(getattr(record, key))) for key in SIDES}
            label = {"label": LABELS[record.label]}
            writer.writerow({**texts, **sides, **label, **suspect.judged()})


WRITERS: dict[str, Callable[[Path, Sequence[Suspect]], None]] = {
    ".jsonl": _write_lines,
    ".csv": _write_table,
}
