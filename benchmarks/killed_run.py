"""A `thumbs` command that kills itself at a chosen place, as a power cut would.

In: a place of PLACES, at which of its calls, a log. Out: a line in the log, then SIGKILL. What dies
is a call of the standard library, torch, safetensors or transformers; nothing of thumbs is changed
but the size of a chunk of the reference pass, of which a short pass would have one.

    python -m benchmarks.killed_run LOG RUN '["cache write", 2]' train feedback.jsonl --model ...

With `serve MODEL` it reads such jobs as lines of JSON and forks for each: many commands cost one
import of torch, and what transformers prepares at the first loading of a model is prepared once.
"""

import functools
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaModel

from thumbs import pipeline
from thumbs.cli import main as thumbs_main
from thumbs.scoring import planned

planned.CHUNK_TOKENS = 200

Die = Callable[[], None]


@dataclass(frozen=True)
class Place:
    """Where to die: in a call of `owner.name` on a file whose name fits `pattern`.

    when: "before" or "after" the call, or "half": it has written half of its bytes.
    in_pass: only calls count that come after the reference pass began.
    """

    owner: Any
    name: str
    when: str
    pattern: str = ""
    call: int = 1
    in_pass: bool = False


PLACES = {
    "start, half of config.yaml written": Place(Path, "write_bytes", "half", r"\.config\.yaml"),
    "start, config.yaml not yet renamed": Place(Path, "replace", "before", r"\.config\.yaml"),
    "before step 1, loading done": Place(LlamaModel, "forward", "before"),
    "reference pass": Place(LlamaModel, "forward", "after", in_pass=True),
    "cache write": Place(Path, "write_bytes", "half", r"\.[0-9a-f]{64}\.safetensors"),
    "reference values write": Place(Path, "write_bytes", "half", r"\.values\.safetensors"),
    "before step 1, values frozen": Place(Path, "write_bytes", "half", r"\.metrics\.jsonl"),
    "mid-step, backward": Place(torch.autograd, "backward", "after"),
    "mid-step, weights moved": Place(torch.optim.AdamW, "step", "after"),
    "metrics line": Place(Path, "open", "half", r"metrics\.jsonl"),
    "checkpoint write, policy": Place(safetensors.torch, "serialize_file", "half", "policy"),
    "checkpoint write, optimizer": Place(safetensors.torch, "serialize_file", "half", "optimizer"),
    "checkpoint write, manifest": Place(Path, "write_bytes", "half", "manifest.json"),
    "checkpoint not yet renamed": Place(Path, "rename", "before", r"\.step-\d+\.partial"),
    "checkpoint just renamed": Place(Path, "rename", "after", r"\.step-\d+\.partial"),
    "old checkpoint half deleted": Place(shutil, "rmtree", "half", r"\.step-\d+\.partial"),
    "model save": Place(safetensors.torch, "serialize_file", "half", r"model\.safetensors"),
    "model not yet renamed": Place(Path, "rename", "before", r"\.model\.partial"),
    "model just renamed": Place(Path, "rename", "after", r"\.model\.partial"),
    "summary write": Place(Path, "write_bytes", "half", r"\.summary\.json"),
    "report write": Place(Path, "write_bytes", "half", r"\.report\.html"),
}


def install(place: Place, die: Die) -> None:
    """Make the `place.call`-th call that fits `place` the last thing this process does."""
    real = getattr(place.owner, place.name)
    seen = 0

    @functools.wraps(real)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        if not _fits(place, args):
            return real(*args, **kwargs)
        seen += 1
        if seen < place.call:
            return real(*args, **kwargs)
        if place.when == "half":
            _do_half(place.name, real, args, kwargs)
        elif place.when == "after":
            real(*args, **kwargs)
        die()
        raise AssertionError("this process is dead")

    setattr(place.owner, place.name, call)


def state_of(run: Path) -> str:
    """What of a run stands, in words."""
    names = sorted(path.name for path in run.glob("*")) if run.is_dir() else []
    metrics = run / "metrics.jsonl"
    steps = metrics.read_bytes().count(b"\n") if metrics.is_file() else 0
    saved = [int(path.name[5:]) for path in run.glob("checkpoints/step-*")]
    half = sorted(re.sub(r"\.\d+\.partial", ".PID.partial", p.name) for p in run.rglob("*.partial"))
    stands = [name for name in ("config.yaml", "model", "summary.json") if name in names]
    values = ["values"] if (run / "reference" / "values.safetensors").is_file() else []
    words = [*stands, *values, f"{steps} steps", f"checkpoints {sorted(saved)}"]
    return ", ".join([*words, *(["half: " + " ".join(half)] if half else [])])


def run_killed(log: Path, run: Path, kill: tuple[str, int] | None, arguments: list[str]) -> None:
    """Run `thumbs arguments`; dies at `kill` (place, call) with a line in `log`."""
    if kill is not None:
        name, number = kill
        place = PLACES[name]

        def die() -> None:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"place": name, "call": number, "state": state_of(run)}))
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.kill(os.getpid(), signal.SIGKILL)

        install(replace(place, call=place.call - 1 + number), die)
    sys.argv = ["thumbs", *arguments]
    thumbs_main()


def serve(model: str) -> None:
    """For each line of JSON on stdin: fork, run the job there, print its exit status."""
    assert pipeline  # imported once, here
    AutoModelForCausalLM.from_pretrained(model)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            with Path(job["stderr"]).open("w") as file:
                os.dup2(file.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.environ["THUMBS_CACHE"] = job["cache"]
            status = 1
            try:
                run_killed(Path(job["log"]), Path(job["run"]), job["kill"], job["arguments"])
            except SystemExit as end:
                status = int(end.code or 0)
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _fits(place: Place, args: tuple[Any, ...]) -> bool:
    if place.name == "open" and "ab" not in args[1:]:
        return False
    if place.name == "rmtree" and not Path(args[0]).exists():
        return False
    if place.in_pass and not Path(os.environ["THUMBS_CACHE"], "reference").is_dir():
        return False
    file = args[1 if place.name == "serialize_file" else 0]
    return not place.pattern or re.search(place.pattern, Path(file).name) is not None


def _do_half(name: str, real: Callable[..., Any], args: Any, kwargs: Any) -> None:
    if name == "write_bytes":
        path, content = args
        real(path, content[: len(content) // 2])
        _sync(path)
    elif name == "serialize_file":
        real(*args, **kwargs)
        os.truncate(args[1], Path(args[1]).stat().st_size // 2)
        _sync(args[1])
    elif name == "open":
        with real(*args, **kwargs) as file:
            file.write(b'{"step":1,"epoch":0,"lo')
        _sync(args[0])
    elif name == "rmtree":
        next(path for path in Path(args[0]).iterdir() if path.is_file()).unlink()
    else:
        raise ValueError(f"{name} cannot be done by half")


def _sync(path: str | Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
        os._exit(0)  # taking torch down would take seconds
    else:
        log, run, kill, *arguments = sys.argv[1:]
        run_killed(Path(log), Path(run), json.loads(kill), arguments)
