"""Exports that were broken at random: each is refused in one line, or gives what is left of it."""

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thumbs.errors import FeedbackError
from thumbs.feedback.entries import read_entries
from thumbs.feedback.file import read_feedback
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.sqlite import is_sqlite
from thumbs.feedback.tools import SOURCES, sources_of

FIXTURES = Path(__file__).parents[2] / "fixtures"
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "assistant", "user", "1", "yes", "\ud7ff", "x" * 300, "[1", '{"a": 1}'])
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "id", "messages", "value"]), inner)
    ),
    max_leaves=6,
)


def entries_of(tool: str) -> list[dict[str, Any]]:
    """Every entry of the tool's exports among the fixtures that is JSON or a table."""
    found = []
    for path in sorted(FIXTURES.rglob("*")):
        if path.is_dir() or path.suffix == ".jinja" or path.suffix == ".md" or is_sqlite(path):
            continue
        try:
            entries = [entry for _, entry in read_entries(path)]
        except FeedbackError:
            continue
        if entries and SOURCES[tool] in sources_of(entries[0]):
            found += entries
    return found


EXPORTS = {tool: entries_of(tool) for tool in SOURCES if tool not in ("generic", "chainlit")}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a value."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        for key in keys:
            found.append((inner, key))
            if isinstance(inner[key], dict | list):
                waiting.append(inner[key])
    return found


@st.composite
def broken(draw: st.DrawFn, entries: list[dict[str, Any]]) -> list[Any]:
    changed = copy.deepcopy(draw(st.lists(st.sampled_from(entries), min_size=1, max_size=4)))
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(places(changed)))
        change = draw(st.sampled_from(["drop", "replace", "repeat"]))
        if change == "replace":
            container[key] = draw(VALUES)
        elif change == "drop" and len(changed) > 1:
            del container[key]
        elif isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        if not changed:
            changed = [{}]
    return changed


@pytest.mark.parametrize("tool", EXPORTS)
def test_a_broken_export_is_refused_in_a_line_or_read(tool: str) -> None:
    assert EXPORTS[tool], "no export to break"

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(broken(EXPORTS[tool]))
    def check(entries: list[Any]) -> None:
        with tempfile.TemporaryDirectory() as name:
            source, out = Path(name) / "export.json", Path(name) / "f.jsonl"
            source.write_text(json.dumps(entries))
            options = ImportOptions(threshold="mean" if tool == "ultrafeedback" else "")
            try:
                result = import_feedback([source], out, tool=tool, options=options)
            except FeedbackError as error:
                told = str(error)
            else:
                told = ""
                assert len(list(read_feedback(out))) == result.records
            assert "\n" not in told
            written = {"f.jsonl", "f.jsonl.import.json"} if not told else set()
            assert {path.name for path in Path(name).iterdir()} == {"export.json"} | written

    check()


ROW = {"prompt": "a", "completion": "b", "label": True}
DEEP = '{"a":' * 10_000 + "1" + "}" * 10_000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (DEEP.encode(), "not JSON"),
        (f"[{DEEP}]".encode(), "no known tool|nested (?:too deeply|more than)|not JSON"),
        (b'{"prompt": "a", "completion": "b", "label": NaN}', "not JSON"),
        (b'[{"prompt": "a", "completion": "b", "label": NaN}]', "not JSON"),
        (b'[{"prompt": "a", "completion": "b", "label": true}', "not JSON"),
        (b'{"prompt": "a", "completion": "\\ud800", "label": true}', "not JSON"),
        (json.dumps(ROW).encode("utf-16"), "not UTF-8|not JSON|no known"),
        (b"\x00" * 1000, "not JSON|not UTF-8"),
        (json.dumps({**ROW, "weight": 1}).replace("1}", "1e999}").encode(), "not JSON|finite"),
        (b'{"prompt": "a", "completion": "b", "label": 1' + b"0" * 5000 + b"}", "label|not JSON"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_no_export_should_hold(tmp_path: Path, content: bytes, words: str) -> None:
    source = tmp_path / "export.json"
    source.write_bytes(content)
    with pytest.raises(FeedbackError, match=words) as caught:
        import_feedback([source], tmp_path / "f.jsonl")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "f.jsonl").exists()


def test_of_equal_keys_the_last_counts_in_lines_and_in_lists(tmp_path: Path) -> None:
    row = '{"prompt": "a", "completion": "b", "completion": "c", "label": true}'
    for name, content in (("a.jsonl", row), ("b.json", f"[{row}]")):
        (tmp_path / name).write_text(content)
        import_feedback([tmp_path / name], tmp_path / "f.jsonl")
        assert [record.completion for record in read_feedback(tmp_path / "f.jsonl")] == ["c"]


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thumbs.feedback.entries.LONGEST_LINE", 10_000)
    source = tmp_path / "export.jsonl"
    source.write_text(json.dumps(ROW) + "\n" + json.dumps({**ROW, "comment": "x" * 20_000}))
    with pytest.raises(FeedbackError, match=r"export\.jsonl:2: a line of more than 10,000 bytes"):
        import_feedback([source], tmp_path / "f.jsonl")
    assert not (tmp_path / "f.jsonl").exists()
