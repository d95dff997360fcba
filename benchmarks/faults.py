"""Kill a run at 24 points, let it go on, compare the bytes of its model with an unbroken run's.

`make faults`, or: python -m benchmarks.faults. A 25M Llama and 24 short answers.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.killed_run import state_of
from benchmarks.measured import ROOT, machine, setting_lines, versions, write_results
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.files import sha256_file
from thumbs.models.tiny import llama_25m, random_model, train_bpe

SEED = 0
THREADS = 1
VOCAB_SIZE = 1_000  # of the tokenizer; the model has 32,000
SETTINGS = {
    "model.dtype": "float32",
    "data.heldout_fraction": 0.1,
    "train.batch_size": 6,
    "train.epochs": 2,
    "train.learning_rate": 1e-4,
    "train.save_every": 2,
    "train.keep_last": 1,
    "train.seed": SEED,
}
# question, an answer people like, one they do not
ANSWERS = [
    ("When does the library open?", "At nine, from Monday to Saturday.", "Look it up yourself."),
    ("How do I boil an egg?", "Eight minutes in boiling water.", "Eggs come from chickens."),
    ("What is the capital of Norway?", "Oslo.", "Norway is a cold country."),
    ("Can I return these shoes?", "Yes, within 30 days with the receipt.", "No."),
    ("Is the bridge closed today?", "Yes, until six in the evening.", "Bridges connect places."),
    ("How many grams are in a pound?", "About 454.", "A pound is money in Britain."),
    ("Which bus goes to the airport?", "Line 12, every ten minutes.", "There are many buses."),
    ("Does this contain nuts?", "Yes, almonds.", "I would not worry about it."),
    ("How do I reset my password?", "Choose 'forgot' on the login page.", "Passwords matter."),
    ("Who wrote Faust?", "Goethe.", "It is a famous play about a doctor."),
    ("Can cats eat chocolate?", "No, it is poisonous to them.", "Cats eat what they like."),
    ("What time is it in Tokyo?", "Nine hours ahead of London.", "Late."),
]
# (place, which of its calls); more than one: killed again, there or elsewhere, when it went on.
POINTS: list[list[tuple[str, int]]] = [
    [("start, half of config.yaml written", 1), ("start, config.yaml not yet renamed", 1)],
    [("before step 1, loading done", 1)],
    [("reference pass", 1), ("reference pass", 2)],
    [("cache write", 1)],
    [("cache write", 2), ("cache write", 1)],
    [("reference values write", 1)],
    [("before step 1, values frozen", 1)],
    [("mid-step, backward", 1)],
    [("mid-step, backward", 5), ("mid-step, backward", 1)],
    [("mid-step, weights moved", 4)],
    [("metrics line", 5)],
    [("checkpoint write, policy", 2)],
    [("checkpoint write, optimizer", 1), ("checkpoint write, optimizer", 2)],
    [("checkpoint write, manifest", 2)],
    [("checkpoint not yet renamed", 2)],
    [("old checkpoint half deleted", 1)],
    [("checkpoint just renamed", 4)],
    [("model save", 1), ("model just renamed", 1)],
    [("model not yet renamed", 1), ("summary write", 1)],
    [("report write", 1)],
]
NUM_AT_RANDOM_TIMES = 4


def main() -> None:
    """Write results/faults.json and .md; exit status 1 unless every run ends in the same bytes."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_inputs(folder)
        whole = Commands(folder, "unbroken")
        begun = time.perf_counter()
        whole.run(None)
        unbroken_seconds = time.perf_counter() - begun
        expected = whole.model_sha256()
        points = [kill_at(folder, i, kills) for i, kills in enumerate(POINTS, 1)]
        draw = random.Random(SEED)
        for i in range(len(POINTS) + 1, len(POINTS) + 1 + NUM_AT_RANDOM_TIMES):
            points.append(kill_after(folder, i, draw.uniform(0.3, 0.95) * unbroken_seconds))
        same = sum(point["model_sha256"] == expected and not point["wrong"] for point in points)
    record = {
        "command": "make faults",
        "machine": machine(),
        "threads": THREADS,
        "seed": SEED,
        "versions": {"thumbs": versions("thumbs", "transformers", "safetensors", "torch")},
        "rows": 2 * len(ANSWERS),
        "settings": SETTINGS,
        "unbroken": {"seconds": round(unbroken_seconds, 1), "model_sha256": expected},
        "points": points,
        "same_bytes": same,
        "seconds": round(time.perf_counter() - started),
    }
    write_results("faults", record, page(record))
    if same < len(points):
        raise SystemExit(1)


def save_inputs(folder: Path) -> None:
    """Write the feedback file and a random 25M Llama."""
    records = [
        with_defaults(Feedback(prompt=question, completion=f" {answer}", label=label))
        for question, good, bad in ANSWERS
        for answer, label in ((good, True), (bad, False))
    ]
    write_feedback(folder / "feedback.jsonl", records)
    texts = [text for entry in ANSWERS for text in entry]
    train_bpe(texts, VOCAB_SIZE).save_pretrained(folder / "model")
    random_model(llama_25m(), seed=SEED).save_pretrained(folder / "model")


