"""LangSmith: runs joined with their feedback.

In: runs (SDK list_runs, or the bulk export's Parquet) and feedback (SDK list_feedback); runs alone
do where they hold one vote each (feedback_stats). Out: a record per run and rater; a correction is
a desirable answer beside the undesirable original. Source: LangSmith's SDK, langsmith/schemas.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
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
    time_text,
)
from thumbs.feedback.record import Feedback, Message

NAME = "langsmith"
EDIT_SOURCE = f"{NAME}:edit"
READS = (
    "runs with feedback (JSON lines, JSON, Parquet): score of one key, >= 0.5 is up; corrections"
)
WITHOUT_RUN = "feedback whose run is not in the files"
OTHER_KEY = "feedback of another key"
WITHOUT_SCORE = "feedback without a score"
SEVERAL_VOTES = "run whose votes are known by their average only"
WITH_ERROR = "answer with an error"
DROPS = (
    *(*RECORD_DROPS, WITHOUT_RUN, OTHER_KEY, WITHOUT_SCORE, SEVERAL_VOTES, WITH_ERROR),
    *(LATER_VOTE, NEITHER, ON_THRESHOLD),
)
MIDDLE = "0.5"
Labels = Callable[[RawVote, str, Tally], bool | None]


class Given(NamedTuple):
    """A piece of feedback."""

    place: str
    run: str
    name: str
    vote: object
    correction: object
    rater: str
    time: str
    comment: str


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is a run or a piece of feedback."""
    return _is_feedback(entry) or {"run_type", "inputs", "outputs"} <= entry.keys()


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per judged run.

    Raises:
        FeedbackError: there is feedback without runs or runs without feedback, or several keys of
            which none is chosen.
    """
    given = [_given(place, entry) for place, entry in _entries(paths) if _is_feedback(entry)]
    key = _chosen_key(paths, given, options)
    last, kept = LastVotes(), dict[str, list[tuple[int, Given]]]()
    for number, one in enumerate(given):
        if one.name != key and one.correction is None:
            tally.dropped[OTHER_KEY] += 1
        elif one.vote is None and one.correction is None:
            tally.dropped[WITHOUT_SCORE] += 1
        else:
            last.note((one.run, one.name, one.rater), (one.time, number))
            kept.setdefault(one.run, []).append((number, one))

    def votes() -> Iterator[RawVote]:
        for place, run in _runs(paths):
            own = [one for _, one in kept.get(str(run.get("id")), ())] or _stats(run, key, place)
            yield from (RawVote(one.vote, run.get("inputs")) for one in own if one.vote is not None)

    label = _judging(options, votes, f"feedback {key!r}")
    met = set()
    for place, run in _runs(paths):
        met.add(str(run.get("id")))
        own = [
            one
            for number, one in kept.get(str(run.get("id")), ())
            if last.is_last((one.run, one.name, one.rater), (one.time, number), tally)
        ]
        if not given:
            own = _stats(run, key, place, tally)
        for one in own:
            yield from _records(one, run, label, place, tally, options)
    tally.dropped[WITHOUT_RUN] += sum(len(own) for run_id, own in kept.items() if run_id not in met)


def _judging(options: ImportOptions, votes: Callable[[], Iterator[RawVote]], what: str) -> Labels:
    """Labels as the user says; unless said otherwise a score of 0 to 1 counts by its number."""
    judge = Judge(options, votes, what)
    if options.threshold or options.up or options.down:
        return judge.label
    by_number = Judge(replace(options, threshold=MIDDLE), votes, what)

    def label(vote: RawVote, place: str, tally: Tally) -> bool | None:
        if not isinstance(vote.value, int | float):
            return judge.label(vote, place, tally)  # what is plainly good or bad
        if not 0 <= vote.value <= 1:
            finding = f"{what} is {vote.value}, a score that is not of 0 to 1"
            advice = "Say from where it is desirable with --threshold, or name votes with --up"
            raise FeedbackError(f"{place}: {finding}. {advice} and --down.")
        return by_number.label(vote, place, tally)

    return label


def _entries(paths: Sequence[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    return chain.from_iterable(map(read_entries, paths))


def _is_feedback(entry: Mapping[str, Any]) -> bool:
    return {"run_id", "key"} <= entry.keys() and "inputs" not in entry


def _runs(paths: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((place, entry) for place, entry in _entries(paths) if not _is_feedback(entry))


def _given(place: str, entry: Mapping[str, Any]) -> Given:
    source = mapping(parsed(entry.get("feedback_source")))
    rater = source.get("user_id") or mapping(source.get("metadata")).get("user_id") or ""
    score = entry.get("score")
    return Given(
        place,
        str(entry.get("run_id")),
        str(entry.get("key")),
        entry.get("value") if score is None else float(score) if isinstance(score, bool) else score,
        parsed(entry.get("correction")) or None,
        str(rater),
        time_text(entry.get("modified_at") or entry.get("created_at"), place),
        str(entry.get("comment") or ""),
    )


def _stats(run: Mapping[str, Any], key: str, place: str, tally: Tally | None = None) -> list[Given]:
    """The one vote that the run's own statistics hold, if they hold one."""
    stats = mapping(mapping(parsed(run.get("feedback_stats"))).get(key))
    if stats.get("n") == 1 and stats.get("avg") is not None:
        return [Given(place, str(run.get("id")), key, stats["avg"], None, "", "", "")]
    if tally is not None and stats.get("n"):
        tally.dropped[SEVERAL_VOTES] += 1
    return []


