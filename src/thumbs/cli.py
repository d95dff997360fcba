"""The command line: parse, call the pipeline, print. Each verb is one function of pipeline.py.

Results go to stdout (with --json as one JSON object), logs and progress to stderr. Nothing heavy is
imported before a verb runs, so that --help answers at once.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from thumbs import cli_compare
from thumbs.config import load_config
from thumbs.errors import ConfigError, ThumbsError
from thumbs.printing import (
    out_console,
    print_audit,
    print_benchmark,
    print_demo,
    print_import,
    print_json,
    print_losses,
    print_plan,
    print_table,
    print_training,
)
from thumbs.refusals import (
    INTERRUPTED,
    MACHINE_SAYS_NO,
    UsageError,
    explain_usage,
    fail,
    mapping_of,
    one_of,
    require_text,
)
from thumbs.stopping import stop_on_sigterm

app = typer.Typer(
    help="Thumbs-up / thumbs-down on single answers in, a measurably better language model out.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="A setting: train.epochs=2 (repeatable).")
]
FeedbackFile = Annotated[
    Path, typer.Argument(help="Feedback file: .jsonl, .jsonl.gz, .jsonl.zst, .parquet.")
]
# Of import alone, which takes the most.
Exports = Annotated[
    list[str],
    typer.Argument(help="Exports: files, folders, patterns, .zip, - (stdin), a database's URL."),
]
FeedbackOut = Annotated[
    Path, typer.Option(help="Feedback file to write: .jsonl, .jsonl.gz, .jsonl.zst, .parquet.")
]
HeldOutFiles = Annotated[
    list[Path] | None,
    typer.Option(help="A held-out or benchmark file; records with its prompts are left out."),
]
Rules = Annotated[
    list[str] | None,
    typer.Option(help="Switch a rule of cleaning off: reasoning, duplicates, ... (repeatable)."),
]


def main() -> None:
    """Run the command line; the user's mistakes end in one line and their exit code."""
    stop_on_sigterm()
    try:
        require_text(sys.argv[1:])
        code = app(prog_name="thumbs", standalone_mode=False)
    except ThumbsError as error:
        fail(str(error), error.exit_code)
    except UsageError as error:
        fail(explain_usage(error), 2)
    except OSError as error:
        if error.errno not in MACHINE_SAYS_NO:
            raise
        place = error.filename or "thumbs"
        fail(f"{place}: {error.strerror}. Free the place or the right, or name another.", 2)
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("interrupted", file=sys.stderr)
        sys.exit(75)
    sys.exit(code)


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Run folder; default: the next free.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Order, sampling and problems.")] = 0,
    set_: Settings = None,
    json: Json = False,
) -> None:
    """The embedded model gets better from the embedded feedback log; no network."""
    from thumbs import pipeline

    result = pipeline.demo(out, seed, set_ or [])
    if json:
        print_json(result)
    else:
        print_demo(result)


