"""Nesting is counted outside of strings, however the bytes are cut."""

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbs.errors import FeedbackError
from thumbs.feedback.entries import read_entries
from thumbs.feedback.nesting import MOST_NESTED, Nesting, TooDeep

TEXTS = st.text(alphabet='a"\\[]{}é', max_size=8)
VALUES = st.recursive(
    TEXTS | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)


def read_in_pieces(content: bytes, size: int) -> bytes:
    file = Nesting(io.BytesIO(content))
    return b"".join(iter(lambda: file.read(size), b""))


def deep(depth: int) -> bytes:
    return b'[{"a": ' * (depth // 2) + b"1" + b"}]" * (depth // 2)


@given(VALUES, st.integers(1, 9))
def test_what_a_string_holds_is_no_nesting(value: Any, size: int) -> None:
    content = json.dumps(value, ensure_ascii=False).encode()
    inside = b'[{"a": ' * (MOST_NESTED // 2)  # as deep as may be, and still open
    assert read_in_pieces((b"[" + content + b"]") * 3, size) == (b"[" + content + b"]") * 3
    if isinstance(value, list | dict):
        with pytest.raises(TooDeep):
            read_in_pieces(inside + content, size)
    else:
        assert read_in_pieces(inside + content, size) == inside + content


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_the_limit_is_met_to_the_bracket(size: int) -> None:
    assert read_in_pieces(deep(MOST_NESTED) * 3, size) == deep(MOST_NESTED) * 3
    with pytest.raises(TooDeep, match="nested more than 1,000 deep"):
        read_in_pieces(deep(MOST_NESTED + 2), size)


def test_a_list_nested_without_end_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_bytes(b'[{"x": 1}, ' + deep(200_000) + b"]")
    tracemalloc.start()
    try:
        with pytest.raises(FeedbackError, match=r"after record [01]: nested more than 1,000 deep"):
            list(read_entries(path))
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
