"""Work that ran out of memory is done again in smaller forwards.

In: work that takes a number of tokens per forward and leaves nothing half done. Out: its result,
and the number that fitted. How many tokens to begin with is the caller's to say.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

from thumbs.errors import OutOfMemory, ThumbsError
from thumbs.progress import console

# torch 2.13: c10/core/impl/alloc_cpu.cpp; what C++ and oneDNN say where a smaller buffer fails.
NO_MEMORY_ON_CPU = ("can't allocate memory", "std::bad_alloc", "could not create a memory object")

T = TypeVar("T")


@dataclass
class Budget:
    """Tokens of one forward, halved for good whenever memory runs out.

    name: what is halved, as a line tells it. changed: called with a new number once it fitted.
    """

    tokens: int
    name: str = "train.micro_batch_tokens"
    changed: Callable[[int], None] | None = None

    def spend(self, work: Callable[[int], T], *, what: str, longest: int) -> T:
        """`work(tokens)`, begun again with half the tokens each time memory runs out.

        what: the work, as a line tells it. longest: tokens of its longest sequence; once a forward
        holds no more than that one, a smaller number changes nothing and the error stands.
        """
        begun = self.tokens
        while True:
            try:
                result = work(self.tokens)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or self.tokens < longest:
                    raise
            else:
                if self.tokens < begun and self.changed is not None:
                    self.changed(self.tokens)
                return result
            # After the handler: until here the traceback held the tensors of the failed attempt.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            console.print(
                f"out of memory with {self.name}={self.tokens}: {what} is done again with "
                f"{self.tokens // 2}",
                soft_wrap=True,
            )
            self.tokens //= 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation was refused, by whatever allocator."""
    if isinstance(error, ThumbsError):
        return False
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in NO_MEMORY_ON_CPU)


@contextmanager
def whatever_the_forwards() -> Iterator[None]:
    """A block whose memory no smaller forward lessens.

    Raises:
        OutOfMemory: it did not fit.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            "the device has too little memory for the optimizer's state, whatever "
            "train.micro_batch_tokens is. Free some there, or begin anew with model.lora."
        ) from None
