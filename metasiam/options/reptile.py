"""Options and presets of ``metasiam reptile``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from metasiam.options.declare import Opt
from metasiam.options.training import Schedule, TrainingOptions
from metasiam.options.triplet import STRONG_START

_META = "Meta-learning"

#: The weights go all the way to where a task's steps lead: the schedule of the inner steps anneals them.
_WHOLE_STEPS = {"meta_step": 1.0, "meta_schedule": "constant"}

#: Reptile without weights to start from, with as many images as the strong start. Searched by
#: ``benchmarks.recipe_search`` on validation domains.
_SCRATCH: dict[str, Any] = {**STRONG_START, **_WHOLE_STEPS, "loss": "balanced-softmax"}


@dataclass(frozen=True, kw_only=True)
class ReptileOptions(TrainingOptions):
    """Options of ``metasiam reptile``; the defaults are the published system's.

    ``best`` is a second stage: give it ``--init`` with a run of ``triplet --preset best``.
    """

    method: ClassVar[str] = "reptile"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            **_WHOLE_STEPS,
            "arch": "resnet8",
            "loss": "balanced-softmax",
            "temperature": 0.1,
            "batch_size": 64,
            "lr": 0.025,
            "schedule": "onecycle",
            "shift": 2,
            "iterations": 18,
            "inner_epochs": 10,
            "ways": 0,  # half of the seen domains
        },
        "best": {
            "loss": "cosine",
            "batch_size": 32,
            "lr": 0.0005,
            "shift": 4,
            "iterations": 30,
            "inner_epochs": 5,
            "meta_batch": 8,
            "meta_step": 1.0,
            "beta1": 0.0,
            "optimizer_state": "reset",
            "batch_norm": "frozen",
        },
        "scratch": {**_SCRATCH, "iterations": 105, "inner_epochs": 20, "ways": 0},  # half of the seen domains
        "scratch-single": {
            **_SCRATCH,
            "batch_size": 16,
            "lr": 0.02,
            "iterations": 218,
            "inner_epochs": 5,
            "meta_batch": 8,
        },
        "published": {},
    }

    iterations: Annotated[int, Opt("Outer steps.", panel=_META, least=1)] = 10000
    inner_epochs: Annotated[
        int, Opt("Gradient steps per task in an iteration, one batch each.", panel=_META, least=1)
    ] = 30
    meta_step: Annotated[float, Opt("Interpolation coefficient ε, at the start.", panel=_META, above=0, most=10)] = 0.01
    meta_schedule: Annotated[
        Literal["linear", "cosine", "constant"], Opt("How ε changes over the run, to 0 unless constant", panel=_META)
    ] = "linear"
    meta_batch: Annotated[int, Opt("Tasks averaged per iteration (per process).", panel=_META, least=1)] = 1
    meta_optimizer: Annotated[
        Literal["sgd", "nesterov", "adam"],
        Opt("What makes the outer step; sgd interpolates", panel=_META),
    ] = "sgd"
    meta_momentum: Annotated[float, Opt("Momentum of nesterov, β1 of adam.", panel=_META, least=0, below=1)] = 0.9
    task_shots: Annotated[
        int | None,
        Opt("Images of a domain that a task sees.", panel=_META, least=2, nothing="all"),
    ] = None
    ways: Annotated[int, Opt("Domains per task; 0: half of the seen ones.", panel=_META, least=0)] = 1
    inner_optimizer: Annotated[Literal["adam", "sgd"], Opt("What makes a step on a task", panel=_META)] = "adam"
    beta1: Annotated[
        float | None,
        Opt(
            "Adam's β1 (0 in the Reptile paper), or SGD's momentum.",
            panel=_META,
            least=0,
            below=1,
            nothing="0.9; 0 with sgd",
        ),
    ] = None
    optimizer_state: Annotated[
        Literal["keep", "reset"],
        Opt("Keep Adam's averages across tasks, or reset them for each", panel=_META),
    ] = "keep"
    schedule: Annotated[Schedule, Opt("How the inner learning rate changes over the run", panel=_META)] = "constant"
    weight_decay: Annotated[
        float,
        Opt("Shrinks weights in inner steps; decoupled with adam.", panel=_META, least=0),
    ] = 0.0
    batch_norm: Annotated[
        Literal["interpolate", "task", "frozen"],
        Opt("Interpolate running statistics as the weights, drop each task's, or leave them", panel=_META),
    ] = "interpolate"

    @property
    def images_per_iteration(self) -> int:
        """Images of all inner epochs of an iteration's tasks."""
        return super().images_per_iteration * self.inner_epochs * self.meta_batch
