"""Feedback files: what goes in comes out, in the shape that trains elsewhere unchanged."""

import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from thumbs.errors import FeedbackError, OutputError
from thumbs.feedback import file as feedback_file
from thumbs.feedback.file import read_feedback, write_feedback
from thumbs.feedback.record import Feedback, Message, with_defaults

ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
ASK: list[Message] = [{"role": "user", "content": "What is 2+2?"}]
UP = Feedback(ASK, [{"role": "assistant", "content": "4"}], True)
DOWN = Feedback(ASK, [{"role": "assistant", "content": "5"}], False, weight=0.5, rater="ann")
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".zst": lambda content: zstandard.ZstdDecompressor().decompressobj().decompress(content),
}
TOOLS = '[{"name":"sum"}]'

text = st.text(max_size=12)
some_text = text.filter(str.strip)


def messages(last_role: str) -> st.SearchStrategy[list[Message]]:
    turn = st.builds(lambda content: {"role": last_role, "content": content}, some_text)
    return st.lists(turn, min_size=1, max_size=2)


fields = {
    "label": st.booleans(),
    "weight": st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    "time": st.sampled_from(["", "2026-01-01T00:00:00.000000+00:00"]),
    "tools": st.sampled_from(["null", TOOLS]),
    **dict.fromkeys(["score", "id", "conversation", "source", "rater", "model", "comment"], text),
}
of_text = st.builds(Feedback, prompt=some_text, completion=some_text, **fields)
of_messages = st.builds(
    Feedback, prompt=messages("user"), completion=messages("assistant"), **fields
)
record_lists = st.lists(of_text, min_size=1, max_size=5) | st.lists(
    of_messages, min_size=1, max_size=5
)


@pytest.mark.parametrize("ending", ENDINGS)
@given(records=record_lists)
@settings(max_examples=60, deadline=None)
def test_any_record_comes_back_as_it_was(ending: str, records: list[Feedback]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"f{ending}")
        assert write_feedback(path, records) == len(records)
        assert list(read_feedback(path)) == list(map(with_defaults, records))


def test_every_line_has_the_same_keys_and_no_null(tmp_path: Path) -> None:
    write_feedback(tmp_path / "f.jsonl", [UP, DOWN])
    up, down = map(json.loads, (tmp_path / "f.jsonl").read_text().splitlines())
    assert up == {
        "prompt": ASK,
        "completion": [{"role": "assistant", "content": "4"}],
        "label": True,
        "weight": 1.0,
        "score": "",
        "id": with_defaults(UP).id,
        "conversation": with_defaults(UP).conversation,
        "source": "",
        "rater": "",
        "model": "",
        "time": "",
        "comment": "",
    }
    assert list(down) == list(up)


@pytest.mark.parametrize("ending", ENDINGS)
def test_tools_that_appear_late_stand_in_every_record(tmp_path: Path, ending: str) -> None:
    late = Feedback(ASK, UP.completion, True, tools=TOOLS)
    write_feedback(tmp_path / f"f{ending}", [UP, DOWN, late])
    lines = raw_lines(tmp_path / f"f{ending}")
    assert [line["tools"] for line in lines] == ["null", "null", TOOLS]
    assert all("template_kwargs" not in line for line in lines)


