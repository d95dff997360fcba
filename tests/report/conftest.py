"""Run folders as training writes them, with numbers that tests can look for."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import yaml

from thumbs.evaluate.heldout import heldout_metrics
from thumbs.report.page import write_report

CONFIG = {
    "model": {"name_or_path": "tiny-llama", "revision": None},
    "data": {"heldout_fraction": 0.1},
    "loss": {"name": "kto", "beta": 0.1, "z0": {"estimator": "mismatched"}},
    "train": {"learning_rate": 5e-6, "batch_size": 32},
}
DATA: dict[str, Any] = {
    "feedback": {"path": "feedback.jsonl", "sha256": "ab12" * 16, "records": 2345},
    "counts": {"rows": 2222},
    "drops": {"empty_completion": 17, "too_long": 0},
    "cuts": {"oldest_turns": 5},
    "train_rows": 2011,
    "heldout_rows": 200,
    "desirable": 1204,
    "undesirable": 807,
    "prompts": 1003,
    "weights": {
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
        "reason": "1204 : 807 is within 1 to 1.5",
    },
    "reference": {"name_or_path": "tiny-llama", "revision": None, "weight_sha256": "cd34" * 16},
    "warnings": [],
}
DEMO = {
    "before": 0.631,
    "before_ci": [0.601, 0.660],
    "after": 0.832,
    "after_ci": [0.808, 0.854],
    "difference": 0.201,
    "ci_low": 0.17,
    "ci_high": 0.232,
    "greedy_before": 0.71,
    "greedy_after": 0.9,
    "examples": [
        {
            "prompt": "Ann has 3 apples and buys 4 more. How many has she?",
            "before": "3 + 4 = 8. The answer is 8.",
            "after": "3 + 4 = 7. The answer is 7.",
            "answer": "7",
        }
    ],
}

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run(name, steps=..., data=..., config=..., finished=..., **summary)`: a run folder.

    data, config and the keys of summary replace what stands there; unfinished runs have no summary.
    """
    return partial(_make, tmp_path)


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a demo, with its page; for tests that only read."""
    run = _make(tmp_path_factory.mktemp("demo"), demo=DEMO)
    write_report(run)
    return run


def _make(
    folder: Path,
    name: str = "run",
    *,
    steps: list[dict[str, Any]] | None = None,
    data: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    finished: bool = True,
    **summary: Any,
) -> Path:
    run = folder / name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump({**CONFIG, **(config or {})}))
    (run / "data.json").write_bytes(orjson.dumps({**DATA, **(data or {})}))
    lines = training_steps(60) if steps is None else steps
    (run / "metrics.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    if finished:
        whole = {**finished_summary(), **summary}
        (run / "summary.json").write_bytes(orjson.dumps(whole))
    return run


@pytest.fixture
def audited() -> Callable[..., dict[str, Any]]:
    """`audited(reward=..., ...)`: what `thumbs audit` leaves in a run, one row with changes."""
    return _audited


def _audited(**changes: Any) -> dict[str, Any]:
    found = {
        "id": "r7",
        "label": True,
        "reward": -0.512,
        "gradient_weight": 0.91,
        "split": "training",
        "prompt": "2+2?",
        "completion": "5 " * 400,
        **changes,
    }
    splits = {"training": {"rows": 2011, "flagged": 1}, "held-out": {"rows": 200, "flagged": 0}}
    return {"rows": 2211, "flagged": 1, "splits": splits, "top": [found]}


@pytest.fixture
def demo() -> dict[str, Any]:
    """What a demo adds to the summary."""
    return dict(DEMO)


@pytest.fixture(name="training_steps")
def _training_steps() -> Callable[..., list[dict[str, Any]]]:
    """`training_steps(n)`: n lines of metrics.jsonl."""
    return training_steps


def training_steps(n: int, *, seed: int = 0, speed: float = 1.0) -> list[dict[str, Any]]:
    """n steps that learn: rewards part, the loss falls; z0 is 0 on the steps with raw below 0."""
    rng = np.random.default_rng(seed)
    lines = []
    for step in range(1, n + 1):
        gain = speed * (1 - np.exp(-2 * step / n))
        up, down = 0.8 * gain + 0.05 * rng.normal(), -1.1 * gain + 0.05 * rng.normal()
        raw = -0.4 + 0.9 * step / n + 0.2 * rng.normal()
        lines.append(
            {
                "step": step,
                "epoch": 1,
                "loss": float(0.5 - 0.2 * gain + 0.01 * rng.normal()),
                "z0": float(max(0.0, raw)),
                "z0_raw": float(raw),
                "z0_se": 0.05,
                "clamped_share": float(raw < 0),
                "unmatched": 0,
                "reward_desirable": float(up),
                "reward_undesirable": float(down),
                "margin": float(up - down),
                "accuracy": float(min(1.0, 0.5 + 0.35 * gain + 0.03 * rng.normal())),
                "saturation": 0.0,
                "num_desirable": 19,
                "num_undesirable": 13,
                "learning_rate": 5e-6 * min(step / (0.1 * n), (n + 1 - step) / (0.9 * n)),
                "grad_norm": float(2 + 0.3 * rng.normal()),
                "tokens": 4000,
                "padding": 0.125,
                "seconds": 0.5,
            }
        )
    return lines


@cache
def heldout(strength: float, *, seed: int = 0) -> dict[str, Any]:
    """Held-out numbers of 100 prompts, an answer of each label, `strength` sd apart."""
    rng = np.random.default_rng(seed)
    labels = np.tile([True, False], 100)
    noise = rng.normal(size=200) if strength else np.zeros(200)
    return heldout_metrics(
        5 * (noise + strength * labels),
        labels,
        np.repeat(np.arange(100), 2).tolist(),
        z0=0.0,
        beta=0.1,
        reference_mean_token_logp=rng.normal(size=200),
        completion_tokens=rng.integers(5, 80, size=200) + 12 * labels,
        seed=0,
    ).to_dict()


def finished_summary() -> dict[str, Any]:
    """What a run without a demo writes at its end."""
    return {
        "run": "run",
        "model": "run/model",
        "steps": 60,
        "loss": 0.33,
        "z0": 0.4,
        "heldout": {"before": heldout(0.0), "after": heldout(1.0)},
        "seconds": 192.4,
        "command": "thumbs train feedback.jsonl --model tiny-llama --out run",
        "versions": {"thumbs": "0.1.0", "torch": "2.13.0"},
        "demo": None,
    }
