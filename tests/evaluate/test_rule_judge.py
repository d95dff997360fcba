"""A rule is called with texts; what it returns or raises beside a verdict is told in one line."""

from pathlib import Path

import pytest

from thumbs.errors import ConfigError
from thumbs.evaluate.judging import Question
from thumbs.evaluate.rule_judge import RuleJudge, load_rule


def longer(prompt: str, first: str, second: str) -> str | None:
    if not prompt:
        raise ValueError("no\nprompt")
    return "first" if len(first) > len(second) else None


def test_a_verdict_and_none() -> None:
    judge = RuleJudge("x:longer", longer)
    long, short = judge.judge([Question("q", "long", "s"), Question("q", "s", "long")])
    assert (long.verdict, short.verdict) == ("first", None)
    assert "no verdict" in short.reason


def test_what_a_rule_raises_is_one_line_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"--judge x:longer: raised ValueError .*\.py:\d+ on"):
        RuleJudge("x:longer", longer).judge([Question("", "a", "b")])


MODULE = """
print("imported")
def prints(prompt, first, second):
    print("noise")
    return "first"
def exits(prompt, first, second):
    raise SystemExit(3)
def interrupts(prompt, first, second):
    raise KeyboardInterrupt
def two(prompt, answer):
    return "first"
async def awaits(prompt, first, second):
    return "first"
class Awaits:
    async def __call__(self, prompt, first, second):
        return "first"
class Counts:
    def __call__(self, prompt, first, second="", /, *, strict=False):
        return "second"
awaiting, counting = Awaits(), Counts()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with odd rules, on the path."""
    name = f"odd_rules_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_what_a_rule_prints_goes_to_stderr(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_rule(f"{module}:prints").judge([Question("q", "a", "b")])[0].verdict == "first"
    assert capsys.readouterr() == ("", "imported\nnoise\n")


def test_a_rule_that_exits_is_told_and_ctrl_c_is_passed_on(module: str) -> None:
    with pytest.raises(ConfigError, match=r"exits: raised SystemExit \(3\) at .*\.py:7 on the"):
        load_rule(f"{module}:exits").judge([Question("q", "a", "b")])
    with pytest.raises(KeyboardInterrupt):
        load_rule(f"{module}:interrupts").judge([Question("q", "a", "b")])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two", r"two: takes \(prompt, answer\), which three texts do not fit. It is called as"),
        ("awaits", "awaits: is an async function"),
        ("awaiting", "awaiting: is an async function"),
    ],
)
def test_a_rule_that_cannot_be_called_with_three_texts_is_refused_unasked(
    name: str, words: str, module: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load_rule(f"{module}:{name}")


def test_an_object_and_a_function_in_c_may_be_rules(module: str) -> None:
    judge = load_rule(f"{module}:counting")
    assert judge.judge([Question("q", "a", "b")])[0].verdict == "second"
    assert load_rule("builtins:max").name == "builtins:max"  # tells no signature


def test_a_module_that_fails_as_it_is_imported_is_told(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("\n1 / 0\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"importing it raised ZeroDivisionError .*\.py:2; corr"):
        load_rule(f"{module}:prints")
