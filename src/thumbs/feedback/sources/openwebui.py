"""Open WebUI's feedback export: Admin > Evaluations > Feedbacks > export, as JSON.

In: a list of votes, each with a snapshot of its whole chat. The messages of a chat are a tree: the
prompt of an answer is the way from it up to the root, never the messages before it in the file.
Out: a record per rated answer and rater (the latest vote counts), and two per edited answer: the
edit desirable, the original undesirable. Votes kept only at the messages of a snapshot are a
fallback. Two passes over the files: the first decides which entry speaks for an answer, and holds
ids only, since an export repeats a chat for each of its votes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally, strip_text
from thumbs.feedback.entries import read_entries
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import parsed
from thumbs.feedback.record import Feedback, Message
from thumbs.feedback.sqlite import SQLITE_TABLES, is_sqlite, read_sqlite, sqlite_tables
from thumbs.feedback.utc import utc_text

NAME = "openwebui"
READS = "feedback export and chat export as JSON, webui.db; rating 1 or -1, edited answers"
EDIT_SOURCE = f"{NAME}:edit"

LATER = "vote with a later one on the same answer"
NO_SNAPSHOT = "vote without a snapshot of its chat"
NOT_IN_SNAPSHOT = "vote on a message that is not in its snapshot"
EDIT_STANDS = "vote on an edited answer, for which its edit stands"
TAKEN_BACK = "vote taken back, or a draw"
EDITED = "vote on an edited answer: which text it meant is unknown"
NOT_AN_ANSWER = "vote on a message that is not an answer"
WITH_ERROR = "answer with an error"
UNFINISHED = "unfinished answer"
WITHOUT_PROMPT = "answer without a prompt"
BROKEN = "answer whose thread is broken"
DROPS = (
    *(LATER, NO_SNAPSHOT, NOT_IN_SNAPSHOT, EDIT_STANDS, TAKEN_BACK),
    *(EDITED, NOT_AN_ANSWER, WITH_ERROR, UNFINISHED, WITHOUT_PROMPT, BROKEN),
)

LABELS = {"1": True, "-1": False}
NO_VOTE = ("", "0")  # taken back, or a draw between two models
CSV_COLUMNS = {"chat_id", "model_id", "rating", "sibling_model_ids"}
TEXT_BLOCKS = ("text", "input_text", "output_text")
MACHINE_BLOCKS = {
    "reasoning": "reasoning block stripped",
    "tool_calls": "tool-call block stripped",
}

QUERIES = {
    "feedback": "SELECT * FROM feedback WHERE type = 'rating'",
    "chat": "SELECT id, user_id, chat, created_at, updated_at FROM chat",
}

Node = Mapping[str, Any]  # a message of the tree
Answer = tuple[str, str]  # chat id, message id
Order = tuple[float, int]  # time of the vote, number of its entry: the greater one is later

ROLES = ("system", "user", "assistant")
MISSING: Node = {}  # stands for a parent that is not in the snapshot; it has no role


class Vote(NamedTuple):
    """One entry of the export, taken apart."""

    place: str
    order: Order
    answer: Answer
    rater: str
    time: object
    data: Node  # rating, model_id, reason, comment
    nodes: dict[str, Node]  # every message of the chat, by id
    system: str
    owner: str  # whose chat it is


@dataclass
class Latest:
    """Which entry speaks last for each vote, each edit, and each vote kept at a message."""

    votes: dict[tuple[Answer, str], Order] = field(default_factory=dict)
    edits: dict[Answer, Order] = field(default_factory=dict)
    annotations: dict[Answer, Order] = field(default_factory=dict)
    voted: set[Answer] = field(default_factory=set)


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is a vote, a line of the CSV form, a chat, or the database."""
    data, meta = _mapping(entry.get("data")), _mapping(entry.get("meta"))
    tables = _mapping(entry.get(SQLITE_TABLES))
    if "snapshot" in tables.get("feedback", ()) or {"chat", "user_id"} <= set(
        tables.get("chat", ())
    ):
        return True
    is_vote = entry.keys() >= CSV_COLUMNS or ("rating" in data and "message_id" in meta)
    return is_vote or _is_chat(entry)


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """The records of all files together: a vote that stands in two exports is one vote.

    Raises:
        FeedbackError: a file is the CSV form, which holds no text, or a rating is unknown.
    """
    latest = Latest()
    for vote in _read_votes(paths):
        _note_latest(latest, vote)
    for vote in _read_votes(paths):
        if vote.answer[1]:
            yield from _own_record(vote, latest, tally, edits=options.edits)
        for message_id, node in vote.nodes.items():
            answer = (vote.answer[0], message_id)
            if options.edits and _is_edited(node) and latest.edits[answer] == vote.order:
                yield from _edit_records(vote, node, tally)
            if answer not in latest.voted and latest.annotations.get(answer) == vote.order:
                yield from _kept_record(vote, answer, latest, tally, edits=options.edits)


