"""Every command's ``--help`` as it is: options, panels, defaults. What changes there is meant to change.

Renew the pinned texts after a change that is meant, and look at the difference before it is committed:

    METASIAM_RENEW=1 pytest tests/test_pinned_help.py && git diff tests/pinned/help
"""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PINNED = Path(__file__).parent / "pinned" / "help"

#: Run in a process of its own: the width and the colours are read where typer is imported. The place of the package
#: and whatever this process has imported already do not matter there.
_SHOW_ALL = """
import contextlib, io, json, sys
import typer.main
from metasiam.cli import app, run

def paths(command, path):
    yield path
    for name, below in sorted(getattr(command, "commands", {}).items()):
        yield from paths(below, (*path, name))

texts = {}
for path in paths(typer.main.get_command(app), ()):
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert run([*path, "--help"]) == 0, path
    texts["-".join(("metasiam", *path))] = shown.getvalue()
heavy = sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "matplotlib", "PIL"})
print(json.dumps({"texts": texts, "heavy": heavy}))
"""


@pytest.fixture(scope="module")
def shown() -> dict[str, object]:
    """Return the help of every command by its pinned file's name, and the heavy packages that showing it imported."""
    plain = {"TERMINAL_WIDTH": "100", "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONIOENCODING": "utf-8"}
    colours = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    surroundings = {name: value for name, value in os.environ.items() if name not in colours} | plain
    done = subprocess.run(
        [sys.executable, "-c", _SHOW_ALL], env=surroundings, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _lines(text: str) -> list[str]:
    """Return a help text's lines without what nobody sees at their ends."""
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def test_the_help_of_every_command_is_as_pinned(shown):
    texts = {name: _lines(text) for name, text in shown["texts"].items()}
    if os.environ.get("METASIAM_RENEW"):
        for file in PINNED.glob("*.txt"):
            file.unlink()
        for name, lines in texts.items():
            (PINNED / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pinned = {file.stem: file.read_text(encoding="utf-8").splitlines() for file in sorted(PINNED.glob("*.txt"))}
    differences = [
        "\n".join(
            difflib.unified_diff(
                pinned.get(name, []), texts.get(name, []), f"pinned/{name}", f"now/{name}", "", "", 1, ""
            )
        )
        for name in sorted({*pinned, *texts})
    ]
    changed = "\n".join(text for text in differences if text)
    assert not changed, (
        f"the help changed. If that is meant: METASIAM_RENEW=1 pytest tests/test_pinned_help.py\n{changed}"
    )


def test_no_command_imports_torch_to_show_its_help(shown):
    assert shown["heavy"] == []
