"""The configuration of a run: one model per stage, every key described where it stands.

In: a YAML file, `--set a.b=value` overrides. Out: a validated `Config`. Importable without torch.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from thumbs.config_errors import explain
from thumbs.config_loss import LossConfig as LossConfig
from thumbs.config_loss import Z0Config as Z0Config
from thumbs.config_loss import loss_contradictions
from thumbs.config_model import LoraConfig as LoraConfig
from thumbs.config_model import ModelConfig as ModelConfig
from thumbs.config_model import Stage
from thumbs.config_train import TrainConfig as TrainConfig
from thumbs.errors import ConfigError
from thumbs.yaml_text import UNREADABLE, parse_yaml, read_yaml

LORA_LEARNING_RATE = 5e-5
FROM_WEIGHTS = ("pissa", "olora")  # starts of adapters that change the weights too


class DataConfig(Stage):
    """How feedback becomes rows."""

    heldout_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of conversations kept out of training and scored before and after."""
    max_tokens: int = Field(default=2048, ge=2)
    """Longest prompt + completion, in tokens; longer rows are cut, and counted."""
    min_completion_tokens: int = Field(default=1, ge=1)
    """Truncation never leaves fewer completion tokens than this."""
    chat_template: str | None = None
    """A Jinja file or a built-in name such as chatml; null takes the tokenizer's own."""
    keep_cut: bool = False
    """Keep desirable rows whose completion was cut. They teach the model to stop nowhere."""
    pairs: Literal["all", "one"] = "all"
    """Losses of pairs: every desirable with every undesirable answer to its prompt, or one pair per
    prompt, drawn from the seed."""
    exclude: str | None = None
    """A file with one record id per line, or one that `thumbs audit --out` wrote (.jsonl, .csv);
    these records are left out, and counted."""


