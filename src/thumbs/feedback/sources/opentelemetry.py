"""OpenTelemetry's GenAI conventions: evaluation events joined with what was asked and answered.

In: log events `gen_ai.evaluation.result`, and spans or `gen_ai.client.inference.operation.details`
events that hold the messages; one by one as JSON lines, or OTLP JSON (resourceLogs, resourceSpans).
They are joined by span, or by the id of the response. Out: a record per event. Source:
OpenTelemetry semantic conventions for generative AI (status: development).
"""

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
    sequence,
    time_text,
)
from thumbs.feedback.record import Feedback

NAME = "opentelemetry"
READS = "gen_ai.evaluation.result events with spans or operation details (JSON lines, OTLP JSON)"
WITHOUT_SPAN = "evaluation whose span is not in the files"
OTHER_NAME = "evaluation of another name"
DROPS = (*RECORD_DROPS, WITHOUT_SPAN, OTHER_NAME, LATER_VOTE, NEITHER, ON_THRESHOLD)

EVENT = "gen_ai.evaluation.result"
PREFIX = "gen_ai."


class Given(NamedTuple):
    """An evaluation event. keys: what it may be joined by."""

    place: str
    keys: tuple[str, ...]
    name: str
    vote: object
    rater: str
    time: str
    comment: str


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is an event, a span with GenAI attributes, or an OTLP file."""
    if "resourceLogs" in entry or "resourceSpans" in entry:
        return True
    names = _attributes(entry)
    return "attributes" in entry and any(name.startswith(PREFIX) for name in names)


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per evaluation, the latest of one name and span.

    Raises:
        FeedbackError: there are evaluations without texts, or texts without any, or several names
            of which none is chosen.
    """
    given = [_given(place, entry) for place, entry in _entries(paths) if _is_event(entry)]
    name = _chosen_name(paths, given, options)
    last, kept = LastVotes(), dict[str, list[tuple[int, Given]]]()
    for number, one in enumerate(given):
        if one.name != name:
            tally.dropped[OTHER_NAME] += 1
            continue
        last.note((one.keys, one.rater), (one.time, number))
        for key in one.keys:
            kept.setdefault(key, []).append((number, one))

    def votes() -> Iterator[RawVote]:
        return (RawVote(one.vote, None) for one in given if one.name == name)

    judge = Judge(options, votes, f"evaluation {name!r}")
    done: set[int] = set()
    for place, text in _texts(paths):
        for number, one in chain.from_iterable(kept.get(key, ()) for key in _keys(text)):
            if number in done:
                continue
            done.add(number)
            if last.is_last((one.keys, one.rater), (one.time, number), tally):
                yield from _record(one, text, judge, place, tally)
    numbers = {number for own in kept.values() for number, _ in own}
    tally.dropped[WITHOUT_SPAN] += len(numbers - done)


