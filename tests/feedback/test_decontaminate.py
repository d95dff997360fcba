"""Prompts of held-out files are found again."""

import gzip
import json
from pathlib import Path

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.decontaminate import HeldOut
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback

LONG = "Ann has three apples and buys two more each day for a week how many has she then"


def asked(text: str) -> Feedback:
    answer = [{"role": "assistant", "content": "yes"}]
    return Feedback(prompt=[{"role": "user", "content": text}], completion=answer, label=True)


def written(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", json.dumps({"question": LONG, "answer": "17"})),
        ("a.json", json.dumps([{"prompt": [{"role": "user", "content": LONG}]}])),
        ("bbh.json", json.dumps({"examples": [{"input": LONG, "target": "(A)"}]}, indent=1)),
        ("mmlu.csv", f'"{LONG}",1,2,3,4,A\nother,1,2,3,4,B\n'),
        ("b.csv", f"id,question\n1,{LONG}\n"),
    ],
)
def test_files_of_every_kind_give_their_prompts(tmp_path: Path, name: str, content: str) -> None:
    held_out = HeldOut([written(tmp_path / name, content)])
    assert held_out.reason(asked(LONG)) == f"prompt that occurs in {name}"
    assert held_out.reason(asked("How are you today?")) == ""


def test_case_spaces_and_signs_do_not_hide_a_prompt(tmp_path: Path) -> None:
    held_out = HeldOut([written(tmp_path / "a.jsonl", '{"prompt": "What is 2 + 2?"}')])
    assert held_out.reason(asked("what  IS 2+2")) != ""
    assert held_out.reason(asked("What is 2 + 3?")) == ""
    assert held_out.reason(Feedback(prompt="What is 2 + 2", completion="4", label=True)) != ""


def test_thirteen_words_in_a_row_are_enough_and_twelve_are_not(tmp_path: Path) -> None:
    held_out = HeldOut([written(tmp_path / "a.jsonl", json.dumps({"prompt": LONG}))])
    words = LONG.split()
    assert held_out.reason(asked("Solve: " + " ".join(words[:13]) + " now")) != ""
    assert held_out.reason(asked("Solve: " + " ".join(words[:12]) + " now")) == ""


def test_an_import_leaves_them_out_and_names_the_file(tmp_path: Path) -> None:
    rows = [{"prompt": text, "completion": "b", "label": True} for text in (LONG, "Hello?")]
    source = written(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "bench").mkdir()
    with gzip.open(tmp_path / "bench" / "test.jsonl.gz", "wt") as file:
        file.write(json.dumps({"question": LONG}))
    options = ImportOptions(decontaminate=(tmp_path / "bench",))
    result = import_feedback([source], tmp_path / "f.jsonl", options=options)
    assert result.records == 1
    assert result.dropped == {"prompt that occurs in bench": 1}


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"id": 1}')
    with pytest.raises(FeedbackError, match="no prompts were found in it"):
        HeldOut([path])


@pytest.mark.shared
def test_the_benchmarks_are_found_in_themselves(shared: Path) -> None:
    held_out = HeldOut([shared / "data" / name for name in ("gsm8k", "humaneval", "mmlu", "bbh")])
    line = (shared / "data" / "gsm8k" / "test.jsonl").read_text().splitlines()[7]
    assert held_out.reason(asked(json.loads(line)["question"])) == "prompt that occurs in gsm8k"
    assert held_out.reason(asked("What should I cook for dinner tonight?")) == ""


def test_a_file_of_a_folder_without_prompts_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "Why is the sky blue?"}')
    (tmp_path / "b.jsonl").write_text('{"other": "Why?"}')
    HeldOut([tmp_path])
    said = capsys.readouterr().err
    assert f"{tmp_path / 'b.jsonl'}: no prompts were found in it; passed over" in said
    assert "a.jsonl" not in said
