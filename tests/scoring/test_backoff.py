"""Work that runs out of memory is done again with half the tokens, if that can help."""

import pytest
import torch

from thumbs.errors import OutOfMemory, RunError
from thumbs.scoring.backoff import Budget, is_out_of_memory, whatever_the_forwards

CPU_SAYS = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."


def test_work_that_does_not_fit_is_begun_again_with_half_and_the_half_is_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tried: list[int] = []
    told: list[int] = []

    def work(tokens: int) -> str:
        tried.append(tokens)
        if tokens > 100:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 1 GiB")
        return f"fits in {tokens}"

    budget = Budget(300, changed=told.append)
    assert budget.spend(work, what="step 1", longest=10) == "fits in 75"
    assert (tried, told, budget.tokens) == ([300, 150, 75], [75], 75)
    assert capsys.readouterr().err.splitlines() == [
        "out of memory with train.micro_batch_tokens=300: step 1 is done again with 150",
        "out of memory with train.micro_batch_tokens=150: step 1 is done again with 75",
    ]
    budget.spend(work, what="step 2", longest=10)
    assert tried[3:] == [75]


def test_where_one_sequence_does_not_fit_the_error_stands() -> None:
    tried: list[int] = []

    def work(tokens: int) -> None:
        tried.append(tokens)
        raise RuntimeError(CPU_SAYS)

    with pytest.raises(RuntimeError, match="can't allocate"):
        Budget(40).spend(work, what="step 1", longest=15)
    assert tried == [40, 20, 10]  # at 10 a row of 15 goes alone, and so does every other


def test_other_errors_are_not_tried_again() -> None:
    tried: list[int] = []

    def work(tokens: int) -> None:
        tried.append(tokens)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Budget(40).spend(work, what="step 1", longest=1)
    assert tried == [40]


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError(CPU_SAYS), True),
        (RuntimeError("std::bad_alloc"), True),
        (MemoryError(), True),
        (RuntimeError("expected scalar type"), False),
        (OutOfMemory("a line for the user"), False),
        (RunError("no run"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory


def test_what_no_smaller_forward_lessens_is_a_line_of_its_own() -> None:
    with (
        pytest.raises(OutOfMemory, match=r"optimizer's state.*model\.lora"),
        whatever_the_forwards(),
    ):
        raise RuntimeError(CPU_SAYS)
    with pytest.raises(RuntimeError, match="shapes"), whatever_the_forwards():
        raise RuntimeError("shapes")
