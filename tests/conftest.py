"""One torch thread, a score cache per test, and the folder of data for tests marked `shared`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

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
