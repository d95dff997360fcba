"""Ways in which a file goes wrong: bytes flipped, lines lost, values of another kind, other text.

In: bytes of a file and a seeded generator. Out: other bytes. Knows nothing of what they mean.
"""

import codecs
import json
import random
from collections.abc import Callable
from typing import Any

import yaml

DEEP: Any = "x"
for _ in range(300):
    DEEP = [DEEP]
ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 0.5, 1e308, -1e308, 5e-324, 10**15, 2**63, 10**30, -(10**40)),
    *("", " ", "\n", "yes", "null", "true", "auto", "1", "-0", "nan", "../../x", "/", ".", "~"),
    *("\0", "\ufeff", "\ud800", "\udfff tail", "\u202e\u2066", "🏳️‍🌈" * 3, "e\u0301", "a\u2028b"),
    *("<|im_end|>", "{{ 1 / 0 }}", "%s%n", "<script>", "\\u0000", "é" * 2000, "x" * 30_000),
    *([], {}, [[]], [{}], [None], {"": ""}, {"role": 5}, [{"role": "user"}], {"a": {"b": {}}}),
    *([1, 2], ["a", "b"], [{"role": "assistant", "content": ""}], float("nan"), float("inf"), DEEP),
]


_FOREIGN = (b"\0", b"\xff\xfe", codecs.BOM_UTF8, b"\r", b'"', b"{", b"]", b"\n\n", b",")


def mutate(content: bytes, kind: str, rng: random.Random) -> tuple[str, bytes]:
    """One thing done to a file, its name, and the file's new bytes.

    kind: "lines" (JSON lines), "json" or "yaml", whose values are changed; else bytes only.
    """
    if kind in ("lines", "json", "yaml") and rng.random() < 0.6:
        return _change_value(content, kind, rng)
    change = rng.choice(_BYTES)
    return change.__name__.strip("_"), change(content, rng)


def _change_value(content: bytes, kind: str, rng: random.Random) -> tuple[str, bytes]:
    if kind == "lines":
        lines = content.splitlines()
        at = rng.randrange(len(lines))
        name, changed = _change_tree(json.loads(lines[at]), rng)
        lines[at] = _json(changed)
        return name, b"\n".join(lines) + b"\n"
    tree = yaml.safe_load(content) if kind == "yaml" else json.loads(content)
    name, changed = _change_tree(tree, rng)
    if kind == "json":
        return name, _json(changed)
    return name, yaml.safe_dump(changed).encode("utf-8", "surrogatepass")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


def _change_tree(tree: Any, rng: random.Random) -> tuple[str, Any]:
    """Change one value anywhere in nested lists and mappings, the root seldom."""
    places = _places(tree)
    if not places or rng.random() < 0.02:
        return "other root", rng.choice(ODD_VALUES)
    parent, key = rng.choice(places)
    change = rng.choice(_VALUES)
    change(parent, key, rng)
    return change.__name__.strip("_"), tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    if not isinstance(tree, dict | list):
        return []
    keys: Any = tree if isinstance(tree, dict) else range(len(tree))
    own = [(tree, key) for key in keys]
    return own + [place for parent, key in own for place in _places(parent[key])]


def _other_value(parent: Any, key: Any, rng: random.Random) -> None:
    parent[key] = rng.choice(ODD_VALUES)


def _lost_value(parent: Any, key: Any, rng: random.Random) -> None:  # noqa: ARG001
    del parent[key]


def _wrapped_value(parent: Any, key: Any, rng: random.Random) -> None:
    parent[key] = rng.choice(([parent[key]], {"value": parent[key]}, str(parent[key])))


def _swapped_value(parent: Any, key: Any, rng: random.Random) -> None:
    other = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
    parent[key], parent[other] = parent[other], parent[key]


def _renamed_key(parent: Any, key: Any, rng: random.Random) -> None:
    if isinstance(parent, dict):
        parent[rng.choice((f"{key}s", str(key).upper(), "", " ", "\ud800"))] = parent.pop(key)
    else:
        parent.insert(key, rng.choice(ODD_VALUES))


def _flipped_bytes(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _lost_start(content: bytes, rng: random.Random) -> bytes:
    return content[rng.randrange(len(content) + 1) :]


def _foreign_bytes(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    foreign = rng.choice(
        (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b'"', b"{", b"]", b"\n\n", b",")
    )
    return content[:at] + foreign * rng.choice((1, 1, 50)) + content[at:]


def _other_encoding(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    encoding = rng.choice(("utf-16", "utf-32", "latin-1", "cp037", "utf-8-sig"))
    return text.encode(encoding, "replace")


def _byte_order_mark(content: bytes, rng: random.Random) -> bytes:
    return rng.choice((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF8 * 2)) + content


def _other_line_ends(content: bytes, rng: random.Random) -> bytes:
    return content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\x0b")))


def _shuffled_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines)


def _repeated_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(lines + rng.choices(lines, k=3)) if lines else content


def _lost_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(line for line in lines if rng.random() < 0.3)


def _nothing(content: bytes, rng: random.Random) -> bytes:  # noqa: ARG001
    return rng.choice((b"", b"\n", b" \n\t\n", b"null", b"[]", b"{}", b"0", b"\0" * 100))


def _brackets(content: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"[" * 3000, b'{"a":' * 3000, b"[" * 2000 + b"]" * 2000)) + content


def _long_line(content: bytes, rng: random.Random) -> bytes:
    return content + b'{"prompt": "' + b"x" * rng.choice((10, 2**17)) + b'"}\n'


_VALUES: list[Callable[[Any, Any, random.Random], None]] = [
    *(_other_value, _other_value, _other_value),
    *(_lost_value, _wrapped_value, _swapped_value, _renamed_key),
]
_BYTES: list[Callable[[bytes, random.Random], bytes]] = [
    *(_flipped_bytes, _flipped_bytes, _cut, _lost_start, _foreign_bytes, _other_encoding),
    *(_byte_order_mark, _other_line_ends, _shuffled_lines, _repeated_lines, _lost_lines),
    *(_nothing, _brackets, _long_line),
]
