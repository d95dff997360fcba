"""Entries out of files of every kind, and the one-line errors of damaged ones."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.entries import first_entry, read_entries


def error_of(path: Path) -> str:
    with pytest.raises(FeedbackError) as caught:
        list(read_entries(path))
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path.parent}/")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lists_and_lines_are_told_apart_by_content(tmp_path: Path, name: str, mark: bytes) -> None:
    pack = gzip.compress if name.endswith(".gz") else bytes
    as_list = written(tmp_path / name, pack(mark + b' [{"a": 1.5}, {"a": "\xc3\xa9"}]'))
    assert [entry for _, entry in read_entries(as_list)] == [{"a": 1.5}, {"a": "é"}]
    as_lines = written(tmp_path / name, pack(mark + b'{"a": 1.5}\n\n{"a": "\xc3\xa9"}'))
    assert [entry for _, entry in read_entries(as_lines)] == [{"a": 1.5}, {"a": "é"}]


def test_places_are_lines_or_record_numbers(tmp_path: Path) -> None:
    lines = written(tmp_path / "a.jsonl", b'{"a": 1}\n\n{"a": 2}\n')
    assert [place for place, _ in read_entries(lines)] == [f"{lines}:1", f"{lines}:3"]
    listed = written(tmp_path / "a.json", b'[{"a": 1}, {"a": 2}]')
    expected = [f"{listed}: record 1", f"{listed}: record 2"]
    assert [place for place, _ in read_entries(listed)] == expected


def test_a_line_separator_inside_text_does_not_split_a_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"a": "x\u2028y\x85"}\n'.encode())
    assert [entry for _, entry in read_entries(path)] == [{"a": "x\u2028y\x85"}]


def test_parquet_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": list(range(3000))}), path, row_group_size=1000)
    entries = list(read_entries(path))
    assert [entry["a"] for _, entry in entries] == list(range(3000))
    assert entries[-1][0] == f"{path}: record 3000"


def test_a_list_is_read_without_waiting_for_its_end(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", b"[" + b'{"a": 1},' * 50_000 + b"!")
    assert next(read_entries(path)) == (f"{path}: record 1", {"a": 1})


def test_the_first_entry_of_a_csv_is_its_first_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", b"\xef\xbb\xbfid,rating\n1,2\n3,4\n")
    assert first_entry(path) == {"id": "1", "rating": "2"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "a.jsonl: the file is empty."),
        ("a.jsonl", b" \n\n", "a.jsonl: the file is empty."),
        ("a.jsonl", b'{"a": 1}\n{"a"\n', "a.jsonl:2: not JSON: "),
        ("a.jsonl", b'{"a": NaN}\n', "a.jsonl:1: not JSON: "),
        ("a.jsonl", b'{"a": "\\ud83d"}\n', "a.jsonl:1: not JSON: "),
        ("a.jsonl", b'{"a": 1}\n7\n', "a.jsonl:2: must be a JSON object, but is 7."),
        (
            "a.jsonl",
            b'{"a": "\xe9"}\n',
            "a.jsonl:1: not UTF-8: byte 0xe9 at column 8. Save the file as UTF-8.",
        ),
        ("a.json", b'[{"a": 1}, {"a"', "a.json: after record 1: not JSON: "),
        ("a.json", b'[{"a": "\xe9"}]', "a.json: after record 0: not JSON: lexical error"),
        ("a.json", b"[1]", "a.json: record 1: must be a JSON object, but is 1."),
        ("a.parquet", b"PAR1 and no more", "a.parquet: not a readable Parquet file: "),
        ("a.gz", b"\x1f\x8bno gzip", "a.gz: the gzip file is cut or damaged ("),
    ],
)
def test_a_damaged_file_is_named_with_the_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    assert error_of(written(tmp_path / name, content)).startswith(message)


@pytest.mark.parametrize("start", [b"", b"["])
def test_a_cut_gzip_file_is_an_error(tmp_path: Path, start: bytes) -> None:
    entry = "".join(f'{{"a": "{number**9:x}"}},\n' for number in range(9000)).encode()
    content = start + (entry if start else entry.replace(b",\n", b"\n"))
    packed = gzip.compress(content)
    path = written(tmp_path / "a.json.gz", packed[: len(packed) // 2])
    assert "the gzip file is cut or damaged" in error_of(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert error_of(tmp_path / "no.jsonl") == "no.jsonl: there is no such file."
    (tmp_path / "a.jsonl").mkdir()
    assert error_of(tmp_path / "a.jsonl") == "a.jsonl: is a folder. Name a file in it."


@pytest.mark.parametrize(("name", "mark"), [("a.csv", b","), ("a.TSV", b"\t"), ("a.csv.gz", b",")])
def test_tables_of_text_give_a_mapping_per_line(tmp_path: Path, name: str, mark: bytes) -> None:
    pack = gzip.compress if name.endswith(".gz") else bytes
    lines = [b"\xef\xbb\xbfid", b"text\r\n1", b'"two\nlines"\r\n2\r\n']
    path = written(tmp_path / name, pack(mark.join(lines)))
    assert [(place, entry) for place, entry in read_entries(path)] == [
        (f"{path}: record 1", {"id": "1", "text": "two\nlines"}),
        (f"{path}: record 2", {"id": "2", "text": ""}),
    ]
    assert first_entry(path) == {"id": "1", "text": "two\nlines"}


def test_a_cell_may_be_as_long_as_a_chat(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", b"a\n" + b"x" * 300_000 + b"\n")
    assert len(first_entry(path)["a"]) == 300_000


def test_damaged_tables_are_refused(tmp_path: Path) -> None:
    found = error_of(written(tmp_path / "a.csv", b"a,b\n1,2\n1,2,3\n"))
    assert found == "a.csv: record 2: more cells than the header's 2. Export the table again."
    found = error_of(written(tmp_path / "a.csv", b"a,b\n1,\xff\n"))
    assert found.startswith("a.csv: after record 0: not UTF-8: ")


def test_a_table_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("q,q,a\n1,2,3\n")
    with pytest.raises(FeedbackError, match=r"log\.csv: two columns are called 'q'"):
        list(read_entries(tmp_path / "log.csv"))
