"""`thumbs plan`: numbers by hand, memory of shapes drawn at test time, rows with their mask."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from thumbs import pipeline
from thumbs.budget import shape_of
from thumbs.cli import app
from thumbs.config import load_config
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.load import load_model
from thumbs.models.skeleton import skeleton
from thumbs.models.tiny import save_tiny, tiny_model, tiny_tokenizer
from thumbs.runs.rundir import read_metrics

WITHIN = 0.25  # of the planned peak
NUM_SHAPES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    save_tiny(folder / "model", "llama")
    records = [
        with_defaults(
            Feedback(
                prompt=[{"role": "user", "content": f"Is {i // 2} [bold]odd[/]?"}],
                completion=[{"role": "assistant", "content": f"yes {i % 5}"}],
                label=bool(i % 2),
            )
        )
        for i in range(40)
    ]
    write_feedback(folder / "feedback.jsonl", records)
    return folder


def settings(folder: Path, *changes: str) -> Any:
    chosen = ["train.batch_size=8", "data.heldout_fraction=0", *changes]
    return load_config(None, chosen, model=str(folder / "model"))


def test_a_plan_is_what_the_run_then_does(folder: Path, tmp_path: Path) -> None:
    config = settings(folder, "train.epochs=2")
    told = pipeline.plan(folder / "feedback.jsonl", config)
    pipeline.train_model(folder / "feedback.jsonl", config, tmp_path / "run", page=False)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert told["steps"] == len(lines) == 10
    assert told["padding"] == 0.0  # on a CPU nothing is padded
    assert told["micro_batch_tokens"] == lines[0]["micro_batch_tokens"]
    assert told["weights"]["desirable_weight"] == 1.0
    assert (told["train_rows"], told["heldout_rows"], told["drops"]) == (40, 0, {})
    assert 0 < told["seconds_estimate"] < 3_600  # whatever else runs
    assert told["peak_bytes"] > 2**28
    json.dumps(told)


def test_steps_end_where_the_settings_say(folder: Path) -> None:
    told = pipeline.plan(folder / "feedback.jsonl", settings(folder, "train.max_steps=3"))
    assert told["steps"] == 3


def test_rows_show_what_carries_loss(folder: Path) -> None:
    told = pipeline.plan(folder / "feedback.jsonl", settings(folder))
    assert {row["desirable"] for row in told["rows"]} == {True, False}
    for row in told["rows"]:
        with_loss = [piece["text"] for piece in row["pieces"] if piece["loss"]]
        assert len(with_loss) == 1
        assert with_loss[0].startswith("yes ")
        assert with_loss[0].endswith("<|im_end|>")
        assert row["pieces"][0]["text"].endswith("<|im_start|>assistant\n")


def test_people_see_the_mask_without_colour_and_the_text_as_it_is(folder: Path) -> None:
    arguments = ["plan", str(folder / "feedback.jsonl"), "--model", str(folder / "model")]
    printed = CliRunner().invoke(app, arguments).stdout
    assert "【yes " in printed
    assert "<|im_end|>】" in printed
    assert "[bold]odd[/]" in printed
    assert "three rows" in printed


def test_no_weights_are_read(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in (folder / "model").iterdir():
        if file.suffix != ".safetensors":
            (model / file.name).write_bytes(file.read_bytes())
    config = load_config(None, ["data.heldout_fraction=0"], model=str(model))
    told = pipeline.plan(folder / "feedback.jsonl", config)
    assert (
        told["parameters"]
        == pipeline.plan(folder / "feedback.jsonl", settings(folder))["parameters"]
    )


@pytest.mark.parametrize("changes", [[], ["model.lora.r=4"]])
def test_the_skeleton_has_the_sizes_of_the_model(folder: Path, changes: list[str]) -> None:
    config = settings(folder, *changes)
    model = load_model(config.model, device=torch.device("cpu")).model
    bare = skeleton(config.model, device=torch.device("cpu"))
    assert next(bare.parameters()).device.type == "meta"
    assert shape_of(config, bare) == shape_of(config, model)


def test_peaks_of_shapes_drawn_now_are_met(folder: Path, tmp_path: Path) -> None:
    """Three shapes, other ones every day. Every plan and run is a process of its own, forked from
    one that has imported what a run imports."""
    seed = int(time.time()) // 86_400
    draw = random.Random(seed)
    jobs = []
    for number in range(NUM_SHAPES):
        model = save_shape(tmp_path / f"model-{number}", draw)
        jobs += [["plan", str(model), ""], ["train", str(model), str(tmp_path / f"run-{number}")]]
    env = {"OMP_NUM_THREADS": "1", "THUMBS_CACHE": str(tmp_path / "cache"), "PATH": ""}
    env["PYTHONPATH"] = ":".join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(folder / "feedback.jsonl")],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout.splitlines()[-1])
    for planned, measured in zip(peaks[::2], peaks[1::2], strict=True):
        assert measured == pytest.approx(planned, rel=WITHIN), f"seed {seed}: {peaks}"


def save_shape(folder: Path, draw: random.Random) -> Path:
    heads = draw.choice([4, 8])
    width = draw.choice([32, 48])
    model = tiny_model(
        "llama",
        hidden_size=heads * width,
        head_dim=width,
        intermediate_size=draw.choice([512, 1024]),
        num_hidden_layers=draw.choice([2, 4]),
        num_attention_heads=heads,
        num_key_value_heads=heads // draw.choice([1, 2]),
        vocab_size=draw.choice([8_000, 24_000]),
    )
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


# Plans tell their estimate, runs the peak of their resident memory.
FORKING = """
import json, os, resource, sys
from pathlib import Path
import matplotlib.backends.backend_svg, transformers.models.llama.modeling_llama
from thumbs import pipeline
from thumbs.config import load_config

def work(verb, model, out):
    changes = ["train.batch_size=32", "train.max_steps=2", "data.heldout_fraction=0"]
    config = load_config(None, changes, model=model)
    if verb == "plan":
        return pipeline.plan(Path(sys.argv[1]), config)["peak_bytes"]
    pipeline.train_model(Path(sys.argv[1]), config, Path(out))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

peaks = []
for job in json.load(sys.stdin):
    ours, theirs = os.pipe()
    if not os.fork():
        os.write(theirs, str(work(*job)).encode())
        os._exit(0)
    os.close(theirs)
    peaks.append(int(os.read(ours, 99)))
    os.wait()
print(json.dumps(peaks))
"""