@app.command("import")
def import_(
    sources: Exports,
    out: FeedbackOut,
    tool: Annotated[
        str | None, typer.Option("--from", help="The tool; default: recognised by content.")
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="Where things stand in any log: prompt=path.to.field."),
    ] = None,
    score: Annotated[str, typer.Option(help="Path of a score, to go with --threshold.")] = "",
    query: Annotated[str, typer.Option(help="What to read of a database: one SELECT.")] = "",
    up: Annotated[
        list[str] | None, typer.Option(help="A vote that is desirable (repeatable).")
    ] = None,
    down: Annotated[
        list[str] | None, typer.Option(help="A vote that is undesirable (repeatable).")
    ] = None,
    threshold: Annotated[
        str, typer.Option(help="What a score must reach: 4, mean, median, per-prompt-mean.")
    ] = "",
    score_name: Annotated[
        str, typer.Option(help="Which of several scores or questions is the vote.")
    ] = "",
    votes: Annotated[
        str, typer.Option(help="Several raters of one answer: all, majority or latest.")
    ] = "all",
    contradictions: Annotated[
        str, typer.Option(help="Answers with both labels: keep, majority or drop.")
    ] = "keep",
    decontaminate: HeldOutFiles = None,
    keep: Rules = None,
    no_edits: Annotated[
        bool, typer.Option("--no-edits", help="Leave out the records made from edited answers.")
    ] = False,
    json: Json = False,
) -> None:
    """Any export to a feedback file; what is left out is counted by reason."""
    from thumbs.feedback.clean import RULES
    from thumbs.feedback.importing import import_feedback
    from thumbs.feedback.intake import gathered
    from thumbs.feedback.options import ImportOptions
    from thumbs.feedback.votes import CONTRADICTIONS, VOTES

    options = ImportOptions(
        edits=not no_edits,
        keep=frozenset(one_of("--keep", rule, RULES) for rule in keep or ()),
        votes=one_of("--votes", votes, VOTES),
        contradictions=one_of("--contradictions", contradictions, CONTRADICTIONS),
        decontaminate=tuple(decontaminate or ()),
        up=tuple(up or ()),
        down=tuple(down or ()),
        threshold=threshold,
        score=score,
        score_name=score_name,
        query=query,
        mapping=mapping_of(map_ or ()),
    )
    with gathered(sources, options) as paths:
        result = import_feedback(paths, out, tool=tool, options=options)
    numbers = asdict(result) | {"out": str(out)}
    if json:
        print_json(numbers)
    else:
        print_import(str(out), numbers)


@app.command()
def check(
    feedback: FeedbackFile,
    model: Annotated[str | None, typer.Option(help="Count tokens with its tokenizer.")] = None,
    max_tokens: Annotated[int, typer.Option(min=2, help="Limit to count cuts for.")] = 2048,
    beta: Annotated[
        float, typer.Option(min=1e-6, help="Of DPO, for the forecast on contradictory prompts.")
    ] = 0.1,
    near_duplicates: Annotated[
        bool,
        typer.Option("--near-duplicates", help="Also report answers that are nearly the same."),
    ] = False,
    json: Json = False,
) -> None:
    """What is in a feedback file, what is wrong with it, what to set."""
    if model is None:
        from thumbs.feedback.inspect import check_feedback

        result = check_feedback(feedback, near_duplicates=near_duplicates).as_dict()
    else:
        from thumbs import pipeline

        result = pipeline.check(
            feedback,
            model=model,
            max_tokens=max_tokens,
            beta=beta,
            near_duplicates=near_duplicates,
        )
    if json:
        print_json(result)
        return
    from thumbs.feedback.check_tables import check_tables

    for part in check_tables(str(feedback), result):
        out_console.print(part)


@app.command()
def plan(
    feedback: FeedbackFile,
    model: Annotated[str, typer.Option(help="Model folder or hub id.")] = "",
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    set_: Settings = None,
    json: Json = False,
) -> None:
    """What a run would be: steps, tokens, memory, time, three rows. Loads no weights."""
    settings = load_config(config, set_ or [], model=model)
    if not settings.model.name_or_path:
        raise ConfigError("--model: is missing; give a model folder or a hub id")
    from thumbs import pipeline

    result = pipeline.plan(feedback, settings)
    if json:
        print_json(result)
    else:
        print_plan(str(feedback), result)


