"""Every export is one tool's."""

import inspect
import json
import re
from pathlib import Path

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.entries import first_entry
from thumbs.feedback.tools import (
    OTHER_NAMES,
    SOURCES,
    WITH_OWN_VOTES,
    WITH_SCORE_NAMES,
    find_source,
    sources_of,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"
FIRST_WORDS = {  # of the names of fixtures, where they are not the tool's
    "anthropic": "preference",
    "chatui": "chat-ui",
    "labelstudio": "label-studio",
    "llamafactory": "llama-factory",
    "openai": "openai-preference",
    "otel": "opentelemetry",
    "trl": "trl-unpaired",
}


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.*")), ids=lambda path: path.name)
def test_every_fixture_of_a_known_format_is_exactly_one_source(path: Path) -> None:
    word = re.split(r"[_.]", path.name)[0]
    expected = FIRST_WORDS.get(word, word)
    assert [source.NAME for source in sources_of(first_entry(path))] == [expected]


def test_a_file_that_could_be_of_two_tools_needs_its_tool_named(tmp_path: Path) -> None:
    row = {"messages": [], "label": True, "chosen": "a", "rejected": "b"}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(FeedbackError) as caught:
        find_source(path)
    assert str(caught.value) == (
        f"{path}: could be an export of each of llama-factory, preference; its first entry's keys: "
        "'messages', 'label', 'chosen', 'rejected'. Name one with --from."
    )
    assert find_source(path, "preference") is SOURCES["preference"]


def test_a_tool_with_the_rows_of_another_may_be_named_too() -> None:
    assert find_source(Path("a.jsonl"), "ms-swift") is SOURCES["llama-factory"]
    assert set(OTHER_NAMES.values()) <= set(SOURCES)
    assert not set(OTHER_NAMES) & set(SOURCES)


def test_votes_of_ones_own_are_of_the_sources_that_judge_them() -> None:
    annotated = {"argilla", "label-studio"}  # which judge in annotated.py
    for name, source in SOURCES.items():
        code = inspect.getsource(inspect.getmodule(source.read) or source.read)
        judges = "Judge(" in code or name in annotated
        assert (name in WITH_OWN_VOTES) == judges
        assert (name in WITH_SCORE_NAMES) == ("options.score_name" in code or name in annotated)
