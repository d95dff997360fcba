"""Chainlit: its two layers, votes on answers and on runs, one reading for SQLite and PostgreSQL."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.intake import gathered
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.feedback.sources.chainlit import detect, read

FIXTURES = Path(__file__).parents[2] / "fixtures"
SHARED = FIXTURES / "chainlit.db"
OWN = FIXTURES / "own" / "chainlit.db"

HINDI = [("system", "Be brief."), ("user", "नमस्ते")]
OWN_RECORDS_OF_T1 = [
    (HINDI, "नमस्ते जी\n\nआप कैसे हैं", True, "अच्छा", "2026-03-01T08:00:05.500000+00:00", "m1"),
    (
        [
            ("user", "नमस्ते"),
            ("assistant", "नमस्ते जी\n\nआप कैसे हैं"),
            ("user", "राजधानी क्या है"),
        ],
        "दिल्ली",
        True,
        "",
        "2026-03-01T08:00:09.500000+00:00",
        "",
    ),
]


def record(
    prompt: list[tuple[str, str]],
    answer: str,
    label: bool,
    comment: str = "",
    time: str = "",
    model: str = "",
    **more: Any,
) -> Feedback:
    return with_defaults(
        Feedback(
            [{"role": role, "content": content} for role, content in prompt],
            [{"role": "assistant", "content": answer}],
            label,
            score=str(int(label)),
            source="chainlit",
            comment=comment,
            time=time,
            model=model,
            **more,
        )
    )


OWN_RECORDS = [
    *(record(*fields, conversation="t1", rater="anna") for fields in OWN_RECORDS_OF_T1),
    record(
        [("user", "2+2?")],
        "5",
        False,
        "wrong",
        "2026-03-01T09:00:02.000000+00:00",
        conversation="t2",
    ),
    record(  # what the user asked again after an error is one turn
        [("user", "2+2?"), ("assistant", "5"), ("user", "Sure?\n\nSo?")],
        "4",
        True,
        "",
        "2026-03-01T09:00:06.000000+00:00",
        conversation="t2",
    ),
]
OWN_DROPS = {
    "vote with a later one on the same answer": 1,
    "vote taken back": 1,
    "answer with an error": 1,
    "unfinished answer": 1,
    "vote on a step without an answer": 1,
    "vote on a step that is not in its thread": 1,
}


def test_the_fixture_gives_its_record() -> None:
    assert detect(first_entry(SHARED))
    assert list(read([SHARED], Tally(), options=ImportOptions())) == [
        record(
            [("user", "What is 2+2?")],
            "5",
            False,
            "wrong",
            "2025-11-22T08:00:01.000000+00:00",
            conversation="t1",
            rater="anna",
        )
    ]


def test_the_own_fixture_gives_its_records() -> None:
    tally = Tally()
    assert list(read([OWN], tally, options=ImportOptions())) == OWN_RECORDS
    assert +tally.dropped == OWN_DROPS
    # Of "Sure?" and "So?" with a failed answer between; of two answers in one run, as the judged
    # one and in the prompt of the next.
    assert +tally.changed == {
        "message with an error left out of a prompt": 1,
        "messages of one speaker in a row, made one message": 3,
    }


OFFICIAL = """
CREATE TABLE "User" (id TEXT PRIMARY KEY, identifier TEXT UNIQUE, metadata JSON);
CREATE TABLE "Thread" (id TEXT PRIMARY KEY, "createdAt" TIMESTAMP, "updatedAt" TIMESTAMP,
    "deletedAt" TIMESTAMP, name TEXT, metadata JSON, "userId" TEXT);
CREATE TABLE "Step" (id TEXT PRIMARY KEY, "createdAt" TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    "parentId" TEXT, "threadId" TEXT, input TEXT, metadata JSON, name TEXT, output TEXT,
    type TEXT NOT NULL, "showInput" TEXT, "isError" BOOLEAN DEFAULT false,
    "startTime" TIMESTAMP NOT NULL, "endTime" TIMESTAMP NOT NULL);
