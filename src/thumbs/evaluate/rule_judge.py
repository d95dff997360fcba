"""A Python function as judge: `module:function`, called with prompt, first and second.

In: questions. Out: judgements. The function gets the prompt as text, both answers in the order
shown, and returns "first", "second", "tie" or None. What it prints goes to stderr.
"""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

from thumbs.errors import ConfigError, shown
from thumbs.evaluate.judging import VERDICTS, Judgement, Question, Verdict, text_of

NO_VERDICT = "the rule gave no verdict"
CALLED = "It is called as function(prompt, first, second)"

Rule = Callable[[str, str, str], object]


@dataclass(frozen=True)
class RuleJudge:
    """A rule by its name."""

    name: str
    rule: Rule
    sees_order: bool = True

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        return [self._judge(question) for question in questions]

    def _judge(self, question: Question) -> Judgement:
        prompt = text_of(question.prompt)
        try:
            with redirect_stdout(sys.stderr):
                found = self.rule(prompt, question.first, question.second)
        except (Exception, SystemExit) as error:  # noqa: BLE001, a user's function may raise any
            raise ConfigError(
                f"--judge {self.name}: {_raised(error)} on the prompt {shown(prompt)}. {CALLED}"
            ) from None
        return Judgement(self._verdict(found), "" if found is not None else NO_VERDICT)

    def _verdict(self, found: object) -> Verdict | None:
        for verdict in VERDICTS:
            if found == verdict:
                return verdict
        if found is None:
            return None
        raise ConfigError(
            f"--judge {self.name}: returned {shown(found)}; allowed are {', '.join(VERDICTS)} "
            "and None"
        )


def load_rule(name: str) -> RuleJudge:
    """The function `module:function`.

    Raises:
        ConfigError: there is no such module or function, or it cannot be called with three texts.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name or module_name.startswith("."):
        raise ConfigError(f"--judge {name}: is not of the form package.module:function")
    try:
        with redirect_stdout(sys.stderr):
            module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"--judge {name}: cannot be imported ({error}); install the module or put its folder "
            "on PYTHONPATH"
        ) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001, as above
        raise ConfigError(
            f"--judge {name}: importing it {_raised(error)}; correct {module_name}"
        ) from None
    rule = getattr(module, function_name, None)
    if not callable(rule):
        raise ConfigError(
            f"--judge {name}: {module_name} has no function {function_name!r}; define it there, or "
            "correct the name"
        )
    _require_callable(name, rule)
    return RuleJudge(name, rule)


def _require_callable(name: str, rule: Callable[..., object]) -> None:
    """Refuse, before anything is generated, what three texts cannot be given to or who awaits."""
    if inspect.iscoroutinefunction(rule) or inspect.iscoroutinefunction(type(rule).__call__):
        raise ConfigError(f"--judge {name}: is an async function; define it without async")
    try:
        signature = inspect.signature(rule)
    except ValueError:  # some functions written in C tell none
        return
    try:
        signature.bind("", "", "")
    except TypeError:
        raise ConfigError(
            f"--judge {name}: takes {signature}, which three texts do not fit. {CALLED}"
        ) from None


def _raised(error: BaseException) -> str:
    """What a user's code raised, and the last place of it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())[:200]
    return f"raised {type(error).__name__} ({said}) at {frame.filename}:{frame.lineno}"
