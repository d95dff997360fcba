"""Ids of records to leave out, from each kind of file."""

from pathlib import Path

import pytest

from thumbs.errors import ConfigError
from thumbs.feedback.exclusion import excluded_ids

FILES = {
    "ids.txt": "a\n=b\n\n'c\n",
    "ids": "a =b 'c",
    "rows.jsonl": '{"id": "a"}\n{"label": true, "id": "=b"}\n\n{"id": "\'c"}\n',
    "rows.csv": "\ufeffid,label\na,true\n'=b,false\n''c,\n",
}


@pytest.mark.parametrize("name", FILES)
def test_each_kind_of_file_names_the_same_ids(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    assert excluded_ids(tmp_path / name) == {"a", "=b", "'c"}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "ids.txt"])
def test_an_empty_file_leaves_nothing_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert excluded_ids(tmp_path / name) == set()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("rows.jsonl", '{"id": "a"}\n{"id": 7}\n', 'rows.jsonl:2: "id" must be the id of a'),
        ("rows.jsonl", '{"label": true}\n', 'rows.jsonl:1: "id" must be the id of a record, but'),
        ("rows.jsonl", "a\nb\n", "cannot be read ("),
        ("rows.csv", "name\na\n", 'record 1: "id" must be the id of a record, but is None'),
    ],
)
def test_an_entry_without_an_id_is_refused_where_it_stands(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as error:
        excluded_ids(tmp_path / name)
    assert str(error.value).startswith("data.exclude: ")
    assert told in str(error.value)
    assert "\n" not in str(error.value)
