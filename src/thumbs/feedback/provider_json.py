"""Chat messages out of the JSON that model providers and frameworks write.

In: what a trace holds as a request or a response: chat completions and responses of OpenAI,
Anthropic's messages, Gemini's contents, LangChain's messages and generations, OpenInference's and
OpenTelemetry's messages, or plain text. JSON text is looked into where it holds messages; other
JSON is an answer's own text. Out: messages with roles system,
user, assistant and tool, or none where nothing of it is known. Knows no tool and no file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from thumbs.feedback.record import Message

ROLES = {
    **dict.fromkeys(("user", "human", "humanmessage", "humanmessagechunk"), "user"),
    **dict.fromkeys(("assistant", "ai", "model", "bot", "gpt", "chatbot"), "assistant"),
    **dict.fromkeys(("aimessage", "aimessagechunk"), "assistant"),
    **dict.fromkeys(("system", "developer", "systemmessage"), "system"),
    **dict.fromkeys(("tool", "function", "toolmessage", "functionmessage"), "tool"),
}
# Where a request or a response keeps its text, the more telling keys first.
QUESTION_KEYS = (
    "question",
    "query",
    "prompt",
    "input",
    "text",
    "content",
    "human_input",
    "message",
)
ANSWER_KEYS = (
    *("answer", "response", "output_text", "output", "completion", "text", "content"),
    *("result", "generated_text"),
)
# Keys under which lists of messages or choices stand.
WRAPPERS = {
    *("messages", "chat_history", "contents", "llm.input_messages", "llm.output_messages"),
    *("choices", "candidates", "generations", "kwargs"),
}
TEXT_PARTS = ("text", "input_text", "output_text")
CUT = "answer that was cut (finish_reason)"
CUT_REASONS = ("length", "max_tokens", "content_filter", "error")
DEEPEST = 12  # levels of wrapping looked through


def request_messages(value: object) -> list[Message]:
    """The conversation a request holds, system first; [] where there is none."""
    return _request(value, DEEPEST)


def response_messages(value: object) -> list[Message]:
    """The answer a response holds: the assistant's messages, or []."""
    found = _response(value, DEEPEST)
    return [message if "role" in message else {"role": "assistant", **message} for message in found]


def was_cut(response: object) -> bool:
    """Whether a response says that its answer ended before its end."""
    for _ in range(DEEPEST):
        response = parsed(response)
        if not isinstance(response, Mapping):
            return False
        reasons = (response.get(key) for key in ("finish_reason", "stop_reason", "finishReason"))
        if any(str(reason).lower() in CUT_REASONS for reason in reasons):
            return True
        inner = parsed(response.get("choices") or response.get("candidates"))
        if isinstance(inner, list) and inner:
            response = inner[0]
        elif len(response) == 1:
            response = next(iter(response.values()))
        else:
            return False
    return False


def _request(value: object, depth: int) -> list[Message]:
    value = _unwrapped(value)
    if depth == 0 or not value:
        return []
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, list):
        return _message_list(value, depth)
    if not isinstance(value, Mapping):
        return []
    system = _system_of(value)
    for key in ("messages", "chat_history", "contents", "llm.input_messages"):
        inner = parsed(value.get(key))
        if isinstance(inner, list) and inner:
            found = _message_list(inner, depth - 1)
            asked = value.get("input") or value.get("question")
            if key == "chat_history" and isinstance(asked, str):
                found = [*found, {"role": "user", "content": asked}]
            return system + found if found else []
    if "kwargs" in value or _role_of(value):
        return system + _message_list([value], depth - 1)
    for key in QUESTION_KEYS:
        if value.get(key):
            found = _request(value[key], depth - 1)
            return system + found if found else []
    if len(value) == 1:
        return _request(next(iter(value.values())), depth - 1)
    return []


def _response(value: object, depth: int) -> list[Message]:
    value = _unwrapped(value)
    if depth == 0 or not value:
        return []
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    if isinstance(value, list):
        return _answers_in(value, depth)
    if not isinstance(value, Mapping):
        return []
    for key in ("choices", "candidates", "generations", "llm.output_messages"):
        inner = parsed(value.get(key))
        if isinstance(inner, list) and inner:
            first = inner[0]
            return _answers_in(inner, depth - 1) if key.startswith("llm") else _choice(first, depth)
    if isinstance(value.get("messages"), list):
        return _answers_in(value["messages"], depth - 1)
    if "kwargs" in value or _role_of(value):
        return _answers_in([value], depth - 1)
    if isinstance(value.get("message"), Mapping):
        return _response(value["message"], depth - 1)
    for key in ANSWER_KEYS:
        if value.get(key):
            return _response(value[key], depth - 1)
    if len(value) == 1:
        return _response(next(iter(value.values())), depth - 1)
    return []


def _choice(choice: object, depth: int) -> list[Message]:
    if isinstance(choice, list):
        return _choice(choice[0], depth - 1) if choice and depth else []
    if isinstance(choice, Mapping) and isinstance(choice.get("message"), Mapping):
        found = _response(choice["message"], depth - 1)
        if found or not choice.get("text"):
            return found
    if isinstance(choice, Mapping) and isinstance(choice.get("content"), Mapping):
        return _response({"role": "assistant", **choice["content"]}, depth - 1)  # Gemini
    return _response(choice, depth - 1)


