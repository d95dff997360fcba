"""A judged answer as a record, and which of several votes on it is the last.

In: messages as a source read them, a label, what is known of the vote. Out: a record, or none with
the reason counted. Knows no tool and no file.
"""

from collections.abc import Hashable, Sequence
from typing import Any

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import EMPTY_SIDES, Tally, empty_side
from thumbs.feedback.messages import ANSWER_FAULTS, fault_of_answer, plain_messages
from thumbs.feedback.record import Feedback, Message, parse_record
from thumbs.feedback.utc import time_has_no_zone, utc_text

WITHOUT_PROMPT = "answer without a prompt"
TAKEN_BACK = "vote taken back"
LATER_VOTE = "vote with a later one on the same answer"
NAIVE_TIME = "time without a zone, taken as UTC"
# Why `rated_record` leaves an answer out, for every source that calls it.
RECORD_DROPS = (*EMPTY_SIDES, WITHOUT_PROMPT, *ANSWER_FAULTS)

Order = tuple[str, int]  # UTC text, number of the entry: the greater one is later


class LastVotes:
    """Which vote of a key (message and rater) is the last: note all of them first, then ask."""

    def __init__(self) -> None:
        self._last: dict[Hashable, Order] = {}

    def note(self, key: Hashable, order: Order) -> None:
        """A vote of `key` was met."""
        self._last[key] = max(order, self._last.get(key, order))

    def stands(self, key: Hashable, order: Order) -> bool:
        """Whether it is the last one."""
        return self._last[key] == order

    def is_last(self, key: Hashable, order: Order, tally: Tally) -> bool:
        """Whether it is the last one; others are counted."""
        if self.stands(key, order):
            return True
        tally.dropped[LATER_VOTE] += 1
        return False


def rated_record(
    prompt: object, completion: object, label: bool, place: str, tally: Tally, **rest: Any
) -> Feedback | None:
    """The record of a judged answer; None, counted, where there is nothing to learn from.

    Args:
        prompt, completion: lists of messages, or text, which becomes a user's and an assistant's.
        rest: further keys of `Feedback`; time as the source wrote it; None is "".

    Raises:
        FeedbackError: a message or the time is none.
    """
    asked = _messages(prompt, "user", f"{place}: prompt", tally)
    answer = _messages(completion, "assistant", f"{place}: answer", tally)
    fault = empty_side([{"content": "-"}], answer) or fault_of_answer(answer)
    if not fault:
        fault = empty_side(asked, answer) if asked else WITHOUT_PROMPT
    if fault:
        tally.dropped[fault] += 1
        return None
    texts = {
        key: "" if value is None else str(value) for key, value in rest.items() if key != "time"
    }
    entry = {"prompt": asked, "completion": answer, "label": label, **texts}
    entry["time"] = time_text(rest.get("time"), place, tally)
    return parse_record(entry, place)


def time_text(value: object, place: str, tally: Tally | None = None) -> str:
    """A time as records write it.

    Raises:
        FeedbackError: it is none.
    """
    try:
        if tally is not None and isinstance(value, str) and time_has_no_zone(value):
            tally.changed[NAIVE_TIME] += 1
        return utc_text(value)
    except ValueError:
        allowed = "Allowed: ISO 8601 text, or a count since 1970"
        raise FeedbackError(f"{place}: the time {value!r:.80} is none. {allowed}.") from None


def mapping(value: object) -> dict[str, Any]:
    """`value` if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> Sequence[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def _messages(side: object, role: str, place: str, tally: Tally) -> list[Message]:
    if isinstance(side, str):
        side = [{"role": role, "content": side}] if side.strip() else []
    return plain_messages(side, place, tally)
