"""Label Studio: annotations as JSON, JSON_MIN, CSV or TSV.

In: tasks with their annotations (JSON), or one flat row per annotation. Out: a record per
annotation: its choice or rating; two per pairwise comparison; a text area that is plainly a
correction gives the better answer. Cancelled annotations are left out, predictions are no votes.

A flat row has a control's choice or text as it is ("Good"), several as {"choices": [...]} or
{"text": [...]}, ratings and comparisons as [{"rating": 4}], [{"selected": "left"}]; in a table the
lists are JSON text. What is a control and what is data is open there: every further column could be
one. Sources: Label Studio docs, guide/export and guide/task_format; label_studio_sdk 2.1.2,
converter/converter.py, converter/utils.py (prettify_result) and converter/exports/csv2.py; the
templates in label_studio/annotation_templates/generative-ai.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

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
from thumbs.feedback.rated import mapping, sequence, time_text
from thumbs.feedback.record import Feedback, keys_found
from thumbs.feedback.team_fields import KNOWN, names_of

NAME = "label-studio"
READS = "JSON, JSON_MIN, CSV, TSV; a choice, rating or comparison of one control (--score-name)"
CANCELLED = "annotation that was cancelled"
NOT_ANNOTATED = "task without an annotation"
DROPS = (*ANNOTATED_DROPS, CANCELLED, NOT_ANNOTATED)

OWN_COLUMNS = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time")
MORE_COLUMNS = ("agreement", "history")
SIDES = ("left", "right")
# Data keys of two answers that are compared, where the names of the compared tags are no keys.
TWO_ANSWERS = tuple(
    (f"{word}{left}", f"{word}{right}")
    for left, right in (("1", "2"), ("_1", "_2"), ("_a", "_b"), ("A", "B"), ("_left", "_right"))
    for word in ("answer", "response", "completion", "output", "text")
)


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is a task with annotations, or a row of one annotation."""
    is_task = isinstance(entry.get("data"), dict) and isinstance(entry.get("annotations"), list)
    return is_task or entry.keys() >= set(OWN_COLUMNS[1:])


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per annotation of the control, the latest of one annotator on a task.

    Raises:
        FeedbackError: there are several controls and none is chosen, a value cannot be judged, or
            no key holds the prompt or the answer.
    """
    names = names_of(options)
    known = {*KNOWN, *names.prompts, *names.answers}

    def judgements(tally: Tally) -> Iterator[Judgement]:
        for place, entry in chain.from_iterable(map(read_entries, paths)):
            if "annotation_id" in entry:
                yield from _of_row(place, entry, known, tally)
            else:
                yield from _of_task(place, entry, tally)

    where = ", ".join(map(str, paths))
    return annotated_records(judgements, tally, options, source=NAME, where=where, what="control")


def _of_task(place: str, task: Mapping[str, Any], tally: Tally) -> Iterator[Judgement]:
    data, annotations = mapping(task.get("data")), sequence(task.get("annotations"))
    tally.dropped[NOT_ANNOTATED] += not annotations
    for number, annotation in enumerate(map(mapping, annotations), start=1):
        if annotation.get("was_cancelled") or annotation.get("skipped"):
            tally.dropped[CANCELLED] += 1
            continue
        its_place = f"{place}: annotation {annotation.get('id') or number}"
        time = annotation.get("updated_at") or annotation.get("created_at")
        judgement = Judgement(
            its_place,
            _text(task.get("id")),
            data,
            {},
            {},
            {},
            _annotator(annotation.get("completed_by")),
            time_text(time, its_place, tally),
        )
        for result in map(mapping, sequence(annotation.get("result"))):
            _note_result(judgement, result)
        yield judgement


def _note_result(judgement: Judgement, result: Mapping[str, Any]) -> None:
    control, kind = str(result.get("from_name")), result.get("type")
    value = mapping(result.get("value"))
    choices, rating, texts = (value.get(key) for key in ("choices", "rating", "text"))
    if kind == "choices" and sequence(choices):
        judgement.votes[control] = _one_of(sequence(choices))
    elif kind == "rating" and rating is not None:
        judgement.votes[control] = rating
    elif kind == "pairwise":
        tags = str(result.get("to_name")).split(",")
        judgement.votes[control] = _comparison(value, tags, judgement)
    elif kind == "textarea":
        judgement.written[control] = "\n".join(map(str, sequence(texts) or [texts or ""]))


def _of_row(
    place: str, row: Mapping[str, Any], known: set[str], tally: Tally
) -> Iterator[Judgement]:
    """A flat row names each control as a column beside those of its data."""
    if row["annotation_id"] in (None, ""):
        tally.dropped[NOT_ANNOTATED] += 1
        return
    rater, time = _text(row.get("annotator")), row.get("updated_at") or row.get("created_at")
    item, when = _text(row.get("id")), time_text(time, place, tally)
    more = {key for key in MORE_COLUMNS if not isinstance(parsed(row.get(key)), str)}
    data = {key: value for key, value in row.items() if key not in {*OWN_COLUMNS, *more}}
    judgement = Judgement(place, item, data, {}, {}, {}, rater, when)
    for key, value in data.items():
        if key not in known and value not in (None, ""):
            _note_column(judgement, key, parsed(value))
    controls = {*judgement.votes, *judgement.written}
    fields = {key: value for key, value in data.items() if key not in controls}
    yield judgement._replace(fields=fields)


def _note_column(judgement: Judgement, column: str, value: object) -> None:
    first = mapping(value[0]) if isinstance(value, list) and value else {}
    choices = mapping(value).get("choices")
    if isinstance(choices, list) and choices:
        judgement.votes[column] = _one_of(choices)
    elif len(sequence(value)) == 1 and first.get("rating") is not None:
        judgement.votes[column] = first["rating"]
    elif len(sequence(value)) == 1 and "selected" in first:
        judgement.votes[column] = _comparison(first, [], judgement)
    elif plain_name(column) in CORRECTIONS | COMMENTS:
        texts = mapping(value).get("text", value)  # of several texts, a list under "text"
        judgement.written[column] = "\n".join(map(str, sequence(texts) or [texts]))
    elif isinstance(value, str | int | float) and column not in chain(*TWO_ANSWERS):
        judgement.votes[column] = value


def _comparison(value: Mapping[str, Any], tags: Sequence[str], judgement: Judgement) -> Ranking:
    """The keys of the two answers, the selected one first.

    The tags that are compared name their keys only where a team called both the same.
    """
    selected, data = value.get("selected"), judgement.fields
    if selected not in SIDES:
        finding = f'"selected" must be left or right, but is {shown(selected)}'
        raise FeedbackError(f"{judgement.place}: {finding}.")
    pairs = [tuple(tags), *TWO_ANSWERS]
    pair = next((pair for pair in pairs if len(pair) == 2 and data.keys() >= set(pair)), None)
    if pair is None:
        finding = f"no keys of the data are known to hold two answers: {keys_found(data)}"
        allowed = "Call them answer1 and answer2, or as the tags that are compared"
        raise FeedbackError(f"{judgement.place}: {finding}. {allowed}.")
    return Ranking(pair if selected == "left" else pair[::-1])


def _annotator(by: object) -> str:
    """A person's address or number, whichever form the export has."""
    person = mapping(by)
    return _text(person.get("email") or person.get("id") if person else by)


def _one_of(choices: Sequence[Any]) -> object:
    return choices[0] if len(choices) == 1 else ", ".join(map(str, choices))


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int) else ""
