"""How an option is declared, and what follows from it: its checks, its value from a text, a whole group from a dict.

An option is a field of a frozen dataclass::

    lr: Annotated[float, Opt("Learning rate.", above=0)] = 0.001

Its flag and its help are made by ``metasiam.options.flags``.
"""

from __future__ import annotations

import difflib
import functools
import os
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from metasiam.errors import MetaSiamError
from metasiam.option_values import MOST_COUNTED, as_option, check_number, plain, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Group = TypeVar("Group", bound="DataclassInstance")

_WANTED = {str: "text", int: "a whole number", float: "a number", bool: "True or False"}
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class Opt:
    """What is said about an option besides its type and its default.

    Attributes:
        help: what it does, in one plain sentence; choices and the default are added to it.
        panel: the heading of the help that it stands under.
        least: the smallest value that is taken.
        most: the largest.
        above: values must be above this one.
        below: values must be below this one.
        largest: the largest whole number that can be meant.
        unit: of the bounds, as ``pixels``.
        nothing: how the default is said, where its value would not say it.
        flag: where it is not the field's name with dashes; ``--x/--no-x`` can be switched off too.
        names: the names that the help lists, where others than ``Literal`` type them.
        found: raises for a value given on the command line that cannot be used, such as a file that is not there.
        read: makes a value of a text, for kinds that are not text, a number, or yes and no.
        hidden: has no flag; Python alone can give it.
    """

    help: str = field(default="", kw_only=False)
    panel: str = "Training"
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    largest: int = MOST_COUNTED
    unit: str = ""
    nothing: str | None = None
    flag: str | None = None
    names: Callable[[], Iterable[str]] | None = None
    found: Callable[[Any], None] | None = None
    read: Callable[[str], Any] | None = None
    hidden: bool = False

    def bounds(self) -> str | None:
        """Say what its numbers must be; None where every one is taken."""
        unit = f" {self.unit}" if self.unit else ""
        match (self.least, self.most, self.above, self.below):
            case (None, None, None, None):
                return None
            case (0, None, None, None):
                return "not be negative"
            case (least, None, None, None) if least is not None:
                return f"be at least {least:g}{unit}"
            case (None, None, 0, None):
                return "be a positive number"
            case (least, most, None, None) if least is not None:
                return f"be from {least:g} to {most:g}{unit}"
            case (least, None, None, below) if least is not None:
                return f"be from {least:g} to below {below:g}{unit}"
            case (None, most, above, None) if most is not None:
                return f"be above {above:g} and at most {most:g}{unit}"
        raise TypeError("these bounds have no words yet")

    def holds(self, value: float) -> bool:
        """Tell whether a number is within the bounds."""
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


