"""Nectar: seven answers to a prompt, ranked by GPT-4.

In: {"prompt": "\\n\\nHuman: ... \\n\\nAssistant: ", "answers": [{"answer", "model", "rank"}]}, rank
1 the best. Out: two records per prompt: the answer ranked first is desirable, the one ranked last
undesirable; those between, and prompts whose answers share one rank, are left out. Source: the
dataset card berkeley-nest/Nectar.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.annotated import RANKED_BETWEEN
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.rated import RECORD_DROPS, mapping, rated_record, sequence
from thumbs.feedback.record import Feedback, Message

NAME = "nectar"
READS = "prompt and answers with a rank; the first and the last of them"
ONE_RANK = "answer to a prompt whose answers share one rank"
DROPS = (*RECORD_DROPS, RANKED_BETWEEN, ONE_RANK)

TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a prompt with ranked answers."""
    answers = sequence(entry.get("answers"))
    return "prompt" in entry and bool(answers) and {"answer", "rank"} <= mapping(answers[0]).keys()


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, rankings are read one way
) -> Iterator[Feedback]:
    """Two records per prompt.

    Raises:
        FeedbackError: a rank is no number, or a text is none.
    """
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        answers = list(map(mapping, sequence(entry.get("answers"))))
        ranked = sorted(answers, key=lambda answer: _rank(answer, place))
        if len(ranked) < 2 or _rank(ranked[0], place) == _rank(ranked[-1], place):
            tally.dropped[ONE_RANK] += len(ranked)
            continue
        prompt = _prompt(entry.get("prompt"), place)
        tally.dropped[RANKED_BETWEEN] += len(ranked) - 2
        for answer, label in ((ranked[0], True), (ranked[-1], False)):
            said = [{"role": "assistant", "content": answer.get("answer")}]
            rest = {"score": answer["rank"], "source": NAME, "model": answer.get("model")}
            record = rated_record(prompt, said, label, place, tally, **rest)
            if record is not None:
                yield record


def _rank(answer: Mapping[str, Any], place: str) -> float:
    rank = answer.get("rank")
    if not isinstance(rank, int | float) or isinstance(rank, bool) or rank != rank:
        raise FeedbackError(f'{place}: "rank" must be a number, but is {shown(rank)}.')
    return rank


def _prompt(text: object, place: str) -> list[Message]:
    if not isinstance(text, str):
        raise FeedbackError(f'{place}: "prompt" must be text, but is {shown(text)}.')
    first, *turns = TURN.split(text)
    messages: list[Message] = [{"role": "user", "content": first}] if first.strip() else []
    for speaker, words in zip(turns[::2], turns[1::2], strict=True):
        if words.strip():
            messages.append({"role": ROLES[speaker], "content": words.strip()})
    return messages
