"""`thumbs compare` with transformers' own server as judge, which is stopped and killed midway.

The judge is a real tiny model that answers [[A]] to everything: the token a prompt ends with is
followed by [[, that by A, that by ]], that by the end token.
"""

import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch

from thumbs import pipeline
from thumbs.compare import CompareRequest, JudgeRequest
from thumbs.errors import Interrupted
from thumbs.evaluate.chat_server import Patience
from thumbs.models.tiny import VOCAB_SIZE, tiny_model, tiny_tokenizer

NUM_PROMPTS = 10
STALL_SECONDS = 3.0


def save_judge(folder: Path) -> Path:
    """A Llama whose layers add nothing: embeddings are unit vectors, the head maps each to one."""
    tokenizer = tiny_tokenizer(["[[A]] is the verdict"] * 20)
    model: Any = tiny_model("llama", hidden_size=VOCAB_SIZE, max_position_embeddings=4096)
    begin, *verdict = tokenizer("\n[[A]]").input_ids
    chain = [begin, *verdict, tokenizer.eos_token_id]
    assert len(set(chain)) == len(chain) == 5
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.zero_()
        model.get_input_embeddings().weight.copy_(torch.eye(VOCAB_SIZE))
        head = model.get_output_embeddings().weight
        for token, following in pairwise(chain):
            head[following, token] = 1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass
class Servers:
    """Starts `transformers serve` on one port, one process after the other."""

    port: int
    judge: Path
    log: Path
    started: list[ForkProcess]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def begin(self) -> ForkProcess:
        """Start a server, and wait until it answers."""
        with warnings.catch_warnings():
            # Python 3.12 warns of threads; those of a parent that are idle do no harm here.
            warnings.simplefilter("ignore", DeprecationWarning)
            process = get_context("fork").Process(target=self._serve)
            process.start()
        self.started.append(process)
        ends = time.monotonic() + 120
        while time.monotonic() < ends:
            with suppress(httpx2.HTTPError):
                if httpx2.get(f"http://127.0.0.1:{self.port}/health").status_code == 200:
                    return process
            assert process.is_alive(), self.log.read_text(encoding="utf-8")
            time.sleep(0.05)
        raise TimeoutError("the server did not begin")

    def _serve(self) -> None:
        """The command as a shell would run it; forked, it needs no import of its own."""
        warnings.simplefilter("ignore")
        with self.log.open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--device", "cpu"]
        sys.argv = ["transformers", "serve", str(self.judge), *where]
        importlib.import_module("transformers.cli.transformers").main()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    needed = ("fastapi", "uvicorn", "openai")
    if any(find_spec(name) is None for name in needed):
        install = "transformers serve needs: pip install -e '.[dev]'"
        assert "THUMBS_SKIP_NOTHING" not in os.environ, install
        pytest.skip(install)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (*needed, "transformers.cli.transformers"):
            importlib.import_module(name)
    started: list[ForkProcess] = []
    try:
        yield Servers(free_port(), save_judge(tmp_path / "judge"), tmp_path / "log", started)
    finally:
        for process in started:
            process.kill()
            process.join()


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port: int = place.getsockname()[1]
        return port


def asked(servers: Servers) -> int:
    """How many requests the servers have answered."""
    return servers.log.read_text(encoding="utf-8").count("POST /v1/chat/completions")


def kept(out: Path) -> list[str]:
    """The whole lines of the judgements so far."""
    path = out / "judgements.jsonl"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def when_kept(out: Path, num_lines: int) -> None:
    ends = time.monotonic() + 60
    while len(kept(out)) < num_lines and time.monotonic() < ends:
        time.sleep(0.002)


def test_a_real_server_that_stalls_and_is_killed_loses_no_judgement(
    servers: Servers, tmp_path: Path
) -> None:
    prompts, good, bad = (tmp_path / f"{name}.jsonl" for name in ("prompts", "good", "bad"))
    for path, answer in ((prompts, ""), (good, "good"), (bad, "bad")):
        entries = [{"prompt": f"What is {i}?", "completion": answer} for i in range(NUM_PROMPTS)]
        path.write_text("".join(json.dumps(e) + "\n" for e in entries), encoding="utf-8")
    out = tmp_path / "out"
    template = tmp_path / "short.jinja"
    template.write_text("{{ prompt }}\nA: {{ first }}\nB: {{ second }}", encoding="utf-8")
    judge = JudgeRequest(
        servers.url,
        model=str(servers.judge),
        template=template,
        concurrency=2,
        max_tokens=8,
        patience=Patience(timeout_seconds=STALL_SECONDS, attempts=4, pause_seconds=0.05),
    )
    request = CompareRequest(str(good), str(bad), prompts, judge, out=out)
    first = servers.begin()
    pid = first.pid
    assert pid is not None

    def torment() -> None:
        when_kept(out, 4)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(STALL_SECONDS + 0.5)  # longer than a request may take
        os.kill(pid, signal.SIGCONT)
        when_kept(out, 9)
        first.kill()

    thread = threading.Thread(target=torment)
    thread.start()
    with pytest.raises(Interrupted, match="no reply in 4 attempts"):
        pipeline.compare(request)
    thread.join()
    before = kept(out)
    assert 9 <= len(before) < 2 * NUM_PROMPTS
    first.join()
    asked_before = asked(servers)
    servers.begin()
    result = pipeline.compare(request)
    assert kept(out)[: len(before)] == before
    assert len(kept(out)) == 2 * NUM_PROMPTS
    assert asked(servers) - asked_before == 2 * NUM_PROMPTS - len(before)
    assert (result["ties"], result["nulls"], result["win_rate"]) == (NUM_PROMPTS, 0, 0.5)
    assert (result["consistency"], result["first_position_rate"]) == (0, 1)
    assert result["judge_tokens"]["completion"] == 2 * NUM_PROMPTS * 4
