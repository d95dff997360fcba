"""The weights of the two labels that the balance of the data implies.

In: two counts. Out: two weights and the reason in words. Knows nothing else.
"""

# lambda_D n_D / (lambda_U n_U) belongs in [1, 3/2]: arXiv 2402.01306v4, section 4.
LEAST_RATIO = 1.0
MOST_RATIO = 1.5


def auto_weights(num_desirable: int, num_undesirable: int) -> tuple[float, float, str]:
    """The weights (desirable, undesirable) for data of these counts, and why.

    With q = n_D / n_U: q < 1 raises the desirable weight to 1 / q, so that both labels weigh the
    same; q in [1, 3/2] needs nothing; a larger q is left alone, since raising the undesirable
    weight there made models worse (by 7.6 points at 10:1, docs/reproduction.md, X4b).

    >>> auto_weights(100, 400)[:2]
    (4.0, 1.0)

    Raises:
        ValueError: there are no records, or a count is negative.
    """
    if min(num_desirable, num_undesirable) < 0 or num_desirable + num_undesirable == 0:
        raise ValueError(f"counts must be >= 0 and not both 0: {num_desirable}, {num_undesirable}")
    if num_undesirable == 0:
        return 1.0, 1.0, "only desirable records: nothing to balance"
    if num_desirable == 0:
        return 1.0, 1.0, "only undesirable records: nothing to balance"
    ratio = num_desirable / num_undesirable
    if ratio < LEAST_RATIO:
        weight = num_undesirable / num_desirable
        return weight, 1.0, f"desirable / undesirable is {ratio:.3g}, below 1: desirable raised"
    if ratio <= MOST_RATIO:
        return 1.0, 1.0, f"desirable / undesirable is {ratio:.3g}, within [1, 1.5]"
    return 1.0, 1.0, f"desirable / undesirable is {ratio:.3g}, above 1.5: left as it is"
