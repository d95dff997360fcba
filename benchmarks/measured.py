"""Run a command as a process of its own and measure it; say on what machine; keep the results.

In: a command. Out: its wall-clock seconds, its peak memory and what it printed.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


@dataclass(frozen=True)
class Measured:
    """A process that ended well.

    seconds: wall clock. cpu_seconds: of all its threads and processes. others_cpu_seconds: what
        the rest of the machine used meanwhile; None where the system does not tell.
    peak_bytes: the largest resident memory it had.
    """

    seconds: float
    cpu_seconds: float
    others_cpu_seconds: float | None
    peak_bytes: int
    stdout: str


def run_measured(command: Sequence[str], *, threads: int, scratch: Path) -> Measured:
    """Run `command` from the repository's root, offline, with its caches in `scratch`.

    Raises:
        SystemExit: the command failed; its own words went to stderr.
    """
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    # Own caches: nothing of an earlier run may be found in them.
    caches = {"HF_HOME": str(scratch / "hf"), "THUMBS_CACHE": str(scratch / "thumbs")}
    caches |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "0"}
    started, busy_before = time.perf_counter(), _busy_cpu_seconds()
    with tempfile.TemporaryFile("w+") as out:
        env = {**os.environ, **limits, **caches}
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, env=env)
        # Only wait4 tells the peak of this one process; RUSAGE_CHILDREN is the maximum of all.
        _, status, usage = os.wait4(process.pid, 0)
        seconds, busy_after = time.perf_counter() - started, _busy_cpu_seconds()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        printed = out.read()
    if process.returncode:
        sys.stderr.write(printed)
        raise SystemExit(f"error: exit status {process.returncode} of: {' '.join(command)}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Measured(
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        others_cpu_seconds=(
            None
            if busy_before is None or busy_after is None
            else max(0.0, busy_after - busy_before - cpu_seconds)
        ),
        peak_bytes=usage.ru_maxrss * _RSS_UNIT_BYTES,
        stdout=printed,
    )


def machine() -> dict[str, Any]:
    """The processor, how many of its cores this process may use, and the system."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(*packages: str) -> dict[str, str]:
    """The installed versions, Python's first."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def write_results(name: str, record: Mapping[str, Any], page: str) -> None:
    """Write results/NAME.json and results/NAME.md and print the page."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(page, encoding="utf-8")
    print(page)


def setting_lines(record: Mapping[str, Any]) -> str:
    """The command, the machine and the versions of a record, as Markdown."""
    found = record["machine"]
    rows = [f"- Command: `{record['command']}`"]
    rows += [f"- Machine: {found['cpu']}, {found['cores']} cores, {found['system']}"]
    for side, packages in record["versions"].items():
        rows.append(f"- {side}: " + ", ".join(f"{name} {text}" for name, text in packages.items()))
    return "\n".join(rows)


def _busy_cpu_seconds() -> float | None:
    """CPU time all processes of the machine have used since it started."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    # cpu user nice system idle iowait irq softirq steal guest guest_nice; guests are in user, nice.
    user, nice, system, _, _, irq, softirq = map(int, stat.read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
