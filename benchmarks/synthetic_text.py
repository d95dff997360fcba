"""Preference pairs of made-up words, as long as those of hh-harmless.

In: a count and a seed. Out: lines of chosen and rejected transcripts, for machines without the
data. A word is one token of a byte-level BPE trained on these lines, but for rare ones.
"""

import json
import random
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

NUM_WORDS = 3_000
# Tokens under a BPE of 16,000 words (chatml) of the first 600 pairs of hh-harmless without an empty
# answer, both answers: means 122.8 and 43.9.
SHARES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
PROMPT_TOKENS = (13, 19, 25, 47, 74, 96, 122, 151, 189, 264, 339, 483, 858)
COMPLETION_TOKENS = (3, 9, 13, 18, 25, 31, 39, 50, 63, 95, 123, 193, 511)
PROMPT_FRAME = 8  # tokens of the template around a prompt of one message
COMPLETION_FRAME = 1  # the end of the turn
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


def pair_lines(num_pairs: int, seed: int) -> Iterator[str]:
    """JSON lines as hh-harmless has them; two answers per prompt, words by Zipf's law."""
    draw = random.Random(seed)
    words = _words(draw)
    weights = list(accumulate(1 / (rank + 2) for rank in range(len(words))))

    def text(quantiles: Sequence[int], frame: int) -> str:
        tokens = round(float(np.interp(draw.random(), SHARES, quantiles)))
        return " ".join(draw.choices(words, cum_weights=weights, k=max(1, tokens - frame)))

    for _ in range(num_pairs):
        opening = f"\n\nHuman: {text(PROMPT_TOKENS, PROMPT_FRAME)}\n\nAssistant:"
        answers = (text(COMPLETION_TOKENS, COMPLETION_FRAME) for _ in range(2))
        pair = {key: f"{opening} {next(answers)}" for key in ("chosen", "rejected")}
        yield json.dumps(pair) + "\n"


def _words(draw: random.Random) -> list[str]:
    """NUM_WORDS distinct words of two to four syllables."""
    found: dict[str, None] = {}
    while len(found) < NUM_WORDS:
        syllables = range(draw.randint(2, 4))
        found["".join(draw.choice(_CONSONANTS) + draw.choice(_VOWELS) for _ in syllables)] = None
    return list(found)
