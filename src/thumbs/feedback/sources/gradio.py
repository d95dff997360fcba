"""Gradio's logs: the thumbs of a ChatInterface (log.csv), the flags of an Interface (dataset1.csv).

In: of a chat, the whole conversation, the place of the answer voted on in it, and the vote; of an
Interface, its inputs and outputs, the flag, maybe who set it. Out: a record per answer that has a
vote. A log only grows, so the latest line about an answer counts, and an empty vote takes it back;
a chat's log names neither user nor conversation, so an answer is known by its text and its prompt.

Sources: ChatCSVLogger and CSVLogger in gradio/flagging.py of Gradio 6.31. ChatCSVLogger writes a
header of five columns and lines of four cells: the vote stands under "value", the time under
"flag". The browser's side gives the place of the first message of a run of messages by the
assistant, or (5.0) of the first and the last: the vote is on the whole run. With the older pairs
(type="tuples") it gives the number of the pair and of the side.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import EMPTY_ANSWER, Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge, Vote, plain_text
from thumbs.feedback.messages import joined_turns, plain_messages
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.rated import (
    LATER_VOTE,
    RECORD_DROPS,
    TAKEN_BACK,
    LastVotes,
    rated_record,
    time_text,
)
from thumbs.feedback.record import Feedback, Message, digest

NAME = "gradio"
READS = (
    "`log.csv` of a ChatInterface (conversation, place, vote, time); `dataset1.csv` of an "
    "Interface (one input, one output, flag, username, time)"
)
NO_ANSWER = "vote on a message that is not an answer"
OUT_OF_CHAT = "vote on a message that is not in its conversation"
UNFINISHED = "unfinished answer"
DROPS = (
    *(*RECORD_DROPS, LATER_VOTE, TAKEN_BACK, NO_ANSWER, OUT_OF_CHAT, UNFINISHED),
    *(NEITHER, ON_THRESHOLD),
)

CHAT_COLUMNS = {"conversation", "index", "value", "flag", "timestamp"}
FLAG_COLUMNS = ("flag", "username", "timestamp")  # of an Interface, after those of its parts
DISPLAY_KEYS = {"metadata", "options"}  # a thought's title, and replies to choose from
LABELS = {"Like": True, "Dislike": False}
PLACE = re.compile(r"[\[(]?\s*(\d{1,9})(?:\s*,\s*(\d{1,9}))?\s*,?\s*[\])]?")
# What Gradio puts a ' before, so that no spreadsheet takes the cell for a formula.
ESCAPED = re.compile(r"'(?:[=+\-@\t\n]|.*,[=+\-@\t\n])", re.DOTALL)

THOUGHT = "thought or tool message left out"


class Line(NamedTuple):
    """A line of a log, taken apart. answer: [] where the vote is on none, and why in `fault`."""

    place: str
    value: str
    time: str  # UTC, to order by
    time_cell: str
    rater: str
    prompt: list[Message]
    answer: list[Message]
    fault: str


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first line of a table is one of a ChatInterface's log or an Interface's."""
    is_table = all(isinstance(cell, str) for cell in entry.values())
    return is_table and (entry.keys() == CHAT_COLUMNS or len(_parts_of(entry)) >= 2)


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per answer whose latest vote stands; two passes, the first holds no text.

    Raises:
        FeedbackError: a line cannot be read, its vote is unknown, or which of an Interface's
            columns is the prompt is open.
    """
    last = LastVotes()
    for number, line in enumerate(_read_lines(paths, Tally())):
        if line.answer:
            last.note(_key_of(line), (line.time, number))

    def votes() -> Iterator[Vote]:
        lines = enumerate(_read_lines(paths, Tally()))
        return (
            Vote(line.value, line.prompt)
            for number, line in lines
            if line.value and line.answer
            if last.is_last(_key_of(line), (line.time, number), Tally())
        )

    judge = Judge(options, votes, "the vote")
    named = {plain_text(value) for value in (*options.up, *options.down)}
    for number, line in enumerate(_read_lines(paths, tally)):
        if line.fault:
            tally.dropped[line.fault] += 1
        elif last.is_last(_key_of(line), (line.time, number), tally):
            yield from _record(line, judge, named, tally)


def _record(line: Line, judge: Judge, named: set[str], tally: Tally) -> Iterator[Feedback]:
    label: bool | None
    if not line.value:
        tally.dropped[TAKEN_BACK] += 1
        return
    if line.value in LABELS and plain_text(line.value) not in named:
        label = LABELS[line.value]
    else:
        label = judge.label(Vote(line.value, line.prompt), line.place, tally)
    if label is None:
        return
    rest = {"score": line.value, "source": NAME, "rater": line.rater, "time": line.time_cell}
    record = rated_record(line.prompt, line.answer, label, line.place, tally, **rest)
    if record is not None:
        yield record


def _key_of(line: Line) -> str:
    return digest([line.prompt, line.answer, line.rater])


def _read_lines(paths: Sequence[Path], tally: Tally) -> Iterator[Line]:
    for path in paths:
        for place, cells in read_entries(path):
            entry = {key: _cell_text(cell) for key, cell in cells.items()}
            if entry.keys() == CHAT_COLUMNS:
                yield _chat_line(entry, place, tally)
            else:
                yield _flag_line(entry, place)


def _cell_text(cell: object) -> str:
    """A cell as a table has it: text, whatever file it came in."""
    if cell is None or isinstance(cell, str):
        return cell or ""
    return orjson.dumps(cell, default=str).decode()


def _chat_line(entry: Mapping[str, str], place: str, tally: Tally) -> Line:
    conversation = _json_list(entry["conversation"], f'{place}: "conversation"')
    found = PLACE.fullmatch(entry["index"].strip())
    if not found:
        allowed = "a number, or two like [0, 1]"
        raise FeedbackError(f'{place}: "index" must be {allowed}, but is {shown(entry["index"])}.')
    first, second = int(found[1]), int(found[2]) if found[2] else None
    if conversation and isinstance(conversation[0], list):
        messages, start, end = _unpaired(conversation, first, second)
    else:
        messages, start = conversation, first
        end = _end_of_run(messages, start) if second is None else second + 1
    fault = _fault_of(messages, start, end)
    if fault == UNFINISHED and "unfinished" in tally.keep:
        fault = ""
    prompt, answer = (
        _plain(part, f'{place}: "conversation"', tally)
        for part in (messages[:start], [] if fault else messages[start:end])
    )
    if not fault and not answer:
        fault = EMPTY_ANSWER  # nothing but thoughts
    return Line(
        place=place,
        value=_unescaped(entry["value"]),
        time=time_text(entry["flag"], place),
        time_cell=entry["flag"],
        rater="",
        prompt=prompt,
        answer=answer,
        fault=fault,
    )


def _json_list(text: str, place: str) -> list[Any]:
    try:
        value = orjson.loads(_unescaped(text))
    except orjson.JSONDecodeError as error:
        raise FeedbackError(f"{place} must hold JSON, but is {shown(text)} ({error}).") from None
    if not isinstance(value, list):
        raise FeedbackError(f"{place} must hold a list, but is {shown(text)}.")
    return value


def _unpaired(pairs: list[Any], row: int, side: int | None) -> tuple[list[Any], int, int]:
    """The messages of [user, assistant] pairs; where the one of `row` and `side` starts and ends.

    A side that is null stands for no message.
    """
    messages: list[Any] = []
    start = end = -1
    for number, pair in enumerate(pairs):
        sides = pair if isinstance(pair, list) else []
        for at, (role, content) in enumerate(zip(("user", "assistant"), sides, strict=False)):
            if content is None:
                continue
            if (number, at) == (row, side):
                start, end = len(messages), len(messages) + 1
            messages.append({"role": role, "content": content})
    return messages, start, end


def _end_of_run(messages: list[Any], start: int) -> int:
    run = takewhile(lambda message: _role(message) == "assistant", messages[start:])
    return start + max(1, len(list(run)))


def _fault_of(messages: list[Any], start: int, end: int) -> str:
    if not 0 <= start < end <= len(messages):
        return OUT_OF_CHAT
    answer = messages[start:end]
    if any(_role(message) != "assistant" for message in answer):
        return NO_ANSWER
    is_open = any(_metadata(message).get("status") == "pending" for message in answer)
    return UNFINISHED if is_open else ""


def _plain(raw: list[Any], place: str, tally: Tally) -> list[Message]:
    """Messages as a record holds them: no thoughts, one message per speaker in a row."""
    said = [message for message in raw if not _metadata(message).get("title")]
    tally.changed[THOUGHT] += len(raw) - len(said)
    messages = plain_messages([_known_keys(message, tally) for message in said], place, tally)
    for message in messages:
        role, content = message.get("role"), message["content"]
        if not isinstance(role, str) or not isinstance(content, str):
            finding = f"a message has the role {shown(role)} and the content {shown(content)}"
            raise FeedbackError(f"{place}: {finding}. Both must be text.")
    return joined_turns(messages, tally)


def _known_keys(message: Any, tally: Tally) -> Any:
    """A message without what only its display needs; a file or component alone, as a part."""
    if not isinstance(message, dict):
        return message
    kept = {key: message[key] for key in ("role", "content") if key in message}
    tally.changed.update(
        f"key {key!r} of a message is not used"
        for key in message.keys() - kept.keys() - DISPLAY_KEYS
    )
    if isinstance(kept.get("content"), dict):
        kept["content"] = [kept["content"]]
    return kept


def _role(message: Any) -> object:
    return message.get("role") if isinstance(message, dict) else None


def _metadata(message: Any) -> dict[str, Any]:
    metadata = message.get("metadata") if isinstance(message, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def _flag_line(entry: Mapping[str, str], place: str) -> Line:
    parts = _parts_of(entry)
    prompt, answer = _prompt_and_answer(parts, place)
    return Line(
        place=place,
        value=_unescaped(entry.get("flag", "")),
        time=time_text(entry.get("timestamp", ""), place),
        time_cell=entry.get("timestamp", ""),
        rater=_unescaped(entry.get("username", "")),
        prompt=[{"role": "user", "content": _unescaped(entry[prompt])}],
        answer=[{"role": "assistant", "content": _unescaped(entry[answer])}],
        fault="",
    )


def _parts_of(entry: Mapping[str, Any]) -> list[str]:
    """The columns of an Interface's inputs and outputs; [] where those of a flag do not follow."""
    names = list(entry)
    tail = [name for name in FLAG_COLUMNS if name in entry]
    is_log = "flag" in tail and "timestamp" in tail and names[-len(tail) :] == tail
    return names[: -len(tail)] if is_log else []


def _prompt_and_answer(parts: list[str], place: str) -> tuple[str, str]:
    if len(parts) == 2:
        return parts[0], parts[1]
    columns = ", ".join(map(repr, parts)) or "none"
    finding = f"which column is the prompt and which the answer is open; the columns: {columns}"
    advice = "Name them: --map prompt=COLUMN --map completion=COLUMN --map label=flag"
    raise FeedbackError(f"{place}: {finding}. {advice}.")


def _unescaped(cell: str) -> str:
    return cell[1:] if ESCAPED.match(cell) else cell
