"""Draw the three pictures of the drawing app's guide: the page in a real browser, drawn on with a real pointer.

    python -m benchmarks.drawing_app_pictures

Needs Chromium with its driver, and Selenium. Writes docs/drawing_app_{pair,one_shot,phone}.png.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from metasiam.app.opening import open_studio
from metasiam.app.server import build_app, configured, open_socket

DOCS = Path(__file__).parents[1] / "docs"
Shape = list[list[tuple[float, float]]]


def _wave(share: float, height: float) -> tuple[float, float]:
    return 0.78 * share, 0.5 + height * math.sin(math.pi * share)


FISH: Shape = [
    [_wave(i / 12, -0.3) for i in range(13)] + [(1.0, 0.8), (1.0, 0.2)] + [_wave(1 - i / 12, 0.3) for i in range(13)],
    [(0.2, 0.44), (0.21, 0.45)],
]
HOUSE: Shape = [
    [(0.1, 1.0), (0.12, 0.4), (0.5, 0.0), (0.9, 0.4), (0.88, 0.98), (0.1, 1.0)],
    [(0.4, 0.98), (0.4, 0.6), (0.62, 0.6), (0.62, 0.97)],
]
_TIPS = [(0.5 + 0.5 * math.sin(0.8 * math.pi * i), 0.5 - 0.5 * math.cos(0.8 * math.pi * i)) for i in range(6)]
STAR: Shape = [_TIPS]
SPIRAL: Shape = [[(0.5 + i * math.cos(i / 4) / 90, 0.5 + i * math.sin(i / 4) / 90) for i in range(4, 46)]]


class Page:
    """The page in a browser of a size.

    Args:
        address: of the app.
        browser: shows it.
    """

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self.browser = browser
        browser.get(address)
        self.wait("document.body.dataset.ready === 'yes'")

    def wait(self, script: str) -> None:
        """Wait until a script is true."""
        WebDriverWait(self.browser, 60).until(lambda _: self.browser.execute_script(f"return Boolean({script})"))

    def draw(self, pad: str, shape: Shape, *, size: float, at: tuple[float, float] = (0.5, 0.5)) -> None:
        """Draw strokes; ``size`` and ``at`` are fractions of the pad."""
        canvas = self.browser.find_element(By.CSS_SELECTOR, f"[data-pad={pad}] canvas")
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        width, height = canvas.size["width"], canvas.size["height"]
        chain = ActionChains(self.browser, duration=8)
        for stroke in shape:
            for place, (x, y) in enumerate(stroke):
                across, down = (at[0] - 0.5 + (x - 0.5) * size) * width, (at[1] - 0.5 + (y - 0.5) * size) * height
                chain.move_to_element_with_offset(canvas, round(across), round(down))
                if place == 0:
                    chain.click_and_hold()
            chain.release()
        chain.perform()

    def teach(self, name: str, shape: Shape) -> None:
        """Show a symbol once."""
        self.draw("example", shape, size=0.6)
        self.wait(
            "document.body.ariaBusy === 'false' && document.querySelector('[data-pad=example] .seen').offsetWidth"
        )
        self.browser.find_element(By.CSS_SELECTOR, "#name").send_keys(name, Keys.ENTER)
        self.wait(f"document.querySelector('#symbols').innerText.includes('{name}')")

    def save(self, name: str) -> None:
        """Write what is seen, once there is an answer."""
        self.wait("document.body.ariaBusy === 'false' && document.body.innerText.includes('% sure')")
        self.browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
        threading.Event().wait(1)  # what moves has come to rest
        self.browser.save_screenshot(str(DOCS / f"drawing_app_{name}.png"))


@contextmanager
def served() -> Iterator[str]:
    """Serve the app while the block runs; give its address."""
    opened = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(configured(build_app(open_studio())))
    thread = threading.Thread(target=lambda: server.run(sockets=[opened]), daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.05)
    try:
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def browser(width: int, height: int, *, phone: bool = False) -> Iterator[webdriver.Chrome]:
    """Start Chromium with a page of a size, without what others installed."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory() as profile:
        size = f"--window-size={width},{height}"
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size):
            options.add_argument(flag)
        options.add_argument(f"--user-data-dir={profile}")
        if phone:
            metrics = {"width": width, "height": height, "pixelRatio": 1.0, "touch": False}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver") or ""))
        try:
            yield driver
        finally:
            driver.quit()


def main() -> None:
    """Draw all three."""
    with served() as address:
        with browser(1100, 850) as driver:
            page = Page(driver, address)
            page.draw("first", FISH, size=0.7)
            page.draw("second", FISH, size=0.5, at=(0.45, 0.45))
            page.save("pair")
            driver.set_window_size(1100, 1260)
            driver.find_element(By.CSS_SELECTOR, "#tab-shot").click()
            for name, shape in (("fish", FISH), ("house", HOUSE), ("star", STAR)):
                page.teach(name, shape)
            page.draw("query", HOUSE, size=0.45)
            page.save("one_shot")
        with browser(390, 844, phone=True) as driver:
            page = Page(driver, address)
            page.draw("first", SPIRAL, size=0.8)
            page.draw("second", STAR, size=0.6)
            page.save("phone")


if __name__ == "__main__":
    main()
