"""Programs that a model wrote, each run in a process of its own that is shut in.

In: the text of a program that ends with its tests. Out: whether it ran to its end, and what ended
it where not. What is contained, and what is not, stands in docs/evaluation.md.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

from thumbs.errors import ConfigError
from thumbs.evaluate import sandboxed
from thumbs.evaluate.system_calls import seccomp_filter
from thumbs.progress import progress_bar

INSIDE = Path(sandboxed.__file__)
LONGEST_VERDICT, LONGEST_NAME = 4096, 80  # bytes; characters of an exception's name
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Limits:
    """Of one program. Seconds of computing, not of waiting, so that a busy machine changes nothing;
    a program that waits is ended after `seconds`. Bytes of memory, of one written file, and of all
    of them; files of one program, folders among them.

    kernel: whether the kernel's layers go up where there are any; without, only limits and hook.
    """

    cpu_seconds: int = 3  # as of HumanEval's own check, which counts seconds of waiting too
    seconds: float = 30.0
    memory_bytes: int = 2**30
    file_bytes: int = 2**20
    folder_bytes: int = 2**24
    folder_files: int = 256
    kernel: bool = True


@dataclass(frozen=True)
class Verdict:
    """How a program ended. error: "" where it passed; layers: what shut it in, if it told."""

    error: str
    layers: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.error


def run_programs(programs: Sequence[str], limits: Limits | None = None) -> list[Verdict]:
    """The verdict on every program, in order; as many at once as there are cores."""
    verdicts: list[Verdict] = [Verdict("not run")] * len(programs)
    cores = os.cpu_count() or 1
    with (
        ThreadPoolExecutor(cores) as pool,
        progress_bar("programs", len(programs), "programs") as bar,
    ):
        place_of = {pool.submit(run_program, text, limits): i for i, text in enumerate(programs)}
        try:
            for done in as_completed(place_of):
                verdicts[place_of[done]] = done.result()
                bar.advance()
        finally:
            for future in place_of:
                future.cancel()  # what is left when the user stops
    return verdicts


def run_program(program: str, limits: Limits | None = None) -> Verdict:
    """Run `program` shut in, and end whatever it has started.

    It passes if it runs to its end without an exception; one that ends the process before, with
    whatever exit code, fails.

    Raises:
        ConfigError: this system has no processes that could be limited.
    """
    require_sandbox()
    limits = limits or Limits()
    secret = secrets.token_hex(16)
    with (
        tempfile.TemporaryDirectory(prefix="thumbs-program-") as folder,
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as told,  # a file: what floods it ends at file_bytes
    ):
        given.write(f"{secret}\n{program}".encode("utf-8", "replace"))
        given.seek(0)
        paths = [path for path in sys.path if Path(path).name == "site-packages"]
        calls = seccomp_filter(os.uname().machine).hex()
        places = {"folder": folder, "paths": paths}
        settings = json.dumps({**asdict(limits), **places, "filter": calls})
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(INSIDE), settings],
            stdin=given,
            stdout=told,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={**ENVIRONMENT, "TMPDIR": folder},
            start_new_session=True,
        )
        try:
            code = process.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            return Verdict(f"no end after {limits.seconds:g} seconds")
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        told.seek(0)
        return _verdict(told.read(LONGEST_VERDICT), secret, code, limits)


def containment() -> list[str]:
    """What shuts programs in on this machine, as found by running an empty one.

    Raises:
        ConfigError: nothing does.
    """
    verdict = run_program("")
    if not verdict.passed:
        raise ConfigError(f"programs cannot be run on this machine: {verdict.error}.")
    return verdict.layers


def require_sandbox() -> None:
    """Refuse a system without limits of processes.

    Raises:
        ConfigError: it is one.
    """
    if find_spec("resource") is None:
        raise ConfigError("humaneval: runs programs only where processes can be limited (not here)")


def _verdict(told: bytes, secret: str, code: int, limits: Limits) -> Verdict:
    head, _, ended_by = told.partition(b"\n")
    try:
        found = json.loads(head)
        if found["secret"] == secret:
            error = ended_by.decode("utf-8", "replace")
            plain = not error or error.isidentifier()  # a name of many lines is none
            error = error[:LONGEST_NAME] if plain else sandboxed.NAMELESS
            return Verdict(error, list(found["layers"]))
    except (ValueError, TypeError, KeyError, RecursionError):  # the program wrote there
        pass
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return Verdict(f"more than {limits.cpu_seconds} seconds of computing")
    return Verdict("ended before its tests did")
