"""Does an audit find wrong labels? The demo's task with a fifth of the votes flipped, five seeds.

    make audit-auc        (or: python -m experiments.audit_auc --seeds 0 1 2 3 4)

The answers are those of the demo's log. Each is judged by the checker, then a fifth of the votes is
turned round. The demo's model trains on them with the demo's settings; its audit ranks all rows.
AUC: the chance that a flipped row stands before one that is not. Rows held out are those that the
policy has never seen, which is what a cross-fitted ranking would see of every row.
Seeds that are done are kept in .experiments/ and not run again.
"""

import argparse
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from benchmarks.measured import machine, setting_lines, versions
from numpy.typing import NDArray

from experiments.z0_estimators import interval, row, shown
from thumbs import pipeline
from thumbs.audit_run import rows_of_run
from thumbs.config import load_config
from thumbs.core.metrics import auc
from thumbs.data.rows import texts_of
from thumbs.demo.embedded import DEMO_SETTINGS, feedback_log, model_folder
from thumbs.demo.pretrain import RECORDS
from thumbs.demo.task import distinct_problems, is_correct
from thumbs.evaluate.audit import audit_rows
from thumbs.feedback.file import read_feedback, write_feedback
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.record import Feedback
from thumbs.model_or_run import model_or_run
from thumbs.prepare import Prepared
from thumbs.runs.rundir import RunDir, read_json
from thumbs.scoring.reference import read_frozen_reference

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
WORK = ROOT / ".experiments" / "audit_auc"
SEEDS = (0, 1, 2, 3, 4)
FLIPPED_SHARE = 0.2
LOG_SEED = 0  # of the problems that the demo's log asks
PARTS = ("all rows", "training rows", "held-out rows", "liked rows", "disliked rows")

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Measured = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    record = {
        "command": f"python -m experiments.audit_auc --seeds {' '.join(map(str, seeds))}",
        "machine": machine(),
        "versions": {"thumbs": versions("thumbs", "torch", "transformers")},
        "seeds": [one_seed(seed, WORK) for seed in seeds],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    found = orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n"
    (RESULTS / "audit_auc.json").write_bytes(found)
    (RESULTS / "audit_auc.md").write_text(page(record), encoding="utf-8")


def one_seed(seed: int, work: Path) -> Measured:
    """All numbers of a seed; those of a finished seed are read."""
    done = work / f"seed-{seed}.json"
    if done.is_file():
        part: Measured = orjson.loads(done.read_bytes())
        return part
    work.mkdir(parents=True, exist_ok=True)
    log = work / "log.jsonl"
    if not log.is_file():
        import_feedback([feedback_log()], log)
    votes, flipped = with_flips(judged(list(read_feedback(log))), seed)
    feedback = work / f"feedback-{seed}.jsonl"
    run = RunDir(work / f"run-{seed}")
    if not run.summary.is_file():
        if run.config.is_file():
            pipeline.resume_training(run.path)
        else:
            write_feedback(feedback, votes)
            settings = [f"{key}={value}" for key, value in DEMO_SETTINGS.items()]
            settings.append(f"train.seed={seed}")
            config = load_config(None, settings, model=str(model_folder()))
            pipeline.train_model(feedback, config, run.path)
    part = {"seed": seed, **measured(run, feedback, flipped)}
    done.write_bytes(orjson.dumps(part))
    return part


def judged(records: Sequence[Feedback]) -> list[Feedback]:
    """The records with the checker's verdict as their label."""
    problems = {p.question: p for p in distinct_problems("log", RECORDS, LOG_SEED)}
    return [
        replace(r, label=is_correct(problems[_text(r.prompt)], _text(r.completion)))
        for r in records
    ]


def _text(side: Any) -> str:
    [message] = side
    return str(message["content"])


def with_flips(records: Sequence[Feedback], seed: int) -> tuple[list[Feedback], set[str]]:
    """The records, a fifth of their labels turned round, and the ids of those."""
    num = round(FLIPPED_SHARE * len(records))
    chosen = set(random.Random(f"audit:{seed}").sample(range(len(records)), num))
    votes = [replace(r, label=r.label != (i in chosen)) for i, r in enumerate(records)]
    return votes, {records[i].id for i in chosen}


def measured(run: RunDir, feedback: Path, flipped: set[str]) -> Measured:
    """How well the audit of a run, and scores that need none, find the flipped rows."""
    subject = model_or_run(str(run.path))
    prepared, log_ratio = rows_of_run(subject, run, feedback)
    z0 = read_json(run.summary)["heldout"]["after"]["z0"]
    up = prepared.rows.desirable
    found = audit_rows(log_ratio, up, beta=subject.config.loss.beta, z0=z0)
    wrong = np.array([name in flipped for name in texts_of(prepared.rows.record_id)])
    held = np.zeros(up.shape, dtype=np.bool_)
    held[prepared.heldout] = True
    margin = np.array([finding.margin for finding in found.findings])
    flagged = np.array([finding.flagged for finding in found.findings])
    reference = reference_logps(run, prepared)
    scores = {
        "audit": -margin,
        "reward from 0": np.where(up, -log_ratio, log_ratio),
        "log-prob of the untrained model": contradiction(reference, up),
        "log-prob of the trained model": contradiction(reference + log_ratio, up),
    }
    return {
        "rows": len(wrong),
        "flipped": int(wrong.sum()),
        "heldout_auc": read_json(run.summary)["heldout"]["after"]["auc"],
        "auc": {name: by_part(score, wrong, held, up) for name, score in scores.items()},
        "flagged": int(flagged.sum()),
        "precision": float(wrong[flagged].mean()),
        "recall": float(flagged[wrong].mean()),
    }


def reference_logps(run: RunDir, prepared: Prepared) -> Floats:
    """(N,) log-prob of each completion under the untrained model, nats."""
    reference, rows = read_frozen_reference(run.reference, prepared.planned), prepared.rows
    return np.array([float(reference[i, i].double().sum()) for i in range(len(rows))])


def contradiction(score: Floats, up: Flags) -> Floats:
    """How far a score lies on the other label's side of the middle of both labels' medians."""
    line = (np.median(score[up]) + np.median(score[~up])) / 2
    return np.where(up, line - score, score - line)


def by_part(score: Floats, wrong: Flags, held: Flags, up: Flags) -> dict[str, float]:
    every = np.ones(wrong.shape, dtype=np.bool_)
    members = dict(zip(PARTS, (every, ~held, held, up, ~up), strict=True))
    return {name: _auc(score[rows], wrong[rows]) for name, rows in members.items()}


def _auc(score: Floats, wrong: Flags) -> float:
    found = auc(torch.from_numpy(score), torch.from_numpy(wrong))
    assert found is not None, "rows of both kinds"
    return found


def page(record: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    parts = record["seeds"]
    rows, flipped = (statistics.fmean(part[key] for part in parts) for key in ("rows", "flipped"))
    over = {
        key: interval([part[key] for part in parts])
        for key in ("flagged", "precision", "recall", "heldout_auc")
    }
    lines = [
        "# Wrong labels that an audit finds",
        "",
        f"`make audit-auc`: the demo's model on the demo's answers ({rows:,.0f} rows, one epoch), "
        f"{FLIPPED_SHARE:.0%} of the checker's verdicts turned round ({flipped:,.0f} rows), "
        f"{len(parts)} seeds; means with 95 % intervals over seeds (Student's t). AUC: the chance "
        "that a flipped row ranks before one that is not.",
        "",
        row("ranked by", *PARTS),
        row(*["---"] * (1 + len(PARTS))),
    ]
    for name in parts[0]["auc"]:
        cells = (interval([part["auc"][name][rows] for part in parts]) for rows in PARTS)
        lines.append(row(name, *map(shown, cells)))
    lines += [
        "",
        f"- Flagged: {shown(over['flagged'])} rows; of them flipped {shown(over['precision'])}, of "
        f"the flipped ones flagged {shown(over['recall'])}.",
        f"- Held-out AUC of the labels as given: {shown(over['heldout_auc'])}.",
        "- Held-out rows are ranked by a policy that was not trained on them, as cross-fitting "
        "would rank every row: what they gain over training rows is what memorising costs.",
        "- Here the log-prob alone ranks as well or better: the embedded model knows its task "
        "before training, and its answers have one form and nearly one length. Log-probs of real "
        "answers differ most by length and topic.",
    ]
    return "\n".join([*lines, "", setting_lines(record)]) + "\n"


if __name__ == "__main__":
    main()
