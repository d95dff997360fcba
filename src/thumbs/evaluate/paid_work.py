"""Requests that cost, made once each: several under way, every result kept as it comes.

Another process that makes the same request meanwhile is waited for, and its result taken.

In: tasks by key, what to do with one, a journal. Out: a fuller journal, and what was refused.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple, TypeVar

from thumbs.errors import ConfigError, Interrupted
from thumbs.evaluate.journal import Entry, Journal
from thumbs.progress import console, progress_bar
from thumbs.stopping import StopRequest, stopping_after

HOPELESS = 5  # requests refused with none ever taken: the fault is not in one request
LOOK_SECONDS = 0.2  # between two looks whether the user asked to stop

T = TypeVar("T")


class Outcome(NamedTuple):
    """What a request brought: an entry to keep, or why the server would not take it."""

    entry: Entry
    refusal: str = ""


def do_paid(
    work: Callable[[T], Outcome],
    tasks: Mapping[str, T],
    journal: Journal,
    *,
    concurrency: int,
    title: str,
    unit: str,
    give_up: Callable[[], None],
) -> dict[str, str]:
    """Do those tasks whose key is not in the journal; what was refused comes back, by key.

    Args:
        concurrency: requests under way at one time.
        give_up: called when no further result is wanted; ends pauses before another attempt.

    Raises:
        Interrupted: the server gave no reply, or the user asked to stop; what has come is kept.
        ConfigError: the server has taken no request of these tasks, now or before.
    """
    journal.refresh()
    missing = {key: task for key, task in tasks.items() if journal.get(key) is None}
    refusals: dict[str, str] = {}
    ended = threading.Event()
    num_taken = len(tasks) - len(missing)
    if not missing:
        return refusals
    with (
        progress_bar(title, len(missing), unit) as bar,
        stopping_after("the requests under way") as stop,
        ThreadPoolExecutor(concurrency) as pool,
    ):
        try:
            futures = {
                pool.submit(_refusal, work, key, task, journal, ended): key
                for key, task in missing.items()
            }
            for future in _as_they_come(set(futures), stop):
                if refusal := future.result():
                    refusals[futures[future]] = refusal
                num_taken += not refusal
                _require_hope(num_taken, refusals, len(missing))
                bar.advance()
        except BaseException:
            ended.set()
            give_up()
            pool.shutdown(cancel_futures=True)  # those under way end, and are kept
            raise
    _tell(refusals, len(missing), title)
    return refusals


def _refusal(
    work: Callable[[T], Outcome], key: str, task: T, journal: Journal, ended: threading.Event
) -> str:
    """Do one task, unless another process has; why it was refused, "" where it was not."""
    with journal.claimed(key, ended.is_set):
        if journal.get(key) is not None:
            return ""
        entry, refusal = work(task)
        if not refusal:
            journal.add(key, entry)  # in the thread: kept whatever comes between
        return refusal


def _as_they_come(left: set[Future[str]], stop: StopRequest) -> Iterator[Future[str]]:
    while left:
        done, left = wait(left, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
        yield from done
        if stop.came and left:
            raise Interrupted("stopped; what has come is kept. Give the same command to go on.")


def _require_hope(num_taken: int, refusals: Mapping[str, str], num_tasks: int) -> None:
    if not num_taken and len(refusals) >= min(HOPELESS, num_tasks):
        raise ConfigError(
            f"the server refuses every request: {next(iter(refusals.values()))}. Check the "
            "model's name and the options, or shorten the prompts."
        )


def _tell(refusals: Mapping[str, str], num_tasks: int, title: str) -> None:
    for why in list(refusals.values())[:1]:
        told = f"{title}: the server refused {len(refusals):,} of {num_tasks:,} requests"
        console.print(f"{told}: {why}", markup=False, soft_wrap=True)
