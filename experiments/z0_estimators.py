"""X10: estimators of KTO's reference point beside the sampled KL: bias, spread, cost.

    make x10        (or: python -m experiments.z0_estimators --seeds 0 1 2 3 4)
    FAST=1 make x10 one seed, few prompts: a smoke check, which writes no results

The demo's model is trained on the demo's feedback log, once per seed and estimator. At quarters of
the run KL(policy || reference) is measured with answers that the policy samples, prompt by prompt.
Beside it: what the estimators give on every batch of the plan. Seeds that are done are kept in
.experiments/ and not run again.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import torch
from benchmarks.measured import machine, setting_lines, versions
from safetensors.torch import load_file
from scipy import stats

from experiments.claims import FAILS, HOLDS, UNTOLD, Claim, Records, not_run
from experiments.conditions import FAST
from thumbs import pipeline
from thumbs.config import Config, load_config
from thumbs.data.plan import Batch
from thumbs.demo.embedded import DEMO_SETTINGS, feedback_log, model_folder
from thumbs.demo.pretrain import MAX_NEW_TOKENS
from thumbs.feedback.importing import import_feedback
from thumbs.models.generate import generate
from thumbs.models.load import load_model
from thumbs.prepare import Prepared, prepare
from thumbs.runs.rundir import RunDir, read_json, read_metrics
from thumbs.scoring.forward import Scorer, build_scorer, score_in_micro_batches

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
WORK = ROOT / ".experiments" / "z0_estimators"
SEEDS = (0, 1, 2, 3, 4)
ESTIMATORS = ("mismatched", "adaptive", "zero")
QUARTERS = 4
PROMPTS, ANSWERS = 256, 4  # of the sampled KL
SMALL_GROUP = 8  # rows, a micro-batch as published code takes z0 from
TOKENS = 16_384  # of a forward

Pair = tuple[Sequence[int], Sequence[int]]  # ids of prompt and completion
Measured = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    work = WORK.with_name("z0_estimators-fast") if FAST else WORK
    parts = [
        one_seed(seed, work, num_prompts=16 if FAST else PROMPTS)
        for seed in seeds[: 1 if FAST else None]
    ]
    record = {
        "command": f"python -m experiments.z0_estimators --seeds {' '.join(map(str, seeds))}",
        "machine": machine(),
        "versions": {"thumbs": versions("thumbs", "torch", "transformers")},
        "seeds": parts,
        "stages": summarised(parts),
        "runs": {name: costs(parts, name) for name in ESTIMATORS},
    }
    if FAST:
        print(page(record))
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    found = orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n"
    (RESULTS / "z0_estimators.json").write_bytes(found)
    (RESULTS / "z0_estimators.md").write_text(page(record), encoding="utf-8")


def claim(records: Records) -> Claim:
    title = "X10. Mismatched answers estimate the KL divergence"
    published = "z0 is KL(policy || reference), estimated, with a bias, from mismatched answers"
    record = records["z0_estimators"]
    if record is None:
        return not_run(title, published, "make x10")
    last = record["stages"][-1]
    kl, raw, z0 = last["kl"], last["batch"]["raw_bias"], last["batch"]["z0_bias"]
    told = "{:.3g} nats ({:.3g} to {:.3g})"
    body = (
        f"At the end of a run the sampled KL is {told.format(*kl)}. The estimate is off by "
        f"{told.format(*raw)} before the clamp, and z0, after it, by {told.format(*z0)}. The claim "
        f"holds where z0 is off by less than half of the KL, by the whole interval, and does not "
        "where it is off by more. More: "
        "[z0_estimators.md](../experiments/results/z0_estimators.md)."
    )
    near, far = sorted(map(abs, z0[1:]))
    half = kl[0] / 2
    return Claim(title, published, body, HOLDS if far < half else FAILS if near > half else UNTOLD)


def one_seed(seed: int, work: Path, *, num_prompts: int) -> Measured:
    """All numbers of a seed; those of a finished seed are read."""
    done = work / f"seed-{seed}.json"
    if done.is_file():
        part: Measured = orjson.loads(done.read_bytes())
        return part
    work.mkdir(parents=True, exist_ok=True)
    feedback = work / "feedback.jsonl"
    if not feedback.is_file():
        import_feedback([feedback_log()], feedback)
    runs = {name: trained(seed, name, work, feedback) for name in ESTIMATORS}
    part = {
        "seed": seed,
        "runs": {name: outcome(run) for name, run in runs.items()},
        "stages": stages(runs["mismatched"], settings(seed, "mismatched"), feedback, num_prompts),
    }
    done.write_bytes(orjson.dumps(part))
    return part


def settings(seed: int, estimator: str) -> Config:
    changes = [f"{key}={value}" for key, value in DEMO_SETTINGS.items()]
    changes += [f"train.seed={seed}", f"loss.z0.estimator={estimator}"]
    if estimator == "mismatched":  # whose policies are looked at on the way
        changes += ["train.save_every=1", "train.keep_last=100000"]
    return load_config(None, changes, model=str(model_folder()))


def trained(seed: int, estimator: str, work: Path, feedback: Path) -> RunDir:
    run = RunDir(work / f"{estimator}-{seed}")
    if not run.summary.is_file():
        if run.config.is_file():
            pipeline.resume_training(run.path)
        else:
            pipeline.train_model(feedback, settings(seed, estimator), run.path)
    return run


def outcome(run: RunDir) -> Measured:
    steps = list(read_metrics(run.metrics))
    return {
        "seconds_per_step": statistics.median(step["seconds"] for step in steps),
        "steps": len(steps),
        "estimated": sum(step["z0_se"] is not None for step in steps),
        "auc": read_json(run.summary)["heldout"]["after"]["auc"],
    }


def stages(run: RunDir, config: Config, feedback: Path, num_prompts: int) -> list[Measured]:
    """At each quarter of a run: the sampled KL, and the estimators on every batch of the plan."""
    prepared = prepare(feedback, config, date.fromisoformat(read_json(run.data)["today"]))
    batches = [batch for epoch in prepared.epochs for batch in epoch]
    saved = sorted((run.checkpoints).iterdir())
    chosen = [saved[len(saved) * quarter // QUARTERS - 1] for quarter in range(1, QUARTERS + 1)]
    reference = scorer_of(config)
    pairs = mismatched_pairs(prepared, batches)
    of_reference = summed(reference, pairs)
    found = []
    for quarter, checkpoint in enumerate(chosen, start=1):
        policy = scorer_of(config, checkpoint)
        moved = [p - r for p, r in zip(summed(policy, pairs), of_reference, strict=True)]
        found.append(
            {
                "quarter": quarter,
                "step": int(checkpoint.name.removeprefix("step-")),
                "sampled": sampled_kl(policy, reference, prepared, config, num_prompts),
                **estimates(batches, moved),
            }
        )
    return found


def scorer_of(config: Config, checkpoint: Path | None = None) -> Scorer:
    """The demo's model, or the weights of a checkpoint in it."""
    loaded = load_model(config.model, device=torch.device("cpu"))
    model = loaded.model.requires_grad_(False)
    if checkpoint is not None:
        own = dict(model.named_parameters())
        for name, weight in load_file(checkpoint / "policy.safetensors").items():
            own[name].copy_(weight)
    return build_scorer(model, dtype=config.model.dtype)


