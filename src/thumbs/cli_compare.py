"""The verbs `compare` and `judge-check` of the command line: parse, call the pipeline, print."""

from pathlib import Path
from typing import Annotated, Any

import typer

from thumbs.errors import ConfigError
from thumbs.printing import print_comparison, print_json, print_judge_check

# Keys of a request that thumbs sets itself, or whose replies it could not read.
FIXED_KEYS = {
    "model": "name it with --judge-model",
    "messages": "write them with --template",
    "stream": "replies are read whole",
    "stream_options": "replies are read whole",
    "n": "one reply is read",
}

Judge = Annotated[
    str,
    typer.Option(help="http://HOST:PORT/v1, module:function, run:RUN, or human (a local page)."),
]
JudgeModel = Annotated[str | None, typer.Option(help="The judge's name on its server.")]
Template = Annotated[
    Path | None, typer.Option(help="Jinja file of the request: prompt, first, second.")
]
JudgeTokens = Annotated[int, typer.Option(min=1, help="The most tokens of a judge's reply.")]
JudgeOptions = Annotated[
    list[str] | None,
    typer.Option(help="A key of the judge's requests: reasoning_effort=low (repeatable)."),
]
Prices = Annotated[
    str, typer.Option(help="Of a million tokens, prompts and replies: 2.5,10. For the cost.")
]
Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Requests at one time.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds of one request.")]
Attempts = Annotated[int, typer.Option(min=1, help="How often a request is tried.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0: any that is free.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Take no more than the first so many.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Model = Annotated[str | None, typer.Option(help="The model's name, where that side is a server.")]
Side = Annotated[
    str,
    typer.Argument(
        help="A model folder or hub id, adapter, run, http://HOST:PORT/v1, file of answers, target."
    ),
]


def compare(
    a: Side,
    b: Side,
    prompts: Annotated[Path, typer.Option(help="File of prompts, with targets if need be.")],
    judge: Judge,
    judge_model: JudgeModel = None,
    a_model: Model = None,
    b_model: Model = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder that keeps answers, judgements and numbers.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0: greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=1e-6, max=1, help="Mass of the nucleus.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Of sampling, and of a person's page.")] = 0,
    samples: Annotated[int, typer.Option(min=1, help="Answers to each prompt.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts per forward.")] = 16,
    chat: Annotated[
        bool, typer.Option("--chat", help="Prompts of plain text are messages of a user.")
    ] = False,
    chat_template: Annotated[
        str | None, typer.Option(help="For models without one: chatml, ... or a Jinja file.")
    ] = None,
    template: Template = None,
    judge_tokens: JudgeTokens = 1024,
    judge_option: JudgeOptions = None,
    prices: Prices = "",
    concurrency: Concurrency = 8,
    timeout: Timeout = 120.0,
    attempts: Attempts = 6,
    port: Port = 0,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """How often A's answers win over B's, by a judge that sees both orders."""
    request = {
        "judge": judge,
        "model": judge_model,
        "template": template,
        "max_tokens": judge_tokens,
        "options": _options(judge_option or []),
        "prices": _prices(prices),
        "concurrency": concurrency,
        "seed": seed,
        "port": port,
    }
    from thumbs import pipeline
    from thumbs.compare import CompareRequest
    from thumbs.evaluate.answers import Sampling

    result = pipeline.compare(
        CompareRequest(
            a,
            b,
            prompts,
            _judge_request(request, timeout, attempts),
            a_model=a_model,
            b_model=b_model,
            sampling=Sampling(temperature, top_p, max_new_tokens, seed, samples, batch_size),
            chat=chat,
            chat_template=chat_template,
            limit=limit,
            out=out,
        )
    )
    if json:
        print_json(result)
    else:
        print_comparison(result)


def judge_check(
    files: Annotated[
        list[Path], typer.Argument(help="Judged pairs: LLMBar, PandaLM, MT-bench, or your own.")
    ],
    judge: Judge,
    judge_model: JudgeModel = None,
    out: Annotated[Path | None, typer.Option(help="Folder that keeps the judgements.")] = None,
    template: Template = None,
    judge_tokens: JudgeTokens = 1024,
    judge_option: JudgeOptions = None,
    prices: Prices = "",
    concurrency: Concurrency = 8,
    timeout: Timeout = 120.0,
    attempts: Attempts = 6,
    port: Port = 0,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """How often a judge says what people said, before it is trusted."""
    request = {
        "judge": judge,
        "model": judge_model,
        "template": template,
        "max_tokens": judge_tokens,
        "options": _options(judge_option or []),
        "prices": _prices(prices),
        "concurrency": concurrency,
        "port": port,
    }
    from thumbs import pipeline

    result = pipeline.judge_check(
        _judge_request(request, timeout, attempts), files, limit=limit, out=out
    )
    if json:
        print_json(result)
    else:
        print_judge_check(result)


def _judge_request(request: dict[str, Any], timeout: float, attempts: int) -> Any:
    from thumbs.compare import JudgeRequest
    from thumbs.evaluate.chat_server import Patience

    return JudgeRequest(**request, patience=Patience(timeout, attempts))


def _options(given: list[str]) -> dict[str, Any]:
    """key=value, the value JSON where it is, else text; null takes a key out of the request."""
    import orjson

    found = dict[str, Any]()
    for pair in given:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--judge-option {pair}: is not of the form key=value")
        key = key.strip()
        if key in FIXED_KEYS:
            raise ConfigError(f"--judge-option {pair}: cannot be chosen; {FIXED_KEYS[key]}")
        try:
            found[key] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[key] = value
    return found


def _prices(given: str) -> tuple[float, float] | None:
    if not given:
        return None
    try:
        prompt, reply = map(float, given.split(","))
    except ValueError:
        prompt = reply = float("nan")
    if not (0 <= prompt < float("inf") and 0 <= reply < float("inf")):
        raise ConfigError(
            f"--prices {given}: must be two numbers of 0 or more, of a million tokens of prompts "
            "and of replies, like 2.5,10"
        )
    return prompt, reply
