"""Proposition 4.1, theorems 4.2 and 4.3 and membership, by number; and that the page is of them."""

import math
from pathlib import Path

import orjson
import pytest
import torch
from experiments.theory.__main__ import PAGE, PLOTS, RESULTS, rounded
from experiments.theory.contradictions import settle
from experiments.theory.halo import membership
from experiments.theory.page import theory_page
from experiments.theory.plots import plots
from experiments.theory.values import values
from experiments.theory.vanishing import vanishing

from thumbs.core.losses import LOSSES

FOUND = orjson.loads(RESULTS.read_bytes())


def float64(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def reference(log_ratio: float) -> torch.Tensor:
    """(1, 3): b is likelier than a by log_ratio nats; the third answer has 0.09."""
    b = 0.91 / (1 + math.exp(-log_ratio))
    return float64(0.91 - b, b, 0.09)[None]


def test_the_page_and_its_plots_are_made_of_the_committed_numbers() -> None:
    # Otherwise: python -m experiments.theory --page
    assert PAGE.read_text(encoding="utf-8") == theory_page(FOUND)
    assert {path.stem for path in PLOTS.iterdir()} == plots(FOUND).keys()
    for name in plots(FOUND):
        assert f"(theory/{name}.svg)" in PAGE.read_text(encoding="utf-8")


def test_the_committed_numbers_are_what_the_losses_give() -> None:
    # Otherwise: make theory
    again = rounded(vanishing())
    for name, curve in FOUND["vanishing"]["curves"].items():
        for label in ("desirable", "undesirable"):
            assert again["curves"][name][label] == pytest.approx(curve[label], rel=1e-6, abs=1e-12)
    for name, curve in values()["curves"].items():
        assert curve == pytest.approx(FOUND["values"]["curves"][name], abs=1e-8)
    assert again["update_norms"] == pytest.approx(FOUND["vanishing"]["update_norms"], rel=1e-6)
    for name, loss in {name: membership(name) for name in LOSSES}.items():
        own = FOUND["halo"]["losses"][name]
        assert {key: loss[key] for key in ("member", "failed", "member_if")} == {
            key: own[key] for key in ("member", "failed", "member_if")
        }


def test_the_update_vanishes_far_from_the_reference_point_unless_that_follows() -> None:
    found = vanishing()
    for side in ("above", "below"):
        # s (1 - s) at distances 0, 10, 20, 50, 100, 200 and beta 0.1
        expected = [0.25, 0.1966119, 0.1049936, 6.648057e-3, 4.539581e-5, 2.061154e-9]
        assert found["weights"][side] == pytest.approx(expected, rel=1e-6)
        assert found["weights_undesirable"][side] == pytest.approx(expected, rel=1e-6)
    assert found["update_norms"] == sorted(found["update_norms"], reverse=True)
    assert found["update_norms"][-1] < 1e-7 * found["update_norms"][0]
    sigmoid = 1 / (1 + math.exp(-0.5))  # beta (r - z0) = 0.5, wherever z0 is
    assert found["weights_with_moving_z0"] == pytest.approx([sigmoid * (1 - sigmoid)] * 3)
    identity = found["curves"]["kto_identity"]["desirable"]
    assert identity == pytest.approx([1.0] * len(identity))
    concave = found["curves"]["kto_concave"]["undesirable"]
    assert concave[-1] == pytest.approx(1.0, abs=1e-4)  # r far above z0: hopeless, and still whole


def test_rewards_alike_to_preferences_differ_in_value_only_with_a_shared_reference_point() -> None:
    found = values()
    assert found["policy_difference"] < 1e-12
    assert found["preference_difference"] < 1e-12
    assert found["loss_differences"]["dpo"] < 1e-12
    assert found["differences"]["shared"] > 0.2
    assert found["differences"]["per prompt"] < 1e-12
    assert found["differences"]["per prompt, clamped"] < 1e-12
    clamped = dict(zip(found["shifts"], found["curves"]["per prompt, clamped"], strict=True))
    assert clamped[-4.0] > 0.4  # where the clamp acts, h does not cancel
    assert clamped[4.0] < 1e-12
    assert found["same_shift_difference"] < 1e-12  # one h for all prompts cancels too


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_the_gap_of_dpo_is_the_logit_of_the_majority_over_beta(beta: float) -> None:
    shares = float64(0.55, 0.7, 0.9)
    found = settle("dpo", shares, reference(0.0).expand(3, 3), beta=beta)
    assert found.gap.tolist() == pytest.approx((torch.logit(shares) / beta).tolist(), abs=1e-3)


@pytest.mark.parametrize(("p", "beta"), [(0.6, 0.5), (0.7, 1.0), (0.9, 1.0), (0.6, 0.1)])
def test_dpo_flips_to_the_minority_at_the_predicted_reference_ratio(p: float, beta: float) -> None:
    boundary = math.log(p / (1 - p)) / beta
    for away, flips in ((-1e-3, False), (1e-3, True)):
        start = reference(boundary + away)
        assert bool(settle("dpo", float64(p), start, beta=beta).emits_b[0]) is flips
        assert not settle("kto", float64(p), start, beta=beta, steps=1000).emits_b[0]


def test_the_worked_contradiction_has_the_policies_of_the_paper() -> None:
    start = float64(0.01, 0.90, 0.09)[None]
    dpo = settle("dpo", float64(0.6), start, beta=0.1)
    kto = settle("kto", float64(0.6), start, beta=0.1, steps=1000)
    assert dpo.policy[0].tolist() == pytest.approx([0.267, 0.417, 0.316], abs=5e-4)
    assert kto.policy[0].tolist() == pytest.approx([1, 0, 0], abs=1e-6)


def test_the_reward_of_bce_is_the_logit_of_the_share_that_liked_it() -> None:
    found = settle("bce", float64(0.6), float64(0.1, 0.8, 0.1)[None], beta=0.5, steps=1000)
    logit = math.log(0.6 / 0.4)
    assert (0.5 * found.log_ratio[0, :2]).tolist() == pytest.approx([logit, -logit], abs=1e-6)


def test_the_committed_grid_flips_where_the_theorem_says_and_nowhere_else() -> None:
    cells = FOUND["flips"]["cells"]
    assert len(cells) == 5 * 4 * 6
    for cell in cells:
        predicted = math.log(cell["p"] / (1 - cell["p"])) / cell["beta"] < math.log(cell["ratio"])
        assert cell["dpo_flip"] is predicted
        assert cell["kto_flip"] is False
    assert any(cell["dpo_flip"] for cell in cells)
    for gap in FOUND["flips"]["gaps"]:
        expected = math.log(gap["p"] / (1 - gap["p"])) / gap["beta"]
        assert gap["measured"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_membership_is_what_the_definition_says_of_each_loss(name: str) -> None:
    by_hand: dict[str, tuple[str, ...] | None] = {
        **dict.fromkeys(("kto", "kto_identity", "dpo"), ()),
        # r under a v that keeps the definition: only the reference point lacks.
        **dict.fromkeys(("apo_zero", "sft", "csft"), ("zero",)),
        # -log sigmoid of a margin that an undesirable row has the other way round.
        **dict.fromkeys(("kto_concave", "bco"), ("signed",)),
        **dict.fromkeys(("bce", "npo"), ("zero", "signed")),
        # log pi in the place of r.
        **dict.fromkeys(("kto_noref", "simpo"), ("uniform",)),
        # Token by token; tapered; a square or a mixture that turns back; a hinge of log pi; odds.
        **dict.fromkeys(("humanline", "ppo_offline", "topr", "ipo", "cdpo", "slic", "orpo")),
    }
    found = membership(name)
    expected = by_hand[name]
    assert found["member_if"] == (None if expected is None else list(expected))
    assert found["member"] is (expected == ())


def test_the_check_of_membership_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def convex(inputs, *, beta, desirable_weight, undesirable_weight):  # type: ignore[no-untyped-def]
        distance, log_ratio = inputs.log_ratio_from_z0()
        terms = LOSSES["kto_identity"](
            inputs,
            beta=beta,
            desirable_weight=desirable_weight,
            undesirable_weight=undesirable_weight,
        )
        return type(terms)(-distance.exp() * 0.1, beta * log_ratio.detach())

    monkeypatch.setitem(LOSSES, "kto", convex)
    assert "concave" in membership("kto")["failed"]


def test_nothing_of_the_page_names_a_place_of_this_machine() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert str(Path.home()) not in text
    assert not [line for line in text.splitlines() if "nan" in line.split()]
