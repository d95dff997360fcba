"""AnythingLLM: the chat log as JSON or CSV, and its SQLite database.

In: rows with prompt, response and rating GOOD, BAD or -- (no vote); or `anythingllm.db` with table
workspace_chats and feedbackScore 1, 0 or null. Out: a record per vote. A log row knows no earlier
turns; in the database they are the chats before it in its thread, as many as the workspace sends.
Sources: AnythingLLM, server/utils/helpers/chat/convertTo.js and server/prisma/schema.prisma. Later
versions have no button for thumbs down: expect desirable records mostly.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import parsed
from thumbs.feedback.rated import (
    LATER_VOTE,
    RECORD_DROPS,
    LastVotes,
    mapping,
    rated_record,
    sequence,
    time_text,
)
from thumbs.feedback.record import Feedback, Message
from thumbs.feedback.sqlite import SQLITE_TABLES, is_sqlite, read_sqlite, sqlite_tables

NAME = "anythingllm"
READS = "chat log as JSON or CSV (rating), anythingllm.db (workspace_chats.feedbackScore)"
DROPS = (*RECORD_DROPS, LATER_VOTE)

ATTACHMENT = "attachment left out of a prompt"
LABELS = {"GOOD": True, "BAD": False}
NO_VOTE = ("--", "", None)
COLUMNS = {"prompt", "response", "workspace", "rating"}
TABLE = "workspace_chats"
HISTORY = 20  # chats sent along where the workspace does not say
CHATS = f"""
    SELECT c.id, c.prompt, c.response, c.createdAt, c.feedbackScore, c.user_id, c.thread_id,
           c.workspaceId, c.include
    FROM {TABLE} AS c ORDER BY c.workspaceId, c.thread_id, c.user_id, c.id
"""


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is a row of the log, or the tables are those of its database."""
    tables = mapping(entry.get(SQLITE_TABLES))
    return entry.keys() >= COLUMNS or "feedbackScore" in tables.get(TABLE, ())


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, ratings are read one way
) -> Iterator[Feedback]:
    """A record per rated answer; a chat in two logs counts as the last of them says.

    Raises:
        FeedbackError: a rating is unknown.
    """
    databases = [path for path in paths if is_sqlite(path)]
    logs = [path for path in paths if path not in databases]
    last = LastVotes()
    for number, _, entry in _rows(logs):
        last.note(_key(entry), ("", number))
    for number, place, entry in _rows(logs):
        if last.is_last(_key(entry), ("", number), tally):
            yield from _log_record(place, entry, tally)
    for path in databases:
        yield from _database_records(path, tally)


def _rows(paths: Sequence[Path]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    number = 0
    for path in paths:
        for place, entry in read_entries(path):
            number += 1
            if entry.get("rating") in NO_VOTE:
                continue
            if entry["rating"] not in LABELS:
                finding = f"rating is {shown(entry['rating'])}. Allowed: {', '.join(LABELS)}, --"
                raise FeedbackError(f"{place}: {finding}.")
            yield number, place, entry


def _key(entry: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("id", "workspace", "username", "prompt", "sent_at")
    return tuple(str(entry.get(name) or "") for name in names)


def _log_record(place: str, entry: Mapping[str, Any], tally: Tally) -> Iterator[Feedback]:
    tally.changed[ATTACHMENT] += len(sequence(parsed(entry.get("attachments"))))
    record = rated_record(
        str(entry.get("prompt") or ""),
        str(entry.get("response") or ""),
        LABELS[entry["rating"]],
        place,
        tally,
        score=entry["rating"],
        source=NAME,
        rater=entry.get("username"),
        time=entry.get("sent_at"),
    )
    if record is not None:
        yield record


def _database_records(path: Path, tally: Tally) -> Iterator[Feedback]:
    names = _lookup(path, "users", "username")
    lengths = _lookup(path, "workspaces", "openAiHistory")
    models = _lookup(path, "workspaces", "chatModel")
    history: list[Message] = []
    thread: object = None
    for place, chat in read_sqlite(path, CHATS):
        key = (chat["workspaceId"], chat["thread_id"], chat["user_id"])
        if key != thread:
            history, thread = [], key
        response = mapping(parsed(chat["response"]))
        answer = response.get("text")
        turn: list[Message] = [{"role": "user", "content": str(chat["prompt"] or "")}]
        if chat["feedbackScore"] is not None:
            tally.changed[ATTACHMENT] += len(sequence(response.get("attachments")))
            length = lengths.get(chat["workspaceId"])
            kept = 2 * int(length if isinstance(length, int) else HISTORY)
            record = rated_record(
                [*(history[-kept:] if kept else []), *turn],
                str(answer or ""),
                bool(chat["feedbackScore"]),
                f"{place} (chat {chat['id']})",
                tally,
                score=chat["feedbackScore"],
                conversation=":".join(str(part) for part in key),
                source=NAME,
                rater=names.get(chat["user_id"]) or chat["user_id"],
                model=models.get(chat["workspaceId"]),
                time=_time(chat["createdAt"], place),
            )
            if record is not None:
                yield record
        if chat["include"] and answer:
            history += [*turn, {"role": "assistant", "content": str(answer)}]
            del history[: -2 * 100]


def _lookup(path: Path, table: str, column: str) -> dict[object, Any]:
    """A column of a table by id; empty where the database has none."""
    if column not in sqlite_tables(path).get(table, ()):
        return {}
    rows = read_sqlite(path, f"SELECT id, {column} AS value FROM {table}")
    return {row["id"]: row["value"] for _, row in rows}


def _time(value: object, place: str) -> str:
    """Prisma writes times as milliseconds or as text."""
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    return time_text(value, place)
