"""What programs try below Python, past its audit hook: the host is looked at afterwards."""

import ctypes
import fcntl
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from thumbs.evaluate.sandbox import Limits, containment, run_program, run_programs

SHORT = Limits(cpu_seconds=1, seconds=30)
LIBC = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def refused(result):
    assert result == -1 and ctypes.get_errno() == 1, (result, ctypes.get_errno())
"""
# Each has an effect that outlives the process or reaches another: number on x86-64, on arm64.
REACHING = """
chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, chown 92 -, fchown 93 55,
lchown 94 -, fchownat 260 54, utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88,
setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, setxattrat 463 463, removexattr 197 14,
lremovexattr 198 15, fremovexattr 199 16, removexattrat 466 466, file_setattr 469 469,
fallocate 285 47, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36, mknod 133 -,
mknodat 259 33, flock 73 32, sync 162 81, shmget 29 194, shmat 30 196, shmctl 31 195,
shmdt 67 197, msgget 68 186, msgsnd 69 189, msgctl 71 187, semget 64 190, semop 65 193,
semtimedop 220 192, semctl 66 191, mq_open 240 180, mq_unlink 241 181, memfd_create 319 279,
memfd_secret 447 447, kill 62 129, tkill 200 130, tgkill 234 131, rt_sigqueueinfo 129 138,
rt_tgsigqueueinfo 297 240, pidfd_open 434 434, pidfd_send_signal 424 424, pidfd_getfd 438 438,
ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272,
process_madvise 440 440, process_mrelease 448 448, prlimit64 302 261, setrlimit 160 164,
setpriority 141 140, ioprio_set 251 30, sched_setaffinity 203 122, sched_setattr 314 274,
sched_setparam 142 118, sched_setscheduler 144 119, setpgid 109 154, migrate_pages 256 238,
move_pages 279 239, setsid 112 157, fork 57 -, vfork 58 -, clone 56 220, execve 59 221,
execveat 322 281, unshare 272 97, setns 308 268, chroot 161 51, add_key 248 217,
request_key 249 218, keyctl 250 219, io_uring_setup 425 425, io_uring_enter 426 426,
io_setup 206 0, userfaultfd 323 282, perf_event_open 298 241, bpf 321 280, mount 165 40,
umount2 166 39, pivot_root 155 41, fsopen 430 430, open_tree 428 428, move_mount 429 429,
mount_setattr 442 442, name_to_handle_at 303 264, open_by_handle_at 304 265, openat2 437 437,
kexec_load 246 104, init_module 175 105, finit_module 313 273, reboot 169 142,
sethostname 170 161, settimeofday 164 170, setdomainname 171 162, clock_settime 227 112,
clock_adjtime 305 266, adjtimex 159 171, quotactl 179 60, swapon 167 224, swapoff 168 225,
acct 163 89, syslog 103 116, personality 135 92, vhangup 153 58, socket 41 198, socketpair 53 199,
sendmsg 46 211, connect 42 203, inotify_init1 294 26, fanotify_init 300 262, prctl 157 167,
seccomp 317 277, timer_create 222 107, capset 126 91
"""


def numbers() -> dict[str, int]:
    """Those that this machine has, by name."""
    column = 1 + ("x86_64", "aarch64").index(os.uname().machine)
    calls = [call.split() for call in REACHING.split(",")]
    return {call[0]: int(call[column]) for call in calls if call[column] != "-"}


@pytest.fixture(scope="module", autouse=True)
def _kernel_holds() -> None:
    layers = containment()
    if not {"namespaces", "tmpfs", "Landlock", "seccomp"} <= set(layers):
        pytest.skip(f"this kernel holds with {layers} only")


@pytest.fixture
def victim() -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the same user."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def errors(*programs: str, limits: Limits = SHORT) -> dict[str, str]:
    """The programs that did not end as they say, and how they ended."""
    verdicts = run_programs([LIBC + program for program in programs], limits)
    ended = zip(programs, verdicts, strict=True)
    return {program: verdict.error for program, verdict in ended if verdict.error}


def test_it_has_namespaces_of_its_own_and_no_rights_in_them() -> None:
    spaces = {
        name: os.stat(f"/proc/self/ns/{name}").st_ino for name in ("user", "net", "ipc", "mnt")
    }
    mine = f"{{n: i for n, i in {spaces}.items() if os.stat(f'/proc/self/ns/{{n}}').st_ino == i}}"
    rights = "[line for line in open('/proc/self/status') if line.startswith(('CapEff', 'CapPrm'))]"
    assert (
        errors(f"assert {mine} == {{}}", f"assert all(int(l[8:], 16) == 0 for l in {rights})") == {}
    )


def test_every_call_that_reaches_beyond_the_process_is_refused() -> None:
    program = f"""
