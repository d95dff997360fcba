"""The configuration of a run: one model per stage, every key described where it stands.

In: a YAML file, `--set a.b=value` overrides. Out: a validated `Config`. Importable without torch.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from thumbs.errors import ConfigError
from thumbs.loss_table import LOSS_TABLE

Auto = Literal["auto"]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class _Stage(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class ModelConfig(_Stage):
    """Which policy is trained, and against which reference."""

    name_or_path: str = ""
    """Folder or hub id of a causal language model; `--model` on the command line."""
    revision: str | None = None
    """Branch, tag or commit on the hub; null is the default branch."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer; null takes the model's own."""
    reference: str | None = None
    """Folder or hub id of another reference; null is the policy exactly as loaded at step 0."""
    dtype: Literal["auto", "float32", "float64", "bfloat16"] = "auto"
    """Trainable weights. auto: float32 weights, and products in bfloat16 on a GPU that has it.
    bfloat16: weights and gradients of half the size, with train.optimizer=adamw_kahan only."""
    attn_implementation: str | None = None
    """Attention of transformers: sdpa, eager, flash_attention_2 (GPU); null is sdpa where the model
    has it, else eager."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for models whose authors you trust."""


class DataConfig(_Stage):
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
    exclude: str | None = None
    """A file with one record id per line; these records are left out, and counted."""


class Z0Config(_Stage):
    """The reference point z0: how far the policy has moved on answers to other prompts."""

    estimator: Literal["mismatched", "zero"] = "mismatched"
    """mismatched: mean log-ratio of answers paired with other prompts. zero: z0 is 0, no pairs."""
    group_rows: int | None = Field(default=None, ge=2)
    """Rows that share one z0; null is the whole batch. Published code uses its micro-batch."""
    redraw: Literal["epoch", "once"] = "epoch"
    """epoch: new batches and pairings every epoch. once: those of the first epoch in a new order,
    which keeps the reference pass as small as for one epoch."""


class LossConfig(_Stage):
    """Which human-aware loss, and its constants."""

    name: str = "kto"
    """A name of `thumbs losses`, or package.module:function for your own."""
    beta: float = Field(default=0.1, gt=0.0)
    """Reward per nat of log-ratio; more keeps the policy nearer the reference.
    0.1 from arXiv 2402.01306v4; 0.01-0.1 after SFT on the same data."""
    desirable_weight: float | Auto = Field(default="auto")
    """lambda_D. auto balances the labels (see `thumbs check`); a number, 0.0 included, holds."""
    undesirable_weight: float | Auto = Field(default="auto")
    """lambda_U, likewise."""
    z0: Z0Config = Z0Config()

    @field_validator("name")
    @classmethod
    def _known_loss(cls, name: str) -> str:
        if ":" not in name and name not in LOSS_TABLE:
            raise ValueError(
                f"no such loss; allowed: {', '.join(LOSS_TABLE)}, or package.module:function"
            )
        return name

    @field_validator("desirable_weight", "undesirable_weight")
    @classmethod
    def _weight_not_negative(cls, weight: float | str) -> float | str:
        if isinstance(weight, float) and not 0.0 <= weight < float("inf"):
            raise ValueError("a weight is a finite number >= 0, or auto")
        return weight


