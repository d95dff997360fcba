"""HumanEval's programs: what a model wrote, with the tests of its problem.

In: a document of HumanEval and the text that continues its prompt. Out: a program, and verdicts in
the form that lm-evaluation-harness's filters have.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from thumbs.evaluate.sandbox import run_programs


def program_of(document: Mapping[str, Any], completion: str) -> str:
    """The prompt, its continuation and the tests: it runs to its end if the solution is right."""
    checks = f"{document['test']}\ncheck({document['entry_point']})"
    return f"{document['prompt']}{completion}\n{checks}"


def run_completions(
    answers: Sequence[Sequence[str]], documents: Sequence[Mapping[str, Any]]
) -> list[list[str]]:
    """What ended each program, "" where it passed: a list per document, one entry per answer."""
    sizes = [len(some) for some in answers]
    verdicts = iter(
        run_programs(
            [
                program_of(document, answer)
                for some, document in zip(answers, documents, strict=True)
                for answer in some
            ]
        )
    )
    return [[next(verdicts).error for _ in range(size)] for size in sizes]


def pass_at_1(_document: Mapping[str, Any], results: Sequence[Sequence[str]]) -> dict[str, float]:
    """1 where the one answer passed."""
    return {"pass@1": float(results[0] == "")}
