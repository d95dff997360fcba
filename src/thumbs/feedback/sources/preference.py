"""Preference pairs: TRL's, with the prompt given or implicit, and Anthropic's HH transcripts.

In: {"chosen", "rejected"} and maybe "prompt", as strings or messages; or the prompt of a chat as
"instruction" (with "input"), "question" or "query", beside "system". Ratings may stand beside the
answers: "score_chosen", "chosen_rating", "chosen-rating" and the like. Out: two records per pair,
the chosen answer desirable, the rejected one undesirable, with one prompt and one conversation.
Sources: TRL docs/source/dataset_formats.md; the prompt of an HH pair is the common prefix up to
its last "\\n\\nAssistant:"; dataset cards of HuggingFaceH4/ultrafeedback_binarized and
argilla/ultrafeedback-binarized-preferences; LLaMA-Factory data/README.md (Alpaca, DPO); axolotl
src/axolotl/prompt_strategies/dpo/chatml.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.pairs import PAIR_DROPS, Pair, pair_records
from thumbs.feedback.record import Feedback, Message

NAME = "preference"
READS = "chosen and rejected (TRL, prompt given or implicit; Anthropic HH transcripts)"

ANSWER_NAMES = {"chosen_response": "chosen", "rejected_response": "rejected"}
ASKED = ("instruction", "question", "query")
SCORES = ("score_{}", "{}_score", "{}_rating", "{}-rating", "rating_{}")
MODELS = ("{}_model", "{}-model", "model_{}")
KEYS = {
    *("prompt", "chosen", "rejected", "system", "input", *ASKED),
    *(form.format(side) for form in (*SCORES, *MODELS) for side in ("chosen", "rejected")),
}
NO_COMMON_PROMPT = "answer of a pair without a common prompt"
EQUAL = "answer of a pair with equal scores"
CONTRADICTED = "answer of a pair whose rejected answer has the higher score"
DROPS = (NO_COMMON_PROMPT, EQUAL, CONTRADICTED, *PAIR_DROPS)
HH_TURN = re.compile(r"\n\n(Human|Assistant):")
HH_ANSWER = "\n\nAssistant:"
HH_ROLES = {"Human": "user", "Assistant": "assistant"}


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a preference pair."""
    if "messages" in entry and "chosen" not in entry:
        return False  # ms-swift's
    keys = {ANSWER_NAMES.get(key, key) for key in entry}
    return {"chosen", "rejected"} <= keys and not isinstance(entry.get("chosen"), dict)


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, pairs are read one way
) -> Iterator[Feedback]:
    """Two records per pair; empty answers and pairs that cannot be judged are counted."""
    for path in paths:
        for place, entry in read_entries(path):
            entry = {ANSWER_NAMES.get(key, key): value for key, value in entry.items()}
            tally.changed.update(f"key {key!r} is not used" for key in entry if key not in KEYS)
            pair = _with_scores(_pair_of(entry, place, tally), entry)
            if isinstance(pair, str):
                tally.dropped[pair] += 2
            else:
                yield from pair_records(pair, place, tally, source=NAME)


def _with_scores(pair: Pair | str, entry: Mapping[str, Any]) -> Pair | str:
    """The pair with its ratings and models; the reason where the ratings do not tell it so."""
    if isinstance(pair, str):
        return pair
    scores = [_beside(entry, SCORES, side) for side in ("chosen", "rejected")]
    models = [_beside(entry, MODELS, side) for side in ("chosen", "rejected")]
    if all(isinstance(score, int | float) for score in scores):
        if scores[0] == scores[1]:
            return EQUAL
        if scores[0] < scores[1]:
            return CONTRADICTED
    texts = [["" if one is None else str(one) for one in both] for both in (scores, models)]
    (chosen, rejected), (by, other_by) = texts
    return pair._replace(scores=(chosen, rejected), models=(by, other_by))


def _beside(entry: Mapping[str, Any], forms: Sequence[str], side: str) -> Any:
    """What stands beside an answer under one of the names that are in use."""
    found = (entry.get(form.format(side)) for form in forms)
    return next((one for one in found if one is not None), None)


def _pair_of(entry: Mapping[str, Any], place: str, tally: Tally) -> Pair | str:
    """The pair, or the reason why it is none."""
    chosen, rejected, prompt = (entry.get(key) for key in ("chosen", "rejected", "prompt"))
    asked = prompt if prompt is not None else _asked(entry, place)
    if asked and (prompt is None or "system" in entry) and _are_answers(chosen, rejected):
        return _chat_pair(asked, _system(entry, place), chosen, rejected)
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


def _system(entry: Mapping[str, Any], place: str) -> list[Message]:
    text = _text(entry, "system", place)
    return [{"role": "system", "content": text}] if text.strip() else []


def _asked(entry: Mapping[str, Any], place: str) -> str:
    """The prompt of a chat in columns: an instruction with its input, or a question."""
    key = next((key for key in ASKED if entry.get(key)), "")
    words = (_text(entry, key, place) if key else "", _text(entry, "input", place))
    return "\n".join(filter(None, words))


def _are_answers(chosen: object, rejected: object) -> bool:
    return isinstance(chosen, str | list) and type(chosen) is type(rejected)


def _chat_pair(asked: object, system: list[Message], chosen: Any, rejected: Any) -> Pair | str:
    """A pair in messages, whether its answers are texts, messages or whole chats."""
    if isinstance(chosen, str):
        prompt = asked if isinstance(asked, list) else [{"role": "user", "content": asked}]
        better, worse = ([{"role": "assistant", "content": text}] for text in (chosen, rejected))
        pair: Pair | str = Pair(prompt, better, worse)
    else:
        pair = _message_pair(asked, chosen, rejected)
    if isinstance(pair, str) or not isinstance(pair.prompt, list):
        return pair
    first = pair.prompt[0] if pair.prompt else None
    has_system = isinstance(first, dict) and first.get("role") == "system"
    return pair if has_system else pair._replace(prompt=[*system, *pair.prompt])


def _text(entry: Mapping[str, Any], key: str, place: str) -> str:
    text = entry.get(key)
    if not isinstance(text, str | None):
        raise FeedbackError(f'{place}: "{key}" must be text, but is {shown(text)}.')
    return text or ""


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