def mismatched_pairs(prepared: Prepared, batches: Sequence[Batch]) -> list[Pair]:
    """The mismatched pairs of all batches, in their order."""
    rows = prepared.rows
    return [
        (rows[x].prompt_ids, rows[y].completion_ids)
        for batch in batches
        for group in batch.groups
        for x, y in group.mismatched
    ]


def summed(scorer: Scorer, pairs: Sequence[Pair]) -> list[float]:
    """Log-prob of each completion, nats."""
    return [
        float(s.double().sum()) for s in score_in_micro_batches(scorer, pairs, max_tokens=TOKENS)
    ]


def sampled_kl(
    policy: Scorer, reference: Scorer, prepared: Prepared, config: Config, num_prompts: int
) -> Measured:
    """Mean of log pi / pi_ref over answers that pi samples; the standard error is over prompts."""
    prompts = dict.fromkeys(tuple(prepared.rows[i].prompt_ids) for i in prepared.training)
    chosen = [list(ids) for ids in list(prompts)[:num_prompts]]
    asked = [ids for ids in chosen for _ in range(ANSWERS)]
    answers = generate(
        policy.model,
        prepared.tokenizer,
        asked,
        max_new_tokens=MAX_NEW_TOKENS,
        seed=config.train.seed + 1000,
        batch_size=128,
    )
    pairs = list(zip(asked, answers, strict=True))
    moved = [p - r for p, r in zip(summed(policy, pairs), summed(reference, pairs), strict=True)]
    means = [statistics.fmean(moved[i : i + ANSWERS]) for i in range(0, len(moved), ANSWERS)]
    return {
        "kl": statistics.fmean(means),
        "standard_error": statistics.stdev(means) / len(means) ** 0.5,
        "answer_deviation": statistics.stdev(moved),
        "answers": len(moved),
    }


