"""What is wrong with a configuration, in one line: which key, what was found, what is allowed.

In: pydantic's errors and the configuration's models. Out: text. Importable without torch.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, get_args

from pydantic import BaseModel, ValidationError

from thumbs.errors import shown


def explain(
    error: ValidationError, root: type[BaseModel], place: str, places: Mapping[str, str]
) -> str:
    """The first error in words; a value that fits none of several types has one error for each."""
    found = error.errors(include_url=False)
    first, path = found[0], _key_path(found[0]["loc"])
    key = ".".join(path)
    words = f"{key}." if path else first["msg"]  # keys that contradict each other: named there
    here = (at for k, at in places.items() if (words.startswith(f"{k}.") if path else k in words))
    place = next(here, place)
    if first["type"] == "extra_forbidden":
        return f"{place}: unknown key {key!r}; {_nearest(path, root)}"
    same = [part["msg"] for part in found if _key_path(part["loc"]) == path]
    message = same[0].removeprefix("Value error, ")
    message += "".join(", or " + part.removeprefix("Input should be ") for part in same[1:])
    if first["type"] == "model_type":
        message = f"must be a group of keys: {', '.join(_keys_below(path, root))}"
    elif first["type"] == "invalid_key":
        return f"{place}: unknown key {key!r}; {_nearest(path[:-1] or path, root)}"
    return (
        f"{place}: {key} is {shown(first['input'])}: {message}" if path else f"{place}: {message}"
    )


def _key_path(location: Sequence[int | str]) -> list[str]:
    """Where an error is, without the type that was tried."""
    return [str(part) for part in location if part not in ("float", "int", "literal['auto']")]


def _nearest(path: Sequence[str], root: type[BaseModel]) -> str:
    """The known key that looks like an unknown one, or those allowed in its place."""
    groups = root.model_fields if len(path) == 1 else ()
    known = [*_known_keys(root), *groups]
    leaf = difflib.get_close_matches(path[-1], [k.rsplit(".", 1)[-1] for k in known], n=1)
    same_leaf = [k for k in known if leaf and f".{k}".endswith("." + leaf[0])]
    near = same_leaf[:1] or difflib.get_close_matches(".".join(path), known, n=1, cutoff=0.8)
    if near:
        return f"the nearest known key is {near[0]!r}"
    group = ".".join(path[:-1])
    return f"allowed{f' in {group}' if group else ''}: {', '.join(_keys_below(path[:-1], root))}"


def _keys_below(path: Sequence[str], root: type[BaseModel]) -> list[str]:
    """The keys of a group, without the group's name."""
    prefix = "".join(f"{part}." for part in path)
    below = [k.removeprefix(prefix) for k in _known_keys(root) if k.startswith(prefix)]
    return list(dict.fromkeys(k.split(".")[0] for k in below))


def _known_keys(stage: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, info in stage.model_fields.items():
        kind = info.annotation
        kind = next((k for k in get_args(kind) if _is_group(k)), kind)
        if _is_group(kind):
            keys += _known_keys(kind, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def _is_group(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
