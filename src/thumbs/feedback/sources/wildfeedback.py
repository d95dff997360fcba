"""WildFeedback's annotations of how satisfied a user was with each answer of ChatGPT.

In: sat_dsat_annotation.json, a list of utterances in order: {"UtteranceId", "Role": "User" or
"Agent", "Content", "Satisfaction", "Disatisfaction"}; an UtteranceId of 0 starts a conversation.
What a user's utterance says of satisfaction is about the answer before it. Out: a record per answer
whose user was either satisfied or dissatisfied, the utterance that says so as its comment. GPT-4
made the annotations. Sources: microsoft/WildFeedback, revision 8b1a3e5, as programs read it that
check its order; arXiv 2408.15549, appendix A.1. The pairs of wildfeedback.json are read by
sharegpt_pairs.py; what keys user_preference.json has could not be checked, so it is not read.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.rated import RECORD_DROPS, rated_record
from thumbs.feedback.record import Feedback, Message

NAME = "wildfeedback"
READS = "sat_dsat_annotation.json: Satisfaction or Disatisfaction with the answer before"
NEITHER_OR_BOTH = "answer whose user was neither satisfied nor dissatisfied, or both"
NOT_ANSWERED_TO = "answer that its user did not reply to"
BROKEN = "utterance that does not follow the one before it"
DROPS = (*RECORD_DROPS, NEITHER_OR_BOTH, NOT_ANSWERED_TO, BROKEN)

ROLES = {"User": "user", "Agent": "assistant"}
KEYS = {"UtteranceId", "Role", "Content"}
SATISFIED = ("Satisfaction",)
DISSATISFIED = ("Disatisfaction", "Dissatisfaction")  # the first is how the file spells it
FLAGS = {"true": True, "yes": True, "false": False, "no": False, "": False}


class Utterance(NamedTuple):
    """An utterance. verdict: on the answer before it; None where it says nothing, or both."""

    place: str
    message: Message
    verdict: bool | None


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is an utterance with an annotation."""
    return entry.keys() >= KEYS and any(key in entry for key in (*SATISFIED, *DISSATISFIED))


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, the annotations are read one way
) -> Iterator[Feedback]:
    """A record per answer that its user was satisfied or dissatisfied with.

    Raises:
        FeedbackError: an utterance has an unknown role, or an annotation is not true or false.
    """
    for path in paths:
        for conversation in _conversations(path, tally):
            for i, (said, reply) in enumerate(pairwise(chain(conversation, [None]))):
                if said is None or said.message["role"] != "assistant":
                    continue
                if reply is None:
                    tally.dropped[NOT_ANSWERED_TO] += 1
                elif reply.verdict is None:
                    tally.dropped[NEITHER_OR_BOTH] += 1
                else:
                    prompt = [utterance.message for utterance in conversation[:i]]
                    yield from _record(prompt, said, reply, tally)


def _conversations(path: Path, tally: Tally) -> Iterator[list[Utterance]]:
    """Each conversation, up to where an utterance of it is missing."""
    conversation: list[Utterance] = []
    is_whole = True
    for place, entry in read_entries(path):
        number = entry.get("UtteranceId")
        if number == 0:
            if conversation:
                yield conversation
            conversation, is_whole = [], True
        utterance = _utterance(entry, place)
        speaks_again = (
            conversation[-1:] and conversation[-1].message["role"] == (utterance.message["role"])
        )
        is_whole = is_whole and number == len(conversation) and not speaks_again
        if is_whole:
            conversation.append(utterance)
        else:
            tally.dropped[BROKEN] += 1
    if conversation:
        yield conversation


def _utterance(entry: Mapping[str, Any], place: str) -> Utterance:
    role, words = entry.get("Role"), entry.get("Content")
    if role not in ROLES:
        raise FeedbackError(f'{place}: "Role" must be User or Agent, but is {shown(role)}.')
    if not isinstance(words, str | None):
        raise FeedbackError(f'{place}: "Content" must be text, but is {shown(words)}.')
    satisfied, dissatisfied = (
        any(_flag(entry, key, place) for key in keys) for keys in (SATISFIED, DISSATISFIED)
    )
    verdict = None if satisfied == dissatisfied else satisfied
    return Utterance(place, {"role": ROLES[role], "content": words or ""}, verdict)


def _flag(entry: Mapping[str, Any], key: str, place: str) -> bool:
    value = entry.get(key)
    text = "" if value is None else str(value).strip().lower()
    if not isinstance(value, bool | str | None) or text not in FLAGS:
        raise FeedbackError(f'{place}: "{key}" must be true or false, but is {shown(value)}.')
    return FLAGS[text]


def _record(
    prompt: list[Message], said: Utterance, reply: Utterance, tally: Tally
) -> Iterator[Feedback]:
    label = bool(reply.verdict)
    record = rated_record(
        prompt,
        [said.message],
        label,
        said.place,
        tally,
        score="satisfied" if label else "dissatisfied",
        source=NAME,
        comment=reply.message["content"],
    )
    if record is not None:
        yield record
