"""Rows by hand: ids, masks, cuts and counts, with a tokenizer whose tokens are single bytes."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from thumbs.data import processes, tokenizing
from thumbs.data.rows import Row
from thumbs.data.tokenizing import TokenizedRows, loss_segments, tokenize
from thumbs.errors import FeedbackError, ModelError
from thumbs.feedback.record import Feedback, Message
from thumbs.models.tiny import CHATML, train_bpe

BYTES = train_bpe([], 261, chat_template="chatml")
BYTES_BOS = train_bpe([], 261, chat_template="{{ bos_token }}" + CHATML, add_bos=True)
BC = train_bpe(["bc bc bc"], 262)  # bytes, and "bc" as one token
HEADER = ["<|im_start|>", *"assistant", "Ċ"]  # Ċ is the newline's byte
LINE = "<|im_end|>", "Ċ"


def rows_of(
    records: list[Feedback],
    tokenizer: PreTrainedTokenizerFast = BYTES,
    *,
    max_tokens: int = 1000,
    min_completion_tokens: int = 1,
    chat_template: str | None = None,
    keep_cut: bool = False,
) -> TokenizedRows:
    return tokenize(
        records,
        tokenizer,
        max_tokens=max_tokens,
        min_completion_tokens=min_completion_tokens,
        chat_template=chat_template,
        keep_cut=keep_cut,
        today=date(2026, 3, 7),
    )


def only(record: Feedback, *args: Any, **options: Any) -> Row:
    (row,) = rows_of([record], *args, **options).rows
    return row


def chat(*texts: str, answer: str = "Yo", system: str = "", label: bool = True) -> Feedback:
    """A conversation of user and assistant texts by turns, and its answer."""
    prompt: list[Message] = [{"role": "system", "content": system}] if system else []
    for i, text in enumerate(texts):
        prompt.append({"role": "assistant" if i % 2 else "user", "content": text})
    return Feedback(prompt, [{"role": "assistant", "content": answer}], label=label)


def words(ids: tuple[int, ...], tokenizer: PreTrainedTokenizerFast = BYTES) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens(list(ids)))


def text(ids: tuple[int, ...], tokenizer: PreTrainedTokenizerFast = BYTES) -> str:
    return str(tokenizer.decode(list(ids)))


def test_a_chat_becomes_a_prompt_that_ends_with_the_header_and_an_answer_with_its_end() -> None:
    record = replace(chat("Hi"), id="r1", conversation="c1", weight=0.5, label=False)
    row = only(record)
    assert words(row.prompt_ids) == ["<|im_start|>", *"user", "Ċ", *"Hi", *LINE, *HEADER]
    assert words(row.completion_ids) == ["Y", "o", "<|im_end|>"]
    assert row.loss_mask == (True, True, True)
    assert (row.desirable, row.weight, row.record_id, row.conversation) == (False, 0.5, "r1", "c1")
    assert not row.cut


def test_only_the_assistants_turns_of_a_long_completion_carry_loss() -> None:
    answers: list[Message] = [
        {"role": "assistant", "content": "a"},
        {"role": "tool", "content": "t"},
        {"role": "assistant", "content": "b"},
    ]
    row = only(Feedback([{"role": "user", "content": "Hi"}], answers, label=True))
    between = ["Ċ", "<|im_start|>", *"tool", "Ċ", "t", *LINE, *HEADER]
    assert words(row.completion_ids) == ["a", "<|im_end|>", *between, "b", "<|im_end|>"]
    assert row.loss_mask == (True,) * 2 + (False,) * len(between) + (True,) * 2
    assert [piece[1] for piece in loss_segments(row, BYTES)] == [False, True, False, True]
    assert loss_segments(row, BYTES)[1:] == [
        ("a<|im_end|>", True),
        ("\n<|im_start|>tool\nt<|im_end|>\n<|im_start|>assistant\n", False),
        ("b<|im_end|>", True),
    ]


def test_pitfall_14_a_token_merged_across_the_boundary_is_the_completions() -> None:
    # Apart, "ab" + "c" would be a, b, c; jointly the text is a, bc, and the model sees that.
    row = only(Feedback("ab", "cd", label=True), BC)
    assert words(row.prompt_ids, BC) == ["a"]
    assert words(row.completion_ids, BC) == ["bc", "d", "</s>"]
    assert row.loss_mask == (True, True, True)
    apart = only(Feedback("ab", "d", label=True), BC)
    assert words(apart.prompt_ids, BC) == ["a", "b"]


def test_pitfall_14_a_token_merged_across_the_boundary_of_a_template_carries_loss() -> None:
    template = "{% for m in messages %}{{ m.role[0] + 'b' + m.content }}{% endfor %}"
    BC.chat_template = template + "{% if add_generation_prompt %}{{ 'ab' }}{% endif %}"
    row = only(chat("x", answer="cd"), BC)
    assert words(row.prompt_ids, BC) == ["u", "b", "x", "a"]
    assert words(row.completion_ids, BC) == ["bc", "d", "</s>"]  # no turn end: eos is appended
    assert row.loss_mask == (True, True, True)


def test_pitfall_15_bos_is_there_once_and_eos_once() -> None:
    # Strings: the tokenizer's own default decides about BOS.
    plain, own = Feedback("a", "b", label=True), Feedback("<s>a", "b</s>", label=True)
    assert words(only(plain).prompt_ids) == ["a"]
    for record in (plain, own):
        row = only(record, BYTES_BOS)
        assert words(row.prompt_ids) == ["<s>", "a"]
        assert words(row.completion_ids) == ["b", "</s>"]
        assert row.loss_mask == (True, True)
    # Messages: the template writes BOS, tokenisation adds no second one.
    row = only(chat("Hi"), BYTES_BOS)
    assert words(row.prompt_ids)[:2] == ["<s>", "<|im_start|>"]
    assert words(row.completion_ids) == ["Y", "o", "<|im_end|>"]


def test_pitfall_16_one_completion_token_survives_and_lost_ends_are_counted() -> None:
    # 8 prompt tokens "aaaaaaaa" can shrink to 1; of max_tokens 4 the answer "bcdef" + eos gets 3.
    record = Feedback("a" * 8, "bcdef", label=False)
    rows = rows_of([record], max_tokens=4)
    assert words(rows.rows[0].prompt_ids) == ["a"]
    assert words(rows.rows[0].completion_ids) == ["b", "c", "d"]
    assert rows.rows[0].loss_mask == (True, True, True)
    assert rows.rows[0].cut
    assert rows.counts == {"prompt_cut": 1, "completion_cut": 1}
    # Exactly min_completion_tokens fit: kept. One more is asked for: dropped, with the reason.
    fits = Feedback("a", "b", label=False)
    assert len(only(record, max_tokens=4, min_completion_tokens=3).completion_ids) == 3
    dropped = rows_of([record, fits], max_tokens=4, min_completion_tokens=4)
    assert (len(dropped.rows), dropped.drops) == (1, {"too_long": 1})


def test_pitfall_16_a_row_whose_tokens_with_loss_are_cut_away_is_dropped_and_counted() -> None:
    # This template writes "think " before the answer, without loss; the cut keeps only that.
    template = (
        "{% for m in messages %}{{ 'think ' if m.role == 'assistant' }}{{ m.content + eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '' }}{% endif %}"
    )
    tokenizer = train_bpe([], 261, chat_template=template)
    # 2 of "x" + eos, 6 of "think ", 2 of "Yo", eos = 11; 8 leave x, eos and "think ".
    records = [chat("x", label=False), chat("x", answer="Y", label=False)]
    full = rows_of(records, tokenizer, max_tokens=11)
    assert [row.loss_mask for row in full.rows] == [(False,) * 6 + (True,) * n for n in (3, 2)]
    cut = rows_of(records, tokenizer, max_tokens=9)
    assert [row.loss_mask for row in cut.rows] == [(False,) * 6 + (True,)] * 2
    with pytest.raises(FeedbackError, match="no row is left of 2 records: no_loss_token 2"):
        rows_of(records, tokenizer, max_tokens=8)


def test_pitfall_17_pad_and_eos_inside_a_completion_keep_their_loss() -> None:
    row = only(Feedback("<pad>a</s>", "x<pad>y</s>z<pad>", label=True))
    assert words(row.prompt_ids) == ["<pad>", "a", "</s>"]
    assert words(row.completion_ids) == ["x", "<pad>", "y", "</s>", "z", "<pad>", "</s>"]
    assert row.loss_mask == (True,) * 7


def test_characters_of_several_tokens_carry_loss_in_all_of_them() -> None:
    # é is 2 bytes and the emoji 4, each byte a token here that covers the whole character.
    row = only(chat("é", answer="é😀"))
    assert len(row.completion_ids) == 2 + 4 + 1
    assert row.loss_mask == (True,) * 7
    assert text(row.completion_ids) == "é😀<|im_end|>"
    assert only(Feedback("a", "é", label=True)).loss_mask == (True, True, True)


def test_spaces_that_a_tokenizer_leaves_out_of_its_offsets_carry_loss() -> None:
    tokenizer = train_bpe([], 261, chat_template="chatml")  # trimmed as some real tokenizers do
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    row = only(Feedback("a", "  b ", label=True), tokenizer)
    assert words(row.completion_ids) == ["Ġ", "Ġ", "b", "Ġ", "</s>"]
    assert row.loss_mask == (True,) * 5


def test_whole_oldest_turns_go_first_and_system_messages_stay() -> None:
    record = chat("one", "two", "three", "four", "five", system="S")
    full = only(record)
    # A message takes its text, its role, and start, newline, end, newline. The turn (one, two)
    # takes 3 + 4 + 4 + 3 + 9 + 4 = 27 tokens, the turn (three, four) 5 + 4 + 4 + 4 + 9 + 4 = 30.
    size = len(full.prompt_ids) + len(full.completion_ids)
    rows = rows_of([record], max_tokens=size - 1)
    assert size - len(rows.rows[0].prompt_ids) - len(rows.rows[0].completion_ids) == 27
    assert "three" in text(rows.rows[0].prompt_ids)
    assert "two" not in text(rows.rows[0].prompt_ids)
    assert rows.counts == {"turns_dropped": 1}
    assert "three" in text(only(record, max_tokens=size - 27).prompt_ids)

    last = only(record, max_tokens=size - 28)
    assert text(last.prompt_ids) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nfive<|im_end|>\n<|im_start|>assistant\n"
    )
    assert len(last.prompt_ids) == len(full.prompt_ids) - 57
    assert last.completion_ids == full.completion_ids


@pytest.mark.parametrize("num_turns", [2, 3, 4, 5, 8])
def test_no_more_turns_are_dropped_than_needed(num_turns: int) -> None:
    # Turn i is "<i>" and an answer "a": each takes the same number of tokens.
    texts = [part for i in range(num_turns) for part in (f"<{i}>", "a")][:-1]
    record = chat(*texts)
    full = len(only(record).prompt_ids) + 3
    one_turn = 3 + 4 + 4 + 1 + 9 + 4
    for num_dropped in range(num_turns):
        row = only(record, max_tokens=full - num_dropped * one_turn)
        kept = [i for i in range(num_turns) if f"<{i}>" in text(row.prompt_ids)]
        assert kept == list(range(num_dropped, num_turns))


def test_the_left_of_the_last_user_message_goes_next_and_the_template_stays_whole() -> None:
    record = chat("old", "reply", "abcdef")
    last_turn = only(chat("abcdef"))
    size = len(last_turn.prompt_ids) + len(last_turn.completion_ids)
    rows = rows_of([record], max_tokens=size - 2)
    assert text(rows.rows[0].prompt_ids) == (
        "<|im_start|>user\ncdef<|im_end|>\n<|im_start|>assistant\n"
    )
    assert rows.rows[0].completion_ids == last_turn.completion_ids
    assert rows.counts == {"turns_dropped": 1, "prompt_cut": 1}
    assert not rows.rows[0].cut


def test_the_right_of_the_completion_goes_last() -> None:
    record = chat("abc", answer="uvwxyz", label=False)
    size = len(only(record).prompt_ids) + len(only(record).completion_ids)
    # 2 tokens come from the user's text, of which one stays, then 3 from the answer: 7 - 3 = 4.
    rows = rows_of([record], max_tokens=size - 5)
    assert text(rows.rows[0].prompt_ids).startswith("<|im_start|>user\nc<|im_end|>")
    assert words(rows.rows[0].completion_ids) == list("uvwx")
    assert rows.rows[0].cut
    assert rows.counts == {"prompt_cut": 1, "completion_cut": 1}


def test_desirable_rows_without_their_end_are_dropped_unless_kept() -> None:
    good, bad = (Feedback("a", "b" * 9, label=label) for label in (True, False))
    rows = rows_of([good, bad], max_tokens=5)
    assert [row.desirable for row in rows.rows] == [False]
    assert rows.drops == {"desirable_cut": 1}
    kept = rows_of([good, bad], max_tokens=5, keep_cut=True)
    assert [(row.desirable, row.cut) for row in kept.rows] == [(True, True), (False, True)]
    assert kept.drops == {}


def test_bos_stays_in_front_of_a_string_prompt_that_is_cut() -> None:
    row = only(Feedback("abcdef", "x", label=True), BYTES_BOS, max_tokens=5)
    assert words(row.prompt_ids) == ["<s>", "e", "f"]
    assert words(row.completion_ids) == ["x", "</s>"]


def test_an_empty_prompt_gets_a_token_to_predict_the_answer_from() -> None:
    assert words(only(Feedback("", "x", label=True)).prompt_ids) == ["<s>"]
    assert words(only(Feedback("", "x", label=True), BYTES_BOS).prompt_ids) == ["<s>"]
    row = only(Feedback("", "<s>x", label=True))  # a BOS that is there is not doubled
    assert (words(row.prompt_ids), words(row.completion_ids)) == (["<s>"], ["x", "</s>"])
    no_bos = train_bpe([], 261)
    no_bos.bos_token = None
    assert words(only(Feedback("", "x", label=True), no_bos).prompt_ids) == ["</s>"]


def test_an_empty_prompt_without_any_such_token_is_dropped_and_counted() -> None:
    bare = train_bpe(
        [], 261, chat_template="{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}"
    )
    bare.bos_token = bare.eos_token = None
    bare.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    empty = Feedback([], [{"role": "assistant", "content": "x"}], label=True)
    rows = rows_of([empty, chat("a")], bare)
    assert (len(rows.rows), rows.drops) == (1, {"empty_prompt": 1})


def test_a_tokenizer_without_eos_cannot_teach_strings_to_stop() -> None:
    bare = train_bpe([], 261)
    bare.eos_token = None
    with pytest.raises(ModelError, match="has no end-of-sequence token"):
        rows_of([Feedback("a", "b", label=True)], bare)


def test_rows_of_one_prompt_share_its_ids() -> None:
    rows = rows_of([chat("Hi", answer=answer) for answer in ("a", "b", "I", " c")]).rows
    assert len({row.prompt_ids for row in rows}) == 1


def test_rows_of_one_prompt_are_cut_alike() -> None:
    # 6 prompt tokens; answers with eos take 2, 4 and 3: of 8 tokens the longest leaves 4.
    records = [Feedback("abcdef", answer, label=True) for answer in ("x", "xyz", "xy")]
    rows = rows_of(records, max_tokens=8)
    assert [text(row.prompt_ids) for row in rows.rows] == ["cdef"] * 3
    assert [text(row.completion_ids) for row in rows.rows] == ["x</s>", "xyz</s>", "xy</s>"]
    assert rows.counts == {"prompt_cut": 3}
    assert text(only(records[0], max_tokens=8).prompt_ids) == "abcdef"

    chats = [chat("old", "reply", "abcdef", answer=answer) for answer in ("x", "xyz", "xy")]
    size = len(only(chat("abcdef", answer="xyz")).prompt_ids) + 4
    rows = rows_of(chats, max_tokens=size - 2)
    assert {text(row.prompt_ids) for row in rows.rows} == {
        "<|im_start|>user\ncdef<|im_end|>\n<|im_start|>assistant\n"
    }
    assert rows.counts == {"turns_dropped": 3, "prompt_cut": 3}


def test_an_answer_that_must_be_cut_itself_does_not_shorten_the_prompt_of_others() -> None:
    records = [Feedback("abcdef", "x" * n, label=False) for n in (1, 20)]
    rows = rows_of(records, max_tokens=8)
    assert [text(row.prompt_ids) for row in rows.rows] == ["abcdef", "f"]
    assert [len(row.completion_ids) for row in rows.rows] == [2, 7]
    assert rows.counts == {"prompt_cut": 1, "completion_cut": 1}


def test_keys_are_hashes_of_the_content_with_the_occurrence() -> None:
    record = Feedback("a", "b", label=True, id="x", conversation="one")
    twin = replace(record, id="y", conversation="two")
    others = [replace(record, label=False), replace(record, weight=2.0), Feedback("a", "c", True)]
    keys = [row.key for row in rows_of([record, twin, *others]).rows]
    content, occurrence = keys[0].split(":")
    assert occurrence == "0"
    assert keys[1] == f"{content}:1"
    assert len({key.split(":")[0] for key in keys}) == 4
    assert all(key.endswith(":0") for key in keys[2:])
    # The split between prompt and completion is content too.
    # Without lengths both would be the numbers a b c 1 1 1, where 1 is eos, or a token with loss.
    one, other = Feedback("ab", "c", label=True), Feedback("abc</s>", "</s>", label=True)
    assert only(one).key != only(other).key


def test_every_record_is_a_row_or_counted_as_dropped_across_chunks() -> None:
    refused = chat("a", "b", "c")
    template = "{% if messages | length > 2 %}{{ raise_exception('too many') }}{% endif %}" + CHATML
    tokenizer = train_bpe([], 261, chat_template=template)
    records = [chat(f"{i}") for i in range(600)]
    records[5] = records[400] = refused
    records[7] = chat("x", answer=" \n")
    rows = rows_of(records, tokenizer)
    assert rows.drops == {"template_refused": 2, "empty_completion": 1}
    kept = [i for i in range(600) if i not in (5, 7, 400)]
    assert [text(row.prompt_ids) for row in rows.rows] == [
        f"<|im_start|>user\n{i}<|im_end|>\n<|im_start|>assistant\n" for i in kept
    ]
    with pytest.raises(
        FeedbackError, match=r"no row is left of 1 records: template_refused 1.*too"
    ):
        rows_of([refused], tokenizer)


def test_a_file_whose_rows_are_all_too_long_says_which_limit_to_raise() -> None:
    with pytest.raises(FeedbackError, match=r"desirable_cut 1; raise data\.max_tokens \(now 3\)"):
        rows_of([Feedback("a", "b" * 9, label=True)], max_tokens=3)


def test_changes_of_the_text_are_counted_for_the_rows_that_stay() -> None:
    BC.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    rows = rows_of([chat("x"), chat("y"), chat("z", answer="Y" * 99)], BC, max_tokens=9)
    assert (rows.counts, rows.drops) == ({"turn_end_appended": 2}, {"desirable_cut": 1})


def test_rows_are_the_same_from_one_process_and_from_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenizing, "_CHUNK", 3)
    answers = ["x", "", "long " * 20, "y"]
    records = [chat(f"q{i % 7} " * 9, answer=answers[i % 4], label=False) for i in range(40)]
    alone = rows_of(records, max_tokens=120)
    monkeypatch.setattr(processes, "RECORDS_EACH", 1)
    shared_out = rows_of(records, max_tokens=120)
    assert list(shared_out.rows) == list(alone.rows)
    assert (shared_out.counts, shared_out.drops) == (alone.counts, alone.drops)
    assert alone.counts["completion_cut"] > 0
    assert alone.drops == {"empty_completion": 10}
