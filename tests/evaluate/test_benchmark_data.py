"""Documents of the benchmarks from a folder: what is read, what is refused, what a limit keeps."""

import json
from pathlib import Path

import pytest

from thumbs.errors import ConfigError, FeedbackError
from thumbs.evaluate.benchmark_data import Part, _hub_split, benchmark_parts, spread

CSV = "question,choice0,choice1,choice2,choice3,answer\n"
PROMPT = """a canary
-----
Sort it.

Q: b a
A: Let's think step by step.
a comes first.
So the answer is a b.

Q: d c
A: Let's think step by step. c comes first. So the answer is c d.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One question of each benchmark, but two subjects of MMLU."""
    for name in ("gsm8k", "mmlu/test", "bbh", "bbh-cot-prompts", "humaneval"):
        (tmp_path / name).mkdir(parents=True)
    row = {"question": "1 + 1?", "answer": "It is 2.\n#### 2", "more": 1}
    (tmp_path / "gsm8k" / "test.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "mmlu/test/zoology_test.csv").write_text(f'{CSV}"Which, of ""these""?",a,b,c,d,3\n')
    (tmp_path / "mmlu/test/world_law_test.csv").write_text(f"{CSV}Why?,1,2,3,4,0\nWho?,1,2,3,4,1\n")
    examples = [{"input": "f e", "target": "e f"}]
    (tmp_path / "bbh" / "sorting.json").write_text(json.dumps({"examples": examples, "canary": ""}))
    (tmp_path / "bbh-cot-prompts" / "sorting.txt").write_text(PROMPT)
    problem = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
    (tmp_path / "humaneval" / "HumanEval.jsonl").write_text(json.dumps(dict.fromkeys(problem, "x")))
    return tmp_path


def test_documents_carry_the_fields_of_the_task_files(folder: Path) -> None:
    (part,) = benchmark_parts("gsm8k", folder)
    assert part.documents == [{"question": "1 + 1?", "answer": "It is 2.\n#### 2"}]
    law, zoology = benchmark_parts("mmlu", folder)
    assert (law.name, len(law.documents), zoology.name) == ("world_law", 2, "zoology")
    assert zoology.documents == [
        {
            "question": 'Which, of "these"?',
            "subject": "zoology",
            "choices": ["a", "b", "c", "d"],
            "answer": 3,
        }
    ]
    (part,) = benchmark_parts("humaneval", folder)
    assert set(part.documents[0].values()) == {"x"}


def test_worked_examples_come_with_their_description(folder: Path) -> None:
    (part,) = benchmark_parts("bbh", folder)
    assert part.documents == [{"input": "f e", "target": "e f"}]
    assert part.settings == {
        "description": "Sort it.\n\n",
        "samples": [
            {"input": "b a", "target": "a comes first.\nSo the answer is a b."},
            {"input": "d c", "target": "c comes first. So the answer is c d."},
        ],
    }


@pytest.mark.parametrize(
    ("name", "file", "text", "told"),
    [
        ("gsm8k", "gsm8k/test.jsonl", '{"question": "1"}', 'test.jsonl:1: "answer" must be text'),
        ("gsm8k", "gsm8k/test.jsonl", "[", "not JSON"),
        ("mmlu", "mmlu/test/zoology_test.csv", f"{CSV}a,b,c,d,e,4\n", "must be 0, 1, 2 or 3"),
        ("mmlu", "mmlu/test/zoology_test.csv", "question,A\n1,2\n", '"choice0" must be text'),
        ("bbh", "bbh/sorting.json", '{"examples": []}', 'one object with a list "examples"'),
        ("bbh", "bbh/sorting.json", '{"examples": [{"input": 1}]}', 'example 1: "input" must be'),
        ("bbh", "bbh/sorting.json", '{"examples": ["a"]}', "example 1: must be an object"),
        ("bbh", "bbh-cot-prompts/sorting.txt", "Sort it.", "no worked example"),
        ("bbh", "bbh-cot-prompts/sorting.txt", "-----\nSort.\n\nQ: a\nA: b", "no line that begins"),
        ("humaneval", "humaneval/HumanEval.jsonl", "", "is empty"),
    ],
)
def test_what_is_no_such_file_is_refused_where_it_stands(
    folder: Path, name: str, file: str, text: str, told: str
) -> None:
    (folder / file).write_text(text)
    with pytest.raises(FeedbackError) as caught:
        benchmark_parts(name, folder)
    assert told in str(caught.value)
    assert str(folder) in str(caught.value)


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="holds no folder gsm8k"):
        benchmark_parts("gsm8k", folder / "mmlu")
    (folder / "bbh-cot-prompts" / "sorting.txt").unlink()
    with pytest.raises(ConfigError, match=r"sorting.txt: the worked examples cannot be read"):
        benchmark_parts("bbh", folder)
    for path in (folder / "mmlu" / "test").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match=r"holds no \*_test.csv"):
        benchmark_parts("mmlu", folder)


def test_a_limit_is_spread_evenly_over_the_parts() -> None:
    parts = [Part(str(size), [{"i": i} for i in range(size)]) for size in (100, 1, 99)]
    kept = spread(parts, 20)
    # Questions 0, 10, ..., 190 of 200: the lone one is number 100.
    assert [(part.name, len(part.documents)) for part in kept] == [("100", 10), ("1", 1), ("99", 9)]
    assert [doc["i"] for doc in kept[0].documents] == list(range(0, 100, 10))
    assert [part.name for part in spread(parts, 3)] == ["100", "99"]
    for limit in (1, 7, 199):
        assert sum(len(part.documents) for part in spread(parts, limit)) == limit
    assert spread(parts, 200) == spread(parts, 10**9) == parts


def test_documents_of_the_hub_are_those_of_its_test_split(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder in the layout of the hub is read in the same way, by the same function.
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
    assert _hub_split(str(folder / "gsm8k"), None) == [
        {"question": "1 + 1?", "answer": "It is 2.\n#### 2", "more": 1}
    ]
    with pytest.raises(ConfigError, match=r"cannot be loaded from the hub: .* --task-data DIR"):
        _hub_split(str(folder / "gone"), None)


@pytest.mark.shared
def test_the_real_files_hold_every_question(shared: Path) -> None:
    counts = {}
    for name in ("gsm8k", "mmlu", "bbh", "humaneval"):
        parts = benchmark_parts(name, shared / "data")
        counts[name] = (len(parts), sum(len(part.documents) for part in parts))
        if name == "bbh":
            assert {len(part.settings["samples"]) for part in parts} == {3}
    assert counts == {
        "gsm8k": (1, 1319),
        "mmlu": (57, 14042),
        "bbh": (27, 6511),
        "humaneval": (1, 164),
    }
