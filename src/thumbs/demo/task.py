"""The demo's task: arithmetic word problems in plain English, and the checker of their answers.

In: a seed. Out: `Problem`s of one of three parts (pretraining, log, test). A problem belongs to a
part by the hash of its calculation, so no sum of the test is ever met in training, under any name
or wording. Knows no model and no tokenizer.
"""

import hashlib
import operator
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from thumbs.feedback.record import Message

Part = Literal["pretraining", "log", "test"]

# Of ten hash buckets; the calculations of the parts are disjoint by construction.
PART_OF_BUCKET: tuple[Part, ...] = ("test",) * 2 + ("log",) * 2 + ("pretraining",) * 6

# Read left to right: "+-" is (a + b) - c, worked in two lines.
OPERATIONS = ("+", "-", "++", "+-", "-+", "--", "*+", "*-", "+/", "-/")
APPLY: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
}
LARGEST_NUMBER = 50

SHE = "Mia Ada Lena Rosa Nora Ivy Zoe Hana Clara Tess Priya Maya June Ruth Elsa"
HE = "Tom Ben Leo Omar Sam Max Ravi Jack Noah Finn Hugo Karl Ivan Paul Dev"
THINGS = (
    "marbles apples stickers books coins shells pencils cards stamps cookies plums buttons beads "
    "eggs lemons tickets balloons roses candles photos nuts pears badges keys toys"
)
CONTAINERS = "boxes bags baskets jars trays drawers shelves crates"
PEOPLE = "friends children cousins neighbours classmates teams"

OPENINGS = (
    "{name} has {n} {things}.",
    "{name} starts the day with {n} {things}.",
    "{name} owns {n} {things}.",
    "In the morning {name} counts {n} {things}.",
)
GROUP_OPENINGS = (
    "{name} has {m} {containers} with {n} {things} each.",
    "{name} fills {m} {containers} with {n} {things} each.",
    "There are {m} {containers} in the room of {name}, each with {n} {things}.",
)
CLAUSES = {
    "+": (
        "{They} buys {n} more.",
        "{They} finds {n} more.",
        "{They} wins {n} more.",
        "A friend brings {n} more.",
        "Then {they} gets {n} more.",
    ),
    "-": (
        "{They} gives away {n} of them.",
        "{They} sells {n} of them.",
        "{They} loses {n} of them.",
        "A neighbour takes {n} of them.",
        "Then {they} uses {n} of them.",
    ),
    "/": (
        "{They} shares them equally among {n} {people}.",
        "{They} splits them evenly between {n} {people}.",
    ),
}
QUESTIONS = (
    "How many {things} does {name} have now?",
    "How many {things} are left in the end?",
    "How many {things} is that in the end?",
)
SHARE_QUESTIONS = (
    "How many {things} does each of the {people} get?",
    "How many {things} go to each of the {people}?",
)

