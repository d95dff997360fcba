"""The benchmarks of `thumbs eval --tasks`: GSM8K, MMLU, BIG-Bench Hard and HumanEval.

In: names of benchmarks, a policy to load, where the documents come from. Out: for each the share of
right answers with its standard error and interval. Prompts, filters and metrics are those of
lm-evaluation-harness (harness.py, loaded only where it is needed).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thumbs.config import ModelConfig
from thumbs.errors import ConfigError
from thumbs.evaluate.benchmark_data import Part, benchmark_parts, spread
from thumbs.evaluate.sandbox import containment
from thumbs.evaluate.stratified import stratified_error, stratified_wilson
from thumbs.models.load import load_reference, load_tokenizer, pick_device
from thumbs.progress import console

if TYPE_CHECKING:
    from thumbs.evaluate.harness import Outcome


@dataclass(frozen=True)
class Benchmark:
    """metric: the harness's name of the score. filter: how the answer that counts is read.

    num_fewshot: worked examples in the prompt, as in arXiv 2402.01306v4.
    """

    metric: str
    filter: str
    num_fewshot: int


BENCHMARKS = {
    "gsm8k": Benchmark("exact_match", "strict-match", 8),
    "mmlu": Benchmark("acc", "none", 0),
    "bbh": Benchmark("exact_match", "get-answer", 3),
    "humaneval": Benchmark("pass@1", "run", 0),
}


@dataclass(frozen=True)
class BenchmarkSettings:
    """task_data: a folder with the documents; None: the hub. limit: documents of each benchmark.

    chat: through the model's chat template. temperature: of generated answers, 0 for the likeliest.
    """

    task_data: Path | None = None
    limit: int | None = None
    chat: bool = False
    temperature: float = 0.0


def chosen_parts(
    names: Sequence[str], policy: ModelConfig, settings: BenchmarkSettings
) -> dict[str, list[Part]]:
    """The documents to ask of every benchmark; whatever is wrong shows here, before any work.

    Raises:
        ConfigError: lm-eval is not installed, documents are missing, there is no chat template, or
            the temperature is no number.
        FeedbackError: documents that cannot be read.
        ModelError: no tokenizer.
    """
    _require_harness(names)
    if not math.isfinite(settings.temperature):
        raise ConfigError(f"--temperature: must be a number, but is {settings.temperature}")
    if settings.chat and not load_tokenizer(policy).chat_template:
        raise ConfigError(
            f"--chat: {policy.name_or_path} has no chat template. Leave the option out: prompts "
            "then go to the model as they are."
        )
    parts = {name: benchmark_parts(name, settings.task_data) for name in names}
    if settings.limit is not None:
        parts = {name: spread(found, settings.limit) for name, found in parts.items()}
    if "humaneval" in parts:
        console.print(
            "humaneval: runs the programs that the model writes, each shut in by "
            f"{', '.join(containment())}",
            soft_wrap=True,
        )
    return parts


def evaluate_benchmarks(
    parts: Mapping[str, Sequence[Part]], policy: ModelConfig, settings: BenchmarkSettings
) -> dict[str, dict[str, Any]]:
    """Benchmark by benchmark, the numbers of `policy` on the documents of `parts`.

    Raises:
        ModelError: a model that cannot be loaded, or whose context holds no answer.
    """
    if not parts:
        return {}
    from thumbs.evaluate.harness import VERSION, HarnessModel, harness_tasks, run_tasks

    # Frozen: on a GPU weights stay as they are stored.
    frozen = policy.model_copy(update={"reference": policy.name_or_path})
    loaded = load_reference(frozen, load_tokenizer(policy), device=pick_device())
    model = HarnessModel(loaded, dtype=policy.dtype)
    tasks = {
        name: harness_tasks(name, some, temperature=settings.temperature)
        for name, some in parts.items()
    }
    for name, some in tasks.items():
        model.require_room(name, some)
    results = {}
    for name, some in tasks.items():
        model.title, before = name, model.cut
        outcomes = run_tasks(some, model, chat=settings.chat)
        numbers = benchmark_numbers(name, outcomes)
        told = f"{name}: {numbers['value']:.1%} of {numbers['n']:,} right"
        console.print(told, soft_wrap=True)  # stays in sight, should a later benchmark fail
        cut = model.cut - before
        if cut:
            console.print(
                f"{name}: {cut:,} of {numbers['n']:,} prompts do not fit the model's context of "
                f"{model.max_length:,} tokens; their beginnings were cut",
                soft_wrap=True,
            )
        results[name] = numbers | {
            "cut_prompts": cut,
            "chat": settings.chat,
            "temperature": settings.temperature,
            "data": str(settings.task_data or "hub"),
            "harness": VERSION,
        }
    return results


def benchmark_numbers(name: str, outcomes: Sequence["Outcome"]) -> dict[str, Any]:
    """A benchmark as `thumbs eval --json` prints it.

    value: the share of right answers over all questions, whatever part they are of (as the
    harness weighs its groups: by size).
    """
    kind = BENCHMARKS[name]
    counted = [outcome for outcome in outcomes if outcome.filter == kind.filter]
    parts = sorted({outcome.part for outcome in counted})
    scores = {part: [o.score for o in counted if o.part == part] for part in parts}
    right = [int(sum(scores[part])) for part in parts]
    sizes = [len(scores[part]) for part in parts]
    low, high = stratified_wilson(right, sizes)
    numbers: dict[str, Any] = {
        "metric": kind.metric,
        "value": sum(right) / sum(sizes),
        "stderr": stratified_error(right, sizes),
        "ci_low": low,
        "ci_high": high,
        "n": sum(sizes),
        "num_fewshot": kind.num_fewshot,
    }
    if len(parts) > 1:
        found = zip(parts, right, sizes, strict=True)
        numbers["parts"] = {part: {"value": k / n, "n": n} for part, k, n in found}
    others = {outcome.filter for outcome in outcomes} - {kind.filter}
    for other in sorted(others):  # the last number of the answer, whatever stands before it
        some = [outcome.score for outcome in outcomes if outcome.filter == other]
        numbers[other.replace("-", "_")] = sum(some) / len(some)
    if name == "humaneval":
        failed = Counter(outcome.answers[0] for outcome in counted if not outcome.score)
        numbers["failures"] = dict(failed.most_common())
    return numbers


def _require_harness(names: Sequence[str]) -> None:
    if find_spec("lm_eval") is None:
        raise ConfigError(
            f"--tasks {','.join(names)}: needs lm-evaluation-harness, which is not installed. "
            "Install it with: pip install 'lm-eval>=0.4.13,<0.5'"
        )
