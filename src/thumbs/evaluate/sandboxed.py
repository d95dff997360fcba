"""What runs inside the sandbox: shuts itself in, runs one program, tells how it ended.

Started by sandbox.py as a process of its own with nothing imported but the standard library. In:
settings as JSON in its first argument; a secret line and then the program on stdin. Out, on stdout:
the secret and the layers as a line of JSON, then what ended the program. A program that ends the
process says nothing there.

Three layers, each of which is left out where the system has no such thing: limits of the process,
the kernel's (Linux: namespaces, a tmpfs of its own, Landlock, seccomp), and Python's audit hook.
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
NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_NET = 0x20000, 0x8000000, 0x10000000, 0x40000000  # unshare(2)
NO_PROGRAMS = 2 | 4 | 8  # mount(2): no rights of their owner, no devices, none that runs
CAPABILITIES = 0x20080522  # capset(2), its version

# Landlock, linux/landlock.h: the numbers of its calls are the same everywhere.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
IN_FOLDER = sum(1 << bit for bit in (1, 4, 5, 7, 8))  # write, remove file and folder, make them
NOWHERE = sum(1 << bit for bit in (0, 6, 9, 10, 11, 12))  # execute, make devices, sockets, links
REFER, TRUNCATE = 1 << 13, 1 << 14  # since its versions 2 and 3
DEVICES = 1 << 15  # since 5: ioctl of a device
TCP, SCOPES = 3, 3  # since 4: bind and connect; since 6: signals and sockets out of the sandbox

# Ways around the hook, refused where the kernel's layers do not hold.
WAYS_AROUND = {"ctypes", "_ctypes", "cffi", "_cffi_backend", "_posixsubprocess"}
ONE_PATH = {"os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
HARMLESS = {
    *("os.fwalk", "os.getxattr", "os.listdir", "os.listxattr", "os.scandir", "os.walk"),
    *("os.putenv", "os.unsetenv"),
}
REFUSED_GROUPS = ("os.", "pty.", "resource.", "shutil.", "socket.", "subprocess.")
MOST_WRITES = 64  # files opened for writing, and folders made

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
    sys.path += settings["paths"]
    layers = []
    on_linux = settings["kernel"] and sys.platform == "linux"
    if on_linux:
        layers += _kernel_layers(settings)
    _limit(settings)
    if on_linux and _seccomp(bytes.fromhex(settings["filter"])):  # last: it refuses setting limits
        layers.append("seccomp")
    else:
        _set_limits({"RLIMIT_NPROC": (0, 0)})  # no new process or thread
    refused = set() if {"Landlock", "seccomp"} <= set(layers) else WAYS_AROUND
    for name in [name for name in sys.modules if name.partition(".")[0] in refused]:
        del sys.modules[name]
    sys.addaudithook(_hook(os.path.realpath(settings["folder"]), refused))
    return [*layers, "limits", "audit hook"]


def _limit(settings: dict[str, Any]) -> None:
    seconds, memory, file = (settings[k] for k in ("cpu_seconds", "memory_bytes", "file_bytes"))
    wanted = {
        "RLIMIT_CPU": (seconds, seconds + 1),  # a signal, then a kill
        "RLIMIT_AS": (memory, memory),
        "RLIMIT_FSIZE": (file, file),
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_NOFILE": (64, 64),
    }
    _set_limits(wanted)


def _set_limits(wanted: dict[str, tuple[int, int]]) -> None:
    for name, (soft, hard) in wanted.items():
        number = getattr(resource, name, None)
        if number is not None:
            # Systems without this limit refuse it (macOS: memory).
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(number, (soft, hard))


def _kernel_layers(settings: dict[str, Any]) -> list[str]:
    import ctypes  # not where the hook is already there

    call = ctypes.CDLL(None, use_errno=True)
    layers = []
    owner = os.geteuid(), os.getegid()
    if call.unshare(NEW_USER | NEW_NET | NEW_IPC | NEW_MOUNTS) == 0:
        layers.append("namespaces")
        if _own_disk(call.mount, settings, owner):
            layers.append("tmpfs")
        # In its namespaces it has all rights, until here.
        call.capset(struct.pack("=Ii", CAPABILITIES, 0), bytes(24))
    if call.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return layers
    if _landlock(call.syscall, settings["folder"] if "tmpfs" in layers else None):
        layers.append("Landlock")
    return layers


def _own_disk(mount: Callable[..., int], settings: dict[str, Any], owner: tuple[int, int]) -> bool:
    """Make the folder a file system of its own, of limited size, that ends with this process."""
    user, group = owner
    maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
    try:
        for name, text in maps.items():  # user_namespaces(7): who owns what is written
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    except OSError:
        return False
    folder, size, files = (settings[k] for k in ("folder", "folder_bytes", "folder_files"))
    options = f"size={size},nr_inodes={files},mode=700"
    if mount(b"tmpfs", os.fsencode(folder), b"tmpfs", NO_PROGRAMS, options.encode()) != 0:
        return False
    os.chdir(folder)
    return True


def _landlock(syscall: Callable[..., int], folder: str | None) -> bool:
    """Refuse writing outside `folder`, and running any file at all; None: no writing anywhere."""
    version = syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    in_folder = IN_FOLDER | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    nowhere = NOWHERE | (DEVICES if version >= 5 else 0)
    rules = struct.pack("=Q", in_folder | nowhere)
    rules += struct.pack("=Q", TCP) if version >= 4 else b""
    rules += struct.pack("=Q", SCOPES) if version >= 6 else b""
    ruleset = syscall(CREATE_RULESET, rules, len(rules), 0)
    if ruleset < 0:
        return False
    done = True
    if folder is not None:
        place = os.open(folder, os.O_PATH)
        done = syscall(ADD_RULE, ruleset, 1, struct.pack("=Qi", in_folder, place), 0) == 0
        os.close(place)
    done = done and syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return done and version >= 3  # before, a file could be emptied by its name


def _seccomp(code: bytes) -> bool:
    """Refuse every call of the kernel that the filter does not allow."""
    if not code:
        return False
    import ctypes

    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    done: int = ctypes.CDLL(None).prctl(SET_SECCOMP, FILTER_MODE, program, 0, 0)
    return done == 0


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
        writes += event == "os.mkdir"
        if event in ONE_PATH and inside(arguments[0]) and writes <= MOST_WRITES:
            return
        if event == "os.rename" and inside(arguments[0]) and inside(arguments[1]):
            return
        if event.startswith(REFUSED_GROUPS) and event not in HARMLESS:
            raise PermissionError(f"{event} is not allowed")

    return hook


if __name__ == "__main__":
    main()
