"""Files that say which domains are trained on: the published splits, and one's own. Read without torch."""

from __future__ import annotations

from pathlib import Path

from metasiam.errors import MetaSiamError
from metasiam.runs.reading import read_text
from metasiam.shapes import SPLIT_FILE, check, parse_json


def read_split(split: str | Path) -> tuple[list[str], list[str], list[str]]:
    """Return the names of the domains to train on, to validate on and to test on.

    Args:
        split: the name of a published split, or a JSON file with the lists train, validation and test.

    Raises:
        MetaSiamError: if it cannot be read.
    """
    packaged = {path.stem: path for path in (Path(__file__).parent / "splits").glob("*.json")}
    try:
        listed = parse_json(read_text(packaged.get(str(split), Path(split))))
        check(listed, SPLIT_FILE)
        return list(listed["train"]), list(listed["validation"]), list(listed["test"])
    except (OSError, ValueError) as error:
        known = ", ".join(sorted(packaged))
        reason = getattr(error, "strerror", None) or str(error)
        raise MetaSiamError(
            f"--split {split} cannot be read ({reason}). Use {known}, or a JSON file with the lists train, validation "
            "and test."
        ) from error


def check_split(split: str) -> None:
    """Raise unless what ``--split`` names can be read.

    Raises:
        MetaSiamError: saying what it can be.
    """
    read_split(split.removesuffix(":validation"))