def estimates(batches: Sequence[Batch], moved: Sequence[float]) -> Measured:
    """Of every batch the mean log-ratio of its mismatched rows, of all and of groups of few."""
    whole, small, place = [], [], 0
    for batch in batches:
        num = sum(len(group.mismatched) for group in batch.groups)
        own = moved[place : place + num]
        place += num
        if own:
            whole.append(statistics.fmean(own))
            small += [
                statistics.fmean(own[i : i + SMALL_GROUP]) for i in range(0, num, SMALL_GROUP)
            ]
    return {"batch": described(whole), f"rows of {SMALL_GROUP}": described(small)}


def described(raw: Sequence[float]) -> Measured:
    clamped = [max(0.0, value) for value in raw]
    return {
        "groups": len(raw),
        "raw_mean": statistics.fmean(raw),
        "raw_deviation": statistics.stdev(raw),
        "z0_mean": statistics.fmean(clamped),
        "z0_deviation": statistics.stdev(clamped),
        "clamped_share": sum(value < 0 for value in raw) / len(raw),
    }


def summarised(parts: Sequence[Measured]) -> list[Measured]:
    """Means over seeds with 95 % intervals (Student's t), by quarter."""
    found = []
    for i in range(QUARTERS):
        own = [part["stages"][i] for part in parts]
        by_group = {
            group: {
                "raw_bias": over_seeds(own, _bias(group, "raw_mean")),
                "z0_bias": over_seeds(own, _bias(group, "z0_mean")),
                "z0_deviation": over_seeds(own, _value(group, "z0_deviation")),
                "clamped_share": over_seeds(own, _value(group, "clamped_share")),
            }
            for group in ("batch", f"rows of {SMALL_GROUP}")
        }
        found.append({"kl": over_seeds(own, _value("sampled", "kl")), **by_group})
    return found


def _value(group: str, key: str) -> Callable[[Measured], float]:
    return lambda stage: float(stage[group][key])


def _bias(group: str, key: str) -> Callable[[Measured], float]:
    return lambda stage: float(stage[group][key] - stage["sampled"]["kl"])


def costs(parts: Sequence[Measured], name: str) -> dict[str, list[float]]:
    runs = [part["runs"][name] for part in parts]
    rivals = [part["runs"]["mismatched"] for part in parts]
    relative = [
        r["seconds_per_step"] / m["seconds_per_step"] for r, m in zip(runs, rivals, strict=True)
    ]
    return {
        "seconds_per_step": interval([run["seconds_per_step"] for run in runs]),
        "of_mismatched": interval(relative),
        "estimated_share": interval([run["estimated"] / run["steps"] for run in runs]),
        "auc": interval([run["auc"] for run in runs]),
    }


def over_seeds(own: Sequence[Measured], value: Callable[[Measured], float]) -> list[float]:
    return interval([value(stage) for stage in own])


def interval(values: Sequence[float]) -> list[float]:
    """Mean, and the ends of its 95 % interval; of one value that value thrice."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return [mean] * 3
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=stats.sem(values))
    return [mean, float(low), float(high)]


def page(record: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    num = len(record["seeds"])
    lines = [
        "# X10: estimators of z0",
        "",
        "`make x10`: the demo's model on the demo's log, "
        f"{num} seeds; means with 95 % intervals over seeds (Student's t). KL is of answers that "
        "the policy samples; bias is the estimator less that KL, nats; deviation is between the "
        "groups of a plan.",
        "",
        row("quarter", "z0 from", "sampled KL", "raw bias", "z0 bias", "z0 deviation", "clamped"),
        row(*["---"] * 7),
    ]
    for i, stage in enumerate(record["stages"], start=1):
        for group, found in stage.items():
            if group != "kl":
                cells = (stage["kl"], *(found[key] for key in ("raw_bias", "z0_bias")))
                more = (found["z0_deviation"], found["clamped_share"])
                lines.append(row(str(i), group, *map(shown, (*cells, *more))))
    lines += [
        "",
        "The estimator `zero` has the bias -KL and no spread. Seconds are medians over the steps "
        "of a run; where their interval is wide, something else used the machine during a seed.",
        "",
        row("estimator", "seconds per step", "of mismatched", "steps estimated", "held-out AUC"),
        row(*["---"] * 5),
    ]
    for name, run in record["runs"].items():
        keys = ("seconds_per_step", "of_mismatched", "estimated_share", "auc")
        lines.append(row(name, *(shown(run[key]) for key in keys)))
    return "\n".join([*lines, "", setting_lines(record)]) + "\n"


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def shown(cell: Sequence[float]) -> str:
    return "{:.3g} ({:.3g} to {:.3g})".format(*cell)


if __name__ == "__main__":
    main()
