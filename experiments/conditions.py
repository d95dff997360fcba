"""Feedback files for the experiments: answers of a model, the checker's verdicts, and what is done
to them.

In: a condition, a seed. Out: the records of a feedback file. Answers are sampled once for a seed,
in blocks of problems, and kept; all conditions of a seed are built from the same answers. Knows no
loss.
"""

import dataclasses
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson
import torch

from thumbs.config import ModelConfig
from thumbs.demo.careless import careless_solution
from thumbs.demo.pretrain import MAX_NEW_TOKENS, prompt_ids
from thumbs.demo.task import Problem, distinct_problems, is_correct, problems, prompt_messages
from thumbs.feedback.record import Feedback
from thumbs.files import sha256_bytes, write_bytes
from thumbs.models.generate import generate
from thumbs.models.load import load_model

FAST = os.environ.get("FAST", "0") not in ("", "0")  # a smoke run: all small, none recorded
BLOCK = 16 if FAST else 160  # problems sampled at a time
ANSWERS = 4  # to each problem of a pool
MOST_BLOCKS = 8
VALIDATION_SHARE = 4  # one test problem in four tunes the rates; no exam has it


@dataclass(frozen=True)
class Condition:
    """What the votes are like.

    problems, answers: how many problems, and answers to each. flips: share of the labels that are
    turned round. desirable, undesirable: draw so many of each label from as many blocks as it
    takes, instead of `problems` and `answers`. form: "own", as the model writes, or "joined":
    off-policy answers in a form it has not seen, of which `desirable_share` are right.
    """

    problems: int = BLOCK
    answers: int = ANSWERS
    flips: float = 0.0
    desirable: int | None = None
    undesirable: int | None = None
    form: str = "own"
    desirable_share: float = 0.75

    def describe(self) -> dict[str, object]:
        """Its fields that differ from the plain condition."""
        plain = Condition()
        own = dataclasses.asdict(self)
        return {key: value for key, value in own.items() if value != getattr(plain, key)}


@dataclass(frozen=True)
class Answer:
    """An answer to problem number `problem`, and the checker's verdict."""

    problem: int
    text: str
    correct: bool


PoolReader = Callable[[int], list[Answer]]  # number of a block -> its answers


def records_of(condition: Condition, seed: int, block: PoolReader) -> list[Feedback]:
    """The records of a condition, in the order of the problems. block: reads or samples one."""
    rng = random.Random(f"condition:{seed}")
    if condition.form == "joined":
        answers = _in_joined_form(condition, seed, rng)
    elif condition.desirable is not None and condition.undesirable is not None:
        answers = _in_ratio(condition.desirable, condition.undesirable, block, rng)
    else:
        pool = [answer for i in range(blocks_of(condition.problems)) for answer in block(i)]
        answers = first_answers(pool, condition.problems, condition.answers)
    labels = flipped([answer.correct for answer in answers], condition.flips, rng)
    asked = pool_problems(blocks_of(1 + max(answer.problem for answer in answers)), seed)
    return [
        Feedback(
            prompt=prompt_messages(asked[answer.problem]),
            completion=[{"role": "assistant", "content": answer.text}],
            label=label,
        )
        for answer, label in zip(answers, labels, strict=True)
    ]


def first_answers(pool: Sequence[Answer], num_problems: int, per_problem: int) -> list[Answer]:
    """The first `per_problem` answers to each of the first `num_problems` problems."""
    seen: dict[int, int] = {}
    kept = []
    for answer in pool:
        seen[answer.problem] = seen.get(answer.problem, 0) + 1
        if answer.problem < num_problems and seen[answer.problem] <= per_problem:
            kept.append(answer)
    return kept


def flipped(labels: Sequence[bool], share: float, rng: random.Random) -> list[bool]:
    """`labels` with exactly round(share * n) of them turned round."""
    turned = set(rng.sample(range(len(labels)), round(share * len(labels))))
    return [label != (i in turned) for i, label in enumerate(labels)]


