"""TRL's unpaired preference rows, and our own feedback files, which are a superset of them.

In: {"prompt", "completion", "label"} as strings or messages, plus any key of `Feedback`; in a table
of text, where nothing but text can stand, a label may be True or 1.
Out: records. Source: TRL docs/source/dataset_formats.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import EMPTY_SIDES, Tally, empty_side
from thumbs.feedback.entries import is_text_table, read_entries
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback, parse_record
from thumbs.feedback.sources import axolotl

NAME = "trl-unpaired"
READS = "prompt, completion, label; any key of a feedback file"
WITHOUT_VOTE = "row without a vote"
DROPS = (*EMPTY_SIDES, WITHOUT_VOTE)

# What tables write for a boolean, and for none.
LABEL_CELLS = {
    **dict.fromkeys(("true", "1", "1.0"), True),
    **dict.fromkeys(("false", "0", "0.0"), False),
    **dict.fromkeys(("", "nan", "none", "null"), None),
}


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
        of_table = is_text_table(path)
        for place, entry in read_entries(path):
            if entry.keys() >= {"prompt", "completion"}:
                emptiness = empty_side(entry["prompt"], entry["completion"])
                if emptiness:
                    tally.dropped[emptiness] += 1
                    continue
            row = _from_cells(entry, place) if of_table else _with_our_names(entry)
            if of_table and row["label"] is None:
                tally.dropped[WITHOUT_VOTE] += 1
                continue
            if not row.get("source"):
                row = {**row, "source": NAME}
            yield parse_record(row, place, advice=advice, notes=tally.changed)


def _from_cells(entry: dict[str, Any], place: str) -> dict[str, Any]:
    """The row of a table of text, its label and weight no longer text."""
    cell = str(entry.get("label")).strip().lower()
    if cell not in LABEL_CELLS:
        finding = f'"label" must be true or false (or 1 or 0), but is {shown(entry.get("label"))}'
        advice = "For other words: --map prompt=prompt --map completion=completion"
        raise FeedbackError(f"{place}: {finding}. {advice} --map label=label --up WORD --down WORD")
    row = {**entry, "label": LABEL_CELLS[cell]}
    weight = entry.get("weight")
    if isinstance(weight, str):
        row.pop("weight")
        try:
            row |= {"weight": float(weight)} if weight.strip() else {}
        except ValueError:
            row["weight"] = weight  # for the strict check to refuse
    return row


def _with_our_names(entry: dict[str, Any]) -> dict[str, Any]:
    if "chat_template_kwargs" not in entry:
        return entry
    rest = {key: value for key, value in entry.items() if key != "chat_template_kwargs"}
    return {**rest, "template_kwargs": entry["chat_template_kwargs"]}
