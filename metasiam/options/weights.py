"""What is said about weights that do not say it themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from metasiam.errors import MetaSiamError
from metasiam.options.declare import Opt

_WEIGHTS = "Weights"


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise MetaSiamError(f"{option} {text} is not a list of numbers. Use e.g. 0.49,0.48,0.45.") from error


def read_mean(text: str) -> tuple[float, ...]:
    """Read ``--mean``: numbers separated by commas."""
    return _numbers("--mean", text)


def read_std(text: str) -> tuple[float, ...]:
    """Read ``--std``: numbers separated by commas."""
    return _numbers("--std", text)


@dataclass(frozen=True, kw_only=True)
class WeightsOptions:
    """How an embedder is made of weights, and fed."""

    arch: Annotated[str | None, Opt("Architecture, for weights that do not say it.", panel=_WEIGHTS)] = None
    distance: Annotated[
        Literal["cosine", "squared_euclidean"] | None,
        Opt("Between embeddings", panel=_WEIGHTS, nothing="as trained, else cosine"),
    ] = None
    mean: Annotated[
        tuple[float, ...] | None,
        Opt(
            "Subtracted from each channel, e.g. 0.49,0.48,0.45.",
            panel=_WEIGHTS,
            read=read_mean,
            nothing="as trained, else CIFAR-10's",
        ),
    ] = None
    std: Annotated[
        tuple[float, ...] | None,
        Opt("Then divides each channel.", panel=_WEIGHTS, read=read_std, nothing="as trained, else CIFAR-10's"),
    ] = None
