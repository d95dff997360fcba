"""Every mistake ends in exit code 2 and one line, and leaves nothing behind.

Each case runs the real command line in a folder of its own, with the files it needs.
"""

import gzip
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import thumbs
from thumbs.cli import main
from thumbs.loss_table import LOSS_TABLE
from thumbs.models.tiny import save_tiny, tiny_tokenizer

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


Files = dict[str, str | bytes]


@dataclass(frozen=True)
class Case:
    """A command line, words that the error must hold, the files it needs.

    late: the mistake shows only after work that reports to stderr, so lines stand before it.
    """

    command: str
    words: Sequence[str]
    files: Mapping[str, str | bytes] = field(default_factory=dict)
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
    Case(
        "check good.jsonl --zzz",
        ["--zzz is no option of it; allowed: --beta, --json, --max-tokens"],
    ),
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


def config(content: str | bytes) -> Files:
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
    Case(WITH_CONFIG, ["nested too deeply"], config("[" * 1500)),
    Case(WITH_CONFIG, ["holds '\\ud800', no text"], config('data: {exclude: "\\ud800"}')),
    Case(WITH_CONFIG, ["holds '\\x00', no text"], config('data: {exclude: "\\0"}')),
    Case(WITH_CONFIG, ["unknown key '1'; allowed: model, data"], config("1: 2")),
    Case(WITH_CONFIG, ["c.yaml: unknown key 'foo'; allowed: model, data"], config("foo: 1")),
    Case(WITH_CONFIG, ["c.yaml: train.epochs is 0"], config("train: {epochs: 0}")),
    Case(WITH_CONFIG, ["c.yaml: train.seed is None"], config("train: {seed: }")),
    Case(WITH_CONFIG + " --set train.seed=x", ["--set: train.seed is 'x'"], config("data: {}")),
    Case(sets("foo=1"), ["--set: unknown key 'foo'; allowed: model, data, loss, train"]),
    Case(sets("train.foo=1"), ["'train.foo'; allowed in train: epochs, "]),
    Case(sets("loss.z0.foo=1"), ["'loss.z0.foo'; allowed in loss.z0: estimator, check_every"]),
    Case(sets("modle.dtype=auto"), ["'modle'; the nearest known key is 'model'"]),
    Case(sets("train.learning_rat=1"), ["nearest known key is 'train.learning_rate'"]),
    Case(sets("train.seed"), ["--set train.seed: is not of the form a.b=value"]),
    Case(sets("=3"), ["is not of the form"]),
    Case(sets("train.betas=[1"), ["the value is not readable YAML"]),
    Case(sets("train=5"), ["train is 5: must be a group of keys: epochs"]),
    Case(sets("train.seed=1e30"), ["train.seed is 1e+30"]),
    Case(sets("train.seed=99999999999999999999"), ["whole number is below 2^63"]),
    Case(sets(f"train.micro_batch_tokens={10**30}"), ["a whole number is below 2^63"]),
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
    Case(sets("loss.name=dop"), ["loss.name is 'dop'", "kto, apo_zero, kto_concave"]),
    Case(sets("loss.margin=2"), ["loss.name=kto has no such constant", "slic, simpo"]),
    Case(sets("loss.desirable_weight=lots"), ["is 'lots'", "valid number", "or 'auto'"]),
    Case(sets("train.micro_batch_tokens=x"), ["is 'x'", "valid integer", "or 'auto'"]),
    Case(sets("train.micro_batch_tokens=0"), ["a number of tokens >= 1, or auto"]),
    Case(sets("model.tokenizer=''"), ["model.tokenizer is ''", "empty text"]),
    Case(sets("train.warmup_fraction=1"), ["leaves no step", "train.schedule=constant"]),
    Case(sets("train.eval_every=2", "data.heldout_fraction=0"), ["nothing to evaluate on"]),
    Case(sets("train.early_stopping=2"), ["train.early_stopping is 2", "train.eval_every is null"]),
    Case(sets("train.keep_best=true"), ["train.keep_best is True", "train.eval_every is null"]),
    Case(sets("train.early_stopping=0"), ["train.early_stopping", "greater than or equal to 1"]),
    Case(sets("loss.z0.group_rows=64"), ["group_rows is 64", "train.batch_size is 32"]),
    Case(sets("loss.z0.group_rows=4", "loss.z0.estimator=zero"), ["no z0", "leave loss.z0.group"]),
    Case(sets("loss.z0.group_rows=4", "loss.name=apo_zero"), ["apo_zero estimates no z0"]),
    Case(sets("loss.z0.estimator=zero", "loss.name=kto_noref"), ["mean of log pi", "leave it out"]),
    Case(sets("loss.z0.estimator=adaptive", "loss.name=kto_noref"), ["is 'adaptive'", "log pi"]),
    Case(sets("data.max_tokens=9", "data.min_completion_tokens=9"), ["raise data.max_tokens"]),
    Case(sets("loss.desirable_weight=0", "loss.undesirable_weight=0"), ["both 0.0"]),
    Case(sets("loss.name=dpo", "loss.desirable_weight=2"), ["compares pairs", "no effect"]),
    Case(
        sets("loss.name=sft", "loss.undesirable_weight=2"), ["learns from desirable", "no effect"]
    ),
    Case(sets("loss.name=npo", "loss.desirable_weight=0"), ["from undesirable", "no effect"]),
    Case(sets("loss.name=sft", "loss.desirable_weight=0"), ["learns from desirable", "nothing"]),
    Case(sets("loss.name=npo", "loss.undesirable_weight=0"), ["from undesirable", "nothing"]),
    Case(sets("data.pairs=one"), ["loss.name=kto compares no pairs"]),
    Case(sets("loss.name=bco", "loss.z0.estimator=adaptive"), ["bco estimates no z0"]),
    Case(sets("loss.name=humanline", "loss.clip_low=1"), ["stands at 0.0", "below 0.0"]),
    Case(
        sets("loss.name=ppo_offline", "loss.clip_high=0.5"),
        ["stands at 1.0", "all would be clipped"],
    ),
    Case(sets("loss.name=ppo_offline", "loss.clip_low=4"), ["give a low below the high"]),
]


