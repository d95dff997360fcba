"""Chainlit: the SQLite database of its SQLAlchemy layer, or the tables of its own PostgreSQL layer.

In: threads, their steps, and a value of 0 or 1 for a step: an answer, or the run it stands in.
Out: a record per value; the prompt is what user and assistant said in the thread before. A database
server is read by URL (`thumbs import postgresql+psycopg://...`), which copies the tables first.
Sources: Chainlit, backend/chainlit/data/sql_alchemy.py and chainlit-datalayer/prisma/schema.prisma.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import parsed
from thumbs.feedback.rated import RECORD_DROPS, mapping, rated_record
from thumbs.feedback.record import Feedback, Message
from thumbs.feedback.sqlite import SQLITE_TABLES, is_sqlite, read_sqlite, sqlite_tables

NAME = "chainlit"
READS = "SQLite of the SQLAlchemy layer, or PostgreSQL by URL; feedbacks.value 1 or 0"
WITH_ERROR = "answer with an error"
UNFINISHED = "unfinished answer"
WITHOUT_ANSWER = "vote on a step without an answer"
DROPS = (*RECORD_DROPS, WITH_ERROR, UNFINISHED, WITHOUT_ANSWER)

ROLES = {"user_message": "user", "assistant_message": "assistant", "system_message": "system"}


class Layer(NamedTuple):
    """How one of Chainlit's two layers names its tables and columns."""

    feedback: str
    step: str
    thread: str
    user: str
    step_of: str  # column of the feedback
    start: str  # column of the step that orders a thread


LAYERS = (
    Layer("feedbacks", "steps", "threads", "users", "forId", "createdAt"),
    Layer("Feedback", "Step", "Thread", "User", "stepId", "createdAt"),
)
TABLES = tuple(name for layer in LAYERS for name in layer[:4])  # to copy from a server
STEPS = ("id", "type", "parentId", "output", "input", "isError", "streaming", "generation")


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the tables are Chainlit's."""
    return _layer_of(mapping(entry.get(SQLITE_TABLES))) is not None


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, values are read one way
) -> Iterator[Feedback]:
    """A record per judged step.

    Raises:
        FeedbackError: a value is neither 0 nor 1, or a file is no database of Chainlit's.
    """
    for path in paths:
        layer = _layer_of(sqlite_tables(path)) if is_sqlite(path) else None
        if layer is None:
            finding = "holds none of Chainlit's tables"
            raise FeedbackError(f"{path}: {finding}. Give its SQLite file, or the server's URL.")
        for place, feedback in read_sqlite(path, _feedback_query(layer)):
            yield from _record(path, place, feedback, layer, tally)


def _layer_of(tables: Mapping[str, Sequence[str]]) -> Layer | None:
    for layer in LAYERS:
        has_tables = {layer.feedback, layer.step, layer.thread} <= tables.keys()
        if has_tables and layer.step_of in tables[layer.feedback]:
            return layer
    return None


def _feedback_query(layer: Layer) -> str:
    return (
        f'SELECT f.id, f.value, f.comment, f."{layer.step_of}" AS step, s."threadId" AS thread, '
        f"""(SELECT u.identifier FROM "{layer.user}" AS u WHERE u.id = t."userId") AS rater """
        f'FROM "{layer.feedback}" AS f LEFT JOIN "{layer.step}" AS s ON s.id = f."{layer.step_of}" '
        f'LEFT JOIN "{layer.thread}" AS t ON t.id = s."threadId" ORDER BY f.rowid'
    )


def _record(
    path: Path, place: str, feedback: Mapping[str, Any], layer: Layer, tally: Tally
) -> Iterator[Feedback]:
    label = _label(feedback["value"], place)
    columns = sqlite_tables(path)[layer.step]
    chosen = ", ".join(f'"{name}"' if name in columns else f'NULL AS "{name}"' for name in STEPS)
    query = f'SELECT {chosen}, "{layer.start}" AS start FROM "{layer.step}" WHERE "threadId" = ?'
    rows = read_sqlite(path, f'{query} ORDER BY "{layer.start}", rowid', [feedback["thread"]])
    steps = [step for _, step in rows]
    number = _answer_number(steps, feedback["step"])
    if number is None:
        tally.dropped[WITHOUT_ANSWER] += 1
        return
    answer = steps[number]
    if answer["isError"] not in (None, 0, "0", "false", False):
        tally.dropped[WITH_ERROR] += 1
        return
    if answer["streaming"] in (1, "1", "true", True) and "unfinished" not in tally.keep:
        tally.dropped[UNFINISHED] += 1
        return
    prompt: list[Message] = [
        {"role": ROLES[step["type"]], "content": _text(step)}
        for step in steps[:number]
        if step["type"] in ROLES and _text(step).strip()
    ]
    generation = mapping(parsed(answer["generation"]))
    settings = mapping(generation.get("settings"))
    record = rated_record(
        prompt,
        _text(answer),
        label,
        place,
        tally,
        score=feedback["value"],
        conversation=feedback["thread"],
        source=NAME,
        rater=feedback["rater"],
        model=generation.get("model") or settings.get("model"),
        time=answer["start"],
        comment=feedback["comment"],
    )
    if record is not None:
        yield record


def _label(value: object, place: str) -> bool:
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise FeedbackError(f"{place}: value is {shown(value)}. Allowed: 1 and 0.")


def _answer_number(steps: Sequence[Mapping[str, Any]], judged: object) -> int | None:
    """Which step is the answer: the judged one, or the last answer inside of it (a run)."""
    parents = {step["id"]: step["parentId"] for step in steps}

    def is_inside(step: object) -> bool:
        met = set()
        while step is not None and step not in met:
            if step == judged:
                return True
            met.add(step)
            step = parents.get(step)
        return False

    answers = [i for i, s in enumerate(steps) if s["type"] == "assistant_message"]
    return next((i for i in reversed(answers) if is_inside(steps[i]["id"])), None)


def _text(step: Mapping[str, Any]) -> str:
    return str(step["output"] or step["input"] or "")
