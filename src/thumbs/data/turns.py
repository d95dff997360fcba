"""Where the assistant's turns lie in a rendered conversation, and which of its text is theirs.

In: messages, their rendering, a way to render again. Out: `Turn`s, as ranges of characters. Must
not know: prompts as the model is given them, token ids, lengths.

A "place" is where the content of a message lies in the rendered text. Templates trim, move and
wrap content, so it is found by rendering once more with invisible marks around the content.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from thumbs.data.templates import ChatTemplate, TemplateRefused
from thumbs.feedback.record import Message

TEMPLATE_TEXT_MASKED = "template_text_masked"  # the template wrote before the answer: no loss there
REASONING_STRIPPED = "reasoning_stripped"  # the template left out reasoning of the answer
CONTENT_LEFT_OUT = "content_left_out"  # the template left out what was said beside a tool call
TURN_END_APPENDED = "turn_end_appended"  # no special token ends the turn: eos is appended
TURN_END_UNKNOWN = "turn_end_unknown"  # an earlier turn: no loss behind its content

_FIRST_MARK = 0xF0000  # private use, plane 15: no text has these, and templates pass them on
_MARKS = re.compile(r"[\U000F0000-\U000F0FFF]")
# <think> is missing where the generation prompt holds it.
_EMPTY_REASONING = re.compile(r"\s*(?:<think>)?\s*</think>\s*")


@dataclass(frozen=True, slots=True)
class Writer:
    """How one record's messages become text, and the template they go through."""

    text_of: Callable[..., str]
    template: ChatTemplate


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message's content lies in the joint text; None where the template changed it."""

    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """The part of the joint text that the assistant writes in one turn; empty without loss."""

    start: int
    end: int
    append_eos: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Room:
    """The part of the joint text a turn lies in.

    is_exact: `limit` is where the turn's own text ends, not only where later content begins.
    """

    start: int
    limit: int
    is_exact: bool
    is_last: bool


def find_turns(
    messages: Sequence[Message],
    num_prompt: int,
    joint: str,
    places: Sequence[Place],
    split: int,
    writer: Writer,
) -> list[Turn]:
    """Cut every turn of the assistant after the first `num_prompt` messages out of `joint`.

    Args:
        places: of the messages after the prompt.
        split: where the first of these messages begins in `joint`.

    Raises:
        TemplateRefused: there is no such turn, or a tool call is missing in the text.
    """
    answers = [i for i in range(num_prompt, len(messages)) if messages[i]["role"] == "assistant"]
    if not answers:
        raise TemplateRefused("the completion has no message of the assistant")
    turns: list[Turn] = []
    for i in answers:
        place, later = places[i - num_prompt], places[i - num_prompt + 1 :]
        start = split
        if turns:
            before = writer.text_of(messages[:i], add_generation_prompt=True)
            start = _turn_start(joint, before, place, turns[-1].end)
        after = writer.text_of(messages[: i + 1]) if i + 1 < len(messages) else joint
        is_exact = joint.startswith(after)
        following = (later_place.start for later_place in later if later_place.start is not None)
        limit = len(after) if is_exact else next(following, len(joint))
        room = _Room(start, limit, is_exact, is_last=i == answers[-1])
        turns.append(_turn(joint, room, messages[i], place, writer.template))
    return turns


def find_places(
    messages: Sequence[Message], marked: Sequence[int], text: str, writer: Writer, **options: bool
) -> list[Place]:
    """Find the content of the messages numbered `marked` in `text`, their rendering."""
    pairs = {i: _mark_pair(i) for i in marked}
    again = writer.text_of(
        [_marked(m, *pairs[i]) if i in pairs else m for i, m in enumerate(messages)], **options
    )
    if _MARKS.sub("", again) != text:
        return [Place() for _ in marked]
    positions: dict[str, int] = {}
    for count, mark in enumerate(_MARKS.finditer(again)):
        positions[mark.group()] = mark.start() - count  # every mark is one character
    return [Place(positions.get(first), positions.get(last)) for first, last in pairs.values()]


