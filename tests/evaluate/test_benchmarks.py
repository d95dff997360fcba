"""`thumbs eval --tasks`, from the command line to the numbers."""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from thumbs.cli import app
from thumbs.config import dump_config, load_config
from thumbs.evaluate.benchmarks import BENCHMARKS, benchmark_numbers
from thumbs.evaluate.harness import Outcome
from thumbs.evaluate.sandbox import Limits
from thumbs.evaluate.sandboxed import MOST_WRITES
from thumbs.models.load import load_model
from thumbs.models.tiny import save_tiny, tiny_model, tiny_tokenizer
from thumbs.runs.rundir import write_json

ALL = ",".join(BENCHMARKS)


@pytest.fixture
def mute(tmp_path: Path) -> Path:
    """A model that ends every answer at once: all its logits are equal, and token 0 is the end."""
    model: Any = tiny_model("llama", eos_token_id=0, bos_token_id=1)
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    model.save_pretrained(tmp_path / "mute")
    tiny_tokenizer(chat_template=None).save_pretrained(tmp_path / "mute")
    return tmp_path / "mute"


def refusal(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["eval", *arguments])
    assert done.exit_code != 0
    return str(done.exception)


@pytest.mark.shared
def test_each_benchmark_runs_offline_on_a_tiny_model(mute: Path, shared: Path) -> None:
    arguments = ["eval", str(mute), "--tasks", ALL, "--limit", "20", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--task-data", str(shared / "data")])
    assert done.exit_code == 0, done.exception
    result = json.loads(done.stdout)
    assert list(result) == list(BENCHMARKS)
    for name, numbers in result.items():
        assert (numbers["metric"], numbers["n"]) == (BENCHMARKS[name].metric, 20)
        assert 0 <= numbers["ci_low"] <= numbers["value"] <= numbers["ci_high"] < 0.7
        assert numbers["data"] == str(shared / "data")
    assert result["gsm8k"]["value"] == result["bbh"]["value"] == result["humaneval"]["value"] == 0
    # Of equal log-probs the first letter's counts: A is right as often as in the questions.
    assert 0 < result["mmlu"]["value"] < 0.6
    # 2,048 tokens less 1,024 for the answer are less than most worked examples of BIG-Bench Hard.
    assert result["mmlu"]["cut_prompts"] < 2
    assert result["bbh"]["cut_prompts"] > 10
    assert "humaneval: runs the programs that the model writes, each shut in by" in done.stderr
    assert "of 20 prompts do not fit the model's context of 2,048 tokens" in done.stderr
    assert sum(result["humaneval"]["failures"].values()) == 20


def test_a_run_is_asked_as_the_model_and_adapter_it_made(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", "llama")
    config = load_config(None, ["model.lora.r=4"], model=str(tmp_path / "model"))
    loaded = load_model(config.model, device=torch.device("cpu"))
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in loaded.adapters.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=noise)  # as if it had learned something
    run = tmp_path / "run"
    loaded.adapters.save_pretrained(run / "model")
    loaded.tokenizer.save_pretrained(run / "model")
    (run / "config.yaml").write_text(dump_config(config))
    feedback = {"path": "gone.jsonl", "sha256": ""}
    described = {"today": "2026-01-01", "feedback": feedback, "policy": {"weight_sha256": ""}}
    write_json(run / "data.json", described)
    (tmp_path / "mmlu" / "test").mkdir(parents=True)
    table = "question,choice0,choice1,choice2,choice3,answer\n"
    for answer, times in enumerate((1, 2, 4, 8)):  # every letter is right another number of times
        table += f"Is it {answer}?,a,b,c,d,{answer}\n" * times
    (tmp_path / "mmlu" / "test" / "logic_test.csv").write_text(table)
    results = {}
    for name in ("run", "run/model", "model"):
        arguments = ["eval", str(tmp_path / name), "--tasks", "mmlu", "--json"]
        done = CliRunner().invoke(app, [*arguments, "--task-data", str(tmp_path)])
        assert done.exit_code == 0, done.exception
        results[name] = json.loads(done.stdout)["mmlu"]
    assert results["run"] == results["run/model"]
    assert results["run"]["value"] != results["model"]["value"]
    assert {results["run"]["n"], results["model"]["n"]} == {15}


def test_numbers_of_a_benchmark_by_hand() -> None:
    outcomes = [
        Outcome(part, {}, "get-answer", [], [], [], score)
        for part, score in (("a", 1.0), ("a", 1.0), ("a", 0.0), ("b", 0.0), ("b", 1.0))
    ]
    numbers = benchmark_numbers("bbh", outcomes)
    assert (numbers["value"], numbers["n"]) == (3 / 5, 5)
    assert numbers["parts"] == {"a": {"value": 2 / 3, "n": 3}, "b": {"value": 1 / 2, "n": 2}}
    # (3/5)^2 * 2/9 / 2 + (2/5)^2 * 1/4 / 1 = 0.04 + 0.04.
    assert numbers["stderr"] == pytest.approx(0.08**0.5, abs=0, rel=1e-12)
    assert numbers["ci_low"] < 3 / 5 < numbers["ci_high"]
    (one,) = outcomes[:1]
    assert benchmark_numbers("bbh", [one])["stderr"] is None


def test_the_page_says_what_the_code_does() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .*? \| [\d,]+ \| (\d) \| `(.*?)` \|$", page, re.MULTILINE)
    assert rows == [(name, str(b.num_fewshot), b.metric) for name, b in BENCHMARKS.items()]
    limits = Limits()
    assert (limits.cpu_seconds, limits.seconds) == (3, 30)
    assert (limits.memory_bytes, limits.file_bytes, MOST_WRITES) == (2**30, 2**20, 64)
    assert (limits.folder_bytes, limits.folder_files) == (2**24, 256)
    for said in ("3 seconds of computing", "30 of waiting", "1 GiB", "1 MiB", "64 writes"):
        assert said in page
    assert "16 MiB and 256 files" in page
    for name in ("openai/gsm8k", "cais/mmlu", "SaylorTwift/bbh", "openai/openai_humaneval"):
        assert name in page


def test_options_that_do_not_go_together_are_refused(mute: Path, tmp_path: Path) -> None:
    data = ("--task-data", str(tmp_path))
    assert "'gsm9k' is unknown; the nearest is gsm8k" in refusal(str(mute), "--tasks", "gsm9k")
    assert "are for benchmarks" in refusal(str(mute), "--limit", "3")
    assert "are for --tasks feedback" in refusal(
        str(mute), "--tasks", "gsm8k", "--feedback", "f.jsonl"
    )
    assert "holds no folder gsm8k" in refusal(str(mute), "--tasks", "gsm8k", *data)
    assert "has no chat template" in refusal(str(mute), "--tasks", "gsm8k", "--chat", *data)
    assert "--temperature: must be a number" in refusal(
        str(mute), "--tasks", "gsm8k", "--temperature", "inf", *data
    )
    assert "give a run folder" in refusal(str(mute), "--tasks", "feedback")


def test_without_the_harness_one_line_says_what_to_install(
    mute: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # as if it were not there
    told = refusal(str(mute), "--tasks", "gsm8k")
    assert told.startswith("--tasks gsm8k: needs lm-evaluation-harness, which is not installed.")
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        (wanted,) = tomllib.load(file)["project"]["optional-dependencies"]["eval"]
    assert told.endswith(f"Install it with: pip install '{wanted}'")