@pytest.mark.parametrize("case", SETTINGS, ids=lambda case: repr(case.words[0]))
def test_settings_that_cannot_be_used_are_refused(
    case: Case, check: Callable[[Case], None]
) -> None:
    check(case)


def feedback(content: str | bytes, name: str = "f.jsonl") -> Files:
    return {name: content}


def record(**changes: object) -> Files:
    """A file whose second record has other values; a key of ... is left out."""
    row = {"prompt": "a", "completion": "b", "label": True, **changes}
    kept = {key: value for key, value in row.items() if value is not ...}
    return feedback(f"{RECORD}\n{json.dumps(kept)}\n")


F = "check f.jsonl"
TRAIN_F = "train f.jsonl --model {model} --out run"
ONE_PROMPT = (RECORD + "\n") * 3
FEEDBACK = [
    Case(F, ["f.jsonl: there is no such file"]),
    Case("check no.parquet", ["no.parquet: there is no such file"]),
    Case("check .", [".: the name of a feedback file must end in one of .jsonl"]),
    Case("check d.jsonl", ["d.jsonl: is a folder. Name a file in it"], {"d.jsonl/x": ""}),
    Case("check d.parquet", ["d.parquet: is a folder"], {"d.parquet/x": ""}),
    Case("check f.txt", ["f.txt: the name of a feedback file must end in"], feedback("", "f.txt")),
    Case(F, ["f.jsonl: the file holds no records", "at least 1"], feedback("")),
    Case(F, ["f.jsonl: the file holds no records"], feedback("\n\n \n")),
    Case(F, ["f.jsonl:2: not JSON", "starts '{oops'"], feedback(RECORD + "\n{oops\n")),
    Case(F, ["f.jsonl:1: not JSON", "one JSON object per line"], feedback('{\n"prompt": 1}')),
    Case(F, ["f.jsonl:1: must be a JSON object, but is [1]"], feedback("[1]\n")),
    Case(F, ["f.jsonl:1: not UTF-8: byte 0xff at column 1"], feedback(RECORD.encode("utf-16"))),
    Case(F, ["f.jsonl:1: not UTF-8: byte 0xe9"], feedback('{"prompt": "é"}'.encode("latin-1"))),
    Case(F, ["the gzip file is cut or damaged"], feedback(gzip.compress(GOOD.encode())[:-9])),
    Case("check f.parquet", ["not a readable Parquet file"], feedback("PAR1", "f.parquet")),
    Case(F, ["f.jsonl:2: \"prompt\" is missing; the keys found: 'completion'"], record(prompt=...)),
    Case(F, ['f.jsonl:2: "completion" is missing'], record(completion=...)),
    Case(F, ['f.jsonl:2: "label" is missing; it must be true or false'], record(label=...)),
    Case(
        F, ["\"label\" must be true or false, but is 'yes'", "without quotes"], record(label="yes")
    ),
    Case(F, ["must be true or false, but is 2"], record(label=2)),
    Case(F, ["must be true or false, but is None"], record(label=None)),
    Case(F, ['"prompt" must be text or a list of messages, but is None'], record(prompt=None)),
    Case(F, ['"prompt" must be text or a list of messages, but is 5'], record(prompt=5)),
    Case(F, ['"completion" is empty'], record(completion="")),
    Case(F, ['"completion" is empty'], record(completion=" \n")),
    Case(F, ['"completion" is empty'], record(completion=[])),
    Case(
        F,
        ['"prompt" is text and "completion" is a list'],
        record(completion=[{"role": "assistant", "content": "b"}]),
    ),
    Case(F, ['message 1 of "prompt"', '"role" must be a name'], record(prompt=[{"content": "a"}])),
    Case(F, ['"content" must be text, but is 5'], record(prompt=[{"role": "user", "content": 5}])),
    Case(F, ['"weight" must be a finite number >= 0, but is -1'], record(weight=-1)),
    Case(F, ["\"weight\" must be a finite number >= 0, but is '1'"], record(weight="1")),
    Case(F, ['"time" must be ISO 8601', "but is 'noon'"], record(time="noon")),
    Case(F, ['"tools" must hold JSON'], record(tools="{")),
    Case(F, ['"id" must be text, but is 7'], record(id=7)),
    Case(F, ["One file holds one kind"], feedback(RECORD + "\n" + CHAT)),
    Case(TRAIN_F, ["f.jsonl: there is no such file"]),
    Case(TRAIN_F, ["share one prompt", "Set loss.z0.estimator=zero"], feedback(ONE_PROMPT)),
    Case(
        f"{TRAIN_F} --set loss.name=kto_noref",
        ["share one prompt", "Choose another loss or bring more"],
        feedback(ONE_PROMPT),
    ),
    Case(
        f"{TRAIN_F} --set data.max_tokens=4",
        ["no row is left of 2 records: too_long 2; raise data.max_tokens (now 4)"],
        feedback(CHAT + CHAT.replace('"a"', '"c"')),
        late=True,
    ),
    Case(sets("data.heldout_fraction=0.9999"), ["every conversation is held out"], late=True),
    Case(sets("data.exclude=no.txt"), ["data.exclude: no.txt: cannot be read", "record id per"]),
    Case(sets("data.chat_template=no.jinja"), ["'no.jinja' is neither built in nor a file"]),
    Case(sets("loss.name=no_such_module:f"), ["'no_such_module:f' cannot be imported"]),
    Case(
        sets("loss.name=broken:f"),
        ["'broken:f' cannot be imported (SyntaxError"],
        {"broken.py": "def f(:\n"},
    ),
]


