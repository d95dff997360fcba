"""A configuration is read, checked, written and described; every refusal names the key."""

import json
from pathlib import Path
from typing import Any

import pytest

from thumbs.config import Config, config_schema, dump_config, load_config, validate_config
from thumbs.errors import ConfigError

SCHEMA = Path(__file__).parents[1] / "docs" / "config.schema.json"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_without_a_file_every_key_has_its_default() -> None:
    config = load_config(None)
    assert config == Config()
    assert config.loss.beta == 0.1
    assert config.train.learning_rate == 5e-6
    assert config.loss.desirable_weight == "auto"


def test_an_override_beats_the_file_and_the_file_beats_the_default(tmp_path: Path) -> None:
    file = written(tmp_path, "loss:\n  beta: 0.3\ntrain:\n  epochs: 2\n  seed: 7\n")
    config = load_config(file, ["train.epochs=3", "loss.z0.group_rows=4"], model="some/model")
    assert config.loss.beta == 0.3
    assert (config.train.epochs, config.train.seed) == (3, 7)
    assert config.loss.z0.group_rows == 4
    assert config.model.name_or_path == "some/model"


def test_an_override_fills_a_stage_the_file_left_empty(tmp_path: Path) -> None:
    file = written(tmp_path, "train:\n")
    assert load_config(file, ["train.seed=3"]).train.seed == 3


@pytest.mark.parametrize(
    ("text", "rate"), [("5e-6", 5e-6), ("5E-6", 5e-6), ("1.5e-4", 1.5e-4), ("1e-05", 1e-5)]
)
def test_a_number_with_an_exponent_is_a_number(tmp_path: Path, text: str, rate: float) -> None:
    file = written(tmp_path, f"train:\n  learning_rate: {text}\n")
    assert load_config(file).train.learning_rate == rate
    assert load_config(None, [f"train.learning_rate={text}"]).train.learning_rate == rate


def test_a_quoted_number_in_a_name_stays_text() -> None:
    assert load_config(None, ["model.revision='1e5'"]).model.revision == "1e5"


@pytest.mark.parametrize("text", ["0.0", "0"])
def test_pitfall_21_a_weight_of_zero_is_honoured(text: str) -> None:
    config = load_config(None, [f"loss.undesirable_weight={text}"])
    assert config.loss.undesirable_weight == 0.0
    assert config.loss.desirable_weight == "auto"


def test_what_is_written_reads_back_unchanged(tmp_path: Path) -> None:
    changes = ["train.learning_rate=5e-6", "train.betas=[0.8, 0.95]", "loss.desirable_weight=0.0"]
    config = load_config(None, [*changes, "data.chat_template=größe.jinja"], model="owner/name")
    assert load_config(written(tmp_path, dump_config(config))) == config
    assert config.train.betas == (0.8, 0.95)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.learning_rat", "train.learning_rate"),
        ("train.lr_schedule", "train.schedule"),
        ("loss.betta", "loss.beta"),
        ("train.beta", "loss.beta"),
        ("beta", "loss.beta"),
        ("loss.z0.group_row", "loss.z0.group_rows"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(key: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, [f"{key}=1"])
    assert str(error.value) == f"--set: unknown key {key!r}; the nearest known key is {nearest!r}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.beta=0", "--set: loss.beta is 0: Input should be greater than 0"),
        ("loss.beta=.nan", "loss.beta is nan"),
        ("train.learning_rate=.inf", "train.learning_rate is inf"),
        ("train.betas=[0.9, 1.0]", "train.betas.1 is 1.0: Input should be less than 1"),
        ("train.epochs=1.5", "--set: train.epochs is 1.5"),
        ("train.schedule=step", "'linear', 'cosine' or 'constant'"),
        ("train.micro_batch_tokens=0", "a number of tokens >= 1, or auto"),
        ("loss.name=dpo2", "no such loss; allowed: kto, apo_zero"),
        ("loss.margin=1", "but loss.name=kto has no such constant; it belongs to slic, simpo"),
        ("loss={name: humanline, clip_low: 2}", "clip_low is 2.0, but loss.clip_high is 1.5"),
        ("loss={name: cdpo, label_smoothing: 0.5}", "loss.label_smoothing is 0.5"),
        ("loss.desirable_weight=-1", "a finite number >= 0, or auto"),
        ("loss.desirable_weight=.nan", "Input should be a finite number"),
        ("data.heldout_fraction=1", "data.heldout_fraction is 1"),
        ("loss.z0.group_rows=1", "loss.z0.group_rows is 1"),
        ("train.seed", "is not of the form a.b=value"),
        ("=1", "is not of the form a.b=value"),
        ("train.betas=[0.9", "the value is not readable YAML"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_value_is_not_a_group_of_keys() -> None:
    with pytest.raises(ConfigError, match="'beta' is a value, not a group of keys"):
        load_config(None, ["loss.beta=1", "loss.beta.deeper=2"])


@pytest.mark.parametrize(
    ("dtype", "reason"), [("bfloat16", "unmoved; set"), ("float64", "which computes in float32")]
)
def test_eight_bit_moments_are_refused_beside_a_dtype_they_would_spoil(
    dtype: str, reason: str
) -> None:
    settings = [f"model.dtype={dtype}", "train.optimizer=adamw_8bit"]
    with pytest.raises(ConfigError, match=reason) as error:
        load_config(None, settings)
    assert f"model.dtype is '{dtype}' but train.optimizer is 'adamw_8bit'" in str(error.value)


def test_bfloat16_weights_with_plain_adamw_are_refused_by_both_keys_and_the_reason() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, ["model.dtype=bfloat16"])
    assert str(error.value).startswith("--set: model.dtype is 'bfloat16' but train.optimizer is")
    assert "leave the weights unmoved; set train.optimizer=adamw_kahan" in str(error.value)
    assert "\n" not in str(error.value)
    for allowed in ("bfloat16", "auto", "float32"):
        config = load_config(None, [f"model.dtype={allowed}", "train.optimizer=adamw_kahan"])
        assert config.model.dtype == allowed


def test_a_file_that_is_missing_or_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="holds list, but a mapping"):
        load_config(written(tmp_path, "- 1\n"))
    with pytest.raises(ConfigError, match="is not readable YAML"):
        load_config(written(tmp_path, "a: [1\nb: 2"))


@pytest.mark.parametrize("tree", [[1], 5, None, "text"])
def test_what_is_no_group_of_keys_is_refused(tree: Any) -> None:
    with pytest.raises(ConfigError, match="test: must be a group of keys: model, data, loss"):
        validate_config(tree, "test")


def test_a_loss_of_ones_own_is_named_by_module_and_function() -> None:
    assert validate_config({"loss": {"name": "mine.losses:f"}}, "test").loss.name == "mine.losses:f"


def test_the_schema_in_the_docs_is_the_schema_of_the_code() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == config_schema()


def test_every_key_is_described() -> None:
    schema = config_schema()
    stages: list[dict[str, Any]] = [*schema["$defs"].values()]
    silent = [
        name
        for stage in stages
        for name, field in stage["properties"].items()
        if not field.get("description") and "$ref" not in field
    ]
    assert silent == []


def test_a_weight_of_nothing_is_taken_where_likelihood_is_added() -> None:
    changes = ["loss.name=npo", "loss.undesirable_weight=0", "loss.sft_weight=1"]
    assert load_config(None, changes).loss.undesirable_weight == 0
