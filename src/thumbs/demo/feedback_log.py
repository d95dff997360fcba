"""A feedback log in the shape of Open WebUI's feedback export, gzipped.

In: chats of one question, its answers and their votes. Out: the file an administrator gets from
Evaluations > Feedbacks > export: a record per vote, each with its whole chat as a message tree.
Same chats, same seed: same bytes. Knows no model and no checker.
"""

import gzip
import json
import random
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIRST_CHAT_SECONDS = 1_763_800_000  # 2025-11-22, since the epoch
SECONDS_BETWEEN_CHATS = 97
NUM_RATERS = 12
REASONS = {1: "accurate_information", -1: "not_factually_correct"}  # as the tool's form offers
DETAILS = {1: {"rating": 9}, -1: {"rating": 2}}


@dataclass(frozen=True, slots=True)
class RatedChat:
    """One question, its answers (the second one regenerated), a vote (up is True) on each."""

    question: str
    answers: list[str]
    votes: list[bool]


def write_feedback_log(path: Path, chats: list[RatedChat], *, model_id: str, seed: int) -> None:
    """Write the export of `chats`; `seed` names the ids and the raters."""
    rng = random.Random(f"ids:{seed}")
    raters = [_new_id(rng) for _ in range(NUM_RATERS)]
    records: list[dict[str, Any]] = []
    for i, chat in enumerate(chats):
        started = FIRST_CHAT_SECONDS + i * SECONDS_BETWEEN_CHATS
        records += _records(chat, rng.choice(raters), model_id, started, rng)
    text = json.dumps(records, ensure_ascii=False, separators=(",", ":"))
    # A fixed time and no file name in the header: the bytes depend on the records alone.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(text.encode())


def _records(
    chat: RatedChat, user: str, model_id: str, started: int, rng: random.Random
) -> list[dict[str, Any]]:
    """Return a record for each vote of one chat, all with the same snapshot of it."""
    chat_id, question_id = _new_id(rng), _new_id(rng)
    answer_ids = [_new_id(rng) for _ in chat.answers]
    vote_ids = [_new_id(rng) for _ in chat.answers]
    messages = {question_id: _question(chat.question, question_id, answer_ids, model_id, started)}
    judgements = [_judgement(is_up) for is_up in chat.votes]
    for j, answer_id in enumerate(answer_ids):
        messages[answer_id] = {
            "id": answer_id,
            "parentId": question_id,
            "childrenIds": [],
            "role": "assistant",
            "content": chat.answers[j],
            "model": model_id,
            "modelName": model_id,
            "modelIdx": 0,
            "timestamp": started + 3 + 20 * j,
            "done": True,
            "annotation": judgements[j],
            "feedbackId": vote_ids[j],
        }
    num_siblings = len(answer_ids) - 1
    siblings = {"sibling_model_ids": [model_id] * num_siblings} if num_siblings else {}
    snapshot = _snapshot(chat_id, user, model_id, messages, started)
    return [
        {
            "id": vote_ids[j],
            "user_id": user,
            "version": 0,
            "type": "rating",
            "data": {"model_id": model_id, **siblings, **judgements[j]},
            "meta": {
                "arena": False,
                "model_id": model_id,
                "message_id": answer_id,
                "message_index": 2,  # messages up to and with the answer
                "chat_id": chat_id,
                "base_models": {model_id: None},
            },
            "snapshot": {"chat": snapshot},
            "created_at": started + 10 + 20 * j,
            "updated_at": started + 10 + 20 * j,
        }
        for j, answer_id in enumerate(answer_ids)
    ]


def _question(
    text: str, question_id: str, answer_ids: list[str], model_id: str, started: int
) -> dict[str, Any]:
    return {
        "id": question_id,
        "parentId": None,
        "childrenIds": answer_ids,
        "role": "user",
        "content": text,
        "timestamp": started,
        "models": [model_id],
    }


def _judgement(is_up: bool) -> dict[str, Any]:
    rating = 1 if is_up else -1
    return {
        "rating": rating,
        "reason": REASONS[rating],
        "comment": "",
        "tags": [],
        "details": DETAILS[rating],
    }


def _snapshot(
    chat_id: str, user: str, model_id: str, messages: dict[str, dict[str, Any]], started: int
) -> dict[str, Any]:
    """Return the chat as the tool stores it; the last message is the one on screen."""
    return {
        "id": chat_id,
        "user_id": user,
        "title": "Word problem",
        "chat": {
            "title": "Word problem",
            "models": [model_id],
            "history": {"messages": messages, "currentId": list(messages)[-1]},
            "messages": [],
        },
        "updated_at": started + 60,
        "created_at": started,
        "share_id": None,
        "archived": False,
        "pinned": False,
        "meta": {},
        "variables": {},
        "folder_id": None,
    }


def _new_id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
