"""Any known export to a feedback file."""

import gzip
import json
import shutil
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import zstandard

from thumbs.data.rows import Row
from thumbs.data.tokenizing import loss_segments, tokenize
from thumbs.errors import FeedbackError
from thumbs.feedback.file import read_feedback
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback
from thumbs.feedback.tools import SOURCES
from thumbs.models.tiny import train_bpe

FIXTURES = Path(__file__).parents[1] / "fixtures"
OPENWEBUI = FIXTURES / "openwebui_feedback-history-export.json"
HH = FIXTURES / "anthropic_hh.jsonl"
TRL = FIXTURES / "trl_unpaired_preference.jsonl"
BYTES = train_bpe([], 261, chat_template="chatml")


# tool, its fixtures, records, desirable, edited
IMPORTED = [
    ("anythingllm", "anythingllm_chats.json", 2, 1, 0),
    ("argilla", "argilla_records.jsonl", 1, 1, 0),
    ("chainlit", "chainlit.db", 1, 0, 0),
    ("chat-ui", "chatui_conversations.json", 1, 0, 0),
    ("halos", "halos_binary_feedback.json", 1, 1, 0),
    ("helicone", "helicone_requests.jsonl", 1, 1, 0),
    ("label-studio", "labelstudio_JSON.json", 1, 1, 0),
    ("label-studio", "labelstudio_JSON_MIN.json", 1, 1, 0),
    ("langfuse", "langfuse_traces_batch_export.jsonl", 1, 1, 0),
    ("langsmith", "langsmith_runs.jsonl", 1, 1, 0),
    ("librechat", "librechat_export.json", 1, 0, 0),
    ("llama-factory", "llamafactory_kto_messages.json", 1, 1, 0),
    ("llama-factory", "llamafactory_kto_sharegpt.json", 1, 1, 0),
    ("mlflow", "mlflow_trace.json", 1, 0, 0),
    ("openai-preference", "openai_dpo.jsonl", 2, 1, 0),
    ("openwebui", "openwebui_chat-export.json", 4, 2, 2),
    ("openwebui", "openwebui_feedback-history-export.json", 4, 2, 2),
    ("preference", "anthropic_hh.jsonl", 2, 1, 0),
    ("trl-unpaired", "trl_unpaired_preference.jsonl", 2, 1, 0),
    ("weave", "weave_calls.jsonl", 1, 1, 0),
]
# Those that no record comes out of, and what they are told.
REFUSED = {
    "dify_feedback_export_TRUNCATED.json": "nothing is left to import: answer that the export cut",
    "gradio_log.csv": "on the same answer (2), vote taken back (1)",
    "langfuse_scores_v2.json": "scores without any text. Give the traces",
    "langfuse_scores_v3.json": "scores without any text. Give the traces",
    "langsmith_feedback.jsonl": "feedback without any text. Give the runs",
    "openwebui_feedback-history-export_NO_TEXT.csv": "Export JSON instead",
    "otel_genai_log_events.jsonl": "evaluations without any text. Give the spans",
    "phoenix_span_annotations.jsonl": "annotations without any text. Give the spans",
    "phoenix_spans.jsonl": "spans without any annotation by a person. Give the annotations",
    "streamlit_feedback_return.jsonl": "what the widget returned, without any text",
}


@pytest.mark.parametrize(("tool", "name", "num_records", "num_desirable", "num_edited"), IMPORTED)
def test_each_fixture_is_imported_into_a_file_that_training_reads(
    tmp_path: Path, tool: str, name: str, num_records: int, num_desirable: int, num_edited: int
) -> None:
    result = import_feedback([FIXTURES / name], tmp_path / "f.jsonl")
    assert (result.source, result.records, result.edited) == (tool, num_records, num_edited)
    assert (result.desirable, result.desirable + result.undesirable) == (num_desirable, num_records)
    assert result.dropped == result.skipped == {}
    records = list(read_feedback(tmp_path / "f.jsonl"))
    assert [record.source.removesuffix(":edit") for record in records] == [tool] * num_records
    rows = tokenise(records)
    assert len(rows) == num_records
    assert all(any(row.loss_mask) for row in rows)


