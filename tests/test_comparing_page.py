"""The commands of docs/comparing.md print what the page shows."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thumbs.cli import app


def test_the_commands_of_the_page_print_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "comparing.md").read_text(encoding="utf-8")
    prompts, pairs = re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (rules,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("my_rules.py").write_text(rules, encoding="utf-8")
    Path("prompts.jsonl").write_text(prompts, encoding="utf-8")
    Path("pairs.jsonl").write_text(pairs, encoding="utf-8")
    questions = [json.loads(line)["prompt"] for line in prompts.splitlines()]
    for name, answers in (("a", ["4", "Red.", "Hello, you!"]), ("b", ["Four.", "Scarlet.", "Hi!"])):
        lines = [{"prompt": q, "completion": x} for q, x in zip(questions, answers, strict=True)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    commands = re.findall(
        r"^```console\n\$ thumbs (.*?)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE
    )
    assert [command.split()[0] for command, _ in commands] == ["compare", "judge-check"]
    for command, shown in commands:
        result = CliRunner().invoke(app, command.split())
        assert result.exit_code == 0, result.exception
        words = [re.escape(word).replace(re.escape("..."), ".*") for word in shown.split()]
        assert re.fullmatch(r"\s*".join(words), result.stdout.strip(), re.DOTALL), result.stdout
