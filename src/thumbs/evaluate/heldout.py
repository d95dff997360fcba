"""How well a policy's implied reward tells the held-out thumbs apart, with intervals and baselines.

In: the held-out rows already scored, as arrays. Out: `HeldoutMetrics`, whose `to_dict()` goes into
summary.json and the report. Knows no tokens, no model, no files. N rows.

Before training the policy is the reference, so the log-ratio is 0 everywhere and its AUC is 1/2:
the bar to pass is set by the baselines, scores that need no training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from thumbs.core import metrics
from thumbs.errors import NonFiniteError
from thumbs.evaluate.distribution import (
    Calibration,
    Histogram,
    calibration,
    reward_histogram,
)
from thumbs.evaluate.intervals import (
    Floats,
    Interval,
    Statistic,
    clopper_pearson,
    cluster_bootstrap,
    weighted_mean,
)
from thumbs.evaluate.ranking import (
    Labels,
    Roc,
    auc_statistic,
    roc_points,
    within_prompt_auc_statistic,
)


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; where one of them is None, `reason` says why."""

    value: float | None
    interval: Interval | None
    reason: str = ""


@dataclass(frozen=True)
class HeldoutMetrics:
    """The numbers of one policy on the held-out rows.

    num_pairs: pairs of a desirable and an undesirable row of one prompt.
    z0: nats. saturation: share of rows whose gradient has all but vanished.
    estimates: auc, auc_within_prompt, accuracy (of "desirable if r > z0"), margin (nats: mean r of
        the desirable minus mean r of the undesirable rows).
    baselines: AUC of scores that need no training. gains: AUC of the reward minus that of the
        baseline, which may be turned upside down to be at its best.
    roc: curves of the reward and the baselines. histogram: of beta * r, by label. calibration: of
        sigmoid(beta (r - z0)); None where all rewards are one.
    """

    n: int
    num_desirable: int
    num_undesirable: int
    num_prompts: int
    num_pairs: int
    z0: float
    beta: float
    saturation: float | None
    estimates: dict[str, Estimate]
    baselines: dict[str, Estimate]
    gains: dict[str, Estimate]
    roc: dict[str, Roc]
    histogram: Histogram | None
    calibration: Calibration | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: auc, auc_ci, ...; null where missing, the reason in `missing`."""
        counts = {
            name: getattr(self, name)
            for name in ("n", "num_desirable", "num_undesirable", "num_prompts", "num_pairs")
        }
        missing = {name: e.reason for name, e in self.estimates.items() if e.reason}
        return {
            **counts,
            **_flat(self.estimates),
            "saturation": self.saturation,
            "z0": self.z0,
            "beta": self.beta,
            "missing": missing,
            "baselines": {
                name: _flat({"auc": e, "gain": self.gains[name]})
                for name, e in self.baselines.items()
            },
            "roc": {name: curve._asdict() for name, curve in self.roc.items()},
            "histogram": self.histogram and self.histogram._asdict(),
            "calibration": self.calibration and self.calibration._asdict(),
        }


def heldout_metrics(
    log_ratio: ArrayLike,
    labels: ArrayLike,
    prompts: Sequence[object],
    *,
    z0: float,
    beta: float,
    reference_mean_token_logp: ArrayLike,
    completion_tokens: ArrayLike,
    seed: int,
) -> HeldoutMetrics:
    """The implied reward against the thumbs: AUC, AUC within a prompt, accuracy, margin, baselines.

    Every interval is a 95 % percentile bootstrap that draws whole prompts. A share of exactly 0 or
    1, to which a bootstrap gives no width, gets Clopper-Pearson's for as many trials as there are
    prompts.

    Args:
        log_ratio: (N,) nats, log pi(y|x) - log pi_ref(y|x) summed over the completion.
        labels: (N,) True = desirable. prompts: (N,) a hashable name or number of each row's prompt.
        z0: nats, the reference point of the evaluated policy on these rows.
        beta: 1/nats, as in training.
        reference_mean_token_logp: (N,) nats per token of the completion under the reference.
        completion_tokens: (N,) length of the completion.
        seed: of the bootstrap.

    Raises:
        NonFiniteError: a log-ratio or log-prob is NaN or infinite.
        ValueError: arrays of unequal length.
    """
    r = np.asarray(log_ratio, dtype=np.float64)
    up = np.asarray(labels, dtype=np.bool_)
    baselines = {
        "reference_mean_token_logp": np.asarray(reference_mean_token_logp, dtype=np.float64),
        "completion_tokens": np.asarray(completion_tokens, dtype=np.float64),
    }
    prompt = _numbered(prompts)
    _check(r, up, prompt, baselines)
    rows = _Rows(up, prompt, seed)
    within, num_pairs = within_prompt_auc_statistic(r, up, prompt)
    return HeldoutMetrics(
        n=int(up.size),
        num_desirable=int(up.sum()),
        num_undesirable=int((~up).sum()),
        num_prompts=int(np.unique(prompt).size),
        num_pairs=num_pairs,
        z0=z0,
        beta=beta,
        saturation=metrics.saturation(torch.from_numpy(r), z0, beta=beta),
        estimates={
            "auc": rows.auc(r),
            "auc_within_prompt": rows.within_prompt(within, num_pairs),
            "accuracy": rows.accuracy(r, z0),
            "margin": rows.margin(r),
        },
        baselines={name: rows.auc(scores) for name, scores in baselines.items()},
        gains={name: rows.gain(r, scores) for name, scores in baselines.items()},
        roc=_curves({"reward": r, **baselines}, up),
        histogram=reward_histogram(beta * r, up),
        calibration=calibration(beta * (r - z0), up),
    )


@dataclass(frozen=True)
class _Rows:
    """The held-out rows, and each number over them as an `Estimate`.

    The number itself comes from core.metrics; the statistics repeat it on resampled rows.
    """

    labels: Labels
    prompts: Floats
    seed: int

    def auc(self, scores: Floats) -> Estimate:
        trials = min(self._num_prompts(self.labels), self._num_prompts(~self.labels))
        return self._estimate(self._auc(scores), auc_statistic(scores, self.labels), trials)

    def gain(self, reward: Floats, baseline: Floats) -> Estimate:
        value, other = self._auc(reward), self._auc(baseline)
        if value is None or other is None:
            return self._missing()
        best = baseline if other >= 0.5 else -baseline
        ours, theirs = auc_statistic(reward, self.labels), auc_statistic(best, self.labels)
        return self._estimate(
            value - max(other, 1 - other), lambda drawn: ours(drawn) - theirs(drawn)
        )

    def within_prompt(self, statistic: Statistic, num_pairs: int) -> Estimate:
        if num_pairs == 0:
            return Estimate(None, None, "no prompt has both a desirable and an undesirable answer")
        both = np.intersect1d(self.prompts[self.labels], self.prompts[~self.labels])
        return self._estimate(
            float(statistic(np.ones((1, self.labels.size)))[0]), statistic, both.size
        )

    def accuracy(self, log_ratio: Floats, z0: float) -> Estimate:
        labels = torch.from_numpy(self.labels)
        value = metrics.accuracy_at(torch.from_numpy(log_ratio), z0, labels)
        right = ((log_ratio > z0) == self.labels).astype(np.float64)
        return self._estimate(value, weighted_mean(right), np.unique(self.prompts).size)

    def margin(self, log_ratio: Floats) -> Estimate:
        value = metrics.margin(torch.from_numpy(log_ratio), torch.from_numpy(self.labels))
        up = weighted_mean(log_ratio, self.labels.astype(np.float64))
        down = weighted_mean(log_ratio, (~self.labels).astype(np.float64))
        return self._estimate(value, lambda drawn: up(drawn) - down(drawn))

    def _auc(self, scores: Floats) -> float | None:
        return metrics.auc(torch.from_numpy(scores), torch.from_numpy(self.labels))

    def _estimate(
        self, value: float | None, statistic: Statistic, trials: int | None = None
    ) -> Estimate:
        """trials: independent right-or-wrong trials behind a share; None for what is no share."""
        if value is None:
            return self._missing()
        if trials is not None and value in (0.0, 1.0):
            return Estimate(value, clopper_pearson(trials * int(value), trials))
        interval = cluster_bootstrap(statistic, self.prompts, seed=self.seed)
        return Estimate(value, interval, "" if interval else "too few prompts for an interval")

    def _missing(self) -> Estimate:
        if self.labels.size == 0:
            return Estimate(None, None, "no held-out row")
        lacks = "undesirable" if self.labels.all() else "desirable"
        return Estimate(None, None, f"no {lacks} held-out row")

    def _num_prompts(self, rows: Labels) -> int:
        return int(np.unique(self.prompts[rows]).size)


def _curves(scores: dict[str, Floats], labels: Labels) -> dict[str, Roc]:
    if labels.all() or not labels.any():
        return {}
    return {name: roc_points(values, labels) for name, values in scores.items()}


def _numbered(prompts: Sequence[object]) -> Floats:
    """The prompts as numbers, in order of first appearance (names may be tuples of ids)."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in prompts], dtype=np.float64)


def _check(r: Floats, labels: Labels, prompts: Floats, baselines: dict[str, Floats]) -> None:
    columns = {"log_ratio": r, "labels": labels, "prompts": prompts, **baselines}
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) > 1 or r.ndim != 1:
        raise ValueError(f"all held-out columns must be of one length, but are {shapes}")
    for name, column in {"log_ratio": r, **baselines}.items():
        bad = np.flatnonzero(~np.isfinite(column))
        if bad.size:
            raise NonFiniteError(
                f"held-out rows {bad[:10].tolist()}: {name} is {float(column[bad[0]])!r}, must be "
                "finite; the model's weights or its numbers are broken (try model.dtype float32)"
            )


def _flat(estimates: dict[str, Estimate]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, estimate in estimates.items():
        flat[name] = estimate.value
        flat[f"{name}_ci"] = _pair(estimate.interval)
    return flat


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)
