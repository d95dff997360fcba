"""From everything prepared to a trained model, its held-out numbers and its page.

In: a run folder, a configuration, the plan, the policy. Out: the run, filled.
reference pass -> steps -> model -> held-out numbers -> summary -> report.
"""

import copy
import dataclasses
import functools
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

from thumbs.config import Config
from thumbs.core.loss_inputs import add_likelihood
from thumbs.core.losses import load_loss
from thumbs.errors import CheckpointError, ConfigError, Interrupted, OutOfMemory, RunError
from thumbs.evaluate.heldout import HeldoutMetrics
from thumbs.evaluate.score import evaluate_heldout
from thumbs.feedback.control import template_with_control
from thumbs.files import cache_folder, folder_written_aside, sha256_file
from thumbs.loss_table import loss_needs
from thumbs.models.load import (
    LoadedModel,
    load_reference,
    merge_adapters,
    multiplies_bfloat16,
    save_model,
)
from thumbs.models.value_head import add_value_head, drop_value_head
from thumbs.prepare import Prepared
from thumbs.progress import console
from thumbs.report.page import write_report
from thumbs.runs.checkpoint import Checkpoint, load_latest
from thumbs.runs.origin import (
    Origin,
    read_origin,
    require_same_origin,
    rounding_differences,
    with_micro_batch_tokens,
)
from thumbs.runs.rundir import RunDir, read_json, write_json
from thumbs.scoring.backoff import Budget, is_out_of_memory
from thumbs.scoring.cache import ScoreCache
from thumbs.scoring.compiled import compile_layers
from thumbs.scoring.forward import Scorer, build_scorer
from thumbs.scoring.reference import (
    ReferenceValues,
    freeze_reference,
    frozen_damage,
    read_frozen_reference,
    reference_pass,
)
from thumbs.summary import PACKAGES, heldout_line, summarise, told
from thumbs.train.launch import decided_by_first
from thumbs.train.loop import train
from thumbs.train.ranks import ALONE, Ranks
from thumbs.train.scored_pairs import TrainingData
from thumbs.train.step import BoundLoss, StepSettings


def execute(
    run: RunDir,
    config: Config,
    prepared: Prepared,
    policy: LoadedModel,
    origin: Origin,
    *,
    demo: dict[str, Any] | None = None,
    ranks: Ranks = ALONE,
    page: bool = True,
) -> dict[str, Any]:
    """Reference pass, steps, held-out numbers, model, summary, page; returns what `train` prints.

    Ranks beside the first only take their share of the pass and of the steps; they return nothing.

    The run goes on after its newest whole checkpoint, or from the start where it has none.
    origin: what the run's bytes depend on, for its checkpoints. page: whether to write the page.
    """
    try:
        done = _execute(run, config, prepared, policy, origin, demo, ranks)
        if not page:
            return {key: value for key, value in done.items() if key != "report"}
        if ranks.rank == 0:
            write_report(run.path)
        return done
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"{run.config}: the {policy.model.device.type} has too little memory even for one row "
            "at a time. Free some there, or begin anew with train.gradient_checkpointing=true, a "
            "smaller data.max_tokens, or model.lora."
        ) from None


def _execute(
    run: RunDir,
    config: Config,
    prepared: Prepared,
    policy: LoadedModel,
    origin: Origin,
    demo: dict[str, Any] | None,
    ranks: Ranks,
) -> dict[str, Any]:
    started = time.perf_counter()
    scorer = _scorer(config, policy)
    for note in scorer.notes():
        console.print(note)
    if config.train.gradient_checkpointing:
        policy.model.activation_checkpointing_enable()
    needs_values = loss_needs(config.loss.name).value_head
    if needs_values and not scorer.head_last:
        raise ConfigError(
            f"loss.name: {config.loss.name} reads the states below the model's head, but that of "
            f"{config.model.name_or_path} does more than a projection. Use another loss or model."
        )
    reference = _reference_values(run, config, prepared, scorer, policy, origin, ranks)
    if needs_values:
        add_value_head(policy.model, seed=config.train.seed)
    inputs = {**origin.inputs, "reference values": reference.sha256}
    origin = dataclasses.replace(origin, inputs=inputs)
    checkpoint = _newest_checkpoint(run, origin)
    budget = Budget(origin.micro_batch_tokens, changed=functools.partial(_record_tokens, run))
    heldout = functools.partial(
        evaluate_heldout,
        rows=prepared.rows,
        members=prepared.heldout,
        batches=prepared.heldout_batches,
        reference=reference,
        beta=config.loss.beta,
        budget=budget,
    )
    is_own_reference = config.model.reference is None
    measures = bool(prepared.heldout) and ranks.rank == 0
    before = heldout(None if is_own_reference else scorer) if measures else None
    progress = train(
        scorer,
        prepared.epochs,
        TrainingData(prepared.rows, reference),
        config.train,
        _step_settings(config, prepared, origin.micro_batch_tokens, ranks),
        run,
        budget=budget,
        origin=origin.to_dict(),
        resume=checkpoint,
        z0_check_every=_z0_check_every(config),
        sync_every=config.loss.steps_between_syncs,
        evaluate=functools.partial(_evaluate, heldout, scorer, ranks) if prepared.heldout else None,
    )
    drop_value_head(policy.model)
    if ranks.rank > 0:
        return {}
    after = heldout(scorer) if prepared.heldout else None
    _save_model(run, config, policy, prepared)
    summary = summarise(run, config, progress, before, after, time.perf_counter() - started)
    write_json(run.summary, summary | {"demo": demo or None})
    return told(run, summary) | {"weights": prepared.weights}