@dataclass(frozen=True)
class Declared:
    """An option of a group, as its declaration says.

    Attributes:
        name: the field's name.
        kind: ``str``, ``int``, ``float``, ``bool``, ``Path``, ``list`` (of texts), ``dict``, or None for others.
        optional: None is a value of it.
        others: so are values of other kinds, which have no flag and are not checked here.
        choices: the texts that are taken; none where any is.
        default: its value where none is given.
        opt: what else is said about it.
    """

    name: str
    kind: type | None
    optional: bool
    others: bool
    choices: tuple[str, ...]
    default: Any
    opt: Opt

    @property
    def flag(self) -> str:
        """The option as it is typed: ``batch_size`` is ``--batch-size``."""
        return (self.opt.flag or as_option(self.name)).partition("/")[0]

    def check(self, value: Any) -> Any:
        """Return a value, NumPy's and torch's numbers as Python's, if the option takes it.

        Raises:
            MetaSiamError: naming the option, what it takes, and a remedy.
        """
        if self.kind not in _WANTED:
            return value
        value = plain(value)
        if value is None and self.optional:
            return None
        types_ = (int, float) if self.kind is float else (self.kind,)
        if self.others and not isinstance(value, types_):
            return value
        if not isinstance(value, types_) or isinstance(value, bool) != (self.kind is bool):
            wanted = _WANTED[self.kind] + (" or None" if self.optional else "")
            raise MetaSiamError(f"{self.flag} must be {wanted}, not {shown(value)}.")
        if isinstance(value, int | float) and self.kind is not bool:
            self._check_number(value)
        if self.choices and value not in self.choices:
            raise MetaSiamError(f"{self.flag} {value} is unknown. Use one of: {', '.join(self.choices)}.")
        return value

    def _check_number(self, value: float) -> None:
        check_number(self.flag, value, most=self.opt.largest)
        if not self.opt.holds(value):
            usable = self.default is not None and self.opt.holds(self.default)
            remedy = f" Try {self.flag} {self.default}." if usable else ""
            raise MetaSiamError(f"{self.flag} must {self.opt.bounds()}, not {value}.{remedy}")

    def from_text(self, word: str, said: str) -> Any:
        """Return the value that a text says.

        Raises:
            MetaSiamError: naming ``said``, as ``--set lr=x``, and the option.
        """
        try:
            if self.optional and word.lower() in ("none", "null"):
                return None
            if self.opt.read is not None:
                return self.opt.read(word)
            if self.kind is bool:
                return _WORDS[word.lower()]
            return self.kind(word) if self.kind in (int, float) else word
        except (ValueError, KeyError) as error:
            raise MetaSiamError(f"{said}: '{word}' is not a valid value for {self.name}.") from error


def declared(group: type) -> Mapping[str, Declared]:
    """Return the options of a dataclass, by name, in the order they are declared."""
    return _of_class(group)


@functools.cache
def _of_class(group: type) -> Mapping[str, Declared]:
    hints = get_type_hints(group, include_extras=True)
    return {one.name: _declared(one.name, hints[one.name], _default(one)) for one in fields(group)}


def _default(of: Field[Any]) -> Any:
    return of.default_factory() if of.default_factory is not MISSING else of.default


def _declared(name: str, hint: Any, default: Any) -> Declared:
    opt = Opt()
    if get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        opt = next((one for one in more if isinstance(one, Opt)), opt)
    optional, others, choices = False, False, ()
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [one for one in get_args(hint) if one is not type(None)]
        optional, others = len(kinds) < len(get_args(hint)), len(kinds) > 1
        hint = next((one for one in kinds if one in _WANTED), kinds[0])
    if get_origin(hint) is Literal:
        choices, hint = get_args(hint), str
    kind = get_origin(hint) if get_origin(hint) in (list, dict) else hint if hint in (*_WANTED, Path) else None
    return Declared(name, kind, optional, others, choices, default, opt)


def check(group: DataclassInstance) -> None:
    """Raise unless every option of a group is of its kind and within its bounds.

    Raises:
        MetaSiamError: naming the option, what it takes and the value.
    """
    for name, option in declared(type(group)).items():
        object.__setattr__(group, name, option.check(getattr(group, name)))


def known(group: type, name: str, who: str, said: str = "") -> Declared:
    """Return an option of a group by its name.

    Args:
        group: the dataclass.
        name: the option's.
        who: whose options they are, as ``reptile``.
        said: where the name was given, as ``--set lrr=1``.

    Raises:
        MetaSiamError: for a name that it does not have, with the one that was perhaps meant.
    """
    options = declared(group)
    if name in options:
        return options[name]
    near = difflib.get_close_matches(name, options, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    prefix = f"{said}: " if said else ""
    raise MetaSiamError(f"{prefix}{who} has no option '{name}'.{meant} It has: {', '.join(sorted(options))}.")


def made_of(group: type[Group], values: Mapping[str, Any], who: str) -> Group:
    """Make a group of options from saved or given values; a path among them is taken as its text.

    Raises:
        MetaSiamError: for an option that it does not have, or a value that it does not take.
    """
    for name in values:
        known(group, name, who)
    return group(
        **{key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in values.items()}
    )


def in_words(names: Iterable[str]) -> str:
    """Return names as a sentence lists them: ``a, b or c``."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
