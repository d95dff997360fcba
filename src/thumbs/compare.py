"""Which of two gives the better answers, and how far a judge can be trusted.

prompts -> answers of A and of B -> questions in both orders -> judgements -> win rate.
Assembles `thumbs compare` and `thumbs judge-check` from the parts in evaluate/.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from thumbs.budget import tokens_without_gradient
from thumbs.errors import ConfigError, FeedbackError, OutputError
from thumbs.evaluate.answers import Sampling, local_answers, server_answers
from thumbs.evaluate.chat_server import ChatServer, Patience, Role, chat_endpoint
from thumbs.evaluate.human_page import HumanJudge
from thumbs.evaluate.journal import open_journal
from thumbs.evaluate.judging import Judge, Judgement, Question
from thumbs.evaluate.known_pairs import judge_accuracy, read_known_pairs
from thumbs.evaluate.prompts_file import PromptItem, read_answers, read_prompts, targets_of
from thumbs.evaluate.reward_judge import RewardJudge
from thumbs.evaluate.rule_judge import load_rule
from thumbs.evaluate.server_judge import ServerJudge, load_judge_template
from thumbs.evaluate.winrate import Compared, win_rate
from thumbs.feedback.entries import ENTRY_ENDINGS
from thumbs.files import cache_folder, require_writable, write_bytes
from thumbs.model_or_run import model_or_run
from thumbs.models.load import load_model, pick_device
from thumbs.progress import console
from thumbs.runs.rundir import write_json

ANSWERS, JUDGEMENTS = "answers.jsonl", "judgements.jsonl"
COMPARISONS, SUMMARY = "comparisons.jsonl", "comparison.json"
TARGET, HUMAN = "target", "human"
NO_ANSWER = "a server refused the prompt"
JUDGES = "a server's http://HOST:PORT/v1, module:function, run:RUN, or human"


@dataclass(frozen=True)
class JudgeRequest:
    """Who judges, and how it is asked.

    judge: one of JUDGES. model: the name a server knows its model by. options: further keys of a
    server's request. prices: of a million tokens of prompts and of replies, in any currency.
    concurrency: requests under way at one time. seed: of the sides a person sees.
    """

    judge: str
    model: str | None = None
    template: Path | None = None
    max_tokens: int = 1024
    options: Mapping[str, Any] = field(default_factory=dict)
    prices: tuple[float, float] | None = None
    concurrency: int = 8
    patience: Patience = field(default_factory=Patience)
    seed: int = 0
    port: int = 0


@dataclass(frozen=True)
class CompareRequest:
    """What is compared: A and B are a model, an adapter, a run, a server's URL, a file, or target.

    a_model, b_model: the names servers know their models by. chat: plain prompts are messages of a
    user. limit: of the prompts. out: keeps answers, judgements and numbers.
    """

    a: str
    b: str
    prompts: Path
    judge: JudgeRequest
    a_model: str | None = None
    b_model: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    chat: bool = False
    chat_template: str | None = None
    limit: int | None = None
    out: Path | None = None


def run_comparison(request: CompareRequest) -> dict[str, Any]:
    """The win rate of A over B by a judge; see `winrate.win_rate` for the numbers.

    Raises:
        ThumbsError: whatever is wrong with the input, before anything is generated.
        Interrupted: a server gave no reply, or the user stopped; what has come is kept.
    """
    folder = _folder(request.out)
    dropped: Counter[str] = Counter()
    items = read_prompts(request.prompts, dropped, chat=request.chat, limit=request.limit)
    ready = {role: _ready_answers(role, request, items, dropped) for role, _, _ in _sides(request)}
    with _opened_judge(request.judge, folder) as judge:
        _tell_judged_judge(request)
        a, b = (
            _generated(role, request, items, folder) if found is None else found
            for role, found in ready.items()
        )
        repeated = [item for item in items for _ in range(request.sampling.samples)]
        compared, asked = _compared(repeated, a, b, judge)
    result = {
        "a": _shown_side(request.a, request.a_model),
        "b": _shown_side(request.b, request.b_model),
        "judge": judge.name,
        "prompts": str(request.prompts),
        **win_rate(compared),
        "dropped": dict(dropped),
        **_costs(asked, request.judge.prices),
        "sampling": asdict(request.sampling),
        "out": None if request.out is None else str(request.out),
    }
    if request.out is not None:
        _write_comparisons(folder / COMPARISONS, repeated, a, b, compared)
        write_json(folder / SUMMARY, result)
    return result


def check_judge(
    request: JudgeRequest, files: Sequence[Path], *, limit: int | None, out: Path | None
) -> dict[str, Any]:
    """How often a judge says what people said of the pairs of `files`.

    Raises:
        ThumbsError: as `run_comparison`.
    """
    folder = _folder(out)
    dropped: Counter[str] = Counter()
    pairs = read_known_pairs(files, dropped)[:limit]
    asked: dict[str, Judgement] = {}
    with _opened_judge(request, folder) as judge:
        numbers = judge_accuracy(_Recorded(judge, asked), pairs)
    result = {
        "judge": judge.name,
        "files": [str(path) for path in files],
        **numbers,
        "dropped": dict(dropped),
        **_costs(asked, request.prices),
        "out": None if out is None else str(out),
    }
    if out is not None:
        write_json(folder / "judge-check.json", result)
    return result


@dataclass(frozen=True)
class _Recorded:
    """A judge whose judgements are remembered by question, each distinct one once."""

    inner: Judge
    asked: dict[str, Judgement]

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def sees_order(self) -> bool:
        return self.inner.sees_order

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        found = self.inner.judge(questions)
        for question, judgement in zip(questions, found, strict=True):
            self.asked[repr(question)] = judgement
        return found


# ---- the judge


@contextmanager
def _opened_judge(request: JudgeRequest, folder: Path) -> Iterator[Judge]:
    """The judge that `request` names, its journal held open.

    Raises:
        ConfigError: it names none, or lacks something.
    """
    named = request.judge
    with ExitStack() as stack:
        if named == HUMAN:
            journal = stack.enter_context(open_journal(folder / JUDGEMENTS))
            yield HumanJudge(journal, request.seed, request.port)
        elif _is_url(named):
            template = load_judge_template(request.template)
            server = _server("judge", named, request.model, request)
            stack.callback(server.close)
            journal = stack.enter_context(open_journal(folder / JUDGEMENTS))
            yield ServerJudge(server, template, journal, request.concurrency, request.max_tokens)
        elif named.startswith("run:"):
            yield _reward_judge(named)
        elif ":" in named:
            yield load_rule(named)
        else:
            raise ConfigError(f"--judge: {named!r:.100} is no judge; allowed: {JUDGES}")


def _reward_judge(named: str) -> RewardJudge:
    subject = model_or_run(named.removeprefix("run:"))
    if subject.run is None:
        raise ConfigError(
            f"--judge {named}: is no run; a reward needs what it was trained from. Give run: and a "
            "folder that thumbs train --out made"
        )
    tokens = tokens_without_gradient(subject.config, pick_device())
    return RewardJudge(
        named, subject.config, subject.policy, subject.reference(None), subject.today, tokens
    )


def _server(role: Role, url: str, model: str | None, request: JudgeRequest) -> ChatServer:
    chat_endpoint(url)
    if not model:
        raise ConfigError(f"--{role}-model: is missing; name the model that {url} is to serve")
    options = request.options if role == "judge" else {}
    return ChatServer(url, model, role, request.patience, options)


def _tell_judged_judge(request: CompareRequest) -> None:
    """Say so where a side is what judges, which prefers what it has made."""
    judge = request.judge.judge
    for role, named, model in _sides(request):
        if judge.startswith("run:"):
            run = Path(judge.removeprefix("run:")).resolve()
            same = not _is_url(named) and Path(named).resolve() in (run, run / "model")
        else:
            asked = request.judge.model
            same = _is_url(judge) and _shown_side(judge, asked) == _shown_side(named, model)
        if same:
            console.print(
                f"--judge {judge}: is {role.upper()} itself, and prefers what it was trained to "
                "say. Take another judge",
                markup=False,
                soft_wrap=True,
            )


# ---- the answers


def _sides(request: CompareRequest) -> tuple[tuple[Role, str, str | None], ...]:
    return (("a", request.a, request.a_model), ("b", request.b, request.b_model))


def _ready_answers(
    role: Role, request: CompareRequest, items: Sequence[PromptItem], dropped: Counter[str]
) -> list[str] | None:
    """The answers of a side that has them ready; None where they are to be generated.

    Raises:
        ThumbsError: answers are missing, or what is to generate them is not there.
    """
    _, named, model = _sides(request)[role == "b"]
    samples = request.sampling.samples
    if named == TARGET:
        return targets_of(request.prompts, items, samples)
    if _is_url(named):
        _server(role, named, model, request.judge).close()
    elif Path(named).is_file():
        return read_answers(Path(named), items, samples, side=role.upper(), dropped=dropped)
    elif named.endswith(ENTRY_ENDINGS):
        raise FeedbackError(
            f"{named}: there is no such file. Give answers that are ready, or a model."
        )
    else:
        model_or_run(named)
    return None


def _generated(
    role: Role, request: CompareRequest, items: Sequence[PromptItem], folder: Path
) -> Sequence[str | None]:
    """The answers of a model or server, `samples` to each prompt, side by side."""
    _, named, model = _sides(request)[role == "b"]
    sampling = request.sampling
    with open_journal(folder / ANSWERS) as journal:
        if _is_url(named):
            server = _server(role, named, model, request.judge)
            try:
                concurrency = request.judge.concurrency
                return server_answers(server, items, sampling, journal, concurrency=concurrency)
            finally:
                server.close()
        subject = model_or_run(named)
        return local_answers(
            load_model(subject.policy, device=pick_device()),
            items,
            sampling,
            journal,
            chat_template=request.chat_template or subject.config.data.chat_template,
            today=subject.today,
        )


# ---- the comparisons


def _compared(
    items: Sequence[PromptItem],
    a: Sequence[str | None],
    b: Sequence[str | None],
    judge: Judge,
) -> tuple[list[Compared], dict[str, Judgement]]:
    """Every comparison with what the judge said of it, and all distinct judgements."""
    asked: dict[str, Judgement] = {}
    pairs = {
        place: (item.prompt, first, second)
        for place, (item, first, second) in enumerate(zip(items, a, b, strict=True))
        if first is not None and second is not None and first != second
    }
    forward = [Question(*pair) for pair in pairs.values()]
    turned = [Question(q.prompt, q.second, q.first) for q in forward] if judge.sees_order else []
    found = _Recorded(judge, asked).judge([*forward, *turned]) if pairs else []
    a_first = dict(zip(pairs, found[: len(pairs)], strict=True))
    b_first = dict(zip(pairs, found[len(pairs) :], strict=False))  # empty where no order matters
    refused = Judgement(None, NO_ANSWER)
    compared = []
    for place, (item, one, other) in enumerate(zip(items, a, b, strict=True)):
        lacks = one is None or other is None
        compared.append(
            Compared(
                item.name,
                len(one or ""),
                len(other or ""),
                refused if lacks else a_first.get(place),
                b_first.get(place),
                identical=not lacks and one == other,
            )
        )
    return compared, asked


def _costs(asked: Mapping[str, Judgement], prices: tuple[float, float] | None) -> dict[str, Any]:
    """Tokens of all judgements that count, those kept from before included, and their price."""
    prompt = sum(judgement.prompt_tokens for judgement in asked.values())
    reply = sum(judgement.completion_tokens for judgement in asked.values())
    cost = None if prices is None else (prices[0] * prompt + prices[1] * reply) / 1e6
    return {
        "judgements": len(asked),
        "judge_tokens": {"prompt": prompt, "completion": reply},
        "cost": cost,
    }


def _write_comparisons(
    path: Path,
    items: Sequence[PromptItem],
    a: Sequence[str | None],
    b: Sequence[str | None],
    compared: Sequence[Compared],
) -> None:
    lines = [
        {
            "prompt": item.prompt,
            "a": one,
            "b": other,
            "outcome": c.outcome,
            "a_first": c.a_first and {"verdict": c.a_first.verdict, "reply": c.a_first.reply},
            "b_first": c.b_first and {"verdict": c.b_first.verdict, "reply": c.b_first.reply},
        }
        for item, one, other, c in zip(items, a, b, compared, strict=True)
    ]
    write_bytes(path, b"".join(orjson.dumps(line) + b"\n" for line in lines))


# ---- places


def _folder(out: Path | None) -> Path:
    """Where answers and judgements are kept.

    Raises:
        OutputError: it cannot be written, or holds something else.
    """
    folder = cache_folder() / "compare" if out is None else out
    require_writable(folder / JUDGEMENTS)
    ours = (ANSWERS, JUDGEMENTS, SUMMARY, "judge-check.json")
    is_full = folder.is_dir() and any(folder.iterdir())
    if out is not None and (
        (folder.exists() and not folder.is_dir())
        or (is_full and not any((folder / name).exists() for name in ours))
    ):
        raise OutputError(
            f"{out}: is not empty and holds no comparison. Name a new folder, or one that thumbs "
            "compare has begun, to go on there."
        )
    return folder


def _is_url(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def _shown_side(named: str, model: str | None) -> str:
    return f"{model} at {chat_endpoint(named)}" if _is_url(named) else named
