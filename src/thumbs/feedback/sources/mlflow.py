"""MLflow traces with their assessments: `trace.to_json()`, one per file, line or list entry.

In: traces whose spans hold inputs and outputs as JSON text. Out: a record per assessment by a
person that is still valid, of the root span's text (previews are cut), and two per expected
response: that one desirable, the original undesirable. Source: MLflow 3,
mlflow/entities/assessment.py and trace_info.py.
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

NAME = "mlflow"
EDIT_SOURCE = f"{NAME}:edit"
READS = "traces as JSON (info.assessments, root span); feedback by people, expected_response"
BY_MACHINE = "assessment by a model or code"
SUPERSEDED = "assessment that was replaced"
OTHER_NAME = "assessment of another name"
WITH_ERROR = "answer with an error"
DROPS = (
    *(*RECORD_DROPS, BY_MACHINE, SUPERSEDED, OTHER_NAME, WITH_ERROR, LATER_VOTE),
    *(NEITHER, ON_THRESHOLD),
)
EXPECTED = "expected_response"
WHOLE = ("OK", "STATE_UNSPECIFIED")  # states of a trace


class Given(NamedTuple):
    """An assessment; expected: the answer it asks for instead."""

    place: str
    trace: str
    name: str
    vote: object
    expected: object
    rater: str
    time: str
    comment: str


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a trace."""
    info = mapping(entry.get("info"))
    return "trace_id" in info and "data" in entry


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per valid assessment of one name, the latest of a person.

    Raises:
        FeedbackError: no trace has an assessment by a person, or there are several names of which
            none is chosen.
    """
    name, last = _chosen_name(paths, options), LastVotes()
    for number, (one, _) in enumerate(_given(paths, tally)):
        last.note((one.trace, one.name, one.rater), (one.time, number))

    def votes() -> Iterator[RawVote]:
        for one, trace in _given(paths, Tally()):
            if one.name == name:
                yield RawVote(one.vote, _root(trace)[0])

    judge = Judge(options, votes, f"assessment {name!r}")
    for number, (one, trace) in enumerate(_given(paths, Tally())):
        if one.name not in (name, EXPECTED):
            tally.dropped[OTHER_NAME] += 1
        elif last.is_last((one.trace, one.name, one.rater), (one.time, number), tally):
            yield from _records(one, trace, judge, tally, options)


def _given(paths: Sequence[Path], tally: Tally) -> Iterator[tuple[Given, Mapping[str, Any]]]:
    """Every assessment by a person that still holds, with its trace."""
    for place, trace in chain.from_iterable(map(read_entries, paths)):
        info = mapping(trace.get("info"))
        given = list(map(mapping, sequence(info.get("assessments"))))
        replaced = {one.get("overrides") for one in given} - {None, ""}
        for one in given:
            source = mapping(one.get("source"))
            if one.get("valid") is False or one.get("assessment_id") in replaced:
                tally.dropped[SUPERSEDED] += 1
            elif str(source.get("source_type")).upper() != "HUMAN":
                tally.dropped[BY_MACHINE] += 1
            else:
                yield (
                    Given(
                        place,
                        str(info.get("trace_id")),
                        str(one.get("assessment_name") or one.get("name") or ""),
                        mapping(one.get("feedback")).get("value"),
                        mapping(one.get("expectation")).get("value"),
                        str(source.get("source_id") or ""),
                        time_text(one.get("last_update_time") or one.get("create_time"), place),
                        str(one.get("rationale") or ""),
                    ),
                    trace,
                )


def _chosen_name(paths: Sequence[Path], options: ImportOptions) -> str:
    names = dict.fromkeys(one.name for one, _ in _given(paths, Tally()))
    votes = [name for name in names if name != EXPECTED]
    where = ", ".join(map(str, paths))
    if options.score_name:
        if options.score_name not in votes:
            found = ", ".join(votes) or "none"
            finding = f"no assessment is called {options.score_name!r}; found: {found}"
            raise FeedbackError(f"{where}: --score-name: {finding}.")
        return options.score_name
    if len(votes) > 1:
        finding = f"several assessments: {', '.join(votes)}"
        raise FeedbackError(f"{where}: {finding}. Choose the vote with --score-name.")
    return votes[0] if votes else ""


def _root(trace: Mapping[str, Any]) -> tuple[object, object, Mapping[str, Any]]:
    """Inputs and outputs of the span without a parent, and its attributes."""
    spans = list(map(mapping, sequence(mapping(trace.get("data")).get("spans"))))
    root = next((s for s in spans if not s.get("parent_span_id") and not s.get("parent_id")), {})
    found = mapping(root.get("attributes"))
    return _text(found.get("mlflow.spanInputs")), _text(found.get("mlflow.spanOutputs")), found


def _text(value: object) -> object:
    """An attribute's value: JSON text, of a string too."""
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        inner = parsed(f"[{value}]")
        return inner[0] if isinstance(inner, list) else value
    return parsed(value)


def _records(
    one: Given, trace: Mapping[str, Any], judge: Judge, tally: Tally, options: ImportOptions
) -> Iterator[Feedback]:
    info = mapping(trace.get("info"))
    if str(info.get("state") or info.get("status") or "OK").upper() not in (
        "OK",
        "STATE_UNSPECIFIED",
    ):
        tally.dropped[WITH_ERROR] += 1
        return
    inputs, outputs, attributes = _root(trace)
    metadata = mapping(info.get("trace_metadata") or info.get("request_metadata"))
    model = _text(attributes.get("mlflow.llm.model")) or mapping(inputs).get("model")
    prompt, answer = request_messages(inputs), response_messages(outputs)
    rest = {
        "conversation": metadata.get("mlflow.trace.session"),
        "rater": one.rater or metadata.get("mlflow.trace.user"),
        "model": model,
        "time": one.time or info.get("request_time"),
        "comment": one.comment,
    }
    if one.name == EXPECTED:
        if options.edits:
            for given, label in ((response_messages(one.expected), True), (answer, False)):
                record = rated_record(
                    prompt, given, label, one.place, tally, source=EDIT_SOURCE, **rest
                )
                if record is not None:
                    yield record
        return
    judged = judge.label(RawVote(one.vote, inputs), one.place, tally)
    if judged is not None:
        score = str(one.vote).lower() if isinstance(one.vote, bool) else one.vote
        rest |= {"score": score, "source": NAME}
        record = rated_record(prompt, answer, judged, one.place, tally, **rest)
        if record is not None:
            yield record
