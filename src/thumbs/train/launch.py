"""The processes that torchrun starts for one run: they join, and the first decides for all.

Rank 0 makes the run and speaks; the others read what it wrote, train along and write nothing.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed

from thumbs.train.ranks import ALONE, Ranks

# A rank may wait for all that rank 0 does alone, held-out numbers among it. Where one ends with an
# error, torchrun ends the others.
LONGEST_WAIT = timedelta(days=1)
Told = TypeVar("Told")


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """This process among those that torchrun started, in one group; alone where none did."""
    if torch.distributed.is_initialized():
        yield Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
        return
    if not torch.distributed.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=LONGEST_WAIT)
    try:
        yield Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    finally:
        torch.distributed.destroy_process_group()


def decided_by_first(choice: bool, ranks: Ranks) -> bool:
    """What rank 0 gave as `choice`; every rank calls this at the same place and waits for it."""
    return told_by_first(choice, ranks)


def told_by_first(value: Told, ranks: Ranks) -> Told:
    """What rank 0 gave as `value`, likewise."""
    if ranks.count == 1:
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


@contextmanager
def leading(ranks: Ranks) -> Iterator[Callable[[], None]]:
    """For rank 0: calling what this gives lets the others begin.

    A block that ends before has told its reason; the others then end without a word.
    """
    begun = False

    def begin() -> None:
        nonlocal begun
        begun = decided_by_first(True, ranks)

    try:
        yield begin
    finally:
        if not begun:
            decided_by_first(False, ranks)
