"""The pages under docs/ say what the code does today."""

import dataclasses
import re
import runpy
from pathlib import Path

from thumbs.feedback.record import Feedback

DOCS = Path(__file__).parents[1] / "docs"


def test_configuration_page_is_the_one_the_models_give() -> None:
    page = runpy.run_path(str(DOCS / "write_configuration.py"))["configuration_page"]()
    # Otherwise: python docs/write_configuration.py
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == page


def test_every_key_of_a_record_is_described_in_its_order() -> None:
    text = (DOCS / "feedback-format.md").read_text(encoding="utf-8")
    keys = [field.name for field in dataclasses.fields(Feedback)]
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == keys
