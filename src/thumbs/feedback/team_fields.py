"""Prompt and answer among fields that a team named itself, for tools where it does.

In: the fields of an item, and maybe which of them the user named. Out: messages. Knows no tool and
no file.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.messages import split_at_answer
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.provider_json import ROLES, parsed
from thumbs.feedback.rated import mapping
from thumbs.feedback.record import Message, keys_found

# The first of them that holds something counts.
CHATS = ("messages", "chat", "conversation", "dialogue", "dialog")  # maybe with the answer
PROMPTS = ("prompt", "instruction", "question", "query", "input", "user_message", *CHATS)
ANSWERS = (
    *("response", "completion", "answer", "output", "generation", "reply"),
    *("model_response", "model_output", "assistant_message"),
)
SYSTEMS = ("system", "system_prompt")
HISTORIES = ("history", "chat_history")
MODELS = ("model", "model_name", "model_id")
CONVERSATIONS = ("conversation_id", "session_id", "thread_id", "conversation", "session")
KNOWN = {*PROMPTS, *ANSWERS, *SYSTEMS, *HISTORIES, *MODELS, *CONVERSATIONS}

SPEAKERS = ("role", "from", "author", "speaker", "name")
WORDS = ("content", "value", "text", "phrase", "message")
EMPTY: tuple[object, ...] = (None, "", [])


class Names(NamedTuple):
    """Which fields hold the prompt and the answer; the first that holds something counts."""

    prompts: tuple[str, ...]
    answers: tuple[str, ...]


def names_of(options: ImportOptions) -> Names:
    """The fields that --map names, else those that usually hold them."""
    named = options.mapping
    prompts = (named["prompt"],) if "prompt" in named else PROMPTS
    return Names(prompts, (named["completion"],) if "completion" in named else ANSWERS)


def require_fields(keys: Iterable[str], names: Names, where: str, *, tool: str) -> None:
    """Refuse items none of which has a field for the prompt, or for the answer.

    A field of a whole chat holds both.

    Args:
        keys: those of the fields of all items.

    Raises:
        FeedbackError: there is none.
    """
    found = dict.fromkeys(keys)
    chats = CHATS if names.prompts == PROMPTS else names.prompts
    missing = [] if any(key in found for key in names.prompts) else ["prompt"]
    if not any(key in found for key in (*names.answers, *chats)):
        missing.append("answer")
    if not missing:
        return
    advice = f"Name the fields: --from {tool} --map prompt=FIELD --map completion=FIELD"
    finding = f"no field is known to hold the {' and the '.join(missing)}: {keys_found(found)}"
    raise FeedbackError(f"{where}: {finding}. {advice}.")


def sides_of(
    fields: Mapping[str, Any], names: Names, place: str
) -> tuple[list[Message], list[Message]]:
    """Prompt and answer; either is [] where its field is empty or not there.

    Raises:
        FeedbackError: a field is neither text nor a list of turns.
    """
    prompt = prompt_of(fields, names, place)
    key = _filled(fields, names.answers)
    if key:
        return prompt, turns_of(fields[key], "assistant", f"{place}: {key!r}")
    if _filled(fields, names.prompts) and prompt[-1:] and prompt[-1]["role"] != "user":
        return split_at_answer(prompt)
    return prompt, []


def prompt_of(fields: Mapping[str, Any], names: Names, place: str) -> list[Message]:
    """System prompt, history and the prompt itself; [] where there is none."""
    key = _filled(fields, names.prompts)
    if not key:
        return []
    words = fields[key]
    if key == "instruction" and isinstance(words, str) and isinstance(fields.get("input"), str):
        words = f"{words}\n{fields['input']}".strip()  # what Alpaca's instruction is about
    prompt = turns_of(words, "user", f"{place}: {key!r}")
    for keys, role in ((HISTORIES, "user"), (SYSTEMS, "system")):
        first = _filled(fields, keys)
        if first and first not in names.answers:
            prompt = turns_of(fields[first], role, f"{place}: {first!r}") + prompt
    return prompt


def turns_of(value: object, role: str, place: str) -> list[Message]:
    """Text as one message of `role`; a list of turns, also as JSON text, as messages.

    Text that holds other JSON is text: an answer may be JSON.

    Raises:
        FeedbackError: it is neither, or a turn has no known speaker.
    """
    held = parsed(value) if isinstance(value, str) else value
    if isinstance(held, list) and held and all(_speaker_key(turn) for turn in held):
        return [_turn(turn, f"{place}: message {i}") for i, turn in enumerate(held, start=1)]
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    allowed = 'text, or a list of turns like {"role": "user", "content": "..."}'
    raise FeedbackError(f"{place}: must be {allowed}, but is {shown(value)}.")


def detail_of(fields: Mapping[str, Any], keys: Iterable[str]) -> str:
    """The first of some details (model, conversation) that is text or a number, as text."""
    found = (fields.get(key) for key in keys)
    plain = (one for one in found if isinstance(one, str | int) and not isinstance(one, bool))
    return next((str(one) for one in plain if one != ""), "")


def count_unused(
    fields: Mapping[str, Any], used: Iterable[str], names: Names, tally: Tally
) -> None:
    """Count the fields that nothing is read from."""
    known = {*KNOWN, *names.prompts, *names.answers, *used}
    unused = (key for key, value in fields.items() if key not in known and value not in EMPTY)
    tally.changed.update(f"key {key!r} is not used" for key in unused)


def _filled(fields: Mapping[str, Any], keys: Iterable[str]) -> str:
    return next((key for key in keys if fields.get(key) not in EMPTY), "")


def _speaker_key(turn: object) -> str:
    found = mapping(turn)
    named = next((key for key in SPEAKERS if isinstance(found.get(key), str)), "")
    return named if any(key in found for key in WORDS) else ""


def _turn(turn: dict[str, Any], place: str) -> Message:
    key = _speaker_key(turn)
    role = ROLES.get(turn[key].strip().lower())
    if role is None:
        allowed = "user or human, assistant or bot, system, tool"
        raise FeedbackError(f"{place}: the speaker {shown(turn[key])} is none of {allowed}.")
    words = next(name for name in WORDS if name in turn)
    rest = {name: value for name, value in turn.items() if name not in (key, words)}
    return {**rest, "role": role, "content": turn[words]}
