"""`thumbs import`: the exports of any known tool to one feedback file.

In: files. Out: a feedback file, and what was left out and why. To add a tool, write one file in
sources/ with NAME, detect and read, and name it in TOOLS.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally, clean
from thumbs.feedback.entries import first_entry
from thumbs.feedback.file import require_feedback_name, write_feedback
from thumbs.feedback.record import Feedback, keys_found
from thumbs.feedback.sources import openwebui, preference, trl_unpaired
from thumbs.files import require_writable_file
from thumbs.progress import progress_bar


class Source(Protocol):
    """What a file in sources/ offers.

    detect: whether the first entry of a file is this tool's.
    read: the records of the files together, what is left out counted in the tally.
    """

    NAME: str

    def detect(self, entry: Mapping[str, Any]) -> bool: ...

    def read(self, paths: Sequence[Path], tally: Tally, *, edits: bool) -> Iterator[Feedback]: ...


TOOLS: tuple[Source, ...] = (openwebui, preference, trl_unpaired)
SOURCES = {source.NAME: source for source in TOOLS}


@dataclass(frozen=True)
class ImportResult:
    """What an import wrote and what it left out.

    source: the tools, joined by ", ". edited: records made from edits, two per edited answer.
    dropped: records and votes left out, by reason. changed: alterations and assumptions, by name.
    """

    records: int
    source: str
    desirable: int
    undesirable: int
    edited: int
    dropped: dict[str, int]
    changed: dict[str, int]


def import_feedback(
    sources: Sequence[Path], out: Path, *, tool: str | None = None, edits: bool = True
) -> ImportResult:
    """Read every file, clean the records, and write them to `out`, whole or not at all.

    Args:
        sources: files of one or several tools; those of one tool are read together.
        out: .jsonl, .jsonl.gz or .parquet.
        tool: the NAME of the source; None recognises each file by its first entry.
        edits: whether edited answers give their two records.

    Raises:
        FeedbackError: a file cannot be read or recognised, is `out` itself, or nothing is left.
    """
    _refuse_overwriting(sources, out)
    require_feedback_name(out)
    require_writable_file(out)
    files: dict[str, list[Path]] = {}
    for path in sources:
        files.setdefault(find_source(path, tool).NAME, []).append(path)
    tally, counts = Tally(), Counter[str]()
    read = (SOURCES[name].read(paths, tally, edits=edits) for name, paths in files.items())
    kept = _require_records(clean(chain.from_iterable(read), tally), sources, tally)
    num_records = write_feedback(out, _counted(kept, counts))
    return ImportResult(
        records=num_records,
        source=", ".join(files),
        desirable=counts["desirable"],
        undesirable=counts["undesirable"],
        edited=counts["edited"],
        dropped=dict(tally.dropped),
        changed={name: count for name, count in tally.changed.items() if count},
    )


def find_source(path: Path, tool: str | None = None) -> Source:
    """The source named `tool`, or the one that recognises the file.

    Raises:
        FeedbackError: no source has that name, or none recognises the file.
    """
    known = ", ".join(SOURCES)
    if tool is not None:
        if tool not in SOURCES:
            raise FeedbackError(f"--from: {tool!r} is no known tool. Allowed: {known}.")
        return SOURCES[tool]
    entry = first_entry(path)
    for source in SOURCES.values():
        if source.detect(entry):
            return source
    advice = f"Known tools: {known}. Name one with --from if this file is one of theirs"
    raise FeedbackError(
        f"{path}: no known tool's export; its first entry's keys: {keys_found(entry)}. {advice}."
    )


def _refuse_overwriting(sources: Iterable[Path], out: Path) -> None:
    for path in sources:
        if path.resolve() == out.resolve():
            raise FeedbackError(f"--out: {out} is a source of this import. Name another file.")


def _require_records(
    records: Iterator[Feedback], sources: Sequence[Path], tally: Tally
) -> Iterator[Feedback]:
    first = next(records, None)
    if first is None:
        names = ", ".join(map(str, sources))
        reasons = ", ".join(f"{reason} ({count})" for reason, count in tally.dropped.items())
        raise FeedbackError(f"{names}: nothing is left to import: {reasons or 'no entries'}.")
    yield first
    yield from records


def _counted(records: Iterable[Feedback], counts: Counter[str]) -> Iterator[Feedback]:
    with progress_bar("import", None, "records") as bar:
        for record in records:
            counts["desirable" if record.label else "undesirable"] += 1
            counts["edited"] += record.source.endswith(":edit")
            bar.advance()
            yield record
