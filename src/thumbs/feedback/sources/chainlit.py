"""Chainlit: the SQLite database of its SQLAlchemy layer, or the tables of its own PostgreSQL layer.

In: threads, their steps, and a value of 0 or 1 for a step: an answer, or the run it stands in.
Out: a record per judged step. The vote on a run is on all that the assistant said in it since the
user last spoke; the prompt is what both said in the thread before. A database server is read by URL
(`thumbs import postgresql+psycopg://...`), which copies the tables to SQLite first, so both are
read in one way: the votes first, then one thread after the other.

Sources: backend/chainlit/data/sql_alchemy.py, chainlit_data_layer.py (its order by startTime, its
deletedAt) and callbacks.py of Chainlit 2.12; the tables in docs.chainlit.io/data-layers/sqlalchemy;
frontend Messages.tsx, which gives the vote the id of the run. Neither layer keeps a vote's time.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.messages import joined_turns
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import parsed, request_messages
from thumbs.feedback.rated import LATER_VOTE, RECORD_DROPS, TAKEN_BACK, mapping, rated_record
from thumbs.feedback.record import Feedback, Message
from thumbs.feedback.sqlite import SQLITE_TABLES, is_sqlite, read_sqlite, sqlite_tables

NAME = "chainlit"
READS = "SQLite of the SQLAlchemy layer, or PostgreSQL by URL; feedbacks.value 1 or 0"
WITH_ERROR = "answer with an error"
UNFINISHED = "unfinished answer"
WITHOUT_ANSWER = "vote on a step without an answer"
WITHOUT_STEP = "vote on a step that is not in its thread"
DELETED = "vote in a deleted thread"
DROPS = (
    *(*RECORD_DROPS, LATER_VOTE, TAKEN_BACK, WITH_ERROR, UNFINISHED, WITHOUT_ANSWER),
    *(WITHOUT_STEP, DELETED),
)
FAILED_TURN = "message with an error left out of a prompt"

ROLES = {"user_message": "user", "assistant_message": "assistant"}
TRUE = (1, "1", "true", "t")
Tables = Mapping[str, Sequence[str]]  # columns by table
Step = Mapping[str, Any]  # a line of `_steps_query`


class Layer(NamedTuple):
    """How one of Chainlit's two layers names its tables and columns."""

    feedback: str
    step: str
    thread: str
    user: str
    step_of: str  # column of the feedback
    starts: tuple[str, str]  # columns of the step that order a thread, the second where one is null


LAYERS = (
    Layer("feedbacks", "steps", "threads", "users", "forId", ("createdAt", "start")),
    Layer("Feedback", "Step", "Thread", "User", "stepId", ("startTime", "createdAt")),
)
TABLES = tuple(name for layer in LAYERS for name in layer[:4])  # to copy from a server
STEP_COLUMNS = ("type", "parentId", "output", "input", "isError", "streaming", "generation")


class Vote(NamedTuple):
    """The last line about a step. label: None where the vote was taken back."""

    place: str
    label: bool | None
    comment: object


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the tables are Chainlit's."""
    return bool(_layers_of(mapping(entry.get(SQLITE_TABLES))))


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, values are read one way
) -> Iterator[Feedback]:
    """A record per judged step, thread after thread.

    Raises:
        FeedbackError: a value is neither 0 nor 1, or a file is no database of Chainlit's.
    """
    for path in paths:
        tables = sqlite_tables(path) if is_sqlite(path) else {}
        layers = _layers_of(tables)
        if not layers:
            finding = "holds none of Chainlit's tables"
            raise FeedbackError(f"{path}: {finding}. Give its SQLite file, or the server's URL.")
        for layer in layers:
            yield from _records(path, layer, tables, tally)


def _layers_of(tables: Tables) -> list[Layer]:
    return [
        layer
        for layer in LAYERS
        if {layer.feedback, layer.step, layer.thread} <= tables.keys()
        and layer.step_of in tables[layer.feedback]
    ]


def _records(path: Path, layer: Layer, tables: Tables, tally: Tally) -> Iterator[Feedback]:
    votes = _votes(path, layer, tally)
    rows = (row for _, row in read_sqlite(path, _steps_query(layer, tables)))
    for _, group in groupby(rows, key=lambda row: row["thread"]):
        steps = list(group)
        for step in steps:
            vote = votes.pop(str(step["id"]), None)
            if vote is None:
                continue
            if vote.label is None:
                tally.dropped[TAKEN_BACK] += 1
            elif step["deleted"]:
                tally.dropped[DELETED] += 1
            else:
                yield from _record(steps, step, vote, vote.label, tally)
    tally.dropped[WITHOUT_STEP] += len(votes)


def _votes(path: Path, layer: Layer, tally: Tally) -> dict[str, Vote]:
    """The last vote on each step, by its id."""
    query = (
        f'SELECT "{layer.step_of}" AS step, value, comment FROM "{layer.feedback}" ORDER BY rowid'
    )
    votes: dict[str, Vote] = {}
    for place, line in read_sqlite(path, query):
        step = str(line["step"])
        tally.dropped[LATER_VOTE] += step in votes
        votes[step] = Vote(place, _label(line["value"], place), line["comment"])
    return votes


