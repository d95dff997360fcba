"""One process per run: a lock on RUN/.lock that ends with the process, however it ends."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thumbs.errors import OutputError, RunError
from thumbs.progress import console

LOCK = ".lock"
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process while the block runs; the file goes when it ends.

    Raises:
        RunError: another process holds it.
        OutputError: the folder cannot be written to.
    """
    handle = _acquire(folder)
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)  # while it is held, so nobody's else goes
        os.close(handle)


def _acquire(folder: Path) -> int:
    path = folder / LOCK
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be written to ({error.strerror}). Name another folder."
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            os.close(handle)
            raise RunError(
                f"{folder}: {holder} is working on this run. Wait until it ends, or stop it."
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            console.print(f"{folder}: its file system has no locks; start one process per run")
        if _stands_at(handle, path):
            break
        os.close(handle)  # its holder removed it between our opening and locking
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return handle


def _stands_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
