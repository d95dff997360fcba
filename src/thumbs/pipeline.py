"""The whole way from feedback to a better model, top to bottom; one function per verb.

feedback file -> rows -> plan -> reference pass -> steps -> model -> held-out numbers -> page.
The only place that knows every part; each part knows only what stands below it.
"""

import functools
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from thumbs.config import Config, dump_config, load_config
from thumbs.core.losses import load_loss
from thumbs.data.rows import Row
from thumbs.data.templates import load_template
from thumbs.errors import CheckpointError, ConfigError, ModelError, RunError
from thumbs.evaluate.feedback_task import evaluate_feedback, task_numbers
from thumbs.evaluate.heldout import HeldoutMetrics
from thumbs.evaluate.intervals import newcombe_paired, wilson
from thumbs.evaluate.score import evaluate_heldout
from thumbs.feedback.file import read_feedback
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.inspect import check_feedback
from thumbs.files import sha256_file, write_bytes
from thumbs.models.load import LoadedModel, load_model, load_reference, pick_device
from thumbs.prepare import (
    Prepared,
    describe_data,
    is_heldout,
    prepare,
    print_data,
    tokenize_records,
)
from thumbs.progress import console
from thumbs.report.page import write_report
from thumbs.runs.checkpoint import load_latest
from thumbs.runs.rundir import (
    RunDir,
    create_run,
    open_run,
    read_json,
    require_unused,
    write_json,
)
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
NUM_DEMO_PROBLEMS = 1_000

__all__ = [
    "check",
    "demo",
    "evaluate",
    "import_feedback",
    "report",
    "resume_training",
    "train_model",
]


# ---- the verbs


def check(feedback: Path, *, model: str | None = None, max_tokens: int = 2048) -> dict[str, Any]:
    """What is in a feedback file; with `model`, also its lengths in tokens and what gets cut."""
    result = check_feedback(feedback).as_dict()
    if model:
        config = load_config(None, [f"data.max_tokens={max_tokens}"], model=model)
        tokenized = tokenize_records(list(read_feedback(feedback)), config, date.today())
        result["tokens"] = {
            "max_tokens": max_tokens,
            "rows": len(tokenized.rows),
            "longest": max(len(r.prompt_ids) + len(r.completion_ids) for r in tokenized.rows),
            "total": sum(len(r.prompt_ids) + len(r.completion_ids) for r in tokenized.rows),
            "cuts": tokenized.counts,
            "drops": tokenized.drops,
        }
    return result


def train_model(
    feedback: Path, config: Config, out: Path, *, demo: dict[str, Any] | None = None
) -> dict[str, Any]:
    """`thumbs train`: a run folder with a trained model, its numbers and its report.

    Raises:
        ThumbsError: whatever is wrong with the input; nothing is written before it is all known.
    """
    require_unused(out)
    today = datetime.now(UTC).date()
    prepared = prepare(feedback, config, today)
    policy = load_model(config.model, device=pick_device())
    _require_context(policy, prepared.rows)
    run = create_run(out)
    write_bytes(run.config, dump_config(config).encode())
    described = describe_data(feedback, prepared, policy.identity, today)
    write_json(run.data, described)
    print_data(described)
    return _train(run, config, prepared, policy, demo=demo)


def resume_training(path: Path) -> dict[str, Any]:
    """`thumbs train --resume RUN`: goes on after the last checkpoint, or from the start."""
    run = open_run(path)
    config = load_config(run.config)
    described = read_json(run.data)
    feedback = Path(described["feedback"]["path"])
    if not feedback.is_file() or sha256_file(feedback) != described["feedback"]["sha256"]:
        state = "has changed" if feedback.is_file() else "is missing"
        raise RunError(f"{run.data}: the feedback file {feedback} {state} since the run began")
    if run.summary.is_file():
        raise RunError(f"{path}: this run is complete; see {run.report}")
    prepared = prepare(feedback, config, date.fromisoformat(described["today"]))
    policy = load_model(config.model, device=pick_device())
    if policy.identity.weight_sha256 != described["policy"]["weight_sha256"]:
        raise CheckpointError(
            f"{path}: {config.model.name_or_path} holds other weights than when the run began"
        )
    return _train(run, config, prepared, policy)


def evaluate(
    model: str, *, feedback: Path | None = None, reference: str | None = None
) -> dict[str, Any]:
    """`thumbs eval`: how well the implied reward of a policy ranks the thumbs of a file.

    model: a run, or a model folder or hub id with `reference`. feedback: default the run's own
    held-out rows.
    """
    if (Path(model) / "config.yaml").is_file():
        run = open_run(Path(model))
        config = load_config(run.config)
        described = read_json(run.data)
        base = reference or config.model.reference or config.model.name_or_path
        today = date.fromisoformat(described["today"])
        feedback = feedback or Path(described["feedback"]["path"])
        only_heldout = str(feedback) == described["feedback"]["path"]
        policy_name = str(run.model)
    else:
        if reference is None or feedback is None:
            raise ConfigError(
                f"{model}: is a model, not a run; give --reference (what it was trained from) and "
                "--feedback, or give a run folder"
            )
        config, base, policy_name = load_config(None, model=model), reference, model
        today, only_heldout = datetime.now(UTC).date(), False
    records = list(read_feedback(feedback))
    if only_heldout:
        records = [r for r in records if is_heldout(r, config)]
    metrics = evaluate_feedback(
        records,
        config,
        policy=policy_name,
        reference=base,
        today=today,
        micro_batch_tokens=_micro_batch_tokens(config, pick_device()),
    )
    return {"feedback": task_numbers(metrics)}


