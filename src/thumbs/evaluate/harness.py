"""lm-evaluation-harness at work: its tasks from our task files, its model class around a policy.

In: the parts of a benchmark, a model. Out: an outcome per document and filter. The only module that
imports lm_eval, which takes seconds; the harness renders the prompts, asks, filters and scores.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import datasets
import lm_eval.api.model
import lm_eval.api.task
import lm_eval.utils
import torch
import yaml
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from thumbs.errors import ModelError, OutOfMemory
from thumbs.evaluate.benchmark_data import Part
from thumbs.evaluate.humaneval import pass_at_1, run_completions
from thumbs.models.load import LoadedModel, multiplies_bfloat16
from thumbs.progress import Bar, progress_bar
from thumbs.scoring.backoff import Budget, is_out_of_memory

TASK_FILES = Path(__file__).parent / "tasks"
VERSION: str = lm_eval.__version__
SEED = 0  # of sampled answers
NUM_AT_ONCE = {"cpu": 8, "cuda": 32}  # prompts of a forward; halved where they do not fit


@dataclass(frozen=True)
class Outcome:
    """What came of a document. filter: how the answer was read out of the response.

    prompts: as the model saw them, one per request. responses: text, or (log-prob in nats, whether
    greedy) of each choice. answers: the responses as filtered. score: 0 or 1.
    """

    part: str
    document: dict[str, Any]
    filter: str
    prompts: list[str]
    responses: list[Any]
    answers: list[Any]
    score: float


class HarnessModel(HFLM):  # type: ignore[misc]  # lm_eval has no types
    """The harness's transformers model around a policy that is loaded already.

    title: of the bar. cut: prompts whose beginning was cut because they do not fit the context.
    """

    def __init__(self, loaded: LoadedModel, *, dtype: str = "auto") -> None:
        """dtype: model.dtype of the configuration; mixed_bfloat16 computes in bfloat16, and so
        does auto on a GPU that is good at it. Log-probs are float32 in any case."""
        device = loaded.model.device
        wide = loaded.model.dtype == torch.float32
        on_gpu = device.type == "cuda" and multiplies_bfloat16(device)
        mixed = dtype == "mixed_bfloat16" or (dtype == "auto" and wide and on_gpu)
        with tuned_harness():
            super().__init__(
                pretrained=loaded.model,
                tokenizer=loaded.tokenizer,
                softmax_dtype="float32",
                mixed_precision_dtype="bfloat16" if mixed else None,
                batch_size=NUM_AT_ONCE.get(device.type, 8),
            )
        self.name = loaded.identity.name_or_path
        self.title = "benchmark"
        self.cut = 0

    def loglikelihood(
        self,
        requests: list[Any],
        disable_tqdm: bool = True,  # noqa: ARG002, the bar is ours
    ) -> list[tuple[float, bool]]:
        self.cut += self._num_cut({request.args[0] for request in requests}, self.max_length)
        found: list[tuple[float, bool]] = self._ask(super().loglikelihood, requests, "choices")
        return found

    def generate_until(
        self,
        requests: list[Any],
        disable_tqdm: bool = True,  # noqa: ARG002, the bar is ours
    ) -> list[str]:
        most = max(request.args[1].get("max_gen_toks", self.max_gen_toks) for request in requests)
        room = self.max_length - most
        self.cut += self._num_cut({request.args[0] for request in requests}, room)
        found: list[str] = self._ask(super().generate_until, requests, "answers")
        return found

    def require_room(self, benchmark: str, tasks: dict[str, lm_eval.api.task.Task]) -> None:
        """Refuse a benchmark whose answers may fill the whole context, before it is asked."""
        written = [task.config.generation_kwargs for task in tasks.values()]
        lengths = [found.get("max_gen_toks", self.max_gen_toks) for found in written if found]
        most = max(lengths, default=0)
        if most >= self.max_length:
            raise ModelError(
                f"{self.name}: takes {self.max_length:,} tokens, but an answer of {benchmark} may "
                f"have {most:,} beside its prompt. Leave {benchmark} out of --tasks, or evaluate a "
                "model with a longer context."
            )

    def _ask(self, ask: Callable[..., list[Any]], requests: list[Any], unit: str) -> list[Any]:
        """`ask`, with our bar, and with fewer prompts at once where memory runs out."""

        def work(num_at_once: int) -> list[Any]:
            self.batch_size_per_gpu = num_at_once
            with progress_bar(self.title, len(requests), unit) as bar:
                self.cache_hook = _Advance(bar)
                return ask(requests, disable_tqdm=True)

        budget = Budget(self.batch_size_per_gpu, "prompts at once")
        try:
            return budget.spend(work, what="the benchmark", longest=2)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"{self.name}: one prompt alone does not fit into memory. Free some, or evaluate "
                "on another device."
            ) from None

    def _num_cut(self, prompts: set[str], room: int) -> int:
        return sum(len(self.tok_encode(prompt)) > room for prompt in prompts)


@dataclass
class _Advance:
    """Stands where the harness would keep answers: it is told of every one."""

    bar: Bar

    def add_partial(self, _kind: str, _request: object, _answer: object) -> None:
        self.bar.advance()


def harness_tasks(
    name: str, parts: Sequence[Part], *, temperature: float = 0.0
) -> dict[str, lm_eval.api.task.Task]:
    """A task of the harness for every part, by the part's name.

    temperature: of generated answers; 0 takes the likeliest token.
    """
    text = (TASK_FILES / f"{name}.yaml").read_text(encoding="utf-8")
    with tuned_harness():
        return {part.name: _task(yaml.safe_load(text), part, temperature) for part in parts}


def _task(config: dict[str, Any], part: Part, temperature: float) -> lm_eval.api.task.Task:
    documents = datasets.Dataset.from_list(part.documents)
    if part.name:
        config["task"] += f"_{part.name}"
    config["custom_dataset"] = lambda **_: {"test": documents}
    if "description" in part.settings:
        config["description"] = part.settings["description"]
    if "samples" in part.settings:
        config["fewshot_config"]["samples"] = part.settings["samples"]
    if config.get("unsafe_code"):
        run = {"function": "custom", "filter_fn": run_completions}
        config["filter_list"] = [{"name": "run", "filter": [run, {"function": "take_first"}]}]
        config["process_results"] = pass_at_1
    if temperature > 0 and "generation_kwargs" in config:
        sampled = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        config["generation_kwargs"] |= sampled
    return lm_eval.api.task.ConfigurableTask(config=config)


def run_tasks(
    tasks: dict[str, lm_eval.api.task.Task], model: lm_eval.api.model.LM, *, chat: bool = False
) -> list[Outcome]:
    """Every document of every task through `model`, an outcome per filter.

    chat: prompts go through the model's chat template, worked examples as turns.
    """
    named = {task.task_name: part for part, task in tasks.items()}
    with tuned_harness(), torch.random.fork_rng():
        torch.manual_seed(SEED)
        found = evaluate(
            model,
            {"tasks": {task.task_name: task for task in tasks.values()}, "groups": {}},
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            confirm_run_unsafe_code=True,
        )
    return [
        Outcome(
            part=named[name],
            document=sample["doc"],
            filter=sample["filter"],
            prompts=[arguments[0] for arguments in sample["arguments"]],
            responses=[response[0] for response in sample["resps"]],
            answers=sample["filtered_resps"],
            score=float(sample[sample["metrics"][0]]),
        )
        for name, samples in found["samples"].items()
        for sample in samples
    ]


@contextmanager
def tuned_harness() -> Iterator[None]:
    """The harness without its bars (one per part) and remarks on its own settings, and with
    templates compiled once instead of for every text: the prompts of GSM8K in a twentieth."""
    logger, templates = logging.getLogger("lm_eval"), lm_eval.utils.env
    level, bar, compile_template = logger.level, lm_eval.api.task.tqdm, templates.from_string
    logger.setLevel(logging.ERROR)
    lm_eval.api.task.tqdm = partial(bar, disable=True)
    templates.from_string = cache(compile_template)
    try:
        yield
    finally:
        logger.setLevel(level)
        lm_eval.api.task.tqdm = bar
        templates.from_string = compile_template
