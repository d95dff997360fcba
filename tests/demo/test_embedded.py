"""What ships with the package: the model, the log of its answers, and that neither met the test."""

import gzip
import json
from functools import cache
from itertools import islice
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from thumbs.config import Config
from thumbs.demo import pretrain, task
from thumbs.demo.embedded import ASSETS, DEMO_SETTINGS, feedback_log, model_folder
from thumbs.models.generate import generate

NUM_TEST = 1500


@cache
def records() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(gzip.decompress(feedback_log().read_bytes()))
    return loaded


def question_and_answer(record: dict[str, Any]) -> tuple[str, str]:
    messages = record["snapshot"]["chat"]["chat"]["history"]["messages"]
    answer = messages[record["meta"]["message_id"]]
    return messages[answer["parentId"]]["content"], answer["content"]


@cache
def log_problems() -> dict[str, task.Problem]:
    return {p.question: p for p in task.distinct_problems("log", len(records()), seed=0)}


def pretraining_problems() -> list[task.Problem]:
    num_used = pretrain.NUM_TOKENIZER_TEXTS + pretrain.STEPS * pretrain.BATCH_SIZE
    return list(islice(task.problems("pretraining", seed=0), num_used))


def test_the_test_was_met_neither_in_pretraining_nor_in_the_log() -> None:
    pretraining = pretraining_problems()
    asked = [log_problems()[question_and_answer(record)[0]] for record in records()]
    test = task.test_problems(NUM_TEST, seed=0)
    for met in (pretraining, asked):
        assert not {p.question for p in met} & {p.question for p in test}
        assert not {p.calculation for p in met} & {p.calculation for p in test}
    assert not {p.calculation for p in pretraining} & {p.calculation for p in asked}


def test_one_vote_in_ten_contradicts_the_checker() -> None:
    problems = log_problems()
    contradicting = set()
    for i, record in enumerate(records()):
        question, answer = question_and_answer(record)
        if (record["data"]["rating"] == 1) != task.is_correct(problems[question], answer):
            contradicting.add(i)
    assert len(contradicting) == round(len(records()) / 10)
    assert contradicting == pretrain.flipped_votes(len(records()), seed=0)


def test_the_log_is_answers_of_the_embedded_model() -> None:
    # Sampled again, the first answers come back; a near tie may fall otherwise on another machine.
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    model = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32)
    logged = [question_and_answer(record) for record in records()[:100]]
    problems = log_problems()
    prompts = [pretrain.prompt_ids(tokenizer, problems[question]) for question, _ in logged]
    answers = generate(
        model, tokenizer, prompts, max_new_tokens=pretrain.MAX_NEW_TOKENS, seed=1, batch_size=100
    )
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    same = sum(text == answer for text, (_, answer) in zip(texts, logged, strict=True))
    assert same >= 98


def test_the_package_stays_small() -> None:
    model_bytes = sum(file.stat().st_size for file in model_folder().iterdir())
    assert model_bytes <= 5_000_000
    assert feedback_log().stat().st_size < 1_500_000


def test_the_weights_are_safetensors_and_nothing_is_pickled() -> None:
    suffixes = {file.suffix for file in ASSETS.rglob("*") if file.is_file()}
    assert suffixes == {".safetensors", ".json", ".jinja", ".gz"}


def test_the_embedded_model_reads_1024_tokens() -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32)
    assert model.config.max_position_embeddings >= 1024
    assert model.dtype == torch.float32
    with torch.no_grad():
        logits = model(torch.full((1, 1024), 5)).logits  # (1, T, V)
    assert bool(logits.isfinite().all())


def test_the_embedded_tokenizer_gives_back_any_unicode_text() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    text = "".join(map(chr, [*range(0x20, 0x2000), *range(0x1F300, 0x1F700)]))
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_demo_settings_are_keys_of_the_configuration() -> None:
    for key in DEMO_SETTINGS:
        stage, name = key.split(".")
        assert name in type(getattr(Config(), stage)).model_fields
