"""Our tasks against the harness's own, a scripted model that gets k right, log-probs by hand."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import pytest
import torch
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from thumbs.config import load_config
from thumbs.errors import ModelError, OutOfMemory
from thumbs.evaluate.benchmark_data import Part, benchmark_parts, harness_examples, spread
from thumbs.evaluate.benchmarks import (
    BENCHMARKS,
    BenchmarkSettings,
    benchmark_numbers,
    chosen_parts,
    evaluate_benchmarks,
)
from thumbs.evaluate.harness import (
    HarnessModel,
    Outcome,
    harness_tasks,
    run_tasks,
    tuned_harness,
)
from thumbs.models.load import load_model
from thumbs.models.tiny import save_tiny
from thumbs.progress import console

HARNESS_FILES = Path(lm_eval.__file__).parent / "tasks"
OWN_FILES = {
    "gsm8k": "gsm8k/gsm8k-cot.yaml",
    "mmlu": "mmlu/default/mmlu_{part}.yaml",
    "bbh": "bbh/cot_fewshot/{part}.yaml",
    "humaneval": "humaneval/humaneval.yaml",
}
# Documents: all of GSM8K and HumanEval, ten of each subject, twenty of each task. All 14,042 and
# 6,511 take a minute, and were equal with lm-eval 0.4.13.
NUM_COMPARED = {"gsm8k": 1319, "mmlu": 570, "bbh": 540, "humaneval": 164}

pytestmark = pytest.mark.shared


class Scripted(LM):  # type: ignore[misc]  # lm_eval has no types
    """Answers as it is told, from the document itself."""

    def __init__(self, answer: Callable[[Any], str]) -> None:
        super().__init__()
        self.answer = answer

    def generate_until(self, requests: list[Any], **_: Any) -> list[str]:
        return [self.answer(request.doc) for request in requests]

    def loglikelihood(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        return [(float(self.answer(r.doc) == r.args[1].strip()), False) for r in requests]

    def loglikelihood_rolling(self, *_: Any, **__: Any) -> list[float]:
        raise AssertionError("no benchmark asks for it")


@cache
def all_parts(name: str, shared: Path) -> list[Part]:
    return benchmark_parts(name, shared / "data")


def parts_of(name: str, shared: Path, limit: int) -> list[Part]:
    return spread(all_parts(name, shared), limit)


def harness_own(name: str, part: Part) -> ConfigurableTask:
    """The harness's own task, as its file says, over our documents."""
    path = HARNESS_FILES / OWN_FILES[name].format(part=part.name)
    config = load_yaml(path, resolve_func=name != "humaneval")
    documents = datasets.Dataset.from_list(part.documents)
    splits = {"test": documents, "dev": documents}  # MMLU's examples, of which none is shown
    config["custom_dataset"] = lambda **_: splits
    for key in ("tag", "group"):
        config.pop(key, None)
    if name == "humaneval":  # its metric asks the hub for code as soon as it is imported
        del config["metric_list"], config["filter_list"]
    with tuned_harness():
        return ConfigurableTask(config=config)


def requests_of(task: ConfigurableTask) -> Iterator[tuple[Any, ...]]:
    with tuned_harness():
        task.build_all_requests()
        for instance in task.instances:
            prompt, more = instance.args
            until = (more["until"], more["do_sample"]) if isinstance(more, dict) else more
            yield instance.request_type, prompt, until, task.doc_to_target(instance.doc)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_prompts_are_those_of_the_harnesss_own_tasks(name: str, shared: Path) -> None:
    parts = parts_of(name, shared, NUM_COMPARED[name])
    assert len(parts) == {"gsm8k": 1, "mmlu": 57, "bbh": 27, "humaneval": 1}[name]
    ours = harness_tasks(name, parts)
    compared = 0
    for part in parts:
        own = harness_own(name, part)
        expected = list(requests_of(own))
        assert list(requests_of(ours[part.name])) == expected
        assert (own.config.num_fewshot or 0) == BENCHMARKS[name].num_fewshot
        compared += len(expected)
    choices = 4 if name == "mmlu" else 1
    assert compared == choices * sum(len(part.documents) for part in parts)


def test_worked_examples_of_the_hub_are_those_of_the_folder(shared: Path) -> None:
    parts = all_parts("bbh", shared)
    assert harness_examples() == {part.name: part.settings for part in parts}


