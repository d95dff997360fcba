"""Preference pairs of ms-swift: a chat, and another answer that was rejected.

In: {"messages": [...], "rejected_response": text} or {"messages", "rejected_messages": [...]},
maybe with "tools". Out: two records per pair: the answer that the messages end in is desirable, the
rejected one undesirable. Source: ms-swift docs/source_en/Customization/Custom-dataset.md. Its KTO
rows, `messages` with `label`, are read by llamafactory.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.messages import plain_messages, split_at_answer, tools_text
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.pairs import PAIR_DROPS, Pair, pair_records
from thumbs.feedback.record import Feedback, Message

NAME = "ms-swift-pairs"
READS = "messages with rejected_response or rejected_messages"
UNJUDGED = "entry without a judgement"
WITH_MEDIA = "entry with images, videos or audio"
DROPS = (UNJUDGED, WITH_MEDIA, *PAIR_DROPS)

REJECTED = ("rejected_response", "rejected_messages")
MEDIA_KEYS = ("images", "videos", "audios")
KEYS = ("messages", "tools", *REJECTED, *MEDIA_KEYS)


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a pair."""
    return "messages" in entry and "label" not in entry and any(key in entry for key in REJECTED)


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, pairs are read one way
) -> Iterator[Feedback]:
    """Two records per pair; rows with one answer only hold no judgement, and are counted."""
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        tally.changed.update(f"key {key!r} is not used" for key in entry if key not in KEYS)
        rejected_key = next((key for key in REJECTED if entry.get(key)), "")
        if not rejected_key:
            tally.dropped[UNJUDGED] += 1
        elif any(entry.get(key) for key in MEDIA_KEYS):
            tally.dropped[WITH_MEDIA] += 2
        else:
            yield from _pair(entry, rejected_key, place, tally)


def _pair(
    entry: Mapping[str, Any], rejected_key: str, place: str, tally: Tally
) -> Iterator[Feedback]:
    messages = plain_messages(entry.get("messages"), f'{place}: "messages"', tally)
    prompt, chosen = split_at_answer(messages)
    rejected: list[Message] = [{"role": "assistant", "content": entry[rejected_key]}]
    if not isinstance(entry[rejected_key], str):
        given = plain_messages(entry[rejected_key], f'{place}: "{rejected_key}"', tally)
        _, rejected = split_at_answer(given)  # the whole chat once more, or the answer alone
    tools = tools_text(entry.get("tools"), place)
    yield from pair_records(Pair(prompt, chosen, rejected, tools=tools), place, tally, source=NAME)
