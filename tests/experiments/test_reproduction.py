"""The page of the committed records, and the arithmetic it stands on."""

import math
from pathlib import Path
from typing import Any

import pytest
from experiments.claims import as_good, verdict
from experiments.conditions import Condition
from experiments.harness import Trial
from experiments.methods import best_rate
from experiments.published import COMPARISONS, KTO_7B, Wins, compare
from experiments.recording import chosen, lead, solved
from experiments.reproduction import NAMES, PAGE, PLOT_FOLDER, all_records, page
from experiments.reproduction_plots import PLOTS, draw
from experiments.x2_label_noise import lies_inside
from experiments.x3_contradictions import SETTINGS, crossing_lines, measured_crossing, votes
from experiments.x3_contradictions import claim as contradictions_claim
from experiments.x6_learning_rate import best_rates, judged
from experiments.x9_model_size import growth, leads_by_seed


def test_the_page_is_made_of_the_committed_records() -> None:
    records = all_records()
    # Otherwise: make docs
    assert PAGE.read_text(encoding="utf-8") == page(records)
    for name in PLOTS:
        record, file = records[name], PLOT_FOLDER / f"{name}.svg"
        assert file.is_file() == (record is not None)
        if record is not None:
            assert file.read_text(encoding="utf-8") == draw(name, record)
    assert str(Path.home()) not in PAGE.read_text(encoding="utf-8")


def test_without_records_every_claim_is_said_to_be_not_run() -> None:
    text = page(dict.fromkeys(NAMES))
    assert text.count("Verdict: **not run**") == 11
    assert "holds**" not in text


def test_the_records_say_how_they_came_about() -> None:
    for name, record in all_records().items():
        if record is not None and "outcomes" in record:
            assert record["command"].startswith("python -m experiments."), name
            assert {"seeds", "machine", "versions", "date"} <= record.keys()
            for outcome in record["outcomes"]:
                if "correct" in outcome:
                    share = outcome["correct"].count("1") / len(outcome["correct"])
                    assert share == pytest.approx(outcome["accuracy"])


def test_the_records_are_measured_on_seeds_that_tuned_nothing() -> None:
    for name, record in all_records().items():
        tuned_on = {outcome["seed"] for outcome in (record or {}).get("tuning", [])}
        for outcome in (record or {}).get("outcomes", []):
            assert not outcome.get("validation")
            # Each seed of X9 is a pretraining; the same ones tune, with other problems.
            assert outcome["seed"] not in tuned_on or name == "x9_model_size"


def test_counts_are_tested_as_by_hand() -> None:
    assert KTO_7B.wins == 210  # .410 * 512 = 209.9
    # Pooled share 368 / 1,024, z = .1016 / sqrt(.3594 * .6406 * 2 / 512) = 3.387
    found = compare(*COMPARISONS[0])
    assert found["p"] == pytest.approx(math.erfc(3.387 / math.sqrt(2)), rel=2e-3)
    assert found["significant"]
    assert not compare(Wins("a", 0.328, 256), Wins("b", 0.309, 512))["significant"]


def test_a_verdict_needs_the_whole_interval_on_one_side() -> None:
    assert verdict([0.1, 0.01, 0.2]) == "holds"
    assert verdict([-0.1, -0.2, -0.01]) == "does not hold"
    assert verdict([0.1, -0.01, 0.2]) == "cannot be told at this scale"


def test_the_drawing_decides_no_verdict_of_x6() -> None:
    assert judged(0.99) == "holds"
    assert judged(0.0) == "does not hold"
    assert {judged(share) for share in (0.02, 0.03, 0.5, 0.97)} == {"cannot be told at this scale"}


def test_as_good_is_to_lose_no_more_than_two_points() -> None:
    assert as_good([0.0, -0.019, 0.02]) == "holds"
    assert as_good([-0.05, -0.08, -0.021]) == "does not hold"
    assert as_good([0.0, -0.03, 0.03]) == "cannot be told at this scale"


def contradiction(method: str, odds: list[float]) -> dict[str, Any]:
    """An outcome of X3's first setting, whose predicted crossing is at 4 ln 1.5 = 1.62 nats."""
    setting = SETTINGS[0]
    return {
        "method": method,
        "seed": 0,
        "votes": [setting.votes_a, setting.votes_b],
        "beta": setting.beta,
        "predicted": setting.predicted,
        "log_reference_ratio": [0.0, 1.0, 2.0, 3.0],
        "log_odds": odds,
        "probability_a": [1 / (1 + math.exp(-value)) for value in odds],
        "converged": True,
    }


