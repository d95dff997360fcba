"""One torch thread, a score cache per test, and the folder of data for tests marked `shared`."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch

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


@pytest.fixture(autouse=True)
def thumbs_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty score cache for this test alone; nothing of the user's is read or written."""
    folder = tmp_path_factory.mktemp("thumbs-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THUMBS_CACHE", str(folder))
        yield folder


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
