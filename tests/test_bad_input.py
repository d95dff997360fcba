"""Every mistake ends in exit code 2 and one line, and leaves nothing behind.

Each case runs the real command line in a folder of its own, with the files it needs.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from thumbs.cli import main
from thumbs.models.tiny import save_tiny

GOOD = "".join(
    f'{{"prompt": "Is {i // 2} a number?", "completion": "{"yes" if i % 2 else "no"}", '
    f'"label": {"true" if i % 2 else "false"}}}\n'
    for i in range(12)
)
RECORD = '{"prompt": "a", "completion": "b", "label": true}'
CHAT = (
    '{"prompt": [{"role": "user", "content": "a"}], '
    '"completion": [{"role": "assistant", "content": "b"}], "label": true}\n'
)
TRAIN = "train good.jsonl --model {model} --out run"


@dataclass(frozen=True)
class Case:
    """A command line, words that the error must hold, the files it needs.

    late: the mistake shows only after work that reports to stderr, so lines stand before it.
    """

    command: str
    words: Sequence[str]
    files: dict[str, str | bytes] = field(default_factory=dict)
    late: bool = False


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", "llama")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


def error_of(
    argv: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    late: bool = False,
) -> str:
    """Run the command line; the one line it ends with, after "error: "."""
    monkeypatch.setattr(sys, "argv", ["thumbs", *argv])
    with pytest.raises(SystemExit) as stop:
        main()
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2, lines
    assert lines[-1].startswith("error: "), lines
    assert [line for line in lines if line.startswith(("error", "Traceback"))] == lines[-1:]
    assert late or len(lines) == 1, lines
    return lines[-1].removeprefix("error: ")


@pytest.fixture
def check(
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[Case], None]:
    """Run a case in an empty folder: its words are in the error, and nothing is left behind."""

    def check(case: Case) -> None:
        monkeypatch.chdir(tmp_path)
        for name, content in {"good.jsonl": GOOD, **case.files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        before = snapshot(tmp_path)
        argv = [word.format(model=model) for word in case.command.split(" ")]
        error = error_of(argv, monkeypatch, capsys, late=case.late)
        for word in case.words:
            assert word in error, error
        assert snapshot(tmp_path) == before

    return check


USAGE = [
    Case("trian good.jsonl", ["thumbs: 'trian' is no verb; the nearest is train"]),
    Case("zzz", ["'zzz' is no verb; allowed: demo, import, check"]),
    Case("check", ["thumbs check: FEEDBACK is missing", "--help"]),
    Case("import good.jsonl", ["thumbs import: --out is missing"]),
    Case("check good.jsonl --modle x", ["--modle is no option of it; the nearest is --model"]),
    Case("check good.jsonl --zzz", ["--zzz is no option of it; allowed: --json, --max-tokens"]),
    Case("check good.jsonl -x", ["-x is no option of it; allowed"]),
    Case("check good.jsonl good.jsonl", ["unexpected extra argument", "good.jsonl"]),
    Case("check good.jsonl --model", ["'--model' requires an argument"]),
    Case("check good.jsonl --json=3", ["'--json' does not take a value"]),
    Case("check good.jsonl --max-tokens x", ["--max-tokens is 'x'", "valid integer"]),
    Case("check good.jsonl --max-tokens 1", ["--max-tokens is '1'", "greater than or equal to 2"]),
    Case("demo --seed -1", ["--seed is '-1'", "greater than or equal to 0"]),
    Case("train", ["needs a feedback file and --out RUN, or --resume RUN"]),
    Case("train good.jsonl --out run", ["--model: is missing"]),
    Case("check caf\udce9.jsonl", ["is not UTF-8"]),
    Case("check a\0b", ["holds a NUL character"]),
]


@pytest.mark.parametrize("case", USAGE, ids=lambda case: repr(case.command))
def test_a_command_line_that_is_no_verb_and_options_is_refused(
    case: Case, check: Callable[[Case], None]
) -> None:
    check(case)


def sets(*overrides: str) -> str:
    return " ".join([TRAIN, *(f"--set {override}" for override in overrides)])


def config(content: str | bytes) -> dict[str, str | bytes]:
    return {"c.yaml": content}


WITH_CONFIG = TRAIN + " --config c.yaml"
SETTINGS = [
    Case(WITH_CONFIG, ["c.yaml: no such file"]),
    Case(TRAIN + " --config .", [".: cannot be read (Is a directory)"]),
    Case(WITH_CONFIG, ["c.yaml: holds list, but a mapping"], config("- 1\n")),
    Case(WITH_CONFIG, ["c.yaml: holds str, but a mapping"], config("text")),
    Case(WITH_CONFIG, ["c.yaml: is not UTF-8 text (byte 0xff at"], config(b"train: \xff")),
    Case(WITH_CONFIG, ["is not readable YAML"], config(b"PK\x03\x04\x00\x00")),
    Case(WITH_CONFIG, ["c.yaml: is not readable YAML", "line 2"], config("a: [1\nb: 2")),
    Case(
        WITH_CONFIG,
        ["'seed' stands on line 2 and line 4"],
        config("train:\n  seed: 1\n\n  seed: 2"),
    ),
    Case(WITH_CONFIG, ["'train' stands on line 1 and line 2"], config("train: {}\ntrain: {}")),
    Case(WITH_CONFIG, ["month must be in 1..12"], config("model: {revision: 2026-99-01}")),
    Case(WITH_CONFIG, ["nested too deeply"], config("[" * 5000)),
    Case(WITH_CONFIG, ["holds '\\ud800', no text"], config('data: {exclude: "\\ud800"}')),
    Case(WITH_CONFIG, ["holds '\\x00', no text"], config('data: {exclude: "\\0"}')),
    Case(WITH_CONFIG, ["unknown key '1'; allowed: model, data"], config("1: 2")),
    Case(WITH_CONFIG, ["c.yaml: unknown key 'foo'; allowed: model, data"], config("foo: 1")),
    Case(WITH_CONFIG, ["c.yaml: train.epochs is 0"], config("train: {epochs: 0}")),
    Case(WITH_CONFIG, ["c.yaml: train.seed is None"], config("train: {seed: }")),
    Case(WITH_CONFIG + " --set train.seed=x", ["--set: train.seed is 'x'"], config("data: {}")),
    Case(sets("foo=1"), ["--set: unknown key 'foo'; allowed: model, data, loss, train"]),
    Case(sets("train.foo=1"), ["'train.foo'; allowed in train: epochs, "]),
    Case(sets("loss.z0.foo=1"), ["'loss.z0.foo'; allowed in loss.z0: estimator, group_rows"]),
    Case(sets("modle.dtype=auto"), ["'modle'; the nearest known key is 'model'"]),
    Case(sets("train.learning_rat=1"), ["nearest known key is 'train.learning_rate'"]),
    Case(sets("train.seed"), ["--set train.seed: is not of the form a.b=value"]),
    Case(sets("=3"), ["is not of the form"]),
    Case(sets("train.betas=[1"), ["the value is not readable YAML"]),
    Case(sets("train=5"), ["train is 5: must be a group of keys: epochs"]),
    Case(sets("train.seed=1e30"), ["train.seed is 1e+30"]),
    Case(sets("train.seed=99999999999999999999"), ["train.seed is 99999999999999999999"]),
    Case(sets("train.seed=-1"), ["train.seed is -1", "greater than or equal to 0"]),
    Case(sets("train.seed=true"), ["train.seed is True: true and false are no value here"]),
    Case(sets("train.betas=[true,0.9]"), ["train.betas is [True, 0.9]: true and false"]),
    Case(sets("train.betas=[0.9]"), ["train.betas"]),
    Case(sets("train.seed=[1]"), ["train.seed is [1]", "valid integer"]),
    Case(sets("loss.beta=.nan"), ["loss.beta is nan", "finite"]),
    Case(sets("loss.beta=-.inf"), ["loss.beta is -inf"]),
    Case(
        sets("train.epochs=1e9"), ["train.epochs is 1000000000.0", "less than or equal to 100000"]
    ),
    Case(sets("train.learning_rate=fast"), ["train.learning_rate is 'fast'", "valid number"]),
    Case(sets("data.keep_cut=maybe"), ["data.keep_cut is 'maybe'", "boolean"]),
    Case(sets("loss.name=dpo"), ["loss.name is 'dpo'", "kto, apo_zero, or package.module"]),
    Case(sets("loss.desirable_weight=lots"), ["is 'lots'", "valid number", "or 'auto'"]),
    Case(sets("train.micro_batch_tokens=x"), ["is 'x'", "valid integer", "or 'auto'"]),
    Case(sets("train.micro_batch_tokens=0"), ["a number of tokens >= 1, or auto"]),
    Case(sets("model.tokenizer=''"), ["model.tokenizer is ''", "empty text"]),
    Case(sets("train.warmup_fraction=1"), ["leaves no step", "train.schedule=constant"]),
    Case(sets("train.eval_every=2", "data.heldout_fraction=0"), ["nothing to evaluate on"]),
    Case(sets("loss.z0.group_rows=64"), ["group_rows is 64", "train.batch_size is 32"]),
    Case(sets("loss.z0.group_rows=4", "loss.z0.estimator=zero"), ["no z0", "leave loss.z0.group"]),
    Case(sets("loss.z0.group_rows=4", "loss.name=apo_zero"), ["apo_zero estimates no z0"]),
    Case(sets("data.max_tokens=9", "data.min_completion_tokens=9"), ["raise data.max_tokens"]),
    Case(sets("loss.desirable_weight=0", "loss.undesirable_weight=0"), ["both 0.0"]),
]


@pytest.mark.parametrize("case", SETTINGS, ids=lambda case: repr(case.words[0]))
def test_settings_that_cannot_be_used_are_refused(
    case: Case, check: Callable[[Case], None]
) -> None:
    check(case)
