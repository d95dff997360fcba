"""The share of right answers over the parts of a benchmark: its standard error and interval.

In: right answers and questions per part. Out: numbers. The parts are the benchmark's own, not a
sample of parts: how much they differ adds nothing to the error, what differs within them does.
"""

from collections.abc import Sequence

from scipy.special import ndtri

from thumbs.evaluate.intervals import Interval

LEAST_DESIGN_EFFECT = 0.5  # however alike the answers within the parts of a small sample happen


def stratified_error(right: Sequence[int], sizes: Sequence[int]) -> float | None:
    """Standard error of sum(right) / sum(sizes), the parts being strata.

    sqrt(sum_h (n_h / n)^2 s_h^2 / n_h), s_h^2 = p_h (1 - p_h) n_h / (n_h - 1). A part of one
    question tells nothing of its variance; all such parts are one stratum, which errs on the safe
    side. With one part this is s / sqrt(n).

    Args:
        right: right answers of each part. sizes: questions of each part, > 0.

    Returns:
        The error; None where there is one question in all.

    Source: Cochran 1977, Sampling Techniques, 5.9 and 5A.12 (collapsed strata).
    """
    n = sum(sizes)
    if n < 2:
        return None
    variance = 0.0
    for k, size in _joined(right, sizes):
        share = k / size
        variance += (size / n) ** 2 * share * (1 - share) / (size - 1)
    return float(variance**0.5)


def stratified_wilson(
    right: Sequence[int], sizes: Sequence[int], *, level: float = 0.95
) -> Interval:
    """Wilson's interval of sum(right) / sum(sizes) with the effective number of questions.

    That number is n / d with the design effect d = error^2 / (p (1 - p) / n), at least 1/2; with
    one part, and where all answers are right or none, it is n.

    Source: Franco, Little, Louis, Slud 2019, Journal of Survey Statistics and Methodology 7:334.
    """
    n, k = sum(sizes), sum(right)
    share = k / n
    effective = float(n)
    if len(sizes) > 1 and 0 < k < n:
        error = stratified_error(right, sizes) or 0.0
        plain = share * (1 - share) / (n - 1)
        effective = n / max(error**2 / plain, LEAST_DESIGN_EFFECT)
    z = float(ndtri((1 + level) / 2))
    centre = share + z * z / (2 * effective)
    half = z * (share * (1 - share) / effective + (z / (2 * effective)) ** 2) ** 0.5
    scale = 1 + z * z / effective
    low, high = (centre - half) / scale, (centre + half) / scale
    return Interval(low if k else 0.0, high if k < n else 1.0)


def _joined(right: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, int]]:
    """(right answers, questions) of strata with two questions or more."""
    pairs = list(zip(right, sizes, strict=True))
    strata = [(k, size) for k, size in pairs if size > 1]
    lone = [k for k, size in pairs if size == 1]
    if len(lone) == 1:
        k, size = strata.pop()
        strata.append((k + lone[0], size + 1))
    elif lone:
        strata.append((sum(lone), len(lone)))
    return strata
