"""What each loss needs and its source; read by config, plan and `thumbs losses`. No torch here.

A new loss is one function in core/losses.py, one row here and one test.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LossNeeds:
    """What a loss needs of the data and of the step, and the constants that are its own.

    both_labels: the data must hold desirable and undesirable rows.
    rewards_only: the reference is for the logged rewards; the loss itself does without.
    mismatched: z0 is estimated, so (x, y') rows are planned and scored.
    desirable, undesirable: without rows of that label there is nothing to learn.
    pairs: rows are compared with answers of the other label to the same prompt.
    per_token: the loss is no function of the summed log-ratio.
    value_head: a head that predicts the reward is trained beside the policy.
    shift: the middle of both labels' mean rewards is carried from step to step.
    control: prompts are told which label their answer has.
    sync_every: steps after which the reference becomes the policy as it is then; None: never.
    uses_z0_of: "log_ratio", or "policy": z0 is the unclamped mean of log pi of mismatched answers.
    beta: the default of loss.beta.
    options: constants of the loss beside beta and the weights, keys of the configuration under
        `loss`, with their defaults.
    """

    summary: str
    source: str
    both_labels: bool
    mismatched: bool
    rewards_only: bool = False
    desirable: bool = False
    undesirable: bool = False
    pairs: bool = False
    per_token: bool = False
    value_head: bool = False
    shift: bool = False
    control: bool = False
    sync_every: int | None = None
    uses_z0_of: str = "log_ratio"
    beta: float = 0.1
    options: Mapping[str, float] = field(default_factory=dict)

    def needs(self) -> list[str]:
        """The needs as the words `thumbs losses --json` prints."""
        names = {
            "both labels": self.both_labels,
            "desirable rows": self.desirable,
            "undesirable rows": self.undesirable,
            "pairs": self.pairs,
            "reference": not self.rewards_only,
            "reference, for the rewards only": self.rewards_only,
            "reference sync": self.sync_every is not None,
            "mismatched rows": self.mismatched,
            "tokens": self.per_token,
            "value head": self.value_head,
            "running shift": self.shift,
            "control text": self.control,
        }
        return [name for name, needed in names.items() if needed]

    def defaults(self) -> dict[str, float]:
        """Its constants and their defaults, by their keys under `loss`."""
        sync = {} if self.sync_every is None else {"sync_every": self.sync_every}
        return {"beta": self.beta, **self.options, **sync}


LOSS_TABLE: dict[str, LossNeeds] = {
    "kto": LossNeeds(
        summary="sigmoid value of the log-ratio against the reference point z0",
        source="arXiv 2402.01306v4, section 4",
        both_labels=False,
        mismatched=True,
    ),
    "apo_zero": LossNeeds(
        summary="kto with the reference point at zero",
        source="arXiv 2408.06266v1, unpaired form",
        both_labels=False,
        mismatched=False,
    ),
    "kto_concave": LossNeeds(
        summary="kto with log sigmoid as its value: not bounded",
        source="arXiv 2402.01306v4, ablation",
        both_labels=False,
        mismatched=True,
    ),
    "kto_identity": LossNeeds(
        summary="kto with the log-ratio itself as its value: neutral to risk",
        source="arXiv 2402.01306v4, ablation",
        both_labels=False,
        mismatched=True,
    ),
    "kto_noref": LossNeeds(
        summary="kto of log pi, as if the reference gave every answer alike",
        source="arXiv 2402.01306v4, ablation",
        both_labels=False,
        mismatched=True,
        rewards_only=True,
        uses_z0_of="policy",
    ),
    "humanline": LossNeeds(
        summary="kto of clipped token log-ratios; the reference follows the policy",
        source="arXiv 2509.24207",
        both_labels=False,
        mismatched=True,
        per_token=True,
        sync_every=12,
        options={"clip_low": -1.5, "clip_high": 1.5},
    ),
    "bco": LossNeeds(
        summary="cross-entropy of the label under the reward, shifted to the middle of both labels",
        source="arXiv 2404.04656",
        both_labels=True,
        mismatched=False,
        shift=True,
    ),
    "bce": LossNeeds(
        summary="cross-entropy of the label under the reward",
        source="arXiv 2312.02554",
        both_labels=False,
        mismatched=False,
    ),
    "npo": LossNeeds(
        summary="likelihood of undesirable answers down; desirable ones are not used",
        source="arXiv 2404.05868",
        both_labels=False,
        mismatched=False,
        undesirable=True,
    ),
    "sft": LossNeeds(
        summary="likelihood of desirable answers; undesirable ones are not used",
        source="the baseline of every table",
        both_labels=False,
        mismatched=False,
        rewards_only=True,
        desirable=True,
    ),
    "csft": LossNeeds(
        summary="likelihood of every answer after a prompt that tells its label",
        source="arXiv 2302.08582",
        both_labels=True,
        mismatched=False,
        rewards_only=True,
        control=True,
    ),
    "topr": LossNeeds(
        summary="likelihood up for desirable answers, tapered down for undesirable ones",
        source="arXiv 2503.14286",
        both_labels=False,
        mismatched=False,
    ),
    "ppo_offline": LossNeeds(
        summary="PPO's clipped step on the answers there are; reward +1 or -1",
        source="arXiv 2402.01306v4, appendix",
        both_labels=True,
        mismatched=False,
        per_token=True,
        value_head=True,
        options={"clip_low": 0.25, "clip_high": 4.0, "value_weight": 0.1},
    ),
    "dpo": LossNeeds(
        summary="-log sigmoid of the difference of both answers' rewards",
        source="arXiv 2305.18290v2",
        both_labels=True,
        mismatched=False,
        pairs=True,
    ),
    "cdpo": LossNeeds(
        summary="dpo that takes a share of the labels to be wrong",
        source="Mitchell 2023, a note on DPO with noisy preferences",
        both_labels=True,
        mismatched=False,
        pairs=True,
        options={"label_smoothing": 0.1},
    ),
    "ipo": LossNeeds(
        summary="squared distance of the difference from 1 / (2 beta)",
        source="arXiv 2310.12036",
        both_labels=True,
        mismatched=False,
        pairs=True,
    ),
    "slic": LossNeeds(
        summary="hinge on the difference of log-likelihoods, plus likelihood",
        source="arXiv 2305.10425",
        both_labels=True,
        mismatched=False,
        rewards_only=True,
        pairs=True,
        options={"margin": 1.0, "nll_weight": 0.1},
    ),
    "simpo": LossNeeds(
        summary="dpo of log-likelihoods per token, with a margin",
        source="arXiv 2405.14734",
        both_labels=True,
        mismatched=False,
        rewards_only=True,
        pairs=True,
        per_token=True,
        beta=2.0,
        options={"margin": 1.0},
    ),
    "orpo": LossNeeds(
        summary="likelihood, plus the log odds ratio of both answers",
        source="arXiv 2403.07691",
        both_labels=True,
        mismatched=False,
        rewards_only=True,
        pairs=True,
        per_token=True,
    ),
}

# A loss plugged in by `package.module:function` may use everything KTO uses.
PLUGGED_IN = LossNeeds(
    summary="your own function",
    source="loss.name: package.module:function",
    both_labels=False,
    mismatched=True,
)


def loss_needs(name: str) -> LossNeeds:
    """The needs of loss `name`, a name of the table or `package.module:function`.

    Raises:
        KeyError: `name` is neither.
    """
    return PLUGGED_IN if ":" in name else LOSS_TABLE[name]
