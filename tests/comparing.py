"""A small comparison whose answer is known, for the tests of `thumbs compare`."""

import json
from pathlib import Path
from typing import Any

from tests.evaluate.scripted_server import Act, says

from thumbs.compare import CompareRequest, JudgeRequest
from thumbs.evaluate.chat_server import Patience

QUICK = Patience(timeout_seconds=2.0, attempts=3, pause_seconds=0.01)
NUM_PROMPTS = 12


def written(tmp_path: Path) -> dict[str, Path]:
    """Prompts with targets, good answers and bad ones."""
    found = {name: tmp_path / f"{name}.jsonl" for name in ("prompts", "good", "bad")}
    questions = [f"What is {i} + {i}?" for i in range(NUM_PROMPTS)]
    write(found["prompts"], [{"prompt": q, "target": f"target {q}"} for q in questions])
    write(found["good"], [{"prompt": q, "completion": f"good {q}"} for q in questions])
    write(found["bad"], [{"prompt": q, "completion": f"bad and longer {q}"} for q in questions])
    return found


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def request(files: dict[str, Path], judge: str, out: Path | None, **changes: Any) -> CompareRequest:
    options: dict[str, Any] = {"model": "tiny", "patience": QUICK, "concurrency": 4} | changes
    good, bad = str(files["good"]), str(files["bad"])
    return CompareRequest(good, bad, files["prompts"], JudgeRequest(judge, **options), out=out)


def prefers_good(body: dict[str, Any]) -> Act:
    """The verdict of a judge that knows: the good answer, wherever it stands."""
    text = body["messages"][-1]["content"]
    _, _, first = text.partition("<<<ANSWER A\n")
    return says("I looked.\n[[A]]" if first.startswith("good") else "I looked.\n[[B]]")
