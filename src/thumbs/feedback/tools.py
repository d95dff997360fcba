"""The tools whose exports can be imported, and which of them a file is from.

In: a file, or the name of a tool. Out: the source that reads it. To add a tool: write one file in
sources/ with NAME, detect and read, name it in TOOLS, and give it a fixture and a test.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from thumbs.errors import FeedbackError
from thumbs.feedback import generic
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback, keys_found
from thumbs.feedback.sources import (
    anythingllm,
    argilla,
    axolotl,
    chainlit,
    chatui,
    dify,
    gradio,
    halos,
    helicone,
    helpsteer,
    labelstudio,
    langfuse,
    langsmith,
    librechat,
    llamafactory,
    mlflow,
    nectar,
    openai_pairs,
    opentelemetry,
    openwebui,
    phoenix,
    preference,
    sharegpt_pairs,
    shp,
    streamlit,
    swift_pairs,
    trl_unpaired,
    ultrafeedback,
    weave,
    wildfeedback,
)
from thumbs.feedback.sqlite import SQLITE_TABLES


class Source(Protocol):
    """What a file in sources/ offers.

    READS: which export, which votes, in a line. DROPS: its own reasons to leave something out.
    detect: whether the first entry of a file is this tool's.
    read: the records of the files together, what is left out counted in the tally. The files of one
        tool come in one call, so that votes and the texts they are about can be joined.
    """

    NAME: str
    READS: str

    @property
    def DROPS(self) -> Sequence[str]: ...

    def detect(self, entry: Mapping[str, Any]) -> bool: ...

    def read(
        self, paths: Sequence[Path], tally: Tally, *, options: ImportOptions
    ) -> Iterator[Feedback]: ...


TOOLS: tuple[Source, ...] = (
    *(anythingllm, argilla, axolotl, chainlit, chatui, dify, gradio, halos, helicone),
    *(helpsteer, labelstudio, langfuse, langsmith, librechat, llamafactory, mlflow, swift_pairs),
    *(nectar, openai_pairs, opentelemetry, openwebui, phoenix, preference, sharegpt_pairs, shp),
    *(streamlit, trl_unpaired, ultrafeedback, weave, wildfeedback),
)
SOURCES: dict[str, Source] = {source.NAME: source for source in TOOLS}
SOURCES[generic.NAME] = generic  # chosen by --map, never by content
GUESSES = {
    "prompt": ("prompt", "question", "input", "query", "instruction", "user_message"),
    "completion": ("completion", "response", "answer", "output", "reply", "bot_message"),
    "label": ("label", "rating", "feedback", "thumb", "vote", "score", "stars", "like"),
}
# Tools whose rows are those of another one: the same keys, the same meaning, one importer.
OTHER_NAMES = {"ms-swift": "llama-factory"}

# Tools whose votes their users define, so that --up, --down and --threshold say what they mean; and
# those where several scores stand, of which --score-name takes one.
WITH_OWN_VOTES = (
    *(argilla.NAME, generic.NAME, gradio.NAME, helpsteer.NAME, labelstudio.NAME, langfuse.NAME),
    *(langsmith.NAME, mlflow.NAME, opentelemetry.NAME, phoenix.NAME, streamlit.NAME),
    *(ultrafeedback.NAME, weave.NAME),
)
WITH_SCORE_NAMES = tuple(
    name for name in WITH_OWN_VOTES if name not in (generic.NAME, gradio.NAME, streamlit.NAME)
)

# Tools whose users name the fields themselves: --map prompt=FIELD --map completion=FIELD says them.
OWN_NAMES = (argilla.NAME, labelstudio.NAME)


def find_source(path: Path, tool: str | None = None) -> Source:
    """The source named `tool`, or the one that recognises the file.

    Raises:
        FeedbackError: no source has that name, none recognises the file, or several do.
    """
    if tool is not None:
        name = OTHER_NAMES.get(tool, tool)
        if name not in SOURCES:
            raise FeedbackError(f"--from: {tool!r} is no known tool. Allowed: {_known_names()}.")
        return SOURCES[name]
    entry = first_entry(path)
    found = sources_of(entry)
    if len(found) == 1:
        return found[0]
    if SQLITE_TABLES in entry:
        tables = "; ".join(f"{name} ({', '.join(c)})" for name, c in entry[SQLITE_TABLES].items())
        raise FeedbackError(
            f"{path}: no known tool's database; its tables: {tables or 'none'}. Say what to read: "
            "--query 'SELECT ...' --map prompt=COLUMN --map completion=COLUMN --map label=COLUMN"
        )
    keys = keys_found(entry)
    if found:
        names = ", ".join(source.NAME for source in found)
        finding = f"could be an export of each of {names}; its first entry's keys: {keys}"
        raise FeedbackError(f"{path}: {finding}. Name one with --from.")
    advice = f"Say where things stand ({_map_example(entry)}), or name the tool with --from"
    raise FeedbackError(
        f"{path}: no known tool's export; its first entry's keys: {keys}. {advice}."
    )


def sources_of(entry: Mapping[str, Any]) -> list[Source]:
    """The sources that take a first entry for theirs."""
    return [source for source in TOOLS if source.detect(entry)]


def _map_example(entry: Mapping[str, Any]) -> str:
    """A --map to paste, its paths guessed from the names of the keys."""
    guesses = []
    for key, names in GUESSES.items():
        found = (name for name in entry if any(word in name.lower() for word in names))
        guesses.append(f"--map {key}={next(found, 'PATH')}")
    return " ".join(guesses)


def _known_names() -> str:
    return ", ".join(sorted([*SOURCES, *OTHER_NAMES]))
