"""MLflow traces with their assessments: `trace.to_json()`, or rows of `search_traces()`.

In: traces whose spans hold inputs and outputs as JSON text. Out: a record per assessment by a
person that is still valid, of the text of the root span, or of the span it names (previews are
cut), and two per expected response: that one desirable, the original undesirable. Several passes,
no text is kept.

Source: MLflow 3.17, mlflow/entities/assessment.py, trace.py (to_pandas_dataframe_row, which holds
the whole trace as JSON text) and trace_info.py. Ids of spans are base64 in spans, hex in
assessments.
"""

import base64
import binascii
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

NAME = "mlflow"
EDIT_SOURCE = f"{NAME}:edit"
READS = "traces as JSON, rows of search_traces(); feedback by people, expected_response"
BY_MACHINE = "assessment by a model or code"
SUPERSEDED = "assessment that was replaced"
OTHER_NAME = "assessment of another name"
WITHOUT_VALUE = "assessment without a value"
WITH_ERROR = "answer with an error"
UNFINISHED = "unfinished answer"
DROPS = (
    *(*RECORD_DROPS, BY_MACHINE, SUPERSEDED, OTHER_NAME, WITHOUT_VALUE, WITH_ERROR, UNFINISHED),
    *(LATER_VOTE, NEITHER, ON_THRESHOLD),
)
EXPECTED = "expected_response"
STATES = {"ERROR": WITH_ERROR, "IN_PROGRESS": UNFINISHED}

Trace = Mapping[str, Any]  # {"info": ..., "data": ...}


class Given(NamedTuple):
    """An assessment. expected: the answer it asks for instead; span: "" for the root's."""

    place: str
    trace: str
    span: str
    name: str
    vote: object
    expected: object
    rater: str
    time: str
    comment: str

    @property
    def key(self) -> tuple[object, ...]:
        """What it is about, and who made it."""
        return (self.trace, self.span, self.name, self.expected is not None, self.rater)


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a trace, or a row of `search_traces()`."""
    return ("trace_id" in mapping(entry.get("info")) and "data" in entry) or (
        {"trace_id", "assessments"} <= entry.keys()
    )


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per valid assessment of one name, the latest of a person.

    Raises:
        FeedbackError: no trace has an assessment by a person, or there are several names of which
            none is chosen, or the rows hold no text.
    """
    name, last = _chosen_name(paths, options), LastVotes()
    for number, (one, _) in enumerate(_given(paths, tally)):
        last.note(one.key, (one.time, number))

    def votes() -> Iterator[RawVote]:
        for one, trace in _given(paths, Tally()):
            if one.name == name and one.expected is None:
                yield RawVote(one.vote, _texts(trace, one.span)[0])

    judge = Judge(options, votes, f"assessment {name!r}")
    for number, (one, trace) in enumerate(_given(paths, Tally())):
        if one.name != (EXPECTED if one.expected is not None else name):
            tally.dropped[OTHER_NAME] += 1
        elif last.is_last(one.key, (one.time, number), tally):
            yield from _records(one, trace, judge, tally, options)


def _traces(paths: Sequence[Path]) -> Iterator[tuple[str, Trace]]:
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        whole = entry if "info" in entry else mapping(parsed(entry.get("trace")))
        yield place, whole or _trace_of_row(place, entry)


def _trace_of_row(place: str, row: Mapping[str, Any]) -> Trace:
    """A row of `search_traces()` without its `trace`: its spans, or its request and response."""
    spans = sequence(parsed(row.get("spans")))
    if not spans and row.get("request") is not None:
        texts = {"mlflow.spanInputs": row["request"], "mlflow.spanOutputs": row.get("response")}
        spans = [{"attributes": texts}]
    if not spans:
        partner = "the traces: trace.to_json(), or search_traces() with all its columns"
        raise FeedbackError(f"{place}: assessments without any text. Give {partner}.")
    info = {**row, "assessments": parsed(row.get("assessments"))}
    info["trace_metadata"] = parsed(row.get("trace_metadata"))
    return {"info": info, "data": {"spans": spans}}


def _given(paths: Sequence[Path], tally: Tally) -> Iterator[tuple[Given, Trace]]:
    """Every assessment by a person that still holds and has a value, with its trace."""
    for place, trace in _traces(paths):
        info = mapping(trace.get("info"))
        given = list(map(mapping, sequence(info.get("assessments"))))
        replaced = {str(one["overrides"]) for one in given if one.get("overrides")}
        for entry in given:
            kind = str(mapping(entry.get("source")).get("source_type")).upper()
            if entry.get("valid") is False or str(entry.get("assessment_id")) in replaced:
                tally.dropped[SUPERSEDED] += 1
            elif kind != "HUMAN":
                tally.dropped[BY_MACHINE] += 1
            else:
                one = _assessment(place, entry, str(info.get("trace_id")))
                if one.vote is None and one.expected is None:
                    tally.dropped[WITHOUT_VALUE] += 1
                else:
                    yield one, trace


