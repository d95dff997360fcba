"""Broken input through the real command line: nothing may end in a traceback or leave a half.

`make fuzz`, or: python -m benchmarks.fuzz --mutations 200 --seed 0

Each mutation takes a whole set of good files, breaks one of them (see mutate.py) or one setting or
argument, and runs one verb on it. It must end well (exit code 0) or in one line of error and
exit code 2 that leaves no file behind. Anything else is a failure, and the exit code here is 1.
"""

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants

from benchmarks.measured import ROOT, machine, setting_lines, versions, write_results
from benchmarks.mutate import ODD_VALUES, mutate
from thumbs import cli
from thumbs.config import Config, dump_config, load_config
from thumbs.demo.embedded import feedback_log
from thumbs.feedback.importing import import_feedback
from thumbs.models.tiny import save_tiny

LONGEST_ERROR = 1_500  # characters
SECONDS_ALLOWED = 60  # of one mutation: more is a hang
NUM_VOTES = 12  # of the demo's log that are broken

ODD_ARGUMENTS = (
    *("--x", "", "-", "--", "=", "nowhere", "chat.jsonl", "/", "--json", "a\0b", "\udcff"),
    *("--set", "--resume", "run", "--out", "x" * 300),
)
SMALL = ["train.batch_size=4", "train.max_steps=1", "data.max_tokens=64"]
GOOD = "".join(
    json.dumps(
        {
            "prompt": [{"role": "user", "content": f"Is {i // 2} a number?"}],
            "completion": [{"role": "assistant", "content": "yes" if i % 2 else "no, never"}],
            "label": bool(i % 2),
            "weight": 1.0,
            "rater": f"r{i % 3}",
            "time": "2026-01-01T00:00:00+00:00",
            "comment": "größe",
        },
        ensure_ascii=False,
    )
    + "\n"
    for i in range(12)
)
STRINGS = "".join(
    json.dumps({"prompt": f"{i // 2} + 1 =", "completion": f" {i}", "label": bool(i % 2)}) + "\n"
    for i in range(8)
)
PAIRS = "".join(
    json.dumps({"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": f"no {i}"}) + "\n"
    for i in range(4)
)


def _kind_of(name: str) -> str:
    return "lines" if name.endswith(".jsonl") else "json"


EXPORTS = {  # the samples of every format that the tests read
    path.name: path
    for path in sorted((ROOT / "tests" / "fixtures").glob("*.json*"))
    if not path.name.startswith("anythingllm")  # a format thumbs does not read
}


@dataclass(frozen=True)
class Target:
    """A file that is broken, and the command lines it is given to; {m}: the good model."""

    name: str
    file: str
    kind: str  # see mutate.mutate
    commands: tuple[str, ...]


TRAIN = "train {file} --model {m} --out out " + " ".join(f"--set {s}" for s in SMALL)
CONFIGURED = TRAIN.replace("{file}", "chat.jsonl --config {file}")
CHECKS = ("check {file}", "check {file} --model {m} --json", TRAIN)
IMPORTS = ("import {file} --out out.jsonl", "import {file} --out out.parquet --json")
REPORT = ("report run", "report run other --out out.html")
EVAL = ("eval run", "audit run --out out.csv")
RESUME = ("train --resume stopped",)
TARGETS = [
    Target("feedback, messages", "chat.jsonl", "lines", (*CHECKS, *IMPORTS)),
    Target("feedback, text", "text.jsonl", "lines", (*CHECKS, *IMPORTS)),
    Target("feedback, gzip", "chat.jsonl.gz", "bytes", CHECKS),
    Target("feedback, Parquet", "chat.parquet", "bytes", CHECKS),
    Target("Open WebUI export", "votes.json", "json", IMPORTS),
    Target("preference pairs", "pairs.jsonl", "lines", IMPORTS),
    *(Target(f"export {name.split('.')[0]}", name, _kind_of(name), IMPORTS) for name in EXPORTS),
    Target(
        "settings",
        "settings.yaml",
        "yaml",
        (TRAIN.replace("{file}", "chat.jsonl --config {file}"),),
    ),
    Target("run: config.yaml", "run/config.yaml", "yaml", (*REPORT, *EVAL)),
    Target("run: data.json", "run/data.json", "json", (*REPORT, *EVAL)),
    Target("run: metrics.jsonl", "run/metrics.jsonl", "lines", REPORT),
    Target("run: summary.json", "run/summary.json", "json", (*REPORT, *EVAL)),
    Target("resumed: config.yaml", "stopped/config.yaml", "yaml", RESUME),
    Target("resumed: data.json", "stopped/data.json", "json", RESUME),
    Target("resumed: metrics.jsonl", "stopped/metrics.jsonl", "lines", RESUME),
]
VERBS = [
    *("check chat.jsonl", "import pairs.jsonl --out out.jsonl", "eval run", "report run", "losses"),
    "audit run --out out.jsonl",
    *(TRAIN.replace("{file}", "chat.jsonl"), "train --resume stopped"),
]


