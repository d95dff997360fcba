"""What runs inside the sandbox: shuts itself in, runs one program, tells how it ended.

Started by sandbox.py as a process of its own with nothing imported but the standard library. In:
settings as JSON in its first argument; a secret line and then the program on stdin. Out, on stdout:
the secret and the layers as a line of JSON, then what ended the program. A program that ends the
process says nothing there.

Three layers, each of which is left out where the system has no such thing: limits of the process,
the kernel's (Linux: user and network namespace, Landlock, seccomp), and Python's audit hook.
"""

import contextlib
import json
import os
import resource
import struct
import sys
import types
from collections.abc import Callable
from typing import Any

NO_NEW_PRIVS, SET_SECCOMP, FILTER_MODE = 38, 22, 2  # prctl(2)
NEW_USER, NEW_NET = 0x10000000, 0x40000000  # unshare(2)
CLONE_THREAD = 0x00010000  # clone(2)
EPERM, ENOSYS = 1, 38

# Landlock, linux/landlock.h: the numbers of its calls are the same everywhere.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
IN_FOLDER = sum(1 << bit for bit in (1, 4, 5, 7, 8))  # write, remove file and folder, make them
NOWHERE = sum(1 << bit for bit in (0, 6, 9, 10, 11, 12))  # execute, make devices, sockets, links
REFER, TRUNCATE = 1 << 13, 1 << 14  # since its versions 2 and 3
TCP, SCOPES = 3, 3  # since 4: bind and connect; since 6: signals and sockets out of the sandbox

# Calls that are refused, by machine: new processes and programs, sockets, signals, other processes.
REFUSED_CALLS = {
    "x86_64": (
        0xC000003E,
        56,
        *(57, 58, 59, 322, 41, 42, 49, 53, 62, 200, 234, 101, 310, 311, 424, 425, 165, 272, 308),
    ),
    "aarch64": (
        0xC00000B7,
        220,
        *(221, 281, 198, 203, 200, 199, 129, 130, 131, 117, 270, 271, 424, 425, 40, 97, 268),
    ),
}
CLONE3 = 435  # whose flags a filter cannot see; without it clone is used

