"""Which files of a folder are read, in which order, and what happens to the others."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from thumbs.errors import FeedbackError
from thumbs.feedback.listing import list_files

FIXTURES = Path(__file__).parents[1] / "fixtures"
NO_TEXT = FIXTURES / "openwebui_feedback-history-export_NO_TEXT.csv"
ROW = json.dumps({"prompt": "a", "completion": "b", "label": True}).encode()
PAIR = json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}).encode()


def folder_of(tmp_path: Path, **contents: bytes) -> Path:
    """A folder with these files; __ in a name is a slash, _ a dot."""
    for name, content in contents.items():
        path = tmp_path / "d" / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "d"


def error_of(*sources: Path, tool: str | None = None) -> str:
    with pytest.raises(FeedbackError) as caught:
        list_files(sources, tool)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_read_with_its_folders_sorted_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, b_jsonl=ROW, a__z_jsonl=ROW, B_jsonl=ROW, a_jsonl=ROW)
    names = [str(path.relative_to(folder)) for path in list_files([folder]).files["trl-unpaired"]]
    assert names == ["B.jsonl", "a/z.jsonl", "a.jsonl", "b.jsonl"]


def test_files_of_a_folder_are_told_apart_by_content_not_by_name(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        a=ROW,
        b_txt=b"\xef\xbb\xbf [\n " + PAIR + b"]",
        c_bin=gzip.compress(ROW),
        d_json=zstandard.compress(PAIR),
    )
    files = list_files([folder]).files
    assert {tool: [path.name for path in paths] for tool, paths in files.items()} == {
        "trl-unpaired": ["a", "c.bin"],
        "preference": ["b.txt", "d.json"],
    }


def test_hidden_files_and_folders_are_not_looked_at(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a_jsonl=ROW, _b_json=b"damaged", _git__c_json=b"damaged")
    listing = list_files([folder])
    assert listing.files == {"trl-unpaired": [folder / "a.jsonl"]}
    assert listing.skipped == {}


def test_files_of_other_kinds_are_skipped_and_counted(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        a_jsonl=ROW,
        README_md=b"[![badge](x)](y)",
        b__notes_md=b"# notes",
        c_ini=b"[section]\n",
        d_j2=b"{{ prompt }}",
        e_png=b"\x89PNG\r\n",
        f_csv=b"a,b\n1,2\n",
        g_csv=b"x" * 200_000,  # a field that the csv module refuses
        h_tar_gz=gzip.compress(b"a tar"),
        LICENSE=b"",
    )
    (folder / "gone").symlink_to(folder / "nowhere")
    listing = list_files([folder])
    assert listing.files == {"trl-unpaired": [folder / "a.jsonl"]}
    assert listing.skipped == {
        "file without an ending": 1,
        ".md file": 2,
        ".ini file": 1,
        ".j2 file": 1,
        ".png file": 1,
        ".csv file": 2,
        ".tar.gz file": 1,
        "link to nothing, or no regular file": 1,
    }


def test_json_of_no_known_tool_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a_jsonl=ROW, b__x_json=b'[{"instruction": "", "output": ""}]')
    advice = f"Move it out of {folder}, or name the files to import one by one."
    error = error_of(folder)
    assert error.startswith(f"{folder / 'b' / 'x.json'}: no known tool's export; ")
    assert error.endswith(advice)


@pytest.mark.parametrize("content", [b"", b"{\n", b"[1]", b"no json"])
def test_a_damaged_file_with_an_ending_that_is_read_is_an_error(
    tmp_path: Path, content: bytes
) -> None:
    folder = folder_of(tmp_path, a_jsonl=ROW, b_json=content)
    assert error_of(folder).startswith(f"{folder / 'b.json'}")


def test_an_export_without_text_is_left_for_its_tool_to_refuse(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a_csv=NO_TEXT.read_bytes())
    assert list_files([folder]).files == {"openwebui": [folder / "a.csv"]}


def test_a_folder_without_a_file_to_read_is_an_error_that_says_what_is_there(
    tmp_path: Path,
) -> None:
    folder = folder_of(tmp_path, a_md=b"x", b_md=b"x", c_png=b"x")
    found = "found: .md file (2), .png file (1)."
    assert error_of(folder) == f"{folder}: no file to import in this folder; {found}"
    (tmp_path / "empty").mkdir()
    assert error_of(tmp_path / "empty").endswith(
        "no file to import in this folder; found: nothing."
    )


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a_jsonl=ROW)
    (folder / "again").symlink_to(folder)
    assert list_files([folder]).files == {"trl-unpaired": [folder / "a.jsonl"]}


def test_files_and_folders_keep_the_order_they_are_named_in(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, b_jsonl=ROW, a_jsonl=PAIR)
    (tmp_path / "z.jsonl").write_bytes(ROW)
    files = list_files([tmp_path / "z.jsonl", folder]).files
    assert files == {
        "trl-unpaired": [tmp_path / "z.jsonl", folder / "b.jsonl"],
        "preference": [folder / "a.jsonl"],
    }


def test_a_named_tool_reads_every_file_of_the_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, b_jsonl=ROW, a_jsonl=PAIR, c_md=b"x")
    listing = list_files([folder], "trl-unpaired")
    assert listing.files == {"trl-unpaired": [folder / "a.jsonl", folder / "b.jsonl"]}
    assert listing.skipped == {".md file": 1}
