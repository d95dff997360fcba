"""Theorems of arXiv 2402.01306v4 by their numbers, and the page that tells of them."""

import json
import math
from typing import Any

import pytest
import torch
from experiments.theory.__main__ import PAGE, PLOT_FOLDER, RESULTS, compute
from experiments.theory.contradictions import settle
from experiments.theory.halo import failures
from experiments.theory.page import page
from experiments.theory.plots import PLOTS, draw
from experiments.theory.rows import losses_and_slopes
from experiments.theory.vanishing import vanishing
from torch.nn.functional import logsigmoid

from thumbs.core.loss_inputs import LossInputs, LossTerms
from thumbs.core.losses import LOSSES
from thumbs.loss_table import LOSS_TABLE, LossNeeds


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """Everything computed anew."""
    return compute()


def test_p4_1_the_update_of_kto_vanishes_on_both_sides_of_z0(record: dict[str, Any]) -> None:
    part = record["vanishing"]
    expected = [0.25, 0.1966, 0.1050, 6.65e-3, 4.54e-5, 2.06e-9]  # s(1 - s) at beta .1
    for label in ("weights", "weights_undesirable"):
        for side in ("above", "below"):
            assert part[label][side] == pytest.approx(expected, rel=1e-3, abs=0)
    # At two alike logits d log pi = (1/2, -1/2), of length sqrt(1/2): beta s(1 - s) sqrt(1/2).
    lengths = [0.1 * weight * math.sqrt(0.5) for weight in part["weights"]["above"]]
    assert part["update_norms"] == pytest.approx(lengths, rel=1e-4, abs=0)


def test_p4_1_needs_a_z0_that_stays_and_a_value_that_saturates(record: dict[str, Any]) -> None:
    part = record["vanishing"]
    # s(1 - s) at beta (r - z0) = 0.5, whatever z0.
    assert part["weights_with_moving_z0"] == pytest.approx([0.235004] * 3, abs=1e-6)
    concave, identity = part["curves"]["kto_concave"], part["curves"]["kto_identity"]
    assert concave["desirable"][0] == pytest.approx(1, abs=1e-4)
    assert concave["desirable"][-1] < 1e-4
    assert set(identity["desirable"]) == set(identity["undesirable"]) == {1.0}


def test_p4_1_the_numbers_come_from_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "kto", LOSSES["kto_identity"])
    assert vanishing()["weights"]["above"] == pytest.approx([1.0] * 6)


def test_t4_2_equivalent_rewards_have_other_values_from_a_shared_point(
    record: dict[str, Any],
) -> None:
    part = record["values"]
    assert part["policy_difference"] < 1e-12
    assert part["preference_difference"] < 1e-12
    assert part["loss_differences"]["dpo"] < 1e-12
    assert part["differences"]["shared"] > 0.1
    assert part["loss_differences"]["kto"] > 0.1


def test_t4_2_fails_with_a_reference_point_per_prompt(record: dict[str, Any]) -> None:
    part = record["values"]
    assert part["differences"]["per prompt"] < 1e-12
    assert max(part["curves"]["per prompt"]) < 1e-12
    assert part["same_shift_difference"] < 1e-12
    # The clamp brings a difference back, where the point of a prompt lies below 0.
    assert part["clamped_difference_at_minus_shift"] > 0.1


def test_t4_3_dpo_settles_at_logit_p_over_beta(record: dict[str, Any]) -> None:
    rows = record["flips"]["gaps"]
    assert len(rows) == 20
    for row in rows:
        expected = math.log(row["p"] / (1 - row["p"])) / row["beta"]
        assert row["measured"] == pytest.approx(expected, abs=1e-3)


def test_t4_3_dpo_flips_at_the_predicted_reference_ratio(record: dict[str, Any]) -> None:
    part = record["flips"]
    for row in part["boundaries"]:
        expected = math.log(row["p"] / (1 - row["p"])) / row["beta"]
        assert row["measured"] == pytest.approx(expected, abs=1e-3)
    # p^(1 / beta) ref(a) < (1 - p)^(1 / beta) ref(b), the ratio being ref(b) / ref(a).
    for cell in part["cells"]:
        odds = cell["p"] / (1 - cell["p"])
        assert cell["dpo_flip"] == (odds ** (1 / cell["beta"]) < cell["ratio"]), cell
    assert {cell["dpo_flip"] for cell in part["cells"]} == {True, False}


