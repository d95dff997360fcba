"""Weave: reactions are votes, annotations where they are asked for."""

from pathlib import Path
from typing import Any

from tests.feedback.sources.reading import Reading

from thumbs.feedback.clean import Tally
from thumbs.feedback.sources.weave import OTHER_ANNOTATION, read

READING = Reading("weave", read)
rows, refusal = READING.rows, READING.refusal


def call(*feedback: dict[str, Any]) -> dict[str, Any]:
    inputs = {"messages": [{"role": "user", "content": "2+2?"}]}
    summary = {"weave": {"feedback": list(feedback)}}
    return {"id": "c", "op_name": "chat", "inputs": inputs, "output": "4", "summary": summary}


def annotation(name: str, value: object) -> dict[str, Any]:
    return {"feedback_type": f"wandb.annotation.{name}", "payload": {"value": value}}


UP = {"feedback_type": "wandb.reaction.1", "payload": {"emoji": "\N{THUMBS UP SIGN}"}}


def test_annotations_beside_reactions_are_counted(tmp_path: Path) -> None:
    tally = Tally()
    entry = call(UP, annotation("good", False), annotation("tone", "warm"))
    assert [one.label for one in rows(tmp_path, entry, tally=tally)] == [True]
    assert tally.dropped[OTHER_ANNOTATION] == 2
    tally = Tally()
    [asked] = rows(tmp_path, entry, tally=tally, score_name="good")
    assert asked.label is False
    assert tally.dropped[OTHER_ANNOTATION] == 1


def test_annotations_alone_are_listed_to_choose_from(tmp_path: Path) -> None:
    entry = call(annotation("good", True), annotation("tone", "warm"))
    said = refusal(tmp_path, entry)
    assert said.startswith(": no reactions, but annotations: good (1), tone (1). Say which")
    said = refusal(tmp_path, entry, score_name="god")
    assert said.startswith(": no annotation is called 'god'; found: good (1), tone (1).")
