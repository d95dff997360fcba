"""The README's commands, formats, settings and file tree hold as written."""

import gzip
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import thumbs
from thumbs.cli import app
from thumbs.config import load_config
from thumbs.demo.embedded import feedback_log
from thumbs.feedback.file import read_feedback
from thumbs.feedback.tools import SOURCES
from thumbs.models.tiny import save_tiny
from thumbs.runs.rundir import RunDir, read_metrics

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FORMAT_PAGE = (ROOT / "docs" / "feedback-format.md").read_text(encoding="utf-8")
NUM_VOTES = 48  # of the export the README's outputs come from


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def commands(program: str) -> Iterator[tuple[list[str], str]]:
    """The arguments of every command of the console blocks, and the output shown below it."""
    for block in blocks(README, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            name, *arguments = shlex.split(line)
            if name == program:
                yield arguments, output


def require_shown(shown: str, printed: str) -> None:
    """`...` in the README stands for anything; line breaks follow the width of the terminal."""
    words = [re.escape(word).replace(re.escape("..."), ".*") for word in shown.split()]
    pattern = r"\s*".join(words)
    assert re.fullmatch(pattern, printed.strip(), re.DOTALL), f"shown:\n{shown}\nis:\n{printed}"


def interrupt_after_first_epoch(run: RunDir) -> None:
    """Leave the finished run as a kill in its last epoch leaves it."""
    for path in (run.summary, run.report, run.model / "model.safetensors"):
        path.unlink()
    last = max(run.checkpoints.iterdir())
    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    assert any(run.checkpoints.iterdir()), "nothing is left to resume from"


def test_every_command_of_the_readme_runs_and_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    votes = json.loads(gzip.decompress(feedback_log().read_bytes()))[:NUM_VOTES]
    Path("my-export.json").write_text(json.dumps(votes), encoding="utf-8")
    save_tiny(Path("my-model"), "llama")
    run = RunDir(Path("runs/first"))
    unbroken = b""
    verbs = []
    for arguments, shown in commands("thumbs"):
        if "--resume" in arguments:
            unbroken = (run.model / "model.safetensors").read_bytes()
            interrupt_after_first_epoch(run)
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (arguments, result.exception, result.stderr)
        require_shown(shown, result.stdout)
        verbs.append(arguments[0])
    assert verbs == ["import", "check", "train", "train", "eval", "report", "audit"]
    for block in blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), {})
    (tree,) = (block for block in blocks(README, "text") if block.startswith("runs/first/"))
    shown_names = [line.split()[0] for line in tree.splitlines()[1:]]
    made = {f"{path.name}{'/' * path.is_dir()}" for path in run.path.iterdir()}
    assert sorted(shown_names) == sorted(made)
    assert (run.model / "model.safetensors").read_bytes() == unbroken
    assert [line["step"] for line in read_metrics(run.metrics)] == [1, 2, 3, 4]


def test_every_other_command_of_the_readme_names_what_the_makefile_makes() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [argument for arguments, _ in commands("make") for argument in arguments]
    assert targets == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "VENV := .venv\n" in makefile
    assert [arguments for arguments, _ in commands(".")] == [[".venv/bin/activate"]]
    known = sum(len(list(commands(program))) for program in ("thumbs", "make", "."))
    assert known == sum(block.count("$ ") for block in blocks(README, "console"))


@pytest.mark.parametrize("page", [README, FORMAT_PAGE], ids=["README", "feedback-format"])
def test_records_shown_are_feedback_files_as_they_stand(page: str, tmp_path: Path) -> None:
    shown = blocks(page, "json")
    assert shown
    for block in shown:
        file = tmp_path / "feedback.jsonl"
        file.write_text(block, encoding="utf-8")
        assert len(list(read_feedback(file))) == len(block.splitlines())


def test_formats_named_are_those_that_import_reads() -> None:
    assert re.findall(r"^\| `([a-z][a-z-]*)` \|", README, re.MULTILINE) == list(SOURCES)


def test_settings_shown_are_the_defaults(tmp_path: Path) -> None:
    whole, adapters = blocks(README, "yaml")
    file = tmp_path / "config.yaml"
    file.write_text(whole, encoding="utf-8")
    assert load_config(file) == load_config(None)
    file.write_text(adapters, encoding="utf-8")
    assert load_config(file) == load_config(None, ["model.lora={}"])


def test_file_tree_names_every_module_in_path_order() -> None:
    (tree,) = (block for block in blocks(README, "text") if block.startswith("src/thumbs/"))
    source = Path(thumbs.__file__).parent
    modules = (path for path in source.rglob("*.py") if path.name != "__init__.py")
    expected = sorted(path.relative_to(source).as_posix() for path in modules)
    assert [line.split()[0] for line in tree.splitlines()[1:]] == expected


def test_pages_linked_to_exist() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []
