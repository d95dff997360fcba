"""Which conversations are held out of training.

In: a conversation id, a seed, a fraction. Out: a bool that depends on nothing else, so new data
never moves old rows from one side to the other.
"""

import hashlib

NUM_BUCKETS = 2**64


def split_heldout(conversation: str, seed: int, fraction: float) -> bool:
    """Whether the conversation is held out: hash(seed, conversation) / 2^64 < fraction.

    The held-out set of a smaller fraction lies within that of a larger one.

    Raises:
        ValueError: fraction is outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie in [0, 1], but is {fraction}")
    digest = hashlib.sha256(f"{seed}:{conversation}".encode()).digest()
    return int.from_bytes(digest[:8]) < fraction * NUM_BUCKETS
