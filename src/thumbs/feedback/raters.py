"""Who rated how, and whose votes look like no judgement at all.

In: the votes of every rater. Out: the most active raters, and those that always say the same where
the others' votes make that a surprise. Pure functions.

A rater whose n votes are all of one label is suspicious where the others give that label with share
q and q^n, the chance of it by drawing n of their votes, times the number of raters (so that among
many raters chance alone flags few) is below LEAST_CHANCE. Of q one vote of
either label is taken to have been seen already.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

LEAST_CHANCE = 0.01


@dataclass(frozen=True)
class RaterVotes:
    """desirable, undesirable: a rater's votes. suspicious: "", "always up" or "always down"."""

    rater: str
    desirable: int
    undesirable: int
    suspicious: str


def rated_by(votes: Mapping[str, tuple[int, int]]) -> list[RaterVotes]:
    """Every known rater, the one with most votes first.

    votes: (desirable, undesirable) by rater; votes without a rater under "", which is none but
    counts among the others.
    """
    total_up = sum(up for up, _ in votes.values())
    total_down = sum(down for _, down in votes.values())
    num_raters = len(votes.keys() - {""})
    found = []
    for rater, (up, down) in votes.items():
        if not rater:
            continue
        kind = ""
        if not up or not down:
            same, others = (up, total_up - up) if up else (down, total_down - down)
            num_others = total_up + total_down - up - down
            if _is_surprise(same, others, num_others, num_raters):
                kind = "always up" if up else "always down"
        found.append(RaterVotes(rater, up, down, kind))
    return sorted(found, key=lambda one: (-one.desirable - one.undesirable, one.rater))


def _is_surprise(same: int, others_same: int, num_others: int, num_raters: int) -> bool:
    if not num_others or others_same == num_others:
        return False
    share = (others_same + 1) / (num_others + 2)  # rule of succession: few others prove little
    chance = same * math.log(share) + math.log(num_raters)
    return chance < math.log(LEAST_CHANCE)
