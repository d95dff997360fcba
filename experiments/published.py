"""The published numbers, and what their counts are worth.

In: nothing. Out: win counts of the paper's judge (arXiv 2402.01306v4, and the authors' published
verdicts), with tests computed here. Rates are given to three digits; of 512 or 256 answers each is
one count exactly.
"""

from dataclasses import dataclass
from typing import Any

from scipy import stats

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Wins:
    """Answers of a model that the judge preferred to the data's own, of `total`."""

    name: str
    rate: float
    total: int

    @property
    def wins(self) -> int:
        return round(self.rate * self.total)


DPO_7B = Wins("DPO, Llama-7B", 0.309, 512)
KTO_7B = Wins("KTO, Llama-7B", 0.410, 512)
DPO_30B = Wins("DPO, Llama-30B", 0.535, 512)
KTO_30B = Wins("KTO, Llama-30B", 0.664, 512)
DPO_MISTRAL = Wins("DPO, Mistral-7B", 0.600, 512)
KTO_MISTRAL = Wins("KTO, Mistral-7B", 0.652, 512)
ONE_Y_MISTRAL = Wins("KTO one-y-per-x, Mistral-7B", 0.631, 512)
FULL = Wins("KTO, all of the data, Llama-7B", 0.453, 256)
TENTH = Wins("KTO, 10 % of the desirable, Llama-7B", 0.328, 256)

COMPARISONS = (
    (KTO_7B, DPO_7B),
    (KTO_30B, DPO_30B),
    (KTO_MISTRAL, DPO_MISTRAL),
    (ONE_Y_MISTRAL, DPO_MISTRAL),
    (KTO_MISTRAL, ONE_Y_MISTRAL),
    (TENTH, DPO_7B),
    (FULL, TENTH),
)

# Zephyr-beta-SFT on UltraFeedback, one run each: share solved of so many problems.
BENCHMARKS = {"GSM8K": 1319, "MMLU": 14_042, "HumanEval": 164, "BBH": 6511}
ZEPHYR = {
    "DPO": {"MMLU": 0.582, "GSM8K": 0.400, "HumanEval": 0.301, "BBH": 0.441},
    "KTO": {"MMLU": 0.586, "GSM8K": 0.535, "HumanEval": 0.309, "BBH": 0.526},
    "one-y-per-x": {"MMLU": 0.580, "GSM8K": 0.500, "HumanEval": 0.307, "BBH": 0.499},
    "no z0": {"MMLU": 0.585, "GSM8K": 0.495, "HumanEval": 0.307, "BBH": 0.490},
    "concave": {"GSM8K": 0.425, "BBH": 0.432},
    "identity": {"BBH": 0.061},
    "no reference": {"MMLU": 0.575, "GSM8K": 0.475, "HumanEval": 0.295, "BBH": 0.516},
}


def compare(first: Wins, second: Wins) -> dict[str, Any]:
    """Difference of two rates, and the p value of the two-sided chi-squared test.

    Without continuity correction; both models were judged on prompts of one set, but the verdicts
    are not paired in what was published.
    """
    table = [[w.wins, w.total - w.wins] for w in (first, second)]
    p = float(stats.chi2_contingency(table, correction=False).pvalue)
    return {
        "first": first,
        "second": second,
        "difference": first.rate - second.rate,
        "p": p,
        "significant": p < SIGNIFICANT,
    }


def benchmark_wins(model: str, benchmark: str) -> Wins:
    """The count behind a benchmark's percentage, as near as it can be told."""
    return Wins(f"{model}, {benchmark}", ZEPHYR[model][benchmark], BENCHMARKS[benchmark])
