"""Rows of any log, their columns named by the user: `thumbs import --map prompt=path.to.field`.

In: entries of any file that `entries.py` reads, and which dotted path holds what. Out: a record per
row; the last vote of one id and rater counts, an empty vote takes it back. A row without a path is
counted; a path that is in no row is an error. Knows no tool.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge, Vote
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import parsed, request_messages, response_messages
from thumbs.feedback.rated import (
    LATER_VOTE,
    RECORD_DROPS,
    TAKEN_BACK,
    LastVotes,
    rated_record,
    time_text,
)
from thumbs.feedback.record import Feedback
from thumbs.feedback.sqlite import is_sqlite, read_sqlite, sqlite_tables

NAME = "generic"
READS = "any rows, with --map prompt=path --map completion=path --map label=path"
WITHOUT_VOTE = "row without a vote"
WITHOUT_SIDE = "row without what --map names"
DROPS = (*RECORD_DROPS, WITHOUT_VOTE, WITHOUT_SIDE, TAKEN_BACK, LATER_VOTE, NEITHER, ON_THRESHOLD)

NEEDED = ("prompt", "completion")
TEXTS = ("conversation", "rater", "model", "comment")
KEYS = (*NEEDED, "label", "id", "system", "time", "weight", *TEXTS)
ABSENT = object()
NO_VOTE = (None, "")
SHOWN_PATHS = 15


class Row(NamedTuple):
    """A row with its parts, ABSENT where nothing stands. key: of the vote, number: of the row."""

    place: str
    number: int
    key: object
    entry: Mapping[str, Any]
    prompt: Any
    completion: Any
    vote: Any
    time: str


def detect(entry: Mapping[str, Any]) -> bool:  # noqa: ARG001
    """Never: it reads what the user says it shall."""
    return False


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per row whose vote stands.

    Raises:
        FeedbackError: a key of --map is unknown, a path is in no row, or a vote cannot be judged.
    """
    require_mapping(options)
    last, has_ids = LastVotes(), "id" in options.mapping
    for row in _rows(paths, options):
        if has_ids:
            last.note(row.key, (row.time, row.number))

    def votes() -> Iterator[Vote]:
        rows = (row for row in _rows(paths, options) if _says_something(row))
        return (Vote(row.vote, row.prompt) for row in rows)

    judge = Judge(options, votes, f"{_vote_path(options)!r}")
    met = Met(options)
    for row in _rows(paths, options):
        met.note(row)
        if has_ids and not last.is_last(row.key, (row.time, row.number), tally):
            continue
        if row.vote is ABSENT:
            tally.dropped[WITHOUT_VOTE] += 1
        elif row.vote in NO_VOTE:
            tally.dropped[TAKEN_BACK if has_ids else WITHOUT_VOTE] += 1
        elif not _says_something(row):
            tally.dropped[WITHOUT_SIDE] += 1
        else:
            label = judge.label(Vote(row.vote, row.prompt), row.place, tally)
            if label is not None:
                yield from _record(row, label, options, tally)
    met.require_all()


def _says_something(row: Row) -> bool:
    return row.vote not in NO_VOTE and ABSENT not in (row.prompt, row.completion, row.vote)


class Met:
    """Which of the paths were met in some row, and the first row without one."""

    def __init__(self, options: ImportOptions) -> None:
        self._paths = {
            "prompt": options.mapping["prompt"],
            "completion": options.mapping["completion"],
            "vote": _vote_path(options),
        }
        self._found: set[str] = set()
        self._without: dict[str, Row] = {}

    def note(self, row: Row) -> None:
        """A row has been read."""
        for part in self._paths:
            if getattr(row, part) is not ABSENT:
                self._found.add(part)
            else:
                self._without.setdefault(part, row)

    def require_all(self) -> None:
        """Refuse a path that no row has.

        Raises:
            FeedbackError: there is one.
        """
        for part, row in self._without.items():
            if part not in self._found:
                raise _missing(row.place, row.entry, self._paths[part])


def require_mapping(options: ImportOptions) -> None:
    """Refuse a --map that names unknown keys, or too few.

    Raises:
        FeedbackError: it does.
    """
    for key in options.mapping:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            advice = f"the nearest is {near[0]}" if near else f"allowed: {', '.join(KEYS)}"
            raise FeedbackError(f"--map {key}: is no key of a record; {advice}.")
    missing = [key for key in NEEDED if key not in options.mapping]
    if "label" not in options.mapping and not options.score:
        missing.append("label")
    if missing:
        advice = "Give --map prompt=PATH --map completion=PATH --map label=PATH (or --score PATH)"
        raise FeedbackError(f"--map: {' and '.join(missing)} is not given. {advice}.")


