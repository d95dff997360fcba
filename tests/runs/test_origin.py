"""What makes another run of a run, and what only rounds differently."""

from dataclasses import replace

import pytest

from thumbs.config import load_config
from thumbs.errors import CheckpointError
from thumbs.runs.origin import (
    Origin,
    origin_config,
    read_origin,
    require_same_origin,
    rounding_differences,
)


def origin(*changes: str) -> Origin:
    inputs = {"policy": "a" * 64, "feedback": "b" * 64}
    machine: dict[str, str | int] = {"device": "cpu", "threads": 1, "micro_batch_tokens": 4096}
    return Origin(origin_config(load_config(None, changes)), inputs, machine)


def test_an_origin_reads_back_as_written() -> None:
    assert read_origin(origin().to_dict(), "data.json") == origin()


def test_settings_that_a_new_version_added_count_as_their_defaults() -> None:
    stored = origin().to_dict()
    del stored["config"]["train"]["warmup_fraction"]
    assert read_origin(stored, "data.json") == origin()


@pytest.mark.parametrize(
    "damage",
    [
        *(None, [], {}, {"config": {}, "inputs": {}}, {**origin().to_dict(), "machine": {}}),
        {**origin().to_dict(), "config": {"loss": {"gone": 1}}},
    ],
)
def test_what_is_no_origin_is_refused_in_one_line(damage: object) -> None:
    with pytest.raises(CheckpointError, match=r"^RUN/data.json: does not say what") as error:
        read_origin(damage, "RUN/data.json")
    assert "\n" not in str(error.value)


def test_every_difference_of_settings_and_inputs_is_told() -> None:
    then = replace(origin("loss.beta=0.2"), inputs={"policy": "c" * 64, "feedback": "b" * 64})
    told = (
        r"^x: is of another run: loss.beta: checkpoint has 0.2, run has 0.1; "
        r"policy: checkpoint has sha256 cccccccccccc, run has aaaaaaaaaaaa. Undo"
    )
    with pytest.raises(CheckpointError, match=told):
        require_same_origin(then, origin(), "x: is of another run", "checkpoint has")


@pytest.mark.parametrize(
    "change",
    [
        *("train.save_every=3", "train.keep_last=9", "train.eval_every=4"),
        *("model.name_or_path=moved", "model.tokenizer=moved", "data.exclude=moved"),
        *("train.micro_batch_tokens=64", "train.gradient_checkpointing=true"),
    ],
)
def test_what_leaves_the_run_the_same_may_differ(change: str) -> None:
    require_same_origin(origin(change), origin(), "x", "was")


def test_when_to_look_may_not_differ_where_the_best_evaluation_makes_the_model() -> None:
    then = origin("train.eval_every=4", "train.keep_best=true")
    with pytest.raises(CheckpointError, match=r"train\.eval_every: was 4, run has 2\."):
        require_same_origin(then, origin("train.eval_every=2", "train.keep_best=true"), "x", "was")
    with pytest.raises(CheckpointError, match=r"train\.keep_best: was True, run has False\."):
        require_same_origin(then, origin("train.eval_every=4"), "x", "was")


def test_what_may_change_the_last_bits_is_told() -> None:
    now = replace(origin(), machine={"device": "cpu", "threads": 2, "micro_batch_tokens": 64})
    then = origin("train.gradient_checkpointing=true", "train.micro_batch_tokens=4096")
    assert rounding_differences(then, now) == [
        "train.gradient_checkpointing: was True, now False",
        "threads: was 1, now 2",
        "micro_batch_tokens: was 4096, now 64",
    ]
    assert rounding_differences(now, now) == []
