"""`thumbs import`: the exports of any known tool to one feedback file.

In: files and folders. Out: a feedback file, and what was left out and why. Knows no tool.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from thumbs.errors import FeedbackError
from thumbs.feedback import generic
from thumbs.feedback.clean import Tally, clean, without_repeats
from thumbs.feedback.decontaminate import HeldOut
from thumbs.feedback.file import require_feedback_name, write_feedback
from thumbs.feedback.generic import require_mapping
from thumbs.feedback.import_record import write_import_record
from thumbs.feedback.listing import list_files
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback
from thumbs.feedback.tools import OWN_NAMES, SOURCES, WITH_OWN_VOTES, WITH_SCORE_NAMES
from thumbs.feedback.votes import Ballot, settle
from thumbs.files import require_writable_file
from thumbs.progress import progress_bar

DEFAULT_OPTIONS = ImportOptions()


@dataclass(frozen=True)
class ImportResult:
    """What an import wrote and what it left out.

    source: the tools, joined by ", ". edited: records made from edits, two per edited answer.
    dropped: records and votes left out, by reason. changed: alterations and assumptions, by name.
    skipped: files in a folder that are of no kind that is read, by kind.
    agreement: how far raters of one answer agree, before votes were settled; see `Agreement`.
    """

    records: int
    source: str
    desirable: int
    undesirable: int
    edited: int
    dropped: dict[str, int]
    changed: dict[str, int]
    skipped: dict[str, int]
    agreement: dict[str, Any]


def import_feedback(
    sources: Sequence[Path],
    out: Path,
    *,
    tool: str | None = None,
    options: ImportOptions = DEFAULT_OPTIONS,
) -> ImportResult:
    """Read every file, clean the records, and write them to `out`, whole or not at all.

    Beside it goes a record of what was left out; see `import_record`.

    Args:
        sources: files of one or several tools, or folders of them; the files of one tool are read
            together.
        out: .jsonl, .jsonl.gz, .jsonl.zst or .parquet.
        tool: the NAME of the source; None recognises each file by its first entry.
        options: how the sources read their votes.

    Raises:
        FeedbackError: a file cannot be read or recognised, is `out` itself, some prompts are text
            and some are messages, or nothing is left.
    """
    _refuse_overwriting(sources, out)
    if options.mapping or options.score:
        tool = tool or generic.NAME
        _require_use_of_mapping(tool, options)
    require_feedback_name(out)
    require_writable_file(out)
    listing = list_files(sources, tool)
    files = listing.files
    _require_use_of_votes(files, options)
    _refuse_overwriting(chain.from_iterable(files.values()), out)
    tally, counts = Tally(keep=options.keep), Counter[str]()
    read = (_read(name, paths, tally, options) for name, paths in files.items())
    cleaned = clean(chain.from_iterable(read), tally)
    own = _without_held_out(cleaned, options, tally)
    # Where votes are counted, those that name no rater are repeats only once they have been.
    counted = options.votes == "majority" or options.contradictions == "majority"
    ballot = Ballot()
    standing = settle(
        without_repeats(own, tally, without_rater_too=not counted),
        ballot,
        tally,
        votes=options.votes,
        contradictions=options.contradictions,
    )
    if counted:
        standing = without_repeats(standing, tally)
    kept = _require_records(standing, sources, tally)
    kept = _require_same_kind(kept, files, options=options)
    num_records = write_feedback(out, _counted(kept, counts))
    result = ImportResult(
        records=num_records,
        source=", ".join(files),
        desirable=counts["desirable"],
        undesirable=counts["undesirable"],
        edited=counts["edited"],
        dropped={reason: count for reason, count in tally.dropped.items() if count},
        changed={name: count for name, count in tally.changed.items() if count},
        skipped=dict(listing.skipped),
        agreement=asdict(ballot.agreement()),
    )
    write_import_record(out, asdict(result))
    return result


def _read(
    name: str, paths: Sequence[Path], tally: Tally, options: ImportOptions
) -> Iterator[Feedback]:
    """The records of a tool's files; what no Python value can hold is an error like any other."""
    try:
        yield from SOURCES[name].read(paths, tally, options=options)
    except (RecursionError, orjson.JSONEncodeError, UnicodeError, OverflowError) as error:
        where = ", ".join(map(str, paths))
        reason = " ".join(str(error).split())[:200]
        finding = f"an entry is nested too deeply, or holds what no feedback file can ({reason})"
        raise FeedbackError(f"{where}: {finding}. Leave it out.") from None


