"""From a finished run to the rows that its policy disbelieves: `thumbs audit`.

In: a run folder; its feedback file, which must be as it was. Out: counts, and the flagged rows as a
table and a file. The reference is not loaded: the run holds its values. Every row is looked at,
those trained on and those held out.
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from thumbs.budget import tokens_without_gradient
from thumbs.config import Config
from thumbs.data.rows import texts_of
from thumbs.errors import RunError, shown
from thumbs.evaluate.audit import Audit, audit_rows, log_ratios_of_rows
from thumbs.evaluate.audit_file import Suspect, require_audit_name, transcript, write_suspects
from thumbs.evaluate.intervals import Floats
from thumbs.feedback.file import read_feedback
from thumbs.feedback.record import Feedback
from thumbs.files import require_writable_file, sha256_file
from thumbs.loss_table import loss_needs
from thumbs.model_or_run import ModelOrRun, model_or_run
from thumbs.models.load import load_model, pick_device
from thumbs.prepare import Prepared, prepare
from thumbs.runs.rundir import RunDir, open_run, read_described, read_json, write_json
from thumbs.scoring.backoff import Budget
from thumbs.scoring.forward import build_scorer
from thumbs.scoring.reference import read_frozen_reference

SHOWN = 10  # rows of the table where nothing else is asked for
SPLITS = ("training", "held-out", "unpaired")


def audit_run(path: Path, out: Path | None, top: int | None) -> dict[str, Any]:
    """The numbers of `thumbs audit`, and with `out` the flagged rows as a file.

    RUN/audit.json gets the numbers and the worst rows, which the page shows.

    top: the most rows to write and to show; None writes all and shows a few.

    Raises:
        ThumbsError: it is no finished run, or not as it was when the run ended; nothing is written.
    """
    subject = model_or_run(str(path))
    run = _require_finished(subject)
    feedback = _require_auditable(subject, run)
    if out is not None:
        _require_free(out, subject, feedback)
    prepared, log_ratio = rows_of_run(subject, run, feedback)
    z0 = _z0(run)
    labels = prepared.rows.desirable
    found = audit_rows(log_ratio, labels, beta=subject.config.loss.beta, z0=z0)
    splits = _splits(prepared)
    chosen = found.worst_first()[:top]
    suspects = list(_suspects(feedback, prepared, found, chosen, splits))
    if out is not None:
        write_suspects(out, suspects)
    numbers = _counts(found, splits) | {"z0": z0, "dividing_line": found.dividing_line}
    worst = list(_suspects(feedback, prepared, found, found.worst_first()[:SHOWN], splits))
    write_json(run.audit, numbers | {"top": [_shown(suspect) for suspect in worst]})
    return numbers | {
        "out": None if out is None else str(out),
        "written": 0 if out is None else len(suspects),
        "top": [_shown(suspect) for suspect in suspects[: top or SHOWN]],
    }


def rows_of_run(subject: ModelOrRun, run: RunDir, feedback: Path) -> tuple[Prepared, Floats]:
    """The rows of the run and their log-ratio (nats) under what it trained."""
    prepared = prepare(feedback, _with_own_tokenizer(subject.config, run), subject.today)
    reference = read_frozen_reference(run.reference, prepared.planned)
    device = pick_device()
    policy = load_model(subject.policy, device=device)
    scorer = build_scorer(policy.model, dtype=subject.config.model.dtype)
    tokens = tokens_without_gradient(subject.config, device)
    budget = Budget(tokens, "tokens of a forward")
    return prepared, log_ratios_of_rows(scorer, prepared.rows, reference, budget)


def _require_finished(subject: ModelOrRun) -> RunDir:
    if subject.run is None and not Path(subject.name).is_dir():
        open_run(Path(subject.name))
    if subject.run is None:
        raise RunError(
            f"{subject.name}: is a model, not a run. An audit needs the rows a policy was trained "
            "on and the reference's log-probs of them: give a folder that thumbs train --out made."
        )
    if not subject.run.summary.is_file():
        command = shlex.join(["thumbs", "train", "--resume", subject.name])
        raise RunError(
            f"{subject.name}: has not finished, so there is no trained model to ask. Go on with: "
            f"{command}"
        )
    return subject.run


def _require_auditable(subject: ModelOrRun, run: RunDir) -> Path:
    """The run's feedback file, as it was; the loss has to leave a reward that can be held to it."""
    if loss_needs(subject.config.loss.name).control:
        raise RunError(
            f"{subject.name}: was trained with {subject.config.loss.name}, whose prompts tell the "
            "label, so its policy gives a wrong label the answer it names and disbelieves none. "
            "Audit a run with another loss."
        )
    described = read_described(run)
    feedback = Path(described["feedback"]["path"])
    if not feedback.is_file() or sha256_file(feedback) != described["feedback"]["sha256"]:
        state = "has changed" if feedback.is_file() else "is missing"
        raise RunError(
            f"{run.data}: the feedback file {feedback} {state} since the run. Restore it; the rows "
            "of the run are made from it."
        )
    return feedback


