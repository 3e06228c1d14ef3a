"""What may be handed to a public function: looked at before anything is done, and complained of in Python's words."""

from __future__ import annotations

import functools
import inspect
import numbers
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

from metasiam.errors import MetaSiamError
from metasiam.option_values import plain, shown

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


class WrongArgument(MetaSiamError, TypeError):
    """An argument that is not of the kind that a function takes."""


class _Kind(NamedTuple):
    """What one word of an annotation takes."""

    takes: Callable[[Any], bool]
    said: str


def _is_a(name: str) -> Callable[[Any], bool]:
    """Return a test for instances of a class known by its name: torch and our own need not be imported for that."""
    return lambda value: any(one.__name__ == name for one in type(value).__mro__)


def _only(kind: Any, *, but: Any = ()) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind) and not isinstance(value, but)


#: By the words of annotations; what has other words is not looked at.
_KINDS = {
    "None": _Kind(_only(type(None)), "None"),
    "str": _Kind(_only(str), "text"),
    "int": _Kind(_only(numbers.Integral, but=bool), "a whole number"),
    "float": _Kind(_only(numbers.Real, but=bool), "a number"),
    "bool": _Kind(_only(bool), "True or False"),
    "Path": _Kind(_only((str, os.PathLike)), "a path"),
    "tuple": _Kind(_only((tuple, list)), "a tuple"),
    "Sequence": _Kind(_only(Sequence, but=(str, bytes)), "a list"),
    "Mapping": _Kind(_only(Mapping), "a dict"),
    "Trainer": _Kind(callable, "a function"),
    "Size": _Kind(_only((tuple, list)), "height and width"),
    "Preparation": _Kind(_is_a("Preparation"), "a Preparation"),
    "Callable": _Kind(callable, "a function"),
    "Listener": _Kind(_is_a("Listener"), "a Listener"),
    "Tensor": _Kind(_is_a("Tensor"), "a torch.Tensor"),
    "torch.Generator": _Kind(_is_a("Generator"), "a torch.Generator"),
    "nn.Module": _Kind(_is_a("Module"), "a torch.nn.Module"),
    "DomainSet": _Kind(_is_a("DomainSet"), "a DomainSet (load_domains returns one)"),
    "EmbedderInfo": _Kind(_is_a("EmbedderInfo"), "an EmbedderInfo (load_embedder returns one)"),
    "Method": _Kind(_is_a("Method"), "a Method"),
    "Enrolled": _Kind(_is_a("Enrolled"), "a Gallery (load_gallery and enroll return one)"),
    "Gallery": _Kind(_is_a("Gallery"), "a Gallery (load_gallery returns one)"),
    "PairSet": _Kind(_is_a("PairSet"), "a PairSet (load_pairs returns one)"),
    "Pool": _Kind(_is_a("Pool"), "a Pool (the method pool of a DomainSet returns one)"),
    "ProtocolSettings": _Kind(_is_a("ProtocolSettings"), "ProtocolSettings"),
    "Run": _Kind(_is_a("Run"), "a Run (train and open_run return one)"),
    "Split": _Kind(_is_a("Split"), "a Split (split_domains returns one)"),
}
_NUMBERS = ("int", "float", "bool")


def checked(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Let a function look at its arguments by their annotations first; numbers of NumPy and torch become Python's.

    Args:
        function: of a module with postponed annotations: they are read as they are written.

    Returns:
        The function, which raises ``WrongArgument`` for an argument of another kind.
    """
    parameters = inspect.signature(function).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    wanted = {p.name: _words(str(p.annotation)) for p in parameters if p.kind in named}
    order = tuple(wanted)

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        many = [_fit(function.__name__, name, value, wanted[name]) for name, value in zip(order, args, strict=False)]
        more = {n: _fit(function.__name__, n, v, wanted[n]) if n in wanted else v for n, v in kwargs.items()}
        return function(*many, *args[len(many) :], **more)  # type: ignore[arg-type]

    return call


def _words(annotation: str) -> tuple[str, ...]:
    """Return an annotation's words of which one must hold; none where one of them is not known."""
    before = ""
    while before != annotation:  # what is within brackets is not looked at
        before, annotation = annotation, re.sub(r"\[[^\[\]]*\]", "", annotation)
    words = tuple(word.strip() for word in annotation.split("|"))
    return words if all(word in _KINDS for word in words) else ()


def _fit(function: str, name: str, value: Any, words: tuple[str, ...]) -> Any:
    if not words or any(_KINDS[word].takes(value) for word in words):
        return plain(value) if isinstance(value, numbers.Number) else value
    if set(words) & set(_NUMBERS) and any(_KINDS[word].takes(plain(value)) for word in words):
        return plain(value)
    kinds = dict.fromkeys(_KINDS[word].said for word in words if not (word == "str" and "Path" in words))
    raise WrongArgument(f"{function}: {name} must be {' or '.join(kinds)}, not {shown(value)}.")
