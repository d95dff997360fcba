"""Every error a user can cause, each also the builtin it refines.

The text of an error names the place (file:line, record id or config key), what was found, what is
allowed and what to do; the command line prints it on one line and exits with `exit_code`.
"""

import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 4, 80, 80, 80


def shown(value: object) -> str:
    """What was found, as an error shows it: its repr, cut where it is long or deep.

    >>> shown("down"), shown([[[[[[]]]]]])
    ("'down'", '[[[[...]]]]')
    """
    return _SHORT.repr(value)[:120]


class ThumbsError(Exception):
    """A mistake in the user's input; never a bug of ours (those stay assertion errors)."""

    exit_code = 2


class ConfigError(ThumbsError, ValueError):
    """A configuration key, override or option that cannot be used."""


class FeedbackError(ThumbsError, ValueError):
    """A feedback file or export that cannot be read, or holds nothing to use.

    Its text is one line, whatever names of the data it tells.
    """

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(part.strip() for part in text.splitlines()))


class ModelError(ThumbsError, ValueError):
    """A model or tokenizer that cannot be loaded or cannot serve the data."""


class RunError(ThumbsError, ValueError):
    """A run folder that is in use, incomplete or not a run."""


class CheckpointError(ThumbsError, ValueError):
    """A checkpoint that is damaged or belongs to another run."""


class OutputError(ThumbsError, OSError):
    """A place that cannot be written to."""


class NonFiniteError(ThumbsError, ArithmeticError):
    """A loss or gradient that is not a finite number; the run stops before the update."""


class OutOfMemory(ThumbsError, MemoryError):
    """The device has too little memory; with smaller forwards the run can be resumed."""

    exit_code = 75


class Interrupted(ThumbsError):
    """The run was asked to stop and can be resumed."""

    exit_code = 75
