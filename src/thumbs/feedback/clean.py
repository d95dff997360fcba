"""What holds for the records of every source: no machine blocks, no empty answers, no repeats.

In: records as a source read them. Out: the records to keep, in the same order, and a tally of what
was dropped or changed and why. Knows no tool and no file.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from thumbs.feedback.record import Feedback, Text, content_id, is_blank

# What a model thought or did between the lines, as chat interfaces store it inside the answer.
BLOCKS = {
    "reasoning block stripped": re.compile(
        r'<details\b[^>]*\btype="reasoning"[^>]*>.*?</details>', re.DOTALL | re.IGNORECASE
    ),
    "tool-call block stripped": re.compile(
        r'<details\b[^>]*\btype="tool_calls"[^>]*>.*?</details>', re.DOTALL | re.IGNORECASE
    ),
    "think block stripped": re.compile(r"<think>.*?</think>", re.DOTALL),
    "unfinished reasoning stripped": re.compile(
        r'\A\s*(?:<think>|<details\b[^>]*\btype="(?:reasoning|tool_calls)").*', re.DOTALL
    ),
}
EMPTY_ANSWER, EMPTY_PROMPT = "empty answer", "empty prompt"
EMPTY_SIDES = (EMPTY_ANSWER, EMPTY_PROMPT)
REPEATED = "repeated record"
CLEAN_DROPS = (*EMPTY_SIDES, REPEATED)  # what this module leaves out, whatever the source


@dataclass
class Tally:
    """What an import left out and altered, by reason.

    dropped: records (or votes) that are not in the result.
    changed: records that are, but not word for word; columns without use; assumptions made.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)


def clean(records: Iterable[Feedback], tally: Tally) -> Iterator[Feedback]:
    """The records without machine blocks, leaving out empty ones and exact repeats.

    A repeat has the prompt, completion, label and rater of an earlier record.
    """
    seen: set[int] = set()
    for record in records:
        record = strip_blocks(record, tally.changed)
        emptiness = empty_side(record.prompt, record.completion)
        if emptiness:
            tally.dropped[emptiness] += 1
            continue
        key = int(content_id(record), 16)  # a number takes half the memory of its text
        if key in seen:
            tally.dropped[REPEATED] += 1
            continue
        seen.add(key)
        yield record


def empty_side(prompt: object, completion: object) -> str:
    """The reason to drop a record whose prompt or completion, checked or not, is blank; else "".

    An answer that called tools and then said nothing is empty too.
    """
    last_words = completion[-1:] if isinstance(completion, list) else completion
    if is_blank(completion) or is_blank(last_words):
        return EMPTY_ANSWER
    return EMPTY_PROMPT if is_blank(prompt) else ""


def strip_blocks(record: Feedback, changed: Counter[str]) -> Feedback:
    """The record, its answers (the judged one and the earlier ones) without machine blocks."""
    completion = _strip_side(record.completion, changed)
    prompt = (
        record.prompt if isinstance(record.prompt, str) else _strip_side(record.prompt, changed)
    )
    if completion == record.completion and prompt == record.prompt:
        return record
    own_id = "" if record.id == content_id(record) else record.id
    return replace(record, prompt=prompt, completion=completion, id=own_id)


def strip_text(text: str, changed: Counter[str] | None = None) -> str:
    """An answer without its machine blocks, each counted by kind; else the text as it is."""
    if "<" not in text:
        return text
    kept = text
    for name, pattern in BLOCKS.items():
        kept, count = pattern.subn("", kept)
        if count and changed is not None:
            changed[name] += count
    return text if kept == text else kept.strip()


def _strip_side(side: Text, changed: Counter[str]) -> Text:
    if isinstance(side, str):
        return strip_text(side, changed)
    return [
        {**message, "content": strip_text(message["content"], changed)}
        if message["role"] == "assistant"
        else message
        for message in side
    ]
