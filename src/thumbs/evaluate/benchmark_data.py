"""The documents of the benchmarks: from a folder, or from the hub.

In: a benchmark's name, a folder or None. Out: its parts with their documents, as the task files in
tasks/ name their fields. Knows no model and no prompt; a folder needs no network and no lm-eval.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from thumbs.errors import ConfigError, FeedbackError, shown
from thumbs.feedback.entries import read_entries

Document = dict[str, Any]

BBH_THINKS = "A: Let's think step by step."
CANARY_END = "-----"
NUM_CHOICES = 4


@dataclass(frozen=True)
class Part:
    """A subject of MMLU, a task of BIG-Bench Hard; the only part of the others has no name.

    settings: what the task file leaves open for this part (its description, its worked examples).
    """

    name: str
    documents: list[Document]
    settings: Mapping[str, Any] = field(default_factory=dict)


def benchmark_parts(name: str, folder: Path | None) -> list[Part]:
    """Every part of benchmark `name`, in alphabetical order.

    folder: holds gsm8k/test.jsonl, mmlu/test/SUBJECT_test.csv, bbh/TASK.json with
        bbh-cot-prompts/TASK.txt, and humaneval/HumanEval.jsonl.gz; None: the hub.

    Raises:
        ConfigError: a folder or file is missing, or the hub cannot be reached.
        FeedbackError: a file that is no such thing.
    """
    if folder is None:
        return _FROM_HUB[name]()
    if not (folder / name).is_dir():
        raise ConfigError(
            f"--task-data: {folder} holds no folder {name}. Give the folder that has {name}/ in "
            "it (docs/evaluation.md says with which files), or leave the option out for the hub."
        )
    return _FROM_FOLDER[name](folder)


def spread(parts: Sequence[Part], limit: int) -> list[Part]:
    """At most `limit` documents of all, evenly spaced over all parts one after the other.

    A part keeps its share of the whole, up to one document; parts left without any are gone.
    """
    total = sum(len(part.documents) for part in parts)
    if limit >= total:
        return list(parts)
    wanted = {i * total // limit for i in range(limit)}
    chosen, start = [], 0
    for part in parts:
        kept = [doc for i, doc in enumerate(part.documents, start=start) if i in wanted]
        start += len(part.documents)
        if kept:
            chosen.append(replace(part, documents=kept))
    return chosen


def _gsm8k_folder(folder: Path) -> list[Part]:
    return [Part("", list(_documents(folder / "gsm8k" / "test.jsonl", ("question", "answer"))))]


def _mmlu_folder(folder: Path) -> list[Part]:
    ending = "_test.csv"
    columns = ("question", *(f"choice{i}" for i in range(NUM_CHOICES)), "answer")
    parts = []
    for path in _files(folder / "mmlu" / "test", f"*{ending}"):
        subject = path.name.removesuffix(ending)
        documents = []
        for number, row in enumerate(_documents(path, columns), start=1):
            if row["answer"] not in {str(i) for i in range(NUM_CHOICES)}:
                place = f'{path}: record {number}: "answer"'
                raise FeedbackError(f"{place} must be 0, 1, 2 or 3, but is {shown(row['answer'])}.")
            choices = [row[f"choice{i}"] for i in range(NUM_CHOICES)]
            answer = int(row["answer"])
            question = row["question"]
            documents.append(
                {"question": question, "subject": subject, "choices": choices, "answer": answer}
            )
        parts.append(Part(subject, documents))
    return parts


def _bbh_folder(folder: Path) -> list[Part]:
    parts = []
    for path in _files(folder / "bbh", "*.json"):
        entries = [entry for _, entry in read_entries(path)]
        examples = entries[0].get("examples") if len(entries) == 1 else None
        if not isinstance(examples, list) or not examples:
            raise FeedbackError(f'{path}: must be one object with a list "examples".')
        for number, example in enumerate(examples, start=1):
            _require_text(example, ("input", "target"), f"{path}: example {number}")
        documents = [{key: example[key] for key in ("input", "target")} for example in examples]
        prompt = folder / "bbh-cot-prompts" / f"{path.stem}.txt"
        parts.append(Part(path.stem, documents, _worked_examples(prompt)))
    return parts


def _worked_examples(path: Path) -> dict[str, Any]:
    """The description and the three worked examples of a prompt file of BIG-Bench Hard.

    A canary and a line of dashes, then the description, then the examples, blank lines between.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the worked examples cannot be read: {error}.") from None
    description, *examples = text.partition(f"{CANARY_END}\n")[2].strip().split("\n\nQ: ")
    samples = []
    for example in examples:
        question, found, reasoning = example.partition(f"\n{BBH_THINKS}")
        if not found:
            raise FeedbackError(f"{path}: an example has no line that begins {BBH_THINKS!r}.")
        samples.append({"input": question, "target": reasoning.strip()})
    if not samples:
        raise FeedbackError(f"{path}: holds no worked example after a line of dashes.")
    return _bbh_settings(f"{description}\n\n", samples)


