"""Which records `data.exclude` leaves out: ids of a list, or of a file that `thumbs audit` wrote.

In: a file. Out: ids. A .jsonl file names them under "id" of its lines, a .csv file in its column
id, any other file one by one with white space between them.
"""

from collections.abc import Iterator
from pathlib import Path

from thumbs.errors import ConfigError, FeedbackError, shown
from thumbs.feedback.entries import read_entries
from thumbs.feedback.spreadsheet import text_of


def excluded_ids(path: Path) -> set[str]:
    """The ids that the file names; none where it is empty.

    Raises:
        ConfigError: it cannot be read, or an entry has no id.
    """
    is_table = path.suffix.lower() == ".csv"
    try:
        if not is_table and path.suffix.lower() != ".jsonl":
            return set(path.read_text(encoding="utf-8").split())
        ids = set(_ids(path)) if path.stat().st_size else set()
    except (OSError, UnicodeDecodeError, FeedbackError) as error:
        raise ConfigError(
            f"data.exclude: {path}: cannot be read ({error}). Name a text file with one record id "
            "per line or a file that thumbs audit wrote, or set data.exclude=null."
        ) from None
    return set(map(text_of, ids)) if is_table else ids


def _ids(path: Path) -> Iterator[str]:
    for place, entry in read_entries(path):
        found = entry.get("id")
        if not isinstance(found, str) or not found:
            finding = f'"id" must be the id of a record, but is {shown(found)}'
            raise ConfigError(
                f"data.exclude: {place}: {finding}. Name a file that thumbs audit wrote, or a text "
                "file with one record id per line."
            )
        yield found
