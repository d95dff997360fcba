"""A run's implied reward as judge equals the log-probs of the two models, summed."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from thumbs.config import load_config
from thumbs.evaluate.judging import Question
from thumbs.evaluate.reward_judge import RewardJudge
from thumbs.models.load import trained_model
from thumbs.models.tiny import save_tiny

ANSWERS = ["Paris", "the river Seine is long", "no", "yes, and Paris is the capital"]


@pytest.fixture
def judge(tmp_path: Path) -> RewardJudge:
    policy = str(save_tiny(tmp_path / "policy", "llama", seed=1, initializer_range=0.2))
    reference = str(save_tiny(tmp_path / "reference", "llama", seed=0, initializer_range=0.2))
    config = load_config(None, ["loss.beta=0.5", "data.max_tokens=64"], model=reference)
    return RewardJudge(
        "run:here",
        config,
        trained_model(config.model, policy),
        config.model,
        date(2026, 1, 1),
        4096,
    )


def log_prob(name: str, prompt: str, answer: str) -> float:
    """Sum of the log-probs of the answer's tokens and eos, by transformers alone."""
    auto: Any = AutoTokenizer
    tokenizer = auto.from_pretrained(name)
    model: Any = AutoModelForCausalLM.from_pretrained(name)
    start = tokenizer(prompt).input_ids
    ids = [*tokenizer(prompt + answer).input_ids, tokenizer.eos_token_id]
    with torch.no_grad():
        logps = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return float(sum(logps[t - 1, ids[t]] for t in range(len(start), len(ids))))


def test_the_higher_reward_wins(judge: RewardJudge) -> None:
    prompt = "What is the capital?\n"  # a token of its own, whatever follows
    policy, reference = judge.policy.name_or_path, judge.reference.name_or_path
    rewards = [log_prob(policy, prompt, a) - log_prob(reference, prompt, a) for a in ANSWERS]
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    found = judge.judge([Question(prompt, ANSWERS[i], ANSWERS[j]) for i, j in pairs])
    expected = ["first" if rewards[i] > rewards[j] else "second" for i, j in pairs]
    assert [judgement.verdict for judgement in found] == expected
    assert len(set(expected)) == 2


def test_equal_answers_tie_and_an_empty_one_has_no_reward(judge: RewardJudge) -> None:
    same, empty = judge.judge([Question("Why?\n", "no", "no"), Question("Why?\n", "no", " ")])
    assert same.verdict == "tie"
    assert (empty.verdict, empty.reason) == (None, "empty answer")


def test_messages_are_read_as_the_run_reads_them(judge: RewardJudge) -> None:
    prompt = [{"role": "user", "content": "Why?"}]
    forward, backward = judge.judge(
        [Question(prompt, "no", "yes it is"), Question(prompt, "yes it is", "no")]
    )
    assert {forward.verdict, backward.verdict} == {"first", "second"}
