"""What a user did wrong on the command line, in one line on stderr."""

import difflib
import errno
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError

from thumbs.errors import ConfigError

Choice = TypeVar("Choice", bound=str)

# Typer's own refusals; older versions take the class from click, newer ones have a copy of it.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
LONGEST_LINE = 1_200  # characters of an error
INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt
# What a machine says when it is full or its files are out of reach: no bug of ours.
MACHINE_SAYS_NO = {
    *(errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ELOOP, errno.EMFILE, errno.ENFILE),
    *(errno.ENAMETOOLONG, errno.ENOSPC, errno.EPERM, errno.EROFS, errno.ESTALE),
}


def fail(text: str, code: int) -> NoReturn:
    if text:  # without arguments typer has shown the help already
        line = " ".join(part.strip() for part in text.splitlines())  # spaces stay: paths hold some
        if len(line) > LONGEST_LINE:  # somewhere a name is that long; what to do stands at the end
            line = f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 2 :]}"
        print(f"error: {line}", file=sys.stderr)
    sys.exit(code)


def require_text(arguments: Sequence[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            found = f"{argument!r}: is not UTF-8, so no report could name it"
            raise ConfigError(f"{found}. Rename the file, or correct the argument.") from None
        if "\0" in argument:
            raise ConfigError(f"{argument!r:.80}: holds a NUL character, which no name can hold")


def explain_usage(error: Any) -> str:
    """Typer's refusal in one line: verb, what was found, what is near or allowed."""
    context: Any = getattr(error, "ctx", None)
    place = context.command_path if context else "thumbs"
    known = sorted(name for p in (context.command.params if context else []) for name in p.opts)
    options = [name for name in known if name.startswith("-")]
    param, option = getattr(error, "param", None), getattr(error, "option_name", "")
    words = " ".join(error.format_message().split())
    if param is not None:
        name = param.opts[0] if param.param_type_name == "option" else param.name.upper()
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            found = cause.errors(include_url=False)[0]
            return f"{place}: {name} is {found['input']!r}: {found['msg']}. See {place} --help."
        return f"{place}: {name} {error.message or 'is missing'}. See {place} --help."
    if hasattr(error, "possibilities"):
        return f"{place}: {option} is no option of it; {near_or_allowed(option, options)}"
    if verb := re.match(r"No such command ['\"](.*?)['\"]\.(?: Did you mean|$)", words):
        verbs = context.command.list_commands(context)
        return f"{place}: {verb[1]!r} is no verb; {near_or_allowed(verb[1], verbs)}"
    return f"{place}: {words} See {place} --help." if words else ""


def near_or_allowed(found: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(found, known, n=1)
    return f"the nearest is {near[0]}" if near else f"allowed: {', '.join(known)}"


def one_of(option: str, given: str, allowed: Iterable[Choice]) -> Choice:
    """The one of `allowed` that was given.

    Raises:
        ConfigError: it is none of them.
    """
    for choice in allowed:
        if choice == given:
            return choice
    raise ConfigError(f"{option}: {given!r} is unknown; {near_or_allowed(given, list(allowed))}")


def mapping_of(pairs: Sequence[str]) -> dict[str, str]:
    """What --map says: keys of a record and their paths.

    Raises:
        ConfigError: a pair is none, or a key is given twice.
    """
    found = dict[str, str]()
    for pair in pairs:
        key, sign, path = pair.partition("=")
        if not sign or not key.strip() or not path.strip():
            raise ConfigError(f"--map {pair}: is not of the form prompt=path.to.field")
        if key.strip() in found:
            raise ConfigError(f"--map {pair}: {key.strip()} is given twice. Give it once.")
        found[key.strip()] = path.strip()
    return found
