"""Argilla 2: records of a dataset with the responses of its annotators.

In: `dataset.records.to_json()` or `to_list()`, nested ({"fields", "responses"}) or flattened
(`quality.responses`, `quality.responses.users`), also as JSON lines or Parquet. Out: a record per
answer and annotator. Suggestions are no votes, drafts and discarded responses are left out. Source:
Argilla 2.8, argilla/src/argilla/records/_io/_generic.py.
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
from thumbs.feedback.rated import RECORD_DROPS, mapping, rated_record, sequence
from thumbs.feedback.record import Feedback, keys_found

NAME = "argilla"
READS = "records as JSON, JSON lines or Parquet; responses to one question (--score-name)"
NOT_SUBMITTED = "response that is a draft or discarded"
OTHER_QUESTION = "response to another question"
DROPS = (*RECORD_DROPS, NOT_SUBMITTED, OTHER_QUESTION, NEITHER, ON_THRESHOLD)

PROMPTS = ("prompt", "instruction", "question", "input", "chat", "messages", "conversation")
ANSWERS = ("response", "completion", "answer", "output", "generation")
SUFFIX = ".responses"


class Given(NamedTuple):
    """A response to a question."""

    place: str
    record: Mapping[str, Any]
    question: str
    value: object
    rater: str


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a record."""
    nested = {"fields", "responses"} <= entry.keys() and isinstance(entry["responses"], dict)
    return nested or any(key.endswith(SUFFIX) and f"{key}.users" in entry for key in entry)


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per submitted response to the question.

    Raises:
        FeedbackError: there are several questions and none is chosen, a value cannot be judged, or
            no field holds the prompt or the answer.
    """
    question = _chosen_question(paths, options)

    def votes() -> Iterator[Vote]:
        found = (given for given in _given(paths, Tally()) if given.question == question)
        return (Vote(given.value, _sides(given.record, given.place)[0]) for given in found)

    judge = Judge(options, votes, f"question {question!r}")
    for given in _given(paths, tally):
        if given.question != question:
            tally.dropped[OTHER_QUESTION] += 1
            continue
        prompt, answer = _sides(given.record, given.place)
        label = judge.label(Vote(given.value, prompt), given.place, tally)
        if label is None:
            continue
        metadata = mapping(parsed(given.record.get("metadata")))
        record = rated_record(
            request_messages(prompt),
            response_messages(answer),
            label,
            given.place,
            tally,
            score=given.value,
            source=NAME,
            rater=given.rater,
            model=metadata.get("model") or metadata.get("model_name"),
        )
        if record is not None:
            yield record


def _given(paths: Sequence[Path], tally: Tally) -> Iterator[Given]:
    for place, record in chain.from_iterable(map(read_entries, paths)):
        responses = parsed(record.get("responses"))
        for question, given in mapping(responses).items():
            for one in map(mapping, sequence(given)):
                if one.get("status", "submitted") != "submitted":
                    tally.dropped[NOT_SUBMITTED] += 1
                    continue
                yield Given(
                    place, record, question, one.get("value"), str(one.get("user_id") or "")
                )
        for key in record:
            users = record.get(f"{key}.users")
            if key.endswith(SUFFIX) and isinstance(users, list):
                states = sequence(record.get(f"{key}.status")) or ["submitted"] * len(users)
                values = sequence(record[key])
                for value, user, state in zip(values, users, states, strict=False):
                    if state != "submitted":
                        tally.dropped[NOT_SUBMITTED] += 1
                        continue
                    yield Given(place, record, key.removesuffix(SUFFIX), value, str(user or ""))


def _chosen_question(paths: Sequence[Path], options: ImportOptions) -> str:
    names = dict.fromkeys(given.question for given in _given(paths, Tally()))
    where = ", ".join(map(str, paths))
    if options.score_name:
        if options.score_name not in names:
            found = ", ".join(names) or "none"
            finding = f"no question is called {options.score_name!r}; found: {found}"
            raise FeedbackError(f"{where}: --score-name: {finding}.")
        return options.score_name
    if len(names) > 1:
        finding = f"several questions: {', '.join(names)}"
        raise FeedbackError(f"{where}: {finding}. Choose the vote with --score-name.")
    return next(iter(names), "")


def _sides(record: Mapping[str, Any], place: str) -> tuple[object, object]:
    """Prompt and answer: two fields, or one of a whole chat that ends in the answer."""
    fields = mapping(parsed(record.get("fields"))) or record
    prompt = next((fields[key] for key in PROMPTS if fields.get(key)), None)
    answer = next((fields[key] for key in ANSWERS if fields.get(key)), None)
    if answer is None and isinstance(parsed(prompt), list):
        turns = request_messages(prompt)
        ends = turns and turns[-1]["role"] == "assistant"
        return (turns[:-1], turns[-1:]) if ends else (turns, None)
    if prompt is None:
        allowed = (
            f"Allowed for the prompt: {', '.join(PROMPTS)}; for the answer: {', '.join(ANSWERS)}"
        )
        advice = "Name others with --map prompt=fields.NAME --map completion=fields.NAME"
        found = keys_found(fields)
        raise FeedbackError(f"{place}: no field holds the prompt: {found}. {allowed}. {advice}.")
    return prompt, answer
