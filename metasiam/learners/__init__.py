"""The methods, one file each, behind one small Protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metasiam.config import ReptileConfig, TrainingConfig, TripletConfig
from metasiam.errors import MetaSiamError
from metasiam.few_shot_config import AnilConfig, BaselineConfig, FomamlConfig, MamlConfig, ProtoNetConfig
from metasiam.learners.anil import anil
from metasiam.learners.baseline import baseline
from metasiam.learners.context import TrainingContext
from metasiam.learners.fomaml import fomaml
from metasiam.learners.maml import maml
from metasiam.learners.protonet import protonet
from metasiam.learners.reptile import Reptile
from metasiam.learners.triplet import Triplet
from metasiam.training.distributed import Processes
from metasiam.training.learner import Learner

#: Name → (options, learner).
METHODS: dict[str, tuple[type[TrainingConfig], Callable[[Any, TrainingContext, Processes], Learner]]] = {
    "reptile": (ReptileConfig, Reptile),
    "triplet": (TripletConfig, Triplet),
    "baseline": (BaselineConfig, baseline),
    "protonet": (ProtoNetConfig, protonet),
    "fomaml": (FomamlConfig, fomaml),
    "maml": (MamlConfig, maml),
    "anil": (AnilConfig, anil),
}


def config_class(method: str) -> type[TrainingConfig]:
    """Return the options' class of a method.

    Raises:
        MetaSiamError: for an unknown method.
    """
    if method not in METHODS:
        raise MetaSiamError(f"method {method} is unknown. Use one of: {', '.join(METHODS)}.")
    return METHODS[method][0]
