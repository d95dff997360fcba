"""NVIDIA's HelpSteer sets: answers rated on several scales, or two held against each other.

In: HelpSteer and HelpSteer2, {"prompt", "response", "helpfulness", "correctness", "coherence",
"complexity", "verbosity"} with ratings from 0 to 4; HelpSteer2's preferences, {"prompt",
"response_1", "response_2", "preference_strength"}; HelpSteer3's, {"context": messages, "response1",
"response2", "overall_preference"}. Out: a record per answer whose rating --threshold places
(--score-name: another than helpfulness); two per preference, whose strength is from -3, the first
answer is much better, to 3; one of 0 is left out. Sources: the dataset cards nvidia/HelpSteer2 and
nvidia/HelpSteer3.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError, shown
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import read_entries
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge, Vote
from thumbs.feedback.messages import plain_messages
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.pairs import PAIR_DROPS, Pair, pair_records
from thumbs.feedback.rated import RECORD_DROPS, rated_record
from thumbs.feedback.record import Feedback, Message, keys_found

NAME = "helpsteer"
READS = "HelpSteer, HelpSteer2, HelpSteer3: a rating (--score-name) or a preference"
TIED = "answer of a pair without a preference"
WITHOUT_RATING = "answer without the rating"
DROPS = (*RECORD_DROPS, *PAIR_DROPS, TIED, WITHOUT_RATING, NEITHER, ON_THRESHOLD)

RATINGS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
PAIR_FORMS = (
    ("prompt", "response_1", "response_2", "preference_strength"),
    ("context", "response1", "response2", "overall_preference"),
)
STRONGEST = 3
TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")  # between the turns of a prompt
ROLES = {"User": "user", "Assistant": "assistant"}


class Rated(NamedTuple):
    """An answer with its ratings."""

    place: str
    prompt: list[Message]
    entry: Mapping[str, Any]


def detect(entry: Mapping[str, Any]) -> bool:
    """Whether the first entry of a file is a rated answer or a preference."""
    return _is_pair(entry) or {"prompt", "response", *RATINGS} <= entry.keys()


def read(paths: Sequence[Path], tally: Tally, *, options: ImportOptions) -> Iterator[Feedback]:
    """A record per rated answer, two per preference.

    Raises:
        FeedbackError: there are ratings and no threshold, a rating or a strength is none.
    """
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        if _is_pair(entry):
            yield from _pair(place, entry, tally)
    yield from _rated_records(paths, tally, options)


def _is_pair(entry: Mapping[str, Any]) -> bool:
    return any(set(form) <= entry.keys() for form in PAIR_FORMS)


def _pair(place: str, entry: Mapping[str, Any], tally: Tally) -> Iterator[Feedback]:
    asked, first, second, strength_key = next(f for f in PAIR_FORMS if set(f) <= entry.keys())
    strength = entry[strength_key]
    is_number = isinstance(strength, int | float) and not isinstance(strength, bool)
    if not is_number or not -STRONGEST <= strength <= STRONGEST:
        allowed = f"a number from {-STRONGEST} to {STRONGEST}"
        finding = f'"{strength_key}" must be {allowed}, but is {shown(strength)}'
        raise FeedbackError(f"{place}: {finding}.")
    if strength == 0:
        tally.dropped[TIED] += 2
        return
    prompt = _prompt(entry[asked], f'{place}: "{asked}"', tally)
    answers = [
        [{"role": "assistant", "content": _text(entry[key], f'{place}: "{key}"')}]
        for key in (first, second)
    ]
    better, worse = answers if strength < 0 else answers[::-1]
    pair = Pair(prompt, better, worse, scores=(str(strength), str(strength)))
    yield from pair_records(pair, place, tally, source=NAME)


def _rated_records(
    paths: Sequence[Path], tally: Tally, options: ImportOptions
) -> Iterator[Feedback]:
    name = options.score_name or RATINGS[0]
    if next(_rated(paths, Tally()), None) is None:
        return
    where = ", ".join(map(str, paths))
    if name not in RATINGS:
        found = f"no rating is called {name!r}; found: {', '.join(RATINGS)}"
        raise FeedbackError(f"{where}: --score-name: {found}.")
    if not (options.threshold or options.up or options.down):
        finding = "ratings from 0 to 4, which need a threshold"
        raise FeedbackError(f"{where}: {finding}. Give --threshold 3, mean or median.")

    def votes() -> Iterator[Vote]:
        rated = _rated(paths, Tally())
        return (Vote(one.entry[name], one.prompt) for one in rated if _has(one, name))

    judge = Judge(options, votes, f"rating {name!r}")
    for one in _rated(paths, tally):
        if not _has(one, name):
            tally.dropped[WITHOUT_RATING] += 1
            continue
        score = one.entry[name]
        label = judge.label(Vote(score, one.prompt), one.place, tally)
        if label is None:
            continue
        answer = _text(one.entry.get("response"), f'{one.place}: "response"')
        record = rated_record(one.prompt, answer, label, one.place, tally, score=score, source=NAME)
        if record is not None:
            yield record


def _rated(paths: Sequence[Path], tally: Tally) -> Iterator[Rated]:
    for place, entry in chain.from_iterable(map(read_entries, paths)):
        if _is_pair(entry):
            continue
        if "prompt" not in entry:
            raise FeedbackError(f'{place}: "prompt" is missing; found: {keys_found(entry)}.')
        yield Rated(place, _prompt(entry["prompt"], f'{place}: "prompt"', tally), entry)


def _has(one: Rated, name: str) -> bool:
    return one.entry.get(name) is not None


def _prompt(asked: object, place: str, tally: Tally) -> list[Message]:
    """Messages, or text whose turns are set apart by NVIDIA's markers."""
    if isinstance(asked, list):
        return plain_messages(asked, place, tally)
    first, *turns = TURN.split(_text(asked, place))
    messages: list[Message] = [{"role": "user", "content": first}]
    for speaker, words in zip(turns[::2], turns[1::2], strict=True):
        messages.append({"role": ROLES[speaker], "content": words})
    return messages


def _text(value: object, place: str) -> str:
    if not isinstance(value, str | None):
        raise FeedbackError(f"{place}: must be text, but is {shown(value)}.")
    return value or ""