def _assessment(place: str, entry: Mapping[str, Any], trace: str) -> Given:
    expectation = mapping(entry.get("expectation"))
    expected = expectation.get("value")
    if expected is None:
        expected = parsed(mapping(expectation.get("serialized_value")).get("value"))
    return Given(
        place,
        trace,
        str(entry.get("span_id") or ""),
        str(entry.get("assessment_name") or entry.get("name") or ""),
        mapping(entry.get("feedback")).get("value"),
        expected,
        str(mapping(entry.get("source")).get("source_id") or ""),
        time_text(entry.get("last_update_time") or entry.get("create_time"), place),
        str(entry.get("rationale") or ""),
    )


def _chosen_name(paths: Sequence[Path], options: ImportOptions) -> str:
    """The name of the feedback that is the vote; "" where there are expected responses only."""
    where = ", ".join(map(str, paths))
    found = [one for one, _ in _given(paths, Tally())]
    names = dict.fromkeys(one.name for one in found if one.expected is None)
    if not found:
        partner = "Log some (mlflow.log_feedback with a source of type HUMAN), and export again"
        raise FeedbackError(f"{where}: traces without any assessment by a person. {partner}.")
    if options.score_name:
        if options.score_name not in names:
            listed = ", ".join(names) or "none"
            finding = f"no assessment is called {options.score_name!r}; found: {listed}"
            raise FeedbackError(f"{where}: --score-name: {finding}.")
        return options.score_name
    if len(names) > 1:
        finding = f"several assessments: {', '.join(names)}"
        raise FeedbackError(f"{where}: {finding}. Choose the vote with --score-name.")
    return next(iter(names), "")


def _texts(trace: Trace, number: str) -> tuple[object, object, Mapping[str, Any]]:
    """Inputs, outputs and attributes of the span of a number, else of the one without a parent."""
    spans = list(map(mapping, sequence(mapping(trace.get("data")).get("spans"))))
    roots = (one for one in spans if not one.get("parent_span_id") and not one.get("parent_id"))
    named = (one for one in spans if number and number in _numbers(one))
    found = mapping(next(named, next(roots, {})).get("attributes"))
    return _value(found.get("mlflow.spanInputs")), _value(found.get("mlflow.spanOutputs")), found


def _numbers(span: Mapping[str, Any]) -> tuple[str, str]:
    """A span's id as it stands there, and as hex."""
    number = str(span.get("span_id") or mapping(span.get("context")).get("span_id") or "")
    try:
        return number, base64.b64decode(number, validate=True).hex()
    except (binascii.Error, ValueError):
        return number, number


def _value(value: object) -> object:
    """An attribute's value: JSON text, of a string too."""
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        inner = parsed(f"[{value}]")
        return inner[0] if isinstance(inner, list) else value
    return parsed(value)


def _records(
    one: Given, trace: Trace, judge: Judge, tally: Tally, options: ImportOptions
) -> Iterator[Feedback]:
    info = mapping(trace.get("info"))
    state = str(info.get("state") or info.get("status")).upper()
    if state in STATES:
        tally.dropped[STATES[state]] += 1
        return
    inputs, outputs, attributes = _texts(trace, one.span)
    metadata = mapping(info.get("trace_metadata") or info.get("request_metadata"))
    prompt, answer = request_messages(inputs), response_messages(outputs)
    rest = {
        "conversation": metadata.get("mlflow.trace.session"),
        "rater": one.rater or metadata.get("mlflow.trace.user"),
        "model": _value(attributes.get("mlflow.llm.model")) or mapping(inputs).get("model"),
        "time": one.time or info.get("request_time"),
        "comment": one.comment,
    }
    judged: list[tuple[object, bool]] = []
    if one.expected is not None:
        rest["source"] = EDIT_SOURCE
        judged = [(response_messages(one.expected), True), (answer, False)] if options.edits else []
    else:
        rest["source"] = NAME
        rest["score"] = str(one.vote).lower() if isinstance(one.vote, bool) else one.vote
        label = judge.label(RawVote(one.vote, inputs), one.place, tally)
        judged = [] if label is None else [(answer, label)]
    for completion, label in judged:
        record = rated_record(prompt, completion, label, one.place, tally, **rest)
        if record is not None:
            yield record
