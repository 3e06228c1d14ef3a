"""``metasiam presets`` and ``metasiam models``: what can be named."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from metasiam import catalogue
from metasiam.cli.terminal import terminal
from metasiam.errors import MetaSiamError
from metasiam.methods import METHODS, names
from metasiam.option_values import as_option
from metasiam.options.declare import declared
from metasiam.options.presets import ABOUT, data_of, named


def presets(
    name: Annotated[
        str | None, typer.Argument(help="A preset or a method, to see every value.", show_default=False)
    ] = None,
) -> None:
    """List the presets, or every value that one of them sets.

    \b
    Examples:
      metasiam presets
      metasiam presets quick
      metasiam presets reptile
    """
    if name is None:
        _overview()
    elif name in METHODS:
        _of_method(name)
    elif any(named(name) in method.options.presets for method in METHODS.values()):
        _of_preset(named(name))
    else:
        known = ", ".join((*ABOUT, *METHODS))
        raise MetaSiamError(f"there is no preset or method '{name}'. Use one of: {known}.")


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _overview() -> None:
    table = _table("--preset", "what it is", "methods")
    for preset, about in ABOUT.items():
        having = [name for name, method in METHODS.items() if preset in method.options.presets]
        table.add_row(preset, about, ", ".join(having))
    console = terminal()
    console.print(table)
    console.print("\nmetasiam presets NAME shows every value of a preset or a method", highlight=False, markup=False)


def _of_preset(preset: str) -> None:
    having = [name for name, method in METHODS.items() if preset in method.options.presets]
    for method in having:
        _values(f"metasiam {method} --preset {preset}", method, preset)


def _of_method(method: str) -> None:
    for preset in METHODS[method].options.presets:
        _values(f"metasiam {method} --preset {preset}", method, preset)


def _values(title: str, method: str, preset: str) -> None:
    """Print what a preset sets for a method, each value next to the default that it replaces."""
    options = declared(METHODS[method].options)
    table = _table("option", "value", "default")
    for name, value in (*data_of(preset, method).items(), *METHODS[method].options.presets[preset].items()):
        default = options[name].default if name in options else None
        table.add_row(as_option(name), _said(value), "" if default is None else _said(default))
    console = terminal()
    console.print(f"\n[bold]{title}[/bold]", highlight=False)
    if table.row_count:
        console.print(table)
    else:
        console.print("the defaults, as they are", highlight=False)


def _said(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def models() -> None:
    """List the embedders, losses and methods that can be named, with those of installed packages.

    \b
    Examples:
      metasiam models
    """
    console = terminal()
    for heading, option, kind, rows in (
        ("embedders", "--arch", "embedders", catalogue.EMBEDDERS),
        ("losses", "--loss", "losses", catalogue.LOSSES),
    ):
        table = _table(option, "what", "extra")
        for row in (*rows.values(), *catalogue.installed(kind).values()):
            table.add_row(row.name, row.about, row.extra or "")
        console.print(f"[bold]{heading}[/bold]", highlight=False)
        console.print(table)
        console.print()
    table = _table("metasiam …", "what")
    for name in (*names(), *names("pairs")):
        table.add_row(name, METHODS[name].about if name in METHODS else "of an installed package")
    console.print("[bold]methods[/bold]", highlight=False)
    console.print(table)
    libraries = ", ".join(f"{prefix}NAME" for prefix in catalogue.EMBEDDER_LIBRARIES)
    console.print(
        f"\nalso --arch {libraries} or package.module:factory, and --loss "
        + ", ".join(f"{prefix}NAME" for prefix in catalogue.LOSS_LIBRARIES),
        highlight=False,
        markup=False,
    )
