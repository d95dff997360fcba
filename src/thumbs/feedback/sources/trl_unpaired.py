"""TRL's unpaired preference rows, and our own feedback files, which are a superset of them.

In: {"prompt", "completion", "label"} as strings or messages, plus any key of `Feedback`.
Out: records. Source: TRL docs/source/dataset_formats.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thumbs.feedback.clean import EMPTY_SIDES, Tally, empty_side
from thumbs.feedback.entries import read_entries
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback, parse_record
from thumbs.feedback.sources import axolotl

NAME = "trl-unpaired"
READS = "prompt, completion, label; any key of a feedback file"
DROPS = EMPTY_SIDES


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is an unpaired row."""
    return {"prompt", "completion", "label"} <= entry.keys() and not axolotl.detect(entry)


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, these rows are read one way
) -> Iterator[Feedback]:
    """A record per row; empty ones are counted, malformed ones are an error."""
    advice = "A row needs a prompt, a completion, and a label that is true or false without quotes."
    for path in paths:
        for place, entry in read_entries(path):
            if entry.keys() >= {"prompt", "completion"}:
                emptiness = empty_side(entry["prompt"], entry["completion"])
                if emptiness:
                    tally.dropped[emptiness] += 1
                    continue
            row = _with_our_names(entry)
            if not row.get("source"):
                row = {**row, "source": NAME}
            yield parse_record(row, place, advice=advice, notes=tally.changed)


def _with_our_names(entry: dict[str, Any]) -> dict[str, Any]:
    if "chat_template_kwargs" not in entry:
        return entry
    rest = {key: value for key, value in entry.items() if key != "chat_template_kwargs"}
    return {**rest, "template_kwargs": entry["chat_template_kwargs"]}
