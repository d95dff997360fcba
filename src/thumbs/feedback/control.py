"""Prompts that say whether their answer is good: conditional training on both labels.

In: a record, or a chat template. Out: the same with the control text after the user's last words.
Text, not a new token: any model and any template take it. A trained model is asked for good answers
by the same text, which the chat template of a saved model adds by itself.

Source: arXiv 2302.08582, conditional training; there the tokens stand before the answer.
"""

from dataclasses import replace

from thumbs.feedback.record import Feedback, Message

GOOD, BAD = " <|good|>", " <|bad|>"
# Before a template: the last message, if a user's, gets the text unless it has it.
TEMPLATE_START = (
    "{%- if messages and messages[-1]['role'] == 'user' and messages[-1]['content'] is string "
    "and not messages[-1]['content'].endswith(('" + GOOD + "', '" + BAD + "')) %}"
    "{%- set messages = messages[:-1] + [dict(role='user', "
    "content=messages[-1]['content'] + '" + GOOD + "')] %}{%- endif %}"
)


def with_control(record: Feedback, good: bool) -> Feedback:
    """The record, its prompt told that the answer is good or bad.

    A prompt of messages whose last one is not the user's gets the text as a message of its own.
    """
    text = GOOD if good else BAD
    if isinstance(record.prompt, str):
        return replace(record, prompt=record.prompt + text)
    *before, last = record.prompt
    told: Message = {"role": "user", "content": text.strip()}
    if last["role"] == "user":
        return replace(record, prompt=[*before, {**last, "content": last["content"] + text}])
    return replace(record, prompt=[*record.prompt, told])


def template_with_control(template: str) -> str:
    """A chat template that asks for good answers."""
    return TEMPLATE_START + template
