"""Several votes on one answer: which of them stand.

In: records, in two passes over a temporary file. Out: those that stand, in their order, and how far
raters agree. An answer is a prompt with its completion. Memory: 33 bytes a record.

First `--votes` settles what raters say (`majority`: the label most raters gave, their own last vote
counting; `latest`: the last vote on the answer), then `--contradictions` what is left with both
labels (`majority`: the label of more records; `drop`: none of them). A tie leaves nothing.
"""

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from thumbs.feedback.agreement import Agreement, agreement
from thumbs.feedback.clean import Tally
from thumbs.feedback.record import Feedback, digest

Votes = Literal["majority", "all", "latest"]
Contradictions = Literal["keep", "majority", "drop"]
VOTES: tuple[Votes, ...] = ("majority", "all", "latest")
CONTRADICTIONS: tuple[Contradictions, ...] = ("keep", "majority", "drop")

MERGED = "vote that stands in another of its answer"
OUTVOTED = "vote that others on its answer outvote"
TIED = "vote on an answer whose votes are tied"
CONTRADICTORY = "record whose answer has both labels"
VOTE_DROPS = (MERGED, OUTVOTED, TIED, CONTRADICTORY)


@dataclass
class Ballot:
    """What a pass over the records leaves in memory of each: hashes, time and label."""

    answer: "array[int]" = field(default_factory=lambda: array("Q"))
    rater: "array[int]" = field(default_factory=lambda: array("Q"))
    time: "array[int]" = field(default_factory=lambda: array("q"))
    up: "array[int]" = field(default_factory=lambda: array("b"))

    def add(self, record: Feedback, answer: int | None = None) -> None:
        """Note a record; a vote without a rater is one rater's of its own.

        answer: its hash, where that is known.
        """
        number = len(self.answer)
        if answer is None:
            answer = _hash([record.prompt, record.completion])
        self.answer.append(answer)
        self.rater.append(_hash(record.rater) if record.rater else number)
        self.time.append(_microseconds(record.time))
        self.up.append(record.label)

    def agreement(self) -> Agreement:
        """Over all answers, each rater's last vote counting."""
        answer, up, down, _ = self._by_answer(self._last_of_raters())
        del answer
        return agreement(up, down)

    def verdicts(self, votes: Votes, contradictions: Contradictions) -> NDArray[np.int8]:
        """(n,) of every record the place of its reason in VERDICTS; 0: it stands."""
        verdict = np.zeros(len(self.answer), np.int8)
        if votes != "all":
            self._settle_votes(votes, verdict)
        if contradictions != "keep":
            self._settle_contradictions(contradictions, verdict)
        return verdict

    def _settle_votes(self, votes: Votes, verdict: NDArray[np.int8]) -> None:
        answer, up = np.asarray(self.answer), np.asarray(self.up, np.int64)
        order = np.lexsort((np.arange(len(answer)), np.asarray(self.time), answer))
        last = np.append(answer[order][1:] != answer[order][:-1], True)
        if votes == "latest":
            verdict[order[~last]] = VERDICTS.index(MERGED)
            return
        names, num_up, num_down, _ = self._by_answer(self._last_of_raters())
        place = np.searchsorted(names, answer)
        label = (num_up > num_down)[place]
        tied = (num_up == num_down)[place]
        verdict[up != label] = VERDICTS.index(OUTVOTED)
        agreeing = np.flatnonzero((up == label) & ~tied)
        _, first = np.unique(answer[agreeing], return_index=True)
        verdict[agreeing] = VERDICTS.index(MERGED)
        verdict[agreeing[first]] = 0
        verdict[tied] = VERDICTS.index(TIED)

    def _settle_contradictions(self, how: Contradictions, verdict: NDArray[np.int8]) -> None:
        kept = np.flatnonzero(verdict == 0)
        names, num_up, num_down, place = self._by_answer(kept)
        del names
        both = ((num_up > 0) & (num_down > 0))[place]
        if how == "drop":
            verdict[kept[both]] = VERDICTS.index(CONTRADICTORY)
            return
        up = np.asarray(self.up, bool)[kept]
        tied = (num_up == num_down)[place]
        verdict[kept[both & ~tied & (up != (num_up > num_down)[place])]] = VERDICTS.index(OUTVOTED)
        verdict[kept[both & tied]] = VERDICTS.index(TIED)

    def _last_of_raters(self) -> NDArray[np.int64]:
        """Places of the last vote of every rater on every answer."""
        answer, rater = np.asarray(self.answer), np.asarray(self.rater)
        order = np.lexsort((np.arange(len(answer)), np.asarray(self.time), rater, answer))
        same = (answer[order][1:] == answer[order][:-1]) & (rater[order][1:] == rater[order][:-1])
        return np.asarray(order[np.append(~same, True)] if len(order) else order, np.int64)

    def _by_answer(
        self, places: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The answers of some records, their votes for and against, and whose each record is."""
        answer = np.asarray(self.answer, np.uint64)[places]
        names, place = np.unique(answer, return_inverse=True)
        up = np.asarray(self.up, bool)[places]
        num_up = np.bincount(place[up], minlength=len(names))
        num_down = np.bincount(place[~up], minlength=len(names))
        return names, num_up, num_down, place


VERDICTS = ("", *VOTE_DROPS)


def settle(
    records: Iterable[Feedback],
    ballot: Ballot,
    tally: Tally,
    *,
    votes: Votes,
    contradictions: Contradictions,
) -> Iterator[Feedback]:
    """The records that stand; what does not is counted, and `ballot` knows every vote after."""
    if votes == "all" and contradictions == "keep":
        for record in records:
            ballot.add(record)
            yield record
        return
    with tempfile.TemporaryFile() as spool:
        for record in records:
            ballot.add(record)
            spool.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        spool.seek(0)
        verdicts = ballot.verdicts(votes, contradictions).tolist()
        for record, verdict in zip(_load(spool), verdicts, strict=True):
            if verdict:
                tally.dropped[VERDICTS[verdict]] += 1
            else:
                yield record


def _load(spool: IO[bytes]) -> Iterator[Feedback]:
    return (Feedback(**orjson.loads(line)) for line in spool)


def _hash(value: object) -> int:
    return int(digest(value), 16)


def _microseconds(time: str) -> int:
    if not time:
        return -(2**62)
    moment = datetime.fromisoformat(time)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
