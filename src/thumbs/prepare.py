"""From a feedback file and a configuration to everything that is known before a model is loaded.

In: a feedback file, a config, the date templates print. Out: rows, the split, the plan of every
epoch, the sequences to score, the weights in force - and their description for RUN/data.json.
"""

import hashlib
import sys
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from thumbs.config import Config
from thumbs.core.losses import load_loss
from thumbs.core.own_loss import require_own_loss
from thumbs.data.plan import (
    Batch,
    PlanColumns,
    PlanSettings,
    paired_rows,
    plan_columns,
    plan_epochs,
)
from thumbs.data.rows import StoredRows, texts_of
from thumbs.data.templates import adopt_template
from thumbs.data.token_cache import read_tokens, tokens_key, write_tokens
from thumbs.data.tokenizing import TokenizedRows, tokenize_with, tokenizing_setting
from thumbs.data.tokens import Setting
from thumbs.errors import ConfigError, FeedbackError
from thumbs.evaluate.score import plan_evaluation
from thumbs.feedback.balance import auto_weights
from thumbs.feedback.control import with_control
from thumbs.feedback.exclusion import excluded_ids
from thumbs.feedback.file import read_feedback
from thumbs.feedback.import_record import read_import_record
from thumbs.feedback.record import Feedback
from thumbs.feedback.split import split_heldout
from thumbs.files import sha256_file
from thumbs.loss_table import loss_needs
from thumbs.models.identity import ModelIdentity
from thumbs.models.load import load_tokenizer
from thumbs.progress import console
from thumbs.scoring.planned import PlannedSequences, planned_sequences


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before a model is loaded: a pure function of file and config."""

    tokenizer: Any
    tokenized: TokenizedRows
    columns: PlanColumns
    training: list[int]
    heldout: list[int]
    epochs: list[list[Batch]]
    heldout_batches: list[Batch]
    planned: PlannedSequences
    weights: dict[str, float | str]
    excluded: int
    num_exclude: int | None  # ids that data.exclude names; None where it is not set
    unpaired: int  # training rows that a loss of pairs leaves out
    feedback_sha256: str

    @property
    def rows(self) -> StoredRows:
        return self.tokenized.rows

    def sha256(self) -> str:
        """A hash of every row and of every epoch's batches, in order."""
        digest = hashlib.sha256()
        for name, column in sorted(self.rows.arrays().items()):
            digest.update(f"{name} {len(column)}\n".encode())
            digest.update(np.ascontiguousarray(column).data)
        for batch in (batch for epoch in self.epochs for batch in epoch):
            for group in batch.groups:
                pairs = tuple(row for pair in group.mismatched for row in pair)
                for numbers in (group.rows, pairs):
                    digest.update(len(numbers).to_bytes(8, "little"))
                    digest.update(array("q", numbers).tobytes())
        return digest.hexdigest()


def prepare(feedback: Path, config: Config, today: date) -> Prepared:
    """Rows, split and plan of a feedback file; raises before anything heavy is loaded."""
    _load_own_loss(config.loss.name)
    tokenizer = load_tokenizer(config.model)
    adopt_template(config.data.chat_template, tokenizer)
    exclude = config.data.exclude
    left_out = excluded_ids(Path(exclude)) if exclude else set()
    sha256, tokenized, excluded = _tokenized(feedback, config, today, tokenizer, left_out)
    training, heldout = _split(tokenized.rows, config)
    columns = plan_columns(tokenized.rows)
    needs = loss_needs(config.loss.name)
    _require_trainable(feedback, config, columns, training)
    _require_evaluable(config, columns, heldout)
    num_rows = len(training)
    if needs.pairs:
        training = _paired(feedback, config, columns, training)
    settings = PlanSettings(
        batch_size=config.train.batch_size,
        epochs=config.train.epochs,
        seed=config.train.seed,
        max_tokens=config.data.max_tokens,
        group_prompts=config.train.group_prompts,
        group_rows=config.loss.z0.group_rows,
        redraw=config.loss.z0.redraw,
        mismatched=needs.mismatched and config.loss.z0.estimator != "zero",
        pairs=needs.pairs,
    )
    epochs = plan_epochs(columns, training, settings)
    heldout_batches = plan_evaluation(columns, heldout, config)
    return Prepared(
        tokenizer,
        tokenized,
        columns,
        training,
        heldout,
        epochs,
        heldout_batches,
        planned_sequences(tokenized.rows, [*(b for e in epochs for b in e), *heldout_batches]),
        _weights_in_force(config, columns, training),
        excluded,
        len(left_out) if exclude else None,
        num_rows - len(training),
        sha256,
    )


