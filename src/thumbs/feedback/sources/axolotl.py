"""KTO rows of axolotl's strategies that are no rows of TRL's.

In: {"completion", "label"} with the prompt as "instruction" (chatml.argilla), as "question"
(chatml.intel), as "prompt" beside "system" (chatml.prompt_pairs, chatml.ultra), or as the messages
that a list of the completion begins with (chatml.argilla_chat). Out: a record per row, in messages:
axolotl writes ChatML's or Llama 3's markers around such rows itself. Sources: axolotl,
src/axolotl/prompt_strategies/kto/chatml.py and llama3.py. Rows of its user_defined strategy have
columns of any name: name them with --map.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import EMPTY_SIDES, Tally, empty_side
from thumbs.feedback.entries import read_entries
from thumbs.feedback.messages import (
    ANSWER_FAULTS,
    fault_of_answer,
    plain_messages,
    require_bool,
    split_at_answer,
)
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback, Message, keys_found, parse_record

NAME = "axolotl"
READS = "completion and label with instruction, question, or prompt and system; whole chats"
UNJUDGED = "entry without a judgement"
DROPS = (UNJUDGED, *EMPTY_SIDES, *ANSWER_FAULTS)

PROMPTS = ("instruction", "question", "prompt")
KEYS = (*PROMPTS, "system", "completion", "label", "rating")


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a row, and none of TRL's."""
    if not {"completion", "label"} <= entry.keys():
        return False
    if "prompt" not in entry:
        return "instruction" in entry or "question" in entry or _is_chat(entry["completion"])
    return isinstance(entry["prompt"], str) and ("system" in entry or _is_chat(entry["completion"]))


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, these rows are read one way
) -> Iterator[Feedback]:
    """A record per row; rows without a judgement or a usable answer are counted."""
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        tally.changed.update(f"key {key!r} is not used" for key in entry if key not in KEYS)
        if "label" not in entry:
            tally.dropped[UNJUDGED] += 1
            continue
        label = require_bool(entry, "label", place)
        prompt, completion = _sides(entry, place, tally)
        fault = empty_side(prompt, completion) or fault_of_answer(completion)
        if fault:
            tally.dropped[fault] += 1
            continue
        rating = entry.get("rating")
        score = str(rating) if isinstance(rating, int | float) else ""
        row = {"prompt": prompt, "completion": completion, "label": label, "score": score}
        yield parse_record({**row, "source": NAME}, place)


def _is_chat(completion: object) -> bool:
    """Whether a completion is a list of messages that begins before the answer."""
    first = completion[0] if isinstance(completion, list) and completion else None
    return isinstance(first, dict) and first.get("role") in ("user", "system")


def _sides(
    entry: Mapping[str, Any], place: str, tally: Tally
) -> tuple[list[Message], list[Message]]:
    completion = entry.get("completion")
    if isinstance(completion, list):
        messages = plain_messages(completion, f'{place}: "completion"', tally)
        if _is_chat(completion):
            prompt, answer = split_at_answer(messages)
            return _with_system(entry, prompt, place), answer
        return _prompt(entry, place), messages
    text = _text(completion, "completion", place)
    return _prompt(entry, place), [{"role": "assistant", "content": text}]


def _prompt(entry: Mapping[str, Any], place: str) -> list[Message]:
    key = next((key for key in PROMPTS if key in entry), "")
    if not key:
        raise FeedbackError(f"{place}: has no prompt; the keys found: {keys_found(entry)}.")
    words = _text(entry[key], key, place)
    return _with_system(entry, [{"role": "user", "content": words}], place)


def _with_system(entry: Mapping[str, Any], prompt: list[Message], place: str) -> list[Message]:
    system = _text(entry.get("system"), "system", place)
    return [{"role": "system", "content": system}, *prompt] if system.strip() else prompt


def _text(value: object, key: str, place: str) -> str:
    if not isinstance(value, str | None):
        raise FeedbackError(f'{place}: "{key}" must be text, but is {shown(value)}.')
    return value or ""