def raw_lines(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    content = path.read_bytes()
    if path.suffix in UNPACK:
        content = UNPACK[path.suffix](content)
    return [json.loads(line) for line in content.splitlines()]


def test_parquet_goes_out_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback_file, "ROW_GROUP", 2)
    write_feedback(tmp_path / "f.parquet", [UP] * 5)
    with pq.ParquetFile(tmp_path / "f.parquet") as table:
        assert [table.metadata.row_group(i).num_rows for i in range(3)] == [2, 2, 1]


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    for ending in ENDINGS:
        for name in ("a", "b"):
            write_feedback(tmp_path / f"{name}{ending}", [UP, DOWN])
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()
    # Bytes 4 to 7 of a gzip file are its time; two writes within a second would not show it.
    assert (tmp_path / "a.jsonl.gz").read_bytes()[4:8] == bytes(4)


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_a_packed_file_with_a_changed_byte_is_not_read_as_feedback(
    tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"f{ending}"
    write_feedback(path, [UP, DOWN])
    content = path.read_bytes()
    path.write_bytes(content[:-6] + bytes([content[-6] ^ 1]) + content[-5:])
    with pytest.raises(FeedbackError, match=r"file is cut or damaged .* Copy or export it again"):
        list(read_feedback(path))


def test_a_zstandard_file_carries_a_checksum(tmp_path: Path) -> None:
    write_feedback(tmp_path / "f.jsonl.zst", [UP])
    content = (tmp_path / "f.jsonl.zst").read_bytes()
    assert zstandard.get_frame_parameters(content).has_checksum


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"f{ending}"
    write_feedback(path, [UP])

    def broken() -> Iterator[Feedback]:
        yield DOWN
        raise FeedbackError("halfway")

    with pytest.raises(FeedbackError, match="halfway"):
        write_feedback(path, broken())
    assert [record.label for record in read_feedback(path)] == [True]
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_of_the_file_is_made(tmp_path: Path) -> None:
    assert write_feedback(tmp_path / "new" / "f.jsonl", [UP]) == 1


def test_no_records_are_an_error_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(FeedbackError, match="there are no records to write"):
        write_feedback(tmp_path / "f.jsonl", [])
    assert list(tmp_path.iterdir()) == []


def test_one_file_holds_one_kind_of_prompt(tmp_path: Path) -> None:
    plain = Feedback("2+2=", "4", True, source="forum")
    with pytest.raises(FeedbackError, match=r"record 2 \(forum, id .*One file holds one kind"):
        write_feedback(tmp_path / "f.jsonl", [UP, plain])
    write_feedback(tmp_path / "a.jsonl", [UP])
    write_feedback(tmp_path / "b.jsonl", [plain])
    both = tmp_path / "both.jsonl"
    both.write_bytes(b"".join((tmp_path / name).read_bytes() for name in ("a.jsonl", "b.jsonl")))
    with pytest.raises(FeedbackError, match=r'both\.jsonl:2: "prompt" is text, but was not'):
        list(read_feedback(both))


def test_messages_with_tool_calls_are_refused_by_parquet_only(tmp_path: Path) -> None:
    call: Message = {"role": "assistant", "content": "", "tool_calls": [{"name": "sum"}]}
    record = Feedback(ASK, [call], True)
    write_feedback(tmp_path / "f.jsonl", [record])
    assert [r.completion for r in read_feedback(tmp_path / "f.jsonl")] == [[call]]
    with pytest.raises(FeedbackError, match=r"'tool_calls' do not fit .* Write a \.jsonl file"):
        write_feedback(tmp_path / "f.parquet", [record])


def test_a_malformed_record_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text('{"prompt": "a", "completion": "b", "label": "down"}\n')
    with pytest.raises(FeedbackError) as caught:
        list(read_feedback(path))
    assert str(caught.value) == (
        f"{path}:1: \"label\" must be true or false, but is 'down'. "
        "Write it without quotes; leave the row out if nobody judged it."
    )


def test_an_empty_answer_in_a_feedback_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text('{"prompt": "a", "completion": " ", "label": true}\n')
    with pytest.raises(FeedbackError, match=r'votes\.jsonl:1: "completion" is empty\. Import'):
        list(read_feedback(path))


def test_a_file_without_records_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text("\n")
    with pytest.raises(FeedbackError, match="holds no records"):
        list(read_feedback(tmp_path / "f.jsonl"))


def test_a_file_of_another_ending_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(
        FeedbackError, match=r"one of \.jsonl, \.jsonl\.gz, \.jsonl\.zst, \.parquet\. Import"
    ):
        list(read_feedback(tmp_path / "votes.csv"))
    with pytest.raises(
        FeedbackError, match=r"one of \.jsonl, \.jsonl\.gz, \.jsonl\.zst, \.parquet\.$"
    ):
        write_feedback(tmp_path / "votes.json", [UP])


def test_reading_counts_what_it_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text('{"prompt":"a","completion":"b","label":true,"split":1}\n')
    notes: Counter[str] = Counter()
    assert len(list(read_feedback(tmp_path / "f.jsonl", notes))) == 1
    assert notes["key 'split' is not used"] == 1


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that takes no files")
def test_a_folder_of_the_system_that_takes_no_files_is_refused() -> None:
    with pytest.raises(OutputError, match=r"^/proc/f\.jsonl: cannot be written"):
        write_feedback(Path("/proc/f.jsonl"), [Feedback(prompt="a", completion="b", label=True)])