@pytest.mark.parametrize("case", FEEDBACK, ids=lambda case: repr(case.words[0]))
def test_feedback_that_cannot_be_used_is_refused(case: Case, check: Callable[[Case], None]) -> None:
    check(case)


CHOSEN = '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
IMPORT = "import p.jsonl --out out.jsonl"
IMPORTS = [
    Case(IMPORT, ["p.jsonl: there is no such file"]),
    Case("import p.jsonl --out out.txt", ["out.txt: the name", ".jsonl"], feedback("", "p.jsonl")),
    Case(IMPORT, ["p.jsonl: the file is empty"], feedback("", "p.jsonl")),
    Case(
        IMPORT, ["no known tool's export", "keys: 'x'", "--from"], feedback('{"x": 1}', "p.jsonl")
    ),
    Case(
        IMPORT + " --from nobody",
        ["--from: 'nobody' is no known tool. Allowed: anythingllm"],
        feedback(CHOSEN, "p.jsonl"),
    ),
    Case(
        "import p.jsonl --out p.jsonl",
        ["--out: p.jsonl is a source of this import"],
        feedback(CHOSEN, "p.jsonl"),
    ),
    Case(
        "import p.jsonl --out d.jsonl",
        ["d.jsonl: cannot be written, it is a folder"],
        {"p.jsonl": CHOSEN, "d.jsonl/x": ""},
    ),
    Case(
        "import p.jsonl --out good.jsonl/x.jsonl",
        ["cannot be written", "good.jsonl is a file"],
        feedback(CHOSEN, "p.jsonl"),
    ),
    Case(
        f"import p.jsonl --out {'x' * 300}.jsonl",
        ["cannot be written", "too long"],
        feedback(CHOSEN, "p.jsonl"),
    ),
    Case(
        "import p.jsonl --out new/dir/out.jsonl",
        ["p.jsonl:2: not JSON"],
        feedback(CHOSEN + "{", "p.jsonl"),
    ),
    Case(
        IMPORT,
        ["nothing is left to import: answer of a pair whose two answers are the same (2)"],
        feedback('{"prompt": "a", "chosen": "b", "rejected": "b"}', "p.jsonl"),
    ),
    Case(
        "import d --out out.jsonl",
        ["d: no file to import in this folder; found: .md file (1)"],
        {"d/notes.md": "x"},
    ),
    Case(
        "import d --out out.jsonl",
        ["d/x.json: no known tool's export", "Move it out of d, or name the files"],
        {"d/p.jsonl": CHOSEN, "d/x.json": '[{"x": 1}]'},
    ),
]


