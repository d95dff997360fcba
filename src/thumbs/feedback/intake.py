"""What the user names as sources, as paths: patterns, standard input and database URLs too.

In: the arguments of `thumbs import`. Out: paths of files, folders and archives, in their order.
What came another way lies in a temporary folder as long as the block lasts, as some sources read
twice.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import glob, has_magic
from pathlib import Path

from thumbs.errors import FeedbackError
from thumbs.feedback.database import copy_tables, is_url, save_query, shown_url
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.sources.chainlit import TABLES as CHAINLIT
from thumbs.feedback.sqlite import is_sqlite

STANDARD_INPUT = "-"
# Tables to copy from a server, each with the column that tells a tool's from another's.
OPEN_WEBUI = {"feedback": "snapshot", "chat": "chat"}
ANYTHINGLLM = {"workspace_chats": "feedbackScore", "workspaces": "openAiHistory"}
TABLES = {**dict.fromkeys(CHAINLIT, ""), **OPEN_WEBUI, **ANYTHINGLLM}


@contextmanager
def gathered(sources: Sequence[str], options: ImportOptions) -> Iterator[list[Path]]:
    """The paths of the sources.

    Raises:
        FeedbackError: a pattern matches nothing, standard input is empty, or a database cannot be
            read.
    """
    with tempfile.TemporaryDirectory(prefix="thumbs-") as folder:
        paths: list[Path] = []
        names: dict[str, str] = {}
        for number, source in enumerate(sources):
            spooled = Path(folder) / str(number)
            spooled.mkdir()
            names[str(spooled)] = (
                "standard input" if source == STANDARD_INPUT else shown_url(source)
            )
            paths += _paths_of(source, options, spooled)
        _require_use_of_query(sources, paths, options)
        try:
            yield paths
        except FeedbackError as error:
            raise FeedbackError(_with_names(str(error), names)) from None


def _with_names(text: str, names: Mapping[str, str]) -> str:
    """An error about what was spooled, with the name of where it came from."""
    for folder, name in names.items():
        text = name.join(re.split(rf"{re.escape(folder)}/[\w.-]*\w", text))
    return text


def _require_use_of_query(
    sources: Sequence[str], paths: Sequence[Path], options: ImportOptions
) -> None:
    if not options.query or any(map(is_url, sources)):
        return
    if not any(path.is_file() and is_sqlite(path) for path in paths):
        raise FeedbackError(
            f"--query: none of {', '.join(sources)} is a database. Leave it out, or name the URL "
            "of a database or an SQLite file."
        )
    if not (options.mapping or options.score):
        raise FeedbackError(
            "--query: what an SQLite file holds in its lines is said with --map prompt=COLUMN "
            "--map completion=COLUMN --map label=COLUMN."
        )


def _paths_of(source: str, options: ImportOptions, spooled: Path) -> list[Path]:
    if source == STANDARD_INPUT:
        path = spooled / "standard-input"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        return [path]
    if is_url(source):
        return [_from_database(source, options, spooled)]
    if has_magic(source) and not Path(source).exists():
        found = sorted(map(Path, glob(source, recursive=True)), key=lambda path: path.parts)
        if not found:
            raise FeedbackError(f"{source}: no file matches this pattern.")
        return found
    return [Path(source)]


def _from_database(url: str, options: ImportOptions, spooled: Path) -> Path:
    if options.query:
        path = spooled / "query.jsonl"
        save_query(url, options.query, path)
        return path
    path = spooled / "tables.db"
    copy_tables(url, TABLES, path)
    return path
