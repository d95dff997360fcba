"""Text of the data in a CSV file that people open in a spreadsheet.

A cell that begins like a formula would be computed there, and what it computes can send data away.
Such text gets a ' before it, as spreadsheets write text; reading takes it off again.
"""

RISKY = "=+-@\t\r\n"  # first signs of what a spreadsheet takes for a formula, or skips to find one
MARK = "'"


def cell(text: str) -> str:
    """The text as a cell that no spreadsheet computes.

    >>> cell("=1+1"), cell("1+1"), cell("'=1")
    ("'=1+1", '1+1', "''=1")
    """
    return MARK + text if text[:1] and text[0] in RISKY + MARK else text


def text_of(found: str) -> str:
    """The text that `cell` was given.

    >>> text_of("'=1+1"), text_of("'tis")
    ('=1+1', "'tis")
    """
    is_marked = found[:1] == MARK and found[1:2] != "" and found[1] in RISKY + MARK
    return found[1:] if is_marked else found
