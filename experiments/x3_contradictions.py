"""X3: contradicting raters in a real model. Which answer do DPO and KTO make the likelier one?

    python -m experiments.x3_contradictions

Each of seven questions has two answers, a and b. Of the raters a majority votes a up and b down,
the others the reverse; a row's weight is the number of its votes. The reference, made with
`loss.name=sft`, prefers b by ratios from 1 to 50, one for each question. Every step sees the whole
file; a run whose last gradient is not under a thousandth of its first is reported as not converged.

With a majority of p DPO's optimum is pi(a)/pi(b) = (p/(1-p))^(1/beta) times the reference's ratio
(arXiv 2402.01306v4, theorem 4.3), so b stays the likelier answer where the reference prefers it by
more than (p/(1-p))^(1/beta). The pairs of two equal answers have no gradient.
"""

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from experiments.claims import FAILS, HOLDS, Claim, Records, not_run
from experiments.conditions import FAST
from experiments.harness import WORK, Outcome
from experiments.methods import SEEDS
from experiments.recording import parser, record
from experiments.resampling import crossing
from experiments.tables import plot, row, student
from thumbs import pipeline
from thumbs.config import load_config
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback
from thumbs.files import write_bytes
from thumbs.models.load import load_model, trained_model
from thumbs.models.tiny import save_tiny, tiny_tokenizer
from thumbs.progress import console, progress_bar
from thumbs.runs.rundir import RunDir, read_metrics
from thumbs.scoring.forward import build_scorer, score_in_micro_batches

RATIOS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 50.0)  # pi_ref(b) / pi_ref(a), one for each question
QUESTIONS = ("red", "green", "blue", "black", "white", "pink", "grey")
A, B = " yes", " no"
STEPS = 20 if FAST else 500
CONVERGED = 1e-3  # of the first gradient's norm
COMMON = (
    "model.dtype=float32",
    "data.heldout_fraction=0",
    "train.batch_size=512",  # more than there are rows: every step sees them all
    "train.learning_rate=3e-3",
    "train.schedule=cosine",
    "train.max_grad_norm=1e6",
    "loss.z0.redraw=once",
    "loss.desirable_weight=1",
    "loss.undesirable_weight=1",
)


@dataclass(frozen=True)
class Setting:
    """Votes for a and for b on each question, and beta."""

    votes_a: int
    votes_b: int
    beta: float

    @property
    def majority(self) -> float:
        """p: the share of the votes for a."""
        return self.votes_a / (self.votes_a + self.votes_b)

    @property
    def predicted(self) -> float:
        """Logarithm of the ratio pi_ref(b) / pi_ref(a) above which DPO's optimum prefers b."""
        return math.log(self.votes_a / self.votes_b) / self.beta


SETTINGS = (
    Setting(3, 2, 0.25),
    Setting(3, 2, 0.5),
    Setting(2, 1, 0.25),
    Setting(2, 1, 0.5),
)


def main() -> None:
    options = parser(__doc__).parse_args()
    seeds = options.seeds or SEEDS
    wanted = [
        (seed, setting, loss)
        for loss in ("dpo", "kto")
        for seed in seeds
        for setting in SETTINGS[: 1 if FAST else None]
    ]
    found: list[Outcome] = []
    with progress_bar("X3", len(wanted), "runs") as bar:
        for seed, setting, loss in wanted:
            file = _file(seed, setting, loss)
            if not file.is_file() and not options.finished_only:
                write_bytes(file, orjson.dumps(outcome(seed, setting, loss)))
            if file.is_file():
                found.append(orjson.loads(file.read_bytes()))
            bar.advance(1, loss)
    record(options.name or "x3_contradictions", found, table=crossing_lines(found))


