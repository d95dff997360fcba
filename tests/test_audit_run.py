"""`thumbs audit`: planted wrong labels are found, written, and left out of the next run."""

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from thumbs import pipeline, printing
from thumbs.cli import app
from thumbs.config import load_config
from thumbs.errors import OutputError, RunError
from thumbs.feedback.file import read_feedback, write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.tiny import save_tiny
from thumbs.prepare import prepare
from thumbs.runs.rundir import read_json

SETTINGS = [
    *("train.batch_size=16", "train.learning_rate=3e-3"),
    *("data.heldout_fraction=0.2", "train.save_every=1000"),
]
FLIPPED = range(12, 18)  # answers that say no, and are liked here


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, sixty votes on twelve questions, a run; of 24 times no, 6 are liked for all that."""
    folder = tmp_path_factory.mktemp("audit")
    save_tiny(folder / "model", "llama")
    records = [
        with_defaults(
            Feedback(
                prompt=f"Is {i % 12} a number?",
                completion=" no way at all" if i // 12 % 2 else " yes it is",
                label=i // 12 % 2 == 0 or i in FLIPPED,
                rater="ann",
                id=f"vote {i}",
            )
        )
        for i in range(60)
    ]
    write_feedback(folder / "feedback.jsonl", records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THUMBS_CACHE", str(folder / "cache"))
        begin(folder, "run")
    return folder


def begin(folder: Path, name: str, *changes: str) -> dict[str, Any]:
    config = load_config(None, [*SETTINGS, *changes], model=str(folder / "model"))
    return pipeline.train_model(folder / "feedback.jsonl", config, folder / name, page=False)


def flipped_ids() -> set[str]:
    return {f"vote {i}" for i in FLIPPED}


def test_the_planted_wrong_labels_are_found_and_left_out_of_the_next_run(folder: Path) -> None:
    out = folder / "suspects.jsonl"
    found = pipeline.audit(folder / "run", out)
    records = list(read_feedback(out))
    assert {record.id for record in records} == flipped_ids()
    assert all(record.label for record in records)
    assert (found["rows"], found["flagged"], found["written"]) == (60, 6, 6)
    splits = found["splits"]
    described = read_json(folder / "run" / "data.json")
    assert splits["training"]["rows"] == described["train_rows"]
    assert splits["held-out"]["rows"] == described["heldout_rows"]
    assert sum(split["flagged"] for split in splits.values()) == 6
    with out.open("a") as file:
        file.write('{"id": "nobody"}\n')
    begin(folder, "next", f"data.exclude={out}")
    after = read_json(folder / "next" / "data.json")
    assert after["drops"]["excluded"] == 6
    assert after["counts"]["rows"] == 54
    assert "data.exclude names 7 ids, but 6 records of the feedback have one of them" in " ".join(
        after["warnings"]
    )


def test_the_table_of_a_spreadsheet_leaves_out_the_same_rows(folder: Path) -> None:
    out = folder / "suspects.csv"
    pipeline.audit(folder / "run", out)
    begin(folder, "next-by-table", f"data.exclude={out}")
    assert read_json(folder / "next-by-table" / "data.json")["drops"]["excluded"] == 6


def test_the_numbers_of_a_row_are_those_of_policy_and_reference(folder: Path) -> None:
    out = folder / "numbers.jsonl"
    found = pipeline.audit(folder / "run", out)
    lines = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    line = found["dividing_line"]
    for row in lines:
        assert row["margin"] == pytest.approx(row["reward"] - line)  # all are labelled desirable
        assert 0 < row["gradient_weight"] <= 1
    assert [row["margin"] for row in lines] == sorted(row["margin"] for row in lines)
    assert found["z0"] == read_json(folder / "run" / "summary.json")["heldout"]["after"]["z0"]


def test_the_reward_is_what_the_models_themselves_give(folder: Path) -> None:
    config = load_config(None, SETTINGS, model=str(folder / "model"))
    prepared = prepare(folder / "feedback.jsonl", config, date(2026, 1, 1))
    [worst] = pipeline.audit(folder / "run", None, 1)["top"]
    [row] = [row for row in prepared.rows if row.record_id == worst["id"]]
    ids = torch.tensor([row.prompt_ids + row.completion_ids])
    sums = []
    for name in ("run/model", "model"):
        model = AutoModelForCausalLM.from_pretrained(folder / name)
        with torch.no_grad():
            logps = model(ids).logits.double().log_softmax(-1)[0, len(row.prompt_ids) - 1 : -1]
        given = logps.gather(-1, torch.tensor(row.completion_ids)[:, None])
        sums.append(float(given.sum()))
    assert all(row.loss_mask)
    assert worst["reward"] == pytest.approx(0.1 * (sums[0] - sums[1]), rel=1e-3)


def test_top_limits_what_is_shown_and_written(folder: Path) -> None:
    every = pipeline.audit(folder / "run")
    two = pipeline.audit(folder / "run", folder / "two.jsonl", 2)
    assert two["top"] == every["top"][:2]
    assert (two["flagged"], two["written"]) == (6, 2)
    assert len(list(read_feedback(folder / "two.jsonl"))) == 2
    assert (every["out"], every["written"]) == (None, 0)


def test_people_see_the_rows_and_what_to_do_with_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(width=140, record=True, highlight=False, quiet=False)
    monkeypatch.setattr(printing, "out_console", console)
    out = folder / "shown.jsonl"
    printing.print_audit("run", pipeline.audit(folder / "run", out, 1))
    text = console.export_text()
    assert "vote " in text
    assert "no way at all" in text
    assert "run: 6 of 60 rows have the reward of the other label (" in text
    assert f"{out}: 1 rows. Correct the labels, or leave them out" in text
    assert f"--set data.exclude={out}" in text


def test_the_command_prints_one_object_for_programs(folder: Path) -> None:
    done = CliRunner().invoke(app, ["audit", str(folder / "run"), "--json", "--top", "1"])
    found = orjson.loads(done.stdout)
    assert (found["rows"], found["flagged"], len(found["top"])) == (60, 6, 1)
    assert found == pipeline.audit(folder / "run", None, 1)


@pytest.mark.parametrize("summary", ["[]", '{"heldout": {"after": {"z0": "x"}}}', '{"z0": true}'])
def test_a_damaged_summary_is_told(folder: Path, tmp_path: Path, summary: str) -> None:
    run = Path(shutil.copytree(folder / "run", tmp_path / "run"))
    (run / "summary.json").write_text(summary)
    with pytest.raises(RunError, match=r"summary\.json: z0 must be a number, but is "):
        pipeline.audit(run)


# ---- losses and ways of training


@pytest.mark.parametrize(
    "changes",
    [
        ["loss.name=sft"],
        ["loss.name=kto_noref"],
        ["loss.name=ppo_offline"],
        ["loss.name=humanline", "loss.sync_every=3"],
        ["model.lora.r=4", "train.learning_rate=3e-2"],
        ["model.lora.r=4", "model.lora.merge=true", "train.learning_rate=3e-2"],
        ["data.heldout_fraction=0"],
    ],
    ids=lambda changes: "-".join(changes).replace("/", "_"),
)
def test_runs_of_every_kind_can_be_audited(
    folder: Path, tmp_path: Path, changes: list[str]
) -> None:
    config = load_config(None, [*SETTINGS, *changes], model=str(folder / "model"))
    pipeline.train_model(folder / "feedback.jsonl", config, tmp_path / "run", page=False)
    found = pipeline.audit(tmp_path / "run", tmp_path / "suspects.jsonl")
    assert found["rows"] == 60
    assert {row["id"] for row in found["top"]} <= {f"vote {i}" for i in range(60)}
    assert ("held-out" in found["splits"]) == ("data.heldout_fraction=0" not in changes)


def test_rows_without_a_partner_are_audited_too(folder: Path) -> None:
    begin(folder, "pairs", "loss.name=dpo", "data.pairs=one")
    described = read_json(folder / "pairs" / "data.json")
    splits = pipeline.audit(folder / "pairs")["splits"]
    assert splits["unpaired"]["rows"] == described["drops"]["without_partner"] > 0
    assert splits["training"]["rows"] == described["train_rows"]


def test_a_loss_that_tells_the_label_is_refused(folder: Path) -> None:
    begin(folder, "told", "loss.name=csft")
    with pytest.raises(RunError, match="was trained with csft, whose prompts tell the label"):
        pipeline.audit(folder / "told")


# ---- what cannot be audited


def test_a_model_and_a_run_that_goes_on_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is a model, not a run"):
        pipeline.audit(folder / "model")
    run = Path(shutil.copytree(folder / "run", tmp_path / "run"))
    (run / "summary.json").unlink()
    with pytest.raises(RunError, match=r"has not finished.*thumbs train --resume "):
        pipeline.audit(run)


def test_a_feedback_file_that_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(folder / "run", tmp_path / "run"))
    described = read_json(run / "data.json")
    described["feedback"]["path"] = str(tmp_path / "feedback.jsonl")
    (run / "data.json").write_bytes(orjson.dumps(described))
    with pytest.raises(RunError, match=r"feedback\.jsonl is missing since the run"):
        pipeline.audit(run)
    lines = (folder / "feedback.jsonl").read_bytes()
    (tmp_path / "feedback.jsonl").write_bytes(lines.partition(b"\n")[2])
    with pytest.raises(RunError, match=r"feedback\.jsonl has changed since the run"):
        pipeline.audit(run)
    (tmp_path / "feedback.jsonl").write_bytes(lines)
    assert pipeline.audit(run)["flagged"] == 6


def test_what_the_run_is_made_of_is_not_written_over(folder: Path) -> None:
    feedback = (folder / "feedback.jsonl").read_bytes()
    with pytest.raises(RunError, match="is the feedback file of "):
        pipeline.audit(folder / "run", folder / "feedback.jsonl")
    assert (folder / "feedback.jsonl").read_bytes() == feedback
    excluded = folder / "excluded.jsonl"
    excluded.write_text('{"id": "vote 0"}\n')
    begin(folder, "without", f"data.exclude={excluded}")
    with pytest.raises(RunError, match=r"is the data\.exclude of "):
        pipeline.audit(folder / "without", excluded)
    assert pipeline.audit(folder / "without")["rows"] == 59


def test_an_ending_of_another_format_is_refused_before_any_work(folder: Path) -> None:
    with pytest.raises(OutputError, match=r"must end in \.jsonl or \.csv"):
        pipeline.audit(folder / "run", folder / "suspects.txt")


def test_the_run_is_all_that_is_needed_of_the_model(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "model"
    shutil.move(folder / "model", moved)
    try:
        assert pipeline.audit(folder / "run")["flagged"] == 6
    finally:
        shutil.move(moved, folder / "model")
