"""The drawing app in a real browser: pointer moves on the pads, and what the page then says."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from app_server import served
from PIL import Image, ImageDraw

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


def stored(page: Page) -> list | None:
    return json.loads(page.browser.execute_script("return localStorage.getItem('metasiam-symbols')") or "null")


def store(page: Page, symbols: object, *, raw: str = "") -> Page:
    """Put symbols where the page keeps them, as an earlier version left them, and load it."""
    page.browser.execute_script("localStorage.setItem('metasiam-symbols', arguments[0])", raw or json.dumps(symbols))
    page.browser.refresh()
    return Page(page.browser)


def strokes(shape: Shape) -> dict[str, object]:
    return {"strokes": [[[1000 * x, 1000 * y] for x, y in stroke] for stroke in shape]}


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}", "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}"),
        ("می\N{ZERO WIDTH NON-JOINER}خواهم", "می\N{ZERO WIDTH NON-JOINER}خواهم"),
        ("no\N{NO-BREAK SPACE}break", "no break"),
        ("hy\N{SOFT HYPHEN}phen", "hyphen"),
        ("Jose\N{COMBINING ACUTE ACCENT}", "José"),
    ],
)
def test_names_with_characters_that_are_not_seen_outlive_a_reload(page: Page, typed: str, kept: str) -> None:
    page.one_shot()
    page.draw("example", CROSS)
    page.browser.execute_script("document.getElementById('name').value = arguments[0]", typed)
    page.find("#add button").click()
    page.wait(lambda: page.browser.find_elements(By.CSS_SELECTOR, "#symbols .name"))
    page.browser.refresh()
    Page(page.browser)
    names = [symbol["name"] for symbol in stored(page) or []]
    assert names == [kept]
    assert page.find("#symbols .name").get_attribute("textContent") == kept


def test_a_symbol_or_an_example_too_many_is_refused_before_it_is_kept(page: Page) -> None:
    many = [{"name": f"s{place}", "drawings": [strokes(CROSS)]} for place in range(40)]
    many[0]["drawings"] = [strokes(CROSS)] * 20
    page = store(page, many)
    page.one_shot()
    page.draw("example", TENT)
    for name, words in (("one more", "more than 40"), ("s0", "more than 20")):
        page.find("#name").clear()
        page.find("#name").send_keys(name, Keys.ENTER)
        page.wait(lambda words=words: words in page.message())
    assert stored(page) == many
    assert not page.find("[data-pad=example] .ghost").is_displayed()  # the drawing is still there


def test_a_list_of_an_earlier_version_that_holds_too_many_is_used_in_part_and_kept_as_a_whole(page: Page) -> None:
    many = [{"name": f"s{place}", "drawings": [strokes(CROSS)]} for place in range(41)]
    many[0]["drawings"] = [strokes(TENT)] * 21
    page = store(page, many)
    assert "1 of 41 symbols and 1 examples" in page.message()
    page.one_shot()
    assert len(page.browser.find_elements(By.CSS_SELECTOR, "#symbols .name")) == 40
    page.find("#symbols .thumb").click()  # makes room, and so another list is kept
    page.wait(lambda: len((stored(page) or [{"drawings": []}])[0]["drawings"]) == 19)
    assert aside(page) == [many]


def aside(page: Page) -> list:
    """What was set aside, never to be overwritten."""
    script = """return Object.keys(localStorage).filter((key) => key.startsWith('metasiam-symbols-aside'))
        .map((key) => localStorage.getItem(key))"""
    return [json.loads(text) if text.startswith("[") else text for text in page.browser.execute_script(script)]


@pytest.mark.parametrize("raw", ['[{"name": "a", "drawings": [7]}]', '{"cut off'])
def test_a_list_that_cannot_be_read_is_never_overwritten(page: Page, raw: str) -> None:
    page = store(page, None, raw=raw)
    assert "not overwritten" in page.message()
    page.one_shot()
    page.teach("ring", CIRCLE)
    page.teach("cross", CROSS)
    page.wait(lambda: len(stored(page) or []) == 2)
    assert aside(page) == [json.loads(raw) if raw.startswith("[") else raw]
    assert page.find("#aside-save").is_displayed()
    page.browser.refresh()
    again = Page(page.browser)
    again.one_shot()
    assert "ring" in again.text("#symbols")
    again.find("#aside-forget").click()
    again.browser.switch_to.alert.accept()
    again.wait(lambda: not again.find("#aside").is_displayed())
    assert aside(again) == []
    assert len(stored(again) or []) == 2


def test_symbols_that_another_tab_adds_are_not_lost(page: Page, address: str) -> None:
    page.one_shot()
    page.teach("ring", CIRCLE)
    first = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    try:
        page.browser.get(address)
        other = Page(page.browser)
        other.one_shot()
        other.teach("cross", CROSS)
        page.browser.close()
    finally:
        page.browser.switch_to.window(first)
    page.wait(lambda: "cross" in page.text("#symbols"))
    page.teach("tent", TENT)
    assert [symbol["name"] for symbol in stored(page) or []] == ["ring", "cross", "tent"]


def test_what_was_removed_can_be_brought_back(page: Page, tmp_path: Path) -> None:
    page.one_shot()
    page.teach("ring", CIRCLE)
    page.teach("cross", CROSS)
    before = stored(page)
    file = tmp_path / "other.json"
    other = {"format": "metasiam-symbols", "schema": 1, "symbols": [{"name": "tent", "drawings": [strokes(TENT)]}]}
    file.write_text(json.dumps(other))
    removals: list[tuple[Callable[[], object], str]] = [
        (lambda: page.find("#forget").click(), "2 symbols forgotten."),
        (lambda: page.find("#symbols .thumb").click(), "Example 1 of ring removed."),
        (lambda: page.find("#file").send_keys(str(file)), "2 symbols replaced."),
    ]
    for remove, said in removals:
        remove()
        page.wait(lambda said=said: page.text("#removed").startswith(said))
        assert stored(page) != before
        page.find("#bring-back").click()
        page.wait(lambda: stored(page) == before)
        assert not page.find("#removed").is_displayed()


def photograph(path: Path, shape: Shape, size: tuple[int, int]) -> None:
    """Write a noisy JPEG of a drawing, as large as a phone's."""
    noise = Image.effect_noise(size, 40)
    paper = Image.blend(Image.new("L", size, 255), noise, 0.3)
    pen = ImageDraw.Draw(paper)
    for stroke in shape:
        points = [((0.1 + 0.8 * x) * size[0], (0.1 + 0.8 * y) * size[1]) for x, y in stroke]
        pen.line(points, fill=20, width=size[0] // 40, joint="curve")
    paper.convert("RGB").save(path, quality=95)


def test_photographs_of_any_size_are_taken_and_what_is_saved_opens_again(page: Page, tmp_path: Path) -> None:
    page.browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path), "eventsEnabled": False}
    )
    page.one_shot()
    for name, shape in (("ring", CIRCLE), ("cross", CROSS), ("tent", TENT)):
        photograph(tmp_path / f"{name}.jpg", shape, (4000, 3000))
        assert (tmp_path / f"{name}.jpg").stat().st_size > 1.7e6
        page.find("[data-pad=example] input[type=file]").send_keys(str(tmp_path / f"{name}.jpg"))
        page.wait(lambda: page.settled() and page.find("[data-pad=example] .seen").is_displayed())
        page.find("#name").send_keys(name, Keys.ENTER)
        page.wait(lambda name=name: name in page.text("#symbols"))
    page.find("#save").click()
    file = tmp_path / "symbols.json"
    page.wait(lambda: file.is_file() and file.stat().st_size > 0)
    assert file.stat().st_size < 1e6
    page.find("#forget").click()
    page.wait(lambda: "ring" not in page.text("#symbols"))
    page.find("#file").send_keys(str(file))
    page.wait(lambda: "ring" in page.text("#symbols"))
    page.ask(TENT, "tent")