done = []
for name, number in {numbers()!r}.items():
    ctypes.set_errno(0)
    if libc.syscall(number, 0, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 1:
        done.append(name)
raise type(' '.join(done).replace(' ', '_') or 'none', (Exception,), {{}})
"""
    assert run_program(LIBC + program, SHORT).error == "none"


def test_no_mode_owner_time_or_attribute_changes_outside(tmp_path: Path) -> None:
    file = tmp_path / "victim"
    file.write_text("kept")
    file.chmod(0o640)
    before = file.stat()
    path = os.fsencode(file)
    calls = (
        *(f"chmod({path!r}, 0)", f"fchmodat(-100, {path!r}, 0, 0)"),
        f"fchmod(os.open({path!r}, os.O_RDONLY), 0)",
        *(f"chown({path!r}, 1, 1)", f"lchown({path!r}, 1, 1)", f"utimes({path!r}, None)"),
        f"utimensat(-100, {path!r}, None, 0)",
        f"setxattr({path!r}, b'user.a', b'x', 1, 0)",
        # its flags, through a file that is open for reading: chattr +A
        f"ioctl(os.open({path!r}, os.O_RDONLY), 0x40086602, ctypes.byref(ctypes.c_long(0x80)))",
    )
    assert errors(*(f"refused(libc.{call})" for call in calls)) == {}
    after = file.stat()
    for what in ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_ctime_ns"):
        assert getattr(after, what) == getattr(before, what)
    assert os.listxattr(file) == []


def test_no_file_outside_is_made_moved_linked_emptied_or_removed(tmp_path: Path) -> None:
    file = tmp_path / "victim"
    file.write_text("kept")
    path, new = os.fsencode(file), os.fsencode(tmp_path / "new")
    calls = (
        *(f"open({new!r}, 0o101, 0o600)", f"mkdir({new!r}, 0o700)", f"unlink({path!r})"),
        *(f"truncate({path!r}, 0)", f"open({path!r}, 0o1001)", f"rename({path!r}, b'mine')"),
        *(f"link({path!r}, b'mine')", f"rename(b'own', {new!r})", f"link(b'own', {new!r})"),
    )
    own = "open('own', 'w').close()\n"
    assert errors(*(f"{own}assert libc.{call} == -1" for call in calls)) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]
    assert (file.read_text(), file.stat().st_nlink) == ("kept", 1)


def test_no_shared_memory_or_queue_is_left_behind() -> None:
    key = 0x7468_0000 + os.getpid() % 0x10000
    programs = (
        f"refused(libc.shmget({key}, 10 * 2**20, 0o1600))",
        f"refused(libc.msgget({key}, 0o1600))",
        f"refused(libc.semget({key}, 1, 0o1600))",
        f"assert libc.mq_open(b'/thumbs{key}', 0o102, 0o600, None) == -1",
        "refused(libc.memfd_create(b'more', 0))",
    )
    assert errors(*programs) == {}
    libc = ctypes.CDLL(None)
    assert (libc.shmget(key, 0, 0), libc.msgget(key, 0), libc.semget(key, 0, 0)) == (-1, -1, -1)


def test_another_process_gets_no_signal_and_keeps_its_limits(
    victim: "subprocess.Popen[bytes]",
) -> None:
    names = ("kill", "rt_sigqueueinfo", "tkill", "tgkill", "rt_tgsigqueueinfo", "pidfd_open")
    kill, queue, tkill, tgkill, thread_queue, pidfd = (numbers()[name] for name in names)
    pid, parent, term = victim.pid, os.getpid(), int(signal.SIGTERM)
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE), os.sched_getaffinity(pid)
    programs = (
        *(f"refused(libc.syscall({kill}, {who}, 0))" for who in (pid, parent, -1, 0)),
        f"refused(libc.syscall({kill}, {pid}, {term}))",
        f"info = (ctypes.c_int * 32)({term}, 0, -1)\n"
        f"refused(libc.syscall({queue}, {pid}, {term}, info))\n"
        f"refused(libc.syscall({thread_queue}, {pid}, {pid}, {term}, info))",
        *(f"refused(libc.syscall({tkill}, {who}, 0))" for who in (pid, parent)),
        f"refused(libc.syscall({tkill}, {pid}, {term}))",
        f"refused(libc.syscall({tgkill}, {pid}, {pid}, {term}))",
        f"refused(libc.syscall({pidfd}, {pid}, 0))",
        f"refused(libc.prlimit({pid}, 1, (ctypes.c_ulong * 2)(0, 0), None))",
        f"refused(libc.setpriority(0, {pid}, 19))",
        f"refused(libc.sched_setaffinity({pid}, 8, ctypes.byref(ctypes.c_ulong(1))))",
        # a pipe of its own whose news another process would get as a signal
        f"here, there = os.pipe()\nrefused(libc.fcntl(here, 10, {term}))\n"
        f"refused(libc.fcntl(here, 8, {pid}))\n"
        f"refused(libc.ioctl(here, 0x5452, ctypes.byref(ctypes.c_int(1))))",
    )
    assert errors(*programs) == {}
    time.sleep(0.05)
    assert victim.poll() is None
    assert before == (resource.prlimit(pid, resource.RLIMIT_FSIZE), os.sched_getaffinity(pid))


def test_a_file_that_is_read_is_neither_locked_nor_leased(tmp_path: Path) -> None:
    file = tmp_path / "victim"
    file.write_text("kept")
    opened = f"number = os.open({str(file)!r}, os.O_RDONLY)\n"
    programs = (
        f"{opened}refused(libc.flock(number, 2))",
        f"{opened}refused(libc.fcntl(number, 1024, 0))",  # a lease: whoever writes would wait
        f"{opened}refused(libc.fcntl(number, 6, ctypes.create_string_buffer(64)))",
    )
    assert errors(*programs) == {}
    with file.open("r+") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_native_code_fills_its_own_small_disk_only() -> None:
    place = tempfile.gettempdir()
    before = os.statvfs(place)
    program = """
block = b'x' * 2**20
written = 0
for i in range(500):
    file = libc.open(b'f%d' % i, 0o101, 0o600)
    written += max(libc.write(file, block, 2**20), 0)
    libc.close(file)
assert 2**20 <= written <= 16 * 2**20, written
for i in range(999):
    libc.close(libc.open(b'g%d' % i, 0o101, 0o600))
    libc.mkdir(b'h%d' % i, 0o700)
assert len(os.listdir('.')) <= 256, len(os.listdir('.'))
"""
    watch = """
assert libc.write(libc.open(b'held', 0o101, 0o600), b'x' * 2**20, 2**20) == 2**20
import time; time.sleep(99)
"""
    assert errors(program) == {}
    verdict = run_program(LIBC + watch, Limits(cpu_seconds=1, seconds=0.8))
    assert verdict.error == "no end after 0.8 seconds"
    after = os.statvfs(place)
    assert (before.f_bfree - after.f_bfree) * before.f_frsize < 2**24


def test_its_own_files_are_never_on_your_disk() -> None:
    place = os.stat(tempfile.gettempdir()).st_dev
    seen = "open('a', 'w').write('x')\nassert os.listdir(os.getcwd()) == ['a']\n"
    assert errors(f"{seen}assert os.stat('.').st_dev != {place}") == {}


def test_without_a_small_disk_nothing_is_written_at_all() -> None:
    no_disk = replace(SHORT, folder_files=-1)  # which the kernel refuses to mount
    assert "tmpfs" not in run_program("", no_disk).layers
    assert errors("assert libc.open(b'a', 0o101, 0o600) == -1", limits=no_disk) == {}
    assert run_program("open('a', 'w')", no_disk).error == "PermissionError"


def test_no_thread_is_started() -> None:
    starts = "import threading\nthreading.Thread(target=print).start()"
    assert run_program(starts, SHORT).error == "RuntimeError"
