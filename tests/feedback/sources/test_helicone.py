"""Helicone: what of a request reaches the record."""

import json
from pathlib import Path
from typing import Any

from tests.feedback.sources.reading import Reading

from thumbs.feedback.clean import Tally
from thumbs.feedback.provider_json import CUT
from thumbs.feedback.sources.helicone import read

rows = Reading("helicone", read).rows


def request(reason: str = "stop", **body: Any) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": "2+2?"}], **body}
    said = {"message": {"role": "assistant", "content": "4"}, "finish_reason": reason}
    given = {"request_id": f"r {reason}", "request_body": asked, "feedback_rating": True}
    return {**given, "response_body": {"choices": [said]}, "response_status": 200}


def test_the_tools_of_a_request_are_kept(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    with_tools, without = rows(tmp_path, request(tools=tools), request("end"))
    assert json.loads(with_tools.tools) == tools
    assert without.tools == "null"


def test_an_answer_that_was_cut_is_left_out_and_counted(tmp_path: Path) -> None:
    tally = Tally()
    assert len(rows(tmp_path, request(), request("length"), tally=tally)) == 1
    assert tally.dropped[CUT] == 1
