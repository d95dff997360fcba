"""Arize Phoenix and OpenInference: spans joined with their annotations.

In: spans (REST API, or a dataframe's columns `context.span_id`, `attributes.llm.input_messages`,
...) and annotations of spans or traces; or spans that carry theirs inline
(`annotations.0.annotation.label` and its kin). Out: a record per annotation by a person, the latest
of an annotator. The annotations are read first and kept, without texts; then one span after the
other.

Attributes come nested, as lists, or flat with dots (`llm.input_messages.0.message.role`): all are
read as flat. An annotation of a trace is on its root span. Who judged: in Phoenix's own pages
(source APP) the annotator; through the API, where the annotator is the owner of the key, the span's
`user.id`.

Sources: phoenix.client 3.5 (types SpanAnnotation, TraceAnnotation, Span; the columns of
get_span_annotations_dataframe; "note" is the name of notes) and openinference-semantic-conventions
0.1.42.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from thumbs.feedback.record import Feedback, Message

NAME = "phoenix"
READS = "spans with annotations of spans or traces (JSON lines, JSON, Parquet), or annotations.*"
WITHOUT_SPAN = "annotation whose span is not in the files"
WITHOUT_VOTE = "annotation without label and score"
OTHER_NAME = "annotation of another name"
BY_MACHINE = "annotation by a model or code"
ON_SESSION = "annotation of a whole session"
WITH_ERROR = "answer with an error"
DROPS = (
    *(*RECORD_DROPS, WITHOUT_SPAN, WITHOUT_VOTE, OTHER_NAME, BY_MACHINE, ON_SESSION, WITH_ERROR),
    *(LATER_VOTE, NEITHER, ON_THRESHOLD),
)
UNSIGNED = "annotation that does not say who made it, taken as a person's"

NOTE = "note"  # the name of notes written in Phoenix: words, no vote
ATTRIBUTES = "attributes."
INLINE = re.compile(r"(?:(trace|session)\.)?(?:annotations|evaluations)\.(\d+)\.\w+\.(\w+)")
GROUPS = ("llm", "openinference", "input.value", "output.value")  # attributes of OpenInference
DEEPEST = 30  # levels of attributes looked into


class Given(NamedTuple):
    """An annotation. subject: the span or the trace it is on; by: who or what made it."""

    place: str
    subject: tuple[str, str]
    name: str
    vote: object
    by: tuple[str, str]
    rater: str  # "" where the span tells
    time: str
    comment: str


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is a span as Phoenix gives it, or an annotation of one."""
    first = next(_rows("", entry))[1]
    return _is_annotation(first) or _is_span(first)


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per annotation by a person, the latest of one annotator.

    Raises:
        FeedbackError: there are annotations without spans, or spans without any, or several names
            of which none is chosen.
    """
    given = list(_annotations(paths, tally, options))
    name = _chosen_name(paths, given, options)
    last, kept = LastVotes(), dict[tuple[str, str], list[tuple[int, Given]]]()
    for number, one in enumerate(given):
        if one.name == name:
            last.note((one.subject, one.by), (one.time, number))
            kept.setdefault(one.subject, []).append((number, one))
        else:
            tally.dropped[OTHER_NAME] += 1

    def votes() -> Iterator[RawVote]:
        for _, span in _spans(paths):
            on_span = chain.from_iterable(kept.get(key, ()) for key in _subjects(span))
            yield from (RawVote(one.vote, _text(_attributes(span), "input")) for _, one in on_span)

    judge, met = Judge(options, votes, f"annotation {name!r}"), set[tuple[str, str]]()
    for place, span in _spans(paths):
        for subject in _subjects(span):
            on_subject = kept.get(subject, ()) if subject not in met else ()
            met.add(subject)
            for number, one in on_subject:
                if last.is_last((one.subject, one.by), (one.time, number), tally):
                    yield from _record(one, span, judge, place, tally)
    tally.dropped[WITHOUT_SPAN] += sum(len(own) for key, own in kept.items() if key not in met)


def _entries(paths: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        yield from _rows(place, entry)


def _rows(place: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The entry; the rows of a page of the API, or an empty one."""
    rows = entry.get("data")
    if isinstance(rows, list) and not entry.keys() - {"data", "next_cursor"}:
        numbered = enumerate(rows or [{}], start=1)
        yield from ((f"{place}: data {number}", mapping(row)) for number, row in numbered)
    else:
        yield place, entry