# The last "answer is N" of a completion; digits may be grouped by commas, as people write them.
ANSWER = re.compile(r"answer is (-?\d[\d,]*(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Problem:
    """A word problem, e.g. calculation "14 + 27 - 5", worked "14 + 27 = 41. 41 - 5 = 36."."""

    question: str
    calculation: str
    worked: str
    answer: int

    @property
    def solution(self) -> str:
        """What a right completion says in full."""
        return f"{self.worked} The answer is {self.answer}."


def problems(part: Part, seed: int) -> Iterator[Problem]:
    """Yield the endless stream of problems of `part` that `seed` names; repeats can occur."""
    rng = random.Random(f"{part}:{seed}")
    while True:
        operations = rng.choice(OPERATIONS)
        numbers = _numbers(operations, rng)
        if part_of(operations, numbers) == part:
            yield _problem(operations, numbers, rng)


def distinct_problems(part: Part, n: int, seed: int) -> list[Problem]:
    """Return the first `n` problems of `part` whose calculations all differ."""
    found: dict[str, Problem] = {}
    for problem in problems(part, seed):
        if len(found) == n:
            break
        found.setdefault(problem.calculation, problem)
    return list(found.values())


def test_problems(n: int, seed: int) -> list[Problem]:
    """Return `n` problems that neither the embedded model nor the embedded log has ever met."""
    return distinct_problems("test", n, seed)


def prompt_messages(problem: Problem) -> list[Message]:
    """Return the conversation that asks `problem`."""
    return [{"role": "user", "content": problem.question}]


def is_correct(problem: Problem, completion: str) -> bool:
    """Whether the last "answer is N" of `completion` gives the problem's answer.

    Only the final answer counts, as in GSM8K: a wrong worked line before it is forgiven, text
    after it is ignored, and a completion that states no answer is wrong.
    """
    stated = ANSWER.findall(completion)
    return bool(stated) and float(stated[-1].replace(",", "")) == problem.answer


def part_of(operations: str, numbers: list[int]) -> Part:
    """Return the part a calculation belongs to; a + b and b + a are one calculation."""
    first = sorted(numbers[:2]) if operations[0] in "+*" else numbers[:2]
    digest = hashlib.sha256(_calculation(operations, first + numbers[2:]).encode()).digest()
    return PART_OF_BUCKET[int.from_bytes(digest[:8]) % len(PART_OF_BUCKET)]


def _calculation(operations: str, numbers: list[int]) -> str:
    rest = zip(operations, numbers[1:], strict=True)
    return " ".join([str(numbers[0]), *(f"{op} {number}" for op, number in rest)])


def _numbers(operations: str, rng: random.Random) -> list[int]:
    """Draw operands until every intermediate result is a whole number from 1 to the largest."""
    while True:
        small = operations[0] == "*"
        numbers = [rng.randint(3, 12) if small else rng.randint(3, LARGEST_NUMBER)]
        for op in operations:
            numbers.append(rng.randint(2, 9) if op in "*/" else rng.randint(2, LARGEST_NUMBER))
        if all(_is_askable(*step) for step in _steps(operations, numbers)):
            return numbers


def _steps(operations: str, numbers: list[int]) -> list[tuple[int, str, int, int]]:
    """Return (left, operation, right, result) of each worked line."""
    steps = []
    left = numbers[0]
    for op, right in zip(operations, numbers[1:], strict=True):
        result = APPLY[op](left, right)
        steps.append((left, op, right, result))
        left = result
    return steps


def _is_askable(left: int, op: str, right: int, result: int) -> bool:
    divides = op != "/" or left == right * result
    return divides and 1 <= result <= LARGEST_NUMBER


def _problem(operations: str, numbers: list[int], rng: random.Random) -> Problem:
    steps = _steps(operations, numbers)
    return Problem(
        question=_question(operations, numbers, rng),
        calculation=_calculation(operations, numbers),
        worked=" ".join(f"{left} {op} {right} = {result}." for left, op, right, result in steps),
        answer=steps[-1][3],
    )


def _question(operations: str, numbers: list[int], rng: random.Random) -> str:
    they = rng.choice(("she", "he"))
    words = {
        "name": _word(SHE if they == "she" else HE, rng),
        "they": they,
        "They": they.capitalize(),
        "things": _word(THINGS, rng),
        "containers": _word(CONTAINERS, rng),
        "people": _word(PEOPLE, rng),
    }
    if operations[0] == "*":
        opening = rng.choice(GROUP_OPENINGS).format(m=numbers[0], n=numbers[1], **words)
        told = 1
    else:
        opening = rng.choice(OPENINGS).format(n=numbers[0], **words)
        told = 0
    sentences = [opening]
    for op, number in zip(operations[told:], numbers[told + 1 :], strict=True):
        sentences.append(rng.choice(CLAUSES[op]).format(n=number, **words))
    asks = SHARE_QUESTIONS if operations[-1] == "/" else QUESTIONS
    return " ".join([*sentences, rng.choice(asks).format(**words)])


def _word(words: str, rng: random.Random) -> str:
    return rng.choice(words.split())
