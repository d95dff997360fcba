"""How much memory a process may still take on its device.

In: a device. Out: bytes: what the GPU has free, or on a CPU the least of what the machine has, what
the control group leaves and what the limit on the address space leaves. Reads, changes nothing.
"""

import os
import resource
from pathlib import Path

import torch

UNLIMITED = 1 << 60  # control groups write something like it where there is no limit
PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def free_bytes(device: torch.device, *, proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Bytes that can still be taken; None where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    limits = [_of_machine(proc), _of_group(cgroup), _of_address_space(proc)]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def resident_bytes(proc: Path = PROC) -> int:
    """Memory this process holds now; 0 where the system does not tell."""
    return _kib(proc / "self" / "status", "VmRSS") or 0


def _of_machine(proc: Path) -> int | None:
    available = _kib(proc / "meminfo", "MemAvailable")
    if available is not None:
        return available
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _of_group(cgroup: Path) -> int | None:
    """What the control group leaves; pages of files that it can drop count as free."""
    for limit, used, reclaimable in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = _number(cgroup / limit), _number(cgroup / used)
        if most is None or now is None or most >= UNLIMITED:
            continue
        stat = (cgroup / limit).with_name("memory.stat")
        lines = stat.read_text().splitlines() if stat.is_file() else []
        pairs = dict(line.split(maxsplit=1) for line in lines if " " in line)
        return max(0, most - now + int(pairs.get(reclaimable, 0)))
    return None


def _of_address_space(proc: Path) -> int | None:
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    taken = _kib(proc / "self" / "status", "VmSize")
    if most == resource.RLIM_INFINITY or taken is None:
        return None
    return max(0, most - taken)


def _kib(file: Path, key: str) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines if line.startswith(f"{key}:"))
    return next((int(words[1]) * 1024 for words in found), None)


def _number(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
