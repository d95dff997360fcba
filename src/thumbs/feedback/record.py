"""One person's judgement of one answer, and the feedback file that holds many of them.

In: JSONL, JSONL.gz or Parquet. Out: `Feedback` records, one at a time. Knows no tool, no model.
"""

from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]  # {"role": ..., "content": ...} and whatever the chat template reads


@dataclass(frozen=True, slots=True)
class Feedback:
    """A completion for a prompt, and whether it was desirable.

    prompt, completion: both lists of messages, or both plain strings; the completion's first
        message is the assistant's.
    weight: multiplies the row's loss, >= 0.
    score: the raw rating as text, "" where there was none.
    id: default the content hash. conversation: thread id, default the hash of the first user message.
    time: "" or UTC like 2026-01-01T00:00:00.000000+00:00.
    tools, template_kwargs: JSON text, "null" where absent.
    """

    prompt: list[Message] | str
    completion: list[Message] | str
    label: bool
    weight: float = 1.0
    score: str = ""
    id: str = ""
    conversation: str = ""
    source: str = ""
    rater: str = ""
    model: str = ""
    time: str = ""
    comment: str = ""
    tools: str = "null"
    template_kwargs: str = "null"
