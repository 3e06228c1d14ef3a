"""What a name of an embedder stands for: how it is built, and what comes with the name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from metasiam.data.preparation import USUAL, Preparation


@dataclass(frozen=True)
class Feeding:
    """How pictures are shown to a network whose weights were trained elsewhere.

    Attributes:
        image_size: height and width in pixels.
        mean: of each of three channels, as fractions of 255.
        std: of each of three channels, as fractions of 255.
        preparation: what is done to a picture on its way to that size.
        trained_on: what the weights were trained on, for people to read.
    """

    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preparation: Preparation = USUAL
    trained_on: str = ""


@dataclass(frozen=True)
class Architecture:
    """A named embedder.

    Attributes:
        build: makes the untrained module from channels and image size: it maps normalised float [B, C, H, W] to float
            [B, embedding_size], and has that attribute.
        feeding: what comes with the name; None where it is not known, as for networks trained here.
        pretrain: puts the weights that the name names into what ``build`` made; None where it names none.
        resizes: whether the module brings images of any size to its own.
    """

    build: Callable[[int, tuple[int, int]], nn.Module]
    feeding: Feeding | None = None
    pretrain: Callable[[nn.Module], None] | None = None
    resizes: bool = False


def call_with(factory: Callable[..., Any], known: dict[str, Any]) -> Any:
    """Call a factory with those of the known values that it cannot do without: its parameters have no default.

    Args:
        factory: a class or a function.
        known: values by the names of parameters.
    """
    parameters = inspect.signature(factory, follow_wrapped=False).parameters.values()
    needed = {p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return factory(**{name: value for name, value in known.items() if name in needed})
