"""What each loss needs and its source; read by config, plan and `thumbs losses`. No torch here.

A new loss is one function in core/losses.py, one row here and one test.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class LossNeeds:
    """What a loss needs of the data and of the step.

    both_labels: the data must hold desirable and undesirable rows.
    reference: reference log-probs of every row are needed, if only for the logged rewards.
    mismatched: z0 is estimated, so (x, y') rows are planned and scored.
    desirable: without desirable rows there is nothing to learn.
    """

    summary: str
    source: str
    both_labels: bool
    reference: bool
    mismatched: bool
    desirable: bool = False

    def needs(self) -> list[str]:
        """The needs as the words `thumbs losses --json` prints."""
        names = {
            "both labels": self.both_labels,
            "desirable rows": self.desirable,
            "reference": self.reference,
            "mismatched rows": self.mismatched,
        }
        return [name for name, needed in names.items() if needed]


LOSS_TABLE: dict[str, LossNeeds] = {
    "kto": LossNeeds(
        summary="sigmoid value of the log-ratio against the reference point z0",
        source="arXiv 2402.01306v4, section 4",
        both_labels=False,
        reference=True,
        mismatched=True,
    ),
    "apo_zero": LossNeeds(
        summary="kto with the reference point at zero",
        source="arXiv 2408.06266v1, unpaired form",
        both_labels=False,
        reference=True,
        mismatched=False,
    ),
    "kto_concave": LossNeeds(
        summary="kto with log sigmoid as its value: not bounded",
        source="arXiv 2402.01306v4, ablation",
        both_labels=False,
        reference=True,
        mismatched=True,
    ),
    "kto_identity": LossNeeds(
        summary="kto with the log-ratio itself as its value: neutral to risk",
        source="arXiv 2402.01306v4, ablation",
        both_labels=False,
        reference=True,
        mismatched=True,
    ),
    "bce": LossNeeds(
        summary="cross-entropy of the label under the reward",
        source="arXiv 2312.02554",
        both_labels=False,
        reference=True,
        mismatched=False,
    ),
    "sft": LossNeeds(
        summary="likelihood of desirable answers; undesirable ones are not used",
        source="the baseline of every table",
        both_labels=False,
        reference=True,
        mismatched=False,
        desirable=True,
    ),
    "topr": LossNeeds(
        summary="likelihood up for desirable answers, tapered down for undesirable ones",
        source="arXiv 2503.14286",
        both_labels=False,
        reference=True,
        mismatched=False,
    ),
}

# A loss plugged in by `package.module:function` may use everything KTO uses.
PLUGGED_IN = LossNeeds(
    summary="your own function",
    source="loss.name: package.module:function",
    both_labels=False,
    reference=True,
    mismatched=True,
)


def loss_needs(name: str) -> LossNeeds:
    """The needs of loss `name`, a name of the table or `package.module:function`.

    Raises:
        KeyError: `name` is neither.
    """
    return PLUGGED_IN if ":" in name else LOSS_TABLE[name]
