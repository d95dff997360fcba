"""What people said of an item in an annotation tool, as records.

In: a person's votes on the questions of a team, what they wrote, the fields of the item. Out: a
record per vote on the chosen question; two for a ranking of answers; and for an answer that the
person wrote better, that one, desirable. Knows no tool and no file.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import EMPTY_ANSWER, Tally
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge, Vote
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.rated import LATER_VOTE, RECORD_DROPS, LastVotes, rated_record
from thumbs.feedback.record import Feedback, Message, digest
from thumbs.feedback.team_fields import (
    CONVERSATIONS,
    MODELS,
    Names,
    count_unused,
    detail_of,
    names_of,
    prompt_of,
    require_fields,
    sides_of,
    turns_of,
)

OTHER_QUESTION = "vote on another question"
WITHOUT_VOTE = "item without a vote on the question"
RANKED_BETWEEN = "answer that is neither first nor last of a ranking"
SAME_TEXT = "correction that changes nothing"
ANNOTATED_DROPS = (
    *(*RECORD_DROPS, OTHER_QUESTION, WITHOUT_VOTE, RANKED_BETWEEN, SAME_TEXT, LATER_VOTE),
    *(NEITHER, ON_THRESHOLD),
)
# Questions answered in words: what the name plainly says, spelt in lower case with "_".
CORRECTIONS = {
    *("correction", "corrected", "corrected_response", "corrected_answer", "corrected_completion"),
    *("improved_response", "improved_answer", "better_response", "better_answer"),
    *("edited_response", "edited_answer", "ideal_response", "ideal_answer", "rewritten_response"),
}
COMMENTS = {
    *("comment", "comments", "reason", "rationale", "explanation", "justification"),
    *("note", "notes", "remarks"),
}


class Ranking(NamedTuple):
    """A vote that compares answers. fields: those that hold them, the best one first."""

    fields: tuple[str, ...]


class Judgement(NamedTuple):
    """What a person said of an item.

    item: its id, "" where it has none. fields: by the team's own names. details: where model and
    conversation may stand. votes: by question. written: what was written, by question.
    """

    place: str
    item: str
    fields: Mapping[str, Any]
    details: Mapping[str, Any]
    votes: dict[str, object]
    written: dict[str, str]
    rater: str = ""
    time: str = ""


Read = Callable[[Tally], Iterator[Judgement]]


class Chosen(NamedTuple):
    """Which question is the vote, which fields hold what, and how a vote is judged."""

    question: str
    names: Names
    judge: Judge
    edits: bool
    source: str


def plain_name(question: str) -> str:
    """A question's name as CORRECTIONS and COMMENTS spell it."""
    return question.strip().lower().replace("-", "_").replace(" ", "_")


def annotated_records(
    read: Read, tally: Tally, options: ImportOptions, *, source: str, where: str, what: str
) -> Iterator[Feedback]:
    """The records of all judgements, which are read several times.

    Args:
        read: all judgements, what is left out counted in the tally given.
        source: the tool's name. where: its files, for errors. what: its word for a question.

    Raises:
        FeedbackError: there are several questions and none is chosen, a vote cannot be judged, or
            no field is known to hold the prompt or the answer.
    """
    chosen, last = _choose(read, options, source, where, what)
    for number, given in enumerate(read(tally)):
        votes = {name for name in given.votes if name != chosen.question}
        tally.dropped[OTHER_QUESTION] += len(votes)
        if not _says_something(given, chosen):
            tally.dropped[WITHOUT_VOTE] += not votes
            continue
        key = _key(given, number, chosen.names)
        if not last.is_last(key, (given.time, number), tally):
            continue
        yield from _records(given, chosen, tally)


def _choose(
    read: Read, options: ImportOptions, source: str, where: str, what: str
) -> tuple[Chosen, LastVotes]:
    names, last = names_of(options), LastVotes()
    questions: dict[str, None] = {}
    keys: dict[str, None] = {}
    ranked: set[str] = set()
    for given in read(Tally()):
        questions.update(dict.fromkeys(given.votes))
        keys.update(dict.fromkeys(given.fields))
        for vote in given.votes.values():
            ranked.update(vote.fields if isinstance(vote, Ranking) else ())
    question = _one_question(list(questions), options, where, what)
    require_fields([*keys, *(names.answers if ranked else ())], names, where, tool=source)

    def votes() -> Iterator[Vote]:
        for given in read(Tally()):
            vote = given.votes.get(question)
            if question in given.votes and not isinstance(vote, Ranking):
                yield Vote(vote, prompt_of(given.fields, names, given.place))

    judge = Judge(options, votes, f"{what} {question!r}")
    chosen = Chosen(question, names, judge, options.edits, source)
    for number, given in enumerate(read(Tally())):
        if _says_something(given, chosen):
            last.note(_key(given, number, names), (given.time, number))
    return chosen, last