def _evaluate(
    heldout: Callable[[Scorer], HeldoutMetrics], scorer: Scorer, ranks: Ranks, step: int
) -> dict[str, Any] | None:
    """The line of an evaluation on the way, which the first rank makes and shows."""
    if ranks.rank > 0:
        return None
    line = heldout_line(heldout(scorer))
    auc, accuracy = ("none" if n is None else f"{n:.3f}" for n in (line["auc"], line["accuracy"]))
    console.print(f"step {step}: held-out AUC {auc}, accuracy {accuracy}")
    return line


def finish(run: RunDir, weights: Any) -> dict[str, Any] | None:
    """What `train` prints of a run that has its summary; None where the model is yet to be made.

    Raises:
        RunError: the run is complete, with its page.
    """
    if not run.summary.is_file():
        return None
    summary = read_json(run.summary)
    for name, sha256 in summary.get("model_sha256", {}).items():
        file = run.model / name
        if not file.is_file() or sha256_file(file) != sha256:
            problem = "is damaged" if file.is_file() else "is missing"
            console.print(f"{file}: {problem}; the model is made again from the last checkpoint")
            run.summary.unlink()
            return None
    if run.report.is_file():
        raise RunError(f"{run.path}: this run is complete; see {run.report}")
    write_report(run.path)
    return told(run, summary) | {"weights": weights}


def machine_facts(
    device: torch.device, micro_batch_tokens: int, ranks: Ranks = ALONE
) -> dict[str, str | int]:
    """What the last bits of the result depend on beside settings and inputs."""
    on_gpu = device.type == "cuda"
    kind = torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability()
    if not on_gpu and multiplies_bfloat16(device):
        kind += " bfloat16"
    return {
        "device": f"{device.type} {kind}",
        "threads": torch.get_num_threads(),
        "ranks": ranks.count,
        "micro_batch_tokens": micro_batch_tokens,
        **{package: version(package) for package in PACKAGES},
    }


def _scorer(config: Config, loaded: LoadedModel) -> Scorer:
    scorer = build_scorer(loaded.model, dtype=config.model.dtype)
    if config.train.compile:
        console.print("compiling the layers of the model (half a minute or so)")
        compile_layers(scorer)
    return scorer


def _newest_checkpoint(run: RunDir, origin: Origin) -> Checkpoint | None:
    """The checkpoint to go on from; damage and what may change the last bits get a line each.

    Raises:
        CheckpointError: the checkpoint is of another run.
    """
    checkpoint, damage = load_latest(run.checkpoints)
    for line in damage:
        console.print(line, soft_wrap=True)
    before = [read_origin(read_json(run.data).get("origin"), str(run.data))]
    if checkpoint is not None:
        place = run.checkpoints / f"step-{checkpoint.step:06d}"
        then = read_origin(checkpoint.origin, str(place))
        require_same_origin(then, origin, f"{place}: is of another run", "checkpoint has")
        before.append(then)
    changed = dict.fromkeys(line for b in before for line in rounding_differences(b, origin))
    if changed:
        what = "; ".join(changed)
        console.print(
            f"the last bits may differ from those of an unbroken run ({what})", soft_wrap=True
        )
    return checkpoint


def _record_tokens(run: RunDir, tokens: int) -> None:
    """What fitted is what a resumed run begins with."""
    described = read_json(run.data)
    origin = with_micro_batch_tokens(described["origin"], tokens)
    write_json(run.data, described | {"origin": origin})