def _paired(
    feedback: Path, config: Config, columns: PlanColumns, training: Sequence[int]
) -> list[int]:
    """The training rows that have a partner: an answer of the other label to their prompt."""
    one = config.data.pairs == "one"
    paired = paired_rows(columns, training, one=one, seed=config.train.seed)
    if not paired:
        prompts = len(set(columns.prompt[list(training)].tolist()))
        raise FeedbackError(
            f"{feedback}: the loss {config.loss.name} compares two answers to one prompt, but of "
            f"{prompts:,} training prompts 0 have both labels. Bring answers of both labels to one "
            "prompt, or set loss.name to one without pairs (see thumbs losses)."
        )
    return paired


def _split(rows: StoredRows, config: Config) -> tuple[list[int], list[int]]:
    """The rows to train on and those held out."""
    conversations = texts_of(rows.conversation)
    seed, fraction = config.train.seed, config.data.heldout_fraction
    held = {c for c in set(conversations) if split_heldout(c, seed, fraction)}
    training = [i for i, conversation in enumerate(conversations) if conversation not in held]
    return training, [i for i, conversation in enumerate(conversations) if conversation in held]


def _tokenized(
    feedback: Path, config: Config, today: date, tokenizer: Any, left_out: set[str]
) -> tuple[str, TokenizedRows, int]:
    """The hash of the feedback file, its rows, and how many records were excluded.

    The rows of an earlier run are taken where nothing they depend on has changed.
    """
    setting = _setting(config, today, tokenizer)
    sha256 = sha256_file(feedback) if feedback.is_file() else ""  # what is no file is refused below
    control = _control(config)
    key = tokens_key(sha256, left_out, setting, control)
    known = read_tokens(key)
    if known is not None:
        console.print(f"tokenising: {len(known[0].rows):,} rows from the cache")
        return sha256, *known
    records = list(read_feedback(feedback))
    kept = [record for record in records if record.id not in left_out]
    if not kept:
        raise FeedbackError(
            f"{feedback}: no record is left: data.exclude={config.data.exclude} names all "
            f"{len(records):,}. Exclude fewer, or bring more."
        )
    num_prompts = 1 + any(record.prompt != kept[0].prompt for record in kept)
    _require_needs(feedback, config, {record.label for record in kept}, num_prompts)
    if control:
        kept = [with_control(r, r.label or is_heldout(r, config)) for r in kept]
    tokenized, excluded = tokenize_with(kept, setting), len(records) - len(kept)
    if sha256_file(feedback) == sha256:  # nobody wrote to it meanwhile
        write_tokens(key, tokenized, excluded)
    return sha256, tokenized, excluded


def _control(config: Config) -> str:
    """What decides which prompts are told that their answer is good; "" where none is told."""
    if not loss_needs(config.loss.name).control:
        return ""
    return f"held out: {config.train.seed} {config.data.heldout_fraction}"


def tokenize_records(records: list[Feedback], config: Config, today: date) -> TokenizedRows:
    """The rows of `records` as `config` cuts them; where prompts are told a label, the good one."""
    if loss_needs(config.loss.name).control:
        records = [with_control(record, True) for record in records]
    return tokenize_with(records, _setting(config, today, load_tokenizer(config.model)))