def test_t4_3_kto_gives_the_majority_its_answer(record: dict[str, Any]) -> None:
    cells = record["flips"]["cells"]
    assert len(cells) == 120
    assert not any(cell["kto_flip"] for cell in cells)
    assert min(cell["kto"] for cell in cells) > 0.95


def test_t4_3_the_worked_example_has_its_published_policies(record: dict[str, Any]) -> None:
    # beta .1, p .6, ref (.01, .90, .09). u* = 4.0547; a gains half, b loses half, c keeps its
    # logit: .01 e^2.027 = .0759, .90 e^-2.027 = .1185, .09, divided by their sum .2844.
    policies = record["flips"]["worked"]["policies"]
    assert policies["dpo"] == pytest.approx([0.267, 0.417, 0.316], abs=1e-3)
    assert policies["kto"] == pytest.approx([1, 0, 0], abs=1e-3)


def test_t4_3_holds_for_nearly_equal_weights_only(record: dict[str, Any]) -> None:
    # p .6: a goes up and b down for weights between 2/3 and 3/2.
    for row in record["flips"]["weights"]:
        pushed = (row["a_is_pushed_up"], row["b_is_pushed_up"])
        assert pushed == (row["ratio"] > 2 / 3, row["ratio"] > 3 / 2)
        assert (row["given"] == "a") == pushed[0]
        if pushed == (True, False):
            assert row["policy"][0] > 0.99


def test_losses_of_single_labels_settle_where_the_page_says(record: dict[str, Any]) -> None:
    found = {(m["loss"], m["beta"]): m for m in record["flips"]["family"]}
    logit = math.log(1.5)
    assert found["bce", 0.5]["rewards"] == pytest.approx([logit, -logit, 0.717], abs=1e-3)
    # Without room for e^r of both, the rewards stay short of logit(p).
    assert found["bce", 0.1]["rewards"][0] < logit - 0.1
    shifted = found["bco", 0.5]
    away = [reward - shifted["shift"] for reward in shifted["rewards"][:2]]
    assert away == pytest.approx([logit, -logit], abs=1e-3)
    assert abs(shifted["shift"]) > 0.1
    assert found["ipo", 0.5]["gap"] == pytest.approx(0.2, abs=1e-3)  # (2 p - 1) / (2 beta)
    assert found["sft", 0.5]["policy"] == pytest.approx([0.6, 0.4, 0], abs=2e-3)


def test_bce_flips_at_the_square_of_the_ratio_of_dpo() -> None:
    # p .6, beta 1: dpo flips at 1.5, bce at 2.25.
    reference = torch.tensor([[0.2, 0.2 * 2.2, 0.36], [0.2, 0.2 * 2.3, 0.34]], dtype=torch.float64)
    shares = torch.tensor([0.6, 0.6], dtype=torch.float64)
    assert settle("bce", shares, reference, beta=1.0).emits_b.tolist() == [False, True]
    assert settle("dpo", shares, reference, beta=1.0).emits_b.tolist() == [True, True]


# By hand from the formulas: what is broken, and at which rows, where not at both.
NOT_MEMBERS = {
    "apo_zero": {"point"},
    "kto_concave": {"concave", "one_value"},  # -log sigmoid(-u) of undesirable rows is convex
    "kto_noref": {"reference"},
    "humanline": {"tokens", "distance"},  # the clip is of tokens, about the reference
    "bco": {"concave", "one_value"},
    "bce": {"point", "concave", "one_value"},
    "npo": {"point", "concave"},
    "sft": {"point"},
    "csft": {"point"},
    "topr": {"point", "one_value"},  # v' = 1 of desirable rows, min(e^r, 1) of undesirable ones
    "ppo_offline": {"tokens", "point", "concave", "one_value"},  # v' = e^r up to the clip
    "cdpo": {"rising"},
    "ipo": {"rising"},
    "slic": {"reference", "distance"},
    "simpo": {"reference"},
    "orpo": {"reference", "distance"},
}
MEMBER_IF = {
    ("zero",): {"apo_zero", "sft", "csft"},
    ("uniform",): {"kto_noref", "simpo"},
    ("signed",): {"kto_concave", "bco"},
    ("zero", "signed"): {"bce", "npo"},
}


