"""From a raw vote to a label, for tools whose questions and scales their users define.

In: raw votes (text, numbers, booleans, emoji). Out: True, False, or None for a vote that says
neither. Three ways: the values named by --up and --down; a score against --threshold; or values
that are plainly good or bad. Knows no tool and no file.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import digest

PLAIN = {
    **dict.fromkeys(
        ("good", "yes", "like", "liked", "up", "thumbs_up", "thumbsup", "positive", "1", "true"),
        True,
    ),
    **dict.fromkeys(
        ("bad", "no", "dislike", "disliked", "down", "thumbs_down", "thumbsdown", "negative"),
        False,
    ),
    **dict.fromkeys(("0", "false"), False),
    "\N{THUMBS UP SIGN}": True,
    "\N{THUMBS DOWN SIGN}": False,
}
SKIN_TONES = dict.fromkeys([*range(0x1F3FB, 0x1F400), 0xFE0F])  # and the emoji variation selector
WORD_BREAKS = str.maketrans({" ": "_", "-": "_"})
RELATIVE = ("mean", "median", "per-prompt-mean")
NEITHER = "vote that is neither --up nor --down"
ON_THRESHOLD = "score that lies on the threshold"
SHOWN_VALUES = 12


class Vote(NamedTuple):
    """A raw vote; prompt: what was answered, which per-prompt-mean compares within.

    on_scale: it is so many stars, of which 1 is no thumbs-up.
    """

    value: object
    prompt: object = None
    on_scale: bool = False


class Judge:
    """Turns votes into labels the way the options say.

    Args:
        options: up, down, threshold.
        votes: reads all votes of the import once more: a mean needs all of them before the first
            label, and the error about an unknown value lists what there is.
        what: what the vote is called at its source, for errors: "question 'quality'".
    """

    def __init__(
        self, options: ImportOptions, votes: Callable[[], Iterable[Vote]], what: str
    ) -> None:
        self._votes, self._what = votes, what
        self._named = {plain_text(text): True for text in options.up}
        down = {plain_text(text): False for text in options.down}
        if both := self._named.keys() & down.keys():
            raise FeedbackError(f"--up and --down: both name {sorted(both)[0]!r}. Name it once.")
        self._named |= down
        self._names_both = bool(options.up and options.down)
        if self._named and options.threshold:
            raise FeedbackError("--threshold: goes without --up and --down. Give one or the other.")
        self._threshold = options.threshold
        self._overall: float | None = None
        self._per_prompt: dict[str, float] | None = None
        if options.threshold and options.threshold not in RELATIVE:
            self._overall = _number_of(options.threshold)
            if self._overall is None:
                allowed = f"a number, {', '.join(RELATIVE)}"
                raise FeedbackError(f"--threshold: is {options.threshold!r}. Allowed: {allowed}.")

    def label(self, vote: Vote, place: str, tally: Tally) -> bool | None:
        """The label; None, counted, where the vote says neither.

        Raises:
            FeedbackError: the vote is no value that can be judged.
        """
        if self._threshold:
            return self._compare(vote, place, tally)
        text = plain_text(vote.value)
        if self._named:
            if text in self._named:
                return self._named[text]
            if not self._names_both:
                raise self._unknown(vote, place)
            tally.dropped[NEITHER] += 1
            return None
        if text not in PLAIN or vote.on_scale:
            raise self._unknown(vote, place)
        return PLAIN[text]

    def _compare(self, vote: Vote, place: str, tally: Tally) -> bool | None:
        score = _number_of(vote.value)
        if score is None:
            finding = f"{self._what} is {shown(vote.value)}, no number to hold against --threshold"
            raise FeedbackError(f"{place}: {finding}. Name the votes with --up and --down.")
        if self._threshold not in RELATIVE:
            assert self._overall is not None
            return score >= self._overall
        limit = self._limit(vote.prompt)
        if math.isclose(score, limit, rel_tol=1e-9, abs_tol=1e-12):  # a mean is rounded
            tally.dropped[ON_THRESHOLD] += 1
            return None
        return score > limit

    def _limit(self, prompt: object) -> float:
        if self._threshold == "per-prompt-mean":
            if self._per_prompt is None:
                self._per_prompt = _means(self._votes())
            return self._per_prompt[digest(prompt)]
        if self._overall is None:
            numbers = [score for _, score in _scores(self._votes())]
            pick = statistics.fmean if self._threshold == "mean" else statistics.median
            self._overall = pick(numbers)
        return self._overall

    def _unknown(self, vote: Vote, place: str) -> FeedbackError:
        values = Counter(str(other.value).strip() for other in self._votes())
        found = ", ".join(f"{text} ({n})" for text, n in values.most_common(SHOWN_VALUES))
        more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
        finding = f"{self._what} is {shown(vote.value)}, which is not plainly good or bad"
        advice = "Say which are which: --up good --down bad, or for numbers --threshold 4"
        return FeedbackError(f"{place}: {finding}; the values found: {found}{more}. {advice}.")


def plain_text(value: object) -> str:
    """A vote as text to compare by: lower case, one form for 1, 1.0 and "1", no skin tone."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip().casefold().translate(SKIN_TONES).strip(":")
    sign = "-" if text[:1] == "-" and text[1:2].isdigit() else ""  # of a number
    return sign + text.removeprefix(sign).translate(WORD_BREAKS)


def _number_of(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None  # neither infinite nor nan


def _scores(votes: Iterable[Vote]) -> Iterable[tuple[Vote, float]]:
    for vote in votes:
        score = _number_of(vote.value)
        if score is not None:
            yield vote, score


def _means(votes: Iterable[Vote]) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    for vote, score in _scores(votes):
        total = sums.setdefault(digest(vote.prompt), [0.0, 0.0])
        total[0] += score
        total[1] += 1
    return {prompt: total / count for prompt, (total, count) in sums.items()}
