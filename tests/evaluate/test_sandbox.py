"""Programs run shut in: right ones pass, wrong ones fail, and none does harm."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from thumbs.evaluate.benchmark_data import benchmark_parts
from thumbs.evaluate.humaneval import program_of
from thumbs.evaluate.sandbox import Limits, containment, run_program, run_programs

SHORT = Limits(cpu_seconds=1, seconds=30)
# As on a system whose kernel brings none of its layers.
HOOK_ALONE = replace(SHORT, kernel=False)
both = pytest.mark.parametrize("limits", [SHORT, HOOK_ALONE], ids=["all", "hook-alone"])


@pytest.mark.shared
def test_every_canonical_solution_of_humaneval_passes(shared: Path) -> None:
    (part,) = benchmark_parts("humaneval", shared / "data")
    programs = [program_of(doc, doc["canonical_solution"]) for doc in part.documents]
    verdicts = run_programs(programs)
    wrong = {
        doc["task_id"]: verdict.error
        for doc, verdict in zip(part.documents, verdicts, strict=True)
        if not verdict.passed
    }
    assert (len(verdicts), wrong) == (164, {})


def errors(*programs: str, limits: Limits = SHORT) -> list[str]:
    """What ended each program."""
    return [verdict.error for verdict in run_programs(programs, limits)]


def test_what_does_not_reach_its_end_fails() -> None:
    ends = {
        "assert 1 + 1 == 3": "AssertionError",
        "def f(:": "SyntaxError",
        "1 / 0": "ZeroDivisionError",
        "def f():\n    return f()\nf()": "RecursionError",
        "import sys; sys.exit(0)": "SystemExit",
        "raise KeyboardInterrupt": "KeyboardInterrupt",
        "import os; os._exit(0)": "ended before its tests did",
        "raise type('', (Exception,), {})": "an exception without a name",
        "import os; os.write(3, b'[' * 4000); os._exit(0)": "ended before its tests did",
        "import faulthandler; faulthandler._read_null()": "ended before its tests did",
        "print('\ud800')": "",
        "assert '\ud800' == '?'": "",  # what is no text reaches the program as a question mark
    }
    assert dict(zip(ends, errors(*ends), strict=True)) == ends


def test_a_verdict_that_the_program_writes_itself_counts_nothing() -> None:
    forged = '{"secret": "guess", "error": "", "layers": []}'
    program = f"import os\nfor fd in range(64):\n    try: os.write(fd, {forged!r}.encode())\n"
    program += "    except OSError: pass\nos._exit(0)"
    assert run_program(program).error == "ended before its tests did"


def test_no_value_of_a_program_decides_its_verdict() -> None:
    empty = "class S(str):\n    def __bool__(self): return True\n    __str__ = lambda self: ''\n"
    fails = "class E(Exception, metaclass=M): pass\n"
    by_property = f"{empty}class M(type): __name__ = property(lambda c: S(''))\n{fails}raise E"
    by_name = f"{empty}raise type(S('E'), (Exception,), {{}})"
    renamed = f"{empty}class E(Exception): pass\nE.__name__ = S('')\nraise E"
    by_class = "class E(Exception): __class__ = property(lambda self: int)\nraise E"
    by_builtins = "import builtins\nfor name in ('type', 'str', 'repr', 'bytes', 'bool'):\n"
    by_builtins += "    setattr(builtins, name, lambda *_: '')\nraise ValueError"
    by_json = "import json\njson.dumps = lambda told: '{}'\nraise ValueError"
    by_write = "import os\nos.write = print\nos._exit = print\nraise ValueError"
    long = "raise type('E' * 9000, (Exception,), {})"
    lines = "raise type('E\\n\\x1b[2J', (Exception,), {})"
    nameless = "an exception without a name"
    ends = {by_property: "E", by_name: "E", renamed: nameless, by_class: "E", lines: nameless}
    ends |= dict.fromkeys((by_builtins, by_json, by_write), "ValueError") | {long: "E" * 80}
    assert dict(zip(ends, errors(*ends), strict=True)) == ends


def test_an_endless_loop_is_ended_after_its_seconds_of_computing() -> None:
    stubborn = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    assert errors("while True: pass", stubborn) == ["more than 1 seconds of computing"] * 2


def test_a_program_that_only_waits_is_ended_too() -> None:
    waits = Limits(cpu_seconds=1, seconds=0.7)
    assert run_program("import time; time.sleep(99)", waits).error == "no end after 0.7 seconds"


@both
def test_a_fork_bomb_starts_no_process(limits: Limits) -> None:
    bomb, starts = errors(
        "import os\nwhile True: os.fork()",
        "import subprocess\nsubprocess.run(['sleep', '99'])",
        limits=limits,
    )
    assert bomb == "PermissionError"
    assert starts in ("PermissionError", "ImportError")


def test_memory_beyond_the_limit_is_refused() -> None:
    growing = "x = bytes(1)\nwhile True: x += x"  # bytes: nothing to count references of
    limits = Limits(cpu_seconds=10, seconds=60)
    assert errors("bytearray(2 * 2**30)", growing, limits=limits) == ["MemoryError"] * 2


@both
def test_files_are_written_in_the_programs_own_folder_only(tmp_path: Path, limits: Limits) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("kept")
    programs = (
        f"open({str(outside)!r}, 'w')",
        f"open({str(tmp_path / 'new')!r}, 'x')",
        f"import os; os.remove({str(outside)!r})",
        f"import os; os.rename({str(outside)!r}, 'inside')",
        f"import os; os.truncate({str(outside)!r}, 0)",
        f"import os; os.symlink({str(tmp_path)!r}, 'way'); open('way/new', 'w')",
        f"import os; os.open('outside.txt', os.O_WRONLY, dir_fd=os.open({str(tmp_path)!r}, 0))",
        f"import shutil; shutil.rmtree({str(tmp_path)!r})",
    )
    found = dict(zip(programs, errors(*programs, limits=limits), strict=True))
    assert found == dict.fromkeys(programs, "PermissionError")
    assert [path.name for path in tmp_path.iterdir()] == ["outside.txt"]
    assert outside.read_text() == "kept"
    own = "with open('a.txt', 'w') as f: f.write('b')\nassert open('a.txt').read() == 'b'"
    verdict = run_program(own, limits)
    # A kernel that gives no small disk of its own lets nothing be written.
    assert verdict.passed == ("tmpfs" in verdict.layers or "Landlock" not in verdict.layers)


def test_a_file_does_not_grow_beyond_its_limit_nor_are_there_many() -> None:
    grows = "f = open('big', 'wb', 0)\nwhile True: f.write(b'x' * 10**6)"
    many = "for i in range(10**6): open(f'{i}', 'w').close()"
    folders = "import os\nfor i in range(10**6): os.mkdir(f'{i}')"
    grown, *others = errors(grows, many, folders)
    assert grown in ("OSError", "PermissionError")
    assert others == ["PermissionError"] * 2


@both
def test_sockets_are_refused(limits: Limits) -> None:
    dial = "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)"
    ask = "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9')"
    dialled, asked = errors(dial, ask, limits=limits)
    assert dialled == "PermissionError"
    assert asked in ("PermissionError", "URLError")


def test_a_flood_of_output_is_thrown_away() -> None:
    floods = "import sys\nfor _ in range(200): print('x' * 10**6); print('y', file=sys.stderr)"
    verdict = "import os\nwhile True: os.write(3, b'x' * 10**6)"  # wherever the verdict goes
    prints, writes = errors(floods, verdict)
    assert prints == ""
    assert writes


@both
def test_no_other_process_is_signalled(limits: Limits) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    try:
        program = f"import os; os.kill({os.getpid()}, {signal.SIGUSR1.value})"
        assert run_program(program, limits).error == "PermissionError"
        time.sleep(0.05)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert came == []


def test_where_the_kernel_holds_it_holds_below_python_too(tmp_path: Path) -> None:
    layers = containment()
    assert layers[-2:] == ["limits", "audit hook"]
    if not {"namespaces", "Landlock", "seccomp"} <= set(layers):
        pytest.skip(f"this kernel holds with {layers} only")
    outside = os.fsencode(tmp_path / "new")
    calls = (
        "fork()",
        "execv(b'/bin/true', None)",
        "socket(2, 1, 0)",
        f"kill({os.getpid()}, 0)",
        f"open({outside!r}, 0o101, 0o600)",
        f"symlink(b'/', {outside!r})",
        "setrlimit(9, (ctypes.c_ulong * 2)(2**40, 2**40))",
    )
    found = errors(*(f"import ctypes\nassert ctypes.CDLL(None).{call} == -1" for call in calls))
    assert dict(zip(calls, found, strict=True)) == dict.fromkeys(calls, "")
    assert list(tmp_path.iterdir()) == []


def test_ways_around_the_hook_are_closed_where_it_stands_alone() -> None:
    assert run_program("", HOOK_ALONE).layers == ["limits", "audit hook"]
    ways = ("ctypes", "_ctypes", "_posixsubprocess")
    refused = errors(*(f"import {way}" for way in ways), limits=HOOK_ALONE)
    assert refused == ["ImportError"] * 3
    raised = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))"
    assert run_program(raised, HOOK_ALONE).error == "PermissionError"


@both
def test_libraries_that_a_solution_may_use_load(limits: Limits) -> None:
    program = "import math, re, hashlib, collections, itertools, datetime, heapq, typing\n"
    program += "import numpy\nassert numpy.ones(3).sum() == 3"
    assert run_program(program, replace(limits, cpu_seconds=3)).error == ""