def _entries(paths: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Events and spans, out of OTLP files too."""
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        groups = [*sequence(entry.get("resourceLogs")), *sequence(entry.get("resourceSpans"))]
        if not groups:
            yield place, entry
        for group in map(mapping, groups):
            scopes = [*sequence(group.get("scopeLogs")), *sequence(group.get("scopeSpans"))]
            for scope in map(mapping, scopes):
                inner = [*sequence(scope.get("logRecords")), *sequence(scope.get("spans"))]
                yield from ((place, mapping(one)) for one in inner)


def _attributes(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes by name, out of OTLP's list of keys and values too."""
    raw = entry.get("attributes")
    if isinstance(raw, list):
        pairs = map(mapping, raw)
        return {str(pair.get("key")): _plain(pair.get("value")) for pair in pairs}
    return mapping(raw)


def _plain(value: object) -> object:
    """OTLP's {"stringValue": ...} and its kin as plain values."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, inner),) = value.items()
    if kind == "arrayValue":
        return [_plain(one) for one in sequence(mapping(inner).get("values"))]
    if kind == "kvlistValue":
        pairs = map(mapping, sequence(mapping(inner).get("values")))
        return {str(pair.get("key")): _plain(pair.get("value")) for pair in pairs}
    if kind == "intValue":
        return int(inner) if str(inner).lstrip("-").isdigit() else inner
    return inner if kind.endswith("Value") else value


def _is_event(entry: Mapping[str, Any]) -> bool:
    name = entry.get("eventName") or entry.get("name") or _attributes(entry).get("event.name")
    return name == EVENT or f"{PREFIX}evaluation.name" in _attributes(entry)


def _keys(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What an event and its text have in common: the span's id, the response's id."""
    response = _attributes(entry).get("gen_ai.response.id")
    context = mapping(entry.get("context"))
    span = entry.get("spanId") or entry.get("span_id") or context.get("span_id")
    keys = (f"span {span}" if span else "", f"response {response}" if response else "")
    return tuple(filter(None, keys))


def _given(place: str, entry: Mapping[str, Any]) -> Given:
    found = _attributes(entry)
    label = found.get("gen_ai.evaluation.score.label")
    vote = label if label not in (None, "") else found.get("gen_ai.evaluation.score.value")
    return Given(
        place,
        _keys(entry),
        str(found.get("gen_ai.evaluation.name") or ""),
        vote,
        str(found.get("enduser.id") or found.get("user.id") or ""),
        time_text(_time(entry), place),
        str(found.get("gen_ai.evaluation.explanation") or ""),
    )


def _time(entry: Mapping[str, Any]) -> object:
    for key in ("timeUnixNano", "startTimeUnixNano", "start_time", "timestamp"):
        value = entry.get(key)
        if value:
            return int(value) if str(value).isdigit() else value
    return None


def _texts(paths: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for place, entry in _entries(paths):
        if not _is_event(entry) and "gen_ai.output.messages" in _held(entry):
            yield place, entry


def _held(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A span's attributes, and those of its events, and an event's body."""
    found = _attributes(entry)
    for event in map(mapping, sequence(entry.get("events"))):
        found = {**found, **_attributes(event)}
    return {**mapping(_plain(entry.get("body"))), **found}


def _chosen_name(paths: Sequence[Path], given: Sequence[Given], options: ImportOptions) -> str:
    names = dict.fromkeys(one.name for one in given)
    where = ", ".join(map(str, paths))
    if not any(True for _ in _texts(paths)):
        partner = "the spans (or gen_ai.client.inference.operation.details events) they are about"
        advice = f"Give {partner} together with them, with gen_ai.output.messages recorded"
        raise FeedbackError(f"{where}: evaluations without any text. {advice}.")
    if not names:
        partner = f"Give the {EVENT} events too"
        raise FeedbackError(f"{where}: spans without any evaluation. {partner}.")
    if options.score_name:
        if options.score_name not in names:
            finding = f"no evaluation is called {options.score_name!r}; found: {', '.join(names)}"
            raise FeedbackError(f"{where}: --score-name: {finding}.")
        return options.score_name
    if len(names) > 1:
        finding = f"several evaluations: {', '.join(names)}"
        raise FeedbackError(f"{where}: {finding}. Choose the vote with --score-name.")
    return next(iter(names))


def _record(
    one: Given, text: Mapping[str, Any], judge: Judge, place: str, tally: Tally
) -> Iterator[Feedback]:
    found = _held(text)
    label = judge.label(RawVote(one.vote, found.get("gen_ai.input.messages")), one.place, tally)
    if label is None:
        return
    system = request_messages(
        {"system": parsed(found.get("gen_ai.system_instructions")), "input": "-"}
    )
    prompt = request_messages(found.get("gen_ai.input.messages"))
    record = rated_record(
        system[:-1] + prompt,
        response_messages(found.get("gen_ai.output.messages")),
        label,
        place,
        tally,
        score=one.vote,
        conversation=found.get("gen_ai.conversation.id"),
        source=NAME,
        rater=one.rater or found.get("enduser.id") or found.get("user.id"),
        model=found.get("gen_ai.response.model") or found.get("gen_ai.request.model"),
        time=one.time or time_text(_time(text), place),
        comment=one.comment,
    )
    if record is not None:
        yield record
