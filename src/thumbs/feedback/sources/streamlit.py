"""Streamlit feedback: rows that an application logged beside what its widget returned.

In: rows of a question, an answer, and the vote: what `streamlit-feedback` returned ({"type":
"thumbs", "score": a thumb or face, "text"}), under "feedback" or spread out in the row; or what
`st.feedback` returned (thumbs: 1 up, 0 down; faces and stars: 0 to 4; None: taken back). Out: a
record per answer and user whose last vote stands. What the widget returns holds no text, and is
refused. Streamlit itself stores nothing, so the names of the other columns are guesses; rows with
other names are for --map.

Sources: streamlit_feedback/__init__.py and examples.py of streamlit-feedback 0.1.4 (its example
adds keys to the returned dict); st.feedback in Streamlit's API reference.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge, Vote
from thumbs.feedback.messages import split_at_answer
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import parsed, request_messages, response_messages
from thumbs.feedback.rated import (
    LATER_VOTE,
    RECORD_DROPS,
    TAKEN_BACK,
    LastVotes,
    mapping,
    rated_record,
    time_text,
)
from thumbs.feedback.record import Feedback, Message, digest

NAME = "streamlit"
READS = (
    "rows with prompt and response, and what streamlit-feedback or st.feedback returned; thumbs, "
    "1 and 0, or values named by --up and --down"
)
WITHOUT_VOTE = "row without a vote"
DROPS = (*RECORD_DROPS, LATER_VOTE, TAKEN_BACK, WITHOUT_VOTE, NEITHER, ON_THRESHOLD)

TYPES = ("thumbs", "faces")
PROMPTS = ("prompt", "question", "query", "user_input", "input", "messages")
ANSWERS = ("response", "answer", "completion", "output")
VOTES = ("feedback", "user_feedback", "streamlit_feedback")
IDS = ("message_id", "response_id", "id")
SESSIONS = ("session_id", "conversation_id", "thread_id", "session", "conversation")
RATERS = ("user_id", "user", "username", "user_name")
MODELS = ("model", "model_name")
TIMES = ("timestamp", "created_at", "time", "datetime", "date")
MOST_STARS = 4  # st.feedback counts from 0


class Row(NamedTuple):
    """A row with its parts. vote: None where there is none."""

    place: str
    number: int
    entry: Mapping[str, Any]
    prompt: list[Message]
    answer: list[Message]
    vote: object
    comment: object
    time: str

    @property
    def key(self) -> tuple[str, ...]:
        """What the vote is on, and whose it is."""
        rater, session = (str(_first(self.entry, keys) or "") for keys in (RATERS, SESSIONS))
        message = _first(self.entry, IDS)
        what = digest([self.prompt, self.answer]) if message is None else str(message)
        return what, session, rater


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is what the widget returns, or a row that holds it."""
    if _is_return(entry) or any(_is_return(_literal(entry.get(key))) for key in VOTES):
        return True
    has_texts = _first(entry, PROMPTS) is not None and _first(entry, ANSWERS) is not None
    votes = [entry[key] for key in VOTES if key in entry]
    return has_texts and bool(votes) and _is_number(votes[0])


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per answer and user whose last vote stands.

    Raises:
        FeedbackError: a row holds only what the widget returned, or its vote is unknown.
    """
    last, voted = LastVotes(), set()
    for row in _rows(paths):
        last.note(row.key, (row.time, row.number))
        if row.vote is not None:
            voted.add(row.key)

    def votes() -> Iterator[Vote]:
        return (Vote(row.vote, row.prompt) for row in _rows(paths) if row.vote is not None)

    judge = Judge(options, votes, "the vote")
    for row in _rows(paths):
        if not last.is_last(row.key, (row.time, row.number), tally):
            continue
        if row.vote is None:
            tally.dropped[TAKEN_BACK if row.key in voted else WITHOUT_VOTE] += 1
            continue
        label = judge.label(Vote(row.vote, row.prompt), row.place, tally)
        if label is not None:
            yield from _record(row, label, tally)


def _rows(paths: Sequence[Path]) -> Iterator[Row]:
    for number, (place, entry) in enumerate(chain.from_iterable(map(read_entries, paths))):
        asked, answered = _first(entry, PROMPTS), _first(entry, ANSWERS)
        if asked is None and answered is None:
            finding = "what the widget returned, without any text"
            advice = (
                'Log with it what it is about: {"prompt": ..., "response": ..., "feedback": ...}'
            )
            other = "For columns of other names: --map prompt=A --map completion=B --map label=C"
            raise FeedbackError(f"{place}: {finding}. {advice}. {other}.")
        prompt, answer = request_messages(asked), response_messages(answered)
        if answered is None:  # the whole chat is logged as one list
            prompt, answer = split_at_answer(prompt)
        elif answer and prompt[-1:] == answer[-1:]:
            prompt = prompt[:-1]
        vote, comment = _vote_of(entry)
        time = time_text(_first(entry, TIMES), place)
        yield Row(place, number, entry, prompt, answer, vote, comment, time)


def _vote_of(entry: Mapping[str, Any]) -> tuple[object, object]:
    """The vote and the words that came with it."""
    value = _literal(next((entry[key] for key in VOTES if key in entry), None))
    given = entry if value is None and _is_return(entry) else value
    if isinstance(given, Mapping):
        value, comment = given.get("score"), given.get("text")
    else:
        comment = entry.get("comment")
    return (None if value in (None, "", "None") else value), comment


def _record(row: Row, label: bool, tally: Tally) -> Iterator[Feedback]:
    record = rated_record(
        row.prompt,
        row.answer,
        label,
        row.place,
        tally,
        score=str(row.vote).lower() if isinstance(row.vote, bool) else row.vote,
        conversation=_first(row.entry, SESSIONS),
        source=NAME,
        rater=_first(row.entry, RATERS),
        model=_first(row.entry, MODELS),
        time=_first(row.entry, TIMES),
        comment=row.comment,
    )
    if record is not None:
        yield record


def _is_return(entry: object) -> bool:
    return isinstance(entry, Mapping) and entry.get("type") in TYPES and "score" in entry


def _is_number(vote: object) -> bool:
    if vote is None or isinstance(vote, bool):
        return True
    try:
        return float(str(vote)) in range(MOST_STARS + 1)
    except ValueError:
        return False


def _literal(value: object) -> object:
    """The object that text holds, as JSON or as Python prints it (a dict put into a CSV)."""
    value = parsed(value)
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    try:
        return mapping(ast.literal_eval(value))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def _first(entry: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((entry[key] for key in keys if entry.get(key) not in (None, "", [])), None)
