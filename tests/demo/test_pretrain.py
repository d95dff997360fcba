"""The script that makes the demo's assets, run small; and its two file formats."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from thumbs.demo import pretrain, task
from thumbs.demo.embedded import feedback_log, model_folder
from thumbs.demo.feedback_log import RatedChat, write_feedback_log

FIXTURE = Path(__file__).parents[1] / "fixtures" / "openwebui_feedback-history-export.json"
REGENERATED = RatedChat("1 + 1?", ["2.", "3."], [True, False])


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("assets")
    pretrain.main(["--out", str(out), "--steps", "1", "--records", "20", "--seed", "1"])
    return out


def read_log(path: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))
    return records


def test_the_script_writes_a_model_and_a_log_of_the_asked_size(small_run: Path) -> None:
    assert len(read_log(feedback_log(small_run))) == 20
    assert (model_folder(small_run) / "model.safetensors").is_file()


def test_the_script_gives_the_same_bytes_again(small_run: Path, tmp_path: Path) -> None:
    pretrain.main(["--out", str(tmp_path), "--steps", "1", "--records", "20", "--seed", "1"])
    assert digests(tmp_path) == digests(small_run)


def digests(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def test_one_vote_in_ten_is_flipped() -> None:
    flipped = pretrain.flipped_votes(200, seed=0)
    assert len(flipped) == 20
    assert flipped <= set(range(200))
    assert flipped != pretrain.flipped_votes(200, seed=1)


def test_votes_are_the_checkers_but_for_the_flipped_ones(small_run: Path) -> None:
    problems = {p.question: p for p in task.distinct_problems("log", 20, seed=1)}
    flipped = set()
    for i, record in enumerate(read_log(feedback_log(small_run))):
        messages = record["snapshot"]["chat"]["chat"]["history"]["messages"]
        answer = messages[record["meta"]["message_id"]]
        problem = problems[messages[answer["parentId"]]["content"]]
        if (record["data"]["rating"] == 1) != task.is_correct(problem, answer["content"]):
            flipped.add(i)
    assert flipped == pretrain.flipped_votes(20, seed=1)


def test_the_log_has_the_keys_of_a_real_export(tmp_path: Path) -> None:
    path = tmp_path / "log.json.gz"
    write_feedback_log(
        path, [RatedChat("1 + 1?", ["2.", "3."], [True, False])], model_id="m", seed=0
    )
    real = json.loads(FIXTURE.read_text())[0]
    for record in read_log(path):
        assert set(record) == set(real)
        assert set(record["data"]) == set(real["data"])
        assert set(record["meta"]) == set(real["meta"])
        assert set(record["snapshot"]["chat"]) == set(real["snapshot"]["chat"])
        ours = record["snapshot"]["chat"]["chat"]
        assert set(ours) == set(real["snapshot"]["chat"]["chat"]) - {"system"}
        message = ours["history"]["messages"][record["meta"]["message_id"]]
        rated = real["snapshot"]["chat"]["chat"]["history"]["messages"]["a1"]
        assert set(message) == set(rated)


def test_a_regenerated_answer_is_a_sibling_under_the_same_question(tmp_path: Path) -> None:
    path = tmp_path / "log.json.gz"
    write_feedback_log(
        path, [RatedChat("1 + 1?", ["2.", "3."], [True, False])], model_id="m", seed=0
    )
    first, second = read_log(path)
    assert [first["data"]["rating"], second["data"]["rating"]] == [1, -1]
    assert first["snapshot"] == second["snapshot"]
    messages = first["snapshot"]["chat"]["chat"]["history"]["messages"]
    root = next(m for m in messages.values() if m["parentId"] is None)
    assert root["content"] == "1 + 1?"
    assert root["childrenIds"] == [first["meta"]["message_id"], second["meta"]["message_id"]]
    assert messages[second["meta"]["message_id"]]["content"] == "3."
    assert messages[second["meta"]["message_id"]]["feedbackId"] == second["id"]


@pytest.mark.parametrize(
    "text",
    [
        "Mia has 14 marbles. ",
        " two  spaces, a tab\t, \r\n and lines\n\n",
        "日本語 ελληνικά עברית 👍🏽 \u2581 e\u0301 \x00 \ufffd",
        "literally <0x41> and <|not special|> and don't",
        "",
    ],
)
def test_the_tokenizer_gives_back_any_unicode_text(small_run: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder(small_run))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_digits_are_tokens_of_their_own(small_run: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder(small_run))
    ids = tokenizer("1007 + 42", add_special_tokens=False)["input_ids"]
    assert [tokenizer.decode([i]) for i in ids] == ["1", "0", "0", "7", " + ", "4", "2"]


def test_the_prompt_opens_the_turn_that_the_completion_ends(small_run: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder(small_run))
    problem = task.Problem("Why?", "1 + 1", "1 + 1 = 2.", 2)
    ids = pretrain.prompt_ids(tokenizer, problem)
    expected = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(ids) == expected
    assert tokenizer.eos_token == "<|im_end|>"