def report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """`thumbs report`: one page about one run, or several side by side."""
    return write_report(list(runs), out)


def demo(out: Path | None, seed: int) -> dict[str, Any]:
    """`thumbs demo`: the embedded model gets better from the embedded feedback log."""
    from thumbs.demo.embedded import DEMO_SETTINGS, feedback_log, model_folder
    from thumbs.demo.exam import take_exam
    from thumbs.demo.task import test_problems

    started = time.perf_counter()
    torch.set_num_threads(1)  # for 1M parameters a second thread costs more than it brings
    folder = out or _next_free(Path("thumbs-demo"))
    require_unused(folder)
    settings = [f"{key}={value}" for key, value in DEMO_SETTINGS.items()]
    config = load_config(None, [*settings, f"train.seed={seed}"], model=str(model_folder()))
    feedback = folder.with_name(folder.name + "-feedback.jsonl")
    imported = import_feedback([feedback_log()], feedback)
    console.print(
        f"imported {imported.records:,} records from {imported.source}: "
        f"{imported.desirable:,} desirable, {imported.undesirable:,} undesirable"
    )
    for warning in check_feedback(feedback).warnings:
        console.print(f"check: {warning}")
    device = pick_device()
    problems = test_problems(NUM_DEMO_PROBLEMS, seed)
    before = take_exam(load_model(config.model, device=device), problems, seed=seed)
    result = train_model(feedback, config, folder, demo={})
    trained = config.model.model_copy(update={"name_or_path": str(RunDir(folder).model)})
    after = take_exam(load_model(trained, device=device), problems, seed=seed)
    numbers = _compare_exams(before, after, problems)
    run = RunDir(folder)
    write_json(run.summary, read_json(run.summary) | {"demo": numbers})
    page = write_report(folder)
    shown = {key: value for key, value in numbers.items() if key != "examples"}
    return {
        **{key: result[key] for key in ("run", "model")},
        **shown,
        "seconds": time.perf_counter() - started,
        "report": str(page),
        "examples": numbers["examples"],
    }


# ---- from plan to run


def _train(
    run: RunDir,
    config: Config,
    prepared: Prepared,
    policy: LoadedModel,
    *,
    demo: dict[str, Any] | None = None,
) -> dict[str, Any]:
    started = time.perf_counter()
    scorer = build_scorer(policy.model, dtype=config.model.dtype)
    if not scorer.head_last:
        console.print("the model's own forward is used: its head does more than a projection")
    if config.train.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable()  # type: ignore[no-untyped-call]
    reference = _reference_values(run, config, prepared, scorer, policy)
    tokens = _micro_batch_tokens(config, scorer.device)
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
    )


def _micro_batch_tokens(config: Config, device: torch.device) -> int:
    given = config.train.micro_batch_tokens
    return AUTO_MICRO_BATCH_TOKENS[device.type] if given == "auto" else int(given)


def _save_model(run: RunDir, config: Config, policy: LoadedModel, prepared: Prepared) -> None:
    policy.model.save_pretrained(run.model)
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


# ---- the demo's numbers


def _compare_exams(before: Any, after: Any, problems: Sequence[Any]) -> dict[str, Any]:
    """Accuracy before and after with Wilson intervals, and Newcombe's of the paired difference."""
    from thumbs.demo.exam import examples

    n = len(problems)
    right = {"before": sum(before.sampled_correct), "after": sum(after.sampled_correct)}
    low, high = newcombe_paired(before.sampled_correct, after.sampled_correct)
    return {
        "before": right["before"] / n,
        "before_ci": list(wilson(right["before"], n)),
        "after": right["after"] / n,
        "after_ci": list(wilson(right["after"], n)),
        "difference": (right["after"] - right["before"]) / n,
        "ci_low": low,
        "ci_high": high,
        "greedy_before": sum(before.greedy_correct) / n,
        "greedy_after": sum(after.greedy_correct) / n,
        "num_problems": n,
        "examples": examples(before, after, problems),
    }


# ---- small checks and lines


def _require_context(policy: LoadedModel, rows: Sequence[Row]) -> None:
    context = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(len(row.prompt_ids) + len(row.completion_ids) for row in rows)
    if context and longest > context:
        raise ModelError(
            f"{policy.identity.name_or_path}: takes {context:,} tokens, but the longest row has "
            f"{longest:,}. Set data.max_tokens={context} or less."
        )


def _print_heldout(step: int, metrics: HeldoutMetrics | None) -> None:
    if metrics is not None:
        numbers = metrics.to_dict()
        console.print(f"step {step}: held-out AUC {numbers['auc']}, accuracy {numbers['accuracy']}")


def _next_free(base: Path) -> Path:
    candidates = [base, *(base.with_name(f"{base.name}-{i}") for i in range(2, 10_000))]
    return next(path for path in candidates if not path.exists())