def test_x3_does_not_hold_where_one_run_has_no_crossing_or_one_answer_is_the_minoritys() -> None:
    dpo = contradiction("DPO", [SETTINGS[0].predicted - x for x in (0.0, 1.0, 2.0, 3.0)])
    kto = contradiction("KTO", [5.0, 5.0, 5.0, 5.0])
    never = contradiction("DPO", [1.0, 1.0, 1.0, 1.0])
    torn = contradiction("KTO", [5.0, 5.0, 5.0, -1.0])

    def told(*outcomes: dict[str, Any]) -> str:
        record = {"table": crossing_lines(outcomes), "outcomes": list(outcomes)}
        return contradictions_claim({"x3_contradictions": record}).verdict

    assert told(dpo, kto) == "holds"
    assert told(dpo, never, kto) == "does not hold"
    assert told(dpo, kto, kto, torn) == "does not hold"


def test_leads_of_sizes_are_paired_by_seed() -> None:
    found = [outcome("KTO 1M", 0, "1101"), outcome("DPO 1M", 0, "1000"), outcome("KTO 1M", 1, "1")]
    assert leads_by_seed(found, "1M") == {0: 0.5}
    assert growth({0: 0.1, 1: 0.2}, {0: 0.3, 2: 0.9})[0] == pytest.approx(0.2)


def test_new_seeds_are_inside_where_the_widened_interval_has_their_mean() -> None:
    old = [0.5, 0.4, 0.6]
    assert lies_inside(old, [0.64, 0.59, 0.69])  # up to .6 + .05
    assert not lies_inside(old, [0.66, 0.61, 0.71])
    assert not lies_inside(old, [0.34, 0.29, 0.39])


def outcome(method: str, seed: int, correct: str, rate: float = 1e-3) -> dict[str, Any]:
    accuracy = correct.count("1") / len(correct)
    return {
        "method": method,
        "seed": seed,
        "correct": correct,
        "accuracy": accuracy,
        "learning_rate": rate,
        "condition": {},
    }


def test_leads_are_of_the_outcomes_that_are_as_wanted() -> None:
    found = [outcome("KTO", 0, "1101"), outcome("DPO", 0, "1000"), outcome("DPO", 1, "1111")]
    assert solved(found, method="DPO") == {0: [1, 0, 0, 0], 1: [1, 1, 1, 1]}
    assert lead(found, {"method": "KTO"}, {"method": "DPO"})[0] == 0.5  # seed 0 only
    assert chosen(found, method="BCO") == []


def test_the_best_rate_is_the_most_accurate_and_of_equals_the_lowest() -> None:
    found = [outcome("KTO", 0, c, r) for c, r in (("10", 3e-4), ("10", 1e-4), ("00", 1e-3))]
    assert best_rate(found) == 1e-4
    assert best_rates(found, "KTO") == {0: 1e-4}


def test_a_trial_is_named_by_what_it_does_and_not_by_its_name() -> None:
    first = Trial("KTO", Condition(), ("loss.name=kto",), 0, 1e-3)
    assert first.key() == Trial("other", Condition(), ("loss.name=kto",), 0, 1e-3).key()
    others = [
        Trial("KTO", Condition(flips=0.1), ("loss.name=kto",), 0, 1e-3),
        Trial("KTO", Condition(), ("loss.name=dpo",), 0, 1e-3),
        Trial("KTO", Condition(), ("loss.name=kto",), 1, 1e-3),
        Trial("KTO", Condition(), ("loss.name=kto",), 0, 2e-3),
        Trial("KTO", Condition(), ("loss.name=kto",), 0, 1e-3, validation=True),
    ]
    assert len({trial.key() for trial in (first, *others)}) == 6


def test_raters_votes_weigh_what_the_setting_says() -> None:
    setting = SETTINGS[0]
    assert (setting.votes_a, setting.votes_b, setting.beta) == (3, 2, 0.25)
    assert setting.predicted == pytest.approx(4 * math.log(3 / 2))
    first = votes(setting)[:4]
    assert [(r.completion, r.label, r.weight) for r in first] == [
        (" yes", True, 3.0),
        (" yes", False, 2.0),
        (" no", True, 2.0),
        (" no", False, 3.0),
    ]


def test_a_crossing_is_found_whatever_the_order_of_the_questions() -> None:
    odds = {"log_reference_ratio": [2.0, 0.0, 1.0], "log_odds": [-0.5, 1.5, 0.5]}
    assert measured_crossing(odds) == 1.5
    assert measured_crossing({**odds, "log_odds": [9.0, 9.0, 9.0]}) is None
