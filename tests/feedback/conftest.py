"""A real PostgreSQL server for tests: made in a temporary folder, without a network, and removed.

In: the binaries of Debian's postgresql package. Out: a URL. Where there are none, tests skip.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

INSTALL = "needs a PostgreSQL server: apt-get install postgresql"


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


POSTGRES = _binaries()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of an empty server."""
    if POSTGRES is None:
        assert "THUMBS_SKIP_NOTHING" not in os.environ, INSTALL
        pytest.skip(INSTALL)
    with running_server() as url:
        yield url


@contextmanager
def running_server() -> Iterator[str]:
    """The URL of a server of its own, reached by a socket in its folder."""
    assert POSTGRES is not None
    # PostgreSQL refuses to run as root; its package makes a user for it.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="thumbs-pg-"))  # a socket's path must be short
    shutil.chown(folder, user)
    data = folder / "data"
    as_user = {"user": user} if os.geteuid() == 0 else {}

    def run(*command: object) -> None:
        line = [str(part) for part in command]
        log = folder / "log"
        with log.open("ab") as out:
            subprocess.run(line, check=True, stdout=out, stderr=out, cwd=folder, **as_user)  # type: ignore[call-overload]

    try:
        run(POSTGRES / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run(POSTGRES / "pg_ctl", "-D", data, "-w", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            run(POSTGRES / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)
