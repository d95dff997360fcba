"""LibreChat: the JSON export of a conversation, and MongoDB's `messages`.

In: conversations whose messages name their parent (or are nested, `messagesTree`), or a dump of
messages one by one. Out: a record per answer with a thumb; its prompt is the way from it up to the
root. Sources: LibreChat, packages/data-schemas/src/schema/message.ts and
client/src/hooks/Conversations/useExportConversation.ts.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from thumbs.feedback.spool import Spool

NAME = "librechat"
READS = "JSON export of a conversation (messages, messagesTree), MongoDB messages; feedback.rating"
UNFINISHED = "unfinished answer"
WITH_ERROR = "answer with an error"
BROKEN = "answer whose thread is broken"
NOT_AN_ANSWER = "vote on a message that is not an answer"
DROPS = (
    *(*RECORD_DROPS, UNFINISHED, WITH_ERROR, BROKEN, NOT_AN_ANSWER, LATER_VOTE),
    TAKEN_BACK,
)

OTHER_PART = "part of an answer that is no text (thought, tool call, file) left out"
ROOT = "00000000-0000-0000-0000-000000000000"
LABELS = {"thumbsUp": True, "thumbsDown": False}
CSV_COLUMNS = {"sender", "text", "isCreatedByUser", "messageId"}

Node = Mapping[str, Any]


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is a conversation, a message, or a line of the CSV export."""
    is_chat = "conversationId" in entry and ("messages" in entry or "messagesTree" in entry)
    return is_chat or {"messageId", "isCreatedByUser"} <= entry.keys()


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, thumbs are read one way
) -> Iterator[Feedback]:
    """The records of all files together; messages wait on disk until their answers are met.

    Raises:
        FeedbackError: a file is the CSV export, which has no thumbs, or a rating is unknown.
    """
    last, rated = LastVotes(), set[tuple[str, str]]()
    with Spool() as nodes:
        for number, (place, chat, node) in enumerate(_nodes(paths)):
            nodes.put(_key(chat, node), _kept(node))
            last.note(_key(chat, node), _order(node, place, number))
            if _rating(node, place):
                rated.add(_key(chat, node))
        for number, (place, chat, node) in enumerate(_nodes(paths)):
            key, rating = _key(chat, node), _rating(node, place)
            order = _order(node, place, number)
            if rating and last.is_last(key, order, tally):
                yield from _record(place, chat, node, LABELS[rating], nodes, tally)
            elif key in rated and last.stands(key, order):
                tally.dropped[TAKEN_BACK] += not rating


def _nodes(paths: Sequence[Path]) -> Iterator[tuple[str, Node, Node]]:
    """(place, conversation, message) of every message."""
    for path in paths:
        if path.suffix.lower() == ".csv":
            finding = "LibreChat's CSV export has no column for thumbs"
            raise FeedbackError(f"{path}: {finding}. Export the conversation as JSON instead.")
        for place, entry in read_entries(path):
            if "messageId" in entry:
                yield place, {}, entry
                continue
            tree = sequence(entry.get("messagesTree")) or sequence(entry.get("messages"))
            for node in _flat(tree):
                yield place, entry, node


def _flat(nodes: Sequence[Any]) -> Iterator[Node]:
    waiting = list(map(mapping, reversed(nodes)))
    while waiting:  # no recursion: a long chat is a deep tree
        node = waiting.pop()
        yield node
        waiting += map(mapping, reversed(sequence(node.get("children"))))


def _kept(node: Node) -> dict[str, Any]:
    return {
        "parent": str(node.get("parentMessageId") or ROOT),
        "by_user": bool(node.get("isCreatedByUser")),
        "text": _text(node),
        "user": str(node.get("user") or ""),
    }


def _text(node: Node) -> str:
    """A message's text: its own, or that of its text parts."""
    text = node.get("text")
    if isinstance(text, str) and text.strip():
        return text
    parts = (mapping(part) for part in sequence(node.get("content")))
    texts = (part.get("text") for part in parts if part.get("type") == "text")
    texts = (mapping(text).get("value") if isinstance(text, dict) else text for text in texts)
    return "\n".join(text for text in texts if isinstance(text, str))


def _num_other_parts(node: Node) -> int:
    parts = map(mapping, sequence(node.get("content")))
    return sum(part.get("type") not in (None, "text") for part in parts)


def _key(chat: Node, node: Node) -> tuple[str, str]:
    return str(node.get("conversationId") or chat.get("conversationId") or ""), str(
        node.get("messageId")
    )


def _order(node: Node, place: str, number: int) -> Order:
    time = plain_value(node.get("updatedAt")) or plain_value(node.get("createdAt"))
    return time_text(time, place), number


def _rating(node: Node, place: str) -> str:
    rating = mapping(node.get("feedback")).get("rating")
    if rating in (None, ""):
        return ""
    if not isinstance(rating, str) or rating not in LABELS:
        finding = f"feedback.rating is {shown(rating)}. Allowed: {', '.join(LABELS)}"
        raise FeedbackError(f"{place}: message {node.get('messageId')!r}: {finding}.")
    return rating


def _record(
    place: str, chat: Node, node: Node, label: bool, nodes: Spool, tally: Tally
) -> Iterator[Feedback]:
    prompt = _prompt(chat, node, nodes)
    fault = ""
    if node.get("isCreatedByUser"):
        fault = NOT_AN_ANSWER
    elif node.get("error"):
        fault = WITH_ERROR
    elif node.get("unfinished") and "unfinished" not in tally.keep:
        fault = UNFINISHED
    elif prompt is None:
        fault = BROKEN
    if fault:
        tally.dropped[fault] += 1
        return
    tally.changed[OTHER_PART] += _num_other_parts(node)
    feedback = mapping(node.get("feedback"))
    remarks = (str(mapping(feedback.get("tag")).get("key") or feedback.get("tag") or ""),)
    record = rated_record(
        prompt,
        _text(node),
        label,
        f"{place}: message {node.get('messageId')!r}",
        tally,
        score=feedback["rating"],
        conversation=_key(chat, node)[0],
        source=NAME,
        rater=node.get("user") or chat.get("user") or _asker(chat, node, nodes),
        model=node.get("model") or chat.get("model"),
        time=plain_value(node.get("createdAt")),
        comment=": ".join(filter(None, (*remarks, str(feedback.get("text") or "")))),
    )
    if record is not None:
        yield record


def _asker(chat: Node, node: Node, nodes: Spool) -> str:
    kept = nodes.get((_key(chat, node)[0], str(node.get("parentMessageId"))))
    return str(kept["user"]) if kept else ""


def _prompt(chat: Node, node: Node, nodes: Spool) -> list[Message] | None:
    """The messages above an answer, root first; None where one of them is not there."""
    turns: list[Message] = []
    conversation, own = _key(chat, node)
    met = {own}
    parent = str(node.get("parentMessageId") or ROOT)
    while parent != ROOT:
        kept = nodes.get((conversation, parent))
        if kept is None or parent in met:
            return None
        turns.append({"role": "user" if kept["by_user"] else "assistant", "content": kept["text"]})
        met.add(parent)
        parent = kept["parent"]
    options = mapping(chat.get("options"))
    system = options.get("promptPrefix") or options.get("system")
    if isinstance(system, str) and system.strip():
        turns.append({"role": "system", "content": system})
    return turns[::-1]
