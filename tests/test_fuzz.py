"""A slice of `make fuzz`: broken input ends well or in one line, and leaves nothing behind."""

import random
from pathlib import Path

import pytest
from benchmarks.fuzz import describe, fuzz, run_command
from benchmarks.mutate import mutate


@pytest.mark.filterwarnings("ignore")  # of libraries, about what is broken on purpose
def test_broken_input_ends_well_or_in_one_line(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, 42, seed=0)
    failures = [outcome for outcome in outcomes if outcome.ended == "failure"]
    assert failures == []
    counts = describe(outcomes, 0, 0.0)["targets"].values()
    assert sum(c["refused"] for c in counts) >= 12  # what is broken is mostly noticed
    assert sum(c["fine"] for c in counts) >= 3  # and what is not still works


def test_a_mutation_depends_on_its_seed_only() -> None:
    content = b'{"a": [1, 2], "b": {"c": "d"}}\n' * 3
    once, again, other = (mutate(content, "lines", random.Random(seed)) for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_what_escapes_the_command_line_counts_as_exit_code_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("thumbs.cli.main", broken)
    code, _, err = run_command(["losses"])
    assert code == 1
    assert "KeyError: 'a bug'" in err
