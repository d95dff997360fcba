"""Batches keep the data's labels, prompts meet, and no completion follows its own prompt."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thumbs.data.plan import (
    Batch,
    PlanColumns,
    PlanSettings,
    label_quotas,
    match_mismatched,
    micro_batches,
    paired_rows,
    plan_columns,
    plan_epochs,
)
from thumbs.data.rows import Row

SETTINGS = PlanSettings(batch_size=8, epochs=1, seed=0, max_tokens=100)


def columns_of(
    prompts: Sequence[int],
    *,
    texts: Sequence[int] | None = None,
    desirable: Sequence[bool] | None = None,
    prompt_tokens: Sequence[int] | None = None,
    completion_tokens: Sequence[int] | None = None,
    weight: Sequence[float] | None = None,
) -> PlanColumns:
    n = len(prompts)
    return PlanColumns(
        key=tuple(f"key{i:05d}" for i in range(n)),
        prompt=np.array(prompts, np.int64),
        text=np.array(texts if texts is not None else range(n), np.int64),
        prompt_tokens=np.array(prompt_tokens if prompt_tokens is not None else [3] * n, np.int64),
        completion_tokens=np.array(
            completion_tokens if completion_tokens is not None else [4] * n, np.int64
        ),
        desirable=np.array(desirable if desirable is not None else [True] * n, np.bool_),
        weight=np.array(weight if weight is not None else [1.0] * n, np.float64),
    )


def reordered(columns: PlanColumns, order: Sequence[int]) -> PlanColumns:
    """The same rows in another order of the file, prompts and texts numbered anew."""
    index = list(order)
    new_number: dict[int, int] = {}
    return PlanColumns(
        key=tuple(columns.key[i] for i in index),
        prompt=np.array(
            [new_number.setdefault(int(columns.prompt[i]), len(new_number)) for i in index]
        ),
        text=columns.text[index],
        prompt_tokens=columns.prompt_tokens[index],
        completion_tokens=columns.completion_tokens[index],
        desirable=columns.desirable[index],
        weight=columns.weight[index],
    )


def batches_as_keys(columns: PlanColumns, batches: Sequence[Batch]) -> list[frozenset[str]]:
    return [frozenset(columns.key[row] for row in batch.rows) for batch in batches]


def pairs_as_keys(columns: PlanColumns, batches: Sequence[Batch]) -> set[tuple[str, str]]:
    return {
        (columns.key[x], columns.key[y])
        for batch in batches
        for group in batch.groups
        for x, y in group.mismatched
    }


@st.composite
def small_data(draw: st.DrawFn) -> PlanColumns:
    n = draw(st.integers(1, 24))

    def column(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=n, max_size=n))

    return columns_of(
        column(0, 6),
        texts=column(0, 10),
        desirable=[bool(label) for label in column(0, 1)],
        prompt_tokens=column(1, 60),
        completion_tokens=column(1, 60),
        weight=[float(weight) for weight in column(0, 3)],
    )


# Label quotas


def test_quotas_of_three_batches_by_hand() -> None:
    # 10 rows, 4 desirable: batches end at rows 3, 6, 10; desirable due by then 1.2, 2.4, 4.
    assert label_quotas(10, 4, 3) == [(3, 1), (3, 1), (4, 2)]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_quotas_share_out_every_row_within_one_row_of_the_proportion(data: st.DataObject) -> None:
    num_rows = data.draw(st.integers(1, 300))
    num_desirable = data.draw(st.integers(0, num_rows))
    num_batches = data.draw(st.integers(1, num_rows))
    quotas = label_quotas(num_rows, num_desirable, num_batches)
    sizes = [size for size, _ in quotas]
    assert len(quotas) == num_batches
    assert sum(sizes) == num_rows
    assert sum(desirable for _, desirable in quotas) == num_desirable
    assert max(sizes) - min(sizes) <= 1
    for size, desirable in quotas:
        assert 0 <= desirable <= size
        assert abs(desirable - size * num_desirable / num_rows) <= 1
        if size >= 2 and num_desirable >= num_batches:
            assert desirable >= 1
        if size >= 2 and num_rows - num_desirable >= num_batches:
            assert desirable < size


# Epochs


@given(small_data(), st.integers(1, 9), st.booleans(), st.sampled_from([None, 2, 3]))
@settings(max_examples=150, deadline=None)
def test_every_epoch_holds_every_member_once(
    columns: PlanColumns, batch_size: int, group_prompts: bool, group_rows: int | None
) -> None:
    members = list(range(0, len(columns), 2))
    plan = replace(
        SETTINGS,
        epochs=2,
        batch_size=batch_size,
        group_prompts=group_prompts,
        group_rows=group_rows,
    )
    for batches in plan_epochs(columns, members, plan):
        assert sorted(row for batch in batches for row in batch.rows) == members
        sizes = [len(batch.rows) for batch in batches]
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        for batch in batches:
            weighted = sum(columns.weight[row] > 0 for row in batch.rows)
            pairs = sum(len(group.mismatched) for group in batch.groups)
            assert batch.unmatched == weighted - pairs


@given(small_data(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_file_does_not_change_the_plan(
    columns: PlanColumns, random: object
) -> None:
    order = list(range(len(columns)))
    random.shuffle(order)  # type: ignore[attr-defined]
    other = reordered(columns, order)
    plan = replace(SETTINGS, batch_size=5)
    [ours] = plan_epochs(columns, range(len(columns)), plan)
    [theirs] = plan_epochs(other, range(len(other)), plan)
    assert batches_as_keys(columns, ours) == batches_as_keys(other, theirs)
    assert pairs_as_keys(columns, ours) == pairs_as_keys(other, theirs)


def test_the_plan_is_a_function_of_seed_and_epoch() -> None:
    columns = columns_of(range(40), desirable=[i % 4 == 0 for i in range(40)])
    plan = replace(SETTINGS, epochs=3)
    first, again = (plan_epochs(columns, range(40), plan) for _ in range(2))
    assert first == again
    other_seed = plan_epochs(columns, range(40), replace(plan, seed=1))
    drawn = [batches_as_keys(columns, batches) for batches in [*first, *other_seed]]
    assert len({tuple(batches) for batches in drawn}) == 6


def test_redraw_once_brings_the_same_batches_back_in_another_order() -> None:
    columns = columns_of(range(80))
    first, second = plan_epochs(columns, range(80), replace(SETTINGS, epochs=2, redraw="once"))
    assert first != second
    assert Counter(first) == Counter(second)


def test_rows_of_one_prompt_meet_in_one_batch() -> None:
    # 40 prompts, each with one row up and one down: a batch of 8 holds 4 whole prompts.
    columns = columns_of([i // 2 for i in range(80)], desirable=[i % 2 == 0 for i in range(80)])

    def prompts_met(group_prompts: bool) -> int:
        plan = replace(SETTINGS, group_prompts=group_prompts)
        [batches] = plan_epochs(columns, range(80), plan)
        return sum(
            number == 2
            for batch in batches
            for number in Counter(int(columns.prompt[row]) for row in batch.rows).values()
        )

    assert prompts_met(True) == 40
    assert prompts_met(False) < 20


def test_a_prompt_that_does_not_fit_waits_for_the_next_batch() -> None:
    # 10 prompts of three rows, 30 of one, batches of 6: what is left of a batch takes either a
    # whole prompt or single rows, and if only threes are left, multiples of 3 are left to fill.
    columns = columns_of([*(i // 3 for i in range(30)), *range(10, 40)])
    [batches] = plan_epochs(columns, range(60), replace(SETTINGS, batch_size=6))
    for batch in batches:
        rows_of = Counter(columns.prompt[list(batch.rows)].tolist())
        assert all(number == (3 if prompt < 10 else 1) for prompt, number in rows_of.items())


def test_the_columns_number_equal_prompts_and_texts_alike() -> None:
    rows = [
        Row("a:0", (1, 2), (5,), (True,), True, 1.0, "a", "a", False),
        Row("b:0", (1, 2), (6, 7), (True, True), False, 0.5, "b", "b", False),
        Row("c:0", (3,), (5,), (True,), False, 1.0, "c", "c", False),
    ]
    columns = plan_columns(rows)
    assert columns.key == ("a:0", "b:0", "c:0")
    assert columns.prompt.tolist() == [0, 0, 1]
    assert columns.text.tolist() == [0, 1, 0]
    assert columns.prompt_tokens.tolist() == [2, 2, 1]
    assert columns.completion_tokens.tolist() == [1, 2, 1]
    assert columns.desirable.tolist() == [True, False, False]
    assert columns.weight.tolist() == [1.0, 0.5, 1.0]


def test_no_pairs_are_drawn_for_a_loss_that_needs_none() -> None:
    columns = columns_of(range(8))
    [[batch]] = plan_epochs(columns, range(8), replace(SETTINGS, mismatched=False))
    assert batch.groups[0].mismatched == ()
    assert batch.unmatched == 0


def test_groups_of_z0_cut_a_batch_and_pair_within_themselves() -> None:
    columns = columns_of(range(8))
    [[batch]] = plan_epochs(columns, range(8), replace(SETTINGS, group_rows=3))
    assert [len(group.rows) for group in batch.groups] == [3, 3, 2]
    for group in batch.groups:
        assert sorted(x for x, _ in group.mismatched) == sorted(group.rows)
        assert sorted(y for _, y in group.mismatched) == sorted(group.rows)


# Mismatched pairs


@given(small_data(), st.integers(2, 120))
@settings(max_examples=300, deadline=None)
def test_a_pair_keeps_every_rule_and_no_allowed_pair_is_left_over(
    columns: PlanColumns, max_tokens: int
) -> None:
    rows = range(len(columns))
    pairs = match_mismatched(columns, rows, max_tokens=max_tokens, seed=[0, 0])

    def allowed(x: int, y: int) -> bool:
        return bool(
            columns.prompt[x] != columns.prompt[y]
            and columns.text[x] != columns.text[y]
            and columns.prompt_tokens[x] + columns.completion_tokens[y] <= max_tokens
            and columns.weight[x] > 0
            and columns.weight[y] > 0
        )

    assert all(allowed(x, y) for x, y in pairs)
    used_x, used_y = {x for x, _ in pairs}, {y for _, y in pairs}
    assert len(used_x) == len(used_y) == len(pairs)
    assert not any(allowed(x, y) for x in rows for y in rows if x not in used_x and y not in used_y)


def test_the_matching_is_perfect_where_a_greedy_one_gets_stuck() -> None:
    # Prompt 0 has half the rows, so each of its prompts needs a completion of the other half.
    columns = columns_of([0, 0, 0, 0, 1, 2, 3, 4])
    for seed in range(50):
        pairs = match_mismatched(columns, range(8), max_tokens=100, seed=[seed])
        assert len(pairs) == 8


def test_the_pairing_depends_on_the_set_of_rows_and_not_on_their_order() -> None:
    columns = columns_of(range(10))
    forward = match_mismatched(columns, range(10), max_tokens=100, seed=[0])
    backward = match_mismatched(columns, range(9, -1, -1), max_tokens=100, seed=[0])
    assert forward == backward
    other_seed = match_mismatched(columns, range(10), max_tokens=100, seed=[1])
    assert set(other_seed) != set(forward)


def test_over_many_seeds_every_prompt_meets_every_other_completion() -> None:
    # 4 rows have 9 derangements; each of the 12 allowed pairs is in 3 of them: 3/9 of 900 = 300.
    columns = columns_of(range(4))
    drawn: Counter[tuple[int, int]] = Counter()
    for seed in range(900):
        drawn.update(match_mismatched(columns, range(4), max_tokens=100, seed=[seed]))
    assert len(drawn) == 12
    # Not exactly uniform (a maximum matching of shuffled rows), but no pair is rare.
    assert min(drawn.values()) > 200
    assert max(drawn.values()) < 400


def test_rows_of_weight_zero_take_no_part_in_z0() -> None:
    columns = columns_of(range(3), weight=[1.0, 0.0, 1.0])
    pairs = match_mismatched(columns, range(3), max_tokens=100, seed=[0])
    assert sorted(pairs) == [(0, 2), (2, 0)]


def test_what_does_not_fit_is_not_paired() -> None:
    # Prompts of 3 and 8 tokens, completions of 4 and 6: 3 + 6 <= 10, but 8 + 4 > 10.
    columns = columns_of([0, 1], prompt_tokens=[3, 8], completion_tokens=[4, 6])
    assert match_mismatched(columns, [0, 1], max_tokens=10, seed=[0]) == [(0, 1)]


# Pitfalls


@pytest.mark.parametrize("alternating", [False, True])
def test_pitfall_01_each_batch_has_the_labels_share_whatever_the_order_of_the_file(
    alternating: bool,
) -> None:
    desirable = [i % 2 == 0 if alternating else i < 1000 for i in range(2000)]
    columns = columns_of(range(2000), desirable=desirable)
    [batches] = plan_epochs(columns, range(2000), replace(SETTINGS, batch_size=32))
    for batch in batches:
        up = sum(desirable[row] for row in batch.rows)
        assert abs(up - len(batch.rows) / 2) <= 1


def test_pitfall_02_the_answers_of_z0_are_the_answers_of_its_group() -> None:
    columns = columns_of(range(64), desirable=[i % 3 == 0 for i in range(64)])
    [batches] = plan_epochs(columns, range(64), replace(SETTINGS, group_rows=4))
    for group in (group for batch in batches for group in batch.groups):
        assert Counter(y for _, y in group.mismatched) == Counter(group.rows)


def test_pitfall_03_a_group_of_one_row_has_no_pair() -> None:
    columns = columns_of([0])
    [[batch]] = plan_epochs(columns, [0], SETTINGS)
    assert batch.groups[0].mismatched == ()
    assert batch.unmatched == 1


@pytest.mark.parametrize("size", [2, 3, 5, 7, 9])
def test_pitfall_04_a_group_of_odd_size_pairs_every_row(size: int) -> None:
    columns = columns_of(range(size))
    pairs = match_mismatched(columns, range(size), max_tokens=100, seed=[0])
    assert sorted(x for x, _ in pairs) == list(range(size))
    assert sorted(y for _, y in pairs) == list(range(size))


def test_pitfall_05_answers_to_one_prompt_are_no_mismatch() -> None:
    columns = columns_of([7, 7, 7, 7])
    assert match_mismatched(columns, range(4), max_tokens=100, seed=[0]) == []


def test_pitfall_05_the_same_text_under_another_prompt_is_no_mismatch() -> None:
    columns = columns_of([0, 1, 2], texts=[9, 9, 4])
    for seed in range(20):
        pairs = match_mismatched(columns, range(3), max_tokens=100, seed=[seed])
        assert (0, 1) not in pairs
        assert (1, 0) not in pairs
        assert len(pairs) == 2  # rows 0 and 1 both need row 2, once as x and once as y


def test_pitfall_09_rare_labels_are_spread_and_not_bunched() -> None:
    # 5 of 100 rows are down, 10 batches of 10: half a row each, so none has two.
    columns = columns_of(range(100), desirable=[i >= 5 for i in range(100)])
    [batches] = plan_epochs(columns, range(100), replace(SETTINGS, batch_size=10))
    down = [sum(row < 5 for row in batch.rows) for batch in batches]
    assert sorted(down) == [0] * 5 + [1] * 5


def test_pitfall_09_prompts_with_one_label_only_do_not_skew_a_batch() -> None:
    # Prompts of 4 rows that are all up or all down; batches of 8 still hold 4 of each.
    columns = columns_of(
        [i // 4 for i in range(64)], desirable=[(i // 4) % 2 == 0 for i in range(64)]
    )
    [batches] = plan_epochs(columns, range(64), SETTINGS)
    for batch in batches:
        assert sum(bool(columns.desirable[row]) for row in batch.rows) == 4


# Pairs


def test_rows_with_a_partner_by_hand() -> None:
    # Prompt 0 has both labels, 1 only up, 2 both with three up.
    prompts = [0, 1, 0, 2, 2, 2, 2]
    up = [True, True, False, True, False, True, True]
    columns = columns_of(prompts, desirable=up)
    assert paired_rows(columns, range(7), one=False, seed=0) == [0, 2, 3, 4, 5, 6]
    assert paired_rows(columns, [0, 1, 3, 4], one=False, seed=0) == [3, 4]
    one = paired_rows(columns, range(7), one=True, seed=0)
    assert one[:2] == [0, 2]
    assert 4 in one
    assert len(one) == 4
    drawn = {tuple(paired_rows(columns, range(7), one=True, seed=seed)) for seed in range(40)}
    assert len(drawn) == 3  # each of the three desirable answers to prompt 2 at some seed


@given(small_data(), st.integers(1, 9), st.integers(0, 3))
def test_batches_of_pairs_hold_whole_prompts(
    columns: PlanColumns, batch_size: int, seed: int
) -> None:
    members = paired_rows(columns, range(len(columns)), one=False, seed=seed)
    settings = replace(SETTINGS, batch_size=batch_size, seed=seed, mismatched=False, pairs=True)
    [batches] = plan_epochs(columns, members, settings)
    assert sorted(row for batch in batches for row in batch.rows) == sorted(members)
    batch_of = {int(columns.prompt[r]): i for i, batch in enumerate(batches) for r in batch.rows}
    for i, batch in enumerate(batches):
        assert {batch_of[int(columns.prompt[row])] for row in batch.rows} == {i}
        prompts = {int(columns.prompt[row]) for row in batch.rows}
        assert len(batch.rows) <= batch_size or len(prompts) == 1


# Micro-batches


def test_micro_batches_fill_the_budget_by_hand() -> None:
    # Sorted: 9, 5, 5, 2, 1. 9 alone (2 * 9 > 10); 5 + 5 = 10; 2 and 1 padded to 2 = 4.
    assert micro_batches([5, 2, 9, 5, 1], max_tokens=10) == [[2], [0, 3], [1, 4]]


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 100))
def test_micro_batches_hold_every_sequence_once_within_the_budget(
    lengths: list[int], max_tokens: int
) -> None:
    forwards = micro_batches(lengths, max_tokens=max_tokens)
    assert sorted(i for forward in forwards for i in forward) == list(range(len(lengths)))
    for forward in forwards:
        padded = len(forward) * max(lengths[i] for i in forward)
        assert len(forward) == 1 or padded <= max_tokens
