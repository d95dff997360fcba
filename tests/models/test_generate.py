"""Generation: greedy equals transformers' own, sampling does not depend on the company."""

from collections import Counter
from typing import Any

import pytest
import torch

from thumbs.errors import ModelError
from thumbs.models.generate import _sample, generate
from thumbs.models.tiny import tiny_model


class EndToken:
    """The one thing generation reads of a tokenizer."""

    eos_token_id = 1


PROMPTS = [[7, 8, 9], [11], [20, 21, 22, 23, 24, 25, 26], [30, 31], [40, 41, 42, 43, 44]]


def generate_ids(model: Any, prompts: list[list[int]], **options: Any) -> list[list[int]]:
    settings: dict[str, Any] = {
        "max_new_tokens": 12,
        "temperature": 1.0,
        "seed": 3,
        "stop_ids": [1],
    } | options
    return generate(model, EndToken(), prompts, **settings)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "qwen3"])
def test_greedy_answers_equal_those_of_transformers_token_for_token(family: str) -> None:
    model: Any = tiny_model(family, seed=0, initializer_range=0.2)
    ours = generate_ids(model, PROMPTS, temperature=0.0, max_new_tokens=20)
    for prompt, completion in zip(PROMPTS, ours, strict=True):
        theirs = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=20,
            eos_token_id=1,
            pad_token_id=2,
        )
        assert completion == theirs[0, len(prompt) :].tolist()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_answer_does_not_depend_on_the_prompts_that_share_its_batch(family: str) -> None:
    model = tiny_model(family, seed=0, initializer_range=0.2)
    alone = generate_ids(model, PROMPTS, batch_size=1)
    assert generate_ids(model, PROMPTS, batch_size=2) == alone
    assert generate_ids(model, PROMPTS, batch_size=64) == alone


def test_the_seed_decides_the_answers() -> None:
    model = tiny_model("llama", seed=0)
    assert generate_ids(model, PROMPTS, seed=3) == generate_ids(model, PROMPTS, seed=3)
    assert generate_ids(model, PROMPTS, seed=3) != generate_ids(model, PROMPTS, seed=4)


def test_equal_prompts_are_answered_with_different_random_numbers() -> None:
    first, second = generate_ids(tiny_model("llama", seed=0), [[7, 8, 9], [7, 8, 9]])
    assert first != second


def test_a_longer_limit_only_continues_an_answer() -> None:
    model = tiny_model("llama", seed=0)
    short = generate_ids(model, PROMPTS, max_new_tokens=4)
    long = generate_ids(model, PROMPTS, max_new_tokens=9)
    assert [ids[: len(s)] for ids, s in zip(long, short, strict=True)] == short


def test_sampled_frequencies_follow_the_probabilities_at_the_temperature() -> None:
    model = tiny_model("llama", seed=0)
    with torch.no_grad():
        logits = model(torch.tensor([[7, 8, 9]])).logits[0, -1]
    expected = (logits / 0.05).softmax(-1)  # cold enough that few tokens share the mass
    draws = generate_ids(model, [[7, 8, 9]] * 2000, max_new_tokens=1, temperature=0.05)
    counted = Counter(token for (token,) in draws)
    token = int(expected.argmax())
    share = float(expected[token])
    # Four standard errors of a share p of n draws: 4 sqrt(p (1 - p) / n).
    error = (share * (1 - share) / 2000) ** 0.5
    assert counted[token] / 2000 == pytest.approx(share, abs=4 * error)
    assert 0.05 < share < 0.95


def test_top_p_draws_only_from_the_nucleus_and_in_proportion() -> None:
    # The likeliest two hold 0.4 + 0.3 < 0.75, so the third belongs too: 4/9, 3/9 and 2/9.
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    uniforms = (torch.arange(9000, dtype=torch.float64) + 0.5) / 9000
    drawn = _sample(logits.expand(9000, 4), uniforms, 0.75)
    assert torch.bincount(drawn, minlength=4).tolist() == [0, 4000, 2000, 3000]
    # Nothing is likelier than the first, so one token is always left.
    assert _sample(logits, torch.tensor([0.999]), 1e-9).tolist() == [1]


def test_top_p_of_one_changes_no_answer() -> None:
    model = tiny_model("llama", seed=0)
    assert generate_ids(model, PROMPTS, top_p=1.0) == generate_ids(model, PROMPTS)
    assert generate_ids(model, PROMPTS, top_p=0.3) != generate_ids(model, PROMPTS)


def test_an_answer_ends_with_its_stop_token() -> None:
    model = tiny_model("llama", seed=0)
    free = generate_ids(model, PROMPTS, temperature=0.0, stop_ids=[])
    assert all(len(ids) == 12 for ids in free)
    stop = free[0][4]
    stopped = generate_ids(model, PROMPTS, temperature=0.0, stop_ids=[stop])
    for ids, cut in zip(free, stopped, strict=True):
        assert cut == (ids[: ids.index(stop) + 1] if stop in ids else ids)


def test_without_stop_ids_the_end_token_stops() -> None:
    model: Any = tiny_model("llama", seed=0)
    with torch.no_grad():  # all embeddings equal: a uniform distribution, so the end token comes
        model.get_input_embeddings().weight.zero_()
        model.get_output_embeddings().weight.zero_()
    by_default = generate(model, EndToken(), [[5]] * 40, max_new_tokens=400, seed=0)
    ended = [ids for ids in by_default if 1 in ids]
    assert ended
    assert all(ids.index(1) == len(ids) - 1 for ids in ended)


def test_generation_leaves_the_training_mode_as_it_was() -> None:
    model = tiny_model("llama", seed=0).train()
    generate_ids(model, [[5]], max_new_tokens=1)
    assert model.training


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ModelError, match="prompt 1 is empty"):
        generate_ids(tiny_model("llama", seed=0), [[5], []])


def test_a_prompt_that_does_not_fit_the_context_is_refused() -> None:
    model = tiny_model("llama", seed=0)
    with pytest.raises(ModelError, match=r"2040 tokens.* context of 2048"):
        generate_ids(model, [[5] * 2040], max_new_tokens=9)


def test_no_prompts_give_no_answers() -> None:
    assert generate_ids(tiny_model("llama", seed=0), []) == []
