"""A run killed anywhere goes on and ends in the bytes of an unbroken one; one asked to end does."""

import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from thumbs import cli
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.tiny import save_tiny
from thumbs.runs.rundir import read_json, read_metrics

SETTINGS = {
    "train.batch_size": 8,
    "train.epochs": 2,
    "train.learning_rate": 3e-3,
    "train.save_every": 2,
    "train.keep_last": 1,
    "train.eval_every": 2,
    "train.early_stopping": 9,
    "data.heldout_fraction": 0.2,
}
KILLED = -9

Kill = tuple[str, int] | None
Job = Callable[[str, Kill, list[str]], int]
# (place, which of its calls): every place, one run after the other killed at several of them.
KILLS: list[list[tuple[str, int]]] = [
    [
        *(("start, half of config.yaml written", 1), ("start, config.yaml not yet renamed", 1)),
        *(("before step 1, loading done", 1), ("reference pass", 1)),
        *(("cache write", 2), ("cache write", 1)),
    ],
    [
        *(("reference values write", 1), ("before step 1, values frozen", 1)),
        *(("mid-step, backward", 1), ("mid-step, weights moved", 3), ("metrics line", 1)),
    ],
    [
        *(("checkpoint write, policy", 2), ("checkpoint write, optimizer", 1)),
        *(("checkpoint write, manifest", 1), ("checkpoint not yet renamed", 1)),
        *(("old checkpoint half deleted", 1), ("checkpoint just renamed", 1)),
    ],
    [
        *(("model save", 1), ("model not yet renamed", 1), ("model just renamed", 1)),
        *(("summary write", 1), ("report write", 1)),
    ],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and 24 answers to short questions."""
    folder = tmp_path_factory.mktemp("kills")
    save_tiny(folder / "model", "llama")
    records = [
        with_defaults(
            Feedback(prompt=f"Is {i // 2} odd?", completion=f" yes {i % 5}", label=bool(i % 2))
        )
        for i in range(24)
    ]
    write_feedback(folder / "feedback.jsonl", records)
    return folder


@pytest.fixture(scope="module")
def job(folder: Path) -> Iterator[Job]:
    """Runs `thumbs arguments` on a run in a process of its own, killed where told; exit status."""
    jobs, statuses = os.pipe(), os.pipe()
    server = forked(serve_jobs, jobs, statuses, str(folder / "model"))
    os.close(jobs[0])
    os.close(statuses[1])
    with os.fdopen(jobs[1], "w") as stdin, os.fdopen(statuses[0]) as stdout:

        def ask(run: str, kill: Kill, arguments: list[str]) -> int:
            paths = {
                "run": folder / run,
                "log": folder / f"{run}.log",
                "cache": folder / f"{run}-c",
            }
            paths["stderr"] = folder / f"{run}.err"
            words = {key: str(path) for key, path in paths.items()}
            stdin.write(json.dumps({**words, "kill": kill, "arguments": arguments}) + "\n")
            stdin.flush()
            return int(stdout.readline())

        yield ask
    server.join()


def forked(work: Callable[..., None], *arguments: Any) -> ForkProcess:
    """A process that does `work`; forked, it needs no import of its own."""
    with warnings.catch_warnings():
        # Python 3.12 warns of threads; those of a parent that are idle do no harm here.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = get_context("fork").Process(target=work, args=arguments)
        process.start()
    return process


def serve_jobs(jobs: tuple[int, int], statuses: tuple[int, int], model: str) -> None:
    """`python -m benchmarks.killed_run serve MODEL`, in this process."""
    for ours, number in ((jobs[0], 0), (statuses[1], 1)):
        os.dup2(ours, number)
    for descriptor in (*jobs, *statuses):
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    # It changes the size of a chunk, which is for this process alone.
    importlib.import_module("benchmarks.killed_run").serve(model)


def start(folder: Path, run: str) -> list[str]:
    changes = [word for k, v in SETTINGS.items() for word in ("--set", f"{k}={v}")]
    files = [str(folder / "feedback.jsonl"), "--model", str(folder / "model")]
    return ["train", *files, "--out", str(folder / run), *changes]


@pytest.fixture(scope="module")
def unbroken(folder: Path, job: Job) -> Path:
    assert job("unbroken", None, start(folder, "unbroken")) == 0
    return folder / "unbroken"


@pytest.mark.parametrize("kills", KILLS, ids=lambda kills: kills[0][0])
def test_pitfall_22_a_killed_run_ends_in_the_same_bytes(
    kills: list[tuple[str, int]], folder: Path, job: Job, unbroken: Path
) -> None:
    name = kills[0][0].replace(",", "").replace(" ", "-")
    run = folder / name
    for kill in [*kills, None]:
        stands = (run / "config.yaml").is_file()
        arguments = ["train", "--resume", str(run)] if stands else start(folder, name)
        status = job(name, kill, arguments)
        assert status == (KILLED if kill else 0), (folder / f"{name}.err").read_text()
    log = (folder / f"{name}.log").read_text().splitlines()
    assert [(line["place"], line["call"]) for line in map(json.loads, log)] == kills
    assert files(run, "model") == files(unbroken, "model")
    assert torch.equal(frozen_values(run), frozen_values(unbroken))
    assert steps(run) == steps(unbroken)
    assert (run / "heldout.jsonl").read_bytes() == (unbroken / "heldout.jsonl").read_bytes()
    assert {p.name for p in run.iterdir()} == {p.name for p in unbroken.iterdir()}
    assert list(run.rglob("*.partial")) == []
    assert heldout(run) == heldout(unbroken)


def test_sigterm_finishes_the_step_saves_and_exits_75(folder: Path, tmp_path: Path) -> None:
    run, told = tmp_path / "run", tmp_path / "stderr"
    files = [str(folder / "feedback.jsonl"), "--model", str(folder / "model"), "--out", str(run)]
    changes = ["--set", "train.epochs=400", "--set", "train.batch_size=8"]
    command = ["thumbs", "train", *files, *changes]
    process = forked(run_command, command, told)
    deadline = time.monotonic() + 120
    while len(read_metrics(run / "metrics.jsonl")) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()  # SIGTERM
    process.join(timeout=60)
    assert process.exitcode == 75, told.read_text()
    assert f"thumbs train --resume {run}" in " ".join(told.read_text().split())
    steps = len(read_metrics(run / "metrics.jsonl"))
    # The end of an epoch may have left another one before it.
    assert max(p.name for p in (run / "checkpoints").iterdir()) == f"step-{steps:06d}"


def run_command(command: list[str], stderr: Path) -> None:
    """What the shell would start, in this process."""
    with stderr.open("w") as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = os.fdopen(2, "w")
    sys.argv = command
    cli.main()


def files(run: Path, folder: str) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (run / folder).iterdir() if p.name != "README.md"}


def frozen_values(run: Path) -> torch.Tensor:
    return load_file(run / "reference" / "values.safetensors")["logps"]


def steps(run: Path) -> list[dict[str, Any]]:
    return [{**line, "seconds": 0} for line in read_metrics(run / "metrics.jsonl")]


def heldout(run: Path) -> Any:
    return read_json(run / "summary.json")["heldout"]