CREATE TABLE "Feedback" (id TEXT PRIMARY KEY, "stepId" TEXT, name TEXT NOT NULL,
    value FLOAT NOT NULL, comment TEXT);
INSERT INTO "User" VALUES ('u1', 'anna', '{}');
INSERT INTO "Thread" (id, metadata, "userId") VALUES ('t1', '{}', 'u1'), ('t2', '{}', NULL);
UPDATE "Thread" SET "deletedAt" = '2026-03-02 00:00:00' WHERE id = 't2';
"""
# Both layers keep what was said when; the official one in startTime, without a zone.
OFFICIAL_STEPS = [
    ("a1", "q1", "t1", "assistant_message", "4", "2026-03-01 08:00:02"),
    ("q1", None, "t1", "user_message", "2+2?", "2026-03-01 08:00:01"),
    ("q2", None, "t2", "user_message", "Hi", "2026-03-01 08:00:01"),
    ("a2", None, "t2", "assistant_message", "Hello", "2026-03-01 08:00:02"),
]
OFFICIAL_VOTES = [
    ("f1", "a1", "user_feedback", 1.0, "ok"),
    ("f2", "a2", "user_feedback", 0.0, None),
]
OFFICIAL_RECORD = record(
    [("user", "2+2?")],
    "4",
    True,
    "ok",
    "2026-03-01T08:00:02.000000+00:00",
    conversation="t1",
    rater="anna",
)


def test_the_official_layers_tables_are_read_in_the_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "official.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(OFFICIAL)
        for number, parent, thread, kind, output, start in OFFICIAL_STEPS:
            database.execute(
                'INSERT INTO "Step" (id, "parentId", "threadId", type, output, "startTime", '
                '"endTime") VALUES (?, ?, ?, ?, ?, ?, ?)',
                (number, parent, thread, kind, output, start, start),
            )
        database.executemany('INSERT INTO "Feedback" VALUES (?, ?, ?, ?, ?)', OFFICIAL_VOTES)
        database.commit()
    tally = Tally()
    assert list(read([path], tally, options=ImportOptions())) == [OFFICIAL_RECORD]
    assert +tally.dropped == {"vote in a deleted thread": 1}
    assert tally.changed["time without a zone, taken as UTC"] == 1


def changed(tmp_path: Path, *statements: str) -> Path:
    """A copy of the shared fixture with something else in it."""
    path = tmp_path / "changed.db"
    path.write_bytes(SHARED.read_bytes())
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return path


def test_a_value_that_is_neither_1_nor_0_is_named(tmp_path: Path) -> None:
    path = changed(tmp_path, "UPDATE feedbacks SET value = -1")
    with pytest.raises(FeedbackError) as caught:
        list(read([path], Tally(), options=ImportOptions()))
    assert str(caught.value) == f"{path}: line 1: value is -1. Allowed: 1 and 0."


def test_a_file_without_chainlits_tables_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, "DROP TABLE threads")
    (tmp_path / "a.txt").write_text("no database")
    for other in (path, tmp_path / "a.txt"):
        with pytest.raises(FeedbackError, match="holds none of Chainlit's tables"):
            list(read([other], Tally(), options=ImportOptions()))


def test_older_versions_have_fewer_columns_and_maybe_no_users(tmp_path: Path) -> None:
    path = changed(
        tmp_path,
        "DROP TABLE users",
        "ALTER TABLE steps DROP COLUMN generation",
        "ALTER TABLE steps DROP COLUMN start",
        "ALTER TABLE threads DROP COLUMN userId",
    )
    (kept,) = read([path], Tally(), options=ImportOptions())
    assert (kept.rater, kept.model) == ("anna", "")


def test_a_question_asked_inside_of_a_run_begins_its_answer_anew(tmp_path: Path) -> None:
    path = changed(
        tmp_path,
        "DELETE FROM steps",
        "INSERT INTO steps (id, type, threadId, parentId, output, createdAt) VALUES "
        "('q', 'user_message', 't1', NULL, 'Greet me', '2026-01-01'), "
        "('s2', 'run', 't1', 'q', '', '2026-01-02'), "
        "('a', 'assistant_message', 't1', 's2', 'Your name?', '2026-01-03'), "
        "('b', 'user_message', 't1', 's2', 'Bo', '2026-01-04'), "
        "('c', 'assistant_message', 't1', 's2', 'Hello Bo', '2026-01-05')",
    )
    (kept,) = read([path], Tally(), options=ImportOptions())
    assert kept.completion == [{"role": "assistant", "content": "Hello Bo"}]
    assert [turn["content"] for turn in kept.prompt if isinstance(turn, dict)] == [
        "Greet me",
        "Your name?",
        "Bo",
    ]


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """A server that is empty afterwards."""
    engine = create_engine(postgres_url)
    yield engine
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()


def test_a_server_gives_the_records_of_the_file(postgres_url: str, engine: Engine) -> None:
    with engine.begin() as connection, closing(sqlite3.connect(OWN)) as database:
        for name in ("users", "threads", "steps", "feedbacks"):
            lines = database.execute(f"SELECT * FROM {name}")
            columns = [column[0] for column in lines.description]
            kinds = ", ".join(f'"{column}" {KINDS.get(column, "TEXT")}' for column in columns)
            connection.execute(text(f"CREATE TABLE {name} ({kinds})"))
            marks = ", ".join(
                f"CAST(CAST(:{column} AS TEXT) AS {KINDS.get(column, 'TEXT')})"
                for column in columns
            )
            for line in lines:
                cells = (None if cell is None else str(cell) for cell in line)
                values = dict(zip(columns, cells, strict=True))
                connection.execute(text(f"INSERT INTO {name} VALUES ({marks})"), values)
    with gathered([postgres_url], ImportOptions()) as paths:
        tally = Tally()
        assert list(read(paths, tally, options=ImportOptions())) == OWN_RECORDS
        assert +tally.dropped == OWN_DROPS


# As the data layer's documentation has them, beside TEXT.
KINDS = {
    **dict.fromkeys(("isError", "streaming", "waitForAnswer", "defaultOpen"), "BOOLEAN"),
    **dict.fromkeys(("generation", "metadata"), "JSONB"),
    **dict.fromkeys(("indent", "value"), "INT"),
}


def test_a_server_with_the_official_layer_is_read(postgres_url: str, engine: Engine) -> None:
    with engine.begin() as connection:
        kinds = "'assistant_message', 'user_message', 'run', 'llm', 'tool'"
        connection.execute(text(f'CREATE TYPE "StepType" AS ENUM ({kinds})'))
        official = OFFICIAL.replace("type TEXT", 'type "StepType"').replace("JSON", "JSONB")
        connection.execute(text(official.replace("TIMESTAMP", "TIMESTAMP(3)", 1)))
        for number, parent, thread, kind, output, start in OFFICIAL_STEPS:
            connection.execute(
                text(
                    'INSERT INTO "Step" (id, "parentId", "threadId", type, output, "startTime", '
                    '"endTime") VALUES (:id, :parent, :thread, CAST(:kind AS "StepType"), '
                    ":output, CAST(:start AS TIMESTAMP), CAST(:start AS TIMESTAMP))"
                ),
                {
                    "id": number,
                    "parent": parent,
                    "thread": thread,
                    "kind": kind,
                    "output": output,
                    "start": start,
                },
            )
        for number, step, name, value, comment in OFFICIAL_VOTES:
            connection.execute(
                text('INSERT INTO "Feedback" VALUES (:id, :step, :name, :value, :comment)'),
                {"id": number, "step": step, "name": name, "value": value, "comment": comment},
            )
    with gathered([postgres_url], ImportOptions()) as paths:
        tally = Tally()
        assert list(read(paths, tally, options=ImportOptions())) == [OFFICIAL_RECORD]
        assert +tally.dropped == {"vote in a deleted thread": 1}
