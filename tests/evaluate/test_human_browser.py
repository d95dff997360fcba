"""The page for people in a real browser: it fits, works by keyboard, runs nothing of the data."""

import os
import shutil
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import sync_playwright
from tests.evaluate.test_human_page import INJECTION, rated

from thumbs.evaluate.judging import Question

CHROMIUM = shutil.which("chromium")
INSTALL = "needs a browser: apt-get install chromium"
LONG = "word " * 300 + "x" * 300
QUESTIONS = [Question(f"{i} {INJECTION}", f"good {INJECTION}", f"bad {LONG}") for i in range(4)]


def test_a_person_judges_by_keyboard_on_a_narrow_and_a_wide_screen(tmp_path: Path) -> None:
    if CHROMIUM is None:
        assert "THUMBS_SKIP_NOTHING" not in os.environ, INSTALL
        pytest.skip(INSTALL)
    said: list[str] = []
    told: list[str] = []

    def visit(url: str, _client: httpx2.Client) -> None:
        with sync_playwright() as playwright:
            launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = launched.new_page(viewport={"width": 360, "height": 800})
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("dialog", lambda dialog: said.append(dialog.message))
            page.goto(url)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            for key in ("0", "u"):
                with page.expect_navigation():
                    page.keyboard.press(key)
                told.append(page.inner_text("h1"))
            page.set_viewport_size({"width": 1440, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= 1440
            for _ in QUESTIONS:
                left = page.inner_text("section[aria-labelledby=left] .text")
                with page.expect_navigation():
                    page.keyboard.press("1" if left.startswith("good") else "2")
            told.append(page.inner_text("main"))
            launched.close()

    found = rated(tmp_path / "judgements.jsonl", visit, QUESTIONS)
    assert [judgement.verdict for judgement in found] == ["first"] * 4
    assert said == []
    assert "1 of 4 judged" in told[0]
    assert "0 of 4 judged" in told[1]
    assert "All are judged" in told[2]