def _is_annotation(entry: Mapping[str, Any]) -> bool:
    return bool({"span_id", "trace_id", "session_id"} & entry.keys()) and "annotator_kind" in entry


def _is_span(entry: Mapping[str, Any]) -> bool:
    has_id = "context.span_id" in entry or "span_id" in mapping(entry.get("context"))
    names = (*entry, *mapping(parsed(entry.get("attributes"))))
    own = ("span_kind", *(f"{prefix}{group}" for prefix in ("", ATTRIBUTES) for group in GROUPS))
    return has_id and any(name.startswith(own) for name in names)


def _spans(paths: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((place, entry) for place, entry in _entries(paths) if _is_span(entry))


def _subjects(span: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What may be annotated of a span: itself; of a root span, its trace too."""
    context = mapping(span.get("context"))
    number, trace = (
        str(context.get(key) or span.get(f"context.{key}") or "") for key in ("span_id", "trace_id")
    )
    own = [("span", number)] if number else []
    return own + ([("trace", trace)] if trace and not _given_text(span.get("parent_id")) else [])


def _annotations(paths: Sequence[Path], tally: Tally, options: ImportOptions) -> Iterator[Given]:
    for place, entry in _entries(paths):
        found = _inline(place, entry, tally, options) if _is_span(entry) else iter(())
        if _is_annotation(entry):
            found = _listed(place, entry, tally, options)
        for one in found:
            if one.name == NOTE:
                tally.dropped[OTHER_NAME] += 1
            elif one.subject[0] == "session":
                tally.dropped[ON_SESSION] += 1
            elif one.vote is None:
                tally.dropped[WITHOUT_VOTE] += 1
            else:
                yield one


def _listed(
    place: str, entry: Mapping[str, Any], tally: Tally, options: ImportOptions
) -> Iterator[Given]:
    if not _is_persons(entry.get("annotator_kind"), tally):
        return
    kinds = [kind for kind in ("span", "trace", "session") if _given_text(entry.get(f"{kind}_id"))]
    kind = kinds[0] if kinds else "span"
    result = mapping(parsed(entry.get("result")))
    user, identifier = (_given_text(entry.get(key)) for key in ("user_id", "identifier"))

    def of_result(key: str) -> object:  # a dataframe has it in a column of its own
        return result.get(key, entry.get(f"result.{key}", entry.get(key)))

    yield Given(
        place,
        (kind, _given_text(entry.get(f"{kind}_id"))),
        _given_text(entry.get("name") or entry.get("annotation_name")),
        _vote(of_result, options),
        (user, identifier),
        user if entry.get("source") == "APP" else "",
        time_text(entry.get("updated_at") or entry.get("created_at"), place),
        _given_text(of_result("explanation")),
    )


def _inline(
    place: str, span: Mapping[str, Any], tally: Tally, options: ImportOptions
) -> Iterator[Given]:
    """The annotations that a span's attributes hold, of itself, its trace or its session."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for key, value in _attributes(span).items():
        if inline := INLINE.fullmatch(key):
            group = key[: inline.start(3)]  # one annotation: trace.annotations.0.annotation.
            found.setdefault((inline[1] or "span", group), {})[inline[3]] = value
    context = mapping(span.get("context"))
    for (kind, _), one in found.items():
        if _is_persons(one.get("annotator_kind"), tally):
            number = context.get(f"{kind}_id") or span.get(f"context.{kind}_id")
            yield Given(
                place,
                (kind, _given_text(number)),
                _given_text(one.get("name")),
                _vote(one.get, options),
                ("", _given_text(one.get("identifier"))),
                _given_text(one.get("identifier")),
                "",
                _given_text(one.get("explanation")),
            )


def _is_persons(kind: object, tally: Tally) -> bool:
    if not _given_text(kind):
        tally.changed[UNSIGNED] += 1
        return True
    if _given_text(kind).upper() == "HUMAN":
        return True
    tally.dropped[BY_MACHINE] += 1
    return False


def _vote(get: Callable[[str], object], options: ImportOptions) -> object:
    """The label, or the score where there is none or it is held against --threshold."""
    label, score = get("label"), get("score")
    if options.threshold and score is not None:
        return score
    if _given_text(label):
        return label
    return score if score == score else None  # not a number: an empty cell of a dataframe


def _given_text(value: object) -> str:
    """A value as text; "" for nothing and for an empty cell of a dataframe."""
    return "" if value is None or value != value else str(value)


def _attributes(span: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes by their dotted names, places in lists among them."""
    flat: dict[str, Any] = {}
    _flatten(parsed(span.get("attributes")), "", flat, DEEPEST)
    for key, value in span.items():
        if key.startswith(ATTRIBUTES):
            _flatten(value, key.removeprefix(ATTRIBUTES), flat, DEEPEST)
    return flat


def _flatten(value: object, name: str, flat: dict[str, Any], depth: int) -> None:
    if isinstance(value, str) and name.endswith(("_messages", "annotations", "evaluations")):
        value = parsed(value)
    if depth and isinstance(value, dict):
        for key, inner in value.items():
            _flatten(inner, f"{name}.{key}" if name else str(key), flat, depth - 1)
    elif depth and isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for number, inner in enumerate(value):
            _flatten(inner, f"{name}.{number}", flat, depth - 1)
    elif value is not None:
        flat[name] = value


def _listed_at(flat: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The items of a list that was flattened, each flat again."""
    items: dict[int, dict[str, Any]] = {}
    for key, value in flat.items():
        if key.startswith(f"{name}."):
            number, _, rest = key.removeprefix(f"{name}.").partition(".")
            if number.isdecimal():
                items.setdefault(int(number), {})[rest] = value
    return [items[number] for number in sorted(items)]


def _text(flat: Mapping[str, Any], side: str) -> list[Message]:
    """What went in or came out of a span: its messages, or its value."""
    messages = [_message(one) for one in _listed_at(flat, f"llm.{side}_messages")]
    readers = {"input": request_messages, "output": response_messages}
    value = flat.get(f"{side}.value")
    if flat.get(f"{side}.mime_type") == "application/json":
        value = parsed(value)
    return readers[side](messages or value)


def _message(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A message of OpenInference as OpenAI writes it."""
    parts = _listed_at(flat, "message.contents")
    texts = [
        {"type": one.get("message_content.type"), "text": one.get("message_content.text")}
        for one in parts
    ]
    calls = [
        {
            "id": call.get("tool_call.id"),
            "type": "function",
            "function": {
                "name": call.get("tool_call.function.name"),
                "arguments": call.get("tool_call.function.arguments") or "{}",
            },
        }
        for call in _listed_at(flat, "message.tool_calls")
    ]
    message = {
        "role": flat.get("message.role"),
        "content": texts or flat.get("message.content"),
        "name": flat.get("message.name"),
        "tool_call_id": flat.get("message.tool_call_id"),
        "tool_calls": calls,
    }
    return {key: value for key, value in message.items() if value}


def _chosen_name(paths: Sequence[Path], given: Sequence[Given], options: ImportOptions) -> str:
    names = Counter(one.name for one in given)
    where = ", ".join(map(str, paths))
    if not any(True for _ in _spans(paths)):
        partner = "the spans they are about (GET /v1/projects/{project}/spans), together with them"
        raise FeedbackError(f"{where}: annotations without any text. Give {partner}.")
    if not names:
        partner = "Give the annotations too (GET /v1/projects/{project}/span_annotations)"
        raise FeedbackError(f"{where}: spans without any annotation by a person. {partner}.")
    found = ", ".join(f"{name} ({count})" for name, count in names.items())
    if options.score_name and options.score_name not in names:
        finding = f"no annotation is called {options.score_name!r}; found: {found}"
        raise FeedbackError(f"{where}: --score-name: {finding}.")
    if options.score_name or len(names) == 1:
        return options.score_name or next(iter(names))
    raise FeedbackError(
        f"{where}: several annotations: {found}. Choose the vote with --score-name."
    )


def _record(
    one: Given, span: Mapping[str, Any], judge: Judge, place: str, tally: Tally
) -> Iterator[Feedback]:
    if str(span.get("status_code")).upper() == "ERROR":
        tally.dropped[WITH_ERROR] += 1
        return
    flat = _attributes(span)
    prompt = _text(flat, "input")
    label = judge.label(RawVote(one.vote, prompt), one.place, tally)
    if label is None:
        return
    rater = one.rater or flat.get("user.id") or one.by[1] or one.by[0]
    record = rated_record(
        prompt,
        _text(flat, "output"),
        label,
        place,
        tally,
        score=one.vote,
        conversation=flat.get("session.id"),
        source=NAME,
        rater=rater,
        model=flat.get("llm.model_name"),
        time=one.time or span.get("start_time"),
        comment=one.comment,
    )
    if record is not None:
        yield record
