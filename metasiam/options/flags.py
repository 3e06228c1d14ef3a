"""The bridge from declared options to the command line: flags, help, and which of them were given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import typer
from rich.markup import escape

from metasiam.errors import MetaSiamError
from metasiam.option_values import as_option
from metasiam.options.declare import Declared, declared, in_words

#: Panels that stand behind all others, in this order.
_LAST = {"Data": 1, "Run": 2, "Evaluation": 3}


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of a group of options, as one command takes them.

    Attributes:
        group: the dataclass.
        into: the command's parameter that gets a dict of those that were given.
        only: their names, where not all are taken.
        without: names that are left out.
        defaults: what the help says of defaults that are this command's own.
        more: declarations that are this command's own, by name.
    """

    group: type = field(kw_only=False)
    into: str = field(kw_only=False)
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    defaults: Mapping[str, str | None] = field(default_factory=dict)
    more: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def options(self) -> Iterable[Declared]:
        """Return the options that become flags, in the order they are declared (or named in ``only``)."""
        every = declared(self.group)
        names = self.only or tuple(every)
        for name in names:
            option = every[name]
            if name not in self.without and not option.opt.hidden:
                yield replace(option, opt=replace(option.opt, **self.more.get(name, {})))


def takes(*groups: Flags) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of groups of options, after its own parameters.

    The command gets for each group a dict of the options that were given; what was not given is not in it, so that
    presets and defaults can tell.

    Args:
        groups: in the order that the help shows them.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        into = {group.into for group in groups}
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name not in into]
        taken = {f"{group.into}_{option.name}": (group, option) for group in groups for option in group.options()}
        flags = [option.flag for _, option in taken.values()]
        if twice := {flag for flag in flags if flags.count(flag) > 1}:
            raise TypeError(f"{command.__name__} has {', '.join(twice)} twice")
        in_order = sorted(taken.items(), key=lambda one: _LAST.get(one[1][1].opt.panel, 0))
        parameters = [*own, *(_parameter(name, group, option) for name, (group, option) in in_order)]

        def call(**values: Any) -> None:
            parts: dict[str, dict[str, Any]] = {name: {} for name in into}
            for name, (group, option) in taken.items():
                if (value := values.pop(name)) is not None:
                    parts[group.into][option.name] = _read(option, value)
            command(**values, **parts)

        call.__name__, call.__doc__, call.__module__ = command.__name__, command.__doc__, command.__module__
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        return call

    return decorate


def _read(option: Declared, value: Any) -> Any:
    """Return a flag's value as its option takes it, checked: before torch is imported, and before data are loaded."""
    value = option.check(option.opt.read(value) if option.opt.read is not None else value)
    if option.opt.found is not None:
        option.opt.found(value)
    return value


def _parameter(name: str, group: Flags, option: Declared) -> inspect.Parameter:
    """Return the parameter that Typer makes a flag of: its default is always None, which is "not given"."""
    kind: Any = list[str] if option.kind in (list, dict) else option.kind or str
    info = typer.Option(
        option.opt.flag or option.flag,
        help=help_of(option, group.defaults.get(option.name, default_of(option))),
        rich_help_panel=option.opt.panel,
        show_default=False,
        metavar="" if kind is bool else None,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info]
    )


def words_of(option: Declared) -> str:
    """Say what an option does, and its choices."""
    names = option.choices or tuple(option.opt.names() if option.opt.names is not None else ())
    return f"{option.opt.help.rstrip('.')} ({in_words(names)})." if names else option.opt.help


def default_of(option: Declared) -> str | None:
    """Say an option's default; None where there is nothing to say."""
    default = option.default
    if option.opt.nothing is not None or default is None or default is False or default in ((), {}):
        return option.opt.nothing
    return f"{default:g}" if isinstance(default, float) else str(default)


def help_of(option: Declared, default: str | None) -> str:
    """Return an option's help: what it does, its choices, its default."""
    return escape(words_of(option)) + (f" [dim]{escape(f'[default: {default}]')}[/dim]" if default is not None else "")


def given_of(**values: object) -> dict[str, Any]:
    """Return the values that were given (not None)."""
    return {name: value for name, value in values.items() if value is not None}


def refuse(options: Iterable[str], reason: str) -> None:
    """Raise if there are any of these options, named as Python names them.

    Raises:
        MetaSiamError: with the reason and the options.
    """
    names = [as_option(name) for name in options]
    if names:
        raise MetaSiamError(f"{reason}. Omit {', '.join(names)}.")
