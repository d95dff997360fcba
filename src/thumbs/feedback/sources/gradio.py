"""Gradio's ChatInterface: the log of flagged messages, `.gradio/flagged/log.csv`.

In: rows of a conversation (JSON), the index of the message voted on, and the vote. The header names
five columns, but rows have four cells: the vote stands under `value`, its time under `flag`. The
log only grows: the last row of a message counts, and an empty vote takes it back. Out: a record per
message whose vote stands. Source: Gradio 6.31, gradio/chat_interface.py and gradio/flagging.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge
from thumbs.feedback.labels import Vote as RawVote
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import parsed
from thumbs.feedback.rated import (
    LATER_VOTE,
    RECORD_DROPS,
    TAKEN_BACK,
    LastVotes,
    mapping,
    rated_record,
    sequence,
)
from thumbs.feedback.record import Feedback, Message, digest
from thumbs.feedback.utc import utc_text

NAME = "gradio"
READS = "flagged/log.csv of a ChatInterface; Like, Dislike, or values named by --up and --down"
NOT_AN_ANSWER = "vote on a message that is not an answer"
DROPS = (*RECORD_DROPS, LATER_VOTE, TAKEN_BACK, NOT_AN_ANSWER, NEITHER, ON_THRESHOLD)


class Vote(NamedTuple):
    """A row of the log."""

    place: str
    number: int
    key: str
    messages: list[Message]  # up to and with the one voted on
    value: str
    time: str


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a row of the log."""
    return {"conversation", "index", "value", "flag", "timestamp"} <= entry.keys()


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per message whose last vote was not taken back."""
    last = LastVotes()
    for vote in _votes(paths):
        last.note(vote.key, ("", vote.number))
    judge = Judge(options, _raw_votes(paths), "the vote")
    for vote in _votes(paths):
        if not last.is_last(vote.key, ("", vote.number), tally):
            continue
        if not vote.value:
            tally.dropped[TAKEN_BACK] += 1
            continue
        label = judge.label(RawVote(vote.value, vote.messages[:-1]), vote.place, tally)
        if label is None:
            continue
        *prompt, answer = vote.messages
        if answer["role"] != "assistant":
            tally.dropped[NOT_AN_ANSWER] += 1
            continue
        rest = {"score": vote.value, "source": NAME, "time": vote.time}
        record = rated_record(prompt, [answer], label, vote.place, tally, **rest)
        if record is not None:
            yield record


def _raw_votes(paths: Sequence[Path]) -> Callable[[], Iterator[RawVote]]:
    return lambda: (RawVote(v.value, v.messages[:-1]) for v in _votes(paths) if v.value)


def _votes(paths: Sequence[Path]) -> Iterator[Vote]:
    number = 0
    for path in paths:
        for place, row in read_entries(path):
            number += 1
            value, time = row.get("value"), row.get("flag")
            if row.get("timestamp"):  # as the header says it
                value, time = row.get("flag"), row.get("timestamp")
            messages = _messages(row, place)
            key = digest(messages)
            yield Vote(place, number, key, messages, str(value or ""), _time(time, place))


def _time(value: object, place: str) -> str:
    try:
        return utc_text(value)
    except ValueError:
        finding = f"the time of the vote is {shown(value)}"
        raise FeedbackError(f"{place}: {finding}. Is this ChatInterface's log.csv?") from None


def _messages(row: Mapping[str, Any], place: str) -> list[Message]:
    conversation, index = parsed(row.get("conversation")), parsed(row.get("index"))
    turns, end = sequence(conversation), index
    if turns and isinstance(turns[0], list):  # pairs of user and bot, as older versions write
        turns = [
            {"role": role, "content": text}
            for pair in turns
            for role, text in zip(("user", "assistant"), pair, strict=False)
        ]
        if isinstance(index, list) and len(index) == 2:
            end = 2 * int(index[0]) + int(index[1])
    if not turns or not str(end).isdigit() or int(str(end)) >= len(turns):
        finding = f'"index" is {shown(index)} in a conversation of {len(turns)} messages'
        raise FeedbackError(f"{place}: {finding}. Is this ChatInterface's log.csv?")
    return [_message(mapping(turn)) for turn in turns[: int(str(end)) + 1]]


def _message(turn: Mapping[str, Any]) -> Message:
    content = turn.get("content")
    if isinstance(content, Mapping):
        content = [content]
    return {"role": str(turn.get("role") or ""), "content": "" if content is None else content}
