"""Preference pairs in ShareGPT form: WildFeedback's, LLaMA-Factory's for DPO.

In: {"conversations": [{"from", "value"}], "chosen": {"from", "value"}, "rejected": {...}}, maybe
"system". Out: two records per pair with the conversation as their prompt. Sources:
wildfeedback.json of microsoft/WildFeedback, as programs that train on it read it; LLaMA-Factory
data/README.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.pairs import PAIR_DROPS, Pair, pair_records
from thumbs.feedback.rated import mapping, sequence
from thumbs.feedback.record import Feedback, Message

NAME = "sharegpt-pairs"
READS = "conversations with chosen and rejected (WildFeedback, ShareGPT preferences)"
UNKNOWN_SPEAKER = "answer of a pair whose conversation has an unknown speaker"
KEYS = ("conversations", "chosen", "rejected", "system")
DROPS = (UNKNOWN_SPEAKER, *PAIR_DROPS)

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
ROLES |= {"system": "system", "chatgpt": "assistant", "bot": "assistant"}


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a pair."""
    pair = {"conversations", "chosen", "rejected"} <= entry.keys()
    return pair and isinstance(entry["chosen"], dict) and isinstance(entry["rejected"], dict)


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, pairs are read one way
) -> Iterator[Feedback]:
    """Two records per pair."""
    for path in paths:
        for place, entry in read_entries(path):
            tally.changed.update(f"key {key!r} is not used" for key in entry if key not in KEYS)
            raw = sequence(entry.get("conversations"))
            turns = [turn for turn in map(_turn, raw) if turn is not None]
            both = (_turn(entry.get(key)) for key in ("chosen", "rejected"))
            answers = [answer for answer in both if answer is not None]
            if len(turns) < max(1, len(raw)) or len(answers) < 2:
                tally.dropped[UNKNOWN_SPEAKER] += 2
                continue
            system = entry.get("system")
            if system is not None and not isinstance(system, str):
                raise FeedbackError(f'{place}: "system" must be text, but is {shown(system)}.')
            first: list[Any] = [{"role": "system", "content": system}] if system else []
            pair = Pair([*first, *turns], answers[:1], answers[1:])
            yield from pair_records(pair, place, tally, source=NAME)


def _turn(turn: object) -> Message | None:
    found = mapping(turn)
    role, text = ROLES.get(str(found.get("from")).lower()), found.get("value")
    return {"role": role, "content": text} if role and isinstance(text, str) else None
