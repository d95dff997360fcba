"""Open WebUI's feedback export: the tree, the votes, the edits, and every gotcha seen in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback
from thumbs.feedback.sources.openwebui import detect, read

FIXTURES = Path(__file__).parents[2] / "fixtures"
EXPORT = FIXTURES / "openwebui_feedback-history-export.json"

Node = dict[str, Any]


def node(message_id: str, parent: str | None, content: object, **more: object) -> Node:
    role = "assistant" if message_id.startswith("a") else "user"
    return {"id": message_id, "parentId": parent, "role": role, "content": content, **more}


def vote(rating: object, *nodes: Node, message: str = "a1", **more: Any) -> Node:
    """An entry rating `message` in a chat of these nodes."""
    chat = {"history": {"messages": {item["id"]: item for item in nodes}}}
    return {
        "user_id": "ann",
        "data": {"rating": rating, "model_id": "m"},
        "meta": {"message_id": message, "chat_id": "c1"},
        "snapshot": {"chat": {"id": "c1", "user_id": "ann", "chat": chat}},
        "updated_at": 1763800016,
    } | more


def records_of(
    tmp_path: Path, *entries: Node, tally: Tally | None = None, edits: bool = True
) -> list[Feedback]:
    (tmp_path / "f.json").write_text(json.dumps(entries))
    return list(read([tmp_path / "f.json"], tally or Tally(), options=ImportOptions(edits=edits)))


def texts(records: list[Feedback]) -> list[tuple[str, bool]]:
    """The answer and the label of each record."""
    return [(turn["content"], record.label) for record in records for turn in turns(record)[-1:]]


def turns(record: Feedback) -> list[Node]:
    return [
        turn
        for side in (record.prompt, record.completion)
        for turn in side
        if isinstance(turn, dict)
    ]


ASK = node("u1", None, "What is 2+2?")
FOUR = node("a1", "u1", "4", model="m")


def test_the_export_gives_its_votes_and_its_edit() -> None:
    tally = Tally()
    up, down, edit, original = read([EXPORT], tally, options=ImportOptions())
    prompt = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 2+2?"},
    ]
    assert up == Feedback(
        prompt,
        [{"role": "assistant", "content": "2+2 is 4."}],
        True,
        score="1",
        conversation="c1",
        source="openwebui",
        rater="user-7",
        model="llama3.2:1b",
        time="2025-11-22T08:26:56.000000+00:00",  # updated_at: 1763800016
        comment="accurate_information",
    )
    assert (down.prompt, down.label, down.score) == (prompt, False, "-1")
    assert down.comment == "not_factually_correct: wrong"
    assert down.model == "qwen3:0.6b"
    # The edit's prompt passes a1, its parent, and not the sibling a2 that the file lists between.
    later = [
        *prompt,
        {"role": "assistant", "content": "2+2 is 4."},
        {"role": "user", "content": "And times 3?"},
    ]
    assert (edit.prompt, edit.completion, edit.label) == (
        later,
        [{"role": "assistant", "content": "12"}],
        True,
    )
    assert (original.prompt, original.completion, original.label) == (
        later,
        [{"role": "assistant", "content": "It is 13."}],
        False,
    )
    for record in (edit, original):
        assert (record.source, record.score, record.rater) == ("openwebui:edit", "", "user-7")
        assert record.time == "2025-11-22T08:26:52.000000+00:00"  # the message's: 1763800012
    assert tally.dropped == {}


def test_no_edits_leaves_the_edit_records_out() -> None:
    records = list(read([EXPORT], Tally(), options=ImportOptions(edits=False)))
    assert texts(records) == [("2+2 is 4.", True), ("2+2 is 5.", False)]


@pytest.mark.parametrize("rating", [1, "1", 1.0])
def test_ratings_are_numbers_or_text(tmp_path: Path, rating: object) -> None:
    (record,) = records_of(tmp_path, vote(rating, ASK, FOUR))
    assert (record.label, record.score) == (True, "1")


@pytest.mark.parametrize("rating", [None, 0, "0", ""])
def test_votes_taken_back_and_draws_are_counted(tmp_path: Path, rating: object) -> None:
    tally = Tally()
    assert records_of(tmp_path, vote(rating, ASK, FOUR), tally=tally) == []
    assert tally.dropped == {"vote taken back, or a draw": 1}


@pytest.mark.parametrize("rating", [5, "up", True, 0.5])
def test_an_unknown_rating_is_an_error(tmp_path: Path, rating: object) -> None:
    expected = r"f\.json: record 1: message 'a1': rating must be 1 or -1 .* but is "
    with pytest.raises(FeedbackError, match=expected):
        records_of(tmp_path, vote(rating, ASK, FOUR))


def test_the_latest_vote_wins_whatever_the_order_in_the_file(tmp_path: Path) -> None:
    old = vote(1, ASK, FOUR, updated_at=100)
    new = vote(-1, ASK, FOUR, updated_at=200)
    for entries in ((old, new), (new, old)):
        tally = Tally()
        assert texts(records_of(tmp_path, *entries, tally=tally)) == [("4", False)]
        assert tally.dropped == {"vote with a later one on the same answer": 1}


def test_a_vote_taken_back_removes_the_earlier_one(tmp_path: Path) -> None:
    tally = Tally()
    old, new = vote(1, ASK, FOUR, updated_at=100), vote(None, ASK, FOUR, updated_at=200)
    assert records_of(tmp_path, old, new, tally=tally) == []
    assert tally.dropped.total() == 2


def test_two_raters_of_one_answer_are_two_records(tmp_path: Path) -> None:
    records = records_of(tmp_path, vote(1, ASK, FOUR), vote(-1, ASK, FOUR, user_id="bob"))
    assert [(record.rater, record.label) for record in records] == [("ann", True), ("bob", False)]


def test_a_vote_in_two_exports_is_one_record() -> None:
    tally = Tally()
    assert len(list(read([EXPORT, EXPORT], tally, options=ImportOptions()))) == 4
    assert tally.dropped == {"vote with a later one on the same answer": 2}


def test_message_ids_are_kept_apart_by_chat(tmp_path: Path) -> None:
    other = vote(-1, ASK, FOUR, meta={"message_id": "a1", "chat_id": "c2"})
    records = records_of(tmp_path, vote(1, ASK, FOUR), other)
    assert [record.conversation for record in records] == ["c1", "c2"]


def test_rated_siblings_share_the_prompt(tmp_path: Path) -> None:
    five = node("a2", "u1", "5")
    both = [vote(1, ASK, FOUR, five), vote(-1, ASK, FOUR, five, message="a2")]
    up, down = records_of(tmp_path, *both)
    assert up.prompt == down.prompt == [{"role": "user", "content": "What is 2+2?"}]


def test_a_vote_kept_only_at_a_message_is_a_fallback(tmp_path: Path) -> None:
    note = {"rating": -1, "reason": "", "comment": "no"}
    five = node("a2", "u1", "5", annotation=note, timestamp=1763800003, model="n")
    rated = node("a1", "u1", "4", annotation={"rating": -1})  # outdated: the entry says 1
    records = records_of(tmp_path, vote(1, ASK, rated, five), vote(1, ASK, rated, five))
    assert sorted(texts(records)) == [("4", True), ("5", False)]
    (kept,) = (record for record in records if not record.label)
    assert (kept.rater, kept.model, kept.comment, kept.score) == ("ann", "n", "no", "-1")
    assert kept.time == "2025-11-22T08:26:43.000000+00:00"


def test_an_edit_stands_for_the_votes_on_its_answer(tmp_path: Path) -> None:
    edited = node("a1", "u1", "4", originalContent="It is 5.", annotation={"rating": -1})
    tally = Tally()
    records = records_of(tmp_path, vote(-1, ASK, edited), tally=tally)
    assert texts(records) == [("4", True), ("It is 5.", False)]
    assert tally.dropped == {"vote on an edited answer, for which its edit stands": 1}
    tally = Tally()
    assert records_of(tmp_path, vote(-1, ASK, edited), tally=tally, edits=False) == []
    assert tally.dropped == {"vote on an edited answer: which text it meant is unknown": 1}


def test_without_edits_a_vote_from_before_the_edit_stays(tmp_path: Path) -> None:
    before = vote(1, ASK, FOUR, updated_at=100)
    edited = node("a1", "u1", "Four.", originalContent="4")
    five = node("a2", "u1", "5")
    after = vote(-1, ASK, edited, five, message="a2", updated_at=200)
    assert texts(records_of(tmp_path, before, after, edits=False)) == [("4", True), ("5", False)]
    edits = records_of(tmp_path, before, after)
    assert texts(edits) == [("5", False), ("Four.", True), ("4", False)]


def test_an_edit_that_changes_nothing_is_none(tmp_path: Path) -> None:
    thinking = '<details type="reasoning" done="true">x</details>\n4'
    same = node("a1", "u1", "4", originalContent=thinking)
    assert texts(records_of(tmp_path, vote(1, ASK, same))) == [("4", True)]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ((), "vote without a snapshot of its chat"),
        ((ASK,), "vote on a message that is not in its snapshot"),
        (
            (node("u1", None, "x"), {**FOUR, "role": "user"}),
            "vote on a message that is not an answer",
        ),
        ((ASK, {**FOUR, "done": False}), "unfinished answer"),
        ((ASK, {**FOUR, "error": {"content": "x"}}), "answer with an error"),
        ((FOUR,), "answer whose thread is broken"),
        ((node("u1", "a1", "x"), FOUR), "answer whose thread is broken"),
        ((ASK, {**FOUR, "parentId": {"id": "u1"}}), "answer whose thread is broken"),
        (({**FOUR, "parentId": None},), "answer without a prompt"),
    ],
)
def test_an_answer_that_cannot_be_used_is_counted_under_its_reason(
    tmp_path: Path, nodes: tuple[Node, ...], reason: str
) -> None:
    tally = Tally()
    assert records_of(tmp_path, vote(1, *nodes), tally=tally) == []
    assert tally.dropped == {reason: 1}


def test_an_entry_without_a_snapshot_is_counted(tmp_path: Path) -> None:
    tally = Tally()
    assert records_of(tmp_path, vote(1) | {"snapshot": None}, tally=tally) == []
    assert tally.dropped == {"vote without a snapshot of its chat": 1}


def test_content_in_blocks_is_joined_and_the_rest_counted(tmp_path: Path) -> None:
    ask = node("u1", None, [{"type": "text", "text": "See"}, {"type": "image_url"}], files=[{}])
    blocks = [{"type": "reasoning", "content": "hm"}, {"type": "text", "content": "4"}]
    tally = Tally()
    (record,) = records_of(tmp_path, vote(1, ask, node("a1", "u1", blocks)), tally=tally)
    assert [turn["content"] for turn in turns(record)] == ["See", "4"]
    assert tally.changed["attachment left out of a prompt"] == 2
    assert tally.changed["reasoning block stripped"] == 1


def test_an_answer_kept_as_output_items_is_read(tmp_path: Path) -> None:
    output = [
        {"type": "reasoning", "content": []},
        {"type": "message", "content": [{"type": "output_text", "text": "4"}]},
    ]
    answer = node("a1", "u1", "", output=output)
    assert texts(records_of(tmp_path, vote(1, ASK, answer))) == [("4", True)]


def test_milliseconds_and_a_chats_own_system_prompt_are_met(tmp_path: Path) -> None:
    entry = vote(1, ASK, FOUR, updated_at=1763800016000)
    entry["snapshot"]["chat"]["chat"]["params"] = {"system": "Be kind."}
    (record,) = records_of(tmp_path, entry)
    assert record.time == "2025-11-22T08:26:56.000000+00:00"
    assert turns(record)[0] == {"role": "system", "content": "Be kind."}


def test_the_csv_form_is_refused_naming_the_json_export() -> None:
    path = FIXTURES / "openwebui_feedback-history-export_NO_TEXT.csv"
    with pytest.raises(FeedbackError, match=r"without any text\. Export JSON instead: Admin >"):
        list(read([path], Tally(), options=ImportOptions()))


def test_an_entry_is_recognised_by_its_rating_and_message() -> None:
    assert detect(vote(1, ASK, FOUR))
    assert not detect({"data": {"rating": 1}})
    assert not detect({"data": "text", "meta": None})
