"""The training loop: batches in their order, a line of metrics each, checkpoints, clean stops.

In: a policy, the planned batches, the reference's values. Out: the trained policy and what the last
step measured. Reads top to bottom; the caller hands in how to evaluate.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from thumbs.config import TrainConfig
from thumbs.core.reward_shift import RewardShift
from thumbs.data.plan import Batch
from thumbs.errors import Interrupted
from thumbs.files import sync
from thumbs.progress import Bar, console, progress_bar
from thumbs.runs.checkpoint import Checkpoint, load_step, save_checkpoint
from thumbs.runs.origin import with_micro_batch_tokens
from thumbs.runs.rundir import RunDir, append_metrics, keep_metrics_until
from thumbs.scoring.backoff import Budget
from thumbs.scoring.forward import Scorer
from thumbs.stopping import stopping_after
from thumbs.train.adaptive_z0 import Z0Memory, read_memory, step_adaptively
from thumbs.train.evaluations import Evaluate, Standing, evaluate_if_due
from thumbs.train.guard import Guard
from thumbs.train.optim import (
    build_optimizer,
    learning_rate,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)
from thumbs.train.ranks import Ranks
from thumbs.train.reference_sync import SyncedReference
from thumbs.train.scored_pairs import TrainingData
from thumbs.train.step import StepResult, StepSettings, train_step

BOTH_FALL = (
    "the rewards of both labels fall together, so the policy leaves all answers: the learning rate "
    "is probably too high. Start again with train.learning_rate a third of it "
    "(docs/troubleshooting.md)"
)
SAVE_SECONDS = 600  # between checkpoints where train.save_every is null


@dataclass
class Progress:
    """What the loop carries from step to step, and into a checkpoint."""

    step: int = 0
    clamped: float = 0.0  # steps whose z0 was clamped, a share of groups counting as a share
    steps_with_z0: int = 0
    last: dict[str, Any] | None = None
    z0: Z0Memory = field(default_factory=Z0Memory)
    shift: RewardShift = field(default_factory=RewardShift)
    guard: Guard = field(default_factory=Guard)
    guard_trips: list[int] = field(default_factory=list)  # the steps it tripped at
    standing: Standing = field(default_factory=Standing)


def train(
    scorer: Scorer,
    epochs: Sequence[Sequence[Batch]],
    data: TrainingData,
    config: TrainConfig,
    settings: StepSettings,
    run: RunDir,
    *,
    budget: Budget,
    origin: Mapping[str, Any],
    resume: Checkpoint | None = None,
    evaluate: Evaluate | None = None,
    z0_check_every: int | None = None,
    sync_every: int | None = None,
) -> Progress:
    """Train `scorer.model` on every batch (or `config.max_steps` of them), on every rank alike.

    `evaluate(step)` is called every `config.eval_every` steps and after the last; in the end the
    weights are those of the best where `config.takes_best`. `origin` goes into checkpoints.
    `budget`: tokens of one forward; a step that runs out of memory is done again with half.
    `z0_check_every`: see `adaptive_z0`; None estimates z0 on every step. `sync_every`: see
    `reference_sync`; None keeps the reference.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the step was finished and a checkpoint saved.
        OutputError: there is no room for a checkpoint or a line of metrics.
        NonFiniteError: a loss or gradient is not finite.
    """
    schedule = [(epoch, batch) for epoch, batches in enumerate(epochs) for batch in batches]
    schedule = schedule[: config.max_steps]
    optimizer = build_optimizer(scorer.model, config)
    is_first = settings.ranks.rank == 0  # which alone writes
    data, synced = _with_syncs(schedule, data, sync_every)
    progress = Progress() if resume is None else _restore(scorer, optimizer, synced, resume)
    if is_first:
        _keep_lines(run, progress)
    scorer.model.train(config.gradient_checkpointing)  # dropout is 0 either way
    look = functools.partial(_look, progress, len(schedule), evaluate, config, run, settings.ranks)
    if progress.step:  # a stop may have come before an evaluation that was due
        look()
    with (
        stopping_after("this step") as stop,
        progress_bar("train", len(schedule), "steps") as bar,
    ):
        bar.advance(progress.step)
        saved_at = time.monotonic()
        for step in range(progress.step, len(schedule)):
            if progress.standing.ends(config.early_stopping):
                break
            epoch, batch = schedule[step]
            started = time.perf_counter()
            rate = learning_rate(step, len(schedule), config)
            set_learning_rate(optimizer, rate)
            if synced is not None:
                synced.before(step, scorer, budget)
            take = functools.partial(train_step, scorer, optimizer, step=step, stop=stop)
            take = functools.partial(take, shift=progress.shift.value)
            fitting = functools.partial(_step_that_fits, take, data, settings, budget, step)
            result, progress.z0 = step_adaptively(fitting, batch, progress.z0, z0_check_every)
            seconds = time.perf_counter() - started
            timing = {"epoch": epoch, "learning_rate": rate, "seconds": seconds}
            numbers = _count(progress, result, timing | {"micro_batch_tokens": budget.tokens})
            if is_first:
                append_metrics(run.metrics, numbers)
            _show(bar, result, seconds)
            tripped = _watch(progress, config.guard)
            # Asked once: a signal may come while the checkpoint is saved. Ranks stop together.
            stopping = stop.came if settings.ranks.count == 1 else result.stopping
            if not (tripped or stopping):  # else the evaluation is for the run that goes on
                look()
            if is_first and (stopping or tripped or _is_due(progress, schedule, config, saved_at)):
                origin = with_micro_batch_tokens(origin, budget.tokens)
                _save(scorer, optimizer, synced, progress, run, config, origin)
                saved_at = time.monotonic()
            if stopping or tripped:
                raise Interrupted(_stopped(progress.step, len(schedule), tripped))
    if config.takes_best and is_first:
        _take_best(scorer, progress, run, len(schedule))
    scorer.model.eval()
    return progress


def _with_syncs(
    schedule: Sequence[tuple[int, Batch]], data: TrainingData, every: int | None
) -> tuple[TrainingData, SyncedReference | None]:
    """The data with a reference that follows the policy, where it does."""
    if every is None:
        return data, None
    batches = [batch for _, batch in schedule]
    synced = SyncedReference(batches, data.rows, data.reference, every)
    return replace(data, reference=synced), synced


def _keep_lines(run: RunDir, progress: Progress) -> None:
    """Keep the lines that the progress knows; the others are written again."""
    keep_metrics_until(run.metrics, progress.step)
    if run.heldout.is_file():
        keep_metrics_until(run.heldout, progress.standing.evaluated)


def _look(
    progress: Progress,
    num_steps: int,
    evaluate: Evaluate | None,
    config: TrainConfig,
    run: RunDir,
    ranks: Ranks,
) -> None:
    """Take an evaluation into `progress` where one is due."""
    progress.standing = evaluate_if_due(
        progress.standing, progress.step, num_steps, evaluate, config, run, ranks
    )


def _watch(progress: Progress, guard: str) -> bool:
    """Whether the run is to stop because its rewards fall; where it is to warn, it has."""
    if guard == "ignore" or not progress.guard.trips:
        return False
    if guard == "warn" and not progress.guard_trips:
        console.print(f"step {progress.step}: {BOTH_FALL}", soft_wrap=True)
    progress.guard_trips.append(progress.step)
    progress.guard = Guard()  # so that a run that goes on has as many steps again
    return guard == "stop"


def _stopped(step: int, num_steps: int, tripped: bool) -> str:
    return f"stopped after step {step} of {num_steps}" + (f": {BOTH_FALL}" if tripped else "")


def _is_due(
    progress: Progress,
    schedule: Sequence[tuple[int, Batch]],
    config: TrainConfig,
    saved_at: float,
) -> bool:
    """Whether a checkpoint is due: of the best and the last evaluation, of the end of an epoch."""
    step = progress.step
    if step == progress.standing.best_step or progress.standing.ends(config.early_stopping):
        return True
    if step == len(schedule) or schedule[step][0] != schedule[step - 1][0]:
        return True
    if config.save_every:
        return step % config.save_every == 0
    return time.monotonic() - saved_at >= SAVE_SECONDS


def _take_best(scorer: Scorer, progress: Progress, run: RunDir, num_steps: int) -> None:
    """Put the weights of the best evaluation into the model; say so, and of an early end why."""
    best, auc = progress.standing.best_step, progress.standing.best_auc
    assert auc is not None, "there was an evaluation, of rows of both labels"
    if progress.step < num_steps:
        console.print(
            f"ended early, after step {progress.step} of {num_steps}: "
            f"{progress.standing.since_best} evaluations in a row without a better held-out AUC",
            soft_wrap=True,
        )
    console.print(
        f"the model is that of step {best} of {progress.step}, whose held-out AUC was best: "
        f"{auc:.4f}",
        soft_wrap=True,
    )
    if best < progress.step:
        _put_weights(scorer, load_step(run.checkpoints, best))


def _step_that_fits(
    take: Callable[..., StepResult],
    data: TrainingData,
    settings: StepSettings,
    budget: Budget,
    step: int,
    batch: Batch,
) -> StepResult:
    """The step, from its beginning with the same random numbers each time memory runs out."""
    rows = data.rows
    pairs = [*((i, i) for i in batch.rows), *(p for g in batch.groups for p in g.mismatched)]
    longest = max(len(rows[x].prompt_ids) + len(rows[y].completion_ids) for x, y in pairs)
    random_state = torch.get_rng_state()

    def attempt(tokens: int) -> StepResult:
        torch.set_rng_state(random_state)
        return take(batch, data, replace(settings, micro_batch_tokens=tokens))

    if settings.ranks.count > 1:  # the other ranks would wait for this one
        longest = budget.tokens + 1
    return budget.spend(attempt, what=f"step {step + 1}", longest=longest)


def _count(
    progress: Progress, result: StepResult, timing: Mapping[str, int | float]
) -> dict[str, Any]:
    """Take a step into `progress`; its line of metrics."""
    progress.step += 1
    rewards = result.reward_desirable, result.reward_undesirable
    progress.shift, progress.guard = progress.shift.after(*rewards), progress.guard.after(*rewards)
    numbers = asdict(result)
    numbers.pop("stopping")
    clamped = numbers.pop("clamped")
    if clamped is not None:
        progress.clamped += clamped
        progress.steps_with_z0 += 1
    share = progress.clamped / progress.steps_with_z0 if progress.steps_with_z0 else None
    progress.last = {
        "step": progress.step,
        **numbers,
        "clamped_share": share,
        **timing,
    }
    return progress.last


def _show(bar: Bar, result: StepResult, seconds: float) -> None:
    rows = result.num_desirable + result.num_undesirable
    z0 = "" if result.z0 is None else f" z0 {result.z0:.3f}"
    speed = f"{rows / seconds:,.0f} rows/s {result.tokens / seconds:,.0f} tokens/s"
    bar.advance(1, f"loss {result.loss:.4f}{z0} {speed}")


def _save(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    synced: SyncedReference | None,
    progress: Progress,
    run: RunDir,
    config: TrainConfig,
    origin: Mapping[str, Any],
) -> None:
    policy = {n: p.detach() for n, p in scorer.model.named_parameters() if p.requires_grad}
    tensors = optimizer_tensors(scorer.model, optimizer) | {"rng/torch": torch.get_rng_state()}
    if synced is not None:
        tensors |= synced.tensors()
    state = {
        "clamped": progress.clamped,
        "steps_with_z0": progress.steps_with_z0,
        "last": progress.last,
        "z0": asdict(progress.z0),
        "shift": asdict(progress.shift),
        "guard": asdict(progress.guard),
        "guard_trips": progress.guard_trips,
        "standing": asdict(progress.standing),
    }
    checkpoint = Checkpoint(progress.step, policy, tensors, state, origin)
    for lines in (run.metrics, run.heldout):
        if lines.is_file():
            sync(lines)  # those up to this step must not be lost where the checkpoint is not
    best = progress.standing.best_step
    save_checkpoint(run.checkpoints, checkpoint, keep_last=config.keep_last, keep_step=best)


def _restore(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    synced: SyncedReference | None,
    checkpoint: Checkpoint,
) -> Progress:
    _put_weights(scorer, checkpoint)
    restore_optimizer(scorer.model, optimizer, checkpoint.optimizer)
    torch.set_rng_state(checkpoint.optimizer["rng/torch"])
    if synced is not None:
        synced.restore(checkpoint.step, checkpoint.optimizer)
    state = dict(checkpoint.state)
    z0 = read_memory(state.pop("z0")) if "z0" in state else Z0Memory()
    shift = RewardShift(**state.pop("shift", {}))
    guard = Guard(**{label: tuple(met) for label, met in state.pop("guard", {}).items()})
    standing = Standing(**state.pop("standing", {}))
    return Progress(checkpoint.step, **state, z0=z0, shift=shift, guard=guard, standing=standing)


def _put_weights(scorer: Scorer, checkpoint: Checkpoint) -> None:
    own = dict(scorer.model.named_parameters())
    with torch.no_grad():
        for name, tensor in checkpoint.policy.items():
            own[name].copy_(tensor)
