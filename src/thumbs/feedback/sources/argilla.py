"""Argilla 2: records of a dataset with the responses of its annotators.

In: `dataset.records.to_json()`, `to_list()` or `to_disk()`, nested ({"fields", "responses"}) or
flattened (`quality.responses`, `quality.responses.users`, `quality.responses.status`), also as JSON
lines, or as Parquet from `to_datasets()` and the hub. Out: a record per answer and annotator; two
per ranking of answers; a text question that is plainly a correction gives the better answer.

Suggestions are no votes. Only the flattened form tells submitted responses from drafts and
discarded ones, which are left out. No form holds a time. Source: Argilla 2.8,
argilla/records/_io/_generic.py, argilla/records/_resource.py, argilla/responses.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.annotated import (
    ANNOTATED_DROPS,
    COMMENTS,
    CORRECTIONS,
    Judgement,
    Ranking,
    annotated_records,
    plain_name,
)
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import parsed
from thumbs.feedback.rated import LATER_VOTE, mapping, sequence
from thumbs.feedback.record import Feedback

NAME = "argilla"
READS = "records as JSON, JSON lines or Parquet; responses to one question (--score-name)"
NOT_SUBMITTED = "response that is a draft or discarded"
DROPS = (*ANNOTATED_DROPS, NOT_SUBMITTED)
STATUS_UNKNOWN = "response whose status the export does not hold, taken as submitted"

RESPONSES, USERS, STATUS = ".responses", ".responses.users", ".responses.status"
SUGGESTIONS = (".suggestion", ".suggestion.score", ".suggestion.agent")
OWN_KEYS = ("id", "status", "_server_id", "score")
SUBMITTED = (None, "submitted")


class Response(NamedTuple):
    """What a person said to a question. status: "" where the export does not hold it."""

    question: str
    value: object
    user: str
    status: object


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a record."""
    if {"fields", "responses"} <= entry.keys():
        return isinstance(parsed(entry["responses"]), dict)
    return any(key.endswith(USERS) and key.removesuffix(".users") in entry for key in entry)


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per submitted response to the question.

    Raises:
        FeedbackError: there are several questions and none is chosen, a value cannot be judged, or
            no field holds the prompt or the answer.
    """

    def judgements(tally: Tally) -> Iterator[Judgement]:
        for place, entry in chain.from_iterable(map(read_entries, paths)):
            yield from _judgements(place, entry, tally)

    where = ", ".join(map(str, paths))
    return annotated_records(judgements, tally, options, source=NAME, where=where, what="question")


def _judgements(place: str, entry: Mapping[str, Any], tally: Tally) -> Iterator[Judgement]:
    """What each annotator said of a record, in the order they come in."""
    is_nested = "responses" in entry
    fields = mapping(parsed(entry.get("fields"))) if is_nested else _flat_fields(entry)
    responses = _nested_responses(entry, place) if is_nested else _flat_responses(entry, place)
    said: dict[str, Judgement] = {}
    for number, one in enumerate(responses):
        if one.status not in ("", *SUBMITTED):
            tally.dropped[NOT_SUBMITTED] += 1
            continue
        tally.changed[STATUS_UNKNOWN] += one.status == ""
        metadata = mapping(parsed(entry.get("metadata")))
        item = str(entry.get("_server_id") or entry.get("id") or "")
        blank = Judgement(place, item, fields, metadata, {}, {}, one.user)
        _note(said.setdefault(one.user or str(number), blank), one, tally)
    yield from said.values()


def _note(judgement: Judgement, one: Response, tally: Tally) -> None:
    if isinstance(one.value, str) and plain_name(one.question) in CORRECTIONS | COMMENTS:
        judgement.written[one.question] = one.value
    elif one.value not in (None, [], ""):
        tally.dropped[LATER_VOTE] += one.question in judgement.votes
        judgement.votes[one.question] = _vote(one.value, judgement.fields)


def _nested_responses(entry: Mapping[str, Any], place: str) -> Iterator[Response]:
    responses = parsed(entry.get("responses"))
    if not isinstance(responses, dict | None):
        finding = f'"responses" must be {{question: [...]}}, but is {shown(responses)}'
        raise FeedbackError(f"{place}: {finding}.")
    for question, given in (responses or {}).items():
        for one in map(mapping, sequence(given)):
            status = one.get("status", "")
            yield Response(question, one.get("value"), _user(one.get("user_id")), status)


def _flat_responses(entry: Mapping[str, Any], place: str) -> Iterator[Response]:
    for key in entry:
        if not key.endswith(RESPONSES) or f"{key}.users" not in entry:
            continue
        question = key.removesuffix(RESPONSES)
        columns = (entry[key], entry[f"{key}.users"], entry.get(f"{key}.status"))
        values, users, states = (parsed(column) or [] for column in columns)
        lists = [len(part) for part in (values, users, states) if isinstance(part, list)]
        if len(lists) < 3 or lists[0] != lists[1] or lists[2] not in (0, lists[1]):
            finding = f"{key!r}, its users and its status must be lists of one length"
            raise FeedbackError(f"{place}: {finding}. Export the records again.")
        told = sequence(states) or [""] * lists[0]
        for value, user, status in zip(sequence(values), sequence(users), told, strict=True):
            yield Response(question, value, _user(user), status)


def _flat_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What is no response and no suggestion: fields and metadata, which stand side by side."""
    endings = (RESPONSES, USERS, STATUS, *SUGGESTIONS)
    return {
        key: value
        for key, value in entry.items()
        if not key.endswith(endings) and key not in OWN_KEYS
    }


def _vote(value: object, fields: Mapping[str, Any]) -> object:
    """A ranking of fields, or the value itself; the only one of several labels stands alone."""
    if not isinstance(value, list):
        return value
    names = [_ranked_name(one, fields) for one in _by_rank(value)]
    if len(names) > 1 and len(set(names)) == len(names) and all(names):
        return Ranking(tuple(names))
    return value[0] if len(value) == 1 else ", ".join(map(str, value))


def _by_rank(value: list[Any]) -> list[Any]:
    """The values of a ranking: as listed, which is by rank, or by the rank they hold."""
    ranks = [mapping(one).get("rank") for one in value]
    if all(isinstance(rank, int) for rank in ranks):
        value = sorted(value, key=lambda one: one["rank"])
    return [one.get("value") if isinstance(one, dict) else one for one in value]


def _ranked_name(value: object, fields: Mapping[str, Any]) -> str:
    """The field that a value names: "response-1" is `response1` and `response_1` too."""
    wanted = _bare(value)
    return next((name for name in fields if wanted and _bare(name) == wanted), "")


def _bare(name: object) -> str:
    return plain_name(name).replace("_", "") if isinstance(name, str) else ""


def _user(user: object) -> str:
    return "" if user in (None, "None") else str(user)
