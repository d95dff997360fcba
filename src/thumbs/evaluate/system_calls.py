"""The calls of the Linux kernel that a program of a model may make, as a seccomp filter.

In: the name of a machine. Out: the filter's instructions, as linux/filter.h lays them out. What is
not listed here is refused, so that a call nobody thought of is refused too. The list is what
CPython and its C library need to compute, to read, and to write where Landlock lets them; each of
these calls acts on this process or on files. It must not know what else shuts the program in.
"""

import struct
import sys

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
LOAD, JUMP_EQUAL, GIVE = 0x20, 0x15, 0x06  # linux/bpf_common.h
ALLOW, REFUSE, MISSING = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38  # EPERM, ENOSYS
CALL, ARCHITECTURE, SECOND_ARGUMENT = 0, 4, 24  # places in struct seccomp_data

# name: number on x86-64 and on arm64, asm/unistd_64.h and asm-generic/unistd.h; -1: not there
ALLOWED = {
    # files; Landlock says which may be written, and no call here changes a mode, owner or time
    "read": (0, 63),
    "readv": (19, 65),
    "pread64": (17, 67),
    "lseek": (8, 62),
    "write": (1, 64),
    "writev": (20, 66),
    "pwrite64": (18, 68),
    "sendfile": (40, 71),
    "open": (2, -1),
    "openat": (257, 56),
    "close": (3, 57),
    "close_range": (436, 436),
    "stat": (4, -1),
    "fstat": (5, 80),
    "lstat": (6, -1),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "access": (21, -1),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, -1),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "getxattr": (191, 8),
    "lgetxattr": (192, 9),
    "fgetxattr": (193, 10),
    "listxattr": (194, 11),
    "llistxattr": (195, 12),
    "flistxattr": (196, 13),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "umask": (95, 166),
    "mkdir": (83, -1),
    "mkdirat": (258, 34),
    "rmdir": (84, -1),
    "unlink": (87, -1),
    "unlinkat": (263, 35),
    "rename": (82, -1),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "truncate": (76, 45),
    "ftruncate": (77, 46),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "dup": (32, 23),
    "dup2": (33, -1),
    "dup3": (292, 24),
    "pipe": (22, -1),
    "pipe2": (293, 59),
    "poll": (7, -1),
    "ppoll": (271, 73),
    "select": (23, -1),
    "pselect6": (270, 72),
    # its own memory
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "brk": (12, 214),
    "madvise": (28, 233),
    "msync": (26, 227),
    "membarrier": (324, 283),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    # signals and timers of its own; none that sends a signal
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
    "pause": (34, -1),
    "alarm": (37, -1),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "restart_syscall": (219, 128),
    # what time it is, and who it is
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, -1),
    "times": (100, 153),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getpgrp": (111, -1),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "getgroups": (115, 158),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getresuid": (118, 148),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresgid": (120, 150),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getrandom": (318, 278),
    "getcpu": (309, 168),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
# Those whose second argument says what they do. Not there: who gets signals, locks, leases, sizes
# of pipes; flags of files, which may be set through a file that is open for reading; terminals.
ALLOWED_BY_ARGUMENT = {
    "fcntl": (72, 25, (0, 1, 2, 3, 4, 1030)),  # copies of a descriptor, its flags
    "ioctl": (16, 29, (0x5401, 0x5450, 0x5451)),  # is it a terminal; closed on exec or not
}
CLONE3 = 435  # the C library asks for clone in its stead only where it is missing


def seccomp_filter(machine: str) -> bytes:
    """The filter for `machine` (as uname says); empty where there is none."""
    if machine not in ARCHITECTURES or sys.maxsize < 2**32:
        return b""
    column = list(ARCHITECTURES).index(machine)
    code = [
        (LOAD, 0, 0, ARCHITECTURE),  # another has other numbers
        (JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (GIVE, 0, 0, REFUSE),
        (LOAD, 0, 0, CALL),
        *_either(CLONE3, MISSING),
    ]
    for numbers in ALLOWED.values():
        if numbers[column] >= 0:
            code += _either(numbers[column], ALLOW)
    for *both, values in ALLOWED_BY_ARGUMENT.values():
        block = [(LOAD, 0, 0, SECOND_ARGUMENT)]  # its lower half, the kernel reads no more
        for value in values:
            block += _either(value, ALLOW)
        block.append((GIVE, 0, 0, REFUSE))
        code += [(JUMP_EQUAL, 0, len(block), both[column]), *block]
    code.append((GIVE, 0, 0, REFUSE))
    return b"".join(struct.pack("=HBBI", *line) for line in code)


def _either(value: int, given: int) -> list[tuple[int, int, int, int]]:
    """Give `given` if `value` is what was loaded; go on if not."""
    return [(JUMP_EQUAL, 0, 1, value), (GIVE, 0, 0, given)]
