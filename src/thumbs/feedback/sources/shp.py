"""Stanford's Human Preferences (SHP): two comments on a post, one of which people liked more.

In: {"post_id", "history", "human_ref_A", "human_ref_B", "labels", "score_A", "score_B"}. Out: two
records per pair; "labels" is 1 where A is preferred, 0 where B is. Sources: the dataset card
stanfordnlp/SHP; get_shp in HALOs' train/dataloader.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.pairs import PAIR_DROPS, Pair, pair_records
from thumbs.feedback.record import Feedback

NAME = "shp"
READS = "history, human_ref_A, human_ref_B; labels"
DROPS = PAIR_DROPS

TEXTS = ("history", "human_ref_A", "human_ref_B")


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a pair."""
    return {*TEXTS, "labels"} <= entry.keys()


def read(
    paths: Sequence[Path],
    tally: Tally,
    *,
    options: ImportOptions,  # noqa: ARG001, pairs are read one way
) -> Iterator[Feedback]:
    """Two records per pair.

    Raises:
        FeedbackError: a label is neither 1 nor 0, or a text is none.
    """
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        label, texts = entry.get("labels"), [entry.get(key) for key in TEXTS]
        if label not in (0, 1):
            raise FeedbackError(f'{place}: "labels" must be 1 or 0, but is {shown(label)}.')
        for key, text in zip(TEXTS, texts, strict=True):
            if not isinstance(text, str):
                raise FeedbackError(f'{place}: "{key}" must be text, but is {shown(text)}.')
        prompt = [{"role": "user", "content": texts[0]}]
        a, b = ([{"role": "assistant", "content": text}] for text in texts[1:])
        scores = tuple(str(entry.get(key, "")) for key in ("score_A", "score_B"))
        answers, scores = ((a, b), scores) if label else ((b, a), scores[::-1])
        pair = Pair(prompt, *answers, scores=(scores[0], scores[1]))
        post = entry.get("post_id")
        for record in pair_records(pair, place, tally, source=NAME):
            yield replace(record, conversation=post) if isinstance(post, str) and post else record