def _in_ratio(
    desirable: int, undesirable: int, block: PoolReader, rng: random.Random
) -> list[Answer]:
    """So many right and wrong answers, drawn from the fewest blocks that have them."""
    pool: list[Answer] = []
    for i in range(MOST_BLOCKS):
        pool += block(i)
        right = [answer for answer in pool if answer.correct]
        wrong = [answer for answer in pool if not answer.correct]
        if len(right) >= desirable and len(wrong) >= undesirable:
            chosen = rng.sample(right, desirable) + rng.sample(wrong, undesirable)
            return sorted(chosen, key=lambda answer: answer.problem)
    raise ValueError(f"{MOST_BLOCKS} blocks hold {len(right)} right and {len(wrong)} wrong answers")


def _in_joined_form(condition: Condition, seed: int, rng: random.Random) -> list[Answer]:
    """Answers in another form than the model's: one sentence."""
    asked = pool_problems(blocks_of(condition.problems), seed)
    num = condition.problems * condition.answers
    right = set(rng.sample(range(num), round(condition.desirable_share * num)))
    answers = []
    for i in range(num):
        problem = asked[i // condition.answers]
        text = problem.solution if i in right else careless_solution(problem, rng)
        answers.append(Answer(i // condition.answers, joined_form(text), is_correct(problem, text)))
    return answers


def joined_form(solution: str) -> str:
    """A worked solution as one sentence; the model has not seen that, the order is its own.

    >>> joined_form("14 + 27 = 41. 41 - 5 = 36. The answer is 36.")
    '14 + 27 = 41 and 41 - 5 = 36 so the answer is 36.'
    """
    *lines, last = solution.split(". ")
    return f"{' and '.join(lines)} so {last[0].lower()}{last[1:]}"


def blocks_of(num_problems: int) -> int:
    """How many blocks hold so many problems."""
    return -(-num_problems // BLOCK)


def pool_reader(folder: Path, model: str, seed: int) -> PoolReader:
    """Reads blocks of answers that `model` (a folder) samples; samples those that are not there."""

    def block(number: int) -> list[Answer]:
        file = folder / f"{sha256_bytes(model.encode())[:8]}-{seed}-{number}.json"
        if not file.is_file():
            answers = _sample_block(model, seed, number)
            write_bytes(file, orjson.dumps([dataclasses.astuple(answer) for answer in answers]))
        return [Answer(*entry) for entry in orjson.loads(file.read_bytes())]

    return block


def _sample_block(model: str, seed: int, number: int) -> list[Answer]:
    loaded = load_model(
        ModelConfig(name_or_path=model, dtype="float32"), device=torch.device("cpu")
    )
    drawn = pool_problems(number + 1, seed)
    asked = [i for i in range(number * BLOCK, (number + 1) * BLOCK) for _ in range(ANSWERS)]
    ids = generate(
        loaded.model,
        loaded.tokenizer,
        [prompt_ids(loaded.tokenizer, drawn[i]) for i in asked],
        max_new_tokens=MAX_NEW_TOKENS,
        seed=1_000_000 + 1_000 * seed + number,  # no exam's random numbers
        batch_size=320,
    )
    texts = loaded.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [
        Answer(i, text, is_correct(drawn[i], text)) for i, text in zip(asked, texts, strict=True)
    ]


@cache
def pool_problems(num_blocks: int, seed: int) -> list[Problem]:
    """The problems of the first blocks of a seed; none is met in an exam."""
    return distinct_problems("log", BLOCK * num_blocks, 1_000 + seed)


@cache
def exam_problems(num: int, seed: int, *, validation: bool) -> list[Problem]:
    """Unseen problems; those that tune the rates are never those that are reported."""
    found: dict[str, Problem] = {}
    for problem in problems("test", 2_000 + seed):
        if is_validation(problem) == validation:
            found.setdefault(problem.calculation, problem)
        if len(found) == num:
            break
    return list(found.values())


def is_validation(problem: Problem) -> bool:
    """Whether a test problem belongs to the validation split, by the signs of its calculation.

    Their order does not count, so a + b and b + a are on one side.
    """
    signs = "".join(sorted(problem.calculation))
    return int(sha256_bytes(signs.encode())[:8], 16) % VALIDATION_SHARE == 0
