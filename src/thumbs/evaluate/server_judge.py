"""A language model behind an OpenAI-compatible server as judge.

In: questions. Out: judgements, kept in a journal. The request is written by a Jinja template; the
verdict is read strictly: a reply without exactly one of [[A]], [[B]], [[C]] has none.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from thumbs.errors import ConfigError
from thumbs.evaluate.chat_server import ChatServer
from thumbs.evaluate.journal import Journal, content_key
from thumbs.evaluate.judging import Judgement, Question, Verdict, text_of
from thumbs.evaluate.paid_work import Outcome, do_paid
from thumbs.files import sha256_bytes

UNPARSED = "no verdict in the reply"
REFUSED = "refused by the server"
MARKS: dict[str, Verdict] = {"A": "first", "B": "second", "C": "tie"}
_MARK = re.compile(r"\[\[([ABC])\]\]")
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_PROBE = ("7c1f-prompt", "7c1f-first", "7c1f-second")  # what no template holds itself


@dataclass(frozen=True)
class JudgeTemplate:
    """A request to a judge: Jinja source with the variables prompt, first and second."""

    source: str

    @property
    def sha256(self) -> str:
        return sha256_bytes(self.source.encode())

    def render(self, question: Question) -> str:
        environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False)
        template = environment.from_string(self.source)
        return template.render(
            prompt=text_of(question.prompt), first=question.first, second=question.second
        )


@dataclass(frozen=True)
class ServerJudge:
    """A model on a server, its template, and where its judgements are kept."""

    server: ChatServer
    template: JudgeTemplate
    journal: Journal
    concurrency: int
    max_tokens: int

    @property
    def name(self) -> str:
        return f"{self.server.model} at {self.server.endpoint}"

    @property
    def sees_order(self) -> bool:
        return True

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        keys = [self._key(question) for question in questions]
        refusals = do_paid(
            self._ask,
            dict(zip(keys, questions, strict=True)),
            self.journal,
            concurrency=self.concurrency,
            title="judging",
            unit="judgements",
            give_up=self.server.stop.set,
        )
        return [
            Judgement(None, REFUSED, refusals[key])
            if key in refusals
            else Judgement(**(self.journal.get(key) or {}))
            for key in keys
        ]

    def _key(self, question: Question) -> str:
        server, settings = self.server, [self.max_tokens, dict(self.server.options)]
        judge = [server.endpoint, server.model, self.template.sha256, settings]
        return content_key(judge, question.prompt, question.first, question.second)

    def _ask(self, question: Question) -> Outcome:
        messages = [{"role": "user", "content": self.template.render(question)}]
        reply = self.server.reply(messages, temperature=0, max_tokens=self.max_tokens)
        if reply.refusal:
            return Outcome({}, reply.refusal)
        verdict = parse_verdict(reply.text)
        reason = "" if verdict else UNPARSED
        judgement = Judgement(
            verdict, reason, reply.text, reply.prompt_tokens, reply.completion_tokens
        )
        return Outcome(asdict(judgement))


def parse_verdict(reply: str) -> Verdict | None:
    """The one verdict of a reply; None where it names none, or more than one.

    What stands between <think> and </think> does not count.

    >>> parse_verdict("B is wrong.\\n[[A]]"), parse_verdict("[[A]] or [[B]]?"), parse_verdict("A")
    ('first', None, None)
    """
    marks = set(_MARK.findall(_THOUGHT.sub("", reply)))
    return MARKS[marks.pop()] if len(marks) == 1 else None


def load_judge_template(path: Path | None) -> JudgeTemplate:
    """The template of a file, or the one that comes with thumbs.

    Raises:
        ConfigError: no such file, no Jinja, or one that leaves out the prompt or an answer.
    """
    if path is None:
        packaged = files("thumbs.evaluate").joinpath("templates", "pairwise.jinja")
        return JudgeTemplate(packaged.read_text(encoding="utf-8"))
    try:
        template = JudgeTemplate(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"--template: {path} cannot be read: {why}. Give a Jinja file.") from None
    try:
        shown = template.render(Question(*_PROBE))
    except TemplateError as error:
        line = f", line {error.lineno}" if hasattr(error, "lineno") else ""
        raise ConfigError(
            f"--template: {path}{line}: {error.message}; the variables are prompt, first, second"
        ) from None
    names = ("prompt", "first", "second")
    missing = [name for name, text in zip(names, _PROBE, strict=True) if text not in shown]
    if missing:
        raise ConfigError(
            f"--template: {path} never shows {{{{ {missing[0]} }}}}; a judge must see "
            "prompt, first and second"
        )
    return template
