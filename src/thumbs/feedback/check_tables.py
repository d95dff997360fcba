"""What `thumbs check` found, as tables and a small chart for people.

In: the numbers of `inspect.py`, as a mapping. Out: what rich prints, in the order of reading. Text
of the data is shown as it is: no markup, no control characters.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from thumbs.visible import visible

BLOCKS = " ▏▎▍▌▋▊▉█"
BAR_WIDTH = 24
TEXT_WIDTH = 60
SPACES = str.maketrans({"\n": " ", "\t": " "})


def check_tables(name: str, found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The summary, who voted how, what contradicts, how long answers are, and what to do."""
    yield _summary(name, found)
    if found["rater_votes"]:
        yield _raters(found)
    if len(found["models"]) > 1 or "" not in found["models"]:
        yield _models(found["models"])
    if found["contradiction_examples"]:
        yield _contradictions(found)
    yield _lengths(found)
    if found["tokens"]:
        yield _tokens(found["tokens"])
    yield from _forecast(found["dpo_forecast"])
    for warning in found["warnings"]:
        yield Text.assemble(("warning: ", "bold yellow"), plain(warning))


def plain(text: str, width: int | None = None) -> str:
    """Text of the data on one line, signs that move the cursor or turn the line shown as such."""
    shown = visible(text.translate(SPACES))
    if width is not None and len(shown) > width:
        return shown[: width - 1] + "…"
    return shown


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(title), title_justify="left", show_header=bool(columns))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _summary(name: str, found: Mapping[str, Any]) -> Table:
    table = Table(title=Text(plain(name)), title_justify="left", show_header=False)
    up, down = found["desirable"], found["undesirable"]
    both = f"{up:,} desirable, {down:,} undesirable"
    rows = {
        "records": f"{found['records']:,}: {both}",
        "prompts": f"{found['prompts']:,}, of which {found['mixed_prompts']:,} have both labels",
        "conversations": f"{found['conversations']:,}",
        "repeats": f"{found['duplicates']:,}",
        "answers with both labels": f"{found['contradictions']:,}",
        "raters": _agreement(found),
        "weights": _weights(found["weights"]),
    }
    if found["training_weights"]:
        rows["weights, training part"] = _weights(found["training_weights"])
    if near := found["near_duplicates"]:
        rows["nearly the same answers"] = f"{near['records']:,} in {near['groups']:,} groups"
    for note, count in found["notes"].items():
        rows[plain(note, TEXT_WIDTH)] = f"{count:,}"
    for key, value in rows.items():
        table.add_row(Text(key), Text(value))
    return table


def _agreement(found: Mapping[str, Any]) -> str:
    words = f"{found['raters']:,}"
    if found["agreement"] is None:
        return f"{words}; no answer was rated by two of them"
    alpha = "" if found["alpha"] is None else f", Krippendorff's alpha {found['alpha']:.2f}"
    agreed = f"{found['agreement']:.0%} of {found['rated_twice']:,} answers rated twice"
    return f"{words}; they agree on {agreed}{alpha}"


def _weights(weights: Mapping[str, Any]) -> str:
    desirable, undesirable = weights["desirable_weight"], weights["undesirable_weight"]
    return f"desirable {desirable:.3g}, undesirable {undesirable:.3g}: {weights['reason']}"


def _raters(found: Mapping[str, Any]) -> Table:
    shown = found["rater_votes"]
    rest = found["raters"] - len(shown)
    title = "raters" + (f" (the first {len(shown)}; {rest:,} more)" if rest else "")
    table = _table(title, "rater", "votes", "up", "share up", "")
    for one in shown:
        votes = one["desirable"] + one["undesirable"]
        share = f"{one['desirable'] / votes:.0%}"
        row = (plain(one["rater"], 32), f"{votes:,}", f"{one['desirable']:,}", share)
        table.add_row(*map(Text, row), Text(one["suspicious"], "bold red"))
    return table


def _models(models: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("models", "model", "records", "share up", "95 % interval")
    ranked = sorted(models.items(), key=lambda pair: -pair[1]["desirable"] - pair[1]["undesirable"])
    for name, one in ranked[:20]:
        low, high = one["share_ci"]
        row = (plain(name, 40) or "(unknown)", f"{one['desirable'] + one['undesirable']:,}")
        table.add_row(*map(Text, (*row, f"{one['share']:.0%}", f"{low:.0%} to {high:.0%}")))
    return table


def _contradictions(found: Mapping[str, Any]) -> Table:
    shown = found["contradiction_examples"]
    rest = found["contradictions"] - len(shown)
    title = "answers with both labels" + (
        f" (the first {len(shown)}; {rest:,} more)" if rest else ""
    )
    table = Table(title=Text(title), title_justify="left")
    for column in ("prompt", "answer", "up", "down"):
        table.add_column(column, overflow="fold")
    for one in shown:
        sides = (_names(one["desirable"]), _names(one["undesirable"]))
        texts = (plain(one["prompt"], TEXT_WIDTH), plain(one["completion"], TEXT_WIDTH), *sides)
        table.add_row(*map(Text, texts))
    return table


def _names(raters: Sequence[str]) -> str:
    known = [plain(rater, 16) for rater in raters if rater]
    unknown = len(raters) - len(known)
    return ", ".join([*known[:3], *([f"{unknown} unknown"] if unknown else [])])


def _lengths(found: Mapping[str, Any]) -> Table:
    histogram = found["length_histogram"]
    table = _table("length of answers", "characters", "desirable", "", "undesirable", "")
    sides = [histogram["desirable"], histogram["undesirable"]]
    most = [max(side, default=0) for side in sides]
    edges = histogram["edges"]
    for i, (low, high) in enumerate(pairwise(edges)):
        bars = [Text(bar(side[i], top)) for side, top in zip(sides, most, strict=True)]
        counts = [Text(f"{side[i]:,}") for side in sides]
        table.add_row(Text(f"{low:,} to {high - 1:,}"), counts[0], bars[0], counts[1], bars[1])
    for column in (2, 4):
        table.columns[column].justify = "left"
    return table


def bar(count: int, most: int) -> str:
    """A bar of eighths of a character, BAR_WIDTH long for `most`.

    >>> bar(1, 2), bar(0, 2), bar(0, 0)
    ('████████████', '', '')
    """
    eighths = round(8 * BAR_WIDTH * count / most) if most else 0
    eighths = max(eighths, 1) if count else 0
    return "█" * (eighths // 8) + BLOCKS[eighths % 8].strip()


def _tokens(tokens: Mapping[str, Any]) -> Table:
    table = Table(title=Text("tokens"), title_justify="left", show_header=False)
    for key, value in tokens.items():
        words = value
        if isinstance(value, Mapping):
            parts = (f"{name} {_amount(count)}" for name, count in value.items())
            words = ", ".join(parts) or "none"
        table.add_row(Text(plain(key)), Text(plain(_amount(words))))
    return table


def _amount(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _forecast(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    if not found["pairs"]:
        return
    words = f"{found['pairs']:,} pairs to {found['prompts']:,} prompts have votes both ways"
    if "share" in found:
        words += (
            f"; at beta {found['beta']:g} DPO would settle on the minority's answer for "
            f"{found['flipped_prompts']:,} of these prompts ({found['share']:.0%})"
        )
    else:
        words += "; on how many DPO would settle on the minority's answer needs --model"
    yield Text(words + ".")