@app.command()
def train(
    feedback: Annotated[Path | None, typer.Argument(help="Feedback file.")] = None,
    model: Annotated[str, typer.Option(help="Model folder or hub id.")] = "",
    out: Annotated[Path | None, typer.Option(help="Run folder to make.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    set_: Settings = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run.")] = None,
    json: Json = False,
) -> None:
    """Train a model on a feedback file, or go on with an interrupted run."""
    if resume is not None:
        if feedback or model or out or config or set_:
            raise ConfigError("--resume: reads everything from the run; give it alone")
        from thumbs import pipeline

        result = pipeline.resume_training(resume)
    else:
        if feedback is None or out is None:
            raise ConfigError("train: needs a feedback file and --out RUN, or --resume RUN")
        settings = load_config(config, set_ or [], model=model)
        if not settings.model.name_or_path:
            raise ConfigError("--model: is missing; give a model folder or a hub id")
        from thumbs import pipeline

        result = pipeline.train_model(feedback, settings, out)
    if not result:  # of several processes the first one speaks
        return
    if json:
        print_json(result)
    else:
        print_training(result)


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(help="A run, or a model folder or hub id.")],
    feedback: Annotated[
        Path | None, typer.Option(help="Feedback file; default: the run's held-out rows.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="What a model (not a run) was trained from.")
    ] = None,
    tasks: Annotated[
        str, typer.Option(help="Of feedback, gsm8k, mmlu, bbh, humaneval: one or more, by commas.")
    ] = "feedback",
    task_data: Annotated[
        Path | None, typer.Option(help="Folder with the benchmarks' files; default: the hub.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Questions of each benchmark; default: all.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask through the chat template.")] = False,
    temperature: Annotated[
        float, typer.Option(min=0, help="Of the benchmarks' answers; 0: the likeliest.")
    ] = 0.0,
    samples: Annotated[
        int, typer.Option(min=0, help="Held-out prompts to answer before and after, for the page.")
    ] = 0,
    json: Json = False,
) -> None:
    """How well a policy ranks thumbs it has not seen; how much of a benchmark it gets right."""
    from thumbs import pipeline

    known = ("feedback", *pipeline.BENCHMARKS)
    names = [one_of("--tasks", name.strip(), known) for name in tasks.strip(", ").split(",")]
    settings = pipeline.BenchmarkSettings(task_data, limit, chat, temperature)
    if settings != pipeline.BenchmarkSettings() and names == ["feedback"]:
        raise ConfigError(
            "eval: --task-data, --limit, --chat and --temperature are for benchmarks; name them "
            f"with --tasks {','.join(pipeline.BENCHMARKS)}"
        )
    if (feedback or reference) and "feedback" not in names:
        raise ConfigError("eval: --feedback and --reference are for --tasks feedback; add it")
    result = pipeline.evaluate(
        model,
        tasks=names,
        feedback=feedback,
        reference=reference,
        benchmarks=settings,
        samples=samples,
    )
    if json:
        print_json(result)
        return
    for name, numbers in result.items():
        if name in ("feedback", "samples"):
            print_table(f"{model}: {name}", numbers)
        else:
            print_benchmark(f"{model}: {name}", numbers)


app.command("compare")(cli_compare.compare)
app.command("judge-check")(cli_compare.judge_check)


@app.command()
def audit(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    out: Annotated[
        Path | None, typer.Option(help="File for the flagged rows: .jsonl or .csv.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="The most rows to show and write.")] = None,
    json: Json = False,
) -> None:
    """Rows the run disbelieves: likely wrong labels, to label again or to leave out."""
    from thumbs import pipeline

    result = pipeline.audit(run, out, top)
    if json:
        print_json(result)
    else:
        print_audit(str(run), result)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path | None, typer.Option(help="The page to write.")] = None,
    json: Json = False,
) -> None:
    """One self-contained HTML page about a run, or several side by side."""
    from thumbs.report.page import write_report

    path = write_report(runs, out)
    if json:
        print_json({"path": str(path)})
    else:
        out_console.print(str(path), markup=False)


@app.command()
def losses(json: Json = False) -> None:
    """The losses to choose from: what each needs, and its source."""
    from thumbs.loss_table import LOSS_TABLE

    if json:
        rows = [
            {"name": name, "summary": loss.summary, "needs": loss.needs(), "source": loss.source}
            for name, loss in LOSS_TABLE.items()
        ]
        print_json({"losses": rows})
        return
    print_losses(LOSS_TABLE)