def _answers_in(items: Sequence[object], depth: int) -> list[Message]:
    """What follows the last message of a user; blocks of one answer are one message."""
    texts = [_text_of_part(item) for item in items]
    if any(text is not None for text in texts):
        text = "\n".join(text for text in texts if text is not None)
        return [{"role": "assistant", "content": text}]
    found = _message_list(items, depth)
    users = [i for i, message in enumerate(found) if message["role"] in ("user", "system")]
    return found[users[-1] + 1 :] if users else found


def _message_list(items: Sequence[object], depth: int) -> list[Message]:
    if depth and items and isinstance(items[0], list) and not _is_turn(items[0]):
        return _message_list(items[0], depth - 1)  # a batch of conversations: its first
    found = []
    for item in items:
        message = _message(item)
        if message is not None:
            found.append(message)
    return found


def _is_turn(item: Sequence[object]) -> bool:
    """Whether a list is a (role, text) pair."""
    pair = len(item) == 2 and all(isinstance(part, str) for part in item)
    return pair and str(item[0]).lower() in ROLES


def _message(item: object) -> Message | None:
    item = _unwrapped(item)
    if isinstance(item, str):
        return {"role": "user", "content": item}
    if isinstance(item, list) and _is_turn(item):
        return {"role": ROLES[str(item[0]).lower()], "content": item[1]}
    if not isinstance(item, Mapping):
        return None
    role = _role_of(item)
    inner = next(
        (item[key] for key in ("kwargs", "data") if isinstance(item.get(key), Mapping)), item
    )
    inner = item["message"] if isinstance(item.get("message"), Mapping) else inner
    if inner is not item:
        role = role or _role_of(inner)
    inner = {str(key).removeprefix("message."): value for key, value in inner.items()}
    if not role:
        return None
    if item.get("type") in ("function_call_output", "tool_result"):
        return {"role": "tool", "content": _content(item.get("output") or item.get("content"))}
    content = inner.get("content", inner.get("parts", inner.get("text", "")))
    message: Message = {"role": role, "content": _content(content)}
    for key in ("tool_calls", "tool_call_id", "name"):
        if inner.get(key):
            message[key] = inner[key]
    return message


def _role_of(item: Mapping[str, Any]) -> str:
    """system, user, assistant or tool; "" where the mapping is no message."""
    inner = item.get("kwargs") if isinstance(item.get("kwargs"), Mapping) else item
    inner = inner if isinstance(inner, Mapping) else {}
    names: list[object] = [inner.get(key) for key in ("role", "message.role", "type")]
    path = item.get("id")
    if isinstance(path, list) and path:
        names.append(path[-1])  # LangChain: ["langchain", "schema", "messages", "HumanMessage"]
    names.append(item.get("type") if inner is not item else None)
    for name in names:
        if isinstance(name, str) and name.lower() in ROLES:
            return ROLES[name.lower()]
    return ""


def _content(content: object) -> object:
    """Text parts as OpenAI writes them; the rest is for `plain_messages` to judge."""
    content = (
        parsed(content) if isinstance(content, str) and content[:2] in ("[{", "[ ") else content
    )
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        return "" if content is None else content
    texts = [_text_of_part(part) for part in content]
    return [
        {"type": "text", "text": text} if text is not None else part
        for part, text in zip(content, texts, strict=True)
    ]


def _text_of_part(part: object) -> str | None:
    if not isinstance(part, Mapping) or "role" in part or "kwargs" in part:
        return None
    part = {str(key).removeprefix("message_content."): value for key, value in part.items()}
    text = part.get("text", part.get("content"))
    if isinstance(text, str) and part.get("type", "text") in TEXT_PARTS:
        return text
    return None


def _system_of(value: Mapping[str, Any]) -> list[Message]:
    for key in ("system", "instructions", "system_instruction", "systemInstruction"):
        told = value.get(key)
        if isinstance(told, Mapping):
            told = told.get("parts", told.get("text"))
        if isinstance(told, list):
            told = "\n".join(filter(None, map(_text_of_part, told)))
        if isinstance(told, str) and told.strip():
            return [{"role": "system", "content": told}]
    return []


def _unwrapped(value: object) -> object:
    """A number as text; text that holds messages as JSON as these; else the value."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    held = parsed(value)
    return held if held is value or _holds_messages(held) else value


def _holds_messages(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(
            _is_turn(one) or _holds_messages(one)
            if isinstance(one, list)
            else isinstance(one, Mapping) and bool(_role_of(one) or "kwargs" in one)
            for one in value
        )
    if not isinstance(value, Mapping):
        return False
    return bool(value.keys() & WRAPPERS) or bool(_role_of(value) and "content" in value)


def parsed(value: object) -> object:
    """The JSON that text holds, if it is that of a list or an object; else the value."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value
