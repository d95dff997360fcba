"""W&B Weave: calls with their feedback, as the API or a query gives them.

In: calls with inputs, output and summary.weave.feedback: reactions (thumbs, whatever their skin
tone), notes, human annotations. Out: a record per call and reacting person; a note by the same
person is its comment. Source: Weave's documentation, "Collect feedback".
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge, Vote, plain_text
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import CUT, request_messages, response_messages, was_cut
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

NAME = "weave"
READS = "calls with summary.weave.feedback: thumbs as reactions, wandb.annotation.* by --score-name"
OTHER_REACTION = "reaction that is no thumb"
OTHER_ANNOTATION = "annotation that --score-name does not name"
WITH_ERROR = "answer with an error"
DROPS = (
    *(*RECORD_DROPS, CUT, OTHER_REACTION, OTHER_ANNOTATION, WITH_ERROR, LATER_VOTE, NEITHER),
    ON_THRESHOLD,
)

REACTION, NOTE, ANNOTATION = "wandb.reaction.1", "wandb.note.1", "wandb.annotation."
THUMBS = (plain_text("\N{THUMBS UP SIGN}"), plain_text("\N{THUMBS DOWN SIGN}"))


class Judged(NamedTuple):
    """One vote on a call. order: when, and its number."""

    place: str
    call: Mapping[str, Any]
    vote: object
    rater: str
    order: Order


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a call."""
    return "op_name" in entry and "inputs" in entry and ("summary" in entry or "output" in entry)


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per call and rater: their last reaction, or annotation `options.score_name`."""

    def votes() -> Iterator[Vote]:
        return (Vote(j.vote, j.call.get("inputs")) for j in _judged(paths, options, Tally()))

    _require_name(paths, options)
    last = LastVotes()
    for judged in _judged(paths, options, tally):
        last.note((judged.call.get("id"), judged.rater), judged.order)
    judge = Judge(options, votes, "the feedback")
    for judged in _judged(paths, options, Tally()):
        if not last.is_last((judged.call.get("id"), judged.rater), judged.order, tally):
            continue
        label = judge.label(Vote(judged.vote, judged.call.get("inputs")), judged.place, tally)
        if label is not None:
            yield from _record(judged, label, tally)


def _judged(paths: Sequence[Path], options: ImportOptions, tally: Tally) -> Iterator[Judged]:
    number = 0
    for place, call in chain.from_iterable(map(read_entries, paths)):
        for given in _feedback(call):
            number += 1
            kind, payload = str(given.get("feedback_type")), mapping(given.get("payload"))
            if options.score_name:
                if kind != ANNOTATION + options.score_name.removeprefix(ANNOTATION):
                    tally.dropped[OTHER_ANNOTATION] += kind.startswith(ANNOTATION)
                    continue
                vote = payload.get("value", payload)
            elif kind == REACTION:
                vote = payload.get("detoned") or payload.get("emoji")
                if plain_text(vote) not in THUMBS and not options.up and not options.down:
                    tally.dropped[OTHER_REACTION] += 1
                    continue
            else:
                tally.dropped[OTHER_ANNOTATION] += kind.startswith(ANNOTATION)
                continue
            rater = str(given.get("wb_user_id") or given.get("creator") or "")
            order = (time_text(given.get("created_at"), place), number)
            yield Judged(place, call, vote, rater, order)


def _require_name(paths: Sequence[Path], options: ImportOptions) -> None:
    """Refuse a --score-name that no annotation has, and annotations alone where none is named."""
    kinds = Counter(
        str(given.get("feedback_type"))
        for _, call in chain.from_iterable(map(read_entries, paths))
        for given in _feedback(call)
    )
    names = {k.removeprefix(ANNOTATION): n for k, n in kinds.items() if k.startswith(ANNOTATION)}
    found = ", ".join(f"{name} ({count})" for name, count in sorted(names.items())) or "none"
    where = ", ".join(map(str, paths))
    if options.score_name and options.score_name.removeprefix(ANNOTATION) not in names:
        finding = f"no annotation is called {options.score_name!r}; found: {found}"
        raise FeedbackError(f"{where}: {finding}. Name one of them with --score-name.")
    if names and not options.score_name and not kinds[REACTION]:
        finding = f"no reactions, but annotations: {found}"
        raise FeedbackError(f"{where}: {finding}. Say which is the vote with --score-name.")


def _feedback(call: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    weave = mapping(mapping(call.get("summary")).get("weave"))
    return list(map(mapping, sequence(weave.get("feedback")) or sequence(call.get("feedback"))))


def _record(judged: Judged, label: bool, tally: Tally) -> Iterator[Feedback]:
    call = judged.call
    if call.get("exception"):
        tally.dropped[WITH_ERROR] += 1
        return
    notes = (
        str(mapping(given.get("payload")).get("note") or "")
        for given in _feedback(call)
        if given.get("feedback_type") == NOTE
        and str(given.get("wb_user_id") or given.get("creator") or "") == judged.rater
    )
    inputs, output = mapping(call.get("inputs")), mapping(call.get("output"))
    if was_cut(call.get("output")) and "unfinished" not in tally.keep:
        tally.dropped[CUT] += 1
        return
    attributes = mapping(call.get("attributes"))
    record = rated_record(
        request_messages(call.get("inputs")),
        response_messages(call.get("output")),
        label,
        judged.place,
        tally,
        score=judged.vote,
        conversation=call.get("thread_id") or attributes.get("thread_id"),
        source=NAME,
        rater=judged.rater,
        model=output.get("model") or inputs.get("model"),
        time=judged.order[0],
        comment="; ".join(filter(None, notes)),
    )
    if record is not None:
        yield record