def test_every_loss_of_the_table_has_its_verdict(record: dict[str, Any]) -> None:
    losses = record["halo"]["losses"]
    assert list(losses) == list(LOSSES)
    members = {name for name, found in losses.items() if found["member"]}
    assert members == {"kto", "kto_identity", "dpo"}
    failed = {name: set(found["failed"]) for name, found in losses.items() if found["failed"]}
    assert failed == NOT_MEMBERS
    for name in ("kto_concave", "bco", "bce"):
        assert losses[name]["failed"]["concave"] == ["undesirable"]


def test_what_would_make_a_loss_a_member(record: dict[str, Any]) -> None:
    found: dict[tuple[str, ...], set[str]] = {}
    for name, loss in record["halo"]["losses"].items():
        if not loss["member"] and loss["member_if"] is not None:
            found.setdefault(tuple(loss["member_if"]), set()).add(name)
    assert found == MEMBER_IF


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (lambda r, z0, _: -(r - z0).square(), "rising"),
        (lambda r, z0, _: (r - z0).exp(), "concave"),
        (lambda r, *_: r, "point"),
        (lambda r, z0, _: r - 2 * z0, "distance"),
        (lambda r, z0, up: torch.where(up, r - z0, logsigmoid(r - z0)), "one_value"),
    ],
)
def test_the_check_of_membership_finds_a_fault(
    fault: Any, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(inputs: LossInputs, *, beta: float, **_: float) -> LossTerms:
        r = inputs.log_ratio()
        value = fault(r, inputs.z0, inputs.desirable)
        losses = torch.where(inputs.desirable, 1 - value, value)
        return LossTerms(losses, beta * r.detach())

    needs = LossNeeds("", "", both_labels=False, mismatched=True)
    monkeypatch.setitem(LOSSES, "faulty", faulty)
    monkeypatch.setitem(LOSS_TABLE, "faulty", needs)
    found = failures("faulty")
    assert list(found) == [expected]


def test_slopes_of_kto_match_hand_computation() -> None:
    # sigmoid(ln 3) = 3/4 at r - z0 = ln 3, beta 1: slope -3/16 of a desirable row.
    ratio = torch.tensor([math.log(3) + 1], dtype=torch.float64)
    losses, slopes = losses_and_slopes("kto", ratio, desirable=True, beta=1.0, z=1.0)
    assert losses.tolist() == pytest.approx([1 / 4], abs=1e-12)
    assert slopes.tolist() == pytest.approx([-3 / 16], abs=1e-12)


def test_the_committed_results_are_what_the_losses_give(record: dict[str, Any]) -> None:
    committed = json.loads(RESULTS.read_text(encoding="utf-8"))
    # Otherwise: make theory
    assert_alike(committed, record, "theory.json")


def assert_alike(first: Any, second: Any, place: str) -> None:
    """Equal but for the last digits of numbers; the count of steps may differ by a few."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), place
        for key in first:
            assert_alike(first[key], second[key], f"{place}.{key}")
    elif isinstance(first, list):
        assert len(first) == len(second), place
        for i, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_alike(one, other, f"{place}[{i}]")
    elif isinstance(first, float):
        assert first == pytest.approx(second, rel=1e-4, abs=1e-8), place
    elif place.endswith(".steps"):
        assert abs(first - second) <= 5, place
    else:
        assert first == second, place


def test_the_page_and_its_plots_are_what_the_results_give() -> None:
    committed = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(committed)  # otherwise: make theory
    assert sorted(path.stem for path in PLOT_FOLDER.iterdir()) == sorted(PLOTS)
    for name in PLOTS:
        assert f"](theory/{name}.svg)" in text
        drawn = (PLOT_FOLDER / f"{name}.svg").read_text(encoding="utf-8")
        assert drawn == draw(name, committed), name


def test_figures_of_the_page_move_with_the_results() -> None:
    committed = json.loads(RESULTS.read_text(encoding="utf-8"))
    before = page(committed)
    committed["flips"]["cells"][0]["kto_flip"] = True
    committed["values"]["differences"]["shared"] = 0.777
    committed["halo"]["losses"]["dpo"]["member"] = False
    after = page(committed)
    assert "| 1 of 120 |" in after
    assert "0.777" in after
    assert "`kto` and `kto_identity` are human-aware" in after
    assert before != after