def test_a_file_of_large_pictures_that_an_earlier_version_saved_opens(page: Page, tmp_path: Path) -> None:
    symbols = []
    for name, shape in (("ring", CIRCLE), ("cross", CROSS), ("tent", TENT)):
        photograph(tmp_path / f"{name}.jpg", shape, (2000, 2400))
        data = base64.b64encode((tmp_path / f"{name}.jpg").read_bytes()).decode()
        symbols.append({"name": name, "drawings": [{"picture": f"data:image/jpeg;base64,{data}"}]})
    file = tmp_path / "large.json"
    file.write_text(json.dumps({"format": "metasiam-symbols", "schema": 1, "symbols": symbols}))
    assert file.stat().st_size > 4 << 20
    page.one_shot()
    page.find("#file").send_keys(str(file))
    page.wait(lambda: "tent" in page.text("#symbols"), 40)
    page.ask(TENT, "tent")


@pytest.fixture
def screen(browser: webdriver.Chrome) -> Iterator[Callable[[int, int, float], None]]:
    """Sets the view's width and height in CSS pixels, and how many pixels of the screen one is."""

    def set_to(width: int, height: int, ratio: float) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    yield set_to
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("ratio", [1, 1.5, 2, 3])
def test_canvases_have_the_screen_s_pixels_also_after_the_pen_was_changed_out_of_view(
    page: Page, screen: Callable[[int, int, float], None], ratio: float
) -> None:
    screen(1366, 768, ratio)
    page.browser.execute_script(
        """const pen = document.getElementById("pen");
        for (let width = 4; width < 29; width++) {
          pen.value = width; pen.dispatchEvent(new Event("input", { bubbles: true }));
        }"""
    )
    page.one_shot()
    page.teach("ring", CIRCLE)
    page.find("#tab-pair").click()
    page.one_shot()
    measure = """return [...document.querySelectorAll("canvas")].map((canvas) => {
        const box = canvas.getBoundingClientRect();
        return [box.width, canvas.width, canvas.height]; })"""
    page.wait(lambda: all(abs(w - shown * ratio) <= 1 for shown, w, _ in page.browser.execute_script(measure) if shown))
    sides = page.browser.execute_script(measure)
    assert max(width for _, width, _ in sides) <= 700 * ratio
    assert all(width == height for _, width, height in sides)
    ink = """const [selector] = arguments; const canvas = document.querySelector(selector);
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return pixels.filter((alpha, place) => place % 4 === 3 && alpha > 127).length / canvas.width ** 2"""
    page.draw("query", [[(0.1, 0.5), (0.9, 0.5)]], size=1)
    wide = page.browser.execute_script(ink, "[data-pad=query] canvas")
    assert wide == pytest.approx(0.8 * 0.056, rel=0.15)  # 0.8 long and, at the widest, 2 · 28 thousandths wide
    assert page.browser.execute_script(ink, "#symbols canvas") > 0.05


