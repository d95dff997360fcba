"""KTO rows of LLaMA-Factory in every shape it reads, and of ms-swift, whose rows are one of them.

In: {"conversations": [{"from", "value"}]} or {"messages": [{"role", "content"}]} with "kto_tag" or
"label", and the Alpaca columns {"instruction", "input", "output", "history"} with "kto_tag"; maybe
"system" and "tools". Out: a record per row; the answer is all that follows the user's last message.
Sources: LLaMA-Factory data/README.md and src/llamafactory/data/converter.py; ms-swift
docs/source_en/Customization/Custom-dataset.md and Instruction/Agent-support.md.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import EMPTY_SIDES, Tally, empty_side
from thumbs.feedback.entries import read_entries
from thumbs.feedback.messages import (
    ANSWER_FAULTS,
    ENDS_BEFORE_ANSWER,
    fault_of_answer,
    plain_messages,
    require_bool,
    split_at_answer,
    tools_text,
)
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback, Message, keys_found, parse_record

NAME = "llama-factory"
READS = "KTO rows (kto_tag or label) in ShareGPT, OpenAI or Alpaca form; ms-swift's"
UNJUDGED = "entry without a judgement"
WITH_MEDIA = "entry with images, videos or audio"
UNREADABLE_CALL = "entry with a tool call that is not JSON with a name"
DROPS = (UNJUDGED, WITH_MEDIA, UNREADABLE_CALL, *EMPTY_SIDES, *ANSWER_FAULTS)

TURN_KEYS = ("conversations", "messages")
LABEL_KEYS = ("kto_tag", "label")
ALPACA_KEYS = ("instruction", "input", "output", "history")
MEDIA_KEYS = ("images", "videos", "audios")
KEYS = (*TURN_KEYS, *LABEL_KEYS, *ALPACA_KEYS, *MEDIA_KEYS, "system", "tools")
CALL = "a tool call, written as JSON in the content"
SPEAKERS = {
    "system": ("system",),
    "user": ("human", "user"),
    "assistant": ("gpt", "assistant"),
    "tool": ("observation", "tool", "tool_response"),
    CALL: ("function_call", "tool_call"),
}
ROLES = {name: role for role, names in SPEAKERS.items() for name in names}
LEADING_THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a row: turns and a label, or Alpaca's with kto_tag."""
    if any(key in entry for key in TURN_KEYS):
        return any(key in entry for key in LABEL_KEYS)
    return entry.keys() >= {"instruction", "output", "kto_tag"}


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, these rows are read one way
) -> Iterator[Feedback]:
    """A record per row; rows without a judgement or a usable answer are counted."""
    for path in paths:
        for place, entry in read_entries(path):
            tally.changed.update(f"key {key!r} is not used" for key in entry if key not in KEYS)
            row = _row_of(entry, place, tally)
            if isinstance(row, str):
                tally.dropped[row] += 1
            else:
                yield parse_record({**row, "source": NAME}, place)


def _row_of(entry: dict[str, Any], place: str, tally: Tally) -> dict[str, Any] | str:
    """Prompt, completion, label and tools of a row, or the reason to leave it out."""
    label_key = _only_key(entry, LABEL_KEYS, place)
    if not label_key:
        return UNJUDGED
    label = require_bool(entry, label_key, place)
    if any(entry.get(key) for key in MEDIA_KEYS):
        return WITH_MEDIA
    messages = _messages_of(entry, place, tally)
    if isinstance(messages, str):
        return messages
    prompt, completion = split_at_answer(messages)
    if not completion:
        return ENDS_BEFORE_ANSWER
    fault = empty_side(prompt, completion) or fault_of_answer(completion)
    if fault:
        return fault
    tools = tools_text(entry.get("tools"), place)
    return {"prompt": prompt, "completion": completion, "label": label, "tools": tools}


