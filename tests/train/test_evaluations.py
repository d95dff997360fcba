"""Which evaluation is the best, when there were enough, and when one is due."""

import pytest

from thumbs.train.evaluations import Standing, is_due


def after(*aucs: float | None) -> Standing:
    """The standing after evaluations at steps 10, 20, ..."""
    standing = Standing()
    for number, auc in enumerate(aucs, start=1):
        standing = standing.after(10 * number, auc)
    return standing


def test_the_best_is_the_first_of_the_highest() -> None:
    standing = after(0.5, 0.7, 0.6, 0.7)
    assert standing == Standing(evaluated=40, best_step=20, best_auc=0.7, since_best=2)


def test_a_better_one_starts_the_patience_anew() -> None:
    assert not after(0.5, 0.4).ends(2)
    assert after(0.5, 0.4, 0.5).ends(2)
    assert not after(0.5, 0.4, 0.6, 0.6).ends(2)
    assert after(0.5, 0.4, 0.6, 0.6, 0.6).ends(2)


def test_without_patience_nothing_ends() -> None:
    assert not after(*[0.9] * 100).ends(None)


def test_evaluations_without_an_auc_are_no_best_and_end_nothing() -> None:
    assert after(None, None, None) == Standing(evaluated=30, since_best=3)
    assert not after(None, None, None).ends(1)
    assert after(0.5, None).ends(1)


@pytest.mark.parametrize(
    ("evaluated", "step", "due"),
    [(0, 3, False), (0, 4, True), (4, 4, False), (4, 5, False), (4, 10, True), (10, 10, False)],
)
def test_one_is_due_every_so_many_steps_and_after_the_last(
    evaluated: int, step: int, due: bool
) -> None:
    assert is_due(Standing(evaluated), step, 10, 4) is due
    assert not is_due(Standing(evaluated), step, 10, None)
