"""YAML as people write settings, read strictly: no key twice, no damaged text, no surprises.

In: a file, or the text of one value. Out: plain Python values. Knows no settings.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from thumbs.errors import ConfigError

# YAML raises ValueError for 2026-99-99, which looks like a date, and for numbers too long to read.
UNREADABLE = (yaml.YAMLError, ValueError, OverflowError, RecursionError)


def read_yaml(file: Path, *, advice: str) -> dict[str, Any]:
    """The mapping in a YAML file; {} where the file holds nothing.

    advice: what to do about a file that is missing or cannot be used.

    Raises:
        ConfigError: no such file, not UTF-8, not YAML, a key twice, or no mapping.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file. {advice}") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}). {advice}") from None
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
        raise ConfigError(f"{file}: is not UTF-8 text ({found}). {advice}") from None
    try:
        tree = parse_yaml(text)
    except UNREADABLE as error:
        raise ConfigError(f"{file}: is not readable YAML: {_reason(error)}. {advice}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        found = f"holds {type(tree).__name__}, but a mapping of keys is needed"
        raise ConfigError(f"{file}: {found}. {advice}")
    return tree


def parse_yaml(text: str) -> Any:
    """The value YAML text stands for.

    Raises:
        One of UNREADABLE: it is not YAML, holds a key twice, or what is no text.
    """
    return yaml.load(text, Loader=_Loader)


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key that stands twice, and reads 5e-6 as a number.

    YAML 1.1 wants 5.0e-6.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key, line = key_node.value, key_node.start_mark.line + 1
            if isinstance(key, str) and key in lines:
                raise yaml.YAMLError(f"the key {key!r} stands on line {lines[key]} and line {line}")
            lines[key if isinstance(key, str) else id(key_node)] = line
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if isinstance(text, str) and ("\0" in text or not _is_text(text)):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1} holds {text!r:.80}, no text")
        return text


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _is_text(text: str) -> bool:
    """Whether UTF-8 can hold it: half of a surrogate pair, written \\ud800, is no character."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).replace('in "<unicode string>", ', "").split())[:300].rstrip(".")
