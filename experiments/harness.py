"""One trial of an experiment: votes of a condition, a training run, an exam.

In: a `Trial`. Out: its outcome. The run is the one that `thumbs train` makes, with its settings. A
finished trial is read from .experiments/ and not run again; a killed one starts anew.
"""

import dataclasses
import os
import shutil
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from experiments.conditions import FAST, Condition, exam_problems, pool_reader, records_of
from experiments.starts import start_folder
from thumbs import pipeline
from thumbs.config import load_config
from thumbs.demo.exam import answer_ids
from thumbs.demo.task import Problem, is_correct
from thumbs.feedback.file import write_feedback
from thumbs.files import sha256_bytes, write_bytes
from thumbs.models.load import LoadedModel, load_model, trained_model
from thumbs.progress import console, progress_bar
from thumbs.runs.rundir import RunDir, read_json, read_metrics

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".experiments" / ("trials-fast" if FAST else "trials")
VERSION = 1  # of what a trial does; raise it where trials that are done would come out otherwise

EXAM, EXAM_GREEDY, EXAM_VALIDATION = (24, 8, 24) if FAST else (250, 100, 300)  # problems
SETTINGS = (
    "model.dtype=float32",
    "data.max_tokens=256",
    "data.heldout_fraction=0",
    "loss.beta=0.1",
    "train.batch_size=16",
    "train.epochs=1",
)

Outcome = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """A training run and its exam.

    method: how tables name it. settings: of `thumbs train --set`, beside SETTINGS; None trains
    nothing. start: the model it begins from. validation: tunes a rate, and is not reported.
    """

    method: str
    condition: Condition
    settings: tuple[str, ...] | None
    seed: int
    learning_rate: float = 0.0
    start: str = "embedded"
    validation: bool = False

    def key(self) -> str:
        """Names its file: a hash of all it depends on but what tables call it."""
        depends = dataclasses.asdict(self) | {"method": "", "version": VERSION}
        return sha256_bytes(orjson.dumps(depends, option=orjson.OPT_SORT_KEYS))[:16]


def outcomes(trials: Iterable[Trial], title: str, *, finished_only: bool = False) -> list[Outcome]:
    """The outcomes of `trials`, seed by seed; with `finished_only` of those that are finished."""
    wanted = sorted(trials, key=lambda trial: trial.seed)
    found = []
    with progress_bar(title, len(wanted), "trials") as bar:
        for trial in wanted:
            if not finished_only or finished(trial):
                found.append(run_trial(trial))
            bar.advance(1, trial.method)
    return found


def finished(trial: Trial) -> bool:
    return _file(trial).is_file()


def run_trial(trial: Trial) -> Outcome:
    """The outcome of a trial: read where it is finished, else computed and kept."""
    file = _file(trial)
    if not file.is_file():
        torch.set_num_threads(1)
        quiet, console.quiet = console.quiet, True
        try:
            write_bytes(file, orjson.dumps(_computed(trial)))
        finally:
            console.quiet = quiet
    outcome: Outcome = orjson.loads(file.read_bytes())
    return outcome | {"method": trial.method}


def _file(trial: Trial) -> Path:
    return WORK / "outcomes" / f"{trial.key()}.json"


def _computed(trial: Trial) -> Outcome:
    os.environ["THUMBS_CACHE"] = str(WORK / "cache")
    started = time.perf_counter()
    start = start_folder(trial.start, trial.seed, WORK)
    about: Outcome = {
        "condition": trial.condition.describe(),
        "settings": list(trial.settings or ()),
        "learning_rate": trial.learning_rate,
        "start": trial.start,
        "seed": trial.seed,
        "validation": trial.validation,
    }
    folder = WORK / "runs" / f"{trial.key()}-{os.getpid()}"  # another process may run it too
    shutil.rmtree(folder, ignore_errors=True)
    if trial.settings is None:
        model = load_model(load_config(None, SETTINGS, model=start).model, device=_cpu())
        trained: Outcome = {}
    else:
        run = train(trial, start, folder)
        trained = about_run(run)
        config = load_config(run.config)
        model = load_model(trained_model(config.model, str(run.model)), device=_cpu())
    found = about | trained | exam(model, trial)
    shutil.rmtree(folder, ignore_errors=True)
    return found | {"seconds": time.perf_counter() - started}


def train(trial: Trial, start: str, folder: Path) -> RunDir:
    """The finished run of a trial, in `folder`."""
    answerer = start_folder(_pool_of(trial), trial.seed, WORK)
    pool = pool_reader(WORK / "pools", answerer, trial.seed)
    records = records_of(trial.condition, trial.seed, pool)
    folder.mkdir(parents=True)
    feedback = folder / "feedback.jsonl"
    write_feedback(feedback, records)
    changes = [
        *SETTINGS,
        f"train.seed={trial.seed}",
        f"train.learning_rate={trial.learning_rate}",
        *(trial.settings or ()),
    ]
    run = RunDir(folder / "run")
    config = load_config(None, changes, model=start)
    pipeline.train_model(feedback, config, run.path, page=False)
    return run


def _pool_of(trial: Trial) -> str:
    """Whose answers are rated: those of a pretrained model its own, else the embedded one's."""
    return trial.start if trial.start.startswith("pretrained ") else "embedded"


def about_run(run: RunDir) -> Outcome:
    """What a run was like: rows, weights, z0."""
    data, steps = read_json(run.data), list(read_metrics(run.metrics))
    raw = [step["z0_raw"] for step in steps if step.get("z0_raw") is not None]
    clamped = [step["z0"] for step in steps if step.get("z0_raw") is not None]
    return {
        "rows": data["train_rows"],
        "desirable": data["desirable"],
        "undesirable": data["undesirable"],
        "weights": [data["weights"][f"{label}_weight"] for label in ("desirable", "undesirable")],
        "steps": len(steps),
        "z0_mean": statistics.fmean(clamped) if clamped else None,
        "z0_active": sum(value > 0 for value in raw) / len(raw) if raw else None,
        "reward_desirable": steps[-1]["reward_desirable"],
        "reward_undesirable": steps[-1]["reward_undesirable"],
    }


def exam(loaded: LoadedModel, trial: Trial) -> Outcome:
    """Answers to unseen problems, right or wrong: sampled at temperature 1, and greedy."""
    num = EXAM_VALIDATION if trial.validation else EXAM
    problems = exam_problems(num, trial.seed, validation=trial.validation)
    sampled, lengths = _answers(loaded, problems, trial.seed, temperature=1.0)
    found: Outcome = {
        "correct": "".join("1" if right else "0" for right in sampled),
        "accuracy": sum(sampled) / num,
        "answer_tokens": statistics.fmean(lengths),
    }
    if not trial.validation:
        greedy, _ = _answers(loaded, problems[:EXAM_GREEDY], trial.seed, temperature=0.0)
        found["greedy"] = sum(greedy) / len(greedy)
    return found


def _answers(
    loaded: LoadedModel, problems: Sequence[Problem], seed: int, *, temperature: float
) -> tuple[list[bool], list[int]]:
    ids = answer_ids(loaded, problems, temperature=temperature, seed=2_000_000 + seed)
    texts = loaded.tokenizer.batch_decode(ids, skip_special_tokens=True)
    right = [is_correct(problem, text) for problem, text in zip(problems, texts, strict=True)]
    return right, [len(answer) for answer in ids]


def _cpu() -> torch.device:
    return torch.device("cpu")
