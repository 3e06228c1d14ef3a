"""Draw README's two pictures: the top of a comparison's report, and what the terminal says at its end.

    metasiam compare --preset quick --overwrite --out runs/quick
    python -m benchmarks.readme_pictures runs/quick

Needs Chromium. Writes docs/images/report.png and docs/images/terminal.png.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

from metasiam.reports.wording import headline

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def screenshot(address: str, out: Path, width: int, height: int) -> None:
    """Let Chromium draw a page into a PNG file."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={profile}",
             f"--window-size={width},{height}", f"--screenshot={out}", address],
            check=True, capture_output=True,
        )  # fmt: skip


def terminal(compare: dict[str, object], out: Path) -> None:
    """Draw the command and its verdict as a terminal of eighty columns shows them."""
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ metasiam compare --preset quick --overwrite --out runs/quick\n…", style="dim"))
    console.print(Text(str(headline(compare))))
    svg = console.export_svg(title="", theme=DEFAULT_TERMINAL_THEME)
    with tempfile.NamedTemporaryFile("w", suffix=".html", encoding="utf-8") as page:
        page.write(f"<meta charset='utf-8'><body style='margin:0'>{svg}</body>")
        page.flush()
        size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
        assert size is not None
        screenshot(f"file://{page.name}", out, *(math.ceil(float(side)) + 20 for side in size.groups()))


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path, help="folder of the comparison")
    folder = parser.parse_args().comparison.resolve()
    IMAGES.mkdir(exist_ok=True)
    screenshot(f"file://{folder / 'report.html'}", IMAGES / "report.png", 850, 760)
    terminal(json.loads((folder / "compare.json").read_text("utf-8")), IMAGES / "terminal.png")


if __name__ == "__main__":
    main()
