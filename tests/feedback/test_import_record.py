"""What an import counted, kept beside the feedback file that it wrote."""

import shutil
from pathlib import Path

import pytest

from thumbs.feedback.import_record import import_record_of, read_import_record
from thumbs.feedback.importing import import_feedback
from thumbs.files import sha256_file

FIXTURES = Path(__file__).parents[1] / "fixtures"
OPENWEBUI = FIXTURES / "openwebui_feedback-history-export.json"
HH = FIXTURES / "anthropic_hh.jsonl"


def test_an_import_leaves_its_counts_beside_the_feedback_file(tmp_path: Path) -> None:
    out = tmp_path / "feedback.jsonl"
    result = import_feedback([OPENWEBUI], out)
    found = read_import_record(out, sha256_file(out))
    assert found is not None
    assert (found["source"], found["dropped"]) == ("openwebui", result.dropped)
    assert found["records"] == 4


@pytest.mark.parametrize("spoil", ["feedback", "record", "nothing there", "a list"])
def test_counts_of_another_content_are_no_counts(tmp_path: Path, spoil: str) -> None:
    out = tmp_path / "feedback.jsonl"
    import_feedback([OPENWEBUI], out)
    if spoil == "feedback":
        lines = out.read_text().splitlines(keepends=True)
        out.write_text("".join(lines[1:]))
    elif spoil == "record":
        import_record_of(out).write_text("{")
    elif spoil == "a list":
        import_record_of(out).write_text("[]")
    else:
        import_record_of(out).unlink()
    assert read_import_record(out, sha256_file(out)) is None


def test_a_folder_of_exports_is_read_without_the_records_of_earlier_imports(tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    exports.mkdir()
    shutil.copyfile(HH, exports / "hh.jsonl")
    import_feedback([HH], exports / "earlier.jsonl")
    (exports / "earlier.jsonl").unlink()
    result = import_feedback([exports], tmp_path / "f.jsonl")
    assert (result.records, result.skipped) == (2, {"record of an import": 1})