class Config(Stage):
    """Everything a run depends on beside its feedback file."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()

    @property
    def trains_adapters(self) -> bool:
        """Whether adapters are trained, and the model's own weights stay."""
        return self.model.lora is not None or self.model.adapter is not None

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        for contradiction in _contradictions(self):
            raise ValueError(contradiction)
        return self

    @model_validator(mode="before")
    @classmethod
    def _adapters_learn_faster(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        model, train = ((tree.get(key) or {}) for key in ("model", "train"))
        if not isinstance(model, dict) or not isinstance(train, dict):
            return tree
        trains_adapters = model.get("lora") is not None or model.get("adapter") is not None
        if trains_adapters and train.get("learning_rate") is None:
            return {**tree, "train": {**train, "learning_rate": LORA_LEARNING_RATE}}
        return tree


def _contradictions(config: Config) -> Iterator[str]:
    """Settings that are fine alone and not together: which, why, what to do."""
    yield from _adapter_contradictions(config)
    data, train = config.data, config.train
    in_bfloat16 = config.model.dtype == "bfloat16" and not config.trains_adapters
    if in_bfloat16 and train.optimizer != "adamw_kahan":
        yield (
            f"model.dtype is 'bfloat16' but train.optimizer is {train.optimizer!r}, whose steps at "
            "learning rates near 5e-6 are smaller than half the spacing of bfloat16 and leave the "
            "weights unmoved; set train.optimizer=adamw_kahan, or model.dtype=auto, which "
            "keeps float32 weights and computes in bfloat16 where the device is good at it"
        )
    if config.model.dtype == "float64" and train.optimizer == "adamw_8bit":
        yield (
            "model.dtype is 'float64' but train.optimizer is 'adamw_8bit', which computes in "
            "float32; set train.optimizer=adamw, or model.dtype=auto"
        )
    if data.min_completion_tokens >= data.max_tokens:
        yield (
            f"data.min_completion_tokens is {data.min_completion_tokens}, but data.max_tokens is "
            f"{data.max_tokens}, and the prompt needs a token too; raise data.max_tokens"
        )
    yield from loss_contradictions(config.loss, pairs=data.pairs, batch_size=train.batch_size)
    if train.warmup_fraction == 1 and train.schedule != "constant":
        yield (
            f"train.warmup_fraction is 1, which leaves no step for train.schedule="
            f"{train.schedule}; lower it, or set train.schedule=constant"
        )
    if train.eval_every is not None and data.heldout_fraction == 0:
        yield (
            f"train.eval_every is {train.eval_every}, but data.heldout_fraction is 0, so there is "
            "nothing to evaluate on; raise data.heldout_fraction, or leave train.eval_every out"
        )
    for key in ("early_stopping", "keep_best"):
        if getattr(train, key) and train.eval_every is None:
            yield (
                f"train.{key} is {getattr(train, key)}, but train.eval_every is null, so nothing "
                f"is evaluated on the way; set train.eval_every, or leave train.{key} out"
            )


def _adapter_contradictions(config: Config) -> Iterator[str]:
    model = config.model
    if model.lora is not None and model.adapter is not None:
        yield (
            "model.lora and model.adapter exclude each other: a loaded adapter brings its own "
            "rank and layers; leave one of them out"
        )
    if model.quantization is not None and not config.trains_adapters:
        yield (
            f"model.quantization is {model.quantization!r} without adapters, but quantized "
            "weights cannot be trained; set model.lora={} too"
        )
    if model.quantization is not None and model.dtype == "float64":
        yield "model.dtype=float64 and model.quantization exclude each other; leave the dtype out"
    init = model.lora.init if model.lora is not None else ""
    if model.quantization is not None and init.startswith(FROM_WEIGHTS):
        yield f"model.lora.init={init} changes the weights, but model.quantization freezes them"
    if model.quantization is not None and model.lora is not None and model.lora.merge:
        yield (
            "model.lora.merge and model.quantization exclude each other: a merge would round the "
            "adapters to the quantized grid; merge RUN/model onto the full model afterwards"
        )


def load_config(file: Path | None, overrides: Sequence[str] = (), *, model: str = "") -> Config:
    """The configuration of `file`, changed by `--set key=value` overrides and `--model`.

    Raises:
        ConfigError: a file, key or value that cannot be used; names the nearest known key.
    """
    tree = read_yaml(file, advice="Give --config a YAML file of settings.") if file else {}
    places: dict[str, str] = {}
    if model:
        _assign(tree, "model.name_or_path", model, place="--model")
        places["model.name_or_path"] = "--model"
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--set {override}: is not of the form a.b=value")
        _assign(tree, key.strip(), _parse_value(override, value), place="--set")
        places[key.strip()] = "--set"
    return validate_config(tree, str(file) if file else "--set", places)


def validate_config(
    tree: Mapping[str, Any], place: str, places: Mapping[str, str] | None = None
) -> Config:
    """A `Config` from nested keys; the first thing wrong with them is a one-line `ConfigError`.

    place: where the keys stand. places: dotted keys that stand elsewhere, and where.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, Config, place, places or {})) from None


def with_whole_paths(config: Config) -> Config:
    """`config` with every file or folder it names by its whole path, to be found from anywhere."""
    names = {
        "model": ("name_or_path", "tokenizer", "reference", "adapter"),
        "data": ("chat_template", "exclude"),
    }
    whole = {}
    for stage, keys in names.items():
        values = {key: getattr(getattr(config, stage), key) for key in keys}
        paths = {k: os.path.abspath(v) for k, v in values.items() if v and Path(v).exists()}
        whole[stage] = getattr(config, stage).model_copy(update=paths)
    return config.model_copy(update=whole)


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML; `load_config` reads it back unchanged."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def config_schema() -> dict[str, Any]:
    """The JSON schema of the configuration, for editors."""
    return Config.model_json_schema()


def _parse_value(override: str, text: str) -> Any:
    try:
        return parse_yaml(text)
    except UNREADABLE:
        raise ConfigError(f"--set {override}: the value is not readable YAML; quote it") from None


def _assign(tree: dict[str, Any], dotted: str, value: Any, *, place: str) -> None:
    *parents, last = dotted.split(".")
    for name in parents:
        child = tree.setdefault(name, {})
        if child is None:
            child = tree[name] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{place} {dotted}: {name!r} is a value, not a group of keys")
        tree = child
    tree[last] = value
