"""Dify: the feedback export of an app, as CSV or JSON.

In: {"export_info", "feedback_data": [...]}, or the same columns as CSV. Out: a record per like or
dislike of an answer that is whole: the export cuts answers to 500 characters and "...", and a model
trained on those learns to stop early. It knows no earlier turns and no model. Source: Dify,
api/services/feedback_service.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.options import ImportOptions
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

NAME = "dify"
READS = "feedback export as CSV or JSON; feedback_rating_raw like or dislike"
CUT = "answer that the export cut to 500 characters"
WITHOUT_VOTE = "row without a vote"
DROPS = (*RECORD_DROPS, CUT, LATER_VOTE, WITHOUT_VOTE)

LABELS = {"like": True, "dislike": False}
SIGNS = {"\N{THUMBS UP SIGN}": "like", "\N{THUMBS DOWN SIGN}": "dislike"}
NO_VOTE = (None, "")
KEPT_CHARACTERS = 500
COLUMNS = {"user_query", "ai_response", "feedback_rating"}


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is the export, or one of its rows."""
    return {"export_info", "feedback_data"} <= entry.keys() or entry.keys() >= COLUMNS


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, ratings are read one way
) -> Iterator[Feedback]:
    """A record per vote on a whole answer; of several votes of one rater the latest.

    Raises:
        FeedbackError: a rating is unknown.
    """
    last = LastVotes()
    for place, number, row in _rows(paths):
        last.note(_key(row, number), _order(row, number, place))
    for place, number, row in _rows(paths):
        label = _label(row, place)
        if not last.is_last(_key(row, number), _order(row, number, place), tally):
            continue
        if label is None:
            tally.dropped[WITHOUT_VOTE] += 1
            continue
        answer = str(row.get("ai_response") or "")
        is_cut = len(answer) == KEPT_CHARACTERS + 3 and answer.endswith("...")
        if is_cut and "cut" not in tally.keep:
            tally.dropped[CUT] += 1
            continue
        record = rated_record(
            str(row.get("user_query") or ""),
            answer,
            label,
            place,
            tally,
            score=row.get("feedback_rating_raw") or row.get("feedback_rating"),
            conversation=row.get("conversation_id"),
            source=NAME,
            rater=_rater(row),
            time=row.get("feedback_date"),
            comment=row.get("feedback_comment"),
        )
        if record is not None:
            yield record


def _rows(paths: Sequence[Path]) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    number = 0
    for path in paths:
        for place, entry in read_entries(path):
            rows = sequence(entry["feedback_data"]) if "feedback_data" in entry else [entry]
            for i, row in enumerate(map(mapping, rows), start=1):
                number += 1
                yield f"{place}: feedback {i}" if len(rows) > 1 else place, number, row


def _label(row: Mapping[str, Any], place: str) -> bool | None:
    rating = row.get("feedback_rating_raw") or row.get("feedback_rating")
    if rating in NO_VOTE:
        return None
    rating = SIGNS.get(str(rating), rating)
    if not isinstance(rating, str) or rating not in LABELS:
        finding = f"feedback_rating is {shown(rating)}. Allowed: {', '.join(LABELS)}"
        raise FeedbackError(f"{place}: {finding}.")
    return LABELS[rating]


def _rater(row: Mapping[str, Any]) -> object:
    return row.get("from_end_user_id") or row.get("from_account_name") or row.get("feedback_source")


def _key(row: Mapping[str, Any], number: int) -> object:
    message = row.get("message_id")
    return (str(message), str(_rater(row))) if message else number


def _order(row: Mapping[str, Any], number: int, place: str) -> Order:
    return time_text(row.get("feedback_date"), place), number
