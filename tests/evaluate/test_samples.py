"""Answers before and after: whose they are, to which prompts, and that the page shows them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from thumbs import pipeline
from thumbs.config import load_config
from thumbs.errors import ConfigError
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.tiny import save_tiny
from thumbs.runs.rundir import read_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    save_tiny(folder / "model", "llama", initializer_range=0.2)
    records = [
        with_defaults(Feedback(prompt=f"Is {i // 2} odd?", completion=f" {i % 5}", label=i % 2 > 0))
        for i in range(24)
    ]
    write_feedback(folder / "feedback.jsonl", records)
    settings = ["train.batch_size=8", "train.learning_rate=3e-2", "data.heldout_fraction=0.4"]
    config = load_config(None, settings, model=str(folder / "model"))
    pipeline.train_model(folder / "feedback.jsonl", config, folder / "run", page=False)
    return folder / "run"


def likeliest(folder: Path, prompt: str, num_tokens: int) -> str:
    """The greedy continuation by transformers alone."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    made = ids
    with torch.no_grad():
        for _ in range(num_tokens):
            token = model(input_ids=made).logits[:, -1].argmax(-1, keepdim=True)
            made = torch.cat([made, token], dim=1)
            if token.item() == tokenizer.eos_token_id:
                break
    return str(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))


def test_answers_are_the_likeliest_ones_of_both_models(run: Path) -> None:
    result = pipeline.evaluate(str(run), samples=2)
    assert result["samples"] == {"path": str(run / "samples.json"), "n": 2}
    found = read_json(run / "samples.json")["examples"]
    assert len({sample["prompt"] for sample in found}) == 2
    sample = found[0]
    for when, folder in (("before", run.parent / "model"), ("after", run / "model")):
        assert sample[when].startswith(likeliest(folder, sample["prompt"], 12).rstrip("\ufffd"))
    assert sample["before"] != sample["after"]
    page = pipeline.report([run]).read_text("utf-8")
    assert "The same prompts before and after" in page
    assert sample["prompt"] in page


def test_a_model_alone_has_no_before(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"--samples: .* is a model"):
        pipeline.evaluate(str(run.parent / "model"), samples=1)
