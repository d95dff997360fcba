"""Arize Phoenix and OpenInference: spans joined with their annotations.

In: spans (API, or a dataframe's columns `context.span_id`, `attributes.llm.input_messages`, ...)
and span annotations; or spans that carry theirs inline (`annotations.0.annotation.label`). Out: a
record per annotated span and annotator, of people's annotations. Sources: Phoenix's REST API and
the OpenInference semantic conventions.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge
from thumbs.feedback.labels import Vote as RawVote
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import parsed, request_messages, response_messages
from thumbs.feedback.rated import (
    LATER_VOTE,
    RECORD_DROPS,
    LastVotes,
    mapping,
    rated_record,
    time_text,
)
from thumbs.feedback.record import Feedback

NAME = "phoenix"
READS = "spans with span annotations (JSON lines, JSON, Parquet), or inline annotations.*"
WITHOUT_SPAN = "annotation whose span is not in the files"
OTHER_NAME = "annotation of another name"
BY_MACHINE = "annotation by a model or code"
DROPS = (*RECORD_DROPS, WITHOUT_SPAN, OTHER_NAME, BY_MACHINE, LATER_VOTE, NEITHER, ON_THRESHOLD)

INLINE = re.compile(r"(?:annotations|evaluations)\.(\d+)\.(?:annotation|evaluation)\.(\w+)")
FLAT = re.compile(r"(llm\.(?:input|output)_messages)\.(\d+)\.(.+)")
ATTRIBUTES = "attributes."


class Given(NamedTuple):
    """An annotation."""

    place: str
    span: str
    name: str
    vote: object
    rater: str
    time: str
    comment: str


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is a span or an annotation of one."""
    first = _first(entry)
    return _is_annotation(first) or _is_span(first)


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per annotation by a person, the latest of one name and annotator.

    Raises:
        FeedbackError: there are annotations without spans, or spans without any, or several names
            of which none is chosen.
    """
    given = list(_annotations(paths, tally))
    name = _chosen_name(paths, given, options)
    last, kept = LastVotes(), dict[str, list[tuple[int, Given]]]()
    for number, one in enumerate(given):
        if one.name != name:
            tally.dropped[OTHER_NAME] += 1
            continue
        last.note((one.span, one.rater), (one.time, number))
        kept.setdefault(one.span, []).append((number, one))

    def votes() -> Iterator[RawVote]:
        for _, span in _spans(paths):
            own = kept.get(_span_id(span), ())
            yield from (RawVote(one.vote, _question(span)) for _, one in own)

    judge = Judge(options, votes, f"annotation {name!r}")
    met = set()
    for place, span in _spans(paths):
        met.add(_span_id(span))
        for number, one in kept.get(_span_id(span), ()):
            if last.is_last((one.span, one.rater), (one.time, number), tally):
                yield from _record(one, span, judge, place, tally)
    tally.dropped[WITHOUT_SPAN] += sum(len(own) for span, own in kept.items() if span not in met)


def _entries(paths: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        if isinstance(entry.get("data"), list) and len(entry.keys() - {"data", "next_cursor"}) == 0:
            for i, row in enumerate(entry["data"], start=1):
                yield f"{place}: data {i}", mapping(row)
        else:
            yield place, entry


def _first(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    rows = entry.get("data")
    if isinstance(rows, list) and not entry.keys() - {"data", "next_cursor"}:
        return mapping(rows[0]) if rows else {}
    return entry


def _is_annotation(entry: Mapping[str, Any]) -> bool:
    return bool({"span_id", "trace_id"} & entry.keys()) and "annotator_kind" in entry


def _is_span(entry: Mapping[str, Any]) -> bool:
    if "context.span_id" in entry:
        return True
    return "span_id" in mapping(entry.get("context")) and "attributes" in entry


def _spans(paths: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((place, entry) for place, entry in _entries(paths) if _is_span(entry))


def _span_id(span: Mapping[str, Any]) -> str:
    return str(span.get("context.span_id") or mapping(span.get("context")).get("span_id") or "")


def _attributes(span: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes by their dotted names, messages put together from flat keys."""
    found = _flattened(mapping(parsed(span.get("attributes"))))
    for key, value in span.items():
        if key.startswith(ATTRIBUTES) and value is not None:
            found |= _flattened({key.removeprefix(ATTRIBUTES): value})
    messages: dict[str, dict[int, dict[str, Any]]] = {}
    for key, value in found.items():
        if flat := FLAT.fullmatch(key):
            messages.setdefault(flat[1], {}).setdefault(int(flat[2]), {})[flat[3]] = value
    for key, by_number in messages.items():
        found[key] = [by_number[number] for number in sorted(by_number)]
    return found


