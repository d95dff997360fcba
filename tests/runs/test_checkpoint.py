"""A checkpoint is whole, verified, or not there."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import orjson
import pytest
import torch

from thumbs.errors import CheckpointError, OutputError
from thumbs.files import sha256_bytes
from thumbs.runs.checkpoint import Checkpoint, load_latest, load_step, save_checkpoint

SmallDisk = Callable[[int], AbstractContextManager[None]]


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        step,
        policy={"head.weight": torch.full((2, 3), float(step))},
        optimizer={"head.weight/exp_avg": torch.full((2, 3), -0.5 * step)},
        state={"rows_seen": 32 * step, "z0": 0.1},
    )


def folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def loaded_step(folder: Path) -> int | None:
    latest, _ = load_latest(folder)
    return None if latest is None else latest.step


def test_a_checkpoint_reads_back_bit_by_bit(tmp_path: Path) -> None:
    saved = Checkpoint(
        7,
        policy={"a": torch.tensor([0.1, -0.0, 1e-45]), "b": torch.tensor([3], dtype=torch.int64)},
        optimizer={"a/exp_avg": torch.tensor([1 / 3], dtype=torch.float64)},
        state={"epoch": 1, "rate": 5e-6, "nested": {"list": [1, 2]}},
        origin={"config": {"loss": {"beta": 0.1}}},
    )
    assert save_checkpoint(tmp_path, saved, keep_last=2) == tmp_path / "step-000007"
    latest, damage = load_latest(tmp_path)
    assert damage == []
    assert latest is not None
    assert latest.step == 7
    assert latest.state == saved.state
    assert latest.origin == saved.origin
    for ours, theirs in ((latest.policy, saved.policy), (latest.optimizer, saved.optimizer)):
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert ours[name].dtype == tensor.dtype
            assert ours[name].numpy().tobytes() == tensor.numpy().tobytes()


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "absent") == (None, [])
    assert load_latest(tmp_path) == (None, [])


def test_the_newest_by_number_is_loaded(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):  # as text, step-1000000 sorts before step-999999
        save_checkpoint(tmp_path, checkpoint(step), keep_last=2)
    assert loaded_step(tmp_path) == 1_000_000


def test_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, checkpoint(step), keep_last=2)
    assert folders(tmp_path) == ["step-000003", "step-000004"]


def test_the_step_to_keep_stays_beside_the_last_ones(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, checkpoint(step), keep_last=1, keep_step=2 if step > 1 else 0)
    assert folders(tmp_path) == ["step-000002", "step-000004"]
    save_checkpoint(tmp_path, checkpoint(5), keep_last=1, keep_step=5)
    assert folders(tmp_path) == ["step-000005"]


def test_one_step_is_loaded_whole_or_refused(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, checkpoint(step), keep_last=2)
    assert load_step(tmp_path, 1).policy["head.weight"].tolist() == [[1.0] * 3] * 2
    _flip_a_byte(tmp_path / "step-000001" / "policy.safetensors")
    for step, told in ((1, "policy.safetensors is damaged"), (7, "is missing")):
        with pytest.raises(CheckpointError, match=told) as error:
            load_step(tmp_path, step)
        assert str(error.value).startswith(f"{tmp_path / f'step-{step:06d}'}: ")


def test_a_step_saved_again_replaces_what_stood_there(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep_last=2)
    again = Checkpoint(1, {"w": torch.ones(1)}, {"w/step": torch.zeros(1)}, {})
    save_checkpoint(tmp_path, again, keep_last=2)
    latest, _ = load_latest(tmp_path)
    assert latest is not None
    assert set(latest.policy) == {"w"}


def _flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "flipped": (lambda p: _flip_a_byte(p / "policy.safetensors"), "policy.safetensors is damaged"),
    "deleted": (lambda p: (p / "optimizer.safetensors").unlink(), "optimizer.safetensors is miss"),
    "cut": (lambda p: _cut(p / "state.json"), "state.json is damaged"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "manifest.json is missing"),
    "cut manifest": (lambda p: _cut(p / "manifest.json"), "manifest.json is missing or unreadable"),
    "empty manifest": (lambda p: _write(p / "manifest.json", "{}"), "does not name every file"),
    "other manifest": (lambda p: _write(p / "manifest.json", "[]"), "does not name every file"),
}


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def _write(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_with_a_line(tmp_path: Path, kind: str) -> None:
    for step in (100, 200):
        save_checkpoint(tmp_path, checkpoint(step), keep_last=2)
    damage, message = DAMAGE[kind]
    damage(tmp_path / "step-000200")
    latest, lines = load_latest(tmp_path)
    assert latest is not None
    assert latest.step == 100
    assert latest.policy["head.weight"].tolist() == [[100.0] * 3] * 2
    [line] = lines
    assert line.startswith(f"{tmp_path / 'step-000200'}: ")
    assert message in line
    assert line.endswith("the checkpoint before it is used")


def test_without_a_whole_checkpoint_the_run_starts_over_and_says_so(tmp_path: Path) -> None:
    for step in (100, 200):
        save_checkpoint(tmp_path, checkpoint(step), keep_last=2)
        _cut(tmp_path / f"step-{step:06d}" / "policy.safetensors")
    latest, lines = load_latest(tmp_path)
    assert latest is None
    assert [line.split(": ")[0].rpartition("/")[2] for line in lines[:2]] == [
        *("step-000200", "step-000100")
    ]
    assert lines[2] == f"{tmp_path}: no whole checkpoint is left; the run starts from the beginning"


def test_what_follows_a_damaged_checkpoint_is_not_deleted_in_its_favour(tmp_path: Path) -> None:
    for step in (100, 200):
        save_checkpoint(tmp_path, checkpoint(step), keep_last=2)
    _flip_a_byte(tmp_path / "step-000200" / "policy.safetensors")
    # Resumed from 100, the run saves at 150 and must find it again.
    save_checkpoint(tmp_path, checkpoint(150), keep_last=1)
    assert folders(tmp_path) == ["step-000150"]
    assert loaded_step(tmp_path) == 150


def test_a_folder_written_aside_is_never_read(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep_last=2)
    (tmp_path / "step-000001").rename(tmp_path / ".step-000009.partial")
    (tmp_path / "step-000003.bak").mkdir()
    (tmp_path / "step-x").mkdir()
    assert load_latest(tmp_path) == (None, [])


def test_what_a_kill_left_aside_does_not_stop_the_next_save(tmp_path: Path) -> None:
    aside = tmp_path / ".step-000001.partial"
    aside.mkdir()
    (aside / "half.safetensors").write_bytes(b"cut")
    save_checkpoint(tmp_path, checkpoint(1), keep_last=2)
    assert folders(tmp_path) == ["step-000001"]
    assert "half.safetensors" not in folders(tmp_path / "step-000001")


def test_an_exception_while_saving_leaves_the_checkpoints_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep_last=1)
    unserialisable = Checkpoint(2, checkpoint(2).policy, {}, {"not JSON": object()})
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, unserialisable, keep_last=1)
    assert folders(tmp_path) == ["step-000001"]
    assert loaded_step(tmp_path) == 1


def test_a_folder_under_another_steps_name_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep_last=2).rename(tmp_path / "step-000002")
    with pytest.raises(CheckpointError, match="holds another step than its name says"):
        load_latest(tmp_path)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, checkpoint(1), keep_last=2)
    state = b'{"step": 1, "rows_seen": 32}'
    (folder / "state.json").write_bytes(state)
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    manifest["state.json"] = sha256_bytes(state)
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(CheckpointError, match="was made by another version of thumbs"):
        load_latest(tmp_path)


def test_without_room_for_a_checkpoint_the_one_before_stays_and_the_line_says_so(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep_last=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    big = Checkpoint(2, {"w": torch.zeros(10_000)}, {}, {})
    with small_disk(20_000), pytest.raises(OutputError) as error:
        save_checkpoint(tmp_path, big, keep_last=1)
    # RLIMIT_FSIZE refuses with EFBIG where a full disk refuses with ENOSPC.
    assert "step-000002: could not be written: File too large (" in str(error.value)
    assert " MB free there). Nothing that was whole is lost. Free some space." in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert folders(tmp_path) == ["step-000001"]


def test_the_same_step_saved_without_room_leaves_the_old_one(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep_last=1)
    with small_disk(20_000), pytest.raises(OutputError):
        save_checkpoint(tmp_path, Checkpoint(1, {"w": torch.zeros(10_000)}, {}, {}), keep_last=1)
    latest, _ = load_latest(tmp_path)
    assert latest is not None
    assert set(latest.policy) == {"head.weight"}
