"""Keep the numbers of a run, an evaluation or a comparison in benchmarks/results, without weights and machine's paths.

    python -m benchmarks.keep runs/compare cifar100-compare

Writes NAME.json (settings, device, seed and every number), and NAME.md for a comparison.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def without_folders(text: str) -> str:
    """Shorten absolute paths to their last part."""
    return re.sub(r"(?<![\w.])/(?:[\w.-]+/)+([\w.-]+)", r"\1", text)


def gathered(folder: Path) -> dict[str, Any]:
    """Return what a run folder or a comparison's folder says about itself."""

    def read(name: str, place: Path = folder) -> Any:
        return json.loads((place / name).read_text(encoding="utf-8"))

    if (folder / "compare.json").is_file():
        runs = {path.parent.name: read("config.json", path.parent) for path in sorted(folder.glob("*/config.json"))}
        seconds = {name: _seconds(folder / name) for name in runs}
        return {"compare": read("compare.json"), "configs": runs, "training_seconds": seconds}
    if not (folder / "config.json").is_file():  # weights trained elsewhere
        return {"evaluation": read("evaluation.json")}
    return {
        "config": read("config.json"),
        "training_seconds": _seconds(folder),
        "evaluation": read("evaluation.json"),
    }


def _seconds(run: Path) -> float | None:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(lines[-1])["seconds"] if lines else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args()
    text = json.dumps(gathered(arguments.folder), indent=1, ensure_ascii=False)
    (RESULTS / f"{arguments.name}.json").write_text(without_folders(text) + "\n", encoding="utf-8")
    if (arguments.folder / "compare.md").is_file():
        words = (arguments.folder / "compare.md").read_text(encoding="utf-8")
        (RESULTS / f"{arguments.name}.md").write_text(without_folders(words), encoding="utf-8")


if __name__ == "__main__":
    main()
