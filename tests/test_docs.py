"""The pages under docs/ say what the code does today."""

import dataclasses
import json
import re
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

from thumbs.cli import app
from thumbs.config import load_config
from thumbs.core.metrics import SATURATED_BELOW
from thumbs.feedback.balance import auto_weights
from thumbs.feedback.clean import RULES
from thumbs.feedback.record import Feedback
from thumbs.models.tiny import save_tiny
from thumbs.runs.rundir import read_json, read_metrics

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TRAINING = (DOCS / "training.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


def test_configuration_page_is_the_one_the_models_give() -> None:
    page = runpy.run_path(str(DOCS / "write_configuration.py"))["configuration_page"]()
    # Otherwise: make docs
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == page


def test_every_key_of_a_record_is_described_in_its_order() -> None:
    text = (DOCS / "feedback-format.md").read_text(encoding="utf-8")
    keys = [field.name for field in dataclasses.fields(Feedback)]
    assert re.findall(r"^\| `(\w+)` \|", text.partition("## Templates")[0], re.MULTILINE) == keys


def anchors(page: Path) -> set[str]:
    """The names by which other pages link to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {name.replace(" ", "-") for name in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_and_headings_that_exist(page: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text(encoding="utf-8")):
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_named_in_the_pages_exist(page: Path) -> None:
    text = re.sub(r"```python.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    known = set(_keys(load_config(None, ["model.lora.r=16"]).model_dump()))
    groups = "model|data|loss|train"
    for key in re.findall(rf"(?<![\w/.])((?:{groups})\.(?!json)[a-z][a-z0-9_.]*[a-z0-9_])", text):
        assert key in known, key
    for override in re.findall(rf"(?<![\w/.])((?:{groups})\.[a-z0-9_.]+=[^\s`,;)]+)", text):
        key, _, value = override.partition("=")
        if value.strip(".") and "..." not in value and ":" not in value:
            assert key in known
            load_config(None, [override, *NEEDED_BESIDE.get(override, [])])


NEEDED_BESIDE = {
    "model.quantization=nf4": ["model.lora={}"],
    "model.dtype=bfloat16": ["train.optimizer=adamw_kahan"],
    "loss.margin=2": ["loss.name=simpo"],
    "data.pairs=one": ["loss.name=dpo"],
    "train.early_stopping=3": ["train.eval_every=50"],
    "train.keep_best=true": ["train.eval_every=50"],
}


def _keys(tree: dict[str, Any], prefix: str = "") -> list[str]:
    inner = [k for n, v in tree.items() if isinstance(v, dict) for k in _keys(v, f"{prefix}{n}.")]
    return [*(prefix + name for name in tree), *inner]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """feedback.jsonl, sixty votes of which those on yes are up, and my-model, a tiny one."""
    lines = [
        {
            "prompt": [{"role": "user", "content": f"Is {i // 2} a number?"}],
            "completion": [{"role": "assistant", "content": "yes it is" if i % 2 else "no way"}],
            "label": bool(i % 2),
        }
        for i in range(60)
    ]
    (tmp_path / "feedback.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in lines))
    save_tiny(tmp_path / "my-model", "llama")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def thumbs(*arguments: str) -> str:
    """What a command prints on stdout."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, (arguments, done.exception, done.stderr)
    return done.stdout


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")  # peft asks for it
def test_every_block_of_the_training_page_runs_in_its_order(workplace: Path) -> None:
    ran = Counter[str]()
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", TRAINING, re.DOTALL | re.MULTILINE):
        ran[language] += 1
        if language == "console":
            command, _, shown = block.removeprefix("$ thumbs ").partition("\n")
            printed = thumbs(*command.split())
            pattern = re.escape(shown.strip()).replace(re.escape("..."), ".*")
            assert re.fullmatch(pattern, printed.strip(), re.DOTALL), printed
        elif block.startswith("# my_losses.py\n"):
            (workplace / "my_losses.py").write_text(block)
        else:
            exec(compile(block, "docs/training.md", "exec"), {})
    assert ran == {"console": 6, "python": 3}
    merged = load_file(workplace / "merged" / "model.safetensors")
    base = load_file(workplace / "my-model" / "model.safetensors")
    assert merged.keys() == base.keys()
    assert any((merged[name] != base[name]).any() for name in base)
    # r (a + b) weights for every linear layer but the head; r is 8.
    linear = [t for n, t in base.items() if t.ndim == 2 and "embed" not in n and "lm_head" not in n]
    adapter = load_file(workplace / "runs/lora/model/adapter_model.safetensors")
    assert sum(t.numel() for t in adapter.values()) == 8 * sum(sum(t.shape) for t in linear)
    hinge = read_metrics(workplace / "runs/hinge/metrics.jsonl")
    assert hinge[0]["loss"] == pytest.approx(1.0, abs=1e-4)  # max(0, 1 - 0) at step 1


def test_the_numbers_of_a_step_are_as_the_training_page_says(workplace: Path) -> None:
    sets = (
        "train.batch_size=8",
        "train.learning_rate=3e-3",
        "train.epochs=2",
        "train.save_every=1",
    )
    told = thumbs(
        *("train", "feedback.jsonl", "--model", "my-model", "--out", "run", "--json"),
        *(part for change in sets for part in ("--set", change)),
    )
    lines = read_metrics(workplace / "run" / "metrics.jsonl")
    section = TRAINING.partition("## What metrics.jsonl says")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == lines[0].keys()
    first, last = lines[0], lines[-1]
    assert first["loss"] == pytest.approx(0.5, abs=1e-4)
    for key in ("reward_desirable", "reward_undesirable", "margin", "z0_raw", "z0"):
        assert first[key] == pytest.approx(0, abs=1e-4)
    assert last["loss"] < 0.49
    assert last["margin"] > 1
    assert last["reward_desirable"] > last["reward_undesirable"]
    sizes = [line["num_desirable"] + line["num_undesirable"] for line in lines]
    assert max(sizes) - min(sizes) <= 1, "batches differ by one row at most"
    heldout = read_json(workplace / "run" / "summary.json")["heldout"]
    assert heldout["before"]["auc"] == 0.5
    assert heldout["after"]["auc"] == json.loads(told)["heldout"]["auc"]
    assert {"auc", "auc_within_prompt", "accuracy", "margin", "baselines"} <= heldout[
        "after"
    ].keys()
    kept = sorted((workplace / "run" / "checkpoints").iterdir())
    assert [path.name for path in kept] == [f"step-{n:06d}" for n in (len(lines) - 1, len(lines))]
    weights = load_file(workplace / "run" / "model" / "model.safetensors")
    parameters = sum(tensor.numel() for tensor in weights.values())
    stored = sum(_num_bytes(kept[-1] / f"{name}.safetensors") for name in ("policy", "optimizer"))
    assert stored / parameters == pytest.approx(12, rel=0.1)  # and the random state


def _num_bytes(file: Path) -> int:
    with safe_open(file, framework="pt") as tensors:
        held = [tensors.get_tensor(name) for name in tensors.keys()]  # noqa: SIM118
    return sum(tensor.numel() * tensor.element_size() for tensor in held)


def test_constants_of_the_training_page_are_those_of_the_code() -> None:
    default, adapters = load_config(None), load_config(None, ["model.lora.r=16"])
    assert (default.train.learning_rate, adapters.train.learning_rate) == (5e-6, 5e-5)
    assert adapters == load_config(None, ["model.lora={}"])
    assert (default.train.batch_size, default.loss.beta, default.train.keep_last) == (32, 0.1, 2)
    assert (default.data.max_tokens, default.data.heldout_fraction) == (2048, 0.1)
    assert adapters.model.lora is not None
    assert (adapters.model.lora.alpha, adapters.model.lora.target_modules) == (32, "all-linear")
    assert SATURATED_BELOW == 0.05
    # Below 1 lambda_D is n_U / n_D; from 1 on both stay.
    weights = [auto_weights(*counts)[:2] for counts in ((1, 10), (10, 10), (15, 10), (10, 1))]
    assert weights == [(10.0, 1.0), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0)]


def test_the_rules_of_cleaning_in_the_docs_are_those_of_the_code() -> None:
    page = (DOCS / "feedback-format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*?) \|$", page, re.MULTILINE)
    found = {name: re.sub(r" \(`<.*\)$", "", text) for name, text in rows if name in RULES}
    assert found == RULES


def test_the_table_of_importers_is_that_of_the_code() -> None:
    made = runpy.run_path(str(DOCS / "write_importers.py"))
    assert (DOCS / "importers.md").read_text(encoding="utf-8") == made["page"]()
