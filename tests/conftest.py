"""One torch thread, a score cache per test, and the folder of data for tests marked `shared`."""

import gc
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch.multiprocessing.spawn import start_processes

gc.disable()  # until everything is imported
torch.set_num_threads(1)
# A shell ignores Ctrl-C in what it starts in the background, and tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """The folder of real data and export samples beside the clone; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent")
    return SHARED


def pytest_collection_finish() -> None:
    """What the imports made stays: collecting garbage need not look at millions of it each time."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def cache_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """New names in one folder; to name one itself, pytest looks through all it has made."""
    folder = tmp_path_factory.mktemp("thumbs-caches")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def thumbs_cache(cache_folders: Iterator[Path]) -> Iterator[Path]:
    """An empty score cache for this test alone; nothing of the user's is read or written."""
    folder = next(cache_folders)
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THUMBS_CACHE", str(folder))
        yield folder


@pytest.fixture
def on_two_ranks(tmp_path: Path) -> Callable[[Callable[[int], Any]], list[Any]]:
    """Runs `work(rank)` in two processes that form one group (gloo); what they return, by rank.

    Collectives that wait a minute fail, so that ranks out of step are a failure and no hang.
    """

    def run(work: Callable[[int], Any]) -> list[Any]:
        meeting = tmp_path / "meeting"
        meeting.unlink(missing_ok=True)  # a file left by an earlier group confuses the next one

        def process(rank: int) -> None:
            torch.distributed.init_process_group(
                "gloo",
                init_method=f"file://{meeting}",
                rank=rank,
                world_size=2,
                timeout=timedelta(minutes=1),
            )
            torch.save(work(rank), tmp_path / f"rank-{rank}")
            torch.distributed.destroy_process_group()

        with warnings.catch_warnings():
            # Python 3.12 warns of threads; those of a parent that are idle do no harm here.
            warnings.simplefilter("ignore", DeprecationWarning)
            start: Any = start_processes
            # Forked, they need no import of their own: 0.3 s instead of 6.
            start(process, nprocs=2, start_method="fork")
        return [torch.load(tmp_path / f"rank-{rank}", weights_only=False) for rank in range(2)]

    return run


@pytest.fixture
def small_disk() -> Callable[[int], AbstractContextManager[None]]:
    """A block in which no file of this process can grow beyond a number of bytes."""

    @contextmanager
    def limited(num_bytes: int) -> Iterator[None]:
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes fail, as on a full disk
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)

    return limited
