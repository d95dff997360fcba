"""OpenTelemetry's GenAI conventions: evaluation events joined with what was asked and answered.

In: log events `gen_ai.evaluation.result` (or span events, or spans of that name), and spans or
`gen_ai.client.inference.operation.details` events that hold the messages; one by one as JSON lines,
or OTLP JSON (resourceLogs, resourceSpans). They are joined by span, or by the id of the response.
Out: a record per evaluated answer and rater, of the latest evaluation. Evaluations and ids are held
in memory, texts are not: three passes.

Messages have `parts` (text, tool_call, tool_call_response, reasoning); several output messages are
choices, of which an evaluation does not say which it is about. Source: semantic-conventions-genai,
model/gen-ai/events.yaml and docs/gen-ai/gen-ai-{input,output}-messages.json (development).
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge
from thumbs.feedback.labels import Vote as RawVote
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import CUT, CUT_REASONS, parsed, request_messages
from thumbs.feedback.rated import (
    LATER_VOTE,
    RECORD_DROPS,
    LastVotes,
    mapping,
    rated_record,
    sequence,
    time_text,
)
from thumbs.feedback.record import Feedback, Message

NAME = "opentelemetry"
READS = "gen_ai.evaluation.result events with spans or operation details (JSON lines, OTLP JSON)"
WITHOUT_SPAN = "evaluation whose span is not in the files"
OTHER_NAME = "evaluation of another name"
WITHOUT_VOTE = "evaluation without label and score"
CHOICES = "evaluation of several answers to choose from"
WITH_ERROR = "answer with an error"
DROPS = (
    *(*RECORD_DROPS, WITHOUT_SPAN, WITHOUT_VOTE, OTHER_NAME, CUT, CHOICES, WITH_ERROR),
    *(LATER_VOTE, NEITHER, ON_THRESHOLD),
)
REASONING = "reasoning block stripped"
APART = ("reasoning", "tool_call", "tool_call_response")  # parts that are no text
VALUES = ("stringValue", "boolValue", "doubleValue", "bytesValue")

EVENT = "gen_ai.evaluation.result"
PREFIX = "gen_ai."


class Given(NamedTuple):
    """An evaluation event. keys: what it may be joined by, the surest first."""

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
    if "attributes" not in entry or "span_kind" in entry:  # the latter is Phoenix's
        return False
    return any(name.startswith(PREFIX) for name in _attributes(entry))


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per evaluated answer and rater.

    Raises:
        FeedbackError: there are evaluations without texts, or texts without any, or several names
            of which none is chosen.
    """
    given = list(_evaluations(paths, tally, options))
    name = _chosen_name(paths, given, options)
    text_of: dict[str, int] = {}  # which text a key is of
    for number, (_, entry) in enumerate(_texts(paths)):
        keys = _keys(entry)
        same = next((text_of[key] for key in keys if key in text_of), number)
        text_of.update(dict.fromkeys(keys, same))
    last, kept = LastVotes(), dict[int, list[tuple[int, Given]]]()
    for order, one in enumerate(given):
        text = next((text_of[key] for key in one.keys if key in text_of), None)
        if one.name != name:
            tally.dropped[OTHER_NAME] += 1
        elif text is None:
            tally.dropped[WITHOUT_SPAN] += 1
        else:
            last.note((text, one.rater), (one.time, order))
            kept.setdefault(text, []).append((order, one))

    def votes() -> Iterator[RawVote]:
        for number, (_, entry) in enumerate(_texts(paths)):
            for _, one in kept.get(number, ()):
                yield RawVote(one.vote, _prompt(_held(entry), Tally()))

    judge = Judge(options, votes, f"evaluation {name!r}")
    for number, (place, entry) in enumerate(_texts(paths)):
        for order, one in kept.get(number, ()):
            if last.is_last((number, one.rater), (one.time, order), tally):
                yield from _record(one, entry, judge, place, tally)


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
    return inner if kind in VALUES else value


def _is_event(entry: Mapping[str, Any]) -> bool:
    name = entry.get("eventName") or entry.get("event_name") or entry.get("name")
    found = _attributes(entry)
    return EVENT in (name, found.get("event.name")) or f"{PREFIX}evaluation.name" in found


