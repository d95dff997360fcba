"""Preference pairs: TRL's, with the prompt given or implicit, and Anthropic's HH transcripts.

In: {"chosen", "rejected"} and maybe "prompt", as strings or messages. Out: two records per pair,
the chosen answer desirable, the rejected one undesirable, with one prompt and one conversation.
Sources: TRL docs/source/dataset_formats.md; the prompt of an HH pair is the common prefix up to
its last "\\n\\nAssistant:".
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.pairs import PAIR_DROPS, Pair, pair_records
from thumbs.feedback.record import Feedback, Message

NAME = "preference"
READS = "chosen and rejected (TRL, prompt given or implicit; Anthropic HH transcripts)"

KEYS = ("prompt", "chosen", "rejected")
NO_COMMON_PROMPT = "answer of a pair without a common prompt"
DROPS = (NO_COMMON_PROMPT, *PAIR_DROPS)
HH_TURN = re.compile(r"\n\n(Human|Assistant):")
HH_ANSWER = "\n\nAssistant:"
HH_ROLES = {"Human": "user", "Assistant": "assistant"}


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a preference pair."""
    return {"chosen", "rejected"} <= entry.keys()


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, pairs are read one way
) -> Iterator[Feedback]:
    """Two records per pair; empty answers and pairs that cannot be judged are counted."""
    for path in paths:
        for place, entry in read_entries(path):
            tally.changed.update(f"key {key!r} is not used" for key in entry if key not in KEYS)
            pair = _pair_of(entry, place, tally)
            if isinstance(pair, str):
                tally.dropped[pair] += 2
            else:
                yield from pair_records(pair, place, tally, source=NAME)


def _pair_of(entry: Mapping[str, Any], place: str, tally: Tally) -> Pair | str:
    """The pair, or the reason why it is none."""
    chosen, rejected, prompt = (entry.get(key) for key in ("chosen", "rejected", "prompt"))
    if isinstance(chosen, str) and isinstance(rejected, str):
        if prompt is not None:
            return Pair(prompt, chosen, rejected)
        if chosen.startswith("\n\nHuman:") and rejected.startswith("\n\nHuman:"):
            return _transcript_pair(chosen, rejected, tally)
        return _string_pair(chosen, rejected)
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _message_pair(prompt, chosen, rejected)
    kinds = f"{type(chosen).__name__} and {type(rejected).__name__}"
    finding = (
        f'"chosen" and "rejected" must both be text or both lists of messages, but are {kinds}'
    )
    raise FeedbackError(f"{place}: {finding}.")


def _transcript_pair(chosen: str, rejected: str, tally: Tally) -> Pair | str:
    prefix = chosen[: _num_shared(chosen, rejected)]
    start = prefix.rfind(HH_ANSWER)
    if start < 0:
        return NO_COMMON_PROMPT
    return Pair(
        prompt=_transcript_messages(prefix[:start], tally),
        chosen=_transcript_messages(chosen[start:], tally),
        rejected=_transcript_messages(rejected[start:], tally),
    )


def _transcript_messages(text: str, tally: Tally) -> list[Message]:
    """The turns of a transcript; turns of one speaker in a row become one message."""
    _, *parts = HH_TURN.split(text)
    messages: list[Message] = []
    for speaker, words in zip(parts[::2], parts[1::2], strict=True):
        role, content = HH_ROLES[speaker], words.strip()
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += f"\n\n{content}"
            tally.changed["turns of one speaker in a row, made one message"] += 1
        else:
            messages.append({"role": role, "content": content})
    return messages


def _string_pair(chosen: str, rejected: str) -> Pair | str:
    """Cut where the answers part, before the word that differs; the space goes to the answer."""
    prefix = chosen[: _num_shared(chosen, rejected)]
    words = re.match(r".*(?=\s)", prefix, re.DOTALL)
    prompt = words.group().rstrip() if words else ""
    if not prompt:
        return NO_COMMON_PROMPT
    return Pair(prompt, chosen[len(prompt) :], rejected[len(prompt) :])


def _message_pair(prompt: object, chosen: list[Message], rejected: list[Message]) -> Pair | str:
    if isinstance(prompt, list) and chosen[: len(prompt)] != prompt:
        return Pair(prompt, chosen, rejected)
    shared = _num_shared(chosen, rejected)
    if isinstance(prompt, str) and not shared:
        return Pair([{"role": "user", "content": prompt}], chosen, rejected)
    if not shared:
        return NO_COMMON_PROMPT
    return Pair(chosen[:shared], chosen[shared:], rejected[shared:])


def _num_shared(first: Sequence[object], second: Sequence[object]) -> int:
    """How many characters or messages two sequences have in common from the start."""
    pairs = enumerate(zip(first, second, strict=False))
    shortest = min(len(first), len(second))
    return next((index for index, (a, b) in pairs if a != b), shortest)
