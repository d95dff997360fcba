"""Which files an import reads, and with which tool's source: files given, and those in folders.

In: files and folders. Out: files by tool, in a fixed order; what a folder holds besides is counted
by kind. Knows what a file that can be read begins with, but not what its entries mean.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thumbs.errors import FeedbackError
from thumbs.feedback import import_record
from thumbs.feedback.archive import archive_of, is_archive, member_paths
from thumbs.feedback.entries import PACKED_ENDINGS, TABLE_ENDINGS, first_entry, holds_entries
from thumbs.feedback.sqlite import is_sqlite
from thumbs.feedback.tools import find_source, sources_of


@dataclass
class Listing:
    """The files to read by the NAME of their source, and how many were skipped by kind."""

    files: dict[str, list[Path]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


def list_files(sources: Sequence[Path], tool: str | None = None) -> Listing:
    """Find every file to import and recognise it, unless `tool` says what all of them are.

    A folder, or a zip archive, is read with the folders in it, sorted by name whatever the
    machine's language. What is hidden (a dot first) is not looked at, links to folders are not
    followed, files of other kinds are skipped; JSON or Parquet that no tool knows is an error, as
    it may be feedback.

    Raises:
        FeedbackError: a file is unknown, a folder cannot be read or holds nothing to import.
    """
    listing = Listing()
    for source in sources:
        if source.is_dir() or is_archive(source):
            _list_folder(source, tool, listing)
        else:
            listing.files.setdefault(find_source(source, tool).NAME, []).append(source)
    return listing


def _list_folder(folder: Path, tool: str | None, listing: Listing) -> None:
    skipped: Counter[str] = Counter()
    num_files = 0
    inside = member_paths(folder, skipped) if folder.is_file() else list(_walk(folder))
    for path in sorted(inside, key=lambda path: path.relative_to(folder).parts):
        kind = _other_kind(path)
        if kind:
            skipped[kind] += 1
            continue
        try:
            name = find_source(path, tool).NAME
        except FeedbackError as error:
            advice = f"Move it out of {folder}, or name the files to import one by one."
            raise FeedbackError(f"{error} {advice}") from None
        listing.files.setdefault(name, []).append(path)
        num_files += 1
    if not num_files:
        found = ", ".join(f"{kind} ({count})" for kind, count in skipped.items())
        kind = "archive" if folder.is_file() else "folder"
        finding = f"no file to import in this {kind}; found: {found or 'nothing'}"
        raise FeedbackError(f"{folder}: {finding}.")
    listing.skipped.update(skipped)


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise FeedbackError(f"{error.filename}: cannot be read: {error.strerror}.") from None

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names if not name.startswith("."))


def _other_kind(path: Path) -> str:
    """What a file is that import does not read, or "".

    A table or database counts as read where a tool knows it, be it to refuse it.
    """
    if not path.is_file() and archive_of(path) is None:
        return "link to nothing, or no regular file"
    if path.name.endswith(import_record.ENDING):
        return "record of an import"
    if holds_entries(path) or (_is_table(path) and sources_of(first_entry(path))):
        return ""
    ending = "".join(path.suffixes[-2:]) if path.suffix in PACKED_ENDINGS else path.suffix
    return f"{ending} file" if ending else "file without an ending"


def _is_table(path: Path) -> bool:
    return path.suffix in TABLE_ENDINGS or is_sqlite(path)
