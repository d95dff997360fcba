"""Prompts, targets and ready answers as files hold them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from thumbs.errors import FeedbackError
from thumbs.evaluate.prompts_file import PromptItem, read_answers, read_prompts, targets_of


def written(tmp_path: Path, entries: list[dict[str, Any]], name: str = "file.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def prompts_of(
    tmp_path: Path, entries: list[dict[str, Any]], *, chat: bool = False, limit: int | None = None
) -> tuple[list[PromptItem], Counter[str]]:
    dropped: Counter[str] = Counter()
    path = written(tmp_path, entries)
    return read_prompts(path, dropped, chat=chat, limit=limit), dropped


def test_every_shape_gives_its_prompt_and_target(tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "q4"}]
    entries: list[dict[str, Any]] = [
        {"prompt": "q1", "target": "t1"},
        {"prompt": "q2", "completion": "t2"},
        {"prompt": "q3", "completion": "bad", "label": False},
        {"messages": [*turn, {"role": "assistant", "content": " t4 "}]},
        {"instruction": "q5", "input": "with this", "output": "unused"},
        {"turns": ["q6", "later"]},
    ]
    items, dropped = prompts_of(tmp_path, entries)
    assert [(item.name, item.target) for item in items] == [
        ("q1", "t1"),
        ("q2", "t2"),
        ("q3", None),
        ("q4", "t4"),
        ("q5\n\nwith this", None),
        ("q6", None),
    ]
    assert items[3].prompt == turn
    assert dropped == {}


def test_a_prompt_counts_once_and_keeps_the_target_that_comes_later(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [
        {"prompt": "q", "completion": "bad", "label": False},
        {"prompt": "q", "completion": "good", "label": True},
        {"prompt": "  "},
        {"prompt": "r"},
    ]
    items, dropped = prompts_of(tmp_path, entries, chat=True)
    assert [item.target for item in items] == ["good", None]
    assert items[1].prompt == [{"role": "user", "content": "r"}]
    assert dropped == {"repeated prompt": 1, "empty prompt": 1}
    assert len(prompts_of(tmp_path, entries, limit=1)[0]) == 1


def test_answers_are_found_by_prompt_and_stand_side_by_side(tmp_path: Path) -> None:
    said = [{"role": "assistant", "content": "b1"}]
    path = written(
        tmp_path,
        [
            {"prompt": "b", "completion": said},
            {"prompt": "a", "completion": "a1"},
            {"prompt": [{"role": "user", "content": "a"}], "completion": "a2"},
            {"prompt": "b", "completion": "b2"},
        ],
    )
    items = [PromptItem("a"), PromptItem([{"role": "user", "content": "b"}])]
    dropped: Counter[str] = Counter()
    taken = read_answers(path, items, 2, side="A", dropped=dropped)
    assert (taken, dropped) == (["a1", "a2", "b1", "b2"], {})
    words = r"has 2 of 3 answers to the prompt 'a' \(and too few to 1 more\)\. Add"
    with pytest.raises(FeedbackError, match=words):
        read_answers(path, items, 3, side="A", dropped=dropped)
    with pytest.raises(FeedbackError, match=r"has 2 of 3 answers to the prompt 'a'\. Add"):
        read_answers(path, items[:1], 3, side="A", dropped=dropped)


def test_answers_that_are_not_taken_are_counted(tmp_path: Path) -> None:
    said = [("a", "a1"), ("b", "b1"), ("a", "a2"), ("a", "a3"), ("c", "c1"), ("c", "c2")]
    path = written(tmp_path, [{"prompt": p, "completion": c} for p, c in said])
    dropped: Counter[str] = Counter()
    items = [PromptItem("a"), PromptItem("b")]
    assert read_answers(path, items, 1, side="B", dropped=dropped) == ["a1", "b1"]
    assert dropped == {
        "answer of B beyond --samples": 2,
        "answer of B to a prompt that is not compared": 2,
    }


def test_a_target_stands_once_per_sample() -> None:
    items = [PromptItem("a", "t"), PromptItem("b", "u")]
    assert targets_of(Path("f"), items, 2) == ["t", "t", "u", "u"]
    lacking = [PromptItem("a"), PromptItem("b", "u")]
    with pytest.raises(FeedbackError, match=r"the prompt 'a' has no .target.\. Add it"):
        targets_of(Path("f"), lacking, 1)
    with pytest.raises(FeedbackError, match=r'has no "target", nor have 1 more\. Add it'):
        targets_of(Path("f"), [*lacking, PromptItem("c")], 1)


def test_messages_that_end_in_a_users_turn_are_a_prompt_without_target(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "q"}]
    items, _ = prompts_of(tmp_path, [{"messages": turns}])
    assert items == [PromptItem(turns)]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"question": "q"}, r"file.jsonl:1: no prompt; the keys found: 'question'"),
        ({"prompt": 3}, "must be text or messages, but is 3"),
        ({"prompt": [{"role": "user"}]}, "must be text or messages"),
        ({"prompt": "q", "target": 3}, "the target must be text or messages, but is 3"),
        ({"prompt": ""}, "holds no prompt"),
        (
            {"prompt": [{"role": "martian", "content": "q"}]},
            r"file.jsonl:1: the prompt has the role 'martian'; allowed are system, developer, user",
        ),
        (
            {"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
            "file.jsonl:1: the prompt ends in the assistant's turn",
        ),
    ],
)
def test_what_holds_no_prompt_is_refused(entry: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(FeedbackError, match=words):
        prompts_of(tmp_path, [entry])


def test_an_answer_without_completion_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, [{"prompt": "q", "answer": "a"}])
    with pytest.raises(FeedbackError, match='"completion" is missing; the keys found'):
        read_answers(path, [PromptItem("q")], 1, side="A", dropped=Counter())