def _reference_values(
    run: RunDir,
    config: Config,
    prepared: Prepared,
    scorer: Scorer,
    policy: LoadedModel,
    origin: Origin,
    ranks: Ranks,
) -> ReferenceValues:
    """The values the run holds; the first rank makes them where they are not there, whole."""
    made = False
    try:
        if ranks.rank == 0 and (damage := frozen_damage(run.reference)):
            _score_reference(run, config, prepared, scorer, policy, origin, damage)
        made = True
    finally:
        made = decided_by_first(made, ranks)
    if not made:
        raise Interrupted("the reference pass has ended on the first rank")
    return read_frozen_reference(run.reference, prepared.planned)


def _score_reference(
    run: RunDir,
    config: Config,
    prepared: Prepared,
    scorer: Scorer,
    policy: LoadedModel,
    origin: Origin,
    damage: str,
) -> None:
    """Score the plan under the reference and freeze the values; damage: of those there are."""
    if run.reference.exists():
        line = f"{run.reference}: {damage}; the reference's values are made again"
        console.print(line, soft_wrap=True)
    identity = policy.identity
    if config.model.reference is not None:
        other = load_reference(config.model, prepared.tokenizer, device=scorer.device)
        scorer = _scorer(config, other)
        identity = other.identity
    if identity.sha256 != origin.inputs.get("reference"):
        raise CheckpointError(
            f"{identity.name_or_path}: the reference holds other weights, or says otherwise what "
            "they compute (config.json), than when the run began. Restore them, or start a new run."
        )
    scores = reference_pass(scorer, prepared.planned, ScoreCache(cache_folder()), identity)
    freeze_reference(run.reference, prepared.planned, scores)


def _z0_check_every(config: Config) -> int | None:
    z0 = config.loss.z0
    return z0.check_every if z0.estimator == "adaptive" else None


def _step_settings(
    config: Config, prepared: Prepared, micro_batch_tokens: int, ranks: Ranks
) -> StepSettings:
    needs = loss_needs(config.loss.name)
    options = config.loss.options
    clip = (options["clip_low"], options["clip_high"]) if needs.sync_every else None
    return StepSettings(
        loss=_bound_loss(config, prepared),
        beta=config.loss.beta,
        max_grad_norm=config.train.max_grad_norm,
        micro_batch_tokens=micro_batch_tokens,
        dropout_seed=config.train.seed if config.model.lora and config.model.lora.dropout else None,
        whole_prompts=needs.pairs,
        z0_of_policy=needs.uses_z0_of == "policy",
        token_clip=clip,
        ranks=ranks,
    )


def _bound_loss(config: Config, prepared: Prepared) -> BoundLoss:
    """The loss with its constants given, and the likelihood of desirable answers if asked for."""
    function: Any = load_loss(config.loss.name)
    loss: BoundLoss = functools.partial(
        function,
        beta=config.loss.beta,
        desirable_weight=float(prepared.weights["desirable_weight"]),
        undesirable_weight=float(prepared.weights["undesirable_weight"]),
        **config.loss.options,
    )
    weight = config.loss.sft_weight
    if not weight:
        return loss
    return lambda inputs: add_likelihood(loss(inputs), inputs, weight)


def _save_model(run: RunDir, config: Config, policy: LoadedModel, prepared: Prepared) -> None:
    """RUN/model, whole or as it was; with merged adapters RUN/adapter before it."""
    card = (
        f"---\nlibrary_name: transformers\ntags: [kto, thumbs]\n---\n# {run.path.name}\n\n"
        f"Trained by thumbs {version('thumbs')} with the loss {config.loss.name} on "
        f"{len(prepared.training):,} rated answers, from {config.model.name_or_path}.\n"
    )
    if config.model.lora is not None and config.model.lora.merge:
        with folder_written_aside(run.adapter) as aside:
            save_model(policy, aside)
        policy = merge_adapters(policy)
    with folder_written_aside(run.model) as aside:
        save_model(policy, aside)
        _tokenizer_to_save(config, prepared).save_pretrained(aside)
        (aside / "README.md").write_bytes(card.encode())


def _tokenizer_to_save(config: Config, prepared: Prepared) -> Any:
    """The tokenizer, its template asking for good answers where training told good from bad."""
    template = prepared.tokenizer.chat_template
    if not loss_needs(config.loss.name).control or not isinstance(template, str):
        return prepared.tokenizer
    tokenizer = copy.deepcopy(prepared.tokenizer)
    tokenizer.chat_template = template_with_control(template)
    return tokenizer
