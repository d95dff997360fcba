"""OpenAI's preference fine-tuning file: two answers to one input, one of them preferred.

In: {"input": {"messages", "tools", "parallel_tool_calls"}, "preferred_output",
"non_preferred_output"} per line. Out: two records per line with one prompt.
Source: developers.openai.com/api/docs/guides/direct-preference-optimization.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.messages import plain_messages, tools_text
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.pairs import PAIR_DROPS, Pair, pair_records
from thumbs.feedback.record import Feedback

NAME = "openai-preference"
READS = "preference fine-tuning file: input, preferred_output, non_preferred_output"
UNJUDGED = "entry without a judgement"
DROPS = (UNJUDGED, *PAIR_DROPS)

ANSWERS = ("preferred_output", "non_preferred_output")
KEYS = ("input", *ANSWERS)
INPUT_KEYS = ("messages", "tools")


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a line of this file."""
    return set(KEYS) <= entry.keys()


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, pairs are read one way
) -> Iterator[Feedback]:
    """Two records per line; lines with one answer only hold no judgement, and are counted."""
    for path in paths:
        for place, entry in read_entries(path):
            given = _input_of(entry, place)
            unused = [key for key in entry if key not in KEYS]
            unused += [f"input.{key}" for key in given if key not in INPUT_KEYS]
            tally.changed.update(f"key {key!r} is not used" for key in unused)
            if not entry.keys() >= set(ANSWERS):
                tally.dropped[UNJUDGED] += 1
                continue
            prompt = plain_messages(given.get("messages"), f'{place}: "input.messages"', tally)
            preferred, other = (
                plain_messages(entry[key] or [], f'{place}: "{key}"', tally) for key in ANSWERS
            )
            tools = tools_text(given.get("tools"), f'{place}: "input"')
            pair = Pair(prompt, preferred, other, tools=tools)
            yield from pair_records(pair, place, tally, source=NAME)


def _input_of(entry: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    given = entry.get("input")
    if not isinstance(given, dict):
        allowed = 'must be {"messages": [...]}'
        raise FeedbackError(f'{place}: "input" {allowed}, but is {shown(given)}.')
    return given