TOOL_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content }}"
    "{%- for call in message.tool_calls or [] %}"
    "{{- call.function.name + call.function.arguments | tojson }}{%- endfor %}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def test_loss_is_on_the_calls_and_words_of_an_imported_answer_not_on_results(
    tmp_path: Path,
) -> None:
    speakers = ("human", "function_call", "observation", "gpt")
    words = ("1+1?", '{"name": "add", "arguments": {"a": 1}}', "2", "It is 2.")
    turns = [{"from": who, "value": what} for who, what in zip(speakers, words, strict=True)]
    row = {"conversations": turns, "kto_tag": True, "tools": '[{"name": "add"}]'}
    (tmp_path / "e.json").write_text(json.dumps([row]))
    import_feedback([tmp_path / "e.json"], tmp_path / "f.jsonl")
    (only,) = tokenise(list(read_feedback(tmp_path / "f.jsonl")), TOOL_TEMPLATE)
    assert loss_segments(only, BYTES) == [
        ("<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n", False),
        ('add{"a": 1}<|im_end|>', True),
        ("\n<|im_start|>tool\n2<|im_end|>\n<|im_start|>assistant\n", False),
        ("It is 2.<|im_end|>", True),
    ]


def tokenise(records: list[Feedback], template: str | None = None) -> Sequence[Row]:
    tokenizer = train_bpe([], 261, chat_template=template) if template else BYTES
    return tokenize(
        records,
        tokenizer,
        max_tokens=1000,
        min_completion_tokens=1,
        chat_template=None,
        keep_cut=False,
        today=date(2026, 3, 7),
    ).rows


