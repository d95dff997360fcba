"""TRL's unpaired rows and our own files as sources."""

from pathlib import Path

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback
from thumbs.feedback.sources.trl_unpaired import WITHOUT_VOTE, detect, read

FIXTURE = Path(__file__).parents[2] / "fixtures" / "trl_unpaired_preference.jsonl"


def rows(tmp_path: Path, *lines: str, tally: Tally | None = None) -> list[Feedback]:
    (tmp_path / "f.jsonl").write_text("\n".join(lines))
    return list(read([tmp_path / "f.jsonl"], tally or Tally(), options=ImportOptions()))


def test_the_rows_of_the_fixture_are_read() -> None:
    records = list(read([FIXTURE], Tally(), options=ImportOptions()))
    contents = [record.completion[0]["content"] for record in records]  # type: ignore[index]
    assert contents == ["4", "5"]
    assert [record.label for record in records] == [True, False]
    assert {record.source for record in records} == {"trl-unpaired"}
    assert records[0].conversation == records[1].conversation


def test_a_row_is_recognised_by_its_three_keys() -> None:
    assert detect({"prompt": "", "completion": "", "label": True, "split": ""})
    assert not detect({"prompt": "", "label": True})
    assert not detect({"prompt": "", "system": "", "completion": "", "label": True})  # axolotl's


def test_plain_strings_keep_their_spaces(tmp_path: Path) -> None:
    (record,) = rows(tmp_path, '{"prompt": "The sky is", "completion": " blue.", "label": true}')
    assert (record.prompt, record.completion) == ("The sky is", " blue.")


def test_empty_answers_are_counted(tmp_path: Path) -> None:
    tally = Tally()
    empty = [f'{{"prompt": "a", "completion": {text}, "label": true}}' for text in ('" "', "null")]
    assert rows(tmp_path, *empty, tally=tally) == []
    assert tally.dropped == {"empty answer": 2}


def test_template_arguments_of_trl_are_kept_under_our_name(tmp_path: Path) -> None:
    row = '"prompt": "a", "completion": "b", "label": true'
    given = '"chat_template_kwargs": {"thinking": false}, "tools": [{"name": "sum"}]'
    (record,) = rows(tmp_path, f"{{{row}, {given}}}")
    assert record.template_kwargs == '{"thinking":false}'
    assert record.tools == '[{"name":"sum"}]'


def test_our_own_records_keep_their_source(tmp_path: Path) -> None:
    row = '"prompt": "a", "completion": "b", "label": true'
    (record,) = rows(tmp_path, f'{{{row}, "source": "openwebui", "rater": "ann", "split": 1}}')
    assert (record.source, record.rater) == ("openwebui", "ann")


@pytest.mark.parametrize(
    ("row", "finding"),
    [
        (
            '{"prompt": "a", "completion": "b", "label": "up"}',
            "true or false, but is 'up'. Write it without quotes",
        ),
        ('{"prompt": "a", "label": true}', '"completion" is missing'),
    ],
)
def test_a_malformed_row_is_an_error_with_its_line(tmp_path: Path, row: str, finding: str) -> None:
    with pytest.raises(FeedbackError) as caught:
        rows(tmp_path, '{"prompt": "a", "completion": "b", "label": true}', row)
    assert f"f.jsonl:2: {''}" in str(caught.value)
    assert finding in str(caught.value)


def test_the_cells_of_a_table_are_labels_and_weights(tmp_path: Path) -> None:
    labels = ["True", "false", "1.0", "0", "", "NaN"]
    lines = [f"q{i},a,{label},{i}.5" for i, label in enumerate(labels)]
    (tmp_path / "f.csv").write_text("\n".join(["prompt,completion,label,weight", *lines]))
    tally = Tally()
    records = list(read([tmp_path / "f.csv"], tally, options=ImportOptions()))
    assert [record.label for record in records] == [True, False, True, False]
    assert [record.weight for record in records] == [0.5, 1.5, 2.5, 3.5]
    assert tally.dropped[WITHOUT_VOTE] == 2


def test_other_words_in_a_table_are_told_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("prompt,completion,label\nq,a,fine\n")
    with pytest.raises(FeedbackError, match=r"record 1: .*'fine'.*--map label=label --up WORD"):
        list(read([tmp_path / "f.csv"], Tally(), options=ImportOptions()))
