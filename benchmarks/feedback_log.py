"""A log of votes of any size, made up from a seed: for `make scale-import`.

python -m benchmarks.feedback_log RECORDS OUT [--seed N] [--list]

Rows of {prompt, completion, label, rater, model, time, conversation}: lengths with a long tail, 200
raters of unlike activity, answers voted on several times, repeats, and blocks of reasoning. About a
kilobyte a record. `--list` writes one JSON list instead of lines.
"""

import argparse
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

WORDS = 4_000
RATERS = 200
MODELS = ("small-1", "small-2", "large-1")
REVOTED, REPEATED, REASONING = 0.05, 0.01, 0.03
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def records(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """`count` rows; the first of one seed are the same whatever the count."""
    draw = random.Random(seed)
    words = [
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 10)))
        for _ in range(WORDS)
    ]
    last: dict[str, Any] = {}
    for number in range(count):
        kind = draw.random()
        if last and kind < REPEATED:
            yield last
            continue
        if last and kind < REPEATED + REVOTED:
            rater = f"user-{draw.randrange(RATERS)}"
            last = {**last, "label": draw.random() < 0.5, "rater": rater, "time": _time(number)}
            yield last
            continue
        answer = _text(draw, words, 130)
        if draw.random() < REASONING:
            answer = f"<think>{_text(draw, words, 30)}</think>{answer}"
        last = {
            "prompt": [{"role": "user", "content": _text(draw, words, 25)}],
            "completion": [{"role": "assistant", "content": answer}],
            "label": draw.random() < 0.7,
            "rater": f"user-{min(RATERS - 1, int(draw.expovariate(1 / 30)))}",
            "model": draw.choice(MODELS),
            "time": _time(number),
            "conversation": f"c{number}",
        }
        yield last


def write(path: Path, count: int, seed: int, *, as_list: bool) -> None:
    """Write the rows as JSON lines, or as one list."""
    with path.open("wb") as file:
        file.write(b"[\n" if as_list else b"")
        for number, row in enumerate(records(count, seed)):
            file.write(b",\n" if as_list and number else b"")
            file.write(orjson.dumps(row) + (b"" if as_list else b"\n"))
        file.write(b"\n]\n" if as_list else b"")


def _text(draw: random.Random, words: list[str], mean: int) -> str:
    count = 1 + int(draw.lognormvariate(0, 0.8) * mean * 0.73)
    return " ".join(draw.choices(words, k=count))


def _time(number: int) -> str:
    return (BEGIN + timedelta(seconds=number)).isoformat(timespec="microseconds")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.feedback_log", description=__doc__)
    parser.add_argument("records", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    write(options.out, options.records, options.seed, as_list=options.list)
