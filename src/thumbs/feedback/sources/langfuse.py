"""Langfuse: traces or observations with their scores, joined or in one file.

In: a batch export of the UI (a column per score name, its value a list), or traces and observations
of the API beside scores of the API (v1, v2: flat; v3: with a subject). Out: a record per scored
trace or observation and rater; a CORRECTION is a desirable answer beside the undesirable original.
Inputs and outputs are whatever the application logged. Source: Langfuse's API reference.
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
from thumbs.feedback.provider_json import CUT, parsed, request_messages, response_messages, was_cut
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

NAME = "langfuse"
EDIT_SOURCE = f"{NAME}:edit"
READS = "traces or observations with score columns (JSON, JSONL, CSV), or with API scores v1 to v3"
WITHOUT_TEXT = "score whose trace is not in the files"
OTHER_SCORE = "score of another name"
FREE_TEXT = "score that is free text"
OF_EVALUATOR = "score of an evaluator, not of a person"
IN_BOTH = "score in a column that is also given by the API"
DROPS = (
    *(*RECORD_DROPS, CUT, WITHOUT_TEXT, OTHER_SCORE, FREE_TEXT, OF_EVALUATOR, IN_BOTH, LATER_VOTE),
    *(NEITHER, ON_THRESHOLD),
)

SCORE_KEYS = {"name", "dataType", "source"}
# Columns of a trace or observation that are lists without being scores.
NO_SCORES = ("tags", "comments", "observations", "scores", "usageDetails", "costDetails")
OBSERVATIONS = ("GENERATION", "SPAN", "EVENT", "AGENT", "CHAIN", "TOOL", "RETRIEVER")
NO_VOTES = ("TEXT", "CORRECTION")
EVALUATOR = "EVAL"  # whose scores count where --score-name asks for them


class Score(NamedTuple):
    """A score of the API. subject: the id of the observation, else of the trace."""

    place: str
    subject: str
    name: str
    kind: str  # NUMERIC, BOOLEAN, CATEGORICAL, TEXT, CORRECTION
    source: str  # API, ANNOTATION, EVAL
    value: object
    rater: str
    time: str
    comment: str


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is a trace, an observation, a score, or a page of these."""
    first = _first(entry)
    is_score = first.keys() >= SCORE_KEYS and bool({"traceId", "subject"} & first.keys())
    return is_score or _is_text(first)


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per scored text.

    Raises:
        FeedbackError: there are scores without texts or texts without scores, several names of
            scores and none is chosen, or a value cannot be judged.
    """
    scores = _api_scores(paths)
    name = _chosen_name(paths, scores, options)
    by_subject: dict[str, list[Score]] = {}
    last = LastVotes()
    for number, score in enumerate(scores):
        if score.kind != "CORRECTION" and score.name != name:
            tally.dropped[OTHER_SCORE] += 1
        elif score.source == EVALUATOR and score.name != options.score_name:
            tally.dropped[OF_EVALUATOR] += 1
        elif score.kind == "TEXT":
            tally.dropped[FREE_TEXT] += 1
        else:
            last.note(_key(score), (score.time, number))
            by_subject.setdefault(score.subject, []).append(score)
    order = {id(score): (score.time, number) for number, score in enumerate(scores)}
    kept = {
        subject: [s for s in own if last.is_last(_key(s), order[id(s)], tally)]
        for subject, own in by_subject.items()
    }

    def votes() -> Iterator[RawVote]:
        for _, text in _texts(paths):
            given = [s.value for s in _own(text, kept) if _is_vote(s)] or _columns(text, name)
            yield from (RawVote(value, text.get("input")) for value in given)

    judge = Judge(options, votes, f"score {name!r}")
    met: set[str] = set()
    for place, text in _texts(paths):
        met.update((str(text.get("id")), str(text.get("traceId"))))
        columns = _columns(text, name)
        if any(map(_is_vote, _own(text, kept))):
            tally.dropped[IN_BOTH] += len(columns)
            columns = []
        for value in columns:
            vote = Score(place, "", name, "", "", value, "", "", "")
            yield from _record(vote, text, judge, place, tally)
        for score in _own(text, kept):
            if score.kind != "CORRECTION":
                yield from _record(score, text, judge, place, tally)
            elif options.edits:
                yield from _correction(score, text, place, tally)
    tally.dropped[WITHOUT_TEXT] += sum(len(own) for s, own in kept.items() if s not in met)


def _is_vote(score: Score) -> bool:
    return score.kind not in NO_VOTES


def _key(score: Score) -> tuple[str, ...]:
    return score.subject, score.name, score.rater, str(score.kind == "CORRECTION")


def _own(text: Mapping[str, Any], kept: Mapping[str, list[Score]]) -> list[Score]:
    return kept.get(str(text.get("id")), [])


def _pages(paths: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every entry, and what a page of the API holds."""
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        if isinstance(entry.get("data"), list) and "meta" in entry:
            for i, row in enumerate(entry["data"], start=1):
                yield f"{place}: data {i}", mapping(row)
        else:
            yield place, entry


