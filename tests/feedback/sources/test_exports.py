"""Every export of fixtures/ gives its records, loads in `datasets` with one schema, and trains."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from thumbs import pipeline
from thumbs.config import load_config
from thumbs.feedback.clean import CLEAN_DROPS
from thumbs.feedback.file import read_feedback
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import KEYS, Feedback, digest
from thumbs.feedback.tools import SOURCES
from thumbs.models.tiny import save_tiny

FIXTURES = Path(__file__).parents[2] / "fixtures"
OWN = sorted(path.name for path in (FIXTURES / "own").iterdir())
EXPECTED = yaml.safe_load(Path(__file__).with_name("expected.yaml").read_text(encoding="utf-8"))
NEEDED = {  # flags without which they are refused
    "helpsteer": ImportOptions(threshold="mean"),
    "ultrafeedback": ImportOptions(threshold="mean"),
}
TEXTS = ("score", "rater", "model", "comment")


def as_record(one: dict[str, Any]) -> Feedback:
    """A record of the file of expectations, defaults filled in; the id is not told there."""
    [first, *_] = [turn["user"] for turn in one["prompt"] if "user" in turn]
    prompt = [
        {"role": role, "content": text} for turn in one["prompt"] for role, text in turn.items()
    ]
    return Feedback(
        prompt=prompt,
        completion=[{"role": "assistant", "content": one["answer"]}],
        label=one["label"],
        conversation=one.get("conversation", digest(first)),
        source=one["source"],
        time=one.get("time", ""),
        **{key: one.get(key, "") for key in TEXTS},
    )


def told(record: Feedback, time: str) -> tuple[Any, ...]:
    """Everything of a record but its id, its weight, and what comes before the last answer."""
    texts = (getattr(record, key) for key in TEXTS)
    sides = (record.prompt, record.completion[-1], record.label)
    return (*sides, time, record.conversation, record.source, *texts)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_export_gives_the_records_it_holds(name: str, tmp_path: Path) -> None:
    result = import_feedback([FIXTURES / name], tmp_path / "f.jsonl")
    found = [told(record, record.time[:19]) for record in read_feedback(tmp_path / "f.jsonl")]
    records = map(as_record, EXPECTED[name]["records"])
    expected = [told(record, record.time) for record in records]
    assert found == expected
    assert result.dropped == EXPECTED[name].get("dropped", {})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "model", "llama")


@pytest.mark.parametrize("name", OWN)
def test_what_an_export_gives_loads_and_trains(name: str, tmp_path: Path, model: Path) -> None:
    tool = name.partition(".")[0]
    options = NEEDED.get(tool, ImportOptions())
    out = tmp_path / "f.jsonl"
    result = import_feedback([FIXTURES / "own" / name], out, options=options)
    assert result.source == tool
    assert result.desirable > 0 < result.undesirable
    reasons = {*SOURCES[tool].DROPS, *CLEAN_DROPS}
    assert result.dropped.keys() <= reasons, "a reason that the source does not declare"
    rows = datasets.load_dataset(
        "json", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows.num_rows == result.records
    assert rows.column_names == list(KEYS[: len(rows.column_names)])
    kinds = {key: str(rows.features[key].dtype) for key in KEYS[2:12]}
    texts = dict.fromkeys(KEYS[4:12], "string")
    assert kinds == {"label": "bool", "weight": "float64", **texts}
    config = load_config(
        None,
        ["data.heldout_fraction=0", "train.batch_size=4", "loss.z0.estimator=zero"],
        model=str(model),
    )
    told = pipeline.train_model(out, config, tmp_path / "run", page=False)
    assert told["steps"] >= 1


def test_every_tool_has_an_export_of_its_own() -> None:
    assert {name.partition(".")[0] for name in OWN} | WITHOUT == SOURCES.keys() - {"generic"}


# Whose exports in fixtures/ hold both labels or stand in a test of their own.
WITHOUT: set[str] = set()