def outcome(seed: int, setting: Setting, loss: str) -> Outcome:
    """One run: what the reference and the policy think of each question."""
    torch.set_num_threads(1)
    os.environ["THUMBS_CACHE"] = str(WORK / "cache")
    quiet, console.quiet = console.quiet, True
    try:
        reference = _reference(seed)
        run = _train(
            _file(seed, setting, loss).with_suffix(""),
            str(reference),
            votes(setting),
            [f"loss.name={loss}", f"loss.beta={setting.beta}", f"train.epochs={STEPS}"],
            seed,
        )
        before, after = log_odds(str(reference)), log_odds(str(run.model))
    finally:
        console.quiet = quiet
    norms = [step["grad_norm"] for step in read_metrics(run.metrics)]
    shutil.rmtree(run.path.parent)
    return {
        "method": loss.upper(),
        "seed": seed,
        "votes": [setting.votes_a, setting.votes_b],
        "beta": setting.beta,
        "predicted": setting.predicted,
        "log_reference_ratio": [-odds for odds, _ in before],
        "log_odds": [odds for odds, _ in after],
        "probability_a": [share for _, share in after],
        "gradient_left": norms[-1] / norms[0],
        "converged": norms[-1] / norms[0] < CONVERGED,
        "steps": len(norms),
    }


def votes(setting: Setting) -> list[Feedback]:
    """Four rows for each question, weighing as many votes as they stand for."""
    return [
        Feedback(prompt=_prompt(question), completion=text, label=label, weight=float(number))
        for question in QUESTIONS
        for text, up, down in (
            (A, setting.votes_a, setting.votes_b),
            (B, setting.votes_b, setting.votes_a),
        )
        for label, number in ((True, up), (False, down))
    ]


def measured_crossing(outcome: Outcome) -> float | None:
    """Logarithm of the reference's ratio at which both answers are as likely; None: nowhere."""
    points = sorted(zip(outcome["log_reference_ratio"], outcome["log_odds"], strict=True))
    try:
        return crossing([x for x, _ in points], [y for _, y in points])
    except ValueError:
        return None


def crossing_lines(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """For each setting and method: the crossings of its seeds beside the predicted one."""
    lines = []
    for setting in SETTINGS:
        for method in ("DPO", "KTO"):
            own = [
                o
                for o in found
                if (*o["votes"], o["beta"], o["method"]) == (*astuple(setting), method)
            ]
            if own:
                lines.append(
                    {
                        "votes": own[0]["votes"],
                        "beta": setting.beta,
                        "method": method,
                        "majority": setting.majority,
                        "predicted": setting.predicted if method == "DPO" else None,
                        "measured": [measured_crossing(o) for o in own],
                        "converged": sum(o["converged"] for o in own),
                        "least_probability_a": [min(o["probability_a"]) for o in own],
                    }
                )
    return lines


def log_odds(model: str) -> list[tuple[float, float]]:
    """For each question log pi(a) / pi(b), and pi(a) / (pi(a) + pi(b))."""
    config = load_config(None, COMMON, model=model)
    loaded = load_model(trained_model(config.model, model), device=torch.device("cpu"))
    scorer = build_scorer(loaded.model.requires_grad_(False), dtype="float32")
    encode = loaded.tokenizer.encode
    pairs = [
        (
            encode(_prompt(question), add_special_tokens=False),
            encode(text, add_special_tokens=False),
        )
        for question in QUESTIONS
        for text in (A, B)
    ]
    sums = [float(s.double().sum()) for s in score_in_micro_batches(scorer, pairs, max_tokens=4096)]
    odds = [a - b for a, b in zip(sums[::2], sums[1::2], strict=True)]
    return [(value, 1 / (1 + math.exp(-value))) for value in odds]


def _reference(seed: int) -> Path:
    """A model that gives b about `RATIOS` times the probability of a; what it gives is measured."""
    folder = WORK / "x3" / f"reference-{seed}-{STEPS}"
    if not folder.is_dir():
        start = folder.with_name(f"start-{seed}-{STEPS}")
        shutil.rmtree(start, ignore_errors=True)
        texts = [_prompt(question) + text for question in QUESTIONS for text in (A, B)]
        save_tiny(start, "llama", seed=seed, tokenizer=tiny_tokenizer(texts), **_SMALL)
        records = [
            Feedback(prompt=_prompt(question), completion=text, label=True, weight=weight)
            for question, ratio in zip(QUESTIONS, RATIOS, strict=True)
            for text, weight in ((A, 1 / (1 + ratio)), (B, ratio / (1 + ratio)))
        ]
        made = folder.with_name(f"sft-{seed}-{STEPS}")
        settings = ["loss.name=sft", f"train.epochs={STEPS}"]
        run = _train(made, str(start), records, settings, seed)
        run.model.rename(folder)
        shutil.rmtree(made)
    return folder


_SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "head_dim": 8}


