"""The demo's exam: unseen problems answered before and after training, and the difference.

In: a loaded model and problems. Out: which answers are right, and how sure the difference is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thumbs.demo.pretrain import MAX_NEW_TOKENS, prompt_ids
from thumbs.demo.task import Problem, is_correct
from thumbs.models.generate import generate
from thumbs.models.load import LoadedModel

NUM_EXAMPLES = 5


@dataclass(frozen=True)
class Exam:
    """Answers of one model: sampled at temperature 1 with a fixed seed, and greedy."""

    sampled: list[str]
    sampled_correct: list[bool]
    greedy_correct: list[bool]


def take_exam(loaded: LoadedModel, problems: Sequence[Problem], *, seed: int) -> Exam:
    """Answer every problem twice: sampled and greedy. Same seed, same random numbers."""
    sampled, greedy = (
        loaded.tokenizer.batch_decode(
            answer_ids(loaded, problems, temperature=temperature, seed=seed),
            skip_special_tokens=True,
        )
        for temperature in (1.0, 0.0)
    )
    return Exam(
        sampled,
        [is_correct(p, a) for p, a in zip(problems, sampled, strict=True)],
        [is_correct(p, a) for p, a in zip(problems, greedy, strict=True)],
    )


def examples(before: Exam, after: Exam, problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """The first problems answered in other words after training, at most five."""
    changed = [i for i in range(len(problems)) if before.sampled[i] != after.sampled[i]]
    return [
        {
            "prompt": problems[i].question,
            "before": before.sampled[i],
            "after": after.sampled[i],
            "answer": str(problems[i].answer),
        }
        for i in changed[:NUM_EXAMPLES]
    ]


def answer_ids(
    loaded: LoadedModel, problems: Sequence[Problem], *, temperature: float, seed: int
) -> list[list[int]]:
    """The token ids of an answer to each problem."""
    return generate(
        loaded.model,
        loaded.tokenizer,
        [prompt_ids(loaded.tokenizer, problem) for problem in problems],
        max_new_tokens=MAX_NEW_TOKENS,
        temperature=temperature,
        seed=seed,
        batch_size=128,
    )
