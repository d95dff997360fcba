"""Streamlit feedback: rows that an application logged beside what its widget returned.

In: rows that hold a question, an answer, and the value of `streamlit-feedback` ({"type": "thumbs",
"score": a thumb, "text"}) or of `st.feedback("thumbs")` (1, 0). Out: a record per row with a vote.
What the widget returns holds no text, and is refused. Sources: trubrics/streamlit-feedback README;
Streamlit's st.feedback.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge, Vote
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import parsed, request_messages, response_messages
from thumbs.feedback.rated import RECORD_DROPS, mapping, rated_record
from thumbs.feedback.record import Feedback

NAME = "streamlit"
READS = "rows with prompt, response and the feedback dict of streamlit-feedback"
WITHOUT_VOTE = "row without a vote"
DROPS = (*RECORD_DROPS, WITHOUT_VOTE, NEITHER, ON_THRESHOLD)

VOTE_KEYS = {"type", "score", "text"}
PROMPTS = ("prompt", "question", "input", "messages", "user_input")
ANSWERS = ("response", "answer", "completion", "output")
FEEDBACK = ("feedback", "user_feedback", "streamlit_feedback")


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is what the widget returns, or a row that holds it."""
    return _is_return(entry) or any(_is_return(mapping(entry.get(key))) for key in FEEDBACK)


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per row with a vote.

    Raises:
        FeedbackError: a file holds only what the widget returned.
    """

    def votes() -> Iterator[Vote]:
        rows = chain.from_iterable(map(read_entries, paths))
        return (Vote(_feedback(row).get("score"), _side(row, PROMPTS)) for _, row in rows)

    judge = Judge(options, votes, "the score")
    for place, row in chain.from_iterable(map(read_entries, paths)):
        if _is_return(row):
            finding = "what the widget returned, without any text"
            advice = 'Log the prompt and the response in each row, beside it under "feedback"'
            other = "or import your own log: --map prompt=A --map completion=B --map label=C"
            raise FeedbackError(f"{place}: {finding}. {advice}; {other}.")
        feedback = _feedback(row)
        if feedback.get("score") in (None, ""):
            tally.dropped[WITHOUT_VOTE] += 1
            continue
        prompt = _side(row, PROMPTS)
        label = judge.label(Vote(feedback["score"], prompt), place, tally)
        if label is None:
            continue
        record = rated_record(
            request_messages(prompt),
            response_messages(_side(row, ANSWERS)),
            label,
            place,
            tally,
            score=feedback["score"],
            conversation=row.get("session_id") or row.get("conversation_id"),
            source=NAME,
            rater=row.get("user_id") or row.get("user"),
            model=row.get("model"),
            time=row.get("timestamp") or row.get("created_at") or row.get("time"),
            comment=feedback.get("text"),
        )
        if record is not None:
            yield record


def _is_return(entry: Mapping[str, Any]) -> bool:
    return entry.keys() <= VOTE_KEYS and {"type", "score"} <= entry.keys()


def _feedback(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((found for key in FEEDBACK if (found := mapping(parsed(row.get(key))))), {})


def _side(row: Mapping[str, Any], keys: Sequence[str]) -> object:
    return next((row[key] for key in keys if row.get(key)), None)