@pytest.mark.parametrize("case", IMPORTS, ids=lambda case: repr(case.words[0]))
def test_an_import_that_cannot_be_made_is_refused(
    case: Case, check: Callable[[Case], None]
) -> None:
    check(case)


RUN: Files = {
    "run/config.yaml": "model: {name_or_path: m}\n",
    "run/data.json": '{"feedback": {"path": "f", "sha256": ""}, "today": "2026-01-01", '
    '"policy": {"weight_sha256": ""}}',
}
RESUME = "train --resume run"
NAMED = "model: {name_or_path: m}\n"
FOLDERS = [
    Case(TRAIN, ["run: is a file; give --out a new folder"], {"run": ""}),
    Case(TRAIN, ["run: exists and is not empty; give --out another folder"], {"run/x": ""}),
    Case(TRAIN, ["continue it with: thumbs train --resume run"], RUN),
    Case("train good.jsonl --model {model} --out good.jsonl/run", ["good.jsonl is a file"]),
    Case(RESUME, ["run: no such folder", "thumbs train --out made"]),
    Case("train --resume good.jsonl", ["good.jsonl: is a file, not a run folder"]),
    Case(RESUME, ["run: is not a run folder (no config.yaml)"], {"run/x": ""}),
    Case(RESUME + " --out other", ["--resume: reads everything from the run; give it alone"]),
    Case(RESUME + " --set train.seed=1", ["--resume: reads everything from the run"]),
    Case(RESUME, ["run/data.json: is missing"], {"run/config.yaml": ""}),
    Case(
        RESUME,
        ["run/config.yaml: train.epochs is 'x'"],
        RUN | {"run/config.yaml": "train: {epochs: x}"},
    ),
    Case(RESUME, ["run/data.json: is not JSON"], RUN | {"run/data.json": "{"}),
    Case(
        RESUME,
        ["data.json: feedback.path must be text, but is None"],
        RUN | {"run/data.json": "[]"},
    ),
    Case(RESUME, ["feedback file f is missing"], RUN),
    Case("train good.jsonl --model {model} --out /", ["/: exists and is not empty"]),
    Case("eval empty", ["empty: is neither a run", "nor a model"], {"empty/x": ""}),
    Case("eval good.jsonl", ["good.jsonl: is a file"]),
    Case("eval ./none", ["./none: no such folder"]),
    Case("eval {model}", ["is a model, not a run; give a run folder", "--reference"]),
    Case("eval nowhere", ["nowhere: is no folder here; give a run folder"]),
    Case("train good.jsonl --model m/nosuch --out run", ["m/nosuch: no such folder"], {"m/a": ""}),
    Case("eval run", ["run/data.json: is missing"], {"run/config.yaml": NAMED}),
    Case("audit nowhere", ["nowhere: no such folder. Give a folder that thumbs train --out made"]),
    Case("audit good.jsonl", ["good.jsonl: is a file"]),
    Case("audit {model}", ["is a model, not a run. An audit needs the rows"]),
    Case("audit run --top 0", ["--top is '0'", "greater than or equal to 1"]),
    Case("audit run", ["run/data.json: is missing"], {"run/config.yaml": NAMED}),
    Case("audit run", ["has not finished", "thumbs train --resume run"], RUN),
    Case("report empty", ["empty: is not a run folder (no config.yaml)"], {"empty/x": ""}),
    Case("report good.jsonl", ["good.jsonl: is a file, not a run folder"]),
    Case("report none", ["none: no such folder"]),
    Case("report run", ["run/metrics.jsonl:1: not JSON"], RUN | {"run/metrics.jsonl": "{\n"}),
    Case(
        "report run",
        ['metrics.jsonl:1: must be an object of numbers with a "step"'],
        RUN | {"run/metrics.jsonl": "[1]\n"},
    ),
    Case(
        "report run",
        ["0.loss is 'x', but should be a valid number"],
        RUN | {"run/metrics.jsonl": '{"step": 1, "loss": "x"}\n'},
    ),
    Case(
        "report run",
        ["summary.json: holds list, must be an object"],
        RUN | {"run/summary.json": "[]"},
    ),
    Case(
        "report run",
        ["heldout.after.auc is '1'"],
        RUN | {"run/summary.json": '{"heldout": {"after": {"auc": "1"}}}'},
    ),
    Case("report run --out good.jsonl", ["exists and is no page"], RUN),
    Case("report run --out run", ["is a folder, must be a file"], RUN),
    Case("report run --out good.jsonl/page.html", ["good.jsonl is a file"], RUN),
]


