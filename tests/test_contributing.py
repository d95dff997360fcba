"""The two worked examples of CONTRIBUTING.md, applied to a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COPIED = ("src", "tests", "docs", "README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml")
FIXTURE = "tests/fixtures/helpdesk.jsonl"
TOUCHED = (
    "tests/core/test_squared.py",
    "tests/feedback/sources/test_helpdesk.py",
    "tests/feedback/test_importing.py",
    "tests/feedback/test_tools.py",
    "tests/test_layers.py",
    "tests/test_config.py",
    "tests/test_readme.py::test_formats_named_are_those_that_import_reads",
    "tests/test_readme.py::test_file_tree_names_every_module_in_path_order",
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def apply(diff: str, root: Path) -> None:
    """Replace the lines a diff shows as they are by those it shows as they become."""
    _, target, *lines = diff.splitlines()
    file = root / target.removeprefix("+++ b/")
    before = "".join(f"{line[1:]}\n" for line in lines if line[0] != "+")
    after = "".join(f"{line[1:]}\n" for line in lines if line[0] != "-")
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{target} does not hold these lines once:\n{before}"
    file.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with both examples carried out."""
    root = tmp_path_factory.mktemp("repository")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    for block in blocks("python"):
        path, _, content = block.partition("\n")
        (root / path.removeprefix("# ")).write_text(content, encoding="utf-8")
    (export,) = blocks("json")
    assert f"`{FIXTURE}`" in PAGE
    (root / FIXTURE).write_text(export, encoding="utf-8")
    for diff in blocks("diff"):
        apply(diff, root)
    return root


def test_the_examples_pass_the_tests_they_touch(changed: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(changed / "src"), "OMP_NUM_THREADS": "1"}
    # Seconds, and nothing the examples could change.
    slow = "loads_no_torch or loads_no_package or shared"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-k", f"not ({slow})", *TOUCHED]
    done = subprocess.run(command, cwd=changed, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_examples_are_as_the_linter_wants_them(changed: Path) -> None:
    written = [block.partition("\n")[0].removeprefix("# ") for block in blocks("python")]
    edited = re.findall(r"^\+\+\+ b/(.*\.py)$", PAGE, re.MULTILINE)
    for arguments in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", *written, *edited]
        done = subprocess.run(command, cwd=changed, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_commands_named_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"(?:`|\$ )make ([a-z-]+)", PAGE)
    assert {"install-dev", "test", "docs"} <= set(named)
    assert [name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
