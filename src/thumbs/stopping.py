"""Being asked to stop: now, or after the piece of work in hand.

The command line lets SIGTERM do what Ctrl-C does: raise KeyboardInterrupt where the program is.
That is right wherever nothing is lost by it. A step or a chunk is finished first.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class StopRequest:
    """Whether SIGINT or SIGTERM has come."""

    came: bool = False


def stop_on_sigterm() -> None:
    """From now on SIGTERM raises KeyboardInterrupt, as SIGINT does.

    So does SIGHUP, of a terminal that closes, unless it is ignored (nohup).
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


@contextmanager
def stopping_after(work: str) -> Iterator[StopRequest]:
    """In the block the first SIGINT or SIGTERM is only remembered, a second one stops at once.

    work: what is finished first, for the line the user sees ("the step").
    """
    stop = StopRequest()

    def remember(_number: int, _frame: FrameType | None) -> None:
        if stop.came:
            raise KeyboardInterrupt
        stop.came = True
        line = f"stopping after {work}; once more to stop at once\n"
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, line.encode())

    try:
        before = {number: signal.signal(number, remember) for number in SIGNALS}
    except ValueError:  # not the main thread, where signals cannot be caught
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