def _require_use_of_mapping(tool: str, options: ImportOptions) -> None:
    """Refuse a --map or --score that the tool's source would not read."""
    if tool == generic.NAME:
        require_mapping(options)
        return
    if tool not in OWN_NAMES:
        finding = f"the export of {tool} says itself where things stand"
        advice = f"Leave them out, or read its rows with --from {generic.NAME}"
        raise FeedbackError(f"--map, --score: {finding}. {advice}.")
    unread = [key for key in options.mapping if key not in generic.NEEDED]
    if unread or options.score:
        found = f"--map {unread[0]}" if unread else "--score"
        allowed = "Allowed: --map prompt=FIELD --map completion=FIELD"
        raise FeedbackError(f"{found}: is nothing that --from {tool} reads. {allowed}.")


def _require_use_of_votes(tools: Collection[str], options: ImportOptions) -> None:
    """Refuse options about votes that no source of this import would read."""
    given = {
        "--up": options.up,
        "--down": options.down,
        "--threshold": options.threshold,
        "--score-name": options.score_name,
    }
    for option, value in given.items():
        reading = WITH_SCORE_NAMES if option == "--score-name" else WITH_OWN_VOTES
        if value and not set(tools) & set(reading):
            finding = f"the votes of {', '.join(tools)} are read one way, so it would do nothing"
            raise FeedbackError(f"{option}: {finding}. Leave it out.")


def _refuse_overwriting(sources: Iterable[Path], out: Path) -> None:
    for path in sources:
        if path.resolve() == out.resolve():
            raise FeedbackError(f"--out: {out} is a source of this import. Name another file.")


def _without_held_out(
    records: Iterator[Feedback], options: ImportOptions, tally: Tally
) -> Iterator[Feedback]:
    """The records whose prompt stands in none of the files to keep apart."""
    if not options.decontaminate:
        yield from records
        return
    held_out = HeldOut(options.decontaminate)
    for record in records:
        reason = held_out.reason(record)
        if reason:
            tally.dropped[reason] += 1
        else:
            yield record


def _require_records(
    records: Iterator[Feedback], sources: Sequence[Path], tally: Tally
) -> Iterator[Feedback]:
    first = next(records, None)
    if first is None:
        names = ", ".join(map(str, sources))
        reasons = ", ".join(
            f"{reason} ({count})" for reason, count in tally.dropped.items() if count
        )
        raise FeedbackError(f"{names}: nothing is left to import: {reasons or 'no entries'}.")
    yield first
    yield from records


def _require_same_kind(
    records: Iterator[Feedback], files: Mapping[str, Sequence[Path]], *, options: ImportOptions
) -> Iterator[Feedback]:
    is_text: bool | None = None
    for record in records:
        if is_text not in (None, isinstance(record.prompt, str)):
            raise FeedbackError(_kinds_found(files, options=options))
        is_text = isinstance(record.prompt, str)
        yield record


def _kinds_found(files: Mapping[str, Sequence[Path]], *, options: ImportOptions) -> str:
    """Which two files hold prompts of different kinds: they are read once more, one at a time."""
    found: dict[bool, Path] = {}
    for is_text, path in _kinds_by_file(files, options=options):
        found.setdefault(is_text, path)
        if len(found) == 2:
            break
    texts, messages = found[True], found[False]
    if texts == messages:
        finding = f"{texts}: some prompts are text, and some are lists of messages"
        return f"{finding}. One feedback file holds one kind: make two files of it."
    finding = f"{texts}: prompts are text, but those of {messages} are lists of messages"
    return f"{finding}. One feedback file holds one kind: import them apart."


def _kinds_by_file(
    files: Mapping[str, Sequence[Path]], *, options: ImportOptions
) -> Iterator[tuple[bool, Path]]:
    for name, paths in files.items():
        for path in paths:
            for record in clean(SOURCES[name].read([path], Tally(), options=options), Tally()):
                yield isinstance(record.prompt, str), path


def _counted(records: Iterable[Feedback], counts: Counter[str]) -> Iterator[Feedback]:
    with progress_bar("import", None, "records") as bar:
        for record in records:
            counts["desirable" if record.label else "undesirable"] += 1
            counts["edited"] += record.source.endswith(":edit")
            bar.advance()
            yield record
