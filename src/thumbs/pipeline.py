"""The whole way from feedback to a better model, top to bottom; one function per verb.

feedback file -> rows -> plan -> reference pass -> steps -> model -> held-out numbers -> page.
The only place that knows every part; each part knows only what stands below it.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import torch

from thumbs.audit_run import audit_run
from thumbs.budget import micro_batch_tokens, tokens_without_gradient
from thumbs.compare import CompareRequest, JudgeRequest, check_judge, run_comparison
from thumbs.config import Config, dump_config, load_config, with_whole_paths
from thumbs.data.rows import StoredRows
from thumbs.dry_run import plan_run
from thumbs.errors import (
    CheckpointError,
    ConfigError,
    Interrupted,
    ModelError,
    NonFiniteError,
    RunError,
)
from thumbs.evaluate.benchmarks import (
    BENCHMARKS,
    BenchmarkSettings,
    chosen_parts,
    evaluate_benchmarks,
)
from thumbs.evaluate.feedback_task import evaluate_feedback, task_numbers
from thumbs.evaluate.paired_accuracy import paired_accuracy
from thumbs.evaluate.samples import before_and_after
from thumbs.execute import execute, finish, machine_facts
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.inspect import check_feedback
from thumbs.files import sha256_file, write_bytes
from thumbs.model_check import check_with_model
from thumbs.model_or_run import model_or_run, run_config
from thumbs.models.adapter_folder import base_of_adapter, is_adapter_folder
from thumbs.models.load import (
    LoadedModel,
    load_model,
    load_reference,
    pick_device,
    require_model,
    trained_model,
)
from thumbs.prepare import (
    Prepared,
    describe_data,
    prepare,
    print_data,
)
from thumbs.progress import console, silence
from thumbs.report.page import write_report
from thumbs.runs.origin import Origin, origin_config, read_origin, require_same_origin
from thumbs.runs.rundir import (
    RunDir,
    existing_run,
    new_run,
    open_run,
    read_described,
    read_json,
    require_unused,
    resumable,
    write_json,
)
from thumbs.train.launch import decided_by_first, joined_ranks, leading
from thumbs.train.optim import require_optimizer
from thumbs.train.ranks import Ranks

NUM_DEMO_PROBLEMS = 1_000

__all__ = [
    "BENCHMARKS",
    "BenchmarkSettings",
    "audit",
    "check",
    "compare",
    "demo",
    "evaluate",
    "import_feedback",
    "judge_check",
    "plan",
    "report",
    "resume_training",
    "train_model",
]


# ---- the verbs


def check(
    feedback: Path,
    *,
    model: str | None = None,
    max_tokens: int = 2048,
    beta: float = 0.1,
    near_duplicates: bool = False,
) -> dict[str, Any]:
    """`thumbs check`: what is in a feedback file; with `model`, also what it is to that model."""
    result = check_feedback(feedback, near_duplicates=near_duplicates).as_dict()
    if model:
        result |= check_with_model(feedback, result, model, max_tokens=max_tokens, beta=beta)
    return result


def plan(feedback: Path, config: Config) -> dict[str, Any]:
    """`thumbs plan`: what a run would be; loads no weights and writes nothing."""
    config = with_whole_paths(config)
    _require_whole_model(config.model.name_or_path)
    require_optimizer(config.train, pick_device())
    return plan_run(feedback, config)


def train_model(
    feedback: Path,
    config: Config,
    out: Path,
    *,
    demo: dict[str, Any] | None = None,
    page: bool = True,
) -> dict[str, Any]:
    """`thumbs train`: a run folder with a trained model, its numbers and, with `page`, its report.

    Of the processes that torchrun starts the first returns them, the others nothing.

    Raises:
        ThumbsError: whatever is wrong with the input; nothing is written before it is all known.
    """
    config = with_whole_paths(config)
    with joined_ranks(pick_device()) as ranks:
        if ranks.rank > 0:
            return _train_along(out, ranks)
        with leading(ranks) as begin, new_run(out) as run:
            _require_whole_model(config.model.name_or_path)
            require_model(config.model)
            require_optimizer(config.train, pick_device())
            today = datetime.now(UTC).date()
            prepared = prepare(feedback, config, today)
            policy = load_model(config.model, device=pick_device(), seed=config.train.seed)
            _require_context(policy, prepared.rows)
            described = describe_data(feedback, prepared, policy.identity, today)
            reference = policy.identity
            if config.model.reference is not None:
                # Loaded again for its pass: what it is must be known before the run stands.
                named = load_reference(config.model, prepared.tokenizer, device=pick_device())
                reference = named.identity
                described["reference"] = asdict(reference)
            tokens = micro_batch_tokens(config, policy, prepared, ranks)
            inputs = {"feedback": described["feedback"]["sha256"], "reference": reference.sha256}
            origin = _origin(config, inputs, prepared, policy, tokens, ranks)
            write_json(run.data, described | {"origin": origin.to_dict()})
            write_bytes(run.config, dump_config(config).encode())  # now it is a run
            begin()
            with resumable(out):
                print_data(described)
                return execute(
                    run, config, prepared, policy, origin, demo=demo, ranks=ranks, page=page
                )


def resume_training(path: Path, *, page: bool = True) -> dict[str, Any]:
    """`thumbs train --resume RUN`: goes on after the last checkpoint, or from the start."""
    with joined_ranks(pick_device()) as ranks:
        if ranks.rank > 0:
            return _train_along(path, ranks)
        with leading(ranks) as begin, existing_run(path) as run, resumable(path):
            finished = finish(run, read_described(run).get("weights"))
            if finished is not None:
                return finished
            as_begun = _as_begun(run, ranks)
            begin()
            return execute(run, *as_begun, ranks=ranks, page=page)


def _train_along(path: Path, ranks: Ranks) -> dict[str, Any]:
    """What a rank beside the first does, once that one has made or opened the run in `path`."""
    silence()
    if decided_by_first(False, ranks):
        run = open_run(path)
        with suppress(Interrupted, NonFiniteError):  # they come to every rank; the first one tells
            execute(run, *_as_begun(run, ranks), ranks=ranks)
    return {}


def _as_begun(run: RunDir, ranks: Ranks) -> tuple[Config, Prepared, LoadedModel, Origin]:
    """What `execute` takes, as it was when the run began.

    Raises:
        ThumbsError: it is not the same any more.
    """
    config = run_config(run)
    described = read_described(run)
    require_optimizer(config.train, pick_device())
    feedback = Path(described["feedback"]["path"])
    if not feedback.is_file() or sha256_file(feedback) != described["feedback"]["sha256"]:
        state = "has changed" if feedback.is_file() else "is missing"
        raise RunError(f"{run.data}: the feedback file {feedback} {state} since the run began")
    began = read_origin(described.get("origin"), str(run.data))
    prepared = prepare(feedback, config, date.fromisoformat(described["today"]))
    policy = load_model(config.model, device=pick_device(), seed=config.train.seed)
    if policy.identity.sha256 != began.inputs.get("policy"):
        name = config.model.name_or_path
        raise CheckpointError(
            f"{run.path}: {name} holds other weights, or says otherwise what they compute "
            "(config.json), than when the run began. Restore it, or start a new run."
        )
    tokens = began.micro_batch_tokens  # as the run resolved it, whatever is automatic today
    if config.train.micro_batch_tokens != began.config["train"]["micro_batch_tokens"]:
        tokens = micro_batch_tokens(config, policy, prepared, ranks)
    origin = _origin(config, began.inputs, prepared, policy, tokens, ranks)
    require_same_origin(
        began, origin, f"{run.config}: is not what the run began with", "it began with"
    )
    return config, prepared, policy, origin


def evaluate(
    model: str,
    *,
    tasks: Sequence[str] = ("feedback",),
    feedback: Path | None = None,
    reference: str | None = None,
    benchmarks: BenchmarkSettings | None = None,
    samples: int = 0,
) -> dict[str, Any]:
    """`thumbs eval`: how well the implied reward of a policy ranks the thumbs of a file, and how
    much of the benchmarks it gets right.

    model: a run, or a model folder or hub id with `reference`. feedback: default the run's own
    held-out rows. samples: prompts of these to answer before and after, into RUN/samples.json.
    """
    subject = model_or_run(model)
    if samples and subject.run is None:
        raise ConfigError(f"--samples: {model} is a model; answers before and after are of a run")
    settings = benchmarks or BenchmarkSettings()
    chosen = [name for name in BENCHMARKS if name in tasks]
    parts = chosen_parts(chosen, subject.policy, settings) if chosen else {}
    asks_votes = "feedback" in tasks or samples > 0
    votes = subject.votes(feedback) if asks_votes else []
    base = subject.reference(reference) if asks_votes else None
    benchmarked = evaluate_benchmarks(parts, subject.policy, settings)  # refuses before any work
    results: dict[str, Any] = {}
    if base is not None and "feedback" in tasks:
        metrics = evaluate_feedback(
            votes,
            subject.config,
            policy=subject.policy,
            reference=base,
            today=subject.today,
            micro_batch_tokens=tokens_without_gradient(subject.config, pick_device()),
        )
        results["feedback"] = task_numbers(metrics)
    if base is not None and samples and subject.run is not None:
        answered = before_and_after(
            votes,
            subject.config,
            policy=subject.policy,
            reference=base,
            today=subject.today,
            most=samples,
        )
        write_json(subject.run.samples, {"examples": answered})
        results["samples"] = {"path": str(subject.run.samples), "n": len(answered)}
    return results | benchmarked


def compare(request: CompareRequest) -> dict[str, Any]:
    """`thumbs compare`: the win rate of A over B by a judge, in both orders, with its interval."""
    return run_comparison(request)


def judge_check(
    request: JudgeRequest, files: Sequence[Path], *, limit: int | None = None, out: Path | None
) -> dict[str, Any]:
    """`thumbs judge-check`: how often a judge says what people said of pairs of answers."""
    return check_judge(request, files, limit=limit, out=out)


def audit(run: Path, out: Path | None = None, top: int | None = None) -> dict[str, Any]:
    """`thumbs audit`: rows whose implied reward contradicts their label; `out` gets them."""
    return audit_run(run, out, top)


def report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """`thumbs report`: one page about one run, or several side by side."""
    return write_report(list(runs), out)


def demo(out: Path | None, seed: int, changes: Sequence[str] = ()) -> dict[str, Any]:
    """`thumbs demo`: the embedded model gets better from the embedded feedback log.

    changes: overrides of its settings, as `a.b=value`.
    """
    from thumbs.demo.embedded import DEMO_SETTINGS, feedback_log, model_folder
    from thumbs.demo.exam import examples, take_exam
    from thumbs.demo.task import test_problems

    started = time.perf_counter()
    torch.set_num_threads(1)  # for 1M parameters a second thread costs more than it brings
    folder = out or _next_free(Path("thumbs-demo"))
    require_unused(folder)
    settings = [f"{key}={value}" for key, value in DEMO_SETTINGS.items()]
    config = load_config(
        None, [*settings, f"train.seed={seed}", *changes], model=str(model_folder())
    )
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
    trained = trained_model(config.model, str(RunDir(folder).model))
    after = take_exam(load_model(trained, device=device), problems, seed=seed)
    numbers = {
        **paired_accuracy(before.sampled_correct, after.sampled_correct),
        "greedy_before": sum(before.greedy_correct) / len(problems),
        "greedy_after": sum(after.greedy_correct) / len(problems),
        "num_problems": len(problems),
        "examples": examples(before, after, problems),
    }
    run = RunDir(folder)
    write_json(run.summary, read_json(run.summary) | {"demo": numbers})
    audit_run(folder, None, None)  # for the page
    page = write_report(folder)
    shown = {key: value for key, value in numbers.items() if key != "examples"}
    return {
        **{key: result[key] for key in ("run", "model")},
        **shown,
        "seconds": time.perf_counter() - started,
        "report": str(page),
        "examples": numbers["examples"],
    }


def _origin(
    config: Config,
    inputs: Mapping[str, str],
    prepared: Prepared,
    policy: LoadedModel,
    micro_batch_tokens: int,
    ranks: Ranks,
) -> Origin:
    rows = prepared.sha256()
    inputs = {**inputs, "policy": policy.identity.sha256, "rows and batches": rows}
    machine = machine_facts(pick_device(), micro_batch_tokens, ranks)
    return Origin(origin_config(config), inputs, machine)


# ---- small checks and lines


def _require_whole_model(name: str) -> None:
    if is_adapter_folder(name):
        raise ConfigError(
            f"--model: {name} holds a LoRA adapter, not a whole model. To train it on, give "
            f"--model {base_of_adapter(Path(name))} --set model.adapter={name}"
        )


def _require_context(policy: LoadedModel, rows: StoredRows) -> None:
    context = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
    longest = int(rows.tokens.max())
    if context and longest > context:
        raise ModelError(
            f"{policy.identity.name_or_path}: takes {context:,} tokens, but the longest row has "
            f"{longest:,}. Set data.max_tokens={context} or less."
        )


def _next_free(base: Path) -> Path:
    candidates = [base, *(base.with_name(f"{base.name}-{i}") for i in range(2, 10_000))]
    return next(path for path in candidates if not path.exists())
