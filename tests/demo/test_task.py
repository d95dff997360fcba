"""The demo's problems and their checker, by hand examples."""

import random
import re

import pytest

from thumbs.demo import task
from thumbs.demo.careless import careless_solution

TWO_STEPS = task.Problem("...", "14 + 27 - 5", "14 + 27 = 41. 41 - 5 = 36.", 36)


def test_a_solution_is_the_worked_lines_and_the_answer() -> None:
    assert TWO_STEPS.solution == "14 + 27 = 41. 41 - 5 = 36. The answer is 36."


@pytest.mark.parametrize(
    "completion",
    [
        "14 + 27 = 41. 41 - 5 = 36. The answer is 36.",
        "14 + 27 = 40. 40 - 5 = 35. The answer is 36.",  # wrong lines, right answer
        "The answer is 36",
        "The answer is 36. I hope this helps with your 41 marbles!",
        "The answer is 35. No, the answer is 36.",  # the last one counts
        "The answer is 36.0.",
    ],
)
def test_a_completion_with_the_right_final_answer_is_correct(completion: str) -> None:
    assert task.is_correct(TWO_STEPS, completion)


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "14 + 27 = 41. 41 - 5 = 36.",  # no answer stated
        "The answer is",
        "14 + 27 = 41. 41 - 5 = 36. The answer is 37.",
        "The answer is 36. No, the answer is 35.",
        "The answer is 360.",
        "The answer is 3.",
        "The answer is -36.",
        "The answer is 36.5.",
        "The answer is 3,6000.",
    ],
)
def test_any_other_completion_is_wrong(completion: str) -> None:
    assert not task.is_correct(TWO_STEPS, completion)


def test_digits_may_be_grouped_by_commas() -> None:
    problem = task.Problem("...", "700 + 500", "700 + 500 = 1200.", 1200)
    assert task.is_correct(problem, "The answer is 1,200.")


def test_every_worked_line_is_true_and_leads_to_the_answer() -> None:
    for problem in task.distinct_problems("pretraining", 500, seed=0):
        results: list[int] = []
        for line in problem.worked.rstrip(".").split(". "):
            left, right = line.split(" = ")
            a, op, b = left.split()
            assert not results or int(a) == results[-1]
            worked = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}
            worked["/"] = int(a) // int(b) if int(a) % int(b) == 0 else -1
            assert int(right) == worked[op]
            results.append(int(right))
        assert problem.answer == results[-1]
        assert task.is_correct(problem, problem.solution)


def test_the_question_tells_the_numbers_of_the_calculation_in_order() -> None:
    for problem in task.distinct_problems("test", 500, seed=0):
        told = re.findall(r"\d+", problem.question)
        assert told == re.findall(r"\d+", problem.calculation)
        assert problem.question.endswith("?")
        assert "{" not in problem.question


def test_all_operations_occur_alone_or_after_another() -> None:
    signs = {re.sub(r"[\d ]", "", p.calculation) for p in task.distinct_problems("log", 500, 0)}
    assert signs == set(task.OPERATIONS)


def test_the_same_seed_gives_the_same_problems() -> None:
    assert task.test_problems(50, seed=1) == task.test_problems(50, seed=1)
    assert task.test_problems(50, seed=1) != task.test_problems(50, seed=2)


def test_test_problems_are_distinct() -> None:
    assert len({problem.question for problem in task.test_problems(1500, seed=0)}) == 1500


def test_a_sum_and_its_exchange_belong_to_one_part() -> None:
    for a in range(3, 60):
        assert task.part_of("+", [a, 17]) == task.part_of("+", [17, a])
        assert task.part_of("*-", [a, 7, 5]) == task.part_of("*-", [7, a, 5])


def test_parts_never_share_a_calculation() -> None:
    parts: tuple[task.Part, ...] = ("pretraining", "log", "test")
    drawn = [{p.calculation for p in task.distinct_problems(part, 2000, 0)} for part in parts]
    assert not drawn[0] & drawn[1]
    assert not drawn[0] & drawn[2]
    assert not drawn[1] & drawn[2]


def test_a_prompt_is_one_message_of_the_user() -> None:
    assert task.prompt_messages(TWO_STEPS) == [{"role": "user", "content": "..."}]


@pytest.mark.parametrize(
    ("worked", "answer", "careless"),
    [
        ("14 + 27 = 41.", 41, {"27 - 14 = 13. The answer is 13."}),
        ("41 - 5 = 36.", 36, {"41 + 5 = 46. The answer is 46."}),
        (
            "14 + 28 = 42. 42 / 6 = 7.",
            7,
            {"14 + 28 = 42. The answer is 42.", "14 + 28 = 42. 42 + 6 = 48. The answer is 48."},
        ),
    ],
)
def test_a_careless_solution_leaves_out_or_mixes_up_the_last_step(
    worked: str, answer: int, careless: set[str]
) -> None:
    problem = task.Problem("...", "...", worked, answer)
    rng = random.Random(0)
    assert {careless_solution(problem, rng) for _ in range(50)} == careless


def test_a_careless_solution_is_wrong() -> None:
    rng = random.Random(0)
    for problem in task.distinct_problems("pretraining", 1000, seed=0):
        assert not task.is_correct(problem, careless_solution(problem, rng))
