"""The file of disbelieved rows: records with what the run thinks, safe to open and to read back."""

import csv
from pathlib import Path

import orjson
import pytest

from thumbs.errors import OutputError
from thumbs.evaluate.audit import Finding
from thumbs.evaluate.audit_file import COLUMNS, Suspect, transcript, write_suspects
from thumbs.feedback.exclusion import excluded_ids
from thumbs.feedback.file import read_feedback
from thumbs.feedback.record import Feedback

SUSPECTS = [
    Suspect(
        Feedback(
            prompt=[{"role": "user", "content": "=HYPERLINK(1)"}],
            completion=[{"role": "assistant", "content": "line one\nline, two"}],
            label=True,
            id="=2+5",
            conversation="c",
            rater="@ann",
        ),
        Finding(True, -1.5, -1.25, 0.5, True),
        "training",
    ),
    Suspect(
        Feedback(
            prompt=[{"role": "user", "content": "-1?"}, {"role": "assistant", "content": "No."}],
            completion=[{"role": "assistant", "content": "é"}],
            label=False,
            id="b",
            conversation="d",
        ),
        Finding(False, 0.75, -0.5, 1.0, True),
        "held-out",
    ),
]


def test_the_lines_are_a_feedback_file_with_what_the_run_thinks(tmp_path: Path) -> None:
    out = tmp_path / "out" / "suspects.jsonl"
    write_suspects(out, SUSPECTS)
    assert list(read_feedback(out)) == [suspect.record for suspect in SUSPECTS]
    first = orjson.loads(out.read_bytes().splitlines()[0])
    assert list(first)[:6] == ["id", "label", "reward", "margin", "gradient_weight", "split"]
    assert (first["reward"], first["margin"], first["gradient_weight"]) == (-1.5, -1.25, 0.5)
    assert "tools" not in first  # none of the records has any
    assert excluded_ids(out) == {"=2+5", "b"}


def test_the_table_computes_nothing_and_keeps_every_text(tmp_path: Path) -> None:
    out = tmp_path / "suspects.CSV"
    write_suspects(out, SUSPECTS)
    with out.open(encoding="utf-8-sig", newline="") as file:
        first, second = csv.DictReader(file)
    assert tuple(first) == COLUMNS
    assert first["id"] == "'=2+5"
    assert first["prompt"] == "'=HYPERLINK(1)"
    assert first["rater"] == "'@ann"
    assert (first["label"], second["label"]) == ("true", "false")
    assert first["reward"] == "-1.5"  # a number is no formula
    assert first["completion"] == "line one\nline, two"
    assert second["prompt"] == "user: -1?\n\nassistant: No."
    assert second["completion"] == "é"
    assert excluded_ids(out) == {"=2+5", "b"}


@pytest.mark.parametrize("name", ["suspects.jsonl", "suspects.csv"])
def test_no_suspect_is_a_file_that_excludes_nothing(tmp_path: Path, name: str) -> None:
    write_suspects(tmp_path / name, [])
    assert excluded_ids(tmp_path / name) == set()


@pytest.mark.parametrize("name", ["suspects", "suspects.json", "suspects.jsonl.gz"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"must end in \.jsonl or \.csv; try "):
        write_suspects(tmp_path / name, SUSPECTS)
    assert list(tmp_path.iterdir()) == []


def test_text_and_a_single_message_stand_alone_in_a_transcript() -> None:
    assert transcript("plain") == "plain"
    assert transcript([{"role": "user", "content": "Hi"}]) == "Hi"
