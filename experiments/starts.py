"""The models that trials begin from, each a folder that is made once.

In: a name, a seed. Out: a folder for `from_pretrained`. A pretraining that was killed goes on.
    embedded          the demo's model
    running text      the embedded model after training on problems and solutions without an end:
                      it has the knowledge and does not stop, like a model before SFT (X8)
    sft, running text the same after SFT on solutions in the demo's form (X8)
    pretrained SIZE   the demo's pretraining at another size (X9)
"""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.conditions import ANSWERS, BLOCK, FAST
from experiments.muon import Muon
from thumbs import pipeline
from thumbs.config import load_config
from thumbs.demo.careless import careless_solution
from thumbs.demo.embedded import model_folder
from thumbs.demo.pretrain import (
    ADAMW_LEARNING_RATE,
    CARELESS_SHARE,
    MUON_LEARNING_RATE,
    STEPS,
    WEIGHT_DECAY,
    Optimizers,
    Shape,
    adamw,
    make_tokenizer,
    matrices_and_rest,
    pretrain,
)
from thumbs.demo.task import Problem, distinct_problems, prompt_messages
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback
from thumbs.files import folder_written_aside
from thumbs.runs.checkpoint import Checkpoint, load_latest, save_checkpoint


@dataclass(frozen=True)
class Pretraining:
    """A size, and how it learns the task."""

    shape: Shape
    steps: int
    optimizers_of: Callable[[Any], Optimizers]


def _muon(model: Any) -> Optimizers:
    """The demo's optimizers, with a Muon that is fast without bfloat16 units too."""
    matrices, rest = matrices_and_rest(model)
    muon = Muon(matrices, lr=MUON_LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    return [(muon, MUON_LEARNING_RATE), adamw(rest, ADAMW_LEARNING_RATE)]


def _adamw(rate: float, model: Any) -> Optimizers:
    """For large layers: Muon's share of a step grows with their width, and gains nothing there."""
    return [adamw(model.parameters(), rate)]


# Steps and rates found by trial: after them the likeliest answer of a model is mostly right.
SIZES = {
    "0.3M": Pretraining(Shape(hidden=64, intermediate=192), STEPS, _muon),
    "1M": Pretraining(Shape(), STEPS, _muon),
    "4M": Pretraining(
        Shape(hidden=256, intermediate=768, layers=5, heads=8), 1200, partial(_adamw, 1e-3)
    ),
    "16M": Pretraining(
        Shape(hidden=512, intermediate=1536, layers=5, heads=8), 1000, partial(_adamw, 3e-4)
    ),
}
ROWS = ANSWERS * BLOCK  # of the two trainings that make the starts of X8
KEPT_EVERY = 50  # steps of a pretraining, at most three minutes
RUNNING = 3  # problems in a row, the first one as the prompt


def start_folder(name: str, seed: int, work: Path) -> str:
    """The folder of the start `name`, made where it is not there yet."""
    if name == "embedded":
        return str(model_folder())
    folder = work / "starts" / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
    if not folder.is_dir():
        if name.startswith("pretrained "):
            _pretrain(folder, SIZES[name.removeprefix("pretrained ")], seed)
        elif name == "running text":
            _tune(folder, str(model_folder()), running_text(seed), 1e-3, seed)
        elif name == "sft, running text":
            base = start_folder("running text", seed, work)
            _tune(folder, base, mixed_solutions(seed), 3e-4, seed)
        else:
            raise ValueError(f"no start is called {name!r}")
    return str(folder)


def running_text(seed: int) -> list[Feedback]:
    """A problem, its solution, and on with further ones: text that does not end at the answer."""
    rng = random.Random(f"running:{seed}")
    drawn = distinct_problems("pretraining", ROWS * RUNNING, 3_000 + seed)
    groups = [drawn[i : i + RUNNING] for i in range(0, len(drawn), RUNNING)]
    return [
        _record(
            first,
            " ".join(
                [_mixed(first, rng), *(f"{p.question} {_mixed(p, rng)}" for p in others)],
            ),
        )
        for first, *others in groups
    ]


def mixed_solutions(seed: int) -> list[Feedback]:
    """Problems and solutions of the quality of the embedded model's last pretraining."""
    rng = random.Random(f"mixed:{seed}")
    drawn = distinct_problems("pretraining", ROWS, 4_000 + seed)
    return [_record(problem, _mixed(problem, rng)) for problem in drawn]


def _mixed(problem: Problem, rng: random.Random) -> str:
    careless = rng.random() < CARELESS_SHARE
    return careless_solution(problem, rng) if careless else problem.solution


def _record(problem: Problem, text: str) -> Feedback:
    return Feedback(
        prompt=prompt_messages(problem),
        completion=[{"role": "assistant", "content": text}],
        label=True,
    )


def _tune(folder: Path, model: str, records: list[Feedback], rate: float, seed: int) -> None:
    """SFT on `records`, with `thumbs train`; only its model is kept."""
    scratch = folder.with_name(f"{folder.name}-run-{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    write_feedback(scratch / "feedback.jsonl", records)
    changes = [
        "model.dtype=float32",
        "data.max_tokens=256",
        "data.heldout_fraction=0",
        "loss.name=sft",
        "train.batch_size=16",
        f"train.learning_rate={rate}",
        f"train.seed={seed}",
    ]
    run = scratch / "run"
    config = load_config(None, changes, model=model)
    pipeline.train_model(scratch / "feedback.jsonl", config, run, page=False)
    if not folder.is_dir():  # another process may have made it meanwhile
        (run / "model").rename(folder)
    shutil.rmtree(scratch)


class CheckpointKeeper:
    """Keeps a pretraining in checkpoints under `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, model: Any, optimizers: Optimizers) -> int:
        checkpoint, damage = load_latest(self.folder)
        for line in damage:
            print(line)
        if checkpoint is None:
            return 0
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(checkpoint.policy[name])
        for key, value in checkpoint.optimizer.items():
            number, place, name = key.split(".")
            optimizer, _ = optimizers[int(number)]
            weight = optimizer.param_groups[0]["params"][int(place)]
            optimizer.state[weight][name] = value
        return checkpoint.step

    def after(self, steps: int, model: Any, optimizers: Optimizers) -> None:
        if steps % KEPT_EVERY:
            return
        moments = {
            f"{number}.{place}.{name}": value
            for number, (optimizer, _) in enumerate(optimizers)
            for place, weight in enumerate(optimizer.param_groups[0]["params"])
            for name, value in optimizer.state[weight].items()
        }
        weights = {name: weight.data for name, weight in model.named_parameters()}
        save_checkpoint(self.folder, Checkpoint(steps, weights, moments, {}), keep_last=1)


def _pretrain(folder: Path, size: Pretraining, seed: int) -> None:
    torch.set_num_threads(1)
    tokenizer = make_tokenizer(seed)
    kept = folder.with_name(f"{folder.name}-kept")
    model = pretrain(
        tokenizer,
        steps=20 if FAST else size.steps,
        seed=seed,
        shape=size.shape,
        optimizers_of=size.optimizers_of,
        keeper=CheckpointKeeper(kept),
    )
    with folder_written_aside(folder) as aside:
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
    shutil.rmtree(kept, ignore_errors=True)
