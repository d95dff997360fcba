"""The whole way with adapters: train, resume, evaluate, train on, merge."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from thumbs import pipeline
from thumbs.config import load_config
from thumbs.errors import ConfigError, Interrupted
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.tiny import save_tiny
from thumbs.runs.rundir import read_json, read_metrics
from thumbs.train import loop
from thumbs.train.step import train_step

SETTINGS = ["train.batch_size=8", "train.learning_rate=1e-2", "data.heldout_fraction=0.2"]
ADAPTER = "adapter_model.safetensors"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "base", "llama")


@pytest.fixture
def feedback(tmp_path: Path) -> Path:
    """Sixty answers: those that say yes are liked, those that say no are not."""
    records = [
        with_defaults(
            Feedback(
                prompt=[{"role": "user", "content": f"Is {i // 2} a number?"}],
                completion=[{"role": "assistant", "content": "yes it is" if i % 2 else "no way"}],
                label=bool(i % 2),
            )
        )
        for i in range(60)
    ]
    write_feedback(tmp_path / "feedback.jsonl", records)
    return tmp_path / "feedback.jsonl"


def trained(feedback: Path, model: Path, run: Path, *changes: str) -> dict[str, Any]:
    config = load_config(None, [*SETTINGS, *changes], model=str(model))
    return pipeline.train_model(feedback, config, run, page=False)


def test_adapters_learn_and_are_evaluated_from_their_folder(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    run = tmp_path / "run"
    result = trained(feedback, model, run, "model.lora.r=4", "train.epochs=3")
    assert read_json(run / "summary.json")["heldout"]["before"]["auc"] == 0.5
    assert result["heldout"]["auc"] > 0.9
    first = read_metrics(run / "metrics.jsonl")[0]
    assert first["z0_raw"] == pytest.approx(0.0, abs=1e-4)  # log-ratio 0 at step 0
    assert {p.name for p in (run / "model").glob("*.safetensors")} == {ADAPTER}
    evaluated = pipeline.evaluate(str(run))["feedback"]
    assert evaluated["value"] == pytest.approx(result["heldout"]["auc"], abs=1e-6)
    assert evaluated["margin"] == pytest.approx(result["heldout"]["margin"], rel=1e-3)


# 4-bit weights, 8-bit moments (rank 64: 64 * 64 values reach the least size), recomputed layers.
SMALLEST = (
    *("model.quantization=nf4", "model.lora.r=64", "train.optimizer=adamw_8bit"),
    "train.gradient_checkpointing=true",
)


@pytest.mark.parametrize(
    "settings",
    [("model.lora.dropout=0.3",), ("model.lora.init=pissa",), SMALLEST],
    ids=["dropout", "pissa", "smallest"],
)
def test_pitfall_22_adapters_stopped_midway_end_with_the_same_bytes(
    tmp_path: Path,
    model: Path,
    feedback: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: tuple[str, ...],
) -> None:
    changes = (*settings, "train.save_every=3")
    trained(feedback, model, tmp_path / "whole", *changes)
    done: list[int] = []

    def stop_in_the_fifth(*args: Any, **keywords: Any) -> object:
        done.append(1)
        if len(done) == 5:
            raise KeyboardInterrupt
        return train_step(*args, **keywords)

    monkeypatch.setattr(loop, "train_step", stop_in_the_fifth)
    with pytest.raises(Interrupted):
        trained(feedback, model, tmp_path / "stopped", *changes)
    monkeypatch.undo()
    pipeline.resume_training(tmp_path / "stopped", page=False)
    ends = [(tmp_path / name / "model" / ADAPTER).read_bytes() for name in ("whole", "stopped")]
    assert ends[0] == ends[1]


def test_four_bit_weights_and_eight_bit_moments_learn_with_shared_prompts(
    tmp_path: Path, model: Path, feedback: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    result = trained(feedback, model, run, *SMALLEST, "train.epochs=2", "train.save_every=100")
    assert result["heldout"]["auc"] > 0.9
    assert "computed with its own prompt" not in capsys.readouterr().err
    (last,) = (run / "checkpoints").glob(f"step-{result['steps']:06d}")
    kept = load_file(last / "optimizer.safetensors")
    moments = {name: t for name, t in kept.items() if name.endswith("/state1")}
    eight_bit = {name for name, t in moments.items() if t.dtype == torch.uint8}
    assert eight_bit == {name for name, t in moments.items() if t.numel() >= 4_096}
    assert eight_bit
    # Rounding to four bits moves a log-prob by less than 0.3 (test_lora); answers are far shorter.
    assert read_metrics(run / "metrics.jsonl")[0]["z0_raw"] == pytest.approx(0.0, abs=0.05)


def test_dropout_of_adapters_does_not_depend_on_the_micro_batch(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    ends = {}
    for name, tokens in (("single", 1), ("whole", 100_000)):
        changes = (
            "model.lora.dropout=0.5",
            f"train.micro_batch_tokens={tokens}",
            "train.max_steps=4",
        )
        trained(feedback, model, tmp_path / name, *changes)
        ends[name] = load_file(tmp_path / name / "model" / ADAPTER)
    trained(feedback, model, tmp_path / "none", "model.lora.r=16", "train.max_steps=4")
    without = load_file(tmp_path / "none" / "model" / ADAPTER)
    for key, value in ends["single"].items():
        assert torch.allclose(value, ends["whole"][key], rtol=1e-3, atol=1e-5)
    assert any(not torch.allclose(v, without[k], atol=1e-3) for k, v in ends["single"].items())


def test_a_trained_adapter_is_trained_on_with_itself_as_reference(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    trained(feedback, model, tmp_path / "first", "model.lora.r=4", "train.epochs=2")
    adapter = tmp_path / "first" / "model"
    result = trained(feedback, model, tmp_path / "second", f"model.adapter={adapter}")
    assert read_metrics(tmp_path / "second" / "metrics.jsonl")[0]["z0_raw"] == pytest.approx(
        0.0, abs=1e-5
    )
    described = read_json(tmp_path / "second" / "data.json")
    first = read_json(tmp_path / "first" / "data.json")
    assert described["reference"]["weight_sha256"] != first["reference"]["weight_sha256"]
    evaluated = pipeline.evaluate(str(tmp_path / "second"))["feedback"]
    assert evaluated["margin"] == pytest.approx(result["heldout"]["margin"], rel=1e-3)


def test_cached_values_of_an_adapter_scaled_otherwise_are_no_use(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    trained(feedback, model, tmp_path / "first", "model.lora.r=4", "train.epochs=2")
    adapter = tmp_path / "first" / "model"
    for name, alpha in (("as-it-is", None), ("scaled", 320)):
        if alpha is not None:
            settings = read_json(adapter / "adapter_config.json")
            (adapter / "adapter_config.json").write_text(
                json.dumps(settings | {"lora_alpha": alpha})
            )
        trained(feedback, model, tmp_path / name, f"model.adapter={adapter}")
        assert read_metrics(tmp_path / name / "metrics.jsonl")[0]["z0_raw"] == pytest.approx(
            0.0, abs=1e-5
        )


def test_an_adapter_in_place_of_a_model_is_refused_with_the_way_to_train_it_on(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    trained(feedback, model, tmp_path / "first", "model.lora.r=4", "train.max_steps=1")
    adapter = tmp_path / "first" / "model"
    with pytest.raises(ConfigError, match=rf"--model {model} --set model\.adapter={adapter}"):
        trained(feedback, adapter, tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_a_merged_run_holds_a_whole_model_and_the_adapter(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    run = tmp_path / "run"
    result = trained(feedback, model, run, "model.lora.merge=true", "train.max_steps=3")
    assert (run / "model" / "model.safetensors").is_file()
    assert (run / "adapter" / ADAPTER).is_file()
    changed = load_file(run / "model" / "model.safetensors")
    base = load_file(model / "model.safetensors")
    assert changed.keys() == base.keys()
    assert any(not torch.equal(changed[name], base[name]) for name in base)
    evaluated = pipeline.evaluate(str(run))["feedback"]
    assert evaluated["margin"] == pytest.approx(result["heldout"]["margin"], rel=1e-3)


def test_gradient_checkpointing_does_not_change_adapters(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    ends = []
    for checkpointing in ("false", "true"):
        changes = (f"train.gradient_checkpointing={checkpointing}", "train.max_steps=3")
        run = tmp_path / checkpointing
        trained(feedback, model, run, "model.lora.dropout=0.2", *changes)
        ends.append(load_file(run / "model" / ADAPTER))
    for key, value in ends[0].items():
        assert torch.allclose(value, ends[1][key], rtol=1e-4, atol=1e-6)


def test_the_learning_rate_of_adapters_is_ten_times_that_of_weights() -> None:
    assert load_config(None, [], model="m").train.learning_rate == 5e-6
    assert load_config(None, ["model.lora={}"], model="m").train.learning_rate == 5e-5
    assert load_config(None, ["model.adapter=a"], model="m").train.learning_rate == 5e-5
    given = ["model.lora.r=8", "train.learning_rate=1e-6"]
    assert load_config(None, given, model="m").train.learning_rate == 1e-6


@pytest.mark.parametrize(
    ("settings", "finding"),
    [
        (["model.lora.r=8", "model.adapter=x"], "exclude each other"),
        (["model.quantization=nf4"], r"without adapters.*model\.lora=\{\}"),
        (["model.lora.merge=true", "model.quantization=int8"], "exclude each other"),
        (["model.lora.init=pissa", "model.quantization=nf4"], "init=pissa changes the weights"),
        (
            ["model.lora.r=8", "model.quantization=nf4", "model.dtype=float64"],
            "leave the dtype out",
        ),
        (["model.lora.init=zeros"], "pissa"),
        (["model.lora.rank=8"], r"model\.lora\.rank.*is 'model\.lora\.r'"),
    ],
)
def test_contradicting_settings_of_adapters_are_refused(settings: list[str], finding: str) -> None:
    with pytest.raises(ConfigError, match=finding):
        load_config(None, settings, model="m")