class Commands:
    """The commands of one run, each a process of its own, with a log of where they died."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.path = folder, folder / name
        self.log = folder / f"{name}.log"
        self.problems: list[str] = []
        self.environment = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(THREADS)),
            "THUMBS_CACHE": str(folder / f"{name}-cache"),
            "TOKENIZERS_PARALLELISM": "0",
        }

    def start(self, kill: tuple[str, int] | None) -> subprocess.Popen[str]:
        """`thumbs train` where there is no run yet, else `--resume`."""
        changes = [word for k, v in SETTINGS.items() for word in ("--set", f"{k}={v}")]
        files = [str(self.folder / "feedback.jsonl"), "--model", str(self.folder / "model")]
        train = ["train", *files, "--out", str(self.path), *changes]
        stands = (self.path / "config.yaml").is_file()
        arguments = ["train", "--resume", str(self.path)] if stands else train
        how = [str(self.log), str(self.path), json.dumps(kill)]
        command = [sys.executable, "-m", "benchmarks.killed_run", *how, *arguments]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def run(self, kill: tuple[str, int] | None) -> None:
        """Wait until it ends: killed where told, well where not; else its words are kept."""
        process = self.start(kill)
        _, told = process.communicate()
        if process.returncode != (-signal.SIGKILL if kill else 0):
            self.problems.append(f"exit status {process.returncode}: {told.strip()[-300:]}")

    def model_sha256(self) -> str:
        """The hash of the saved weights, "absent" where there are none."""
        weights = self.path / "model" / "model.safetensors"
        return sha256_file(weights) if weights.is_file() else "absent"

    def wrong(self) -> list[str]:
        """What went wrong, what is half written, what is missing after a finished run."""
        found: Iterable[Path] = (*self.path.rglob("*.partial"), *self.path.glob(".lock"))
        missing = {"summary.json", "report.html"} - {path.name for path in self.path.iterdir()}
        left = [path.name for path in found]
        return [*self.problems, *sorted(left), *(f"no {name}" for name in sorted(missing))]


def kill_at(folder: Path, number: int, kills: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Kill a run at places, one after the other, then let it end."""
    commands = Commands(folder, f"point-{number}")
    for kill in kills:
        commands.run(kill)
    died = [json.loads(line) for line in commands.log.read_text(encoding="utf-8").splitlines()]
    commands.run(None)
    return _point(number, commands, died)


def kill_after(folder: Path, number: int, seconds: float) -> dict[str, Any]:
    """Kill a run after a time, from outside, then let it end.

    A run that was faster is begun anew and killed after three quarters of the time.
    """
    while True:
        commands = Commands(folder, f"point-{number}")
        process = commands.start(None)
        time.sleep(seconds)
        process.kill()
        process.communicate()
        is_complete = (commands.path / "report.html").is_file()
        if process.returncode == -signal.SIGKILL and not is_complete:
            break
        shutil.rmtree(commands.path)
        shutil.rmtree(commands.environment["THUMBS_CACHE"])
        seconds *= 0.75
    place = f"after {seconds:.1f} s, drawn at random"
    died = [{"place": place, "call": 1, "state": state_of(commands.path)}]
    commands.run(None)
    return _point(number, commands, died)


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    points, expected = record["points"], record["unbroken"]["model_sha256"]
    lines = []
    for point in points:
        same = "same" if point["model_sha256"] == expected and not point["wrong"] else "OTHER"
        for i, died in enumerate(point["died"]):
            number, end = (point["point"], same) if i == 0 else ("", "")
            call = f", call {died['call']}" if died["call"] > 1 else ""
            lines.append(f"| {number} | {died['place']}{call} | {died['state']} | {end} |")
    rows = "\n".join(lines)
    return f"""# A run killed at {len(points)} points: {record["same_bytes"]} end in the same bytes

`thumbs train` of a random Llama of 25M parameters on {record["rows"]} short answers, in
float32 on {record["threads"]} thread, killed with SIGKILL, then `thumbs train --resume` (`thumbs
train` again where no run stood yet). Two lines at one point: killed again while it went on. "Same":
`model.safetensors` has the sha256 of the unbroken run's ({expected[:16]}...), summary and report
stand, and nothing half written is left. Between kill and resume the machine stays up: what a power
cut would lose of the disk's own cache is not measured.

| point | killed at | what stood then | end |
|---|---|---|---|
{rows}

- Seed: {record["seed"]}; settings: `{json.dumps(record["settings"])}`
- An unbroken run took {record["unbroken"]["seconds"]} s, everything {record["seconds"]} s.
{setting_lines(record)}
"""


def _point(number: int, commands: Commands, died: list[dict[str, Any]]) -> dict[str, Any]:
    model_sha256, wrong = commands.model_sha256(), commands.wrong()
    print(
        f"point {number}: {died[0]['place']}: {model_sha256[:16]} {wrong}",
        file=sys.stderr,
        flush=True,
    )
    return {"point": number, "died": died, "model_sha256": model_sha256, "wrong": wrong}


if __name__ == "__main__":
    main()
