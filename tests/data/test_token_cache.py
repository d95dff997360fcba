"""Rows from the cache are the rows that were stored, or absent."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from thumbs.data.token_cache import read_tokens, tokens_key, write_tokens
from thumbs.data.tokenizing import TokenizedRows, tokenize_with, tokenizing_setting
from thumbs.data.tokens import Setting
from thumbs.feedback.record import Feedback
from thumbs.models.tiny import train_bpe

BYTES = train_bpe([], 261, chat_template="chatml")
DATED = train_bpe([], 261, chat_template="{{ strftime_now('%d') }}")


def setting(tokenizer: Any = BYTES, day: int = 1, **changes: Any) -> Setting:
    options: dict[str, Any] = {"max_tokens": 20, "min_completion_tokens": 1, "keep_cut": True}
    return tokenizing_setting(
        tokenizer, **{**options, "chat_template": None, "today": date(2026, 1, day), **changes}
    )


def some_rows() -> TokenizedRows:
    return tokenize_with(
        [
            Feedback("a", "b", label=True, id="ä"),
            Feedback("c" * 9, "d" * 30, label=False, weight=0.5),
            Feedback("e", " ", label=False),
        ],
        setting(),
    )


def stored(cache: Path) -> Path:
    write_tokens("key", some_rows(), 7)
    [file] = cache.rglob("*.safetensors")
    return file


def test_rows_and_counts_come_back_as_they_were(thumbs_cache: Path) -> None:
    stored(thumbs_cache)
    known = read_tokens("key")
    assert known is not None
    ours, excluded = known
    rows = some_rows()
    assert list(ours.rows) == list(rows.rows)
    assert (ours.counts, ours.drops, ours.refusals) == (rows.counts, rows.drops, rows.refusals)
    assert ours.counts["completion_cut"] == 1
    assert excluded == 7
    assert read_tokens("another key") is None


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_file_is_absent_with_a_line(
    thumbs_cache: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    file = stored(thumbs_cache)
    content = file.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    file.write_bytes({"flipped": flipped, "cut": content[:-5], "empty": b""}[damage])
    assert read_tokens("key") is None
    assert "is damaged; the records are tokenised again" in capsys.readouterr().err


def test_whatever_changes_rows_changes_their_key() -> None:
    other = train_bpe([], 261, chat_template="zephyr")
    merged = train_bpe(["bc bc"], 262, chat_template="chatml")
    keys = [
        tokens_key("file", set(), setting()),
        tokens_key("other file", set(), setting()),
        tokens_key("file", {"id"}, setting()),
        tokens_key("file", set(), setting(max_tokens=21)),
        tokens_key("file", set(), setting(min_completion_tokens=2)),
        tokens_key("file", set(), setting(keep_cut=False)),
        tokens_key("file", set(), setting(chat_template="llama3")),
        tokens_key("file", set(), replace(setting(), bos_ids=(1,))),
        *(tokens_key("file", set(), setting(tokenizer)) for tokenizer in (other, merged)),
        *(tokens_key("file", set(), setting(DATED, day)) for day in (1, 2)),
    ]
    assert len(set(keys)) == len(keys)
    # A template that prints no date gives the same rows tomorrow.
    assert tokens_key("file", set(), setting(day=2)) == keys[0]
