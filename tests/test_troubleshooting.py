"""Every text that docs/troubleshooting.md quotes is what the program prints."""

import json
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from thumbs.cli import main
from thumbs.config import load_config
from thumbs.models.load import load_model
from thumbs.models.tiny import save_tiny, tiny_tokenizer
from thumbs.runs.rundir import read_metrics
from thumbs.scoring.forward import build_scorer
from thumbs.train.step import train_step

PAGE = (Path(__file__).parents[1] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
TRAIN = "train feedback.jsonl --model model --out run"
FEW = "--set train.max_steps=1 --set train.batch_size=8"


def quotes() -> dict[str, list[str]]:
    """The texts quoted under each heading."""
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        if texts := re.findall(r"^```text\n(.*?)^```$", body, re.DOTALL | re.MULTILINE):
            found[heading] = texts
    return found


def vote(i: int, **changes: Any) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": f"Is {i // 2} a number?"}],
        "completion": [{"role": "assistant", "content": "yes it is" if i % 2 else "no way"}],
        "label": bool(i % 2),
        **changes,
    }


def write(name: str, *votes: dict[str, Any]) -> None:
    Path(name).write_text("".join(f"{json.dumps(line)}\n" for line in votes), encoding="utf-8")


Run = Callable[[str], int | None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in a folder with feedback.jsonl and a tiny model; gives its exit code."""
    monkeypatch.chdir(tmp_path)
    write("feedback.jsonl", *(vote(i) for i in range(60)))
    save_tiny(Path("model"), "llama")

    def run_line(line: str) -> int | None:
        monkeypatch.setattr(sys, "argv", ["thumbs", *shlex.split(line)])
        with pytest.raises(SystemExit) as stop:
            main()
        code = stop.value.code
        assert code is None or isinstance(code, int)
        return code

    return run_line


def stop_in_step_two(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a run in the folder `run` that SIGTERM met in its second step of seven."""
    steps = 0

    def step_and_signal(*arguments: Any, **keywords: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 2:
            signal.raise_signal(signal.SIGTERM)
        return train_step(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr("thumbs.train.loop.train_step", step_and_signal)
        assert run(f"{TRAIN} --set train.batch_size=8 --set train.save_every=1") == 75


def few_prompts(run: Run) -> None:
    write("feedback.jsonl", *(vote(i // 9) for i in range(12)), vote(4), vote(4))
    run(f"{TRAIN} {FEW} --set data.heldout_fraction=0 --set train.batch_size=16")
    write("one-prompt.jsonl", vote(0), vote(1))
    assert run("train one-prompt.jsonl --model model --out other") == 2


def nothing_held_out(run: Run) -> None:
    assert not run(f"{TRAIN} {FEW} --set data.heldout_fraction=0")
    assert run("eval run") == 2


def telling_lengths(run: Run) -> None:
    longer = [{"role": "assistant", "content": "yes it is, of course it is, what else"}]
    write("long.jsonl", *(vote(i, **{"completion": longer} if i % 2 else {}) for i in range(8)))
    assert not run("check long.jsonl --json")
    write("feedback.jsonl", *(vote(i) for i in range(0, 60, 2)))
    assert not run(f"{TRAIN} {FEW}")


def nothing_left(run: Run) -> None:
    assert run(f"{TRAIN} --set data.max_tokens=4") == 2
    Path("empty.json").write_text('[{"prompt": "a", "completion": "", "label": true}]')
    assert run("import empty.json --out imported.jsonl") == 2


def no_template(run: Run) -> None:
    save_tiny(Path("bare"), "llama", tokenizer=tiny_tokenizer(chat_template=None))
    assert run("train feedback.jsonl --model bare --out run") == 2


def no_label(run: Run) -> None:
    write("votes.jsonl", vote(0, label="down"))
    assert run("check votes.jsonl") == 2


def differs(run: Run) -> None:
    config, feedback = Path("run/config.yaml"), Path("feedback.jsonl")
    text = config.read_text()
    config.write_text(text.replace("learning_rate: 5.0e-06", "learning_rate: 0.001"))
    assert run("train --resume run") == 2
    config.write_text(text)
    votes = feedback.read_text()
    feedback.write_text(votes + votes)
    assert run("train --resume run") == 2
    feedback.write_text(votes)
    Path("run/checkpoints/step-000002/policy.safetensors").write_bytes(b"damaged")
    assert not run("train --resume run")


def smaller_micro_batch(run: Run) -> None:
    config = Path("run/config.yaml")
    text = config.read_text().replace("micro_batch_tokens: auto", "micro_batch_tokens: 64")
    config.write_text(text.replace("gradient_checkpointing: false", "gradient_checkpointing: true"))
    assert not run("train --resume run")


def complete(run: Run) -> None:
    assert not run(f"{TRAIN} {FEW}")
    assert run("train --resume run") == 2
    assert run(TRAIN) == 2


def tied(run: Run) -> None:
    save_tiny(Path("model"), "qwen3")
    assert run(f"{TRAIN} --set model.lora.target_modules=[q_proj,lm_head]") == 2


def not_finite(run: Run) -> None:
    write("feedback.jsonl", *(vote(i) for i in range(9)), vote(9, weight=1e300, id="big"))
    assert run(f"{TRAIN} --set data.heldout_fraction=0") == 2


def too_long(run: Run) -> None:
    save_tiny(Path("model"), "llama", max_position_embeddings=64)
    write(
        "feedback.jsonl",
        *(vote(i, prompt=[{"role": "user", "content": "a " * 99}]) for i in (0, 1)),
        vote(2),
    )
    assert run(TRAIN + " --set data.heldout_fraction=0") == 2


SCENES: dict[str, Callable[[Run], object]] = {
    "z0 is 0, is that normal?": few_prompts,
    "The held-out AUC is 0.5": nothing_held_out,
    "The model got worse, its answers are shorter, or it repeats itself": telling_lengths,
    "All rows are dropped": nothing_left,
    "No chat template": no_template,
    '"label" must be true or false': no_label,
    "The run is complete, or the folder is not empty": complete,
    "bfloat16 is refused": lambda run: run(f"{TRAIN} --set model.dtype=bfloat16"),
    "Tied embeddings": tied,
    "Quantization is refused": lambda run: run(f"{TRAIN} --set model.quantization=nf4"),
    "NaN, or a loss that is not a finite number": not_finite,
    "The rows do not fit the model": too_long,
}
STOPPED = {
    "Out of memory": smaller_micro_batch,
    "Exit code 75": lambda _run: None,
    "The run says the checkpoint differs, or is of another run": differs,
}
SLOW = "It is slow"


def require_printed(heading: str, printed: str) -> None:
    """`...` stands for anything; line breaks follow the width of the terminal."""
    for quote in quotes()[heading]:
        pattern = re.escape("".join(quote.split())).replace(re.escape("..."), ".*?")
        assert re.search(pattern, "".join(printed.split())), f"quoted:\n{quote}\nis:\n{printed}"


@pytest.mark.parametrize("heading", SCENES)
def test_what_is_quoted_is_what_is_printed(
    heading: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    SCENES[heading](run)
    require_printed(heading, "".join(capsys.readouterr()))


@pytest.mark.parametrize("heading", STOPPED)
def test_what_is_quoted_of_a_stopped_run_is_what_is_printed(
    heading: str, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_in_step_two(run, monkeypatch)
    STOPPED[heading](run)
    require_printed(heading, "".join(capsys.readouterr()))


def test_what_is_quoted_about_slow_models_is_what_a_run_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path, "llama")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    config = load_config(None, ["model.dtype=bfloat16", "train.optimizer=adamw_kahan"])
    named = config.model.model_copy(update={"name_or_path": str(tmp_path)})
    scorer = build_scorer(load_model(named, device=torch.device("cpu")).model, dtype="bfloat16")
    scorer.head_last = False
    require_printed(SLOW, " ".join(scorer.notes()))


def test_every_quote_is_checked() -> None:
    assert {*SCENES, *STOPPED, SLOW} == quotes().keys()


def test_at_a_rate_for_large_models_a_tiny_one_stays_at_a_loss_of_one_half(run: Run) -> None:
    rest = "--set train.batch_size=8 --set data.heldout_fraction=0 --set train.max_steps=4"
    assert not run(f"{TRAIN} {rest}")
    assert not run(f"{TRAIN}-fast {rest} --set train.learning_rate=3e-3")
    slow, fast = (read_metrics(Path(name) / "metrics.jsonl")[-1] for name in ("run", "run-fast"))
    assert slow["loss"] == pytest.approx(0.5, abs=0.001)
    assert fast["loss"] < 0.495


def test_z0_of_zero_gives_the_steps_of_apo_zero(run: Run) -> None:
    rest = "--set train.batch_size=8 --set train.max_steps=3 --set data.heldout_fraction=0"
    assert not run(f"{TRAIN} {rest} --set loss.z0.estimator=zero")
    assert not run(f"{TRAIN}-apo {rest} --set loss.name=apo_zero")
    kto, apo = (read_metrics(Path(name) / "metrics.jsonl") for name in ("run", "run-apo"))
    assert [line["loss"] for line in kto] == [line["loss"] for line in apo]
    assert [line["z0"] for line in kto] == [None] * 3