def _vote_path(options: ImportOptions) -> str:
    return options.score or options.mapping["label"]


def _rows(paths: Sequence[Path], options: ImportOptions) -> Iterator[Row]:
    entries = chain.from_iterable(_entries(path, options) for path in paths)
    for number, (place, entry) in enumerate(entries):
        asked, answered = (_at(entry, options.mapping[key]) for key in NEEDED)
        vote = _at(entry, _vote_path(options))
        time = _at(entry, options.mapping["time"]) if "time" in options.mapping else None
        ids = [_at(entry, options.mapping[k]) for k in ("id", "rater") if k in options.mapping]
        key = tuple("" if one is ABSENT else str(one) for one in ids)
        time = "" if time is ABSENT else time_text(time, place)
        yield Row(place, number, key, entry, asked, answered, vote, time)


def _entries(path: Path, options: ImportOptions) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not is_sqlite(path):
        return read_entries(path)
    if options.query:
        return read_sqlite(path, options.query)
    tables = sqlite_tables(path)
    found = "; ".join(f"{name} ({', '.join(columns)})" for name, columns in tables.items())
    advice = f"Say what to read with --query 'SELECT ...'; its tables: {found or 'none'}"
    raise FeedbackError(f"{path}: is a database. {advice}.")


def _record(row: Row, label: bool, options: ImportOptions, tally: Tally) -> Iterator[Feedback]:
    asked, answered = request_messages(row.prompt), response_messages(row.completion)
    if options.mapping["completion"] == options.mapping["prompt"]:  # one list of a whole chat
        asked, answered = asked[:-1], asked[-1:]
    system = _at(row.entry, options.mapping["system"]) if "system" in options.mapping else ABSENT
    if isinstance(system, str) and system.strip():
        asked = [{"role": "system", "content": system}, *asked]
    texts = {}
    for key in (*TEXTS, "weight"):
        value = _at(row.entry, options.mapping[key]) if key in options.mapping else ABSENT
        texts[key] = "" if value is ABSENT else value
    weight = texts.pop("weight")
    record = rated_record(
        asked,
        answered,
        label,
        row.place,
        tally,
        score=row.vote if isinstance(row.vote, str) else str(row.vote).lower(),
        source=NAME,
        time=row.time,
        **texts,
    )
    if record is not None:
        yield record if weight in NO_VOTE else _weighted(record, weight, row.place)


def _weighted(record: Feedback, weight: object, place: str) -> Feedback:
    try:
        number = float(str(weight))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise FeedbackError(f"{place}: the weight {weight!r:.80} is no finite number >= 0.")
    return replace(record, weight=number)


def _at(entry: object, path: str) -> Any:
    """What stands at a dotted path; list places by number, from the end with a minus.

    A key that holds dots itself is found by its whole name. JSON text is looked into.
    """
    if isinstance(entry, Mapping) and path in entry:
        return entry[path]
    value: object = entry
    for part in path.split("."):
        value = parsed(value)
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.lstrip("-").isdigit():
            try:
                value = value[int(part)]
            except IndexError:
                return ABSENT
        else:
            return ABSENT
    return value


def _missing(place: str, entry: Mapping[str, Any], path: str) -> FeedbackError:
    known = list(_paths(entry))
    near = difflib.get_close_matches(path, known, n=1)
    advice = f"The nearest is {near[0]!r}. " if near else ""
    rest = f" and {len(known) - SHOWN_PATHS} more" if len(known) > SHOWN_PATHS else ""
    found = ", ".join(f"{one!r:.60}" for one in known[:SHOWN_PATHS]) + rest
    return FeedbackError(f"{place}: nothing stands at {path!r}. {advice}Its paths: {found}.")


def _paths(value: object, prefix: str = "", depth: int = 4) -> Iterator[str]:
    value = parsed(value)
    inner: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, Mapping):
        inner = iter(value.items())
    elif isinstance(value, list):
        inner = iter(enumerate(value[:1]))
    for key, one in inner:
        path = f"{prefix}{key}"
        yield path
        if depth:
            yield from _paths(one, f"{path}.", depth - 1)
