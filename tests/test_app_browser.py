"""The drawing app in a real browser: pointer moves on the pads, and what the page then says."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from app_server import served
from PIL import Image

from metasiam.app.opening import open_studio

pytest.importorskip("starlette", reason="the drawing app's extra is not installed: pip install '.[app]'")
pytest.importorskip("uvicorn", reason="the drawing app's extra is not installed: pip install '.[app]'")
pytest.importorskip("selenium", reason="selenium is not installed: pip install '.[test]'")

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed"),
    # Selenium leaves its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Shape = list[list[tuple[float, float]]]
CIRCLE: Shape = [[(0.5 + 0.4 * math.cos(a / 4), 0.5 + 0.4 * math.sin(a / 4)) for a in range(26)]]
OVAL: Shape = [[(0.5 + 0.36 * math.cos(a / 4 + 1), 0.5 + 0.42 * math.sin(a / 4 + 1)) for a in range(26)]]
ZIGZAG: Shape = [[(0.1, 0.8), (0.3, 0.2), (0.5, 0.8), (0.7, 0.2), (0.9, 0.8)]]
CROSS: Shape = [[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]]
TENT: Shape = [[(0.5, 0.1), (0.1, 0.9), (0.9, 0.9), (0.5, 0.1)]]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(open_studio()) as url:
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    os.environ["SE_AVOID_STATS"] = "true"
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--window-size=1100,1150",
        "--force-device-scale-factor=1",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, address: str) -> Page:
    browser.get(address)
    browser.execute_script("localStorage.clear()")
    browser.get("about:blank")
    browser.get(address)
    return Page(browser)


class Page:
    """The page as a person uses it."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser
        self.wait(lambda: browser.execute_script("return document.body.dataset.ready === 'yes'"))

    def wait(self, until: Callable[[], object], seconds: float = 20) -> None:
        WebDriverWait(self.browser, seconds, poll_frequency=0.05).until(lambda _: until())

    def find(self, selector: str):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def draw(
        self,
        pad: str,
        shape: Shape,
        *,
        size: float = 0.8,
        at: tuple[float, float] = (0.5, 0.5),
        pointer: str = "mouse",
    ) -> None:
        """Draw with real pointer moves; ``size`` and ``at`` are fractions of the pad."""
        canvas = self.find(f"[data-pad={pad}] canvas")
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        width, height = canvas.size["width"], canvas.size["height"]
        device = PointerInput(pointer, pointer)
        chain = ActionChains(self.browser, duration=8, devices=[device])
        for stroke in shape:
            for place, (x, y) in enumerate(stroke):
                across = (at[0] - 0.5 + (x - 0.5) * size) * width
                down = (at[1] - 0.5 + (y - 0.5) * size) * height
                chain.move_to_element_with_offset(canvas, round(across), round(down))
                if place == 0:
                    chain.click_and_hold()
            chain.release()
        chain.perform()

    def verdict(self) -> str:
        # An answer to the first strokes may have come before the last stroke's.
        self.wait(lambda: self.settled() and self.find("#verdict").get_attribute("data-verdict"))
        return self.text("#verdict")

    def one_shot(self) -> None:
        self.find("#tab-shot").click()
        self.wait(lambda: self.find("[data-pad=example] canvas").is_displayed())

    def teach(self, name: str, shape: Shape, **how: float) -> None:
        self.draw("example", shape, **how)
        self.find("#name").send_keys(name, Keys.ENTER)
        self.wait(lambda: name in self.text("#symbols"))

    def ask(self, shape: Shape, expected: str, **how: float) -> None:
        self.find("[data-pad=query] .clear").click()
        self.wait(lambda: not self.find("#named").get_attribute("data-verdict"))
        self.draw("query", shape, **how)
        self.wait(lambda: self.text("#named") == expected)

    def settled(self) -> bool:
        return self.find("body").get_attribute("aria-busy") == "false"

    def message(self) -> str:
        self.wait(lambda: self.find("#message").is_displayed())
        return self.text("#message")


def test_two_alike_are_the_same_wherever_and_however_large_they_are_drawn(page: Page) -> None:
    page.draw("first", CIRCLE)
    page.draw("second", OVAL, size=0.35, at=(0.3, 0.65))
    assert page.verdict() == "Same"
    assert "sure" in page.text("#chance")


def test_two_unlike_are_different_and_clearing_one_takes_the_answer_back(page: Page) -> None:
    page.draw("first", CIRCLE)
    page.draw("second", ZIGZAG)
    assert page.verdict() == "Different"
    needle, threshold = (page.find(f".scale-{name}").rect["x"] for name in ("needle", "threshold"))
    assert needle < threshold
    page.find("[data-pad=second] .clear").click()
    page.wait(lambda: page.text("#verdict") == "Draw on the other pad too")


def test_swap_exchanges_the_drawings_and_keeps_the_answer(page: Page) -> None:
    page.draw("first", CIRCLE)
    page.draw("second", ZIGZAG)
    assert page.verdict() == "Different"
    left, right = (page.find(f"[data-pad={pad}] .seen").get_attribute("src") for pad in ("first", "second"))
    page.find("#swap").click()
    page.wait(lambda: page.find("[data-pad=first] .seen").get_attribute("src") == right)
    page.wait(lambda: page.find("[data-pad=second] .seen").get_attribute("src") == left)
    assert page.verdict() == "Different"


