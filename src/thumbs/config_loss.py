"""The settings of the loss: which one, its constants, the reference point, and what does not fit.

Importable without torch.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from thumbs.config_model import Auto, Stage
from thumbs.loss_table import LOSS_TABLE, loss_needs

OWN_CONSTANTS = (
    *("label_smoothing", "margin", "nll_weight", "clip_low", "clip_high", "value_weight"),
    "sync_every",
)  # of some losses only; null takes the loss's default


# Where a token stands while policy and reference are the same: a log-ratio, a ratio.
UNMOVED = {"humanline": 0.0, "ppo_offline": 1.0}


class Z0Config(Stage):
    """The reference point z0: how far the policy has moved on answers to other prompts."""

    estimator: Literal["mismatched", "zero", "adaptive"] = "mismatched"
    """mismatched: mean log-ratio of answers paired with other prompts. zero: z0 is 0, no pairs.
    adaptive: as mismatched, but while the last three estimates were each 3 standard errors or more
    below 0, z0 is 0 without an estimate on all but every check_every-th step."""
    check_every: int = Field(default=8, ge=1)
    """Steps from one estimate to the next while adaptive leaves estimates out; 1 leaves none out.
    More saves more and sees a z0 that rises later. At 8 the error expected of a mean that stands
    still is below 0.0004 standard errors per step."""
    group_rows: int | None = Field(default=None, ge=2)
    """Rows that share one z0; null is the whole batch. Published code uses its micro-batch."""
    redraw: Literal["epoch", "once"] = "epoch"
    """epoch: new batches and pairings every epoch. once: those of the first epoch in a new order,
    which keeps the reference pass as small as for one epoch."""


class LossConfig(Stage):
    """Which human-aware loss, and its constants."""

    name: str = "kto"
    """A name of `thumbs losses`, or package.module:function for your own."""
    beta: float = Field(default=0.1, gt=0.0)
    """Reward per nat of log-ratio; more keeps the policy nearer the reference.
    0.1 from arXiv 2402.01306v4; 0.01-0.1 after SFT on the same data. simpo: 2.0."""
    desirable_weight: float | Auto = Field(default="auto")
    """lambda_D. auto balances the labels (see `thumbs check`); a number, 0.0 included, holds."""
    undesirable_weight: float | Auto = Field(default="auto")
    """lambda_U, likewise."""
    sft_weight: float = Field(default=0.0, ge=0.0)
    """Adds this times -log pi per token of desirable answers to any loss (arXiv 2404.19733)."""
    label_smoothing: float | None = Field(default=None, ge=0.0, lt=0.5)
    """cdpo: share of pairs whose labels are taken to be wrong."""
    margin: float | None = Field(default=None, ge=0.0)
    """simpo: the margin gamma of the reward. slic: nats of log-likelihood."""
    nll_weight: float | None = Field(default=None, ge=0.0)
    """slic: weight of the desirable answer's likelihood."""
    clip_low: float | None = None
    """humanline: least log-ratio of a token, nats. ppo_offline: least ratio."""
    clip_high: float | None = None
    """humanline: greatest log-ratio of a token, nats. ppo_offline: greatest ratio."""
    value_weight: float | None = Field(default=None, ge=0.0)
    """ppo_offline: weight of the value head's squared error."""
    sync_every: int | None = Field(default=None, ge=1)
    """humanline: steps after which the policy as it is then becomes the reference."""
    z0: Z0Config = Z0Config()

    @property
    def options(self) -> dict[str, float]:
        """The loss's own constants beside beta and weights: as given, or its defaults."""
        own = loss_needs(self.name).options
        given = {key: getattr(self, key) for key in own}
        return {key: own[key] if value is None else value for key, value in given.items()}

    @property
    def steps_between_syncs(self) -> int | None:
        """After how many steps the reference becomes the policy; None: never."""
        default = loss_needs(self.name).sync_every
        return self.sync_every if default is not None and self.sync_every else default

    @model_validator(mode="before")
    @classmethod
    def _own_beta(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or tree.get("beta") is not None:
            return tree
        row = LOSS_TABLE.get(str(tree.get("name", "kto")))
        return {**tree, "beta": row.beta} if row else tree

    @field_validator("name")
    @classmethod
    def _known_loss(cls, name: str) -> str:
        if ":" not in name and name not in LOSS_TABLE:
            raise ValueError(
                f"no such loss; allowed: {', '.join(LOSS_TABLE)}, or package.module:function"
            )
        return name

    @field_validator("desirable_weight", "undesirable_weight")
    @classmethod
    def _weight_not_negative(cls, weight: float | str) -> float | str:
        if isinstance(weight, float) and not 0.0 <= weight < float("inf"):
            raise ValueError("a weight is a finite number >= 0, or auto")
        return weight


def loss_contradictions(loss: LossConfig, *, pairs: str, batch_size: int) -> Iterator[str]:
    """Settings that are fine alone and not together: which, why, what to do.

    pairs: data.pairs. batch_size: train.batch_size, in rows.
    """
    yield from _constants_of_other_losses(loss)
    yield from _without_effect(loss, pairs)
    yield from _nothing_to_learn(loss)
    rows = loss.z0.group_rows
    if rows is not None and rows > batch_size:
        yield (
            f"loss.z0.group_rows is {rows}, but train.batch_size is {batch_size}, and a "
            "group lies within a batch; lower loss.z0.group_rows, or null for the whole batch"
        )
    if rows is not None and (loss.z0.estimator == "zero" or not loss_needs(loss.name).mismatched):
        cause = "loss.z0.estimator=zero" if loss_needs(loss.name).mismatched else loss.name
        yield (
            f"loss.z0.group_rows is {rows}, but {cause} estimates no z0, so there are no groups; "
            "leave loss.z0.group_rows out"
        )
    if rows is not None and loss.z0.estimator == "adaptive":
        yield (
            f"loss.z0.group_rows is {rows}, but loss.z0.estimator=adaptive looks at the "
            "estimate of the whole batch; leave loss.z0.group_rows out, or set "
            "loss.z0.estimator=mismatched"
        )


def _constants_of_other_losses(loss: LossConfig) -> Iterator[str]:
    own = loss_needs(loss.name).defaults()
    for key in OWN_CONSTANTS:
        if getattr(loss, key) is not None and key not in own:
            takers = [name for name, row in LOSS_TABLE.items() if key in row.defaults()]
            yield (
                f"loss.{key} is given, but loss.name={loss.name} has no such constant; it belongs "
                f"to {', '.join(takers)}; leave it out"
            )


def _without_effect(loss: LossConfig, pairs: str) -> Iterator[str]:
    needs = loss_needs(loss.name)
    reasons = {
        "desirable_weight": (needs.undesirable, "learns from undesirable answers only"),
        "undesirable_weight": (needs.desirable, "learns from desirable answers only"),
    }
    for key, (is_one_label, reason) in reasons.items():
        weight = getattr(loss, key)
        if weight not in ("auto", 1.0) and (needs.pairs or is_one_label):
            why = "compares pairs, which have one answer of each label" if needs.pairs else reason
            yield (
                f"loss.{key} is {weight}, but loss.name={loss.name} {why}, so it has no effect; "
                "leave it out"
            )
    if pairs != "all" and not needs.pairs:
        yield (
            f"data.pairs is {pairs!r}, but loss.name={loss.name} compares no pairs; leave it out, "
            "or choose a loss of pairs (thumbs losses)"
        )
    if loss.z0.estimator != "mismatched" and needs.uses_z0_of == "policy":
        yield (
            f"loss.z0.estimator is {loss.z0.estimator!r}, but the z0 of loss.name={loss.name} is a "
            "mean of log pi, which is never near 0; leave it out"
        )
    if loss.z0.estimator == "adaptive" and not needs.mismatched:
        yield (
            f"loss.z0.estimator is 'adaptive', but loss.name={loss.name} estimates no z0; "
            "leave it out"
        )


def _nothing_to_learn(loss: LossConfig) -> Iterator[str]:
    needs = loss_needs(loss.name)
    if loss.desirable_weight == 0 and loss.undesirable_weight == 0:
        yield (
            "loss.desirable_weight and loss.undesirable_weight are both 0.0, so nothing would be "
            "learned; give one of them a number above 0, or auto"
        )
    for key, is_only_label in (
        ("desirable_weight", needs.desirable),
        ("undesirable_weight", needs.undesirable),
    ):
        if getattr(loss, key) == 0 and is_only_label and loss.sft_weight == 0:
            label = key.removesuffix("_weight")
            yield (
                f"loss.{key} is 0.0, but loss.name={loss.name} learns from {label} answers only, "
                "so nothing would be learned; give a number above 0, or auto"
            )
    low, high = loss.options.get("clip_low"), loss.options.get("clip_high")
    if low is None or high is None:
        return
    if low >= high:
        yield f"loss.clip_low is {low}, but loss.clip_high is {high}; give a low below the high"
    unmoved = UNMOVED[loss.name]
    if not low <= unmoved <= high:
        yield (
            f"loss.clip_low is {low} and loss.clip_high is {high}, but before the first step every "
            f"token of loss.name={loss.name} stands at {unmoved}, so all would be clipped and "
            f"nothing learned; give a low below {unmoved} and a high above it"
        )
