"""A rule is called with texts; what it returns or raises beside a verdict is told in one line."""

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
    with pytest.raises(ConfigError, match=r"--judge os:system: raised TypeError"):
        load_rule("os:system").judge([Question("q", "a", "b")])