def _bbh_settings(description: str, samples: list[dict[str, str]]) -> dict[str, Any]:
    return {"description": description, "samples": samples}


def _humaneval_folder(folder: Path) -> list[Part]:
    keys = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
    (path, *_) = _files(folder / "humaneval", "HumanEval.jsonl*")
    return [Part("", list(_documents(path, keys)))]


def _documents(path: Path, keys: Sequence[str]) -> Iterator[Document]:
    for place, entry in read_entries(path):
        yield _require_text(entry, keys, place)


def _require_text(entry: Any, keys: Sequence[str], place: str) -> Document:
    if not isinstance(entry, dict):
        raise FeedbackError(f"{place}: must be an object, but is {shown(entry)}.")
    for key in keys:
        if not isinstance(entry.get(key), str):
            raise FeedbackError(f'{place}: "{key}" must be text, but is {shown(entry.get(key))}.')
    return {key: entry[key] for key in keys}


def _files(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise ConfigError(f"--task-data: {folder} holds no {pattern}. Copy the benchmark's files.")
    return found


def _gsm8k_hub() -> list[Part]:
    return [Part("", _hub_split("openai/gsm8k", "main"))]


def _mmlu_hub() -> list[Part]:
    by_subject: dict[str, list[Document]] = {}
    for document in _hub_split("cais/mmlu", "all"):
        by_subject.setdefault(document["subject"], []).append(document)
    return [Part(subject, by_subject[subject]) for subject in sorted(by_subject)]


def _bbh_hub() -> list[Part]:
    return [
        Part(name, _hub_split("SaylorTwift/bbh", name), settings)
        for name, settings in harness_examples().items()
    ]


def harness_examples() -> dict[str, dict[str, Any]]:
    """What the hub lacks: description and worked examples of each task of BIG-Bench Hard, from the
    task files that lm-evaluation-harness brings along."""
    import lm_eval  # takes a second

    folder = Path(lm_eval.__file__).parent / "tasks" / "bbh" / "cot_fewshot"
    tasks = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(folder.glob("[a-z]*.yaml"))]
    return {
        task["dataset_name"]: _bbh_settings(task["description"], task["fewshot_config"]["samples"])
        for task in tasks
    }


def _humaneval_hub() -> list[Part]:
    return [Part("", _hub_split("openai/openai_humaneval", None))]


def _hub_split(path: str, name: str | None) -> list[Document]:
    """The test split of a data set, from the hub or from where `datasets` has kept it."""
    from datasets import load_dataset  # comes with lm-eval, and takes a second to import

    try:
        found = load_dataset(path, name, split="test")
    except Exception as error:  # noqa: BLE001, whatever the network and the hub say
        what = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{path}: cannot be loaded from the hub: {what}. Try again, or give the files with "
            "--task-data DIR (docs/evaluation.md)."
        ) from None
    return [dict(document) for document in found]


_FROM_FOLDER: dict[str, Callable[[Path], list[Part]]] = {
    "gsm8k": _gsm8k_folder,
    "mmlu": _mmlu_folder,
    "bbh": _bbh_folder,
    "humaneval": _humaneval_folder,
}
_FROM_HUB: dict[str, Callable[[], list[Part]]] = {
    "gsm8k": _gsm8k_hub,
    "mmlu": _mmlu_hub,
    "bbh": _bbh_hub,
    "humaneval": _humaneval_hub,
}
