"""Cached scores are the same bits or absent."""

from pathlib import Path

import numpy as np
import pytest
import torch

from thumbs.errors import ConfigError
from thumbs.scoring.cache import ABSENT, Digests, KnownScores, ScoreCache

SCORES = [torch.tensor([-0.1, -2.0, -1e-8]), torch.tensor([-7.25])]


def digests(*names: str) -> Digests:
    """32 bytes each, that begin with the name."""
    content = b"".join(name.encode().ljust(32, b".") for name in names)
    return np.frombuffer(content, np.uint8).reshape(-1, 32)


def known(folder: Path) -> KnownScores:
    return ScoreCache(folder).of("a model")


def stored(folder: Path) -> Path:
    known(folder).put(digests("one", "two"), SCORES)
    [file] = folder.rglob("*.safetensors")
    return file


def found(scores: KnownScores, name: str, length: int) -> list[float] | None:
    [place] = scores.look_up(digests(name))
    score = scores.read(int(place), length)
    return None if score is None else score.tolist()


def test_scores_come_back_bit_by_bit(tmp_path: Path) -> None:
    stored(tmp_path)
    scores = known(tmp_path)
    assert found(scores, "one", 3) == SCORES[0].tolist()
    assert found(scores, "two", 1) == SCORES[1].tolist()
    score = scores.read(int(scores.look_up(digests("two"))[0]), 1)
    assert score is not None
    assert score.dtype == torch.float32


def test_what_was_not_stored_is_absent(tmp_path: Path) -> None:
    stored(tmp_path)
    assert known(tmp_path).look_up(digests("three", "two", "zzz")).tolist() == [ABSENT, 1, ABSENT]
    assert found(ScoreCache(tmp_path).of("another model"), "one", 3) is None


def test_digests_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    # The index sorts by the first 8 bytes; these share 12.
    names = [f"12 the same {i}" for i in range(5)]
    known(tmp_path).put(digests(*names), [torch.tensor([float(i)]) for i in range(5)])
    scores = known(tmp_path)
    assert [found(scores, name, 1) for name in names] == [[0.0], [1.0], [2.0], [3.0], [4.0]]
    assert found(scores, "12 the same 5", 1) is None


def test_scores_of_several_files_are_found_and_of_two_the_first(tmp_path: Path) -> None:
    stored(tmp_path)
    known(tmp_path).put(digests("two", "three"), [torch.tensor([1.0]), torch.tensor([2.0])])
    first, _ = sorted(tmp_path.rglob("*.safetensors"))
    scores = known(tmp_path)
    assert found(scores, "three", 1) == [2.0]
    assert found(scores, "one", 3) == SCORES[0].tolist()
    first.unlink()
    other = found(known(tmp_path), "two", 1)
    assert {tuple(found(scores, "two", 1) or ()), tuple(other or ())} == {(-7.25,), (1.0,)}


def test_scores_of_another_length_are_absent(tmp_path: Path) -> None:
    stored(tmp_path)
    assert found(known(tmp_path), "one", 2) is None


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_file_is_absent_and_can_be_stored_again(tmp_path: Path, damage: str) -> None:
    file = stored(tmp_path)
    content = file.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    file.write_bytes({"flipped": flipped, "cut": content[:-5], "empty": b""}[damage])
    assert found(known(tmp_path), "one", 3) is None
    assert stored(tmp_path) == file
    assert file.read_bytes() == content
    assert found(known(tmp_path), "one", 3) == SCORES[0].tolist()


def test_damaged_scores_hide_no_whole_ones(tmp_path: Path) -> None:
    for number in range(6):  # "one" in six files, of which the first by name is damaged
        known(tmp_path).put(digests("one", f"other {number}"), [SCORES[0], SCORES[1]])
    file = min(tmp_path.rglob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[content.index(SCORES[1].numpy().tobytes())] ^= 1
    file.write_bytes(content)
    assert found(known(tmp_path), "one", 3) is None
    assert found(known(tmp_path), "one", 3) == SCORES[0].tolist()


def test_a_folder_that_cannot_be_made_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be made .*THUMBS_CACHE"):
        ScoreCache(tmp_path / "file")
