"""Any known export to a feedback file."""

import gzip
import json
from pathlib import Path

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.file import read_feedback
from thumbs.feedback.importing import import_feedback

FIXTURES = Path(__file__).parents[1] / "fixtures"
OPENWEBUI = FIXTURES / "openwebui_feedback-history-export.json"
HH = FIXTURES / "anthropic_hh.jsonl"
TRL = FIXTURES / "trl_unpaired_preference.jsonl"


@pytest.mark.parametrize(
    ("path", "tool", "num_records", "num_edited"),
    [(OPENWEBUI, "openwebui", 4, 2), (HH, "preference", 2, 0), (TRL, "trl-unpaired", 2, 0)],
)
def test_each_fixture_is_recognised_and_imported(
    tmp_path: Path, path: Path, tool: str, num_records: int, num_edited: int
) -> None:
    result = import_feedback([path], tmp_path / "f.jsonl")
    assert (result.source, result.records, result.edited) == (tool, num_records, num_edited)
    assert result.desirable == result.undesirable == num_records // 2
    assert result.dropped == {}
    assert len(list(read_feedback(tmp_path / "f.jsonl"))) == num_records


def test_a_gzipped_export_is_imported_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "e.json.gz").write_bytes(gzip.compress(OPENWEBUI.read_bytes()))
    assert import_feedback([tmp_path / "e.json.gz"], tmp_path / "f.jsonl").records == 4


def test_files_of_several_tools_become_one_file_without_repeats(tmp_path: Path) -> None:
    result = import_feedback([HH, OPENWEBUI, TRL], tmp_path / "f.jsonl.gz")
    assert result.source == "preference, openwebui, trl-unpaired"
    assert result.records == 6
    assert result.dropped == {"repeated record": 2}  # HH's and TRL's are the same two


def test_without_edits_only_the_votes_are_imported(tmp_path: Path) -> None:
    assert import_feedback([OPENWEBUI], tmp_path / "f.jsonl", edits=False).records == 2


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_feedback_file_imported_again_is_the_same_file(tmp_path: Path, ending: str) -> None:
    import_feedback([OPENWEBUI], tmp_path / f"a{ending}")
    import_feedback([tmp_path / f"a{ending}"], tmp_path / f"b{ending}")
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_a_named_tool_is_not_second_guessed(tmp_path: Path) -> None:
    with pytest.raises(FeedbackError, match='"prompt" is missing'):
        import_feedback([HH], tmp_path / "f.jsonl", tool="trl-unpaired")


def test_an_unknown_tool_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(FeedbackError) as caught:
        import_feedback([HH], tmp_path / "f.jsonl", tool="dify")
    allowed = "Allowed: openwebui, preference, trl-unpaired."
    assert str(caught.value) == f"--from: 'dify' is no known tool. {allowed}"


def test_an_unknown_file_is_refused_with_the_keys_found(tmp_path: Path) -> None:
    path = FIXTURES / "anythingllm_chats.json"
    with pytest.raises(
        FeedbackError, match=r"first entry's keys: 'id', 'prompt', 'response'.*--from"
    ):
        import_feedback([path], tmp_path / "f.jsonl")


def test_the_csv_export_without_text_is_refused(tmp_path: Path) -> None:
    path = FIXTURES / "openwebui_feedback-history-export_NO_TEXT.csv"
    with pytest.raises(FeedbackError, match="Export JSON instead"):
        import_feedback([path], tmp_path / "f.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_nothing_left_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    entries = json.loads(OPENWEBUI.read_text())[:1]
    entries[0]["data"]["rating"] = None
    entries[0]["snapshot"]["chat"]["chat"]["history"]["messages"].pop("a2")
    path.write_text(json.dumps(entries))
    with pytest.raises(FeedbackError) as caught:
        import_feedback([path], tmp_path / "f.jsonl", edits=False)
    reasons = "nothing is left to import: vote taken back, or a draw (1)."
    assert str(caught.value) == f"{path}: {reasons}"
    assert list(tmp_path.iterdir()) == [path]


def test_a_list_without_entries_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text("[]")
    with pytest.raises(FeedbackError, match="its first entry's keys: none"):
        import_feedback([tmp_path / "e.json"], tmp_path / "f.jsonl")


def test_a_source_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(TRL.read_bytes())
    with pytest.raises(FeedbackError, match="is a source of this import"):
        import_feedback([path], tmp_path / "x" / ".." / "a.jsonl")
    assert path.read_bytes() == TRL.read_bytes()


def test_messages_and_text_do_not_go_into_one_file(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"prompt": "a", "completion": "b", "label": true}\n')
    with pytest.raises(FeedbackError, match=r"record 3 .*One file holds one kind"):
        import_feedback([TRL, tmp_path / "s.jsonl"], tmp_path / "f.jsonl")


@pytest.mark.shared
def test_all_real_pairs_import_but_four_empty_answers(tmp_path: Path, shared: Path) -> None:
    pairs = shared / "data" / "hh-harmless" / "pairs.jsonl"
    result = import_feedback([pairs], tmp_path / "f.jsonl")
    assert result.records == 2 * 1200 - 4
    assert result.dropped == {"empty answer": 4}
    prompts = {json.dumps(record.prompt) for record in read_feedback(tmp_path / "f.jsonl")}
    assert len(prompts) <= 1200


@pytest.mark.shared
def test_every_shared_fixture_imports_or_is_refused_in_one_line(
    tmp_path: Path, shared: Path
) -> None:
    errors = {}
    for path in sorted((shared / "fixtures").iterdir()):
        try:
            import_feedback([path], tmp_path / "f.jsonl")
        except FeedbackError as error:
            errors[path] = str(error)
    imported = {path.name for path in (shared / "fixtures").iterdir() if path not in errors}
    assert imported == {OPENWEBUI.name, HH.name, TRL.name}
    assert all(error.startswith(str(path)) for path, error in errors.items())
    assert all("\n" not in error for error in errors.values())
