"""The exception that people are meant to read, and its kinds that the program itself tells apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

_typing = False  # whether this process is a command line; of a process, not of a thread: workers decode pictures

#: Options that are on or off: Python has no bare words for them.
_SWITCHES = ("overwrite", "skip_unreadable", "grey")
#: An option, and behind it a number, a quoted text or a path, or the one word that a sentence ends with.
_OPTION = re.compile(
    r"--(?P<name>[a-z][a-z0-9-]*)"
    r"(?: (?P<value>-?\d[\w^]*(?:\.\d\w*)?|'[^']*'|\.{0,2}/[^\s,;)]*[^\s,;).]|[a-z][\w-]*(?=\.?$|\. |, e\.g\.)))?"
)
_COMMAND = re.compile(r"(metasiam [a-z]+(?: [^\s.]+)* --.*?(?:\. |$))")


class MetaSiamError(Exception):
    """Something the user can mend: bad data, bad options, a damaged file.

    Its text is one line that says what is wrong and what to do. The command line prints it as
    ``metasiam: <text>`` and exits with code 2; library callers catch it by this one name. It is written in
    words of the command line (``--batch-size 8``), and told so there; elsewhere in Python's (``batch_size=8``).
    """

    def __init__(self, text: str) -> None:
        line = " ".join(text.splitlines())
        super().__init__(line if _typing else in_python(line))


@contextmanager
def on_command_line(typing: bool = True) -> Iterator[None]:
    """Tell errors in words of the command line meanwhile, or of Python again."""
    global _typing
    before, _typing = _typing, typing
    try:
        yield
    finally:
        _typing = before


def in_python(text: str) -> str:
    """Return an error's text with arguments of Python instead of options; whole commands in it stay."""
    parts = _COMMAND.split(text)  # every second one is a command
    return "".join(part if place % 2 else _OPTION.sub(_argument, part) for place, part in enumerate(parts))


def _argument(found: re.Match[str]) -> str:
    name, value = found["name"].replace("-", "_"), found["value"]
    if value is None:
        return f"{name}=True" if name in _SWITCHES else name
    plain = value[0] == "'" or value.lstrip("-")[0].isdigit()
    return f"{name}={value}" if plain else f"{name}='{value}'"


class UnknownArchitectureError(MetaSiamError):
    """A weights file does not say what network it is of: ``arch`` is needed."""


class OtherArchitectureError(MetaSiamError):
    """A weights file is of another network than the one it was to be loaded into."""