@dataclass(frozen=True)
class Outcome:
    """How one mutation ended. ended: "fine", "refused" or "failure"; detail: what was wrong."""

    target: str
    mutation: str
    command: str
    ended: str
    detail: str = ""


def main() -> None:
    """Write results/fuzz.json and .md; exit code 1 where a mutation ended in a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="copy the files of failures here")
    parser.add_argument("--dry", action="store_true", help="print only, write no results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = fuzz(Path(folder), arguments.mutations, arguments.seed, keep=arguments.keep)
    record = describe(outcomes, arguments.seed, time.perf_counter() - started)
    if arguments.dry:
        print(page(record))
    else:
        write_results("fuzz", record, page(record))
    sys.exit(1 if record["failures"] else 0)


def fuzz(folder: Path, num_mutations: int, seed: int, *, keep: Path | None = None) -> list[Outcome]:
    """The outcomes of `num_mutations` mutations; the same seed makes the same ones."""
    constants.HF_HUB_OFFLINE = True  # a name that is no folder is looked for on the hub
    good = folder / "good"
    make_good_files(good, folder / "model")
    outcomes = []
    for number in range(num_mutations):
        rng = random.Random(f"{seed} {number}")
        work = folder / "work"
        shutil.copytree(good, work)
        outcome = _one(work, folder / "model", rng, number)
        if outcome.ended == "failure":
            print(f"\nFAILURE {number}: {outcome.target}, {outcome.mutation}: {outcome.command}")
            print(outcome.detail, flush=True)
            if keep is not None:
                shutil.copytree(work, keep / f"{seed}-{number}", dirs_exist_ok=True)
        shutil.rmtree(work)
        outcomes.append(outcome)
    return outcomes


def make_good_files(good: Path, model: Path) -> None:
    """A set of files on which every verb ends well."""
    save_tiny(model, "llama")
    good.mkdir()
    texts = {"chat.jsonl": GOOD, "text.jsonl": STRINGS, "pairs.jsonl": PAIRS}
    for name, text in texts.items():
        (good / name).write_text(text, encoding="utf-8")
    for name, path in EXPORTS.items():
        shutil.copy(path, good / name)
    (good / "chat.jsonl.gz").write_bytes(gzip.compress(GOOD.encode(), mtime=0))
    votes = json.loads(gzip.decompress(feedback_log().read_bytes()))[:NUM_VOTES]
    (good / "votes.json").write_text(json.dumps(votes), encoding="utf-8")
    config = load_config(None, [*SMALL, "data.heldout_fraction=0.5"])
    (good / "settings.yaml").write_text(dump_config(config), encoding="utf-8")
    command = TRAIN.format(file="chat.jsonl", m=model)
    with _inside(good):
        import_feedback([good / "chat.jsonl"], good / "chat.parquet")
        for run in ("run", "stopped"):
            line = f"{command} --set data.heldout_fraction=0.5".replace("--out out", f"--out {run}")
            code, _, err = run_command(line.split())
            assert code == 0, err
        (good / "stopped" / "summary.json").unlink()
        shutil.copytree("run", "other")


def _one(work: Path, model: Path, rng: random.Random, number: int) -> Outcome:
    choice = number % (len(TARGETS) + 3)
    if choice < len(TARGETS):
        target = TARGETS[choice]
        path = work / target.file
        mutation, content = mutate(path.read_bytes(), target.kind, rng)
        path.write_bytes(content)
        command = rng.choice(target.commands)
        argv = command.format(file=target.file, m=model).split()
        return _judge(target.name, mutation, argv, work)
    if choice < len(TARGETS) + 2:
        setting = f"{rng.choice(_keys())}={_text_of(rng.choice(ODD_VALUES))}"
        argv = [*TRAIN.format(file="chat.jsonl", m=model).split(), "--set", setting]
        return _judge("--set", "other value", argv, work)
    argv = rng.choice(VERBS).format(m=model).split()
    at = rng.randrange(len(argv) + 1)
    odd = rng.choice(
        ("--x", "", "-", "--", "=", "nowhere", "chat.jsonl", "/", "--json", "a\0b", "\udcff")
    )
    argv = [*argv[:at], odd, *argv[at + rng.randrange(2) :]]
    return _judge("arguments", "other argument", argv, work)


def _judge(target: str, mutation: str, argv: list[str], work: Path) -> Outcome:
    """Run a command line in `work` and say how it ended."""
    before = _names(work)
    command = " ".join(argv)[:500]

    def outcome(ended: str, detail: str = "") -> Outcome:
        return Outcome(target, mutation, command, ended, detail)

    with _inside(work):
        code, _, err = run_command(argv)
    if code not in (0, 2):
        return outcome("failure", f"exit code {code}:\n{err}")
    partial = [name for name in _names(work) if name.endswith(".partial")]
    if partial:
        return outcome("failure", f"left behind: {partial}")
    if code == 0:
        return outcome("fine")
    errors = [line for line in err.splitlines() if line.startswith("error")]
    if len(errors) != 1 or not err.endswith(errors[0] + "\n"):
        return outcome("failure", f"not one line of error at the end:\n{err}")
    if len(errors[0]) > LONGEST_ERROR:
        return outcome("failure", f"{len(errors[0])} characters: {errors[0][:300]}")
    # A run that has begun keeps what it has: its numbers went wrong, or it goes on from there.
    broke = ("is not a finite number", "must be finite")
    has_begun = "--resume" in argv or any(words in errors[0] for words in broke)
    if _names(work) != before and not has_begun:
        left = sorted(_names(work) ^ before)[:5]
        return outcome("failure", f"left behind: {left}\n{errors[0]}")
    return outcome("refused", errors[0])


def run_command(argv: list[str]) -> tuple[int | str, str, str]:
    """Exit code, stdout and stderr of a command line run in this process; 1 for an exception."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2))
    code: int | str = 0
    before = sys.argv
    sys.argv = ["thumbs", *argv]
    signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(SECONDS_ALLOWED)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:  # noqa: BLE001, what escapes is what is looked for
        err.write(traceback.format_exc())
        code = 1
    finally:
        signal.alarm(0)
        sys.argv = before
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8"))
    return code, texts[0], texts[1]


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"took more than {SECONDS_ALLOWED} seconds")


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    cache = os.environ.get("THUMBS_CACHE")
    os.environ["THUMBS_CACHE"] = str(folder.parent / "cache")
    try:
        with contextlib.chdir(folder), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        os.environ.pop("THUMBS_CACHE")
        if cache is not None:
            os.environ["THUMBS_CACHE"] = cache


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _keys() -> list[str]:
    """Every key of the settings, and a few that are none."""
    keys = ["", "foo", "train", "loss.z0", "train.seed.deeper", "größe", "model.name_or_path.x"]
    for stage, group in json.loads(Config().model_dump_json()).items():
        keys += [f"{stage}.{key}" for key in group]
    return keys + [f"loss.z0.{key}" for key in Config().loss.z0.model_dump()]