def _first(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(entry.get("data"), list) and "meta" in entry:
        return mapping(entry["data"][0]) if entry["data"] else {}
    return entry


def _is_score(row: Mapping[str, Any]) -> bool:
    return row.keys() >= SCORE_KEYS and "input" not in row


def _is_text(row: Mapping[str, Any]) -> bool:
    """Whether a row is a trace or an observation: what only Langfuse calls so beside its text."""
    if row.keys() >= {"id", "traceId", "input", "output"} and row.get("type") in OBSERVATIONS:
        return True
    own = {"sessionId", "userId", "environment", "bookmarked", "traceId", "release", "public"}
    return {"id", "input", "output"} <= row.keys() and len(own & row.keys()) >= 2


def _texts(paths: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Traces and observations, and the observations inside of traces."""
    for place, row in _pages(paths):
        if _is_text(row):
            yield place, row
            for inner in map(mapping, sequence(row.get("observations"))):
                if _is_text(inner):
                    yield place, inner


def _api_scores(paths: Sequence[Path]) -> list[Score]:
    """Every score once: the same one may stand in a file of scores and inside of its trace."""
    by_id: dict[object, Score] = {}
    for place, row in _pages(paths):
        inner = []
        if _is_score(row):
            inner = [row]
        elif _is_text(row):
            found = map(mapping, sequence(parsed(row.get("scores"))))
            inner = [{"traceId": row.get("id"), **score} for score in found if "name" in score]
        for score in inner:
            by_id.setdefault(score.get("id") or len(by_id), _score(place, score))
    return list(by_id.values())


def _score(place: str, row: Mapping[str, Any]) -> Score:
    subject = mapping(row.get("subject"))
    kind = str(row.get("dataType") or "")
    value = row.get("value")
    if kind in ("CATEGORICAL", "TEXT", "CORRECTION") and row.get("stringValue"):
        value = row["stringValue"]
    return Score(
        place,
        str(row.get("observationId") or subject.get("id") or row.get("traceId") or ""),
        str(row.get("name")),
        kind,
        str(row.get("source") or ""),
        value,
        str(row.get("authorUserId") or ""),
        time_text(row.get("updatedAt") or row.get("timestamp"), place),
        str(row.get("comment") or ""),
    )


def _chosen_name(paths: Sequence[Path], scores: Sequence[Score], options: ImportOptions) -> str:
    """The name of the score that is the vote: the one asked for, or the only one."""
    votes = [score for score in scores if score.kind not in NO_VOTES]
    of_people = [score for score in votes if score.source != EVALUATOR or options.score_name]
    names = dict.fromkeys(score.name for score in of_people)
    has_texts = False
    for _, text in _texts(paths):
        has_texts = True
        names.update(dict.fromkeys(key for key in text if _column_values(text, key)))
    where = ", ".join(map(str, paths))
    if not has_texts:
        partner = (
            "the traces (or observations) they are about: GET /api/public/traces, or an export"
        )
        raise FeedbackError(f"{where}: scores without any text. Give {partner} together with them.")
    if options.score_name:
        if options.score_name not in names:
            found = ", ".join(names) or "none"
            finding = f"--score-name: no score is called {options.score_name!r}; found: {found}"
            raise FeedbackError(f"{where}: {finding}.")
        return options.score_name
    if not names and any(score.kind == "CORRECTION" for score in scores):
        return ""
    if not names and votes:
        found = ", ".join(dict.fromkeys(score.name for score in votes))
        advice = "Give those of people too, or ask for one with --score-name"
        raise FeedbackError(f"{where}: no scores but of evaluators: {found}. {advice}.")
    if not names:
        partner = "Give the scores too: GET /api/public/v2/scores, or an export with score columns"
        raise FeedbackError(f"{where}: traces without any score. {partner}.")
    if len(names) > 1:
        finding = f"several scores: {', '.join(names)}"
        raise FeedbackError(f"{where}: {finding}. Choose the vote with --score-name.")
    return next(iter(names))


def _columns(text: Mapping[str, Any], name: str) -> Sequence[Any]:
    """The values of a score's column."""
    return _column_values(text, name)


def _column_values(text: Mapping[str, Any], key: str) -> Sequence[Any]:
    if key in NO_SCORES:
        return []
    values = parsed(text.get(key))
    if not isinstance(values, list) or key in ("input", "output", "metadata"):
        return []
    return [value for value in values if isinstance(value, str | int | float)]


def _record(
    score: Score, text: Mapping[str, Any], judge: Judge, place: str, tally: Tally
) -> Iterator[Feedback]:
    label = judge.label(RawVote(score.value, text.get("input")), score.place, tally)
    if label is None:
        return
    if was_cut(text.get("output")) and "unfinished" not in tally.keep:
        tally.dropped[CUT] += 1
        return
    record = rated_record(
        request_messages(text.get("input")),
        response_messages(text.get("output")),
        label,
        place,
        tally,
        **_rest(score, text),
    )
    if record is not None:
        yield record


def _correction(
    score: Score, text: Mapping[str, Any], place: str, tally: Tally
) -> Iterator[Feedback]:
    prompt = request_messages(text.get("input"))
    rest = _rest(score, text) | {"source": EDIT_SOURCE, "score": ""}
    for answer, label in ((score.value, True), (text.get("output"), False)):
        given = response_messages(answer)
        record = rated_record(prompt, given, label, place, tally, **rest)
        if record is not None:
            yield record


def _rest(score: Score, text: Mapping[str, Any]) -> dict[str, Any]:
    metadata = mapping(parsed(text.get("metadata")))
    return {
        "score": score.value,
        "conversation": text.get("sessionId"),
        "source": NAME,
        "rater": score.rater or text.get("userId"),
        "model": text.get("model") or text.get("providedModelName") or metadata.get("model"),
        "time": score.time or text.get("timestamp") or text.get("startTime"),
        "comment": score.comment,
    }
