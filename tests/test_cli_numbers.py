"""Every number of every command is finite, and every whole one of a size that torch can take."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from metasiam.cli import app, run


def kind_of(parameter: Any) -> str:
    """Return what a parameter takes; typer says it in another way since it has no click."""
    if hasattr(parameter, "type_descriptor"):
        return getattr(parameter.type_descriptor.annotation, "__name__", "")
    return {"integer": "int"}.get(parameter.type.name.split()[0], parameter.type.name)


def number_options() -> Iterator[tuple[str, str, str]]:
    """Yield each command's words, one of its options that takes a number, and the number's kind."""
    waiting = [((), typer.main.get_command(app))]
    while waiting:
        words, command = waiting.pop()
        waiting += [((*words, name), inner) for name, inner in getattr(command, "commands", {}).items()]
        for parameter in command.params:
            if (kind := kind_of(parameter)) in ("int", "float"):
                yield " ".join(words), parameter.opts[0], kind


OPTIONS = list(number_options())
NEEDED = {
    "data show": ["glyphs"],
    "tune": ["--try", "lr=1,2"],
    "evaluate": ["run"],
    "enroll": ["folder"],
    "identify": ["a.png"],
    "match": ["a.png", "b.png"],
}


def test_there_are_such_options():
    assert ("triplet", "--margin", "float") in OPTIONS
    assert ("reptile", "--iterations", "int") in OPTIONS
    assert ("data show", "--image-size", "int") in OPTIONS


@pytest.mark.parametrize(("command", "option", "kind"), OPTIONS)
def test_a_number_that_is_infinite_or_of_twenty_digits_is_refused_by_name(
    tmp_path, monkeypatch, capsys, command, option, kind
):
    monkeypatch.chdir(tmp_path)
    for value in ("inf", "-inf", "nan") if kind == "float" else (str(10**23), str(-(10**23))):
        assert run([*command.split(), *NEEDED.get(command, []), f"{option}={value}"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert option in error
        assert value in error or "or equal to" in error or "range" in error  # typer's own bounds do not repeat it
    assert not any(tmp_path.iterdir())
