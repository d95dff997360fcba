"""FEEDBACK.import.json: what an import left out of a feedback file, kept beside it for the report.

In: the result of an import. Out: a file, and what it says of a feedback file that still is the one
the import wrote. Training reads it where it is there, and does without where it is not.
"""

from pathlib import Path
from typing import Any

import orjson

from thumbs.files import sha256_file, write_bytes

ENDING = ".import.json"


def import_record_of(feedback: Path) -> Path:
    """Where the record of the import that wrote `feedback` lies."""
    return feedback.with_name(feedback.name + ENDING)


def write_import_record(feedback: Path, counted: dict[str, Any]) -> None:
    """Keep the fields of an `ImportResult`, with the hash of the file they are about."""
    found = counted | {"sha256": sha256_file(feedback)}
    write_bytes(import_record_of(feedback), orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")


def read_import_record(feedback: Path, sha256: str) -> dict[str, Any] | None:
    """What the import counted; None where there is no record, or it is of another content."""
    try:
        found = orjson.loads(import_record_of(feedback).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    if not isinstance(found, dict) or found.get("sha256") != sha256:
        return None
    return found
