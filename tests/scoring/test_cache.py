"""Cached scores are the same bits or absent."""

from pathlib import Path

import pytest
import torch

from thumbs.errors import ConfigError
from thumbs.scoring.cache import ScoreCache, cache_folder

SCORES = [torch.tensor([-0.1, -2.0, -1e-8]), torch.tensor([-7.25])]


def stored(cache: ScoreCache) -> Path:
    cache.put("ab12", SCORES)
    [file] = cache.folder.rglob("*.safetensors")
    return file


def test_scores_come_back_bit_by_bit(tmp_path: Path) -> None:
    stored(ScoreCache(tmp_path))
    values = ScoreCache(tmp_path).get("ab12", [3, 1])
    assert values is not None
    assert [v.tolist() for v in values] == [s.tolist() for s in SCORES]
    assert {v.dtype for v in values} == {torch.float32}


def test_what_was_not_stored_is_absent(tmp_path: Path) -> None:
    stored(ScoreCache(tmp_path))
    assert ScoreCache(tmp_path).get("ab13", [3, 1]) is None


def test_scores_of_another_length_are_absent(tmp_path: Path) -> None:
    stored(ScoreCache(tmp_path))
    assert ScoreCache(tmp_path).get("ab12", [3, 2]) is None


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_file_is_absent_and_can_be_stored_again(tmp_path: Path, damage: str) -> None:
    cache = ScoreCache(tmp_path)
    file = stored(cache)
    content = file.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    file.write_bytes({"flipped": flipped, "cut": content[:-5], "empty": b""}[damage])
    assert cache.get("ab12", [3, 1]) is None
    assert stored(cache) == file
    assert cache.get("ab12", [3, 1]) is not None


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBS_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert cache_folder() == Path("/one")
    monkeypatch.delenv("THUMBS_CACHE")
    assert cache_folder() == Path("/two/thumbs")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/thumbs")


def test_a_folder_that_cannot_be_made_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be made .*THUMBS_CACHE"):
        ScoreCache(tmp_path / "file")
