"""Pieces of work shared out to forks of this process, their results in order.

In: a function of a piece's number. Out: its results, first to last. A fork has what its
parent had, so nothing is sent to it; its results come back through a pipe. Must not know: what the
work is.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

RECORDS_EACH = 2_048  # fewer are done before a fork has paid for itself
MAX_PROCESSES = 16
_PARALLELISM = "TOKENIZERS_PARALLELISM"

T = TypeVar("T")


def num_processes(num_records: int) -> int:
    """As many as there are cores and records for, and 1 where processes cannot be forked safely."""
    if sys.platform != "linux":
        return 1
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, MAX_PROCESSES, num_records // RECORDS_EACH))


def in_processes(work: Callable[[int], T], count: int, processes: int) -> Iterator[T]:
    """work(0), work(1), ... work(count - 1), in this order, from `processes` forks.

    With one process the work is done here. What `work` raises is raised here, at its place in the
    order. A fork whose parent is gone ends at its next result.
    """
    if processes == 1:
        yield from map(work, range(count))
        return
    context = get_context("fork")
    receivers: list[Connection] = []
    started = []
    try:
        with _tokenizers_on_one_thread():
            for first in range(processes):
                receiver, sender = context.Pipe(duplex=False)
                receivers.append(receiver)
                numbers = range(first, count, processes)
                process = context.Process(
                    target=_work_off, args=(work, numbers, sender, list(receivers)), daemon=True
                )
                process.start()
                sender.close()
                started.append(process)
        for number in range(count):
            result, error = receivers[number % processes].recv()
            if error is not None:
                raise error
            yield result
    finally:
        for receiver in receivers:  # a fork that has missed the signal ends at its next result
            receiver.close()
        for process in started:
            process.terminate()
        for process in started:
            process.join()


def _work_off(
    work: Callable[[int], Any],
    numbers: range,
    sender: "Connection[Any, Any]",
    receivers: "list[Connection[Any, Any]]",
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for receiver in receivers:  # while any is open here, a parent's end would go unnoticed
        receiver.close()
    try:
        for number in numbers:
            try:
                sender.send((work(number), None))
            except BrokenPipeError:
                return
            except Exception as error:  # noqa: BLE001, the parent raises it
                sender.send((None, error))
                return
    except BrokenPipeError:
        return


@contextmanager
def _tokenizers_on_one_thread() -> Iterator[None]:
    """Forks made here tokenise on one thread each; the library warns of it unless it is set."""
    before = os.environ.get(_PARALLELISM)
    os.environ[_PARALLELISM] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PARALLELISM]
        else:
            os.environ[_PARALLELISM] = before
