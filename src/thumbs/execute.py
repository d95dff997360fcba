"""From everything prepared to a trained model, its held-out numbers and its page.

In: a run folder, a configuration, the plan, the policy. Out: the run, filled.
reference pass -> steps -> model -> held-out numbers -> summary -> report.
"""

import functools
import platform
import shlex
import sys
import time
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from typing import Any

import torch

from thumbs.config import Config
from thumbs.core.losses import load_loss
from thumbs.data.templates import load_template
from thumbs.evaluate.heldout import HeldoutMetrics
from thumbs.evaluate.score import evaluate_heldout
from thumbs.files import write_bytes
from thumbs.models.load import LoadedModel, load_reference, merge_adapters, save_model
from thumbs.prepare import Prepared
from thumbs.progress import console
from thumbs.report.page import write_report
from thumbs.runs.checkpoint import load_latest
from thumbs.runs.rundir import RunDir, read_json, write_json
from thumbs.scoring.cache import ScoreCache, cache_folder
from thumbs.scoring.forward import Scorer, build_scorer
from thumbs.scoring.reference import (
    ReferenceValues,
    freeze_reference,
    read_frozen_reference,
    reference_pass,
)
from thumbs.train.loop import Progress, train
from thumbs.train.step import StepSettings, TrainingData

AUTO_MICRO_BATCH_TOKENS = {"cpu": 4_096, "cuda": 16_384}  # padded tokens of one forward


def execute(
    run: RunDir,
    config: Config,
    prepared: Prepared,
    policy: LoadedModel,
    *,
    demo: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Reference pass, steps, held-out numbers, model, summary, page; returns what `train` prints.

    The run goes on after its newest checkpoint, or from the start where it has none.
    """
    started = time.perf_counter()
    scorer = build_scorer(policy.model, dtype=config.model.dtype)
    for note in scorer.notes():
        console.print(note)
    if config.train.gradient_checkpointing:
        policy.model.activation_checkpointing_enable()
    reference = _reference_values(run, config, prepared, scorer, policy)
    tokens = micro_batch_tokens(config, scorer.device)
    heldout = functools.partial(
        evaluate_heldout,
        rows=prepared.rows,
        members=prepared.heldout,
        batches=prepared.heldout_batches,
        reference=reference,
        beta=config.loss.beta,
        micro_batch_tokens=tokens,
    )
    is_own_reference = config.model.reference is None
    before = heldout(None if is_own_reference else scorer) if prepared.heldout else None
    checkpoint, damage = load_latest(run.checkpoints)
    for line in damage:
        console.print(line)
    progress = train(
        scorer,
        prepared.epochs,
        TrainingData(prepared.rows, reference),
        config.train,
        _step_settings(config, prepared, tokens),
        run,
        resume=checkpoint,
        evaluate=lambda step: _print_heldout(step, heldout(scorer) if prepared.heldout else None),
    )
    after = heldout(scorer) if prepared.heldout else None
    _save_model(run, config, policy, prepared)
    summary = _summary(run, progress, before, after, time.perf_counter() - started)
    write_json(run.summary, summary | {"demo": demo or None})
    write_report(run.path)
    keys = ("run", "model", "steps", "loss", "z0", "seconds")
    result = {key: summary[key] for key in keys} | {"heldout": summary["heldout"]["after"]}
    return result | {"report": str(run.report), "weights": prepared.weights}


def _reference_values(
    run: RunDir, config: Config, prepared: Prepared, scorer: Scorer, policy: LoadedModel
) -> ReferenceValues:
    """Score the plan under the reference unless the run already holds the values."""
    if not run.reference.is_file():
        identity = policy.identity
        if config.model.reference is not None:
            other = load_reference(config.model, prepared.tokenizer, device=scorer.device)
            scorer = build_scorer(other.model, dtype=config.model.dtype)
            identity = other.identity
            described = read_json(run.data)
            write_json(run.data, described | {"reference": asdict(identity)})
        scores = reference_pass(scorer, prepared.planned, ScoreCache(cache_folder()), identity)
        freeze_reference(run.reference, prepared.planned, scores)
    return read_frozen_reference(run.reference, prepared.planned)


def _step_settings(config: Config, prepared: Prepared, micro_batch_tokens: int) -> StepSettings:
    loss = functools.partial(
        load_loss(config.loss.name),
        beta=config.loss.beta,
        desirable_weight=float(prepared.weights["desirable_weight"]),
        undesirable_weight=float(prepared.weights["undesirable_weight"]),
    )
    return StepSettings(
        loss=loss,
        beta=config.loss.beta,
        max_grad_norm=config.train.max_grad_norm,
        micro_batch_tokens=micro_batch_tokens,
        dropout_seed=config.train.seed if config.model.lora and config.model.lora.dropout else None,
    )


def micro_batch_tokens(config: Config, device: torch.device) -> int:
    """Padded tokens of one forward: what the configuration says, or what suits the device."""
    given = config.train.micro_batch_tokens
    return AUTO_MICRO_BATCH_TOKENS[device.type] if given == "auto" else int(given)


def _save_model(run: RunDir, config: Config, policy: LoadedModel, prepared: Prepared) -> None:
    save_model(policy, run.model)
    if config.model.lora is not None and config.model.lora.merge:
        run.model.rename(run.adapter)
        save_model(merge_adapters(policy), run.model)
    template = load_template(config.data.chat_template, prepared.tokenizer, today=date.today())
    if config.data.chat_template is not None and template is not None:
        prepared.tokenizer.chat_template = template.source  # served as it was trained
    prepared.tokenizer.save_pretrained(run.model)
    card = (
        f"---\nlibrary_name: transformers\ntags: [kto, thumbs]\n---\n# {run.path.name}\n\n"
        f"Trained by thumbs {version('thumbs')} with the loss {config.loss.name} on "
        f"{len(prepared.training):,} rated answers, from {config.model.name_or_path}.\n"
    )
    write_bytes(run.model / "README.md", card.encode())


def _summary(
    run: RunDir,
    progress: Progress,
    before: HeldoutMetrics | None,
    after: HeldoutMetrics | None,
    seconds: float,
) -> dict[str, Any]:
    last = progress.last or {}
    packages = ("thumbs", "torch", "transformers")
    return {
        "run": str(run.path),
        "model": str(run.model),
        "steps": progress.step,
        "loss": last.get("loss"),
        "z0": last.get("z0"),
        "heldout": {
            "before": before.to_dict() if before else None,
            "after": after.to_dict() if after else None,
        },
        "seconds": seconds,
        "command": shlex.join(["thumbs", *sys.argv[1:]]),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
    }


def _print_heldout(step: int, metrics: HeldoutMetrics | None) -> None:
    if metrics is not None:
        numbers = metrics.to_dict()
        console.print(f"step {step}: held-out AUC {numbers['auc']}, accuracy {numbers['accuracy']}")