def _read_votes(paths: Sequence[Path]) -> Iterator[Vote]:
    number = 0
    for path in paths:
        if path.suffix == ".csv":
            finding = "the CSV form of Open WebUI's feedback export holds votes without any text."
            export = "Export JSON instead: Admin > Evaluations > Feedbacks"
            raise FeedbackError(f"{path}: {finding} {export} (feedback-history-export-*.json).")
        for place, entry in _entries(path):
            number += 1
            yield _vote_of(place, entry, number)


def _entries(path: Path) -> Iterator[tuple[str, Node]]:
    """Votes as the feedback export has them; a chat alone is the snapshot of no vote."""
    if is_sqlite(path):
        tables = sqlite_tables(path)
        queries = [query for table, query in QUERIES.items() if table in tables]
        parts = [read_sqlite(path, query) for query in queries]
    else:
        parts = [read_entries(path)]
    for place, entry in chain.from_iterable(parts):
        entry = {key: parsed(value) for key, value in entry.items()}
        if _is_chat(entry):
            entry = {**entry, "meta": {"chat_id": entry.get("id")}, "snapshot": {"chat": entry}}
        yield place, entry


def _is_chat(entry: Node) -> bool:
    chat = _mapping(parsed(entry.get("chat")))
    return "history" in chat and "snapshot" not in entry


def _vote_of(place: str, entry: Node, number: int) -> Vote:
    meta, record = _mapping(entry.get("meta")), _mapping(entry.get("snapshot"))
    record = _mapping(record.get("chat"))  # the stored chat: id, user_id and ...
    chat = _mapping(record.get("chat"))  # ... its content
    nodes = _mapping(_mapping(chat.get("history")).get("messages"))
    time = entry.get("updated_at") or entry.get("created_at")
    rater = str(entry.get("user_id") or "")
    return Vote(
        place=place,
        order=(float(time) if isinstance(time, int | float) else 0.0, number),
        answer=(
            str(meta.get("chat_id") or record.get("id") or ""),
            str(meta.get("message_id") or ("" if _is_chat(entry) or "chat" in entry else None)),
        ),
        rater=rater,
        time=time,
        data=_mapping(entry.get("data")),
        nodes={message_id: _mapping(node) for message_id, node in nodes.items()},
        system=str(chat.get("system") or _mapping(chat.get("params")).get("system") or ""),
        owner=str(record.get("user_id") or rater),
    )


def _note_latest(latest: Latest, vote: Vote) -> None:
    if vote.answer[1]:
        key = (vote.answer, vote.rater)
        latest.votes[key] = max(vote.order, latest.votes.get(key, vote.order))
        latest.voted.add(vote.answer)
    for message_id, node in vote.nodes.items():
        answer = (vote.answer[0], message_id)
        if _is_edited(node):
            latest.edits[answer] = max(vote.order, latest.edits.get(answer, vote.order))
        if "rating" in _mapping(node.get("annotation")):
            latest.annotations[answer] = max(vote.order, latest.annotations.get(answer, vote.order))


def _own_record(vote: Vote, latest: Latest, tally: Tally, *, edits: bool) -> Iterator[Feedback]:
    """The record of the entry's own vote, if that is the last word on its answer."""
    if latest.votes[vote.answer, vote.rater] != vote.order:
        tally.dropped[LATER] += 1
    elif not vote.nodes:
        tally.dropped[NO_SNAPSHOT] += 1
    elif vote.answer[1] not in vote.nodes:
        tally.dropped[NOT_IN_SNAPSHOT] += 1
    elif edits and vote.answer in latest.edits:
        tally.dropped[EDIT_STANDS] += 1
    else:
        node = vote.nodes[vote.answer[1]]
        yield from _rated_record(vote, node, vote.data, vote.rater, vote.time, tally)


def _kept_record(
    vote: Vote, answer: Answer, latest: Latest, tally: Tally, *, edits: bool
) -> Iterator[Feedback]:
    """The record of a vote kept at a message that has no entry of its own."""
    node = vote.nodes[answer[1]]
    if edits and answer in latest.edits:
        tally.dropped[EDIT_STANDS] += 1
        return
    annotation, time = _mapping(node.get("annotation")), node.get("timestamp")
    yield from _rated_record(vote, node, annotation, vote.owner, time, tally)


