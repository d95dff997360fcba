"""Messages as other tools write them, in the form of a record; where an answer begins.

In: the message lists of an entry. Out: messages with the keys a chat template reads, their content
text, the arguments of tool calls objects. Knows no tool's own roles and no file.
"""

from typing import Any

import orjson

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.record import ABSENT_JSON, Message, Text

KEYS = ("role", "content", "name", "tool_calls", "tool_call_id")
ANSWER_ROLES = ("assistant", "tool")
TEXT_PARTS = ("text", "input_text", "output_text")

ENDS_BEFORE_ANSWER = "entry that ends before its answer"
NOT_THE_ASSISTANTS = "answer that is not the assistant's"
ENDS_IN_TOOL_RESULT = "answer that ends in a tool's result"
JOINED = "messages of one speaker in a row, made one message"
ANSWER_FAULTS = (ENDS_BEFORE_ANSWER, NOT_THE_ASSISTANTS, ENDS_IN_TOOL_RESULT)


def plain_messages(raw: object, place: str, tally: Tally) -> list[Message]:
    """The messages of a list: keys without use and attachments left out, counted.

    Content that is null becomes "", for the rules on empty answers to judge.

    Raises:
        FeedbackError: it is no list of mappings.
    """
    if not isinstance(raw, list):
        raise FeedbackError(f"{place}: must be a list of messages, but is {shown(raw)}.")
    return [
        _plain_message(message, f"{place}: message {number}", tally)
        for number, message in enumerate(raw, start=1)
    ]


def split_at_answer(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """Prompt and completion: the answer is all that follows the last message of a user.

    So tool calls, their results and the final words are one answer. Without a user's message it
    begins at the first one of the assistant.
    """
    roles = [message.get("role") for message in messages]
    if "user" in roles:
        start = len(roles) - roles[::-1].index("user")
    else:
        start = roles.index("assistant") if "assistant" in roles else len(roles)
    return messages[:start], messages[start:]


def joined_turns(messages: list[Message], tally: Tally) -> list[Message]:
    """Messages of text, those of one user or assistant in a row as one, counted."""
    joined: list[Message] = []
    for message in messages:
        role = message.get("role")
        if joined and joined[-1].get("role") == role and role in ("user", "assistant"):
            texts = filter(None, (joined[-1]["content"], message["content"]))
            joined[-1] = {**joined[-1], "content": "\n\n".join(texts)}
            tally.changed[JOINED] += 1
        else:
            joined.append(message)
    return joined


def fault_of_answer(completion: Text) -> str:
    """Why an answer in messages cannot be learned from, or ""; text has no such fault."""
    if isinstance(completion, str):
        return ""
    roles = [message.get("role") for message in completion if isinstance(message, dict)]
    if not roles:
        return ENDS_BEFORE_ANSWER
    if roles[0] != "assistant" or any(role not in ANSWER_ROLES for role in roles):
        return NOT_THE_ASSISTANTS
    return ENDS_IN_TOOL_RESULT if roles[-1] != "assistant" else ""


def tools_text(tools: object, place: str) -> str:
    """A list of tools, or JSON text of one, as JSON text; "null" where there are none."""
    value = tools
    if isinstance(tools, str):
        try:
            value = orjson.loads(tools.strip() or ABSENT_JSON)
        except orjson.JSONDecodeError as error:
            finding = f'"tools" must hold JSON, but is {shown(tools)} ({error})'
            raise FeedbackError(f"{place}: {finding}.") from None
    if not isinstance(value, list | None):
        raise FeedbackError(f'{place}: "tools" must be a list, but is {shown(tools)}.')
    try:
        return orjson.dumps(value).decode() if value else ABSENT_JSON
    except orjson.JSONEncodeError as error:  # half a character, or nested without end
        raise FeedbackError(f'{place}: "tools" hold what JSON cannot: {error}.') from None


def require_bool(entry: dict[str, Any], key: str, place: str) -> bool:
    """The judgement under `key`; 1, "true" and null are none.

    Raises:
        FeedbackError: it is not true or false.
    """
    value = entry[key]
    if not isinstance(value, bool):
        advice = "Write it without quotes; leave the row out if nobody judged it"
        finding = f'"{key}" must be true or false, but is {shown(value)}'
        raise FeedbackError(f"{place}: {finding}. {advice}.")
    return value


def _plain_message(message: object, place: str, tally: Tally) -> Message:
    if not isinstance(message, dict):
        finding = f'must be {{"role": ..., "content": ...}}, but is {shown(message)}'
        raise FeedbackError(f"{place}: {finding}.")
    given = {key: value for key, value in message.items() if value is not None}
    tally.changed.update(
        f"key {key!r} of a message is not used" for key in given if key not in KEYS
    )
    plain = {key: given[key] for key in KEYS if key in given}
    plain["content"] = _text_of(given.get("content", ""), tally)
    if not plain.get("tool_calls"):
        plain.pop("tool_calls", None)
    elif isinstance(plain["tool_calls"], list):
        plain["tool_calls"] = [_with_read_arguments(call) for call in plain["tool_calls"]]
    return plain


def _text_of(content: object, tally: Tally) -> object:
    """Content given in parts as one text; anything else as it is."""
    if not isinstance(content, list):
        return content
    texts = [_text_of_part(part) for part in content]
    tally.changed["attachment left out of a message"] += texts.count(None)
    return "\n".join(text for text in texts if text is not None)


def _text_of_part(part: object) -> str | None:
    if not isinstance(part, dict) or part.get("type") not in TEXT_PARTS:
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def _with_read_arguments(call: object) -> object:
    """A tool call whose arguments, if JSON text of an object, are that object.

    Templates write the arguments as JSON: text would come out quoted twice. LangChain's form
    ({"name", "args", "id"}) becomes the one templates read.
    """
    if not isinstance(call, dict):
        return call
    if "function" not in call and {"name", "args"} <= call.keys():
        rest = {"id": call["id"]} if call.get("id") else {}
        function = {"name": call["name"], "arguments": call["args"]}
        call = {**rest, "type": "function", "function": function}
    if isinstance(call.get("function"), dict):
        return {**call, "function": _with_read_arguments(call["function"])}
    arguments = call.get("arguments")
    if not isinstance(arguments, str):
        return call
    try:
        read = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return call
    return {**call, "arguments": read} if isinstance(read, dict) else call
