"""The page in a real browser: it draws, fits narrow and wide screens, runs nothing of the data."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.sync_api import Browser, sync_playwright

from thumbs.report.page import write_report

CHROMIUM = shutil.which("chromium")
INSTALL = "needs a browser: apt-get install chromium"
HOSTILE = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"
WIDTHS = (360, 1440)
ONE_STEP = [{"step": 1, "loss": 0.5}]  # one chart: quick to draw, where charts are not the point


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        assert "THUMBS_SKIP_NOTHING" not in os.environ, INSTALL
        pytest.skip(INSTALL)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_draws_without_errors_and_fits(
    browser: Browser, demo_run: Path, width: int, scheme: Any
) -> None:
    path = demo_run / "report.html"
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert said == []
    assert asked == [path.as_uri()]  # nothing from elsewhere
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = page.locator("svg[role=img]")
    sizes = [drawn.nth(i).bounding_box() for i in range(drawn.count())]
    assert len(sizes) == 12
    assert all(size and size["width"] > 200 and size["height"] > 100 for size in sizes)
    look = "getComputedStyle(document.body)"
    background, ink = (page.evaluate(f"{look}.{key}") for key in ("backgroundColor", "color"))
    assert (_brightness(background) > _brightness(ink)) == (scheme == "light")
    page.close()


def test_what_scrolls_is_reached_by_the_keyboard(
    browser: Browser, make_run: Callable[..., Path]
) -> None:
    path = write_report([make_run(name, steps=ONE_STEP) for name in ("one", "two")])
    page = browser.new_page(viewport={"width": 360, "height": 900})
    page.goto(path.as_uri())
    scrolling = page.evaluate(
        "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
        "['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).map(e => e.tabIndex)"
    )
    assert scrolling
    assert set(scrolling) == {0}
    page.close()


def test_text_of_the_data_stays_text(
    browser: Browser, make_run: Callable[..., Path], demo: dict[str, Any], audited: Any
) -> None:
    example = dict.fromkeys(("prompt", "before", "after", "answer"), HOSTILE)
    shown = {"demo": {**demo, "examples": [example]}, "command": HOSTILE}
    run = make_run(steps=ONE_STEP, data={"warnings": [HOSTILE]}, **shown)
    doubted = audited(prompt=HOSTILE, completion=HOSTILE, id=HOSTILE)
    (run / "audit.json").write_bytes(orjson.dumps(doubted))
    page = browser.new_page()
    page.goto(write_report(run).as_uri())
    assert page.title() != "run"
    assert page.locator("script, img").count() == 0
    assert page.get_by_text(HOSTILE).count() >= 6
    page.close()


A4_WIDTH = 718  # px, what margins leave


def test_printed_it_is_light_and_whole(
    browser: Browser, make_run: Callable[..., Path], audited: Any
) -> None:
    run = make_run()
    words = "several words of some length, " * 20
    (run / "audit.json").write_bytes(orjson.dumps(audited(prompt=words, completion="x" * 400)))
    page = browser.new_page(color_scheme="dark", viewport={"width": A4_WIDTH, "height": 1000})
    page.goto(write_report(run).as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    config = page.locator("pre.config")
    assert config.evaluate("e => e.scrollHeight <= e.clientHeight + 1")
    right_ends = page.evaluate(
        "[...document.querySelectorAll('.card, table, td, caption')]"
        ".map(e => e.getBoundingClientRect().right)"
    )
    assert max(right_ends) <= A4_WIDTH
    assert page.evaluate("document.querySelectorAll('table').length") > 3
    assert page.pdf().startswith(b"%PDF")
    page.close()


def _brightness(colour: str) -> int:
    numbers = colour.removeprefix("rgb(").removesuffix(")").split(",")
    return sum(int(number) for number in numbers)
