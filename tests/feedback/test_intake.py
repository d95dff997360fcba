"""Patterns, standard input and databases as sources."""

import io
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.file import read_feedback
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.intake import gathered
from thumbs.feedback.options import ImportOptions

ROW = '{"prompt": "%s", "completion": "b", "label": true}\n'
MAPPING = {"prompt": "q", "completion": "a", "label": "good", "rater": "who"}


def test_patterns_are_files_in_order_and_none_is_an_error(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "odd[1].jsonl").write_text("")
    with gathered([f"{tmp_path}/*.jsonl", f"{tmp_path}/odd[1].jsonl"], ImportOptions()) as paths:
        assert [path.name for path in paths] == [
            "a.jsonl",
            "b.jsonl",
            "odd[1].jsonl",
            "odd[1].jsonl",
        ]
    pattern = f"{tmp_path}/*.parquet"
    with pytest.raises(FeedbackError) as caught, gathered([pattern], ImportOptions()):
        pass
    assert str(caught.value) == f"{pattern}: no file matches this pattern."


def test_standard_input_is_a_file_as_long_as_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = io.TextIOWrapper(io.BytesIO((ROW % "a" + ROW % "b").encode()))
    monkeypatch.setattr(sys, "stdin", text)
    with gathered(["-"], ImportOptions()) as paths:
        assert import_feedback(paths, tmp_path / "f.jsonl").records == 2
    assert not paths[0].exists()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE log (q TEXT, a TEXT, good INT, who TEXT, n REAL)")
        rows = [("1+1?", "2", 1, "ann", 0.5), ("2+2?", "5", 0, "bob", None)]
        connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", rows)
        connection.commit()
    return path


def test_a_query_to_a_database_is_read_by_its_url(tmp_path: Path, database: Path) -> None:
    options = ImportOptions(query="SELECT * FROM log ORDER BY q", mapping=MAPPING)
    with gathered([f"sqlite:///{database}"], options) as paths:
        import_feedback(paths, tmp_path / "f.jsonl", options=options)
    up, down = read_feedback(tmp_path / "f.jsonl")
    assert (up.label, up.rater, up.score) == (True, "ann", "1")
    assert down.prompt == [{"role": "user", "content": "2+2?"}]
    assert down.completion == [{"role": "assistant", "content": "5"}]


def test_a_database_file_needs_its_query(tmp_path: Path, database: Path) -> None:
    options = ImportOptions(mapping=MAPPING)
    with pytest.raises(FeedbackError, match=r"its tables: log \(q, a, good, who, n\)"):
        import_feedback([database], tmp_path / "f.jsonl", options=options)
    options = ImportOptions(mapping=MAPPING, query="SELECT * FROM log")
    assert import_feedback([database], tmp_path / "f.jsonl", options=options).records == 2


def test_an_error_names_what_the_user_named(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"x": 1}')))
    options = ImportOptions(query="SELECT q FROM log")
    for source, name in (("-", "standard input"), (f"sqlite:///{database}",) * 2):
        chosen = ImportOptions() if source == "-" else options
        with (
            pytest.raises(FeedbackError) as caught,
            gathered([source], chosen) as paths,
        ):
            import_feedback(paths, tmp_path / "f.jsonl", options=chosen)
        assert str(caught.value).startswith(f"{name}: no known tool's export")


def test_a_query_needs_a_database(tmp_path: Path, database: Path) -> None:
    (tmp_path / "f.jsonl").write_text(ROW % "a")
    options = ImportOptions(query="SELECT 1")
    for source, words in ((tmp_path / "f.jsonl", "none of .* is a database"), (database, "--map")):
        with pytest.raises(FeedbackError, match=words), gathered([str(source)], options):
            pass


def test_a_url_of_no_file_makes_none(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/absent.db"
    with (
        pytest.raises(FeedbackError, match="there is no such file"),
        gathered([url], ImportOptions(query="SELECT 1")),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "query", "words"),
    [
        ("sqlite:///{}", "DROP TABLE log", "does not read. Give one SELECT"),
        ("sqlite:///{}", "SELECT * FROM logs", "no such table: logs"),
        ("sqlite:///{}", "", "no known tool's tables; found: log. Say what to read with --query"),
        (
            "nosql://u:secret@host/x",
            "SELECT 1",
            r"nosql://u:\*\*\*@host/x: is no URL of a database",
        ),
        ("postgresql+psycopg://u:secret@127.0.0.1:1/x", "SELECT 1", "u:\\*\\*\\*@127.0.0.1:1/x: "),
    ],
)
def test_what_cannot_be_read_is_refused_without_its_password(
    database: Path, url: str, query: str, words: str
) -> None:
    options = ImportOptions(query=query)
    with (
        pytest.raises(FeedbackError, match=words) as caught,
        gathered([url.format(database)], options),
    ):
        pass
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_tables_of_chainlit_are_copied_from_a_server(tmp_path: Path) -> None:
    fixture = Path(__file__).parents[1] / "fixtures" / "chainlit.db"
    with gathered([f"sqlite:///{fixture}"], ImportOptions()) as paths:
        result = import_feedback(paths, tmp_path / "f.jsonl")
    assert (result.source, result.records) == ("chainlit", 1)
    import_feedback([fixture], tmp_path / "own.jsonl")
    assert (tmp_path / "f.jsonl").read_bytes() == (tmp_path / "own.jsonl").read_bytes()
    assert json.loads((tmp_path / "f.jsonl").read_text())["rater"] == "anna"


def test_the_tables_of_open_webui_are_copied_from_a_server(tmp_path: Path) -> None:
    path = tmp_path / "webui.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE user (id TEXT)")
        columns = (
            "id TEXT, user_id TEXT, type TEXT, data JSON, meta JSON, snapshot JSON, updated_at INT"
        )
        connection.execute(f"CREATE TABLE feedback ({columns})")
        ask = {"id": "q", "parentId": None, "role": "user", "content": "2+2?"}
        said = {"id": "a", "parentId": "q", "role": "assistant", "content": "4"}
        chat = {"id": "c", "chat": {"history": {"messages": {"q": ask, "a": said}}}}
        parts = ({"rating": 1}, {"message_id": "a", "chat_id": "c"}, {"chat": chat})
        row = ("f", "ann", "rating", *map(json.dumps, parts), 1_700_000_000)
        connection.execute("INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.commit()
    with gathered([f"sqlite:///{path}"], ImportOptions()) as paths:
        result = import_feedback(paths, tmp_path / "f.jsonl")
    assert (result.source, result.records) == ("openwebui", 1)
    import_feedback([path], tmp_path / "own.jsonl")
    assert (tmp_path / "f.jsonl").read_bytes() == (tmp_path / "own.jsonl").read_bytes()


def test_a_table_of_that_name_without_the_tools_column_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE feedback (q TEXT, good INT)")
    with (
        pytest.raises(FeedbackError, match="no known tool's tables; found: feedback"),
        gathered([f"sqlite:///{path}"], ImportOptions()),
    ):
        pass
