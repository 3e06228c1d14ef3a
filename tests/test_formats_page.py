"""The page about files names what the files of today hold."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")
MADE = Path(__file__).parent / "fixtures" / "today" / "made.zip"


@pytest.mark.parametrize(
    "name", ["triplet/config.json", "siamese/config.json", "comparison/comparison.json", "comparison/compare.json"]
)
def test_every_field_of_a_file_is_on_the_page(name: str) -> None:
    with zipfile.ZipFile(MADE) as made:
        held = json.loads(made.read(name))
    held = {key: value for key, value in held.items() if key not in ("methods", "budget")} | {"methods": 0, "budget": 0}
    inside = {key for field in ("data", "split") for key in held.get(field, {}) if name.endswith("config.json")}
    missing = {key for key in {*held, *inside} if f"`{key}`" not in PAGE and f"`data.{key}`" not in PAGE}
    assert missing == set()


def test_every_field_of_a_row_is_on_the_page() -> None:
    with zipfile.ZipFile(MADE) as made:
        compare = json.loads(made.read("comparison/compare.json"))
        metrics = made.read("triplet/metrics.jsonl").decode().splitlines()
    rows = [compare["paired"][0], compare["methods"]["reptile"]["held_out"]["tasks"][0], json.loads(metrics[-1])]
    missing = {key for row in rows for key in row if not any(f"{mark}{key}{mark}" in PAGE for mark in ("`", '"'))}
    assert missing == set()
