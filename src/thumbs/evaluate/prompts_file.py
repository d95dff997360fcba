"""The prompts of a comparison, and answers that are ready: what the files hold.

In: JSON, JSON lines, CSV or Parquet. Out: distinct prompts with the target where the file has one;
answers by prompt. What is left out is counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError, shown
from thumbs.evaluate.judging import text_of
from thumbs.feedback.entries import read_entries
from thumbs.feedback.record import Text, is_blank, keys_found

REPEATED = "repeated prompt"
EMPTY = "empty prompt"
BEYOND = "answer of {} beyond --samples"
UNASKED = "answer of {} to a prompt that is not compared"
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
ALLOWED = (
    'allowed: "prompt" (text or messages) with "target" or "completion" if need be, "messages" '
    'that end in the target, "instruction" with "input", or "turns"'
)


@dataclass(frozen=True)
class PromptItem:
    """A prompt; target: the answer the file holds for it, None where it has none.

    place: where it stands, as an error tells it.
    """

    prompt: Text
    target: str | None = None
    place: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """What an answer in another file is found by."""
        return text_of(self.prompt).strip()


def read_prompts(
    path: Path, dropped: Counter[str], *, chat: bool, limit: int | None
) -> list[PromptItem]:
    """The distinct prompts of a file, in its order.

    Args:
        chat: make a prompt that is plain text the message of a user.
        limit: take no more than the first so many.

    Raises:
        FeedbackError: the file cannot be read, an entry has no prompt or one that no model could
            answer, or there is none at all.
    """
    items: dict[str, PromptItem] = {}
    for place, entry in read_entries(path):
        prompt, target = _prompt_of(entry, place)
        if is_blank(prompt):
            dropped[EMPTY] += 1
            continue
        if chat and isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        _require_roles(prompt, place)
        item = PromptItem(prompt, target, place)
        if item.name in items:
            dropped[REPEATED] += 1
            if items[item.name].target is None:  # a rated answer that was no target came first
                items[item.name] = item
        else:
            items[item.name] = item
    if not items:
        raise FeedbackError(f"{path}: holds no prompt; {ALLOWED}.")
    return list(items.values())[:limit]


def read_answers(
    path: Path,
    items: Sequence[PromptItem],
    samples: int,
    *,
    side: str,
    dropped: Counter[str],
) -> list[str]:
    """The ready answers to `samples` times each prompt, those to one prompt side by side.

    Args:
        side: whose they are, A or B. dropped: counts those that are not taken.

    Raises:
        FeedbackError: an entry without prompt or completion, or a prompt without enough answers.
    """
    found: dict[str, list[str]] = {}
    for place, entry in read_entries(path):
        if "completion" not in entry:
            raise FeedbackError(
                f'{place}: "completion" is missing; the keys found: {keys_found(entry)}. Ready '
                "answers are lines of prompt and completion."
            )
        prompt, _ = _prompt_of(entry, place)
        answer = _answer_of(entry["completion"], f'{place}: "completion"')
        found.setdefault(PromptItem(prompt).name, []).append(answer)
    lacking = [item for item in items if len(found.get(item.name, ())) < samples]
    if lacking:
        have = len(found.get(lacking[0].name, ()))
        others = f" (and too few to {len(lacking) - 1:,} more)" if lacking[1:] else ""
        raise FeedbackError(
            f"{path}: has {have} of {samples} answers to the prompt {lacking[0].name!r:.100}"
            f"{others}. Add them, or shorten the prompts file."
        )
    asked = {item.name for item in items}
    for name, answers in found.items():
        reason, num_taken = (BEYOND, samples) if name in asked else (UNASKED, 0)
        if len(answers) > num_taken:
            dropped[reason.format(side)] += len(answers) - num_taken
    return [found[item.name][number] for item in items for number in range(samples)]


def targets_of(path: Path, items: Sequence[PromptItem], samples: int) -> list[str]:
    """The target of each prompt, `samples` times.

    Raises:
        FeedbackError: a prompt has none.
    """
    lacking = [item for item in items if item.target is None]
    if lacking:
        others = f", nor have {len(lacking) - 1:,} more" if lacking[1:] else ""
        raise FeedbackError(
            f'{path}: the prompt {lacking[0].name!r:.100} has no "target"{others}. Add it to every '
            "line to compare with the target."
        )
    return [item.target or "" for item in items for _ in range(samples)]


def _prompt_of(entry: Mapping[str, Any], place: str) -> tuple[Text, str | None]:
    target = entry.get("target")
    if "prompt" in entry:
        prompt = entry["prompt"]
        if target is None and entry.get("label") is not False:  # no rated-down answer is a target
            target = entry.get("completion")
    elif isinstance(entry.get("messages"), list) and len(entry["messages"]) > 1:
        prompt = entry["messages"]
        if _is_message(prompt[-1]) and prompt[-1]["role"] == "assistant":
            *prompt, last = prompt
            target = [last] if target is None else target
    elif "instruction" in entry:
        prompt = "\n\n".join(str(entry[k]) for k in ("instruction", "input") if entry.get(k))
    elif isinstance(entry.get("turns"), list) and entry["turns"]:
        prompt = entry["turns"][0]
    else:
        raise FeedbackError(f"{place}: no prompt; the keys found: {keys_found(entry)}; {ALLOWED}.")
    checked = None if target is None else _answer_of(target, f"{place}: the target")
    return _checked(prompt, place), checked


def _require_roles(prompt: Text, place: str) -> None:
    if isinstance(prompt, str):
        return
    unknown = [turn["role"] for turn in prompt if turn["role"] not in ROLES]
    if unknown:
        raise FeedbackError(
            f"{place}: the prompt has the role {shown(unknown[0])}; allowed are {', '.join(ROLES)}."
        )
    if prompt[-1]["role"] == "assistant":
        raise FeedbackError(
            f"{place}: the prompt ends in the assistant's turn, which leaves nothing to answer. "
            "End it in a user's."
        )


def _checked(prompt: object, place: str) -> Text:
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and all(map(_is_message, prompt)):
        return [dict(message) for message in prompt]
    raise FeedbackError(f"{place}: the prompt must be text or messages, but is {shown(prompt)}.")


def _answer_of(found: object, place: str) -> str:
    if isinstance(found, str):
        return found.strip()
    if isinstance(found, list) and found and all(map(_is_message, found)):
        said = [m["content"] for m in found if m["role"] == "assistant"]
        return "\n\n".join(said).strip()
    raise FeedbackError(f"{place} must be text or messages, but is {shown(found)}.")


def _is_message(found: object) -> bool:
    return isinstance(found, dict) and all(
        isinstance(found.get(key), str) for key in ("role", "content")
    )
