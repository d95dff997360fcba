"""What fuzzing has kept is imported, or refused in one line, and leaves nothing behind."""

from pathlib import Path

import pytest
from benchmarks.fuzz_import import kept_inputs, suffixed

from thumbs.errors import FeedbackError
from thumbs.feedback.import_record import import_record_of
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.tools import SOURCES


@pytest.mark.parametrize("tool", sorted(SOURCES))
def test_kept_inputs_end_in_a_file_or_in_one_line(tmp_path: Path, tool: str) -> None:
    inputs = kept_inputs(tool)
    assert inputs
    mapping = {"prompt": "prompt", "completion": "response", "label": "rating"}
    options = ImportOptions(mapping=mapping if tool == "generic" else {})
    out = tmp_path / "feedback.jsonl"
    refused: list[str] = []
    for content in inputs:
        source = tmp_path / suffixed(content)
        source.write_bytes(content)
        try:
            assert import_feedback([source], out, tool=tool, options=options).records > 0
            assert out.exists()
        except FeedbackError as error:
            refused.append(str(error))
            assert not out.exists()
        out.unlink(missing_ok=True)
        import_record_of(out).unlink(missing_ok=True)
        source.unlink()
        assert list(tmp_path.iterdir()) == []
    assert not [text for text in refused if "\n" in text]
