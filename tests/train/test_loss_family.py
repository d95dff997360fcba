"""Every loss of the table: a run of its own, the same run gone on with, what it refuses."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from thumbs import pipeline
from thumbs.config import load_config
from thumbs.core.losses import LOSSES
from thumbs.errors import FeedbackError
from thumbs.feedback.control import GOOD
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.loss_table import LOSS_TABLE
from thumbs.models.tiny import save_tiny
from thumbs.runs.rundir import read_json, read_metrics

SETTINGS = [
    *("train.batch_size=8", "train.max_steps=4", "train.learning_rate=1e-2"),
    *("train.save_every=1", "train.keep_last=4", "data.heldout_fraction=0.2"),
    *("train.schedule=constant", "train.warmup_fraction=0", "loss.beta=0.5"),
]
OWN = {"humanline": ["loss.sync_every=2"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and feedback in messages: 20 prompts with an answer of either label, 4 with one."""
    folder = tmp_path_factory.mktemp("family")
    save_tiny(folder / "model", "llama")
    records = [message_record(i // 2, f"yes {i % 7} of {i}", bool(i % 2)) for i in range(40)]
    records += [message_record(100 + i, f"maybe {i}", bool(i % 2)) for i in range(4)]
    write_feedback(folder / "feedback.jsonl", records)
    return folder


def message_record(number: int, answer: str, label: bool) -> Feedback:
    return with_defaults(
        Feedback(
            prompt=[{"role": "user", "content": f"Is {number} odd?"}],
            completion=[{"role": "assistant", "content": answer}],
            label=label,
        )
    )


def begin(folder: Path, name: str, run: Path, *changes: str) -> dict[str, Any]:
    chosen = [*SETTINGS, f"loss.name={name}", *OWN.get(name, []), *changes]
    config = load_config(None, chosen, model=str(folder / "model"))
    return pipeline.train_model(folder / "feedback.jsonl", config, run, page=False)


def go_on_after(run: Path, step: int) -> bytes:
    """The model's bytes after all that lies behind `step` was lost and the run gone on with."""
    for checkpoint in (run / "checkpoints").iterdir():
        if int(checkpoint.name.removeprefix("step-")) > step:
            shutil.rmtree(checkpoint)
    (run / "summary.json").unlink()
    shutil.rmtree(run / "model")
    pipeline.resume_training(run, page=False)
    return weights(run)


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def test_the_table_and_the_functions_name_the_same_losses() -> None:
    assert list(LOSS_TABLE) == sorted(LOSS_TABLE, key=list(LOSSES).index)
    assert set(LOSS_TABLE) == set(LOSSES)


@pytest.mark.parametrize("name", list(LOSS_TABLE))
def test_a_run_moves_the_model_and_goes_on_to_the_same_bytes(
    name: str, folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = begin(folder, name, run)
    assert result["steps"] == 4
    assert weights(run) != (folder / "model" / "model.safetensors").read_bytes()
    unbroken = weights(run)
    for step in (3, 2) if name == "humanline" else (2,):
        assert go_on_after(run, step) == unbroken
    AutoModelForCausalLM.from_pretrained(run / "model")  # nothing but the model is in it


@pytest.mark.parametrize("name", [name for name, row in LOSS_TABLE.items() if row.pairs])
def test_a_loss_of_pairs_leaves_out_rows_without_a_partner_and_learns_to_tell_them(
    name: str, folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    begin(folder, name, run, "train.max_steps=null", "train.epochs=4", "data.heldout_fraction=0")
    told = read_json(run / "data.json")
    assert told["drops"] == {"without_partner": 4}
    assert (told["desirable"], told["undesirable"]) == (20, 20)
    lines = read_metrics(run / "metrics.jsonl")
    assert all(line["num_desirable"] == line["num_undesirable"] == 4 for line in lines)
    assert lines[-1]["margin"] > 0.5
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_the_first_loss_of_dpo_is_that_of_no_preference(folder: Path, tmp_path: Path) -> None:
    begin(folder, "dpo", tmp_path / "run")
    first = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]
    assert first["loss"] == pytest.approx(0.693147, abs=1e-4)  # ln 2, of every pair
    assert first["z0"] is None


def test_one_pair_per_prompt(folder: Path, tmp_path: Path) -> None:
    records = [message_record(i // 4, f"answer {i}", i % 4 < 3) for i in range(32)]
    write_feedback(tmp_path / "feedback.jsonl", records)
    shutil.copytree(folder / "model", tmp_path / "model")
    for pairs, rows, dropped in (("all", 32, {}), ("one", 16, {"without_partner": 16})):
        run = tmp_path / pairs
        begin(tmp_path, "dpo", run, f"data.pairs={pairs}", "data.heldout_fraction=0")
        told = read_json(run / "data.json")
        assert (told["train_rows"], told["drops"]) == (rows, dropped)


def test_data_without_pairs_is_refused_with_their_number(folder: Path, tmp_path: Path) -> None:
    write_feedback(
        tmp_path / "feedback.jsonl",
        [message_record(i, "yes", bool(i % 2)) for i in range(12)],
    )
    shutil.copytree(folder / "model", tmp_path / "model")
    with pytest.raises(FeedbackError, match="of 12 training prompts 0 have both labels"):
        begin(tmp_path, "dpo", tmp_path / "run", "data.heldout_fraction=0")
    assert not (tmp_path / "run").exists()


def test_desirable_answers_only_are_refused_by_what_learns_from_the_others(
    folder: Path, tmp_path: Path
) -> None:
    write_feedback(
        tmp_path / "feedback.jsonl", [message_record(i, f"yes {i}", True) for i in range(12)]
    )
    shutil.copytree(folder / "model", tmp_path / "model")
    with pytest.raises(FeedbackError, match="npo learns from undesirable rows only"):
        begin(tmp_path, "npo", tmp_path / "run")


def steps_of(run: Path, *keys: str) -> list[list[Any]]:
    return [[line[key] for key in keys] for line in read_metrics(run / "metrics.jsonl")]


def near(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(a == pytest.approx(b, rel=1e-4, abs=1e-4) for a, b in pairs)


@pytest.mark.parametrize("name", ["dpo", "bco", "ppo_offline", "humanline", "kto_noref", "csft"])
def test_the_result_does_not_depend_on_the_micro_batch(
    name: str, folder: Path, tmp_path: Path
) -> None:
    keys = ("loss", "grad_norm", "reward_desirable", "reward_undesirable")
    begin(folder, name, tmp_path / "one")
    begin(folder, name, tmp_path / "many", "train.micro_batch_tokens=1")
    assert near(steps_of(tmp_path / "many", *keys), steps_of(tmp_path / "one", *keys))


def test_bco_takes_the_shift_of_the_steps_before(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(folder, "bco", run)
    first, second = steps_of(run, "reward_desirable", "reward_undesirable")[1:3]
    state = read_json(run / "checkpoints" / "step-000002" / "state.json")
    assert state["state"]["shift"]["desirable"] == pytest.approx(0.1 * first[0], abs=1e-6)
    assert second[0] != first[0]


def test_rewards_are_not_measured_from_a_mean_of_log_pi(folder: Path, tmp_path: Path) -> None:
    begin(folder, "kto_noref", tmp_path / "run")
    first = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]
    assert first["z0"] < -10  # nats; at beta .5 a row so far away is saturated
    assert first["saturation"] == 0.0  # but the rewards are log-ratios, and start at 0


def test_humanline_rewards_start_anew_at_every_sync(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin(folder, "humanline", run)
    rewards = [
        abs(up) + abs(down) for up, down in steps_of(run, "reward_desirable", "reward_undesirable")
    ]
    # Steps 1 and 3 compare the policy with itself.
    assert rewards[0] == pytest.approx(0.0, abs=1e-5)
    assert rewards[2] == pytest.approx(0.0, abs=1e-5)
    assert rewards[1] > 1e-3
    assert rewards[3] > 1e-3


def test_csft_saves_a_template_that_asks_for_good_answers(folder: Path, tmp_path: Path) -> None:
    begin(folder, "csft", tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    ask = [{"role": "user", "content": "Is 3 odd?"}]
    asked = tokenizer.apply_chat_template(ask, tokenize=False, add_generation_prompt=True)
    plain = AutoTokenizer.from_pretrained(folder / "model")
    told = [{"role": "user", "content": "Is 3 odd?" + GOOD}]
    assert asked == plain.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
    again = tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
    assert again == asked


def test_the_likelihood_of_good_answers_is_added_to_any_loss(folder: Path, tmp_path: Path) -> None:
    begin(folder, "kto", tmp_path / "plain")
    begin(folder, "kto", tmp_path / "added", "loss.sft_weight=0.5")
    plain, added = (steps_of(tmp_path / run, "loss")[0][0] for run in ("plain", "added"))
    # A random model of 512 words: ln 512 = 6.2 nats per token, half of the rows, weight 1/2.
    assert 1.3 < added - plain < 1.8
