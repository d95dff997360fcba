"""OpenTelemetry: events joined with texts by span and response, OTLP values, messages in parts."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.feedback.sources.reading import Reading

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.sources.opentelemetry import detect, read

FIXTURES = Path(__file__).parents[2] / "fixtures"
EVENTS = FIXTURES / "otel_genai_log_events.jsonl"
OWN = [FIXTURES / "own" / "opentelemetry" / name for name in ("logs.json", "traces.json")]
READING = Reading("opentelemetry", read)
records_of, record = READING.rows, READING.record


def said(role: str, text: str, **more: object) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}], **more}


def span(number: str = "a1", **attributes: Any) -> dict[str, Any]:
    held = {"gen_ai.input.messages": [said("user", "2+2?")]}
    held |= {"gen_ai.output.messages": [said("assistant", "4")]}
    return {"spanId": number, "attributes": held | attributes}


def event(label: object = "good", number: str = "a1", **attributes: Any) -> dict[str, Any]:
    held = {"gen_ai.evaluation.name": "thumb", "gen_ai.evaluation.score.label": label}
    return {"spanId": number, "attributes": held | attributes}


def test_events_alone_are_refused_with_the_name_of_what_is_missing() -> None:
    assert detect(first_entry(EVENTS))
    with pytest.raises(FeedbackError) as caught:
        list(read([EVENTS], Tally(), options=ImportOptions()))
    assert str(caught.value) == (
        f"{EVENTS}: evaluations without any text. Give the spans (or "
        "gen_ai.client.inference.operation.details events) they are about together with them, with "
        "gen_ai.output.messages recorded."
    )


def test_the_fixture_and_its_span_give_a_record(tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_text(json.dumps(span("ssssssssssssssss")))
    (kept,) = read([EVENTS, tmp_path / "spans.jsonl"], Tally(), options=ImportOptions())
    time = "2025-11-22T08:26:49.000000+00:00"  # 1763800009 s
    assert kept == record([("user", "2+2?")], "4", True, score="thumbs_up", time=time)


def test_the_own_fixture_gives_its_records() -> None:
    assert all(detect(first_entry(path)) for path in OWN)
    tally = Tally()
    prompt = [
        ("system", "Be brief."),
        ("user", "Привіт"),
        ("assistant", "Добрий день"),
        ("user", "Столиця Франції"),
    ]
    time = "2026-03-01T08:00:{}.000000+00:00"
    found = list(read(OWN, tally, options=ImportOptions()))
    expected = [
        record(
            prompt,
            "Париж",
            True,
            score="thumbs_up",
            conversation="c1",
            rater="ann",
            model="m1-2026",
            time=time.format("09"),
            comment="так",
        ),
        record(
            [("user", "2+2?")],
            "5",
            False,
            score="thumbs_down",
            rater="bob",
            model="m1",
            time=time.format(12),
            comment="wrong",
        ),
        record([("user", "3+3?")], "6", True, score="thumbs_up", model="m1", time=time.format(14)),
    ]
    assert sorted(found, key=lambda one: one.time) == expected
    assert +tally.dropped == {
        "vote with a later one on the same answer": 1,
        "answer that was cut (finish_reason)": 1,
        "evaluation whose span is not in the files": 1,
        "evaluation without label and score": 1,
    }


def test_an_evaluation_may_be_an_event_or_a_child_of_its_span(tmp_path: Path) -> None:
    inner = {**event(), "name": "gen_ai.evaluation.result"}
    del inner["spanId"]
    (kept,) = records_of(tmp_path, span() | {"events": [inner]})
    assert kept.label is True
    child = {**event(number="b1"), "parentSpanId": "a1", "name": "gen_ai.evaluation.result"}
    (kept,) = records_of(tmp_path, span(), child)
    assert kept.label is True


def test_ids_of_the_console_exporter_are_those_of_otlp(tmp_path: Path) -> None:
    shown = {"context": {"span_id": "0xA1"}, "attributes": span()["attributes"]}
    assert len(records_of(tmp_path, shown, event())) == 1


def test_calls_of_tools_their_results_and_reasoning_are_told_apart(tmp_path: Path) -> None:
    call = {"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 2}}
    result = {"type": "tool_call_response", "id": "c1", "response": {"sum": 4}}
    thought = {"type": "reasoning", "content": "hm"}
    asked = [
        said("user", "2+2?"),
        {"role": "assistant", "parts": [thought, call]},
        {"role": "tool", "parts": [result]},
    ]
    tally = Tally()
    (kept,) = records_of(
        tmp_path, span("a1", **{"gen_ai.input.messages": asked}), event(), tally=tally
    )
    function = {"name": "add", "arguments": {"a": 2}}
    assert kept.prompt[1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        },
        {"role": "tool", "content": '{"sum":4}', "tool_call_id": "c1"},
    ]
    assert tally.changed["reasoning block stripped"] == 1


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"error.type": "timeout"}, "answer with an error"),
        ({"gen_ai.response.finish_reasons": ["length"]}, "answer that was cut (finish_reason)"),
        (
            {"gen_ai.output.messages": [said("assistant", "a"), said("assistant", "b")]},
            "evaluation of several answers to choose from",
        ),
        ({"gen_ai.output.messages": []}, "empty answer"),
        ({"gen_ai.input.messages": []}, "answer without a prompt"),
    ],
)
def test_unfit_answers_are_counted(tmp_path: Path, attributes: dict[str, Any], reason: str) -> None:
    tally = Tally()
    assert records_of(tmp_path, span(**attributes), event(), tally=tally) == []
    assert +tally.dropped == {reason: 1}


def test_names_and_values_of_the_apps_own_are_asked_for(tmp_path: Path) -> None:
    score = {"gen_ai.evaluation.score.value": 0.9}
    rows = [span(), event("relevant", "a1", **score), event(**{"gen_ai.evaluation.name": "style"})]
    with pytest.raises(FeedbackError, match=r"several evaluations: thumb, style\. Choose the vote"):
        records_of(tmp_path, *rows)
    with pytest.raises(FeedbackError, match="is 'relevant', which is not plainly good or bad"):
        records_of(tmp_path, *rows, score_name="thumb")
    for options in ({"up": ("relevant",)}, {"threshold": "0.5"}):
        (kept,) = records_of(tmp_path, *rows, score_name="thumb", **options)
        assert kept.label is True
    with pytest.raises(FeedbackError, match="spans without any evaluation"):
        records_of(tmp_path, span())
