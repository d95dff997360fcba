"""Prompts that also stand in a held-out or benchmark file.

In: such files: feedback files, rows with a question, MMLU's tables, BBH's examples, or folders of
these. Out: whether a record's prompt is one of theirs. Two prompts are one where their words are
the same whatever their case, spaces and punctuation, or where they share 13 words in a row, as the
filters of GPT-3 (arXiv 2005.14165, appendix C) and lm-evaluation-harness have it.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError
from thumbs.feedback.entries import holds_entries, read_entries
from thumbs.feedback.packed import open_bytes
from thumbs.feedback.record import Feedback
from thumbs.progress import console

WORDS_IN_A_ROW = 13
QUESTIONS = ("prompt", "question", "input", "instruction", "text", "query")
WORD = re.compile(r"\w+")


class HeldOut:
    """The prompts of files, as hashes of their words and of every 13 of them in a row."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._names = [f"prompt that occurs in {path.name}" for path in paths]
        self._whole: dict[int, int] = {}  # hash -> number of its file
        self._parts: dict[int, int] = {}
        for number, path in enumerate(paths):
            for text in _texts(path):
                words = WORD.findall(text.casefold())
                if words:
                    self._whole.setdefault(_hash(words), number)
                for part in _parts(words):
                    self._parts.setdefault(part, number)
            if number not in self._whole.values():
                raise FeedbackError(f"--decontaminate: {path}: no prompts were found in it.")

    def reason(self, record: Feedback) -> str:
        """Which file has the record's prompt, as a reason to leave it out, or ""."""
        for text in _asked(record):
            words = WORD.findall(text.casefold())
            found = self._whole.get(_hash(words)) if words else None
            if found is None:
                hits = (self._parts[part] for part in _parts(words) if part in self._parts)
                found = next(hits, None)
            if found is not None:
                return self._names[found]
        return ""


def _asked(record: Feedback) -> Iterator[str]:
    if isinstance(record.prompt, str):
        yield record.prompt
        return
    for message in record.prompt:
        if message["role"] == "user":
            yield message["content"]


def _parts(words: Sequence[str]) -> Iterator[int]:
    for start in range(len(words) - WORDS_IN_A_ROW + 1):
        yield _hash(words[start : start + WORDS_IN_A_ROW])


def _hash(words: Sequence[str]) -> int:
    return int.from_bytes(blake2b(" ".join(words).encode(), digest_size=8).digest(), "little")


def _texts(path: Path) -> Iterator[str]:
    """Every prompt of a file, or of the files in a folder."""
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            is_table = inner.suffix.lower() in (".csv", ".tsv")
            if inner.is_file() and (is_table or holds_entries(inner)):
                found = False
                for text in _texts(inner):
                    found = True
                    yield text
                if not found:
                    console.print(
                        f"--decontaminate: {inner}: no prompts were found in it; passed over",
                        markup=False,
                        soft_wrap=True,
                    )
    elif path.suffix.lower() == ".csv":
        yield from _table_texts(path)
    else:
        for _, entry in read_entries(path):
            yield from _entry_texts(entry)


def _entry_texts(entry: Any) -> Iterator[str]:
    if isinstance(entry.get("examples"), list):  # BBH
        for example in entry["examples"]:
            if isinstance(example, dict):
                yield from _entry_texts(example)
        return
    for key in QUESTIONS:
        value = entry.get(key)
        if isinstance(value, str):
            yield value
            return
        if isinstance(value, list):
            texts = (m.get("content") for m in value if isinstance(m, dict))
            yield from (text for text in texts if isinstance(text, str))
            return


def _table_texts(path: Path) -> Iterator[str]:
    """The column of questions, or the first one of a table without a header (MMLU)."""
    with open_bytes(path) as file:
        rows = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
        try:
            header = next(rows, [])
            names = [name.strip().lower() for name in header]
            column = next((names.index(key) for key in QUESTIONS if key in names), None)
            if column is None and header:
                yield header[0]
            for row in rows:
                if len(row) > (column or 0):
                    yield row[column or 0]
        except (csv.Error, UnicodeDecodeError) as error:
            raise FeedbackError(f"{path}: not a readable table: {error}.") from None
