"""What a run's bytes depend on, as the run and each of its checkpoints store it.

In: a configuration, hashes of everything read, the machine. Out: what differs between two of them,
told apart into what makes them different runs and what may only change the last bits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from thumbs.config import Config, validate_config
from thumbs.errors import CheckpointError, ConfigError

# Keys that may differ: when to save and look, and where what `inputs` identifies by hash lies.
# Where the best evaluation makes the model, when to look decides which that is.
FREE_KEYS = {
    *("train.save_every", "train.keep_last", "train.eval_every", "train.guard"),
    *(
        "model.name_or_path",
        "model.tokenizer",
        "model.adapter",
        "data.chat_template",
        "data.exclude",
    ),
}
# Keys that change how sums are cut into pieces, and with it the last bits of the result.
ROUNDING_KEYS = {"train.micro_batch_tokens", "train.gradient_checkpointing", "train.compile"}


@dataclass(frozen=True)
class Origin:
    """What the bytes of a run depend on.

    config: every setting in force. inputs: sha256 of everything read, by name. machine: what
    rounding depends on: device, threads, versions, the resolved micro_batch_tokens.
    """

    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    machine: Mapping[str, str | int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `read_origin` reads it back."""
        return asdict(self)

    @property
    def micro_batch_tokens(self) -> int:
        """Padded tokens of one forward."""
        return int(self.machine["micro_batch_tokens"])


def read_origin(stored: Any, place: str) -> Origin:
    """The `Origin` that `to_dict` gave.

    Raises:
        CheckpointError: it is not one.
    """
    try:
        config = validate_config(stored["config"], place).model_dump(mode="json")
        origin = Origin(config, dict(stored["inputs"]), dict(stored["machine"]))
        assert origin.micro_batch_tokens > 0
        assert all(isinstance(sha256, str) for sha256 in origin.inputs.values())
    except (TypeError, KeyError, ValueError, AssertionError) as error:
        reason = f": {error}" if isinstance(error, ConfigError) else ""
        raise CheckpointError(
            f"{place}: does not say what it began with{reason}. It was edited, or made by another "
            "version of thumbs; start a new run."
        ) from None
    return origin


def with_micro_batch_tokens(stored: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """What `to_dict` gave, with another resolved number."""
    return {**stored, "machine": {**stored["machine"], "micro_batch_tokens": tokens}}


def origin_config(config: Config) -> dict[str, Any]:
    """The configuration as an `Origin` holds it."""
    return config.model_dump(mode="json")


def require_same_origin(then: Origin, now: Origin, problem: str, name: str) -> None:
    """Raise a CheckpointError that tells each difference that makes another run of it.

    problem: how the line begins. name: how each older value is introduced ("checkpoint has").
    """
    held = {"train.eval_every"} if _takes_best(then) else set()
    settings = [
        f"{key}: {name} {old}, run has {new}"
        for key, old, new in _config_differences(then, now)
        if key not in (FREE_KEYS | ROUNDING_KEYS) - held
    ]
    inputs = [
        f"{key}: {name} sha256 {then.inputs[key][:12]}, run has {now.inputs[key][:12]}"
        for key in then.inputs
        if key in now.inputs and then.inputs[key] != now.inputs[key]
    ]
    if settings or inputs:
        raise CheckpointError(
            f"{problem}: {'; '.join([*settings, *inputs])}. "
            "Undo the change, or start a new run with --out."
        )


def rounding_differences(then: Origin, now: Origin) -> list[str]:
    """What differs between two origins and may change the last bits of the result, a line each."""
    # Of train.micro_batch_tokens the resolved number counts, which is one of `machine`.
    counted = ROUNDING_KEYS - {"train.micro_batch_tokens"}
    settings = [d for d in _config_differences(then, now) if d[0] in counted]
    machine = [(key, then.machine.get(key), value) for key, value in now.machine.items()]
    return [f"{key}: was {old}, now {new}" for key, old, new in (*settings, *machine) if old != new]


def _takes_best(origin: Origin) -> bool:
    train = origin.config["train"]
    return bool(train.get("keep_best")) or train.get("early_stopping") is not None


def _config_differences(then: Origin, now: Origin) -> Iterator[tuple[str, Any, Any]]:
    old, new = dict(_flat(then.config)), dict(_flat(now.config))
    for key in dict.fromkeys((*old, *new)):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
