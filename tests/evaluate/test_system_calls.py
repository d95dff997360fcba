"""The filter of the kernel's calls, run here as the kernel would: for both machines, on any."""

import struct

import pytest

from thumbs.evaluate.system_calls import ALLOWED, ARCHITECTURES, seccomp_filter

ALLOW, REFUSE, MISSING = 0x7FFF0000, 0x00050001, 0x00050026
I386, ARM = 0x40000003, 0x40000028  # linux/audit.h: what int 80h and 32-bit programs call by
machines = pytest.mark.parametrize("machine", ARCHITECTURES)


def given(machine: str, number: int, argument: int = 0, architecture: int | None = None) -> int:
    """What the filter for `machine` says to a call with this number and second argument."""
    code = list(struct.iter_unpack("=HBBI", seccomp_filter(machine)))
    architecture = ARCHITECTURES[machine] if architecture is None else architecture
    data = struct.pack("=IIQQQQQQQ", number, architecture, 0, 7, argument, 0, 0, 0, 0)
    loaded = place = 0
    while True:
        what, if_equal, if_not, value = code[place]
        if what == 0x06:
            return int(value)
        if what == 0x20:
            (loaded,) = struct.unpack_from("=I", data, value)
        else:
            assert what == 0x15
            place += if_equal if loaded == value else if_not
        place += 1


@machines
def test_calls_of_the_list_are_allowed_and_all_others_refused(machine: str) -> None:
    column = list(ARCHITECTURES).index(machine)
    allowed = {number for numbers in ALLOWED.values() if (number := numbers[column]) >= 0}
    found = {number for number in range(600) if given(machine, number, 0xFFFF) == ALLOW}
    assert found == allowed
    assert {given(machine, n, 0xFFFF) for n in set(range(600)) - allowed} == {REFUSE, MISSING}


@machines
def test_clone3_is_missing_so_that_the_c_library_asks_for_clone(machine: str) -> None:
    assert given(machine, 435) == MISSING


@machines
def test_calls_by_the_numbers_of_another_machine_are_refused(machine: str) -> None:
    others = {I386, ARM, *ARCHITECTURES.values()} - {ARCHITECTURES[machine]}
    assert {given(machine, n, 0, other) for n in range(600) for other in others} == {REFUSE}
    assert {given(machine, 0x40000000 + n) for n in range(600)} == {REFUSE}  # x32


@pytest.mark.parametrize(("machine", "fcntl", "ioctl"), [("x86_64", 72, 16), ("aarch64", 25, 29)])
def test_what_a_descriptor_may_be_asked_is_listed_too(machine: str, fcntl: int, ioctl: int) -> None:
    # duplicates and flags; not locks (5 to 7), owner and number of signals (8, 10, 15), leases.
    asked = {command for command in range(2000) if given(machine, fcntl, command) == ALLOW}
    assert asked == {0, 1, 2, 3, 4, 1030}
    # TCGETS, FIONCLEX, FIOCLEX; not FIOASYNC, TIOCSTI, FS_IOC_SETFLAGS.
    assert {given(machine, ioctl, what) for what in (0x5401, 0x5450, 0x5451)} == {ALLOW}
    assert {given(machine, ioctl, what) for what in (0x5452, 0x5412, 0x40086602)} == {REFUSE}


def test_other_machines_have_no_filter() -> None:
    assert seccomp_filter("riscv64") == b""
