"""Write configuration.md and config.schema.json from the configuration models: `make docs`.

In: the pydantic models of thumbs.config, whose fields carry their descriptions. Out: one table of
keys, values and meanings per group; the JSON schema, for editors.
"""

import json
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from thumbs.config import Config, config_schema

PAGE = Path(__file__).parent / "configuration.md"
SCHEMA = Path(__file__).parent / "config.schema.json"
HEAD = """# Configuration

Every key of the YAML file that `--config` takes; `--set group.key=value` changes one. An unknown
key is an error. The settings in force are written to `config.yaml` of the run. This page is written
by `make docs`.
"""


def configuration_page() -> str:
    """The whole page."""
    return HEAD + "".join(_sections(Config, ""))


def _sections(stage: type[BaseModel], prefix: str) -> list[str]:
    """A section per group of keys, each group before the groups inside it."""
    values, groups = [], []
    for name, field in stage.model_fields.items():
        kind = field.annotation
        kind = next((k for k in typing.get_args(kind) if _is_group(k)), kind)
        if _is_group(kind):
            groups += _sections(kind, f"{prefix}{name}.")
        else:
            values.append(_line(prefix + name, field))
    if not values:
        return groups
    table = "| key | default | values | meaning |\n|---|---|---|---|\n" + "".join(values)
    return [f"\n## {prefix.rstrip('.')}\n\n{stage.__doc__}\n\n{table}", *groups]


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _line(key: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split())
    limits = " ".join(filter(None, map(_limit, field.metadata)))
    values = f"{_kind(field.annotation)} {limits}".strip()
    default = json.dumps(field.get_default())
    return f"| `{key}` | `{default}` | {values} | {meaning} |\n"


def _kind(kind: Any) -> str:
    """A type in words: `float | Literal["auto"]` is "float or auto"."""
    if typing.get_origin(kind) is Annotated:
        kind, *metadata = typing.get_args(kind)
        limits = [_limit(limit) for part in metadata for limit in getattr(part, "metadata", [])]
        return " ".join([_kind(kind), *limits])
    if typing.get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return "[" + ", ".join(map(_kind, typing.get_args(kind))) + "]"
    if typing.get_args(kind):
        return " or ".join(map(_kind, typing.get_args(kind)))
    names = {type(None): "null", str: "text", bool: "true or false"}
    return names.get(kind) or str(kind.__name__)


def _limit(limit: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = ((sign, getattr(limit, name, None)) for name, sign in signs.items())
    return " ".join(f"{sign} {value:g}" for sign, value in found if value is not None)


if __name__ == "__main__":
    PAGE.write_text(configuration_page(), encoding="utf-8")
    SCHEMA.write_text(json.dumps(config_schema(), indent=2) + "\n", encoding="utf-8")