def _require_free(out: Path, subject: ModelOrRun, feedback: Path) -> None:
    """Refuse, before any work, a file that cannot be written or that the run was made from."""
    require_audit_name(out)
    require_writable_file(out)
    exclude = subject.config.data.exclude
    sources = {"feedback file": feedback, "data.exclude": Path(exclude) if exclude else None}
    for name, source in sources.items():
        if source is not None and out.resolve() == source.resolve():
            raise RunError(
                f"--out {out}: is the {name} of {subject.name}, which is needed to look at the run "
                "again. Name another file."
            )


def _with_own_tokenizer(config: Config, run: RunDir) -> Config:
    """The tokenizer and template saved with the model, wherever those it began with are today."""
    model = config.model.model_copy(update={"tokenizer": str(run.model)})
    return config.model_copy(update={"model": model})


def _z0(run: RunDir) -> float:
    """Of the trained policy on held-out rows; without those that of the last step, nats.

    Raises:
        RunError: RUN/summary.json does not say.
    """
    value = summary = read_json(run.summary)
    heldout = summary.get("heldout") if isinstance(summary, dict) else None
    if isinstance(heldout, dict):
        after = heldout.get("after")
        value = (after if isinstance(after, dict) else summary).get("z0")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not is_number:
        raise RunError(f"{run.summary}: z0 must be a number, but is {shown(value)}; restore it")
    return float(value or 0.0)


def _splits(prepared: Prepared) -> list[str]:
    """Which part of the run each row is of; "unpaired": a loss of pairs left it out."""
    training, held_out, unpaired = SPLITS
    splits = [unpaired] * len(prepared.rows)
    for name, members in ((training, prepared.training), (held_out, prepared.heldout)):
        for row in members:
            splits[row] = name
    return splits


def _counts(found: Audit, splits: Sequence[str]) -> dict[str, Any]:
    flagged = [finding.flagged for finding in found.findings]
    by_split = {
        name: {
            "rows": splits.count(name),
            "flagged": sum(f for f, split in zip(flagged, splits, strict=True) if split == name),
        }
        for name in SPLITS
        if name in splits
    }
    return {"rows": len(flagged), "flagged": sum(flagged), "splits": by_split}


def _suspects(
    feedback: Path,
    prepared: Prepared,
    found: Audit,
    chosen: Sequence[int],
    splits: Sequence[str],
) -> Iterator[Suspect]:
    """The chosen rows with their records, in the order chosen."""
    records = _records_of(feedback, prepared, set(chosen))
    for row in chosen:
        yield Suspect(records[row], found.findings[row], splits[row])


def _records_of(feedback: Path, prepared: Prepared, wanted: set[int]) -> dict[int, Feedback]:
    """The record of each wanted row: rows stand in the order of the file, some records have none.

    Ids may be given twice: of two with one id the row has the label of its own.
    """
    ids, labels = texts_of(prepared.rows.record_id), prepared.rows.desirable.tolist()
    records: dict[int, Feedback] = {}
    row = 0
    for record in read_feedback(feedback):
        if row < len(ids) and (record.id, record.label) == (ids[row], labels[row]):
            if row in wanted:
                records[row] = record
            row += 1
    assert row == len(ids), "every row is of a record of the file"
    return records


def _shown(suspect: Suspect) -> dict[str, Any]:
    record = suspect.record
    sides = {key: transcript(getattr(record, key)) for key in ("prompt", "completion")}
    return {"id": record.id, "label": record.label, **suspect.judged(), **sides}