def _chosen_key(paths: Sequence[Path], given: Sequence[Given], options: ImportOptions) -> str:
    names = dict.fromkeys(one.name for one in given if one.vote is not None)
    has_runs = False
    for _, run in _runs(paths):
        has_runs = True
        if not given:
            names.update(dict.fromkeys(mapping(parsed(run.get("feedback_stats")))))
    where = ", ".join(map(str, paths))
    if not has_runs:
        partner = "the runs it is about (SDK: client.list_runs), together with it"
        raise FeedbackError(f"{where}: feedback without any text. Give {partner}.")
    if options.score_name:
        if options.score_name not in names:
            found = ", ".join(names) or "none"
            finding = f"--score-name: no feedback is called {options.score_name!r}; found: {found}"
            raise FeedbackError(f"{where}: {finding}.")
        return options.score_name
    if not names and not any(one.correction for one in given):
        partner = "Give the feedback too (SDK: client.list_feedback)"
        raise FeedbackError(f"{where}: runs without any feedback. {partner}.")
    if len(names) > 1:
        finding = f"several keys of feedback: {', '.join(names)}"
        raise FeedbackError(f"{where}: {finding}. Choose the vote with --score-name.")
    return next(iter(names), "")


def _new_in(answer: list[Message], prompt: list[Message]) -> list[Message]:
    """The answer without the turns since the last question that the prompt ends in already.

    A node of LangGraph gives its whole state back.
    """
    users = [i for i, message in enumerate(prompt) if message["role"] in ("user", "system")]
    since = prompt[users[-1] + 1 :] if users else []
    return answer[len(since) :] if since and answer[: len(since)] == since else answer


def _records(
    one: Given,
    run: Mapping[str, Any],
    label: Labels,
    place: str,
    tally: Tally,
    options: ImportOptions,
) -> Iterator[Feedback]:
    if run.get("error"):
        tally.dropped[WITH_ERROR] += 1
        return
    prompt, answer = (
        request_messages(parsed(run.get("inputs"))),
        response_messages(parsed(run.get("outputs"))),
    )
    answer = _new_in(answer, prompt)
    metadata = mapping(mapping(parsed(run.get("extra"))).get("metadata"))
    rest = {
        "conversation": metadata.get("session_id") or metadata.get("thread_id"),
        "rater": one.rater or metadata.get("user_id"),
        "model": metadata.get("ls_model_name"),
        "time": one.time or run.get("start_time"),
        "comment": one.comment,
    }
    if one.correction is not None:
        if options.edits:
            for given, is_good in ((response_messages(one.correction), True), (answer, False)):
                record = rated_record(
                    prompt, given, is_good, place, tally, source=EDIT_SOURCE, **rest
                )
                if record is not None:
                    yield record
        return
    judged = label(RawVote(one.vote, run.get("inputs")), one.place, tally)
    if judged is not None:
        record = rated_record(
            prompt, answer, judged, place, tally, score=one.vote, source=NAME, **rest
        )
        if record is not None:
            yield record