def _flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested attributes by dotted names, as far as they are Phoenix's own groups."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name in ("llm", "input", "output", "user", "session"):
            flat |= _flattened(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _annotations(paths: Sequence[Path], tally: Tally) -> Iterator[Given]:
    for place, entry in _entries(paths):
        if _is_annotation(entry):
            if str(entry.get("annotator_kind")).upper() != "HUMAN":
                tally.dropped[BY_MACHINE] += 1
                continue
            yield _given(place, entry)
        elif _is_span(entry):
            yield from _inline(place, entry, tally)


def _given(place: str, entry: Mapping[str, Any]) -> Given:
    result = mapping(entry.get("result")) or entry  # dataframes have label and score as columns
    return Given(
        place,
        str(entry.get("span_id") or entry.get("trace_id")),
        str(entry.get("name") or entry.get("annotation_name") or ""),
        _vote(result),
        str(entry.get("user_id") or entry.get("identifier") or ""),
        time_text(entry.get("updated_at") or entry.get("created_at"), place),
        str(result.get("explanation") or ""),
    )


def _vote(result: Mapping[str, Any]) -> object:
    return result["label"] if result.get("label") not in (None, "") else result.get("score")


def _inline(place: str, span: Mapping[str, Any], tally: Tally) -> Iterator[Given]:
    found: dict[str, dict[str, Any]] = {}
    for key, value in _attributes(span).items():
        if inline := INLINE.fullmatch(key):
            found.setdefault(inline[1], {})[inline[2]] = value
    for one in found.values():
        if str(one.get("annotator_kind", "HUMAN")).upper() != "HUMAN":
            tally.dropped[BY_MACHINE] += 1
            continue
        name, why = str(one.get("name") or ""), str(one.get("explanation") or "")
        yield Given(place, _span_id(span), name, _vote(one), "", "", why)


def _chosen_name(paths: Sequence[Path], given: Sequence[Given], options: ImportOptions) -> str:
    names = dict.fromkeys(one.name for one in given)
    where = ", ".join(map(str, paths))
    if not any(True for _ in _spans(paths)):
        partner = "the spans they are about (GET /v1/projects/{project}/spans), together with them"
        raise FeedbackError(f"{where}: annotations without any text. Give {partner}.")
    if not names:
        partner = "Give the annotations too (GET /v1/projects/{project}/span_annotations)"
        raise FeedbackError(f"{where}: spans without any annotation by a person. {partner}.")
    if options.score_name:
        if options.score_name not in names:
            finding = f"no annotation is called {options.score_name!r}; found: {', '.join(names)}"
            raise FeedbackError(f"{where}: --score-name: {finding}.")
        return options.score_name
    if len(names) > 1:
        finding = f"several annotations: {', '.join(names)}"
        raise FeedbackError(f"{where}: {finding}. Choose the vote with --score-name.")
    return next(iter(names))


def _question(span: Mapping[str, Any]) -> object:
    attributes = _attributes(span)
    return attributes.get("llm.input_messages") or attributes.get("input.value")


def _record(
    one: Given, span: Mapping[str, Any], judge: Judge, place: str, tally: Tally
) -> Iterator[Feedback]:
    label = judge.label(RawVote(one.vote, _question(span)), one.place, tally)
    if label is None:
        return
    attributes = _attributes(span)
    asked = attributes.get("llm.input_messages") or attributes.get("input.value")
    answered = attributes.get("llm.output_messages") or attributes.get("output.value")
    record = rated_record(
        request_messages(asked),
        response_messages(answered),
        label,
        place,
        tally,
        score=one.vote,
        conversation=attributes.get("session.id"),
        source=NAME,
        rater=one.rater or attributes.get("user.id"),
        model=attributes.get("llm.model_name"),
        time=one.time or span.get("start_time"),
        comment=one.comment,
    )
    if record is not None:
        yield record
