"""HuggingFace chat-ui: its MongoDB `conversations`, and the Parquet of its admin export.

In: conversations with messages that know their ancestors (mongoexport, conversations.json), or flat
lists of messages without ids (/admin/export). Out: a record per message with a score of 1 or -1;
the prompt is the way of ancestors down to it. Source: chat-ui, src/lib/types/Message.ts. Newer
versions cannot vote any more: scores are in older data.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.extended_json import plain_value
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.rated import (
    LATER_VOTE,
    RECORD_DROPS,
    TAKEN_BACK,
    LastVotes,
    Order,
    mapping,
    rated_record,
    sequence,
    time_text,
)
from thumbs.feedback.record import Feedback, Message

NAME = "chat-ui"
READS = "MongoDB conversations (mongoexport, conversations.json), Parquet of /admin/export; score"
UNFINISHED = "unfinished answer"
BROKEN = "answer whose thread is broken"
NOT_AN_ANSWER = "vote on a message that is not an answer"
DROPS = (*RECORD_DROPS, UNFINISHED, BROKEN, NOT_AN_ANSWER, LATER_VOTE, TAKEN_BACK)

ROLES = {"user": "user", "assistant": "assistant", "system": "system"}
LABELS = {1: True, -1: False}


class Rated(NamedTuple):
    """A message that can be scored, and where it stands. score: 1, -1, or 0 for no vote."""

    place: str
    key: object
    order: Order
    chat: Mapping[str, Any]
    number: int  # in the list of messages
    score: int


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a conversation of chat-ui."""
    messages = sequence(entry.get("messages"))
    first = mapping(messages[0]) if messages else {}
    return {"title", "messages"} <= entry.keys() and {"from", "content"} <= first.keys()


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, conversations are read one way
) -> Iterator[Feedback]:
    """A record per scored message; a conversation in two exports counts as the later one says."""
    last, scored = LastVotes(), set[object]()
    for rated in _rated(paths):
        last.note(rated.key, rated.order)
        if rated.score:
            scored.add(rated.key)
    for rated in _rated(paths):
        if rated.score and last.is_last(rated.key, rated.order, tally):
            yield from _record(rated, tally)
        elif rated.key in scored and last.stands(rated.key, rated.order):
            tally.dropped[TAKEN_BACK] += not rated.score


def _rated(paths: Sequence[Path]) -> Iterator[Rated]:
    number = 0
    for path in paths:
        for place, chat in read_entries(path):
            updated = _time(chat, ("updatedAt", "updated_at", "createdAt", "created_at"))
            chat_id = plain_value(chat.get("_id")) or plain_value(chat.get("id"))
            for i, message in enumerate(map(mapping, sequence(chat.get("messages")))):
                number += 1
                score = _score(message, f"{place}: message {i + 1}")
                own = plain_value(message.get("id"))
                key = (str(chat_id), str(own)) if chat_id and own else number
                yield Rated(place, key, (time_text(updated, place), number), chat, i, score)


def _score(message: Mapping[str, Any], place: str) -> int:
    score = plain_value(message.get("score"))
    if score in (None, ""):
        return 0
    if isinstance(score, bool) or score not in (*LABELS, 0):
        finding = f"score is {shown(score)}. Allowed: 1, -1, and 0 for no vote"
        raise FeedbackError(f"{place}: {finding}.")
    return int(str(score))


def _record(rated: Rated, tally: Tally) -> Iterator[Feedback]:
    chat, messages = rated.chat, [mapping(m) for m in rated.chat["messages"]]
    message = messages[rated.number]
    if message.get("from") != "assistant":
        tally.dropped[NOT_AN_ANSWER] += 1
        return
    if message.get("interrupted") and "unfinished" not in tally.keep:
        tally.dropped[UNFINISHED] += 1
        return
    before = _before(messages, rated.number)
    if before is None:
        tally.dropped[BROKEN] += 1
        return
    system = str(chat.get("preprompt") or "")
    turns: list[Message] = [
        {"role": ROLES[turn["from"]], "content": turn.get("content")}
        for turn in before
        if turn["from"] != "system" or str(turn.get("content") or "").strip()
    ]
    if system.strip() and not any(turn["role"] == "system" for turn in turns):
        turns.insert(0, {"role": "system", "content": system})
    record = rated_record(
        turns,
        [{"role": "assistant", "content": message.get("content")}],
        LABELS[rated.score],
        f"{rated.place}: message {rated.number + 1}",
        tally,
        score=rated.score,
        conversation=plain_value(chat.get("_id")) or plain_value(chat.get("id")),
        source=NAME,
        rater=plain_value(chat.get("userId")) or plain_value(chat.get("sessionId")),
        model=chat.get("model"),
        time=_time(message, ("updatedAt", "createdAt")) or _time(chat, ("updatedAt", "updated_at")),
    )
    if record is not None:
        yield record


def _before(messages: Sequence[Mapping[str, Any]], number: int) -> list[Mapping[str, Any]] | None:
    """The messages above one, root first; None where some are missing or have an unknown speaker.

    The list of ancestors says which they are; where no message has one, all that stand before.
    """
    if any("ancestors" in message for message in messages):
        by_id = {plain_value(message.get("id")): message for message in messages}
        ids = map(plain_value, sequence(messages[number].get("ancestors")))
        before = [by_id.get(message_id, {}) for message_id in ids]
    else:
        before = list(messages[:number])
    return before if all(turn.get("from") in ROLES for turn in before) else None


def _time(entry: Mapping[str, Any], keys: Sequence[str]) -> object:
    return next((plain_value(entry[key]) for key in keys if entry.get(key)), None)