def test_taking_a_stroke_back_or_clearing_while_it_is_drawn_ends_it(page: Page) -> None:
    canvas = page.find("[data-pad=first] canvas")
    chain = ActionChains(page.browser, duration=8)
    lines = "return window.kept"
    page.browser.execute_script(
        """window.kept = null; window.wrong = []; addEventListener("error", (event) => wrong.push(event.message));
        const real = window.fetch; window.fetch = (path, how) => {
          if (how?.body) window.kept = JSON.parse(how.body).drawing; return real(path, how); };"""
    )
    chain.move_to_element_with_offset(canvas, -100, -100).click_and_hold().move_by_offset(40, 0).release()
    chain.move_to_element_with_offset(canvas, -100, 0).click_and_hold().move_by_offset(60, 0)
    chain.key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL)
    chain.move_by_offset(0, 90).release()
    chain.move_to_element_with_offset(canvas, 60, -60).click_and_hold().move_by_offset(20, 20).release()
    chain.perform()
    page.wait(lambda: page.settled() and page.browser.execute_script(lines))
    kept = page.browser.execute_script(lines)["strokes"]
    assert len(kept) == 2  # the first and the last: the one taken back is gone, with all that its pointer still did
    assert all(y < 450 for stroke in kept for _, y in stroke)
    chain = ActionChains(page.browser, duration=8)
    chain.move_to_element_with_offset(canvas, 0, 0).click_and_hold().move_by_offset(20, 20).send_keys(Keys.DELETE)
    chain.move_by_offset(30, 30).release().perform()
    assert page.find("[data-pad=first] .ghost").is_displayed()
    assert page.browser.execute_script("return window.wrong") == []


@pytest.mark.parametrize("height", [625, 768])  # the whole view, and what a browser's bars leave of it
def test_the_answers_are_in_view_while_drawing_on_a_laptop(
    page: Page, screen: Callable[[int, int, float], None], height: int
) -> None:
    screen(1366, height, 1)
    bottom = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom + scrollY"
    page.draw("first", CIRCLE)
    page.draw("second", ZIGZAG)
    page.verdict()
    assert page.browser.execute_script(bottom, "#chance") <= height
    page.one_shot()
    page.teach("ring", CIRCLE)
    page.ask(OVAL, "ring")
    assert page.browser.execute_script(bottom, "#named-chance") <= height
    pad = page.find("[data-pad=query] canvas").size
    assert min(pad.values()) >= 220


def test_on_a_phone_explanations_are_in_view_where_the_button_was_pressed(
    page: Page, screen: Callable[[int, int, float], None]
) -> None:
    screen(390, 844, 3)

    def in_view(selector: str) -> bool:
        box = "const box = document.querySelector(arguments[0]).getBoundingClientRect(); return [box.top, box.bottom]"
        top, bottom = page.browser.execute_script(box, selector)
        return 0 <= top < bottom <= 844

    page.one_shot()
    page.find("#add button").click()
    page.message()
    assert in_view("#message")
    for name, shape in (("ring", CIRCLE), ("cross", CROSS)):
        page.teach(name, shape)
    page.find("#adapt").click()
    assert "second drawing" in page.message()
    assert in_view("#message")
    assert in_view("#adapt")
    page.teach("ring", OVAL)
    page.find("#adapt").click()
    page.wait(lambda: "before" in page.text("#gain"), 60)
    assert in_view("#gain")
    page.find("#forget").click()
    assert in_view("#removed")