# Ways around the hook, refused where the kernel's layers do not hold.
WAYS_AROUND = {"ctypes", "_ctypes", "cffi", "_cffi_backend", "_posixsubprocess"}
ONE_PATH = {"os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
HARMLESS = {
    *("os.fwalk", "os.getxattr", "os.listdir", "os.listxattr", "os.scandir", "os.walk"),
    *("os.putenv", "os.unsetenv"),
}
REFUSED_GROUPS = ("os.", "pty.", "resource.", "shutil.", "socket.", "subprocess.")
MOST_WRITES = 64  # files opened for writing

NAMELESS = "an exception without a name"


def main() -> None:
    settings = json.loads(sys.argv[1])
    secret, _, program = sys.stdin.buffer.read().partition(b"\n")
    verdict = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    layers = confine(settings)
    head = json.dumps({"secret": secret.decode(), "layers": layers}).encode() + b"\n"
    write, end = os.write, os._exit  # before the program can put others in their place
    write(verdict, head + run(program).encode())
    end(0)


def run(program: bytes) -> str:
    """What kind of exception ended `program`; "" where it ran to its end.

    No value of the program's decides which: the name is taken past its metaclass, as a plain str.
    """
    kind, plain, name_of = type, str.__str__, type.__dict__["__name__"].__get__
    module = types.ModuleType("program")
    sys.modules["program"] = module
    try:
        exec(compile(program, "program.py", "exec"), module.__dict__)
    except BaseException as error:  # noqa: BLE001, SystemExit is a failure too
        return plain(name_of(kind(error))) or NAMELESS
    return ""


def confine(settings: dict[str, Any]) -> list[str]:
    """Shut this process in; the names of the layers that hold."""
    sys.path[1:1] = settings["paths"]
    del sys.path[0]  # the folder of this file
    layers = []
    if settings["kernel"] and sys.platform == "linux":
        layers += _kernel_layers(settings["folder"])
    _limit(settings, may_start_threads="seccomp" in layers)
    # A root that keeps its rights could raise the limits again.
    kernel_holds = {"Landlock", "seccomp"} <= set(layers) and (
        "namespaces" in layers or os.geteuid() != 0
    )
    refused = set() if kernel_holds else WAYS_AROUND
    for name in [name for name in sys.modules if name.partition(".")[0] in refused]:
        del sys.modules[name]
    sys.addaudithook(_hook(os.path.realpath(settings["folder"]), refused))
    return [*layers, "limits", "audit hook"]


def _limit(settings: dict[str, Any], *, may_start_threads: bool) -> None:
    seconds, memory, file = (settings[k] for k in ("cpu_seconds", "memory_bytes", "file_bytes"))
    wanted = {
        "RLIMIT_CPU": (seconds, seconds + 1),  # a signal, then a kill
        "RLIMIT_AS": (memory, memory),
        "RLIMIT_FSIZE": (file, file),
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_NOFILE": (64, 64),
    }
    if not may_start_threads:  # no filter refuses new processes, so nothing new may start
        wanted["RLIMIT_NPROC"] = (0, 0)
    for name, (soft, hard) in wanted.items():
        number = getattr(resource, name, None)
        if number is not None:
            # Systems without this limit refuse it (macOS: memory).
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(number, (soft, hard))


def _kernel_layers(folder: str) -> list[str]:
    import ctypes  # not where the hook is already there

    call = ctypes.CDLL(None, use_errno=True)
    layers = []
    if call.unshare(NEW_USER | NEW_NET) == 0:
        layers.append("namespaces")
    if call.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return layers
    if _landlock(call.syscall, folder):
        layers.append("Landlock")
    if _seccomp(ctypes, call.prctl):
        layers.append("seccomp")
    return layers


def _landlock(syscall: Callable[..., int], folder: str) -> bool:
    """Refuse writing outside `folder`, and running any file at all."""
    version = syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    in_folder = IN_FOLDER | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    rules = struct.pack("=Q", in_folder | NOWHERE)
    rules += struct.pack("=Q", TCP) if version >= 4 else b""
    rules += struct.pack("=Q", SCOPES) if version >= 6 else b""
    ruleset = syscall(CREATE_RULESET, rules, len(rules), 0)
    if ruleset < 0:
        return False
    place = os.open(folder, os.O_PATH)
    allowed = struct.pack("=Qi", in_folder, place)
    done = (
        syscall(ADD_RULE, ruleset, 1, allowed, 0) == 0 and syscall(RESTRICT_SELF, ruleset, 0) == 0
    )
    os.close(place)
    os.close(ruleset)
    return done and version >= 3  # before, a file could be emptied by its name


def _seccomp(ctypes: Any, prctl: Callable[..., int]) -> bool:
    """Refuse calls that start processes, open sockets or reach other processes."""
    machine = os.uname().machine
    if machine not in REFUSED_CALLS or sys.maxsize < 2**32:
        return False
    architecture, clone, *refused = REFUSED_CALLS[machine]
    jump_equal, jump_set, jump_above, load, give = 0x15, 0x45, 0x35, 0x20, 0x06
    no, yes, missing = 0x00050000 | EPERM, 0x7FFF0000, 0x00050000 | ENOSYS
    code = [
        (load, 0, 0, 4),  # the architecture
        (jump_equal, 1, 0, architecture),
        (give, 0, 0, no),
        (load, 0, 0, 0),  # the call
        (jump_above, 0, 1, 0x40000000),  # x32's calls have other numbers
        (give, 0, 0, no),
        (jump_equal, 0, 1, CLONE3),
        (give, 0, 0, missing),
    ]
    for number in refused:
        code += [(jump_equal, 0, 1, number), (give, 0, 0, no)]
    code += [
        (jump_equal, 0, 3, clone),
        (load, 0, 0, 16),  # its flags
        (jump_set, 1, 0, CLONE_THREAD),
        (give, 0, 0, no),
        (give, 0, 0, yes),
    ]
    content = b"".join(struct.pack("=HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(content)
    program = struct.pack("@HP", len(code), ctypes.addressof(buffer))
    return prctl(SET_SECCOMP, FILTER_MODE, program, 0, 0) == 0


def _hook(folder: str, refused: set[str]) -> Callable[[str, tuple[Any, ...]], None]:
    """Refuse what a solution has no business with, in Python and before it happens.

    refused: modules that cannot be imported.
    """
    writes = 0
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    real, decode, is_folder = os.path.realpath, os.fsdecode, os.path.isdir

    def inside(path: Any) -> bool:
        return isinstance(path, int) or real(decode(path)).startswith(folder + os.sep)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal writes
        if event == "import" and arguments[0] in refused:
            raise ImportError(f"{arguments[0]} is not there")
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int):
                return
            if flags & writing:
                writes += 1
            # A folder that is open is a way around the check of relative paths.
            if (flags & writing and not inside(path)) or writes > MOST_WRITES or is_folder(path):
                raise PermissionError(f"{path!r} cannot be opened this way")
            return
        if event in ONE_PATH and inside(arguments[0]):
            return
        if event == "os.rename" and inside(arguments[0]) and inside(arguments[1]):
            return
        if event.startswith(REFUSED_GROUPS) and event not in HARMLESS:
            raise PermissionError(f"{event} is not allowed")

    return hook


if __name__ == "__main__":
    main()