class TrainConfig(_Stage):
    """The optimizer and the order of work."""

    epochs: int = Field(default=1, ge=1)
    """Passes over the training rows."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after this many optimizer steps; null runs every epoch to its end."""
    batch_size: int = Field(default=32, ge=1)
    """Rows per optimizer step over all ranks; statistical (arXiv 2402.01306v4: 8 to 128)."""
    micro_batch_tokens: int | Auto = "auto"
    """Tokens (padding included) of one forward; memory and speed only, never the result."""
    group_prompts: bool = True
    """Rows of one prompt meet in one batch where the label proportion allows."""
    optimizer: Literal["adamw", "adamw_kahan"] = "adamw"
    """adamw_kahan: AdamW that keeps what rounding takes from bfloat16 weights, so that they move as
    float32 weights do; the same as adamw for float32 weights."""
    learning_rate: float = Field(default=5e-6, gt=0.0)
    """Peak learning rate. 5e-6 suits 8B parameters; the smaller the model, the higher."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of AdamW's two moments."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled decay of matrices; vectors (norms, biases) are never decayed."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Learning rate after the warm-up: down to 0 (linear, cosine), or constant."""
    warmup_fraction: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the steps over which the learning rate rises from 0."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """The gradient is scaled down to this Euclidean norm where it is longer."""
    seed: int = Field(default=0, ge=0)
    """Split, order, pairings, sampling: same seed and machine, same bytes."""
    save_every: int | None = Field(default=None, ge=1)
    """Steps between checkpoints; null saves at the end of every epoch."""
    keep_last: int = Field(default=2, ge=1)
    """Checkpoints kept; older ones are deleted."""
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between evaluations on held-out rows; null evaluates before and after training."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    @field_validator("micro_batch_tokens")
    @classmethod
    def _tokens_positive(cls, tokens: int | str) -> int | str:
        if isinstance(tokens, int) and tokens < 1:
            raise ValueError("a number of tokens >= 1, or auto")
        return tokens


class Config(_Stage):
    """Everything a run depends on beside its feedback file."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _bfloat16_weights_need_their_optimizer(self) -> "Config":
        if self.model.dtype == "bfloat16" and self.train.optimizer == "adamw":
            raise ValueError(
                "model.dtype is 'bfloat16' but train.optimizer is 'adamw', whose steps at learning "
                "rates near 5e-6 are smaller than half the spacing of bfloat16 and leave the "
                "weights unmoved; set train.optimizer=adamw_kahan, or model.dtype=auto, which "
                "keeps float32 weights and computes in bfloat16 where the device is good at it"
            )
        return self


def load_config(file: Path | None, overrides: Sequence[str] = (), *, model: str = "") -> Config:
    """The configuration of `file`, changed by `--set key=value` overrides and `--model`.

    Raises:
        ConfigError: a file, key or value that cannot be used; names the nearest known key.
    """
    tree = _read_yaml(file) if file else {}
    place = str(file) if file else "--set"
    if model:
        _assign(tree, "model.name_or_path", model, place="--model")
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--set {override}: is not of the form a.b=value")
        _assign(tree, key.strip(), _parse_value(override, value), place="--set")
    return validate_config(tree, place)


def validate_config(tree: Mapping[str, Any], place: str) -> Config:
    """A `Config` from nested keys; the first thing wrong with them is a one-line `ConfigError`."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, place)) from None


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML; `load_config` reads it back unchanged."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def config_schema() -> dict[str, Any]:
    """The JSON schema of the configuration, for editors."""
    return Config.model_json_schema()


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file. Give --config a YAML file.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: is not readable YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: holds {type(tree).__name__}, but a mapping of keys is needed")
    return tree


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 5e-6 as a number, as people write it (YAML 1.1 wants 5.0e-6)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _parse_value(override: str, text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
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


def _explain(error: ValidationError, place: str) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if part not in ("float", "int", "literal['auto']")]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = _known_keys(Config)
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
        leaf = difflib.get_close_matches(path[-1], [k.rsplit(".", 1)[-1] for k in known], n=1)
        same_leaf = [k for k in known if leaf and k.endswith("." + leaf[0])]
        nearest = same_leaf[0] if same_leaf else near[0]
        return f"{place}: unknown key {key!r}; the nearest known key is {nearest!r}"
    message = first["msg"].removeprefix("Value error, ")
    if not path:  # keys that contradict each other; the message names them
        return f"{place}: {message}"
    return f"{place}: {key} is {first['input']!r}: {message}"


def _known_keys(stage: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, info in stage.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += _known_keys(kind, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys
