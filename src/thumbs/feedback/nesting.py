"""How deep JSON is nested, looked at as it is read: nesting without end would fill the memory.

In: an open file of JSON. Out: the same bytes, or an error as soon as they are nested too deeply.
Knows nothing of what the bytes mean.
"""

import re
from typing import IO

MOST_NESTED = 1_000  # as many as orjson reads of a line
WHOLE_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
STRING_END = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
OPENING, CLOSING = frozenset(b"[{"), frozenset(b"]}")


class TooDeep(ValueError):
    """More than MOST_NESTED lists and objects stand inside of each other."""


class Nesting:
    """A file to read from, whose brackets outside of strings are counted on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._depth = 0
        self._in_string = False
        self._escape = b""  # a backslash that ended the bytes read before

    def read(self, size: int = -1) -> bytes:
        """The next bytes.

        Raises:
            TooDeep: they are nested too deeply.
        """
        read = self._file.read(size)
        self._count(read)
        return read

    def _count(self, read: bytes) -> None:
        text = self._escape + read
        self._escape = b""
        if self._in_string:
            end = STRING_END.match(text)
            if end is None:
                self._stay_in_string(text)
                return
            self._in_string = False
            text = text[end.end() :]
        bare = WHOLE_STRING.sub(b"", text)
        bare, quote, rest = bare.partition(b'"')
        if quote:
            self._in_string = True
            self._stay_in_string(rest)
        opened = bare.count(b"[") + bare.count(b"{")
        if self._depth + opened > MOST_NESTED:  # perhaps: they may be closed in between
            depth = self._depth
            for byte in bare:
                depth += (byte in OPENING) - (byte in CLOSING)
                if depth > MOST_NESTED:
                    raise TooDeep(f"nested more than {MOST_NESTED:,} deep")
        self._depth += opened - bare.count(b"]") - bare.count(b"}")

    def _stay_in_string(self, text: bytes) -> None:
        backslashes = len(text) - len(text.rstrip(b"\\"))
        self._escape = b"\\" if backslashes % 2 else b""
