"""Cells that no spreadsheet computes."""

import pytest

from thumbs.feedback.spreadsheet import cell, text_of

RISKY = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]
TEXTS = [*RISKY, "", "plain", "'", "'tis", "''", "'=1", "1=1", "é=", "\n=1", " =1"]


@pytest.mark.parametrize("text", RISKY)
def test_what_would_be_computed_is_marked_as_text(text: str) -> None:
    assert cell(text) == "'" + text


@pytest.mark.parametrize("text", TEXTS)
def test_a_cell_reads_back_as_its_text(text: str) -> None:
    assert text_of(cell(text)) == text


def test_a_plain_text_stays_as_it_is() -> None:
    assert cell("Is 1 = 1?") == "Is 1 = 1?"