@pytest.mark.parametrize("case", FOLDERS, ids=lambda case: repr(case.words[0]))
def test_a_folder_that_cannot_be_used_is_refused(case: Case, check: Callable[[Case], None]) -> None:
    check(case)


def cut(name: str) -> Callable[[Path], object]:
    """Keep the first half of a file of the model."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-200][:900])


def without(*names: str) -> Callable[[Path], object]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def changed(name: str, **values: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**found, **values}))

    return change


def emptied(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODELS: list[tuple[str, Callable[[Path], object], list[str]]] = [
    ("no tokenizer", without(*TOKENIZER), ["m: holds no tokenizer (tokenizer.json, ", "--set"]),
    ("no weights", without(WEIGHTS), ["m: holds no weights (*.safetensors)"]),
    ("pickle", pickled, ["m: holds pickle weights only (pytorch_model.bin)", "Convert them"]),
    ("no config", without(CONFIG), ["m: holds no config.json"]),
    ("cut config", cut(CONFIG), ["m/config.json: is not readable JSON", "again"]),
    ("cut weights", cut(WEIGHTS), ["m/model.safetensors: is cut or damaged", "again"]),
    ("cut tokenizer", cut("tokenizer.json"), ["m/tokenizer.json: is not readable JSON"]),
    ("empty tokenizer", emptied, ["m/tokenizer.json: 'added_tokens' is missing", "again"]),
    ("odd tokenizer", changed("tokenizer.json", model=5), ["the tokenizer cannot be loaded"]),
    ("odd config", changed(CONFIG, hidden_size="x"), ["m: the", "cannot be loaded"]),
    ("no kind", changed(CONFIG, model_type="none"), ["m: the", "cannot be loaded"]),
    ("list", lambda folder: (folder / CONFIG).write_text("[]"), ["must hold a JSON object"]),
]


@pytest.mark.parametrize(("damage", "words"), [m[1:] for m in MODELS], ids=[m[0] for m in MODELS])
def test_a_model_that_cannot_be_used_is_refused(
    damage: Callable[[Path], object],
    words: list[str],
    model: Path,
    tmp_path: Path,
    check: Callable[[Case], None],
) -> None:
    shutil.copytree(model, tmp_path / "m")
    damage(tmp_path / "m")
    late = "cannot be loaded" in words[-1]
    check(Case("train good.jsonl --model m --out run", words, late=late))


NAMES = [
    Case("train good.jsonl --model ./none --out run", ["./none: no such folder", "hub id"]),
    Case("train good.jsonl --model good.jsonl --out run", ["good.jsonl: is a file"]),
    Case("check good.jsonl --model ./none", ["./none: no such folder"]),
    Case(sets("model.tokenizer=./none"), ["./none: no such folder"]),
    Case(sets("model.reference=./none"), ["./none: no such folder"]),
    Case(sets("model.attn_implementation=flsh"), ["'flsh' is unknown; allowed: ", "sdpa"]),
    Case(
        sets("model.attn_implementation=flex_attention"), ["'flex_attention' is unknown; allowed"]
    ),
]


@pytest.mark.parametrize("case", NAMES, ids=lambda case: repr(case.words[0]))
def test_a_model_that_is_not_there_is_refused_before_any_work(
    case: Case, check: Callable[[Case], None]
) -> None:
    check(case)


def test_messages_without_a_template_are_refused(
    tmp_path: Path, check: Callable[[Case], None]
) -> None:
    save_tiny(tmp_path / "m", "llama", tokenizer=tiny_tokenizer(chat_template=None))
    chat = feedback(CHAT + CHAT.replace('"a"', '"c"'))
    words = ["data.chat_template is not set", "try --set data.chat_template=chatml"]
    check(Case("train f.jsonl --model m --out run", words, chat))


ONE_LABEL = feedback(RECORD + "\n" + RECORD.replace('"a"', '"c"'))


def test_a_loss_that_needs_both_labels_refuses_one(
    check: Callable[[Case], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    needy = replace(LOSS_TABLE["kto"], both_labels=True)
    monkeypatch.setitem(LOSS_TABLE, "kto", needy)
    words = ["f.jsonl: the loss kto needs both labels, but every training row is desirable"]
    check(Case(TRAIN_F, words, ONE_LABEL))


def test_likelihood_of_desirable_answers_refuses_data_without_any(
    check: Callable[[Case], None],
) -> None:
    text = str(ONE_LABEL["f.jsonl"]).replace("true", "false")
    words = ["f.jsonl: the loss sft learns from desirable rows only, but every training row is un"]
    check(Case(f"{TRAIN_F} --set loss.name=sft", words, feedback(text)))


def test_kto_takes_one_label_and_warns(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.jsonl").write_bytes(bytes(str(ONE_LABEL["f.jsonl"]), "utf-8"))
    monkeypatch.chdir(tmp_path)
    argv = ["thumbs", *TRAIN_F.format(model=model).split(), "--set", "data.heldout_fraction=0"]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert "warning: every training row is desirable" in capsys.readouterr().err
    assert (tmp_path / "run" / "summary.json").is_file()


SUBPROCESS = [
    ("trian", "thumbs: 'trian' is no verb; the nearest is train"),
    ("check none.jsonl", "none.jsonl: there is no such file"),
    ("train none.jsonl --model m --out run --set foo=1", "--set: unknown key 'foo'"),
]


@pytest.mark.parametrize(("command", "words"), SUBPROCESS)
def test_a_process_of_its_own_ends_the_same_way_with_stdin_closed(
    command: str, words: str, tmp_path: Path
) -> None:
    line = [sys.executable, "-m", "thumbs", *command.split()]
    script = shlex.join(line) + " <&-"
    environment = {**os.environ, "PYTHONPATH": str(Path(thumbs.__file__).parents[1])}
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {words}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_what_may_not_be_read_or_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.jsonl").write_text(RECORD)
    Path("f.jsonl").chmod(0)
    Path("closed").mkdir(mode=0o500)
    assert "f.jsonl: cannot be read: Permission" in error_of(F.split(), monkeypatch, capsys)
    Path("f.jsonl").chmod(0o600)
    argv = ["import", "f.jsonl", "--out", "closed/out.jsonl"]
    assert "closed is read-only" in error_of(argv, monkeypatch, capsys)


def test_a_reference_that_cannot_be_loaded_leaves_no_run(
    tmp_path: Path, model: Path, check: Callable[[Case], None]
) -> None:
    shutil.copytree(model, tmp_path / "other")
    changed(CONFIG, hidden_size="x")(tmp_path / "other")
    words = ["other: the model cannot be loaded"]
    check(Case(sets("model.reference=other"), words, late=True))


def test_an_error_of_a_very_long_name_keeps_what_to_do(check: Callable[[Case], None]) -> None:
    check(Case(f"check {'x' * 9000}.jsonl", ["xxx ... xxx", "File name too long"]))


def test_control_characters_of_the_data_do_not_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = {"prompt": "a", "completion": "b", "label": True, "model": "\x1b[31mred[bold]"}
    Path("f.jsonl").write_text(json.dumps(answer) + "\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["thumbs", "check", "f.jsonl"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\\x1b[31mred[bold]" in printed