def _one_question(names: list[str], options: ImportOptions, where: str, what: str) -> str:
    if options.score_name:
        if options.score_name not in names:
            finding = f"no {what} is called {options.score_name!r}"
            found = ", ".join(names) or "none"
            raise FeedbackError(f"{where}: --score-name: {finding}; found: {found}.")
        return options.score_name
    if len(names) > 1:
        finding = f"several {what}s: {', '.join(names)}"
        raise FeedbackError(f"{where}: {finding}. Choose the vote with --score-name.")
    return next(iter(names), "")


def _key(given: Judgement, number: int, names: Names) -> tuple[str, ...]:
    """Whose vote on what it is; one of an unknown person or item is like no other."""
    if not (given.item and given.rater):
        return (str(number),)
    # Numbers of items start anew on another server: what was judged is part of the name.
    sides = [given.fields.get(key) for key in (*names.prompts, *names.answers)]
    return given.item, given.rater, digest(repr(sides))


def _says_something(given: Judgement, chosen: Chosen) -> bool:
    return chosen.question in given.votes or bool(chosen.edits and _correction(given))


def _correction(given: Judgement) -> str:
    found = (text for name, text in given.written.items() if plain_name(name) in CORRECTIONS)
    return next((text for text in found if text.strip()), "")


def _records(given: Judgement, chosen: Chosen, tally: Tally) -> Iterator[Feedback]:
    vote = given.votes.get(chosen.question)
    if isinstance(vote, Ranking):
        yield from _ranked(given, vote, chosen, tally)
        return
    prompt, answer = sides_of(given.fields, chosen.names, given.place)
    count_unused(given.fields, (), chosen.names, tally)
    has_vote = chosen.question in given.votes
    if has_vote:
        on_scale = isinstance(vote, int | float) and not isinstance(vote, bool)
        asked = Vote(vote, prompt_of(given.fields, chosen.names, given.place), on_scale)
        label = chosen.judge.label(asked, given.place, tally)
        if label is not None:
            yield from _record(given, prompt, answer, label, tally, chosen.source, score=vote)
    correction = _correction(given) if chosen.edits else ""
    if not correction:
        return
    better = turns_of(correction, "assistant", given.place)
    if _text(better) == _text(answer):
        tally.dropped[SAME_TEXT] += 1
        return
    source = f"{chosen.source}:edit"
    yield from _record(given, prompt, better, True, tally, source)
    if not has_vote:
        yield from _record(given, prompt, answer, False, tally, source)


def _ranked(given: Judgement, vote: Ranking, chosen: Chosen, tally: Tally) -> Iterator[Feedback]:
    """The first answer is desirable, the last one undesirable."""
    prompt = prompt_of(given.fields, chosen.names, given.place)
    count_unused(given.fields, vote.fields, chosen.names, tally)
    tally.dropped[RANKED_BETWEEN] += len(vote.fields) - 2
    for field, label in ((vote.fields[0], True), (vote.fields[-1], False)):
        words = given.fields.get(field)
        if words in (None, ""):
            tally.dropped[EMPTY_ANSWER] += 1
            continue
        answer = turns_of(words, "assistant", f"{given.place}: {field!r}")
        score = " > ".join(vote.fields)
        yield from _record(given, prompt, answer, label, tally, chosen.source, score=score)


def _record(
    given: Judgement,
    prompt: list[Message],
    answer: list[Message],
    label: bool,
    tally: Tally,
    source: str,
    *,
    score: object = "",
) -> Iterator[Feedback]:
    comments = (text for name, text in given.written.items() if plain_name(name) in COMMENTS)
    details = {**given.fields, **given.details}
    record = rated_record(
        prompt,
        answer,
        label,
        given.place,
        tally,
        score=str(score).lower() if isinstance(score, bool) else score,
        conversation=detail_of(details, CONVERSATIONS),
        source=source,
        rater=given.rater,
        model=detail_of(details, MODELS),
        time=given.time,
        comment="\n".join(filter(None, comments)),
    )
    if record is not None:
        yield record


def _text(messages: list[Message]) -> str:
    return "\n".join(str(message.get("content")) for message in messages).strip()
