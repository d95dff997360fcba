"""What a judge is asked and what it says: two answers to one prompt, which is better?

Knows no server, no model and no statistics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from thumbs.feedback.record import Text

Verdict = Literal["first", "second", "tie"]
VERDICTS: tuple[Verdict, ...] = ("first", "second", "tie")


@dataclass(frozen=True)
class Question:
    """What a judge sees: the prompt, and two answers in the order shown."""

    prompt: Text
    first: str
    second: str


@dataclass(frozen=True)
class Judgement:
    """verdict: None where there is none, and `reason` says why. reply: the judge's own words."""

    verdict: Verdict | None
    reason: str = ""
    reply: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Judge(Protocol):
    """name: for people and files. sees_order: whether the order of the answers could matter."""

    @property
    def name(self) -> str: ...
    @property
    def sees_order(self) -> bool: ...
    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        """A judgement per question, in their order."""
        ...


def text_of(prompt: Text) -> str:
    """A prompt as a judge reads it: the text, or the conversation with who speaks."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1 and prompt[0]["role"] == "user":
        return str(prompt[0]["content"])
    return "\n\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in prompt)
