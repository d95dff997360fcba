"""What a verb found, on stdout: one JSON object, or tables and lines for people.

Text of the data is printed as it is: no markup of it counts, and no control character reaches the
terminal.
"""

import sys
from collections.abc import Mapping
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from thumbs.feedback.check_tables import plain
from thumbs.visible import visible

AUDIT_WIDTH = 60  # signs of a text in the table of an audit

LEAST_SHOWN = 10  # questions of a part of a benchmark, on average
out_console = Console(highlight=False)


def print_json(value: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.flush()


def print_table(title: str, values: Mapping[str, Any]) -> None:
    table = Table(show_header=False, title=_plain(title), title_justify="left")
    for key, value in values.items():
        if isinstance(value, list) and key == "warnings":
            for warning in value:
                table.add_row("warning", _plain(warning))
        elif isinstance(value, float):
            table.add_row(key, f"{value:.4g}")
        elif isinstance(value, dict):
            lines = "\n".join(f"{name}: {_told(part)}" for name, part in value.items())
            table.add_row(key, _plain(lines) or "none")
        else:
            table.add_row(key, "none" if value is None else _plain(str(value)))
    out_console.print(table)


def _told(value: Any) -> str:
    """A number in four digits, a list or mapping of them in a row."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(part)}" for name, part in value.items())
    if isinstance(value, list):
        return " to ".join(map(_told, value)) if len(value) == 2 else ", ".join(map(_told, value))
    return str(value)


def print_benchmark(title: str, numbers: Mapping[str, Any]) -> None:
    """The share of right answers with its interval, and that of parts with questions enough."""
    error = "" if numbers["stderr"] is None else f", standard error {numbers['stderr']:.1%}"
    shots = f"{numbers['num_fewshot']} worked examples" if numbers["num_fewshot"] else "no examples"
    rows = {
        numbers["metric"]: f"{numbers['value']:.1%} of {numbers['n']:,} (95 % interval "
        f"{numbers['ci_low']:.1%} to {numbers['ci_high']:.1%}{error})",
        "prompts": f"{shots}, {'with' if numbers['chat'] else 'without'} chat template, "
        f"{numbers['cut_prompts']:,} cut",
    }
    if "flexible_extract" in numbers:
        rows["last number is right"] = f"{numbers['flexible_extract']:.1%}"
    if numbers.get("failures"):
        rows["failures"] = ", ".join(f"{k} {n:,}" for k, n in numbers["failures"].items())
    parts = numbers.get("parts", {})
    if numbers["n"] < LEAST_SHOWN * len(parts):
        parts = {}
    rows |= {name: f"{part['value']:.1%} of {part['n']:,}" for name, part in parts.items()}
    table = Table(show_header=False, title=_plain(title), title_justify="left")
    for key, value in rows.items():
        table.add_row(key, _plain(value))
    out_console.print(table)


def _plain(text: str) -> str:
    """Text of the data as it is: no markup, and no control characters for the terminal to obey."""
    return escape(visible(text))


def print_losses(losses: Mapping[str, Any]) -> None:
    """A row per loss of loss_table.py."""
    table = Table("name", "what it is", "needs", "source")
    for name, loss in losses.items():
        table.add_row(name, loss.summary, ", ".join(loss.needs()), loss.source)
    out_console.print(table)


def print_import(out: str, numbers: Mapping[str, Any]) -> None:
    """Records by label, then what was left out or altered, by reason."""
    out_console.print(
        f"{out}: {numbers['records']:,} records from {numbers['source']}: "
        f"{numbers['desirable']:,} desirable, {numbers['undesirable']:,} undesirable",
        markup=False,
    )
    for title in ("dropped", "changed", "skipped"):
        for reason, count in numbers[title].items():
            out_console.print(f"{title}: {reason} {count:,}", markup=False)


def print_plan(title: str, result: Mapping[str, Any]) -> None:
    gib = 2**30
    trained, parameters = result["trained_parameters"], result["parameters"]
    free = "" if result["free_bytes"] is None else f" of {result['free_bytes'] / gib:.3g} GiB free"
    weights = result["weights"]
    left_out = {**result["drops"], **result["cuts"]}
    rows = {
        "rows": f"{result['train_rows']:,} to train on, {result['heldout_rows']:,} held out",
        "left out or cut": ", ".join(f"{k} {n:,}" for k, n in left_out.items()) or "nothing",
        "weights": f"desirable {weights['desirable_weight']:.3g}, undesirable "
        f"{weights['undesirable_weight']:.3g}: {weights['reason']}",
        "steps": f"{result['steps']:,}",
        "tokens": f"{result['tokens']:,} in steps, {result['reference_tokens']:,} in the reference "
        f"pass; {result['padding']:.1%} padding",
        "parameters": f"{parameters:,}, of which {trained:,} are trained",
        "micro-batch": f"{result['micro_batch_tokens']:,} tokens",
        "peak memory": f"about {result['peak_bytes'] / gib:.2g} GiB{free} ({result['device']})",
        "time": f"about {_duration(result['seconds_estimate'])}",
    }
    table = Table(show_header=False, title=_plain(title), title_justify="left")
    for key, value in rows.items():
        table.add_row(key, _plain(value))
    out_console.print(table)
    out_console.print("three rows; what carries loss stands in 【 】", markup=False)
    for row in result["rows"]:
        kind = "desirable" if row["desirable"] else "undesirable"
        counts = f"{row['prompt_tokens']} + {row['completion_tokens']} tokens"
        out_console.print(f"\n{kind}, {counts}, {row['loss_tokens']} with loss", style="bold")
        for piece in row["pieces"]:
            text = _plain(piece["text"])
            shown = f"[green]【{text}】[/]" if piece["loss"] else f"[dim]{text}[/]"
            out_console.print(shown, end="", soft_wrap=True)
        out_console.print()


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def print_training(result: Mapping[str, Any]) -> None:
    heldout = result["heldout"]
    out_console.print(f"trained {result['steps']} steps in {result['seconds']:.1f} s", markup=False)
    if heldout and heldout["auc"] is not None:
        interval = "too few rows for an interval"
        if heldout["auc_ci"]:
            interval = "95 % interval {:.3f} to {:.3f}".format(*heldout["auc_ci"])
        out_console.print(
            f"held-out feedback: AUC {heldout['auc']:.3f} ({interval}, n {heldout['n']}), "
            f"accuracy {heldout['accuracy']:.3f}",
            markup=False,
        )
    out_console.print(f"model  {result['model']}\nreport {result['report']}", markup=False)


def print_audit(title: str, result: Mapping[str, Any]) -> None:
    """The worst rows, how many were flagged of which part, and what to do with the file."""
    if result["top"]:
        ids = Column("id", overflow="fold")
        table = Table(ids, "label", "reward", "weight", "of", "prompt", "completion")
        for row in result["top"]:
            texts = (plain(row[key], AUDIT_WIDTH) for key in ("prompt", "completion"))
            label = "up" if row["label"] else "down"
            cells = (plain(row["id"]), label, f"{row['reward']:+.3f}")
            weight = f"{row['gradient_weight']:.2f}"
            table.add_row(*map(escape, (*cells, weight, row["split"], *texts)))
        out_console.print(table)
    parts = ", ".join(
        f"{part['flagged']:,} of {part['rows']:,} {name}" for name, part in result["splits"].items()
    )
    out_console.print(
        f"{title}: {result['flagged']:,} of {result['rows']:,} rows have the reward of the other "
        f"label ({parts})",
        markup=False,
        soft_wrap=True,
    )
    if result["out"] is not None:
        advice = (
            " Correct the labels, or leave them out of the next run: "
            f"--set data.exclude={result['out']}"
        )
        out_console.print(
            f"{result['out']}: {result['written']:,} rows.{advice if result['written'] else ''}",
            markup=False,
            soft_wrap=True,
        )


def print_demo(result: Mapping[str, Any]) -> None:
    for example in result["examples"]:
        out_console.print(
            f"{example['prompt']}\n  before: {example['before']}\n  after:  {example['after']}\n"
            f"  right:  {example['answer']}\n",
            markup=False,
        )
    table = Table("unseen problems solved", "before", "after")
    for name, before, after in (
        ("sampled (T = 1)", _share(result, "before"), _share(result, "after")),
        ("greedy", f"{result['greedy_before']:.1%}", f"{result['greedy_after']:.1%}"),
    ):
        table.add_row(name, before, after)
    out_console.print(table)
    out_console.print(
        f"sampled accuracy rose by {100 * result['difference']:.1f} points (95 % interval "
        f"{100 * result['ci_low']:.1f} to {100 * result['ci_high']:.1f}) "
        f"in {result['seconds']:.0f} s\n"
        f"model  {result['model']}\nreport {result['report']}",
        markup=False,
    )


def _share(result: Mapping[str, Any], key: str) -> str:
    low, high = result[f"{key}_ci"]
    return f"{result[key]:.1%} ({low:.1%} to {high:.1%})"


def print_comparison(result: Mapping[str, Any]) -> None:
    """The win rate and whether it tells the two apart, then what is behind it."""
    title = _plain(f"{result['a']} against {result['b']}, judged by {result['judge']}")
    if result["win_rate"] is None:
        out_console.print(f"{title}: no comparison has a verdict")
    else:
        told = "" if result["distinguishable"] else ": not distinguishable"
        out_console.print(
            f"{title}\nA wins {result['win_rate']:.1%} (95 % interval {result['ci_low']:.1%} to "
            f"{result['ci_high']:.1%}, n {result['n']:,}){told}",
            soft_wrap=True,
        )
    control = result["length_control"]
    rows = {
        "won, lost, tied": f"{result['wins']:,}, {result['losses']:,}, {result['ties']:,}",
        "identical answers": f"{result['identical']:,} (ties, not judged)",
        **_judge_rows(result),
        "at equal length": control["reason"]
        if control["win_rate"] is None
        else f"{control['win_rate']:.1%} ({control['ci_low']:.1%} to {control['ci_high']:.1%})",
        "mean length": f"{result['mean_characters_a']:,.0f} characters of A, "
        f"{result['mean_characters_b']:,.0f} of B",
    }
    _print_rows(rows, result)


def print_judge_check(result: Mapping[str, Any]) -> None:
    """How often the judge agrees with people, then what is behind it."""
    out_console.print(
        f"{result['judge']} agrees with people on {result['accuracy']:.1%} of {result['n']:,} "
        f"pairs (95 % interval {result['ci_low']:.1%} to {result['ci_high']:.1%})",
        markup=False,
        soft_wrap=True,
    )
    known = ", ".join(f"{name} {count:,}" for name, count in result["known"].items())
    rows = {
        "people said": known,
        "accuracy of single judgements": f"{result['accuracy_one_order']:.1%}",
        "judge's ties": f"{result['ties']:,}",
        **_judge_rows(result),
    }
    _print_rows(rows, result)


def _judge_rows(result: Mapping[str, Any]) -> dict[str, str]:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in result["null_reasons"].items())
    rows = {"no verdict": f"{result['nulls']:,}" + (f": {reasons}" if reasons else "")}
    if result["consistency"] is not None:
        rows["orders agree"] = f"{result['consistency']:.1%}"
    if result["first_position_rate"] is not None:
        low, high = result["first_position_ci"]
        rows["first shown wins"] = f"{result['first_position_rate']:.1%} ({low:.1%} to {high:.1%})"
    return rows


def _print_rows(rows: Mapping[str, str], result: Mapping[str, Any]) -> None:
    """A table of rows, the dropped, the tokens and the cost; whether the judge is any good."""
    rows = dict(rows)
    if result["dropped"]:
        rows["dropped"] = ", ".join(f"{k} {n:,}" for k, n in result["dropped"].items())
    tokens = result["judge_tokens"]
    if tokens["prompt"] or tokens["completion"]:
        rows["judge's tokens"] = f"{tokens['prompt']:,} read, {tokens['completion']:,} written"
    if result["cost"] is not None:
        rows["cost"] = f"{result['cost']:.4g}"
    table = Table(show_header=False)
    for key, value in rows.items():
        table.add_row(key, _plain(value))
    out_console.print(table)
    if result["follows_position"]:
        place = "first" if result["first_position_rate"] > 0.5 else "second"
        out_console.print(
            f"the verdicts follow the position: the answer shown {place} wins. Take another judge "
            "or --template",
            soft_wrap=True,
        )
