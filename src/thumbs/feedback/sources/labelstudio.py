"""Label Studio: annotations as JSON, JSON_MIN, CSV or TSV.

In: tasks with their annotations (JSON), or one flat row per annotation. Out: a record per
annotation: its choice or rating. Cancelled annotations are left out. Source: Label Studio's
documentation, "Export annotations", and label_studio_sdk/converter.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge, Vote
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
from thumbs.feedback.record import Feedback, keys_found

NAME = "label-studio"
READS = "JSON, JSON_MIN, CSV, TSV; a choice or a rating of one control (--score-name)"
CANCELLED = "annotation that was cancelled"
WITHOUT_CHOICE = "annotation without a choice or rating"
OTHER_CONTROL = "choice or rating of another control"
DROPS = (
    *(*RECORD_DROPS, CANCELLED, WITHOUT_CHOICE, OTHER_CONTROL, LATER_VOTE),
    *(NEITHER, ON_THRESHOLD),
)
PROMPTS = ("prompt", "instruction", "question", "input", "messages", "dialogue", "chat")
ANSWERS = ("response", "completion", "answer", "output")
OWN_COLUMNS = {
    *("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"),
    *("model", "model_name", "user", "session", "conversation", "text", "title"),
}


class Given(NamedTuple):
    """A choice or rating."""

    place: str
    data: Mapping[str, Any]
    task: str
    control: str
    value: object
    rater: str
    time: str


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry is a task with annotations, or a row of one annotation."""
    is_task = "data" in entry and isinstance(entry.get("annotations"), list)
    return is_task or {"annotation_id", "annotator"} <= entry.keys()


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per annotation of the control, the latest of one annotator.

    Raises:
        FeedbackError: there are several controls and none is chosen, a value cannot be judged, or
            no key holds the prompt or the answer.
    """
    control, last = _chosen_control(paths, options), LastVotes()
    for number, given in enumerate(_given(paths, Tally())):
        last.note((given.task, given.control, given.rater), (given.time, number))

    def votes() -> Iterator[Vote]:
        found = (given for given in _given(paths, Tally()) if given.control == control)
        return (Vote(given.value, _sides(given)[0]) for given in found)

    judge = Judge(options, votes, f"control {control!r}")
    for number, given in enumerate(_given(paths, tally)):
        if given.control != control:
            tally.dropped[OTHER_CONTROL] += 1
            continue
        key = (given.task, given.control, given.rater)
        if not last.is_last(key, (given.time, number), tally):
            continue
        prompt, answer = _sides(given)
        label = judge.label(Vote(given.value, prompt), given.place, tally)
        if label is None:
            continue
        record = rated_record(
            request_messages(prompt),
            response_messages(answer),
            label,
            given.place,
            tally,
            score=given.value,
            conversation=given.data.get("conversation") or given.data.get("session"),
            source=NAME,
            rater=given.rater,
            model=given.data.get("model") or given.data.get("model_name"),
            time=given.time,
        )
        if record is not None:
            yield record


def _given(paths: Sequence[Path], tally: Tally) -> Iterator[Given]:
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        if "annotation_id" in entry:
            yield from _row_choices(place, entry)
            continue
        for annotation in map(mapping, sequence(entry.get("annotations"))):
            if annotation.get("was_cancelled"):
                tally.dropped[CANCELLED] += 1
                continue
            by = annotation.get("completed_by")
            rater = mapping(by).get("email") or mapping(by).get("id") or by
            time = time_text(annotation.get("updated_at") or annotation.get("created_at"), place)
            choices = list(_choices(annotation))
            if not choices:
                tally.dropped[WITHOUT_CHOICE] += 1
            for control, value in choices:
                data, task = mapping(entry.get("data")), str(entry.get("id"))
                yield Given(place, data, task, control, value, str(rater or ""), time)


def _choices(annotation: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for result in map(mapping, sequence(annotation.get("result"))):
        value = mapping(result.get("value"))
        if result.get("type") == "choices" and sequence(value.get("choices")):
            yield str(result.get("from_name")), _one_of(value["choices"])
        elif result.get("type") == "rating" and value.get("rating") is not None:
            yield str(result.get("from_name")), value["rating"]


def _row_choices(place: str, row: Mapping[str, Any]) -> Iterator[Given]:
    """A flat row names each control as a column beside those of its data."""
    for key, value in row.items():
        if key in OWN_COLUMNS or key in PROMPTS or key in ANSWERS or value in (None, ""):
            continue
        value = parsed(value)
        value = _one_of(sequence(mapping(value).get("choices"))) if mapping(value) else value
        if isinstance(value, str | int | float):
            yield Given(
                place,
                row,
                str(row.get("id")),
                key,
                value,
                str(row.get("annotator") or ""),
                time_text(row.get("updated_at") or row.get("created_at"), place),
            )


def _one_of(choices: Sequence[Any]) -> object:
    return choices[0] if len(choices) == 1 else ", ".join(map(str, choices))


def _chosen_control(paths: Sequence[Path], options: ImportOptions) -> str:
    names = dict.fromkeys(given.control for given in _given(paths, Tally()))
    where = ", ".join(map(str, paths))
    if options.score_name:
        if options.score_name not in names:
            found = ", ".join(names) or "none"
            finding = f"no control is called {options.score_name!r}; found: {found}"
            raise FeedbackError(f"{where}: --score-name: {finding}.")
        return options.score_name
    if len(names) > 1:
        finding = f"several controls: {', '.join(names)}"
        raise FeedbackError(f"{where}: {finding}. Choose the vote with --score-name.")
    return next(iter(names), "")


def _sides(given: Given) -> tuple[object, object]:
    """Prompt and answer: two keys, or one of a whole dialogue that ends in the answer."""
    prompt = next((given.data[key] for key in PROMPTS if given.data.get(key)), None)
    answer = next((given.data[key] for key in ANSWERS if given.data.get(key)), None)
    if answer is None and isinstance(parsed(prompt), list):
        turns = request_messages(prompt)
        ends = turns and turns[-1]["role"] == "assistant"
        return (turns[:-1], turns[-1:]) if ends else (turns, None)
    if prompt is None or answer is None:
        allowed = (
            f"Allowed for the prompt: {', '.join(PROMPTS)}; for the answer: {', '.join(ANSWERS)}"
        )
        advice = "Name others with --map prompt=data.NAME --map completion=data.NAME"
        found = keys_found(given.data)
        finding = (
            f"no key of the data holds the {'prompt' if prompt is None else 'answer'}: {found}"
        )
        raise FeedbackError(f"{given.place}: {finding}. {allowed}. {advice}.")
    return prompt, answer