def _text_of(value: Any) -> str:
    """A value as it is typed: YAML in one line."""
    return json.dumps(value) if not isinstance(value, str) else value


def describe(outcomes: list[Outcome], seed: int, seconds: float) -> dict[str, Any]:
    """The counts of every target."""
    counts = Counter((o.target, o.ended) for o in outcomes)
    targets = {
        name: {ended: counts[name, ended] for ended in ("fine", "refused", "failure")}
        for name in dict.fromkeys(o.target for o in outcomes)
    }
    return {
        "command": f"python -m benchmarks.fuzz --mutations {len(outcomes)} --seed {seed}",
        "machine": machine(),
        "versions": {"thumbs": versions("thumbs", "torch", "transformers", "typer", "pydantic")},
        "seed": seed,
        "mutations": len(outcomes),
        "seconds": round(seconds, 1),
        "failures": sum(o.ended == "failure" for o in outcomes),
        "targets": targets,
    }


def page(record: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [
        f"| {name} | {sum(c.values())} | {c['fine']} | {c['refused']} | {c['failure']} |"
        for name, c in record["targets"].items()
    ]
    table = [
        "| broken | mutations | exit 0 | exit 2, one line | failures |",
        "|---|---|---|---|---|",
    ]
    return "\n".join(
        [
            "# Broken input",
            "",
            f"{record['mutations']} mutations of good files, settings and arguments (seed "
            f"{record['seed']}), each through one verb: {record['failures']} failures.",
            "A failure is a traceback, another exit code, more than one line of error, a line of "
            f"more than {LONGEST_ERROR:,} characters, a file left behind, or more than "
            f"{SECONDS_ALLOWED} seconds.",
            "",
            *table,
            *rows,
            "",
            setting_lines(record),
            "",
        ]
    )


if __name__ == "__main__":
    main()
