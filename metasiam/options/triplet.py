"""Options and presets of classic training, ``metasiam triplet``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from metasiam.options.declare import Opt
from metasiam.options.training import GradientStepsOptions

#: A normalised-softmax classifier of the seen domains, in ten CPU minutes: the strongest start found on validation
#: domains (``docs/results.md``).
STRONG_START: dict[str, Any] = {
    "arch": "resnet20",
    "loss": "softmax",
    "temperature": 0.1,
    "batch_size": 64,
    "lr": 0.015,
    "weight_decay": 0.05,
    "schedule": "onecycle",
    "shift": 4,
    "iterations": 2100,
}


@dataclass(frozen=True, kw_only=True)
class TripletOptions(GradientStepsOptions):
    """Options of ``metasiam triplet``; the defaults are the published system's."""

    method: ClassVar[str] = "triplet"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "arch": "resnet8",
            "loss": "softmax",
            "temperature": 0.1,
            "batch_size": 64,
            "lr": 0.025,
            "schedule": "onecycle",
            "shift": 2,
            "iterations": 180,
        },
        "best": STRONG_START,
        "published": {},
    }

    epochs: Annotated[int, Opt("Passes in which every seen image is an anchor once.", least=1)] = 150
    iterations: Annotated[int | None, Opt("Gradient steps, instead of --epochs.", least=1)] = None
