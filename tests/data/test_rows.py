"""Rows as columns come back as they were, and equal prompts are kept once."""

import numpy as np

from thumbs.data.rows import Row, StoredRows, store_rows, texts_of

ROWS = [
    Row("a:0", (1, 2), (5,), (True,), True, 1.0, "ä", "one", False),
    Row("b:0", (1, 2), (6, 7), (False, True), False, 0.5, "", "one", True),
    Row("c:0", (3,), (5,), (True,), False, 0.0, "c", "two", False),
]


def test_rows_come_back_as_they_were() -> None:
    stored = store_rows(iter(ROWS))
    assert list(stored) == ROWS
    assert stored[-1] == ROWS[2]
    assert stored[1:] == ROWS[1:]
    assert store_rows(stored) is stored


def test_equal_prompts_and_texts_have_one_number_and_prompts_are_kept_once() -> None:
    stored = store_rows(ROWS)
    assert stored.prompt.tolist() == [0, 0, 1]
    assert stored.text.tolist() == [0, 1, 0]
    assert stored.prompts.flat.tolist() == [1, 2, 3]
    assert stored.completions.flat.tolist() == [5, 6, 7, 5]
    assert stored.prompt_tokens.tolist() == [2, 2, 1]
    assert stored.completion_tokens.tolist() == [1, 2, 1]
    assert stored.tokens.tolist() == [3, 4, 2]
    assert texts_of(stored.record_id) == ["ä", "", "c"]


def test_the_same_ids_have_the_same_digest_in_any_file() -> None:
    there, back = store_rows(ROWS), store_rows(ROWS[::-1])
    assert np.array_equal(there.prompt_digest[there.prompt[2]], back.prompt_digest[back.prompt[0]])
    # 5 as a completion and 5 as a prompt: the digests of equal ids, told apart by their place.
    assert not np.array_equal(there.text_digest[0], there.text_digest[1])


def test_columns_are_the_whole_of_the_rows() -> None:
    stored = store_rows(ROWS)
    assert list(StoredRows.from_arrays(stored.arrays())) == ROWS


def test_a_row_costs_four_bytes_a_token_and_no_copy_of_its_prompt() -> None:
    long = tuple(range(300, 1300))
    rows = [Row(f"{i}:0", long, (i,), (True,), True, 1.0, "", "", False) for i in range(1000)]
    num_bytes = sum(column.nbytes for column in store_rows(rows).arrays().values())
    # 1,000 tokens of prompt once; per row 4 + 1 for the completion and its mask, 3 indexes and a
    # few numbers: under 100 bytes. Tuples take 8 bytes a token for the references alone.
    assert 4 * 1000 < num_bytes < 4 * 1000 + 100 * 1000
