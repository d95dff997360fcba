"""Compiled layers score and learn as uncompiled ones, and what does not compile is refused."""

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from thumbs import execute, pipeline
from thumbs.config import LoraConfig, load_config
from thumbs.errors import ConfigError
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.lora import add_lora
from thumbs.models.tiny import save_tiny, tiny_model
from thumbs.scoring.compiled import compile_layers
from thumbs.scoring.forward import Scorer, build_scorer

# Dynamo looks at every input's .grad and hides the warning, unless warnings are errors.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor",
    "ignore:.torch.jit.*deprecated:DeprecationWarning",  # inductor uses what torch deprecates
)

PROMPTS, COMPLETIONS = [[5, 6, 7, 8], [9, 10]], [[11, 12], [13, 14, 15], [16]]


@pytest.fixture(autouse=True)
def no_kernels_left() -> Iterator[None]:
    """What one test compiles is not there for the next."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def logps_and_gradient(scorer: Scorer, length: int = 0, **more: Any) -> torch.Tensor:
    """Log-probs and gradients of the answers, the first prompt longer by `length` tokens."""
    scorer.model.zero_grad()
    prompts = [PROMPTS[0] + [20 + i for i in range(length)], PROMPTS[1]]
    logps = scorer(prompts, COMPLETIONS, [0, 0, 1], **more).logps
    logps.sum().backward()
    gradients = [p.grad.flatten() for p in scorer.model.parameters() if p.grad is not None]
    return torch.cat([logps.detach().flatten(), *gradients])


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler: apt install g++")
def test_layers_compiled_by_inductor_score_as_uncompiled_ones() -> None:
    # Frozen: each version of a layer's code takes g++ some ten seconds where none is kept from
    # before. Gradients are compared below, before kernels are made of them.
    scorer, plain = (
        build_scorer(tiny_model("llama", num_hidden_layers=1).requires_grad_(False))
        for _ in range(2)
    )
    compile_layers(scorer)
    assert counters["stats"]["unique_graphs"] > 0
    found, expected = (s(PROMPTS, COMPLETIONS, [0, 0, 1]).logps for s in (scorer, plain))
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")  # peft asks for it
def test_adapters_learn_alike_in_recomputed_layers_and_other_lengths_compile_nothing() -> None:
    scorers = []
    for _ in range(2):
        model = tiny_model("llama", num_hidden_layers=1)
        add_lora(model, LoraConfig(r=4, init="gaussian"), seed=0)
        scorers.append(build_scorer(model))
    scorer, plain = scorers
    compile_layers(scorer, backend="aot_eager")
    assert scorer.model.state_dict().keys() == plain.model.state_dict().keys()
    scorer.model.activation_checkpointing_enable()
    scorer.model.train()
    logps_and_gradient(scorer, 1)
    num_graphs = counters["stats"]["unique_graphs"]
    for length in (0, 3, 17, 40):
        found, expected = logps_and_gradient(scorer, length), logps_and_gradient(plain, length)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == num_graphs > 0


def broken(_graph: Any, _inputs: Any) -> Any:
    """A backend of torch.compile that fails."""
    raise RuntimeError("no compiler\nin two lines")


def test_what_does_not_compile_is_refused_in_one_line_and_scores_as_before() -> None:
    scorer = build_scorer(tiny_model("llama", num_hidden_layers=1))
    expected = logps_and_gradient(scorer)
    with pytest.raises(ConfigError, match=r"^train\.compile: .*no compiler.*=false") as caught:
        compile_layers(scorer, backend=broken)
    assert "\n" not in str(caught.value)
    assert not scorer.compiled
    assert torch.equal(logps_and_gradient(scorer), expected)


def test_a_run_whose_layers_do_not_compile_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path / "model", "llama", num_hidden_layers=1)
    records = [
        with_defaults(Feedback(prompt=f"Is {i // 2} odd?", completion=f" {i}", label=bool(i % 2)))
        for i in range(16)
    ]
    write_feedback(tmp_path / "feedback.jsonl", records)
    settings = ["train.batch_size=8", "train.compile=true", "data.heldout_fraction=0"]
    config = load_config(None, settings, model=str(tmp_path / "model"))
    failing = functools.partial(compile_layers, backend=broken)  # as if g++ were missing
    monkeypatch.setattr(execute, "compile_layers", failing)
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"train\.compile=false \(in a run's config\.yaml"):
        pipeline.train_model(tmp_path / "feedback.jsonl", config, run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("compile: true", "compile: false"))
    assert pipeline.resume_training(run, page=False)["steps"] == 2