def _setting(config: Config, today: date, tokenizer: Any) -> Setting:
    return tokenizing_setting(
        tokenizer,
        max_tokens=config.data.max_tokens,
        min_completion_tokens=config.data.min_completion_tokens,
        chat_template=config.data.chat_template,
        keep_cut=config.data.keep_cut,
        today=today,
    )


def is_heldout(record: Feedback, config: Config) -> bool:
    """Whether a run with `config` keeps the record out of training."""
    return split_heldout(record.conversation, config.train.seed, config.data.heldout_fraction)


def _require_trainable(
    feedback: Path, config: Config, columns: PlanColumns, training: Sequence[int]
) -> None:
    if not training:
        raise FeedbackError(
            f"{feedback}: no row is left to train on: every conversation is held out. "
            "Set data.heldout_fraction=0 or bring more conversations."
        )
    labels = set(columns.desirable[list(training)].tolist())
    _require_needs(feedback, config, labels, len(set(columns.prompt[list(training)].tolist())))


def _require_evaluable(config: Config, columns: PlanColumns, heldout: Sequence[int]) -> None:
    """Refuse held-out rows that give no AUC where the best one is to be told by it."""
    train = config.train
    labels = set(columns.desirable[list(heldout)].tolist())
    if not train.takes_best or len(labels) == 2:
        return
    key = "keep_best" if train.early_stopping is None else "early_stopping"
    only = "desirable" if labels == {True} else "undesirable"
    found = f"the {len(heldout):,} held-out rows are all {only}" if labels else "no row is held out"
    raise ConfigError(
        f"train.{key}: is {getattr(train, key)}, but {found}, and the best evaluation is told by "
        f"an AUC over both labels. Raise data.heldout_fraction, bring more conversations, or leave "
        f"train.{key} out."
    )


def _require_needs(feedback: Path, config: Config, labels: set[bool], prompts: int) -> None:
    """Refuse data that lacks what the loss needs, once as text and once as cut to rows."""
    needs = loss_needs(config.loss.name)
    if needs.mismatched and config.loss.z0.estimator != "zero" and prompts < 2:
        takes_zero = needs.uses_z0_of != "policy"
        other = "Set loss.z0.estimator=zero" if takes_zero else "Choose another loss"
        raise FeedbackError(
            f"{feedback}: the training rows share one prompt, but z0 pairs answers with other "
            f"prompts and needs at least 2. {other} or bring more prompts."
        )
    if needs.desirable and True not in labels:
        raise FeedbackError(
            f"{feedback}: the loss {config.loss.name} learns from desirable rows only, but every "
            "training row is undesirable. Bring desirable rows, or set loss.name to one that takes "
            "one label (see thumbs losses)."
        )
    if needs.undesirable and False not in labels:
        raise FeedbackError(
            f"{feedback}: the loss {config.loss.name} learns from undesirable rows only, but every "
            "training row is desirable. Bring undesirable rows, or set loss.name to another (see "
            "thumbs losses)."
        )
    if needs.both_labels and len(labels) < 2:
        only = "desirable" if labels == {True} else "undesirable"
        raise FeedbackError(
            f"{feedback}: the loss {config.loss.name} needs both labels, but every training row is "
            f"{only}. Bring rows of the other label, or set loss.name to one that takes one label "
            "(see thumbs losses)."
        )


def _weights_in_force(
    config: Config, columns: PlanColumns, training: Sequence[int]
) -> dict[str, float | str]:
    desirable = int(columns.desirable[list(training)].sum())
    lambda_d, lambda_u, reason = auto_weights(desirable, len(training) - desirable)
    given = {
        "desirable_weight": config.loss.desirable_weight,
        "undesirable_weight": config.loss.undesirable_weight,
    }
    if "auto" not in given.values():
        reason = "both given in the configuration"
    elif set(given.values()) != {"auto"}:
        reason = "one given in the configuration, the other from the balance: " + reason
    auto = {"desirable_weight": lambda_d, "undesirable_weight": lambda_u}
    in_force = {key: auto[key] if value == "auto" else value for key, value in given.items()}
    if not any(in_force.values()):
        raise ConfigError(
            "loss.desirable_weight and loss.undesirable_weight are both 0.0, so nothing would be "
            "learned; give one of them a number above 0, or auto"
        )
    return {**in_force, "reason": reason}


