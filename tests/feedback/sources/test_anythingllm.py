"""AnythingLLM: attachments."""

from pathlib import Path

from tests.feedback.sources.reading import Reading

from thumbs.feedback.clean import Tally
from thumbs.feedback.sources.anythingllm import ATTACHMENT, read


def test_attachments_are_left_out_and_counted(tmp_path: Path) -> None:
    tally = Tally()
    row = {"id": 1, "workspace": "w", "username": "ann", "prompt": "2+2?", "response": "4"}
    row |= {"rating": "GOOD", "sent_at": "", "attachments": [{"name": "a.png"}, {"name": "b.png"}]}
    [record] = Reading("anythingllm", read).rows(tmp_path, row)
    assert record.label is True
    assert Reading("anythingllm", read).read_all(tmp_path / "f.jsonl", tally=tally) == [record]
    assert tally.changed[ATTACHMENT] == 2