def common_length(one: str, other: str) -> int:
    """The length of the longest common prefix of two texts."""
    if one.startswith(other):
        return len(other)
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))


def _marked(message: Message, first: str, last: str) -> Message:
    content = _content(message)
    if not (core := content.strip()):
        return message
    lead, _, trail = content.partition(core)
    return {**message, "content": f"{lead}{first}{core}{last}{trail}"}


def _mark_pair(index: int) -> tuple[str, str]:
    return chr(_FIRST_MARK + 2 * index), chr(_FIRST_MARK + 2 * index + 1)


def _turn_start(joint: str, before: str, place: Place, floor: int) -> int:
    """Where the assistant begins to write: after the generation prompt, if that is a prefix."""
    if joint.startswith(before):
        return len(before)
    return place.start if place.start is not None else max(floor, common_length(joint, before))


def _turn(joint: str, room: _Room, message: Message, place: Place, template: ChatTemplate) -> Turn:
    """The assistant's own text in the room: nothing the template inserts, nothing after its end."""
    text, calls = joint[room.start : room.limit], list(_called_names(message))
    if missing := next((name for name in calls if name not in text), None):
        raise TemplateRefused(
            f"the chat template leaves out the tool call {missing!r}: name one that writes tool "
            "calls with data.chat_template"
        )
    notes: list[str] = []
    own_start = _own_start(joint, room, message, place, calls)
    if own_start > room.start:
        notes.append(TEMPLATE_TEXT_MASKED)
    if (reasoning := _reasoning(message)) and reasoning not in text:
        notes.append(REASONING_STRIPPED)
    if calls and _content(message).rpartition("</think>")[2].strip() not in text:
        notes.append(CONTENT_LEFT_OUT)
    # Tool calls follow the content and may hold special tokens: only an end of turn ends them.
    has_known_end = place.end is not None and not calls
    anchor = max(place.end or own_start, own_start)
    ends = template.special if has_known_end else template.turn_end
    if found := ends.search(joint, anchor, room.limit):
        return Turn(own_start, found.end(), append_eos=False, notes=tuple(notes))
    if not room.is_exact:
        end = place.end if has_known_end and place.end is not None else own_start
        return Turn(own_start, end, append_eos=False, notes=(*notes, TURN_END_UNKNOWN))
    end = anchor + len(joint[anchor : room.limit].rstrip())
    specials = template.special.finditer(joint, own_start, end)
    append_eos = room.is_last and all(special.end() != end for special in specials)
    if append_eos:
        notes.append(TURN_END_APPENDED)
    return Turn(own_start, end, append_eos, tuple(notes))


def _own_start(
    joint: str, room: _Room, message: Message, place: Place, calls: Sequence[str]
) -> int:
    """Where the assistant's own text begins: after what the template writes ahead of it."""
    if place.start is None:
        empty = _EMPTY_REASONING.match(joint, room.start, room.limit)
        return empty.end() if empty else room.start
    ahead = joint[room.start : place.start]
    reasoning = _reasoning(message)
    is_own = not ahead.strip() or (reasoning and reasoning in ahead)
    if is_own or any(name in ahead for name in calls):
        return room.start
    return place.start


def _content(message: Message) -> str:
    """The content as text; "" where there is none, or none that can be searched."""
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _called_names(message: Message) -> Iterator[str]:
    for call in message.get("tool_calls") or []:
        function = call.get("function", call) if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str):
            yield name


def _reasoning(message: Message) -> str:
    """The reasoning of an answer, in a field of its own or at the head of its content."""
    for key in ("reasoning_content", "thinking", "reasoning"):
        if isinstance(text := message.get(key), str) and text.strip():
            return text.strip()
    content = _content(message)
    ahead, closed, _ = content.partition("</think>")
    return ahead.rpartition("<think>")[2].strip() if closed else ""