def test_a_folder_of_all_fixtures_is_one_feedback_file(tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    for index, (_, name, *_) in enumerate(IMPORTED):
        (folder / f"{index}").mkdir(parents=True)
        shutil.copyfile(FIXTURES / name, folder / f"{index}" / name)
    (folder / "notes.txt").write_text("exports of May")
    result = import_feedback([folder], tmp_path / "f.jsonl.zst")
    tools = list(dict.fromkeys(tool for tool, *_ in IMPORTED))
    assert sorted(result.source.split(", ")) == tools
    # Many hold "4" up without a rater; both of Label Studio's one vote. Open WebUI's chat export
    # has the votes and the edit of its feedback export, 4 records, which speaks for them.
    num_records = sum(records for _, _, records, _, _ in IMPORTED)
    repeated = result.dropped.pop("repeated record")
    assert result.dropped == {"vote with a later one on the same answer": 1}
    assert result.records == num_records - repeated - 1 - 4
    assert result.skipped == {".txt file": 1}
    assert len(list(read_feedback(tmp_path / "f.jsonl.zst"))) == result.records


def test_the_records_of_a_folder_do_not_depend_on_the_order_files_came_in(tmp_path: Path) -> None:
    row = '{"prompt": "a", "completion": "%s", "label": true}'
    for folder, names in (("one", "bca"), ("two", "cab")):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.jsonl").write_text(row % name)
        import_feedback([tmp_path / folder], tmp_path / f"{folder}.jsonl")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    records = read_feedback(tmp_path / "one.jsonl")
    assert [record.completion for record in records] == ["a", "b", "c"]


def test_an_output_inside_a_folder_of_sources_is_not_written_over(tmp_path: Path) -> None:
    shutil.copyfile(HH, tmp_path / "hh.jsonl")
    out = tmp_path / "feedback.jsonl"
    assert import_feedback([tmp_path], out).records == 2
    content = out.read_bytes()
    with pytest.raises(FeedbackError, match="is a source of this import"):
        import_feedback([tmp_path], out)
    assert out.read_bytes() == content


@pytest.mark.parametrize("name", ["e.json.gz", "e.json"])
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_packed_export_is_imported_whatever_its_name(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / name).write_bytes(pack(OPENWEBUI.read_bytes()))
    assert import_feedback([tmp_path / name], tmp_path / "f.jsonl").records == 4


def test_files_of_several_tools_become_one_file_without_repeats(tmp_path: Path) -> None:
    result = import_feedback([HH, OPENWEBUI, TRL], tmp_path / "f.jsonl.gz")
    assert result.source == "preference, openwebui, trl-unpaired"
    assert result.records == 6
    assert result.dropped == {"repeated record": 2}  # HH's and TRL's are the same two


def test_without_edits_only_the_votes_are_imported(tmp_path: Path) -> None:
    assert (
        import_feedback(
            [OPENWEBUI], tmp_path / "f.jsonl", options=ImportOptions(edits=False)
        ).records
        == 2
    )


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
        import_feedback([HH], tmp_path / "f.jsonl", tool="difi")
    allowed = f"Allowed: {', '.join(sorted([*SOURCES, 'ms-swift']))}."
    assert str(caught.value) == f"--from: 'difi' is no known tool. {allowed}"


def test_an_unknown_file_is_refused_with_the_keys_found(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"id": 1, "question": "a", "reply": "b", "stars": 5}')
    with pytest.raises(
        FeedbackError, match=r"first entry's keys: 'id', 'question', 'reply'.*--from"
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
        import_feedback([path], tmp_path / "f.jsonl", options=ImportOptions(edits=False))
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


def test_files_of_messages_and_of_text_are_named_when_they_meet(tmp_path: Path) -> None:
    texts = tmp_path / "s.jsonl"
    texts.write_text('{"prompt": "a", "completion": "b", "label": true}\n')
    with pytest.raises(FeedbackError) as caught:
        import_feedback([HH, OPENWEBUI, texts], tmp_path / "f.jsonl")
    assert str(caught.value) == (
        f"{texts}: prompts are text, but those of {HH} are lists of messages. "
        "One feedback file holds one kind: import them apart."
    )
    both = tmp_path / "both.jsonl"
    both.write_bytes(texts.read_bytes() + TRL.read_bytes())
    with pytest.raises(FeedbackError) as caught:
        import_feedback([HH, both], tmp_path / "f.jsonl", tool=None)
    assert str(caught.value).startswith(f"{both}: prompts are text, but those of {HH} are")
    with pytest.raises(FeedbackError, match=r"both\.jsonl: some prompts are text, and some are"):
        import_feedback([both], tmp_path / "f.jsonl")
    assert not (tmp_path / "f.jsonl").exists()


@pytest.mark.shared
def test_all_real_pairs_import_but_four_empty_answers(tmp_path: Path, shared: Path) -> None:
    pairs = shared / "data" / "hh-harmless" / "pairs.jsonl"
    result = import_feedback([pairs], tmp_path / "f.jsonl")
    assert result.records == 2 * 1200 - 4
    assert result.dropped == {"empty answer": 4}
    prompts = {json.dumps(record.prompt) for record in read_feedback(tmp_path / "f.jsonl")}
    assert len(prompts) <= 1200


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_text_or_no_vote_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(FeedbackError) as caught:
        import_feedback([FIXTURES / name], tmp_path / "f.jsonl")
    assert str(caught.value).startswith(str(FIXTURES / name))
    assert REFUSED[name] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "f.jsonl").exists()


@pytest.mark.shared
def test_every_shared_fixture_is_here(shared: Path) -> None:
    known = {name for _, name, *_ in IMPORTED} | REFUSED.keys()
    assert {path.name for path in (shared / "fixtures").iterdir()} == known | {"SOURCE.txt"}


@pytest.mark.parametrize(
    ("tool", "options", "message"),
    [
        (
            "openwebui",
            ImportOptions(mapping={"prompt": "a"}),
            "--map, --score: the export of openwebui says itself where things stand. Leave them "
            "out, or read its rows with --from generic.",
        ),
        (
            "argilla",
            ImportOptions(mapping={"prompt": "a", "label": "b"}),
            "--map label: is nothing that --from argilla reads. Allowed: --map prompt=FIELD --map "
            "completion=FIELD.",
        ),
        (
            "argilla",
            ImportOptions(score="a"),
            "--score: is nothing that --from argilla reads. Allowed: --map prompt=FIELD --map "
            "completion=FIELD.",
        ),
    ],
)
def test_a_mapping_that_a_source_does_not_read_is_refused(
    tmp_path: Path, tool: str, options: ImportOptions, message: str
) -> None:
    with pytest.raises(FeedbackError) as caught:
        import_feedback([OPENWEBUI], tmp_path / "out.jsonl", tool=tool, options=options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": "4"}, "--threshold: the votes of openwebui are read one way"),
        ({"up": ("good",)}, "--up: the votes of openwebui"),
        ({"down": ("bad",)}, "--down: the votes of openwebui"),
        ({"score_name": "x"}, "--score-name: the votes of openwebui"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    source = FIXTURES / "openwebui_feedback-history-export.json"
    with pytest.raises(FeedbackError, match=words):
        import_feedback([source], tmp_path / "f.jsonl", options=ImportOptions(**options))


def test_votes_without_a_rater_are_counted_before_they_are_repeats(tmp_path: Path) -> None:
    votes = [1, 1, 1, 1, 1, 0]
    (tmp_path / "log.jsonl").write_text(
        "".join(json.dumps({"q": "Q", "a": "A", "v": vote}) + "\n" for vote in votes)
    )
    mapping = {"prompt": "q", "completion": "a", "label": "v"}
    settled: list[dict[str, Any]] = [{"votes": "majority"}, {"contradictions": "majority"}]
    for how in settled:
        options = ImportOptions(mapping=mapping, **how)
        result = import_feedback([tmp_path / "log.jsonl"], tmp_path / "f.jsonl", options=options)
        assert (result.desirable, result.undesirable) == (1, 0)
        assert sum(result.dropped.values()) == len(votes) - 1
