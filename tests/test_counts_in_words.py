"""No text says "1 pictures": numbers before nouns go through ``counted``, wherever they can be one."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

import metasiam
from metasiam.wording import counted

CODE = sorted(Path(metasiam.__file__).parent.rglob("*.py"))
#: What is counted somewhere, in its plural.
NOUNS = {
    "attempts", "batches", "bytes", "cases", "cells", "channels", "classes", "columns", "days", "domains",
    "drawings", "embeddings", "epochs", "examples", "files", "folders", "folds", "groups", "hours", "images",
    "iterations", "labels", "layers", "lines", "methods", "minutes", "options", "pairs", "parameters", "parts",
    "people", "persons", "pictures", "points", "processes", "queries", "questions", "resamples", "rows", "runs",
    "scores", "seconds", "seeds", "shots", "splits", "steps", "strangers", "strokes", "symbols", "tasks", "tensors",
    "tests", "thresholds", "times", "trainings", "trials", "triplets", "values", "ways", "weights",
}  # fmt: skip
#: What is in braces, and is never one or no number: a text, or counted only where there are several.
NEVER_ONE = {
    "count", "count:,", "depth", "info.channels", "kind", "len(columns)", "len(drawings)", "len(paths)",
    "len(paths):,", "len(self.blank):,", "total:,", "ends", "len(value)", "name", "other", "part",
    "seconds / 86400:.1f", "self.tried", "self.count", "span", "text", "total", "path.suffix[1:].upper()",
    "classes", "self.source", "clean(method, 40)", "method_name(method)", "clean(name, 60)", "images",
}  # fmt: skip
#: Between a subject, which is no number, and what it has.
_VERBS = "has|have|had|takes|knows|makes|holds|with|without|on|from|of|in|is|are"
_NOUN = rf" (?:(?!(?:{_VERBS})\b)[a-z-]+ )?(?:{'|'.join(NOUNS)})\b(?!/)"


def uncounted(path: Path) -> list[str]:
    """Return every number in braces that is followed by a noun in the plural, but neither counted nor a constant."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for value, after in pairwise(parts):
            if not isinstance(value, ast.FormattedValue) or not isinstance(after, ast.Constant):
                continue
            inside = ast.unparse(value.value)
            form = ast.unparse(value.format_spec)[2:-1] if value.format_spec is not None else ""
            shown = f"{inside}:{form}" if form else inside
            noun = re.match(_NOUN, str(after.value))
            if (
                noun
                and not inside.isupper()
                and not inside.startswith(("counted(", "number(", "signed("))
                and shown not in NEVER_ONE
            ):
                found.append(f"{path.name}:{value.lineno}: {{{shown}}}{after.value}")
    return found


@pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(CODE[0].parent))) for path in CODE])
def test_every_number_before_a_noun_is_counted(path: Path) -> None:
    assert uncounted(path) == []


def test_what_is_not_counted_is_found(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "a = f'{len(x)} pictures, {n:,} held-out domains.'\nb = f'{counted(n, \"pair\")} left, {MOST} points'\n"
    )
    assert uncounted(file) == ["a.py:1: {len(x)} pictures, ", "a.py:1: {n:,} held-out domains."]


def test_one_is_singular_and_odd_plurals_are_given() -> None:
    assert [counted(n, "picture") for n in (0, 1, 2, 1200)] == [
        "0 pictures",
        "1 picture",
        "2 pictures",
        "1,200 pictures",
    ]
    assert [counted(n, "person", "people") for n in (1, 2)] == ["1 person", "2 people"]
    assert counted("1", "minute") == "1 minute"
