"""Runs in an address space that is too small: forwards shrink, or one line says what to do."""

import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from thumbs import pipeline
from thumbs.config import load_config
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.models.tiny import save_tiny
from thumbs.runs.rundir import read_json, read_metrics

# One layer that is all width: a token takes 256 KiB of every tensor of its MLP and little time.
SHAPE: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 65_536,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
MIB = 2**20


@contextmanager
def room(num_bytes: int) -> Iterator[None]:
    """A block in which this process gets at most `num_bytes` more address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def train(tmp_path: Path) -> Callable[[str, int], Path]:
    """One step over 16 rows of about 40 tokens, begun with a number of tokens per forward."""
    save_tiny(tmp_path / "model", "llama", **SHAPE)
    records = [
        with_defaults(
            Feedback(
                prompt=[{"role": "user", "content": f"Is {i // 2} a number? " * 2}],
                completion=[{"role": "assistant", "content": "yes it is" if i % 2 else "no way"}],
                label=bool(i % 2),
            )
        )
        for i in range(16)
    ]
    write_feedback(tmp_path / "feedback.jsonl", records)

    def run(name: str, tokens: int) -> Path:
        changes = [f"train.micro_batch_tokens={tokens}", "data.heldout_fraction=0"]
        config = load_config(None, changes, model=str(tmp_path / "model"))
        pipeline.train_model(tmp_path / "feedback.jsonl", config, tmp_path / name, page=False)
        return tmp_path / name

    return run


def test_a_step_that_does_not_fit_ends_as_one_begun_with_smaller_forwards(
    train: Callable[[str, int], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    small = train("small", 256)
    with room(340 * MIB):
        shrunk = train("shrunk", 512)
    assert re.findall(r"out of memory with .*", capsys.readouterr().err) == [
        "out of memory with train.micro_batch_tokens=512: step 1 is done again with 256"
    ]
    weights = "model/model.safetensors"
    assert (shrunk / weights).read_bytes() == (small / weights).read_bytes()
    [line] = read_metrics(shrunk / "metrics.jsonl")
    assert line["micro_batch_tokens"] == 256
    assert read_json(shrunk / "data.json")["origin"]["machine"]["micro_batch_tokens"] == 256
