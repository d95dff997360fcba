"""Work in forks gives what it gives here, in order, and leaves no process behind."""

import multiprocessing
import os
import sys

import pytest

from thumbs.data.processes import in_processes, num_processes
from thumbs.errors import FeedbackError

linux = pytest.mark.skipif(sys.platform != "linux", reason="forks are used on Linux only")


@linux
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_results_come_in_order_from_as_many_processes_as_asked(processes: int) -> None:
    results = list(in_processes(lambda i: (i * i, os.getpid()), 10, processes))
    assert [square for square, _ in results] == [i * i for i in range(10)]
    assert len({process for _, process in results}) == processes
    assert (os.getpid() in {process for _, process in results}) == (processes == 1)
    assert multiprocessing.active_children() == []


@linux
@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_is_raised_at_its_place(processes: int) -> None:
    def work(i: int) -> int:
        if i >= 3:
            raise FeedbackError(f"record {i} is wrong")
        return i

    results = in_processes(work, 6, processes)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(FeedbackError, match="record 3 is wrong"):
        next(results)
    assert multiprocessing.active_children() == []


@linux
def test_no_process_is_left_where_the_rest_is_not_wanted() -> None:
    results = in_processes(lambda i: f"{i % 10}" * 100_000, 100, 2)  # more than a pipe holds
    assert len(next(results)) == 100_000
    results.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


@linux
def test_a_fork_that_misses_the_signal_ends_at_its_next_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(multiprocessing.context.ForkProcess, "terminate", lambda _: None)
    results = in_processes(lambda i: f"{i % 10}" * 100_000, 100, 2)
    assert len(next(results)) == 100_000
    results.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_few_records_are_done_here() -> None:
    assert num_processes(0) == num_processes(2_000) == 1
    assert num_processes(10**9) <= 16
