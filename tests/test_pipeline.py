"""The whole way on a tiny real model: train, kill, resume, evaluate, refuse."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import HyperCLOVAXConfig
from typer.testing import CliRunner

from thumbs import pipeline
from thumbs.cli import app
from thumbs.config import load_config
from thumbs.errors import (
    CheckpointError,
    ConfigError,
    FeedbackError,
    Interrupted,
    OutOfMemory,
    OutputError,
    RunError,
)
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.load import load_model
from thumbs.models.tiny import CHATML, random_model, save_tiny, tiny_tokenizer
from thumbs.runs.rundir import read_json, read_metrics
from thumbs.train import loop
from thumbs.train.step import train_step

BFLOAT16 = ["model.dtype=bfloat16", "train.optimizer=adamw_kahan"]
SETTINGS = ["train.batch_size=8", "train.learning_rate=3e-3", "data.heldout_fraction=0.2"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "model", "llama")
    return tmp_path / "model"


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
    path = tmp_path / "feedback.jsonl"
    write_feedback(path, records)
    return path


def test_without_its_page_a_run_has_all_else(tmp_path: Path, model: Path, feedback: Path) -> None:
    config = load_config(None, [*SETTINGS, "train.max_steps=1"], model=str(model))
    with_page = pipeline.train_model(feedback, config, tmp_path / "with")
    without = pipeline.train_model(feedback, config, tmp_path / "without", page=False)
    names = [{file.name for file in (tmp_path / run).iterdir()} for run in ("with", "without")]
    assert names[0] - names[1] == {"report.html"}
    assert with_page.keys() - without.keys() == {"report"}
    assert without["loss"] == with_page["loss"]


def test_training_teaches_the_reward_to_rank_held_out_thumbs(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    config = load_config(None, [*SETTINGS, "train.epochs=3"], model=str(model))
    result = pipeline.train_model(feedback, config, tmp_path / "run")
    run = tmp_path / "run"
    before = read_json(run / "summary.json")["heldout"]["before"]
    assert before["auc"] == 0.5  # the policy is the reference: every implied reward is 0
    assert result["heldout"]["auc"] > 0.9
    lines = read_metrics(run / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, result["steps"] + 1))
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert "held" in (run / "report.html").read_text(encoding="utf-8").lower()
    assert load_config(run / "config.yaml") == config
    evaluated = pipeline.evaluate(str(run))["feedback"]
    assert evaluated["value"] == pytest.approx(result["heldout"]["auc"], abs=1e-6)
    assert evaluated["n"] == result["heldout"]["n"]
    named = pipeline.evaluate(str(run / "model"), feedback=feedback, reference=str(model))
    assert named["feedback"]["n"] == 60


def test_a_named_template_is_saved_with_the_model_as_it_was_written(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    # It prints the date, which is fixed for the run alone, and refuses what begins with "Is 3 ".
    template = (
        "{% if messages[0].content[:5] == 'Is 3 ' %}{{ raise_exception('no threes') }}{% endif %}"
        "{{ strftime_now('%Y') }}" + CHATML
    )
    (tmp_path / "chat.jinja").write_text(template)
    named = f"data.chat_template={tmp_path / 'chat.jinja'}"
    config = load_config(None, [*SETTINGS, named, "train.max_steps=1"], model=str(model))
    pipeline.train_model(feedback, config, tmp_path / "run", page=False)
    assert (tmp_path / "run/model/chat_template.jinja").read_text() == template
    described = read_json(tmp_path / "run/data.json")
    assert described["drops"] == {"template_refused": 2}
    [warning] = (text for text in described["warnings"] if "threes" in text)
    assert warning.startswith("2 records have no row: the chat template refuses the conversation")
    # The model has the template: the file is needed no more.
    (tmp_path / "chat.jinja").unlink()
    assert pipeline.evaluate(str(tmp_path / "run"))["feedback"]["n"] == described["heldout_rows"]


@pytest.mark.parametrize(
    "settings",
    [[], BFLOAT16, ["train.optimizer=adamw_8bit"]],
    ids=["float32", "bfloat16", "8-bit moments"],
)
def test_pitfall_22_a_run_stopped_midway_ends_with_the_same_bytes(
    tmp_path: Path,
    model: Path,
    feedback: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
) -> None:
    config = load_config(
        None, [*SETTINGS, *settings, "train.epochs=2", "train.save_every=3"], model=str(model)
    )
    pipeline.train_model(feedback, config, tmp_path / "whole", page=False)
    step = train_step
    done: list[int] = []

    def stop_in_the_eighth(*args: object, **keywords: object) -> object:
        done.append(1)
        if len(done) == 8:
            raise KeyboardInterrupt
        return step(*args, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr("thumbs.train.loop.train_step", stop_in_the_eighth)
    with pytest.raises(Interrupted, match="go on with: thumbs train --resume"):
        pipeline.train_model(feedback, config, tmp_path / "stopped")
    monkeypatch.undo()
    assert (tmp_path / "stopped" / "checkpoints" / "step-000006").is_dir()
    pipeline.resume_training(tmp_path / "stopped", page=False)
    for name in ("whole", "stopped"):
        assert (tmp_path / name / "summary.json").is_file()
    ends = [(tmp_path / n / "model/model.safetensors").read_bytes() for n in ("whole", "stopped")]
    assert ends[0] == ends[1]
    drop = {"seconds"}
    lines = [
        [{k: v for k, v in line.items() if k not in drop} for line in read_metrics(path)]
        for path in (tmp_path / "whole/metrics.jsonl", tmp_path / "stopped/metrics.jsonl")
    ]
    assert lines[0] == lines[1]


def test_bfloat16_weights_are_trained_saved_and_scored_as_bfloat16(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    # The reference pass computes rows in other forwards than the step, in which bfloat16 rounds
    # otherwise: pitfall 18 saw 1.7e-2 nats, on a larger model, and allows three times that.
    changes = [*BFLOAT16, "data.heldout_fraction=0", "train.batch_size=60", "train.epochs=3"]
    config = load_config(None, [*changes, "train.learning_rate=1e-3"], model=str(model))
    run = tmp_path / "run"
    pipeline.train_model(feedback, config, run, page=False)
    first, *_, last = read_metrics(run / "metrics.jsonl")
    zeros = ("margin", "z0_raw", "reward_desirable", "reward_undesirable")
    assert [first[name] for name in zeros] == pytest.approx([0.0] * 4, abs=5e-3)
    assert last["margin"] > 0.1
    before = load_file(model / "model.safetensors")
    after = load_file(run / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert all((after[name] != before[name].bfloat16()).any() for name in before)
    (checkpoint,) = (run / "checkpoints").glob("step-000003")
    state = load_file(checkpoint / "optimizer.safetensors")
    kept = {name.rsplit("/")[-1]: tensor.dtype for name, tensor in state.items()}
    assert kept["compensation"] == torch.int16
    assert kept["exp_avg"] == kept["exp_avg_sq"] == torch.float32
    trained = config.model.model_copy(update={"name_or_path": str(run / "model")})
    reloaded = load_model(trained, device=torch.device("cpu")).model
    assert all(torch.equal(reloaded.state_dict()[name], after[name]) for name in after)
    again = feedback.with_name("again.jsonl")  # of its own feedback only what is held out counts
    again.write_bytes(feedback.read_bytes())
    evaluated = pipeline.evaluate(str(run), feedback=again)["feedback"]
    assert evaluated["n"] == 60
    assert evaluated["value"] > 0.9


def test_a_run_says_that_its_models_head_is_not_one_it_knows(
    tmp_path: Path, feedback: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # HyperCLOVA X multiplies its logits by the key that Granite divides by.
    shape = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = HyperCLOVAXConfig(
        **shape,  # type: ignore[arg-type]
        vocab_size=512,
        intermediate_size=64,
        num_hidden_layers=1,
        logits_scaling=0.5,
    )
    random_model(config).save_pretrained(tmp_path / "other")
    tiny_tokenizer().save_pretrained(tmp_path / "other")
    settings = load_config(None, [*SETTINGS, "train.max_steps=1"], model=str(tmp_path / "other"))
    pipeline.train_model(feedback, settings, tmp_path / "run", page=False)
    said = " ".join(capsys.readouterr().err.split())
    assert "the model's own forward is used: its head does more than a projection" in said
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[0]["margin"] == pytest.approx(
        0, abs=1e-4
    )


def test_a_run_with_another_feedback_file_or_model_is_not_resumed(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    config = load_config(None, [*SETTINGS, "train.max_steps=2"], model=str(model))
    pipeline.train_model(feedback, config, tmp_path / "run")
    with pytest.raises(RunError, match="complete"):
        pipeline.resume_training(tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    text = feedback.read_text(encoding="utf-8")
    feedback.write_text(text + text.splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(RunError, match="has changed"):
        pipeline.resume_training(tmp_path / "run")
    feedback.write_text(text, encoding="utf-8")
    save_tiny(model, "llama", seed=1)
    with pytest.raises(CheckpointError, match="other weights"):
        pipeline.resume_training(tmp_path / "run")


def test_the_settings_of_a_model_are_part_of_what_it_is(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    """Cached values of other settings are no use; a run whose model has others is refused."""
    config = load_config(None, [*SETTINGS, "train.max_steps=2"], model=str(model))
    pipeline.train_model(feedback, config, tmp_path / "first", page=False)
    settings = read_json(model / "config.json")
    (model / "config.json").write_text(json.dumps(settings | {"rms_norm_eps": 0.5}))
    pipeline.train_model(feedback, config, tmp_path / "second", page=False)
    first = read_metrics(tmp_path / "second" / "metrics.jsonl")[0]
    assert first["z0_raw"] == pytest.approx(0.0, abs=1e-5)  # the policy is its own reference
    assert first["reward_desirable"] == 0.0
    (model / "config.json").write_text(json.dumps(settings | {"transformers_version": "9"}))
    (tmp_path / "first" / "summary.json").unlink()
    pipeline.resume_training(tmp_path / "first", page=False)  # a version computes nothing
    (model / "config.json").write_text(json.dumps(settings))
    (tmp_path / "second" / "summary.json").unlink()
    with pytest.raises(CheckpointError, match=r"says otherwise what they compute \(config.json\)"):
        pipeline.resume_training(tmp_path / "second")


def test_an_explicit_reference_is_scored_instead_of_the_policy(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    save_tiny(tmp_path / "other", "llama", seed=3)
    changes = [*SETTINGS, f"model.reference={tmp_path / 'other'}", "train.max_steps=1"]
    config = load_config(None, changes, model=str(model))
    pipeline.train_model(feedback, config, tmp_path / "run", page=False)
    described = read_json(tmp_path / "run" / "data.json")
    assert described["reference"]["weight_sha256"] != described["policy"]["weight_sha256"]
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[0]["z0_raw"] != 0.0


def test_a_failed_start_leaves_no_run_folder(tmp_path: Path, model: Path, feedback: Path) -> None:
    config = load_config(None, ["data.max_tokens=2"], model=str(model))
    with pytest.raises(FeedbackError):
        pipeline.train_model(feedback, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_weights_of_zero_are_refused(tmp_path: Path, model: Path, feedback: Path) -> None:
    zeros = ["loss.desirable_weight=0.0", "loss.undesirable_weight=0.0"]
    with pytest.raises(ConfigError, match="both 0"):
        pipeline.train_model(feedback, load_config(None, zeros, model=str(model)), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_an_own_loss_trains_by_its_dotted_name(
    tmp_path: Path, model: Path, feedback: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_losses.py").write_text(
        "import torch\n"
        "from thumbs.core.loss_inputs import LossTerms\n\n"
        "def hinge(inputs, *, beta, desirable_weight, undesirable_weight):\n"
        "    r = inputs.log_ratio()\n"
        "    margin = torch.where(inputs.desirable, r, -r)\n"
        "    return LossTerms(torch.relu(1 - beta * margin), beta * r.detach())\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config(
        None, [*SETTINGS, "loss.name=my_losses:hinge", "train.max_steps=1"], model=str(model)
    )
    result = pipeline.train_model(feedback, config, tmp_path / "run", page=False)
    assert result["loss"] == pytest.approx(1.0, abs=1e-4)  # relu(1 - 0) at step 0
    trained = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert not all(
        (trained[name] == value).all()
        for name, value in load_file(model / "model.safetensors").items()
    )


def test_a_report_never_replaces_a_file_that_is_no_page(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    config = load_config(None, [*SETTINGS, "train.max_steps=1"], model=str(model))
    pipeline.train_model(feedback, config, tmp_path / "run", page=False)
    before = feedback.read_bytes()
    with pytest.raises(RunError, match="is no page"):
        pipeline.report([tmp_path / "run"], feedback)
    assert feedback.read_bytes() == before
    under_a_file = feedback / "page.html"
    with pytest.raises(OutputError, match="cannot be written"):
        pipeline.report([tmp_path / "run"], under_a_file)


def test_the_json_of_train_is_one_object_on_stdout(
    tmp_path: Path, model: Path, feedback: Path
) -> None:
    arguments = ["train", str(feedback), "--model", str(model), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*arguments, "--json", "--set", "train.max_steps=1"])
    assert done.exit_code == 0
    keys = json.loads(done.stdout).keys()
    assert {"run", "model", "steps", "loss", "z0", "heldout", "seconds"} <= keys


def test_out_of_memory_is_a_line_that_says_what_to_lower_and_the_run_goes_on(
    tmp_path: Path, model: Path, feedback: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hungry.py").write_text(
        "from pathlib import Path\n\n"
        "import torch\n"
        "from thumbs.core.losses import load_loss\n\n"
        "calls = []\n\n"
        "def loss(inputs, **constants):\n"
        "    calls.append(1)\n"
        "    if len(calls) >= 3 and Path('full').exists():\n"
        "        raise torch.OutOfMemoryError('CUDA out of memory.\\nTried to allocate 1 GiB')\n"
        "    return load_loss('kto')(inputs, **constants)\n"
    )
    (tmp_path / "full").touch()
    monkeypatch.chdir(tmp_path)
    changes = [*SETTINGS, "loss.name=hungry:loss", "train.save_every=1"]
    config = load_config(None, changes, model=str(model))
    with pytest.raises(OutOfMemory, match=r"even for one row at a time.*--resume") as caught:
        pipeline.train_model(feedback, config, tmp_path / "run")
    assert caught.value.exit_code == 75
    assert "\n" not in str(caught.value)
    (tmp_path / "full").unlink()
    assert pipeline.resume_training(tmp_path / "run", page=False)["steps"] == 7
    tokens = {line["micro_batch_tokens"] for line in read_metrics(tmp_path / "run/metrics.jsonl")}
    assert tokens == {4096}  # what never fitted is not kept


def test_a_long_epoch_is_saved_by_the_clock(
    tmp_path: Path, model: Path, feedback: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    config = load_config(None, [*SETTINGS, "train.keep_last=9"], model=str(model))
    steps = pipeline.train_model(feedback, config, tmp_path / "run", page=False)["steps"]
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == steps > 1


def test_check_forecasts_dpo_on_contradictory_prompts(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", "llama")
    votes = [(" yes", True), *[(" yes", False)] * 2]
    votes += [*[(" no it is not at all", True)] * 2, (" no it is not at all", False)]
    records = [
        with_defaults(Feedback(prompt="q", completion=answer, label=label, rater=f"r{i}"))
        for i, (answer, label) in enumerate(votes)
    ]
    write_feedback(tmp_path / "f.jsonl", records)
    bare = pipeline.check(tmp_path / "f.jsonl")["dpo_forecast"]
    assert (bare["pairs"], bare["needs"]) == (1, "log-probs of a reference: give --model")
    # The long answer wins 2 * 2 pairs, the short one 1 * 1; under a random model the short one is
    # far likelier, by tens of nats, against log(4) / beta.
    for beta, flipped in ((10.0, 1), (0.001, 0)):
        model = str(tmp_path / "model")
        found = pipeline.check(tmp_path / "f.jsonl", model=model, beta=beta)["dpo_forecast"]
        assert (found["pairs"], found["flipped_pairs"], found["share"]) == (1, flipped, flipped)
        assert found["unscored_pairs"] == 0
