"""Solutions as a careless person writes them, for the demo's pretraining data.

In: a problem and random numbers. Out: a text that ends in a wrong answer. What is wrong is the last
step: it is left out, or done with another operation. The arithmetic itself is right.
"""

import random

from thumbs.demo.task import Problem

LEFT_OUT_SHARE = 0.7  # of the solutions with two steps


def careless_solution(problem: Problem, rng: random.Random) -> str:
    """Return worked lines and a wrong answer to `problem`, in the form of its solution."""
    *lines, last = problem.worked.removesuffix(".").split(". ")
    left, op, right, _, _ = last.split()
    if lines and rng.random() < LEFT_OUT_SHARE:
        return _text(lines, left)
    mixed_up = "-" if op == "+" else "+"
    large, small = max(int(left), int(right)), min(int(left), int(right))
    result = large + small if mixed_up == "+" else large - small
    return _text([*lines, f"{large} {mixed_up} {small} = {result}"], str(result))


def _text(lines: list[str], answer: str) -> str:
    return " ".join([*(f"{line}." for line in lines), f"The answer is {answer}."])