def _messages_of(entry: dict[str, Any], place: str, tally: Tally) -> list[Message] | str:
    turns_key = _only_key(entry, TURN_KEYS, place)
    if turns_key:
        turns_place = f'{place}: "{turns_key}"'
        turns = plain_messages(_with_our_keys(entry[turns_key]), turns_place, tally)
        messages = _with_our_roles(turns, turns_place)
    else:
        messages = _alpaca_messages(entry, place)
    system = entry.get("system")
    if not system or isinstance(messages, str):
        return messages
    if messages and messages[0]["role"] == "system":
        tally.changed["system prompt of a row that has one among its messages, left out"] += 1
        return messages
    return [{"role": "system", "content": system}, *messages]


def _with_our_keys(turns: object) -> object:
    """The turns with role and content instead of from and value."""
    if not isinstance(turns, list):
        return turns
    names = {"from": "role", "value": "content"}
    return [
        {names.get(key, key): value for key, value in turn.items()}
        if isinstance(turn, dict)
        else turn
        for turn in turns
    ]


def _with_our_roles(turns: list[Message], place: str) -> list[Message] | str:
    """The turns as user, assistant, tool and system; the reason if a tool call is unreadable.

    A tool call joins the words of the assistant, or the other call, right before it.
    """
    messages: list[Message] = []
    for number, turn in enumerate(turns, start=1):
        speaker = turn.get("role")
        role = ROLES.get(speaker) if isinstance(speaker, str) else None
        if role is None:
            found = f"role must be one of {', '.join(ROLES)}, but is {shown(speaker)}"
            raise FeedbackError(f"{place}: message {number}: {found}.")
        if role != CALL:
            messages.append({**turn, "role": role})
            continue
        called = _call_message(turn["content"])
        if called is None:
            return UNREADABLE_CALL
        if messages and messages[-1]["role"] == "assistant":
            last = messages.pop()
            words = "\n".join(filter(None, (last["content"], called["content"])))
            calls = [*last.get("tool_calls", ()), *called["tool_calls"]]
            called = {**last, "content": words, "tool_calls": calls}
        messages.append(called)
    return messages


def _call_message(text: object) -> Message | None:
    """The assistant's message of one or several tool calls in JSON, after a thought maybe."""
    if not isinstance(text, str):
        return None
    thought = LEADING_THOUGHT.match(text)
    words = thought.group().strip() if thought else ""
    try:
        calls = orjson.loads(text[thought.end() :] if thought else text)
    except orjson.JSONDecodeError:
        return None
    calls = calls if isinstance(calls, list) else [calls]
    if not calls or not all(isinstance(c, dict) and isinstance(c.get("name"), str) for c in calls):
        return None
    tool_calls = [{"type": "function", "function": call} for call in calls]
    return {"role": "assistant", "content": words, "tool_calls": tool_calls}


def _alpaca_messages(entry: dict[str, Any], place: str) -> list[Message]:
    if "output" not in entry:
        finding = "has none of 'conversations', 'messages' and 'output'"
        raise FeedbackError(f"{place}: {finding}; the keys found: {keys_found(entry)}.")
    turns: list[tuple[object, object]] = []
    history = entry.get("history") or []
    if not isinstance(history, list):
        finding = '"history" must be a list of [question, answer] pairs, but is'
        raise FeedbackError(f"{place}: {finding} {shown(history)}.")
    for number, turn in enumerate(history, start=1):
        if not isinstance(turn, list) or len(turn) != 2:
            finding = f'"history" must hold [question, answer] pairs, but pair {number} is'
            raise FeedbackError(f"{place}: {finding} {shown(turn)}.")
        turns.append((turn[0], turn[1]))
    parts = [entry[key] for key in ("instruction", "input") if entry.get(key)]
    is_text = all(isinstance(part, str) for part in parts)
    turns.append(("\n".join(parts) if is_text else parts, entry["output"]))
    roles = ("user", "assistant")
    return [
        {"role": role, "content": "" if words is None else words}
        for turn in turns
        for role, words in zip(roles, turn, strict=True)
    ]


def _only_key(entry: Mapping[str, Any], keys: Sequence[str], place: str) -> str:
    """The one of the keys that the entry has, or "".

    Raises:
        FeedbackError: it has several, and which one counts is unknown.
    """
    found = [key for key in keys if key in entry]
    if len(found) > 1:
        names = " and ".join(map(repr, found))
        raise FeedbackError(f"{place}: has {names}, of which only one may be there. Remove one.")
    return found[0] if found else ""
