"""Answers of a model in memory: what it is given, where it stops, what is kept."""

from datetime import date
from pathlib import Path

import pytest
import torch

from thumbs.config import load_config
from thumbs.errors import ConfigError, ModelError
from thumbs.evaluate.answers import Sampling, local_answers
from thumbs.evaluate.journal import Journal, open_journal
from thumbs.evaluate.prompts_file import PromptItem
from thumbs.models.generate import context_of, generate
from thumbs.models.load import LoadedModel, load_model
from thumbs.models.tiny import save_tiny, tiny_tokenizer

CHAT = [PromptItem([{"role": "user", "content": f"What is {i}?"}]) for i in range(3)]
SAMPLED = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=6, seed=4, samples=2)


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedModel:
    name = str(save_tiny(tmp_path / "model", "llama"))
    return load_model(load_config(None, model=name).model, device=torch.device("cpu"))


def answers(
    loaded: LoadedModel,
    journal: Journal,
    items: list[PromptItem],
    sampling: Sampling = SAMPLED,
    chat_template: str | None = None,
) -> list[str]:
    today = date(2026, 1, 1)
    return local_answers(loaded, items, sampling, journal, chat_template=chat_template, today=today)


def test_answers_are_those_of_the_rendered_prompts(loaded: LoadedModel, tmp_path: Path) -> None:
    with open_journal(tmp_path / "answers.jsonl") as journal:
        found = answers(loaded, journal, CHAT)
    texts = [
        f"<|im_start|>user\nWhat is {i}?<|im_end|>\n<|im_start|>assistant\n" for i in (0, 0, 1, 1)
    ]
    ids = [loaded.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    # Ids 1 and 4 are </s> and <|im_end|>, which ends the assistant's turn.
    options = {"temperature": 1.0, "top_p": 0.9, "seed": 4, "stop_ids": [1, 4]}
    ours = generate(loaded.model, loaded.tokenizer, ids, max_new_tokens=6, **options)  # type: ignore[arg-type]
    decoded = loaded.tokenizer.batch_decode(ours, skip_special_tokens=True)
    assert found[:4] == [text.strip() for text in decoded]
    assert found[0] != found[1]  # two samples of one prompt


def test_kept_answers_are_read_and_other_settings_are_other_answers(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    with open_journal(path) as journal:
        found = answers(loaded, journal, CHAT)
        size = path.stat().st_size
        assert answers(loaded, journal, CHAT) == found
        assert path.stat().st_size == size
        greedy = answers(loaded, journal, CHAT, Sampling(max_new_tokens=6))
        assert len(greedy) == 3
        assert path.stat().st_size > size


def test_plain_text_is_continued_as_it_stands(
    loaded: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_journal(tmp_path / "answers.jsonl") as journal:
        found = answers(loaded, journal, [PromptItem("What is")], Sampling(max_new_tokens=6))
    ids = loaded.tokenizer("What is", add_special_tokens=False).input_ids
    ours = generate(loaded.model, loaded.tokenizer, [ids], max_new_tokens=6, temperature=0.0)
    assert found == [loaded.tokenizer.decode(ours[0], skip_special_tokens=True).strip()]
    assert "--chat makes them" in capsys.readouterr().err


def test_prompts_that_do_not_fit_are_told_by_their_place(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    assert context_of(loaded.model) == 2048
    items = [PromptItem("short"), *(PromptItem("1 " * 2100, place=f"p.jsonl:{i}") for i in (7, 9))]
    with open_journal(tmp_path / "answers.jsonl") as journal:
        words = (
            r"p\.jsonl:7: the prompt has [\d,]+ tokens, which with 6 new ones exceed .* 2,048 tok"
        )
        with pytest.raises(ModelError, match=words + "ens, and 1 more are too long. Shorten it"):
            answers(loaded, journal, items)
        with pytest.raises(ModelError, match=words + "ens. Shorten it"):
            answers(loaded, journal, items[:2])


def test_messages_without_a_template_are_refused_unless_one_is_named(tmp_path: Path) -> None:
    bare = tiny_tokenizer(chat_template=None)
    name = str(save_tiny(tmp_path / "bare", "llama", tokenizer=bare))
    loaded = load_model(load_config(None, model=name).model, device=torch.device("cpu"))
    with open_journal(tmp_path / "answers.jsonl") as journal:
        with pytest.raises(ConfigError, match="--chat-template: the tokenizer has no template"):
            answers(loaded, journal, CHAT)
        assert len(answers(loaded, journal, CHAT, chat_template="chatml")) == 6
