"""Helicone: request rows as its API and export give them.

In: rows with request_body, response_body and feedback_rating true or false. Out: a record per rated
request. Bodies that lie behind signed_body_url are not fetched: such rows are counted. Source:
Helicone, docs "Get requests" (POST /v1/request/query) and "User feedback".
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.messages import tools_text
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import (
    CUT,
    parsed,
    request_messages,
    response_messages,
    was_cut,
)
from thumbs.feedback.rated import (
    LATER_VOTE,
    RECORD_DROPS,
    LastVotes,
    Order,
    mapping,
    rated_record,
    sequence,
    time_text,
)
from thumbs.feedback.record import Feedback

NAME = "helicone"
READS = "request rows as JSON or JSON lines; feedback_rating true or false"
NOT_THERE = "request whose bodies lie behind signed_body_url"
WITH_ERROR = "answer with an error"
DROPS = (*RECORD_DROPS, CUT, NOT_THERE, WITH_ERROR, LATER_VOTE)


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is a request row, or the API's answer that holds some."""
    rows = _rows_of(entry)
    first = mapping(rows[0]) if rows else {}
    return "request_id" in first and bool({"request_body", "signed_body_url"} & first.keys())


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, ratings are read one way
) -> Iterator[Feedback]:
    """A record per rated request; a request in two exports counts as its later rating says.

    Raises:
        FeedbackError: a rating is neither true nor false.
    """
    last = LastVotes()
    for place, number, row in _rated(paths):
        last.note(row["request_id"], _order(row, number, place))
    for place, number, row in _rated(paths):
        if last.is_last(row["request_id"], _order(row, number, place), tally):
            yield from _record(place, row, tally)


def _rows_of(entry: Mapping[str, Any]) -> Sequence[Any]:
    return sequence(entry["data"]) if isinstance(entry.get("data"), list) else [entry]


def _rated(paths: Sequence[Path]) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    number = 0
    for path in paths:
        for place, entry in read_entries(path):
            for row in map(mapping, _rows_of(entry)):
                number += 1
                rating = row.get("feedback_rating")
                if rating is None:
                    continue
                if not isinstance(rating, bool):
                    finding = f"feedback_rating is {shown(rating)}. Allowed: true, false, null"
                    raise FeedbackError(f"{place}: request {row.get('request_id')!r}: {finding}.")
                yield place, number, {"request_id": number, **row}


def _order(row: Mapping[str, Any], number: int, place: str) -> Order:
    return time_text(row.get("feedback_created_at"), place), number


def _record(place: str, row: Mapping[str, Any], tally: Tally) -> Iterator[Feedback]:
    if not row.get("request_body") and row.get("signed_body_url"):
        tally.dropped[NOT_THERE] += 1
        return
    status = row.get("response_status")
    if isinstance(status, int) and status >= 400:
        tally.dropped[WITH_ERROR] += 1
        return
    if was_cut(row.get("response_body")) and "unfinished" not in tally.keep:
        tally.dropped[CUT] += 1
        return
    properties = mapping(row.get("properties")) or mapping(row.get("request_properties"))
    record = rated_record(
        request_messages(parsed(row.get("request_body"))),
        response_messages(parsed(row.get("response_body"))),
        row["feedback_rating"],
        place,
        tally,
        score=str(row["feedback_rating"]).lower(),
        conversation=properties.get("Helicone-Session-Id"),
        source=NAME,
        tools=tools_text(mapping(parsed(row.get("request_body"))).get("tools"), place),
        rater=row.get("request_user_id"),
        model=row.get("response_model") or row.get("request_model") or row.get("model_override"),
        time=row.get("feedback_created_at") or row.get("request_created_at"),
    )
    if record is not None:
        yield record
