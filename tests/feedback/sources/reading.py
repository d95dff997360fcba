"""What the tests of the importers share: records as a tool's reader should give them, and reading.

Each test makes a `Reading` of its tool's name and reader, and names what it needs of it.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback, with_defaults


@dataclass(frozen=True)
class Reading:
    """Of one tool: `source` is its name in records, `read` its reader."""

    source: str
    read: Callable[..., Iterator[Feedback]]

    def record(
        self, prompt: object, answer: str, label: bool, score: str = "", **more: Any
    ) -> Feedback:
        """prompt: the user's text, or a list of the user's texts, (role, text) and messages."""
        turns = [prompt] if isinstance(prompt, str) else prompt
        assert isinstance(turns, list)
        given = {"source": self.source, "score": score, **more}
        said = [{"role": "assistant", "content": answer}]
        return with_defaults(Feedback([_message(turn) for turn in turns], said, label, **given))

    def read_all(self, *paths: Path, tally: Tally | None = None, **options: Any) -> list[Feedback]:
        return list(self.read(paths, tally or Tally(), options=ImportOptions(**options)))

    def rows(
        self, tmp_path: Path, *entries: Any, tally: Tally | None = None, **options: Any
    ) -> list[Feedback]:
        """The records of a file f.jsonl with these entries."""
        (tmp_path / "f.jsonl").write_text("\n".join(map(json.dumps, entries)))
        return self.read_all(tmp_path / "f.jsonl", tally=tally, **options)

    def refusal(self, tmp_path: Path, *entries: Any, **options: Any) -> str:
        """What `rows` says of entries it refuses, without the name of the file."""
        with pytest.raises(FeedbackError) as caught:
            self.rows(tmp_path, *entries, **options)
        return str(caught.value).removeprefix(f"{tmp_path}/f.jsonl")


def _message(turn: Any) -> dict[str, Any]:
    if isinstance(turn, dict):
        return turn
    role, text = turn if isinstance(turn, tuple) else ("user", turn)
    return {"role": role, "content": text}
