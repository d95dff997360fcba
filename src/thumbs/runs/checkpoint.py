"""Checkpoints: a folder that is whole, verified, or not there.

    checkpoints/step-000100/ policy.safetensors  optimizer.safetensors  state.json  manifest.json

Written aside, every file synced, then renamed; the manifest holds each file's sha256. Tensors are
in safetensors, the rest is JSON; nothing is pickled.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from safetensors.torch import load_file, save_file
from torch import Tensor

from thumbs.errors import CheckpointError
from thumbs.files import folder_written_aside, remove_folder, sha256_file

FILES = ("policy.safetensors", "optimizer.safetensors", "state.json")
STEP_FOLDER = re.compile(r"step-(\d{6,})$")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `step` optimizer steps.

    policy: trainable weights by name. optimizer: its tensors by name. state: whatever else is
    needed to go on, as JSON. origin: what the run's bytes depend on, as JSON.
    """

    step: int
    policy: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    state: Mapping[str, Any]
    origin: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(
    folder: Path, checkpoint: Checkpoint, *, keep_last: int, keep_step: int = 0
) -> Path:
    """Write `checkpoint` under `folder` and delete all but the `keep_last` newest.

    That of `keep_step` stays however old it is. A checkpoint of a later step is deleted too: the
    run went on from before it, so it was damaged.

    Raises:
        OutputError: there is no room for it; the checkpoints before it are as they were.
    """
    target = folder / f"step-{checkpoint.step:06d}"
    with folder_written_aside(target) as aside:
        save_file(dict(checkpoint.policy), aside / "policy.safetensors")
        save_file(dict(checkpoint.optimizer), aside / "optimizer.safetensors")
        state = {"step": checkpoint.step, "state": checkpoint.state, "origin": checkpoint.origin}
        (aside / "state.json").write_bytes(orjson.dumps(state, option=orjson.OPT_INDENT_2))
        manifest = {file.name: sha256_file(file) for file in sorted(aside.iterdir())}
        (aside / "manifest.json").write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    steps = _newest_first(folder)
    later = [path for step, path in steps if step > checkpoint.step]
    earlier = steps[len(later) + keep_last :]
    for old in [*later, *(path for step, path in earlier if step != keep_step)]:
        remove_folder(old)
    return target


def load_step(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of `step` under `folder`.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    path = folder / f"step-{step:06d}"
    problem = next(_problems(path), None) if path.is_dir() else "is missing"
    if problem is not None:
        raise CheckpointError(
            f"{path}: {problem}, and the model is to be made of it, the best evaluation's. Restore "
            "it; or delete it and every later one, and --resume trains from before it again."
        )
    return _read(step, path)


def load_latest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest undamaged checkpoint under `folder`, and a line for each damaged one before it."""
    damage: list[str] = []
    for step, path in _newest_first(folder):
        problem = next(_problems(path), None)
        if problem is None:
            return _read(step, path), damage
        damage.append(f"{path}: {problem}; the checkpoint before it is used")
    if damage:
        damage.append(f"{folder}: no whole checkpoint is left; the run starts from the beginning")
    return None, damage


def _newest_first(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    steps = [(STEP_FOLDER.match(path.name), path) for path in folder.iterdir()]
    return sorted(((int(match[1]), path) for match, path in steps if match), reverse=True)


def _problems(path: Path) -> Iterator[str]:
    try:
        manifest = orjson.loads((path / "manifest.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        yield "manifest.json is missing or unreadable"
        return
    if not isinstance(manifest, dict) or not manifest.keys() >= set(FILES):
        yield "manifest.json does not name every file"
        return
    for name, sha256 in manifest.items():
        if not (path / name).is_file():
            yield f"{name} is missing"
        elif _sha256(path / name) != sha256:
            yield f"{name} is damaged (its sha256 is not the manifest's)"


def _sha256(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:  # a disk that fails under it
        return None


def _read(step: int, path: Path) -> Checkpoint:
    stored = orjson.loads((path / "state.json").read_bytes())
    if stored.get("step") != step:
        raise CheckpointError(f"{path}: holds another step than its name says; delete the folder")
    if not {"state", "origin"} <= stored.keys():
        raise CheckpointError(f"{path}: was made by another version of thumbs; start a new run")
    policy = load_file(path / "policy.safetensors")
    optimizer = load_file(path / "optimizer.safetensors")
    return Checkpoint(step, policy, optimizer, stored["state"], stored["origin"])
