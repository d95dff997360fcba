"""Text of the data as it is shown to people: what would act on a screen is written out."""

import re

# Of the terminal, and of the direction of text, which could show another text than there is.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """`text`, its control characters but newline and tab written out.

    >>> visible("a\\u202eb")
    'a\\\\u202eb'
    """
    return CONTROL.sub(lambda sign: repr(sign.group())[1:-1], text)
