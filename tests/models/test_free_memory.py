"""What is free, as the system tells it: machine, control groups of both versions, address space."""

import resource
from pathlib import Path

import pytest
import torch

from thumbs.models.free_memory import free_bytes, resident_bytes

CPU = torch.device("cpu")
GIB = 1 << 30


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {8 << 20} kB\n")
    (tmp_path / "proc" / "self" / "status").write_text("VmSize: 1024 kB\nVmRSS: 512 kB\n")
    return tmp_path / "proc"


def free(proc: Path, group: Path) -> int | None:
    return free_bytes(CPU, proc=proc, cgroup=group)


def test_without_limits_it_is_what_the_machine_has(proc: Path, tmp_path: Path) -> None:
    assert free(proc, tmp_path / "none") == 8 * GIB
    assert resident_bytes(proc) == 512 * 1024


def test_a_control_group_leaves_its_limit_less_what_it_cannot_drop(
    proc: Path, tmp_path: Path
) -> None:
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.max").write_text(f"{4 * GIB}\n")
    (group / "memory.current").write_text(f"{3 * GIB}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {GIB}\nactive_file 7\n")
    assert free(proc, group) == 2 * GIB
    (group / "memory.max").write_text("max\n")
    assert free(proc, group) == 8 * GIB


def test_a_control_group_of_the_first_version(proc: Path, tmp_path: Path) -> None:
    group = tmp_path / "group" / "memory"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (group / "memory.usage_in_bytes").write_text(f"{GIB}\n")
    (group / "memory.stat").write_text("total_inactive_file 100\n")
    assert free(proc, tmp_path / "group") == GIB + 100
    (group / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert free(proc, tmp_path / "group") == 8 * GIB


def test_a_limit_on_the_address_space_counts(
    proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (GIB, GIB))
    assert free(proc, tmp_path / "none") == GIB - 1024 * 1024


def test_a_system_that_does_not_tell_is_asked_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr("os.sysconf", refuse)
    assert free(tmp_path, tmp_path) is None
    assert resident_bytes(tmp_path) == 0


def test_this_machine_tells() -> None:
    found = free_bytes(CPU)
    assert found is not None
    assert 0 < found < 1 << 50
    assert 1 << 20 < resident_bytes() < 1 << 50