def _rated_record(
    vote: Vote, node: Node, data: Node, rater: str, time: object, tally: Tally
) -> Iterator[Feedback]:
    score = _score_of(data.get("rating"))
    if score in NO_VOTE:
        tally.dropped[TAKEN_BACK] += 1
        return
    if score not in LABELS:
        finding = f"rating must be 1 or -1 (0 and null: no vote), but is {data.get('rating')!r}"
        raise FeedbackError(f"{vote.place}: message {node.get('id')!r}: {finding}.")
    if _is_edited(node):
        tally.dropped[EDITED] += 1
        return
    record = _plain_record(vote, node, time, tally)
    if record is None:
        return
    remarks = (str(data.get(key) or "") for key in ("reason", "comment"))
    yield replace(
        record,
        label=LABELS[score],
        score=score,
        rater=rater,
        model=str(data.get("model_id") or record.model),
        comment=": ".join(filter(None, remarks)),
    )


def _edit_records(vote: Vote, node: Node, tally: Tally) -> Iterator[Feedback]:
    edited = _plain_record(vote, node, node.get("timestamp"), tally)
    if edited is not None:
        original: list[Message] = [{"role": "assistant", "content": str(node["originalContent"])}]
        yield replace(edited, source=EDIT_SOURCE)
        yield replace(edited, source=EDIT_SOURCE, completion=original, label=False)


def _plain_record(vote: Vote, node: Node, time: object, tally: Tally) -> Feedback | None:
    """The answer with its prompt, as if desirable; None, counted, if it is unfit."""
    prompt = _prompt_of(vote, node)
    fault = _fault_of(node, prompt)
    if fault and not (fault == UNFINISHED and "unfinished" in tally.keep):
        tally.dropped[fault] += 1
        return None
    turns = [{"role": turn["role"], "content": _text_of(turn, tally)} for turn in prompt]
    for turn in prompt:
        tally.changed["attachment left out of a prompt"] += len(turn.get("files") or ())
    system = [{"role": "system", "content": vote.system}] if vote.system.strip() else []
    try:
        utc_time = utc_text(time)
    except ValueError as error:
        raise FeedbackError(f"{vote.place}: message {node.get('id')!r}: {error}.") from None
    return Feedback(
        prompt=system + turns,
        completion=[{"role": "assistant", "content": _text_of(node, tally)}],
        label=True,
        conversation=vote.answer[0],
        source=NAME,
        rater=vote.owner,
        model=str(node.get("model") or ""),
        time=utc_time,
    )


def _fault_of(node: Node, prompt: list[Node]) -> str:
    """Why the answer cannot be used, or ""."""
    if node.get("role") != "assistant":
        return NOT_AN_ANSWER
    if node.get("error"):
        return WITH_ERROR
    if not prompt:
        return WITHOUT_PROMPT
    if not all(turn.get("role") in ROLES for turn in prompt):
        return BROKEN
    return UNFINISHED if node.get("done") is False else ""


def _prompt_of(vote: Vote, node: Node) -> list[Node]:
    """The messages above the answer, root first; MISSING stands for a parent that is not there."""
    turns: list[Node] = []
    met: set[str] = set()
    parent_id = node.get("parentId")
    while parent_id is not None:
        parent_id = str(parent_id)
        parent = MISSING if parent_id in met else vote.nodes.get(parent_id, MISSING)
        turns.append(parent)
        met.add(parent_id)
        parent_id = parent.get("parentId")
    return turns[::-1]


def _text_of(node: Node, tally: Tally) -> str:
    """A message's text: its content, the text blocks of that, or of its output items."""
    content = node.get("content")
    if not content and isinstance(node.get("output"), list):
        items = (_mapping(item) for item in node["output"])
        content = [
            block
            for item in items
            if item.get("type") == "message"
            for block in item.get("content") or ()
        ]
    if not isinstance(content, list):
        return str(content or "")
    texts = []
    for block in map(_mapping, content):
        kind = block.get("type")
        if kind in TEXT_BLOCKS:
            texts.append(str(block.get("text") or block.get("content") or ""))
        else:
            name = MACHINE_BLOCKS.get(str(kind), "attachment left out of a prompt")
            tally.changed[name] += 1
    return "\n".join(texts)


def _is_edited(node: Node) -> bool:
    original, content = node.get("originalContent"), node.get("content")
    if not isinstance(original, str) or not isinstance(content, str) or not original.strip():
        return False
    return strip_text(original).strip() != strip_text(content).strip()


def _score_of(rating: object) -> str:
    if rating is None:
        return ""
    return f"{rating:g}" if isinstance(rating, float) else str(rating).strip()


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