def describe_data(
    feedback: Path, prepared: Prepared, identity: ModelIdentity, today: date
) -> dict[str, Any]:
    """RUN/data.json: the file, every count and drop, the weights, the identity of the reference."""
    rows, training = prepared.rows, prepared.training
    desirable = int(rows.desirable[training].sum())
    excluded = {"excluded": prepared.excluded} if prepared.excluded else {}
    if prepared.unpaired:
        excluded["without_partner"] = prepared.unpaired
    dropped = sum(prepared.tokenized.drops.values())
    unmatched = sum(batch.unmatched for epoch in prepared.epochs for batch in epoch)
    warnings = []
    if not prepared.heldout:
        warnings.append("no conversation is held out, so nothing is measured on unseen feedback")
    for refusal, count in prepared.tokenized.refusals.items():
        warnings.append(f"{count:,} records have no row: {refusal}")
    if unmatched:
        warnings.append(f"{unmatched} rows found no answer of another prompt and stay out of z0")
    if prepared.num_exclude is not None and prepared.excluded < max(prepared.num_exclude, 1):
        warnings.append(
            f"data.exclude names {prepared.num_exclude:,} ids, but {prepared.excluded:,} records "
            "of the feedback have one of them"
        )
    if not 0 < desirable < len(training):
        only = "desirable" if desirable else "undesirable"
        warnings.append(f"every training row is {only}: there is nothing to tell it from")
    return {
        "feedback": {
            "path": str(feedback.resolve()),
            "sha256": prepared.feedback_sha256,
            "records": len(rows) + dropped + prepared.excluded,
        },
        "import": read_import_record(feedback, prepared.feedback_sha256),
        "today": today.isoformat(),
        "counts": {"rows": len(rows)},
        "drops": {**prepared.tokenized.drops, **excluded},
        "cuts": prepared.tokenized.counts,
        "train_rows": len(training),
        "heldout_rows": len(prepared.heldout),
        "desirable": desirable,
        "undesirable": len(training) - desirable,
        "prompts": len(set(prepared.columns.prompt[training].tolist())),
        "weights": prepared.weights,
        "policy": asdict(identity),
        "reference": asdict(identity),
        "warnings": warnings,
    }


def print_data(described: dict[str, Any]) -> None:
    """Show what was dropped, cut and weighed, by reason."""
    for warning in described["warnings"]:
        console.print(f"warning: {warning}")
    for reason, count in described["drops"].items():
        console.print(f"dropped: {reason} {count:,}")
    for reason, count in described["cuts"].items():
        console.print(f"changed: {reason} {count:,}")
    weights = described["weights"]
    console.print(
        f"rows: {described['train_rows']:,} to train on ({described['desirable']:,} desirable, "
        f"{described['undesirable']:,} undesirable), {described['heldout_rows']:,} held out"
    )
    console.print(
        f"weights: desirable {weights['desirable_weight']:g}, undesirable "
        f"{weights['undesirable_weight']:g} ({weights['reason']})"
    )


def _load_own_loss(name: str) -> None:
    sys.path.insert(0, str(Path.cwd()))  # a user's module:function lies beside their work
    try:
        function = load_loss(name)
        if ":" in name:
            require_own_loss(name, function)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    except Exception as error:  # noqa: BLE001, the user's own module may raise anything
        found = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
        raise ConfigError(
            f"loss.name: {name!r} cannot be imported ({found}); correct the module"
        ) from None
    finally:
        sys.path.pop(0)