def _keys(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What an event and its text have in common: the span's id, the response's id."""
    context = mapping(entry.get("context"))
    span = entry.get("spanId") or entry.get("span_id") or context.get("span_id")
    response = _attributes(entry).get("gen_ai.response.id")
    parent = entry.get("parentSpanId") or entry.get("parent_id") if _is_event(entry) else None
    ids = [str(one).lower().removeprefix("0x") for one in (span, parent) if one]
    return (*(f"span {one}" for one in ids), *([f"response {response}"] if response else []))


def _evaluations(paths: Sequence[Path], tally: Tally, options: ImportOptions) -> Iterator[Given]:
    for place, entry in _entries(paths):
        inner = map(mapping, sequence(entry.get("events")))
        own = _keys(entry)
        found: list[tuple[Mapping[str, Any], tuple[str, ...]]] = [
            (event, (*_keys(event), *own)) for event in inner if _is_event(event)
        ]
        if _is_event(entry):
            found.append((entry, own))
        for event, keys in found:
            one = _given(place, event, keys, options)
            if one.vote is None:
                tally.dropped[WITHOUT_VOTE] += 1
            else:
                yield one


def _given(
    place: str, entry: Mapping[str, Any], keys: tuple[str, ...], options: ImportOptions
) -> Given:
    found = _attributes(entry)
    vote = found.get("gen_ai.evaluation.score.label")
    score = found.get("gen_ai.evaluation.score.value")
    if vote in (None, "") or (options.threshold and score is not None):
        vote = score
    return Given(
        place,
        keys,
        str(found.get("gen_ai.evaluation.name") or ""),
        vote,
        _rater(found),
        time_text(_time(entry), place),
        str(found.get("gen_ai.evaluation.explanation") or ""),
    )


def _rater(found: Mapping[str, Any]) -> str:
    return str(found.get("enduser.id") or found.get("user.id") or "")


def _time(entry: Mapping[str, Any]) -> object:
    names = ("timeUnixNano", "observedTimeUnixNano", "startTimeUnixNano", "start_time")
    for key in (*names, "timestamp"):
        value = entry.get(key)
        if value and value != "0":
            return int(value) if str(value).isdecimal() else value
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
    one: Given, entry: Mapping[str, Any], judge: Judge, place: str, tally: Tally
) -> Iterator[Feedback]:
    found = _held(entry)
    outputs = [mapping(turn) for turn in sequence(parsed(found.get("gen_ai.output.messages")))]
    fault = _fault_of(entry, found, outputs)
    if fault:
        tally.dropped[fault] += 1
        return
    prompt = _prompt(found, tally)
    label = judge.label(RawVote(one.vote, prompt), one.place, tally)
    if label is None:
        return
    record = rated_record(
        prompt,
        _messages(outputs, tally),
        label,
        place,
        tally,
        score=one.vote,
        conversation=found.get("gen_ai.conversation.id"),
        source=NAME,
        rater=one.rater or _rater(found),
        model=found.get("gen_ai.response.model") or found.get("gen_ai.request.model"),
        time=one.time or time_text(_time(entry), place),
        comment=one.comment,
    )
    if record is not None:
        yield record


def _fault_of(
    entry: Mapping[str, Any], found: Mapping[str, Any], outputs: Sequence[Mapping[str, Any]]
) -> str:
    status = mapping(entry.get("status"))
    code = str(status.get("code", status.get("status_code", ""))).upper()
    if "error.type" in found or code in ("2", "ERROR", "STATUS_CODE_ERROR"):
        return WITH_ERROR
    if len(outputs) > 1:
        return CHOICES
    reasons = sequence(parsed(found.get("gen_ai.response.finish_reasons")))
    reasons = [*reasons, *(turn.get("finish_reason") for turn in outputs)]
    return CUT if any(reason in CUT_REASONS for reason in reasons) else ""


def _prompt(found: Mapping[str, Any], tally: Tally) -> list[Message]:
    turns = _messages(parsed(found.get("gen_ai.input.messages")), tally)
    told = parsed(found.get("gen_ai.system_instructions"))
    parts = told if isinstance(told, list) else [{"type": "text", "content": told}]
    if not told or (turns and turns[0]["role"] == "system"):
        return turns
    return [*_messages([{"role": "system", "parts": parts}], tally), *turns]


def _messages(raw: object, tally: Tally) -> list[Message]:
    """Messages in parts as OpenAI writes them; results of tools are messages of their own."""
    found: list[Message] = []
    for turn in map(mapping, sequence(raw)):
        if not isinstance(turn.get("parts"), list):
            found.append({"role": turn.get("role"), "content": turn.get("content")})
            continue
        parts = list(map(mapping, turn["parts"]))
        tally.changed[REASONING] += sum(part.get("type") == "reasoning" for part in parts)
        for part in parts:
            if part.get("type") == "tool_call_response":
                result = part.get("response", part.get("result"))
                text = result if isinstance(result, str) else orjson.dumps(result).decode()
                found.append({"role": "tool", "tool_call_id": part.get("id"), "content": text})
        said = [_part(part) for part in parts if part.get("type") not in APART]
        calls = [_call(part) for part in parts if part.get("type") == "tool_call"]
        if said or calls:
            found.append({"role": turn.get("role"), "content": said, "tool_calls": calls})
    return request_messages(found)


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part.get("type") == "text":
        return {"type": "text", "text": part.get("content", part.get("text"))}
    return {"type": part.get("type")}  # an attachment


def _call(part: Mapping[str, Any]) -> dict[str, Any]:
    arguments = part.get("arguments")
    function = {"name": part.get("name"), "arguments": {} if arguments is None else arguments}
    return {"id": part.get("id"), "type": "function", "function": function}