def test_three_symbols_are_learned_from_one_drawing_each_and_outlive_a_reload(page: Page) -> None:
    page.one_shot()
    for name, shape in (("ring", CIRCLE), ("cross", CROSS), ("tent", TENT)):
        page.teach(name, shape)
    page.ask(OVAL, "ring", size=0.5)
    page.ask(CROSS, "cross", size=0.6, at=(0.6, 0.4))
    page.browser.refresh()
    again = Page(page.browser)
    again.one_shot()
    assert all(name in again.text("#symbols") for name in ("ring", "cross", "tent"))
    again.ask(TENT, "tent", size=0.5)
    again.ask(ZIGZAG, "None of these")


def test_the_keyboard_reaches_tabs_and_buttons(page: Page) -> None:
    page.find("#tab-pair").send_keys(Keys.ARROW_RIGHT)
    assert page.find("#panel-shot").is_displayed()
    page.find("#tab-shot").send_keys(Keys.ARROW_LEFT)
    page.draw("first", CIRCLE)
    page.find("[data-pad=first] canvas").send_keys(Keys.DELETE)
    assert page.find("[data-pad=first] .ghost").is_displayed()
    page.draw("first", CIRCLE)
    page.find("[data-pad=first] .clear").send_keys(Keys.ENTER)
    assert page.find("[data-pad=first] .ghost").is_displayed()


def test_an_empty_pad_a_nameless_symbol_and_a_huge_picture_are_explained(page: Page, tmp_path: Path) -> None:
    page.one_shot()
    page.find("#add button").click()
    assert page.message() == "The example pad is empty. Draw the symbol on it first."
    page.draw("example", CROSS)
    page.find("#add button").click()
    assert "no name" in page.message()
    Image.new("1", (30000, 30000)).save(tmp_path / "huge.png")
    page.find("#tab-pair").click()
    page.find("[data-pad=first] input[type=file]").send_keys(str(tmp_path / "huge.png"))
    assert "more than 16,000,000 pixels" in page.message()
    page.find("[data-pad=first] .clear").click()
    page.draw("first", CIRCLE)
    page.draw("second", CIRCLE)
    assert page.verdict() == "Same"


def test_a_malformed_symbol_file_is_refused_and_a_good_one_opened(page: Page, tmp_path: Path) -> None:
    page.one_shot()
    bad, good = tmp_path / "bad.json", tmp_path / "good.json"
    bad.write_text('{"format": "metasiam-symbols", "schema": 1, "symbols": [{"name": "a", "drawings": [7]}]}')
    page.find("#file").send_keys(str(bad))
    assert "a drawing of 'a' is empty" in page.message().lower()
    strokes = [[[1000 * x, 1000 * y] for x, y in stroke] for stroke in TENT]
    symbols = [{"name": "tent", "drawings": [{"strokes": strokes}]}]
    good.write_text(json.dumps({"format": "metasiam-symbols", "schema": 1, "symbols": symbols}))
    page.find("#file").send_keys(str(good))
    page.wait(lambda: "tent" in page.text("#symbols"))
    page.ask(TENT, "tent")


def test_symbols_are_saved_as_a_file_that_opens_again(page: Page, tmp_path: Path) -> None:
    page.browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path), "eventsEnabled": False}
    )
    page.one_shot()
    page.teach("ring", CIRCLE)
    page.teach("cross", CROSS)
    page.find("#save").click()
    file = tmp_path / "symbols.json"
    page.wait(lambda: file.is_file() and file.stat().st_size > 0)
    assert [symbol["name"] for symbol in json.loads(file.read_text())["symbols"]] == ["ring", "cross"]
    page.browser.execute_script("localStorage.clear()")
    page.browser.refresh()
    again = Page(page.browser)
    again.one_shot()
    assert "ring" not in again.text("#symbols")
    again.find("#file").send_keys(str(file))
    again.wait(lambda: "ring" in again.text("#symbols"))
    again.ask(OVAL, "ring")


def test_on_a_phone_fingers_draw_and_nothing_sticks_out(page: Page) -> None:
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 3, "mobile": True}
    )
    page.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        page.draw("first", CIRCLE, pointer="touch")
        page.draw("second", ZIGZAG, pointer="touch")
        assert page.verdict() == "Different"
        for tab in ("#tab-pair", "#tab-shot"):
            page.find(tab).click()
            wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.browser.execute_script(wide) == 0
            buttons = page.browser.find_elements(By.TAG_NAME, "button")
            assert min(button.rect["height"] for button in buttons if button.is_displayed()) >= 40  # for a fingertip
    finally:
        page.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_adapting_to_the_drawings_shows_before_and_after(page: Page) -> None:
    page.one_shot()
    for name, shapes in (("ring", (CIRCLE, OVAL)), ("cross", (CROSS, CROSS))):
        for shape in shapes:
            page.teach(name, shape)
    page.find("#adapt").click()
    page.wait(lambda: "before" in page.text("#gain"), 60)
    assert page.text("#gain").startswith("15 steps.")
    assert page.find("#adapted").is_selected()
    page.ask(OVAL, "ring")


def test_nothing_is_loaded_from_elsewhere_and_nothing_goes_wrong_on_the_page(page: Page, address: str) -> None:
    page.draw("first", CIRCLE)
    page.draw("second", ZIGZAG)
    page.verdict()
    asked = []
    for entry in page.browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        request = message["params"]
        # The browser's own new-tab page asks for things too.
        if message["method"] == "Network.requestWillBeSent" and request["documentURL"].startswith(address):
            asked.append(request["request"]["url"])
    assert f"{address}/page.css" in asked
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert elsewhere == []
    severe = [entry for entry in page.browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [entry for entry in severe if "422" not in entry["message"]] == []