def _label(value: object, place: str) -> bool | None:
    if value is None:
        return None
    if value in (0, 1):
        return bool(value)
    raise FeedbackError(f"{place}: value is {shown(value)}. Allowed: 1 and 0.")


def _steps_query(layer: Layer, tables: Tables) -> str:
    """Every step of the threads with votes, in order, with what is known of the thread.

    Versions of Chainlit differ in their columns: one that is not there is null.
    """

    def column(alias: str, table: str, name: str) -> str:
        return f'{alias}."{name}"' if name in tables.get(table, ()) else "NULL"

    start = ", ".join(column("s", layer.step, name) for name in layer.starts)
    chosen = [f's."id" AS id, s."threadId" AS thread, COALESCE({start}) AS started']
    chosen += [f'{column("s", layer.step, name)} AS "{name}"' for name in STEP_COLUMNS]
    known = [column("t", layer.thread, "userIdentifier")]
    user = ""
    if layer.user in tables and "userId" in tables[layer.thread]:
        known.append(column("u", layer.user, "identifier"))
        user = f'LEFT JOIN "{layer.user}" AS u ON u."id" = t."userId" '
    chosen.append(f"COALESCE({', '.join([*known, 'NULL'])}) AS rater")
    chosen.append(f"{column('t', layer.thread, 'deletedAt')} AS deleted")
    judged = (
        f'SELECT j."threadId" FROM "{layer.step}" AS j '
        f'JOIN "{layer.feedback}" AS f ON f."{layer.step_of}" = j."id"'
    )
    return (
        f'SELECT {", ".join(chosen)} FROM "{layer.step}" AS s '
        f'LEFT JOIN "{layer.thread}" AS t ON t."id" = s."threadId" {user}'
        f'WHERE s."threadId" IN ({judged}) ORDER BY s."threadId", started, s.rowid'
    )


def _record(
    steps: Sequence[Step], judged: Step, vote: Vote, label: bool, tally: Tally
) -> Iterator[Feedback]:
    parents = {step["id"]: step["parentId"] for step in steps}
    answers = _answers(steps, judged, parents)
    fault = _fault_of(answers)
    if fault:
        tally.dropped[fault] += 1
        return
    before = steps[: next(i for i, step in enumerate(steps) if step is answers[0])]
    turns = [step for step in before if step["type"] in ROLES and _text(step).strip()]
    failed = [step for step in turns if _is_true(step["isError"])]
    tally.changed[FAILED_TURN] += len(failed)
    prompt: list[Message] = [
        {"role": ROLES[step["type"]], "content": _text(step)}
        for step in turns
        if not _is_true(step["isError"])
    ]
    completion = [{"role": "assistant", "content": _text(step)} for step in answers]
    system, model = _system_and_model(steps, answers[-1], parents)
    record = rated_record(
        system + joined_turns(prompt, tally),
        joined_turns(completion, tally),
        label,
        vote.place,
        tally,
        score=int(label),
        conversation=judged["thread"],
        source=NAME,
        rater=judged["rater"],
        model=model,
        time=answers[-1]["started"],
        comment=vote.comment,
    )
    if record is not None:
        yield record


def _answers(steps: Sequence[Step], judged: Step, parents: Mapping[Any, Any]) -> list[Step]:
    """The judged message; of a run, what the assistant said in it since the user last spoke."""
    if judged["type"] in ROLES:
        return [judged] if judged["type"] == "assistant_message" else []
    inside = [step for step in steps if judged["id"] in _above(step["id"], parents)]
    spoken = [i for i, step in enumerate(inside) if step["type"] == "user_message"]
    since = inside[spoken[-1] + 1 :] if spoken else inside
    return [step for step in since if step["type"] == "assistant_message"]


def _above(step: object, parents: Mapping[Any, Any]) -> list[object]:
    """The steps that a step stands in, the nearest first, and itself."""
    met: list[object] = []
    while step is not None and step not in met:
        met.append(step)
        step = parents.get(step)
    return met


def _fault_of(answers: Sequence[Step]) -> str:
    if not answers:
        return WITHOUT_ANSWER
    if any(_is_true(step["isError"]) for step in answers):
        return WITH_ERROR
    return UNFINISHED if any(_is_true(step["streaming"]) for step in answers) else ""


def _system_and_model(
    steps: Sequence[Step], answer: Step, parents: Mapping[Any, Any]
) -> tuple[list[Message], object]:
    """What the model was told, and which it was: of the answer, or of the calls in its run."""
    types = {step["id"]: step["type"] for step in steps}
    above = _above(answer["id"], parents)
    run = next((step for step in above if types.get(step) == "run"), answer["id"])
    inside = [step for step in steps if step["generation"] and run in _above(step["id"], parents)]
    system: list[Message] = []
    model: object = None
    for step in (answer, *reversed(inside)):
        generation = mapping(parsed(step["generation"]))
        model = model or generation.get("model") or mapping(generation.get("settings")).get("model")
        told = request_messages({"messages": generation.get("messages")})
        system = system or [message for message in told if message["role"] == "system"]
    return system, model


def _is_true(value: object) -> bool:
    return value in TRUE


def _text(step: Step) -> str:
    own = step["output"] or (step["input"] if step["type"] == "user_message" else "")
    return str(own or "")