RESPONSES = {
    "gsm8k": (
        " She has 3 + 4 = 7. The answer is {}.",
        " The answer is ${}.00. Or 12.",
        " The answer is {}",
        " so {} it is.",
        " #### {}",
    ),
    "bbh": ("Thus. So the answer is {}.", "the answer is {}\n", "The answer is {}.", "{}", ""),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_answers_are_read_out_as_the_harnesss_own_tasks_do(name: str, shared: Path) -> None:
    parts = parts_of(name, shared, 27)
    ours = harness_tasks(name, parts)
    theirs = {part.name: harness_own(name, part) for part in parts}
    scores = []
    for response in RESPONSES[name]:

        def answer(document: dict[str, Any], text: str = response) -> str:
            return text.format(right_answer(name, document))

        model = Scripted(answer)
        own = run_tasks(theirs, model)
        found = run_tasks(ours, model)
        assert [(o.part, o.filter, o.answers, o.score) for o in found] == [
            (o.part, o.filter, o.answers, o.score) for o in own
        ]
        assert {o.filter for o in found} >= {BENCHMARKS[name].filter}
        scores += [o.score for o in found]
    assert {0.0, 1.0} == set(scores)


def right_answer(name: str, document: dict[str, Any]) -> str:
    if name == "gsm8k":
        return str(document["answer"].rpartition("#### ")[2])
    if name == "mmlu":
        return "ABCD"[document["answer"]]
    return str(document["target"] if name == "bbh" else document["canonical_solution"])


def script(name: str, documents: list[dict[str, Any]]) -> Callable[[dict[str, Any]], str]:
    """Right on the given documents, wrong on all others."""

    def answer(document: dict[str, Any]) -> str:
        right = right_answer(name, document)
        knows = document in documents
        if name == "gsm8k":
            return f" Hence. The answer is {right if knows else '-7,654,321'}."
        if name == "bbh":
            return f"Hence the answer is {right if knows else 'unknown'}."
        if name == "mmlu":
            return right if knows else "ABCD"[document["answer"] - 1]
        return right if knows else "    return NotImplemented\n"

    return answer


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_model_that_knows_k_answers_scores_k_of_n(name: str, shared: Path) -> None:
    parts = parts_of(name, shared, 20)
    documents = [document for part in parts for document in part.documents]
    known = documents[3:16]
    outcomes = run_tasks(harness_tasks(name, parts), Scripted(script(name, known)))
    numbers = benchmark_numbers(name, outcomes)
    assert (numbers["value"], numbers["n"]) == (13 / 20, 20)
    counted = [outcome for outcome in outcomes if outcome.filter == BENCHMARKS[name].filter]
    assert [outcome.document in known for outcome in counted] == [o.score == 1 for o in counted]
    assert 0.43 < numbers["ci_low"] < 0.65 < numbers["ci_high"] < 0.83
    assert numbers["num_fewshot"] == BENCHMARKS[name].num_fewshot
    if name in ("mmlu", "bbh"):
        assert sum(p["n"] * p["value"] for p in numbers["parts"].values()) == pytest.approx(13)
    if name == "gsm8k":
        assert numbers["flexible_extract"] == 13 / 20
    if name == "humaneval":
        assert sum(numbers["failures"].values()) == 7


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HarnessModel:
    folder = save_tiny(tmp_path_factory.mktemp("harness") / "model", "llama")
    config = load_config(None, model=str(folder))
    return HarnessModel(load_model(config.model, device=torch.device("cpu")))


def test_log_probs_of_mmlu_are_those_of_the_models_own_forward(
    model: HarnessModel, shared: Path
) -> None:
    outcomes = run_tasks(harness_tasks("mmlu", parts_of("mmlu", shared, 12)), model)
    assert len(outcomes) == 12
    for outcome in outcomes:
        expected = []
        for letter in "ABCD":
            prompt = model.tokenizer(outcome.prompts[0])["input_ids"]
            whole = model.tokenizer(f"{outcome.prompts[0]} {letter}")["input_ids"]
            assert whole[: len(prompt)] == prompt
            with torch.no_grad():
                logits = model.model(torch.tensor([whole])).logits[0].double()  # (T, V)
            logps = logits.log_softmax(-1)[:-1].gather(-1, torch.tensor(whole[1:])[:, None])
            expected.append(logps[len(prompt) - 1 :].sum().item())
        assert [logp for logp, _ in outcome.responses] == pytest.approx(expected, abs=1e-5)
        best = max(range(4), key=expected.__getitem__)
        assert outcome.score == (best == outcome.document["answer"])
    assert model.cut == 0


def test_prompts_longer_than_the_context_are_cut_and_counted(tmp_path: Path, shared: Path) -> None:
    save_tiny(tmp_path / "narrow", "llama", max_position_embeddings=400)
    config = load_config(None, model=str(tmp_path / "narrow"))
    model = HarnessModel(load_model(config.model, device=torch.device("cpu")))
    outcomes = run_tasks(harness_tasks("mmlu", parts_of("mmlu", shared, 20)), model)
    lengths = [len(model.tokenizer(o.prompts[0])["input_ids"]) for o in outcomes]
    assert model.cut == sum(length > 400 for length in lengths)
    assert 0 < model.cut < 20


def test_a_context_that_holds_no_answer_is_refused(tmp_path: Path, shared: Path) -> None:
    save_tiny(tmp_path / "short", "llama", max_position_embeddings=256)
    config = load_config(None, model=str(tmp_path / "short"))
    model = HarnessModel(load_model(config.model, device=torch.device("cpu")))
    tasks = {name: harness_tasks(name, parts_of(name, shared, 2)) for name in ("mmlu", "gsm8k")}
    model.require_room("mmlu", tasks["mmlu"])  # a letter needs no room
    with pytest.raises(ModelError, match="takes 256 tokens, but an answer of gsm8k may have 256"):
        model.require_room("gsm8k", tasks["gsm8k"])


def test_no_benchmark_is_asked_before_all_of_them_fit(tmp_path: Path, shared: Path) -> None:
    save_tiny(tmp_path / "short", "llama", max_position_embeddings=512)
    policy = load_config(None, model=str(tmp_path / "short")).model
    settings = BenchmarkSettings(task_data=shared / "data", limit=27)
    parts = chosen_parts(["mmlu", "bbh"], policy, settings)
    with (
        console.capture() as told,
        pytest.raises(ModelError, match="an answer of bbh may have 1,024 beside its prompt"),
    ):
        evaluate_benchmarks(parts, policy, settings)
    assert "right" not in told.get()


def test_fewer_prompts_go_at_once_where_memory_runs_out(model: HarnessModel) -> None:
    asked: list[int] = []

    def ask(requests: list[Any], **_: Any) -> list[Any]:
        asked.append(model.batch_size)
        if model.batch_size > 2:
            raise MemoryError
        return requests

    assert model._ask(ask, [1, 2, 3], "answers") == [1, 2, 3]
    assert asked == [8, 4, 2]

    def refuse(_: list[Any], **__: Any) -> list[Any]:
        raise torch.OutOfMemoryError

    with pytest.raises(OutOfMemory, match="one prompt alone does not fit into memory"):
        model._ask(refuse, [1], "answers")


def test_chat_puts_every_prompt_through_the_template(model: HarnessModel, shared: Path) -> None:
    (part,) = parts_of("mmlu", shared, 1)
    plain: list[Outcome] = run_tasks(harness_tasks("mmlu", [part]), model)
    (chat,) = run_tasks(harness_tasks("mmlu", [part]), model, chat=True)
    description, _, question = plain[0].prompts[0].partition("\n\n")
    turns = [{"role": "system", "content": f"{description}\n\n"}]
    turns += [{"role": "user", "content": question}]
    expected = model.tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    assert chat.prompts == [expected] * 4


def test_sampled_answers_come_again_and_differ_from_the_likeliest(
    model: HarnessModel, shared: Path
) -> None:
    parts = parts_of("gsm8k", shared, 2)

    def answers(temperature: float) -> list[Any]:
        tasks = harness_tasks("gsm8k", parts, temperature=temperature)
        for task in tasks.values():
            task.config.generation_kwargs["max_gen_toks"] = 6
        return [outcome.responses for outcome in run_tasks(tasks, model)]

    assert answers(5.0) == answers(5.0)
    assert answers(5.0) != answers(0.0)