def _prompt(question: str) -> str:
    return f"Is {question} good?"


def _train(
    folder: Path, model: str, records: Sequence[Feedback], settings: Sequence[str], seed: int
) -> RunDir:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_feedback(folder / "feedback.jsonl", records)
    changes = [*COMMON, *settings, f"train.seed={seed}", "train.keep_last=1"]
    run = RunDir(folder / "run")
    config = load_config(None, changes, model=model)
    pipeline.train_model(folder / "feedback.jsonl", config, run.path, page=False)
    return run


def _file(seed: int, setting: Setting, loss: str) -> Path:
    name = f"{setting.votes_a}-{setting.votes_b}-{setting.beta}-{loss}-{seed}-{STEPS}.json"
    return WORK / "x3" / "outcomes" / name


def claim(records: Records) -> Claim:
    title = "X3. Under contradicting raters KTO gives the majority's answer, DPO may not"
    published = "theorem 4.3: DPO's optimum keeps the minority's answer beyond a predicted ratio"
    record = records["x3_contradictions"]
    if record is None or not record["table"]:
        return not_run(title, published, "python -m experiments.x3_contradictions")
    lines = [
        "Both sides of a crossing are ratios pi_ref(minority) / pi_ref(majority); seven questions "
        "a run, intervals over seeds (Student's t, of the logarithm). Above the crossing the "
        'minority\'s answer stays the likelier one; "crossing" counts the runs that have one. The '
        "last column is the least probability of the majority's answer, over questions and seeds. "
        "A run is converged where its last gradient is under a thousandth of its first; those that "
        "are not are in the numbers. An answer's votes are the weights of its rows, so 2 : 1 are "
        "odds of 2; with a row for each vote DPO would pair every vote up with every vote down, "
        "and see the square of them ([theory.md](theory.md)).",
        "",
        row("votes", "beta", "loss", "predicted", "measured", "crossing", "converged", "least p"),
        row(*["---"] * 8),
    ]
    right, kto = [], []  # by setting
    for line in record["table"]:
        measured = [value for value in line["measured"] if value is not None]
        found = student(measured) if measured else None
        told = "none"
        if found is not None:
            told = "{:.3g} ({:.3g} to {:.3g})".format(*map(math.exp, found))
        predicted = line["predicted"]
        least = min(line["least_probability_a"])
        if line["method"] == "DPO":
            everywhere = len(measured) == len(line["measured"])
            right.append(everywhere and all(abs(value - predicted) < 0.1 for value in measured))
        else:
            kto.append(least > 0.5)
        lines.append(
            row(
                "{} : {}".format(*line["votes"]),
                f"{line['beta']:g}",
                line["method"],
                "none" if predicted is None else f"{math.exp(predicted):.3g}",
                told,
                f"{len(measured)} of {len(line['measured'])}",
                str(line["converged"]),
                f"{least:.3f}",
            )
        )
    agreed = all(right) and all(kto) and bool(right) and bool(kto)
    lines += [
        "",
        f"Settings where DPO crosses within a tenth of a nat of the prediction with every seed: "
        f"{sum(right)} of {len(right)}; where KTO makes the majority's answer the likelier one for "
        f"every question and seed: {sum(kto)} of {len(kto)}.",
        "",
        plot("x3_contradictions", "log-odds of the majority's answer"),
    ]
    unfinished = sum(len(line["measured"]) - line["converged"] for line in record["table"])
    told = HOLDS if agreed else FAILS
    if unfinished:
        told += f" ({unfinished} of {sum(len(line['measured']) for line in record['table'])} runs "
        told += "not converged)"
    return Claim(title, published, "\n".join(lines), told)


if __name__ == "__main__":
    main()
