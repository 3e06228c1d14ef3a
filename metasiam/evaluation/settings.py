"""The settings that an evaluation's numbers depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Union, get_args

from metasiam.errors import MetaSiamError
from metasiam.option_values import MOST_COUNTED, check_kinds, plain

#: How many labelled images of a held-out domain are used to adapt and to calibrate.
Shots = Union[int, Literal["all"]]  # noqa: UP007 (a runtime alias that Python 3.10 can print)
Regime = Literal["closed", "antidomain"]
#: Which weights an adaptation moves (``adaptation.AdaptationPlan``).
TrainedPart = Literal["all", "last_block", "batchnorm", "head"]

#: What ``inference`` may name: steps that wrap the embedder, in the order they are taken, and the head of episodes.
WRAPPING = ("mirror", "shifts", "tukey", "centre", "lda", "normalise")
INFERENCE = (*WRAPPING, "logistic")

#: The least that each count of the settings may be.
_LEAST = {
    "triplets": 1,
    "episodes": 0,
    "queries": 1,
    "support_draws": 0,
    "choice_domains": 0,
    "calibration_images": 2,
    "calibration_negatives": 1,
    "reference_draws": 1,
}


@dataclass(frozen=True)
class ProtocolSettings:
    """What is measured and how; saved under ``protocol`` in ``evaluation.json``.

    Attributes:
        seed: names every draw: pairs, triplets, episodes, adaptation images and batches, bootstrap samples.
        pairs: pairs a task, half of them same (fewer where a domain has too few images for them).
        triplets: triplets a task.
        shots: labelled training images of each held-out domain, each count measured apart; 0 is unadapted.
        regimes: where negatives come from: ``closed`` (other held-out domains), ``antidomain`` (seen domains); none, to
            measure episodes alone.
        seen: also measure the seen domains' test images, unadapted.
        episodes: N-way K-shot episodes of each kind; 0 leaves them out.
        episode_kinds: ways and shots of each kind; kinds that the held-out domains are too few for are left out.
        queries: query images of each class in an episode.
        support_draws: draws of one support image per class, for the all-way 1-shot task.
        adapt_steps: steps for every count of images above 0; None lets each be chosen on validation domains, or
            without those takes the defaults (30 steps for ``all``, none for fewer images).
        adapt_rate: Adam's rate where the plan is not chosen.
        adapt_part: which weights move where the plan is not chosen.
        choice_domains: validation domains to choose the plans on, at most; 0 does not choose.
        curve_steps: also report held-out triplet accuracy after these numbers of steps, for each count of images.
        threshold: the ``fixed`` threshold; None takes the classic seed's 0.2 for cosines, else the embedder's own.
        calibration_images: training images of each domain for the global threshold, at most.
        calibration_negatives: seen-domain training images to compare a task's own images with.
        folds: parts of cross-fitting when an embedder adapted to few images is calibrated (from a hundred on, two
            fifths are held back in turn).
        mirror: average every embedding with the mirrored image's.
        inference: more that is done with the embeddings (``metasiam.evaluation.inference``): ``mirror`` and ``shifts``
            average views, ``tukey`` is a power transform, ``centre`` subtracts the seen domains' mean, ``lda`` weighs
            by their covariance, ``normalise`` compares by cosine; ``logistic`` also answers the episodes by logistic
            regression on the support.
        bootstrap: resamples behind each interval.
        protocols: ``balanced``, and ``reference`` for the seeds' own measurements.
        reference_draws: draws of support images in it.
    """

    seed: int = 0
    pairs: int = 2000
    triplets: int = 2000
    shots: tuple[Shots, ...] = (0, "all")
    regimes: tuple[Regime, ...] = ("closed", "antidomain")
    seen: bool = True
    episodes: int = 1000
    episode_kinds: tuple[tuple[int, int], ...] = ((5, 1), (5, 5))
    queries: int = 15
    support_draws: int = 200
    adapt_steps: int | None = None
    adapt_rate: float = 1e-3
    adapt_part: TrainedPart = "all"
    choice_domains: int = 4
    curve_steps: tuple[int, ...] = ()
    threshold: float | None = None
    calibration_images: int = 100
    calibration_negatives: int = 1000
    folds: int = 2
    mirror: bool = False
    inference: tuple[str, ...] = ()
    bootstrap: int = 1000
    protocols: tuple[Literal["balanced", "reference"], ...] = ("balanced",)
    reference_draws: int = 200

    def __post_init__(self) -> None:
        check_kinds(self, str)
        if self.pairs < 2:
            raise MetaSiamError(f"--pairs {self.pairs} is too few: at least one same and one different are needed.")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise MetaSiamError(f"{name} must be a whole number from {least} on, not {value!r}.")
        for name in ("shots", "regimes", "inference", "protocols", "episode_kinds", "curve_steps"):
            if not isinstance(getattr(self, name), tuple | list):
                raise MetaSiamError(f"{name} must be a tuple, not {getattr(self, name)!r}.")
        object.__setattr__(self, "shots", tuple(map(plain, self.shots)))
        if not self.shots:
            raise MetaSiamError("shots names no count of images. Use (0,) to measure without adaptation.")
        if self.adapt_part not in get_args(TrainedPart):
            parts = ", ".join(get_args(TrainedPart))
            raise MetaSiamError(f"adapt_part {self.adapt_part!r} is unknown. Use one of: {parts}.")
        for shots in self.shots:
            if shots != "all" and not _is_count(shots, least=0):
                raise MetaSiamError(f"--adapt-shots {shots!r} is not a number of images. Use counts from 0, or all.")
        for steps in self.curve_steps:
            if not _is_count(steps, least=0):
                raise MetaSiamError(f"--curve-steps {steps!r} is not a number of steps. Use e.g. 0,5,10,30.")
        if not self.regimes and not self.episodes:  # with episodes, those alone are measured
            raise MetaSiamError("regimes names none, and there are no episodes. Use closed, antidomain or both.")
        if unknown := [regime for regime in self.regimes if regime not in get_args(Regime)]:
            raise MetaSiamError(f"the regime {unknown[0]} is unknown. Use closed or antidomain.")
        if not self.protocols or [name for name in self.protocols if name not in ("balanced", "reference")]:
            raise MetaSiamError("--protocol takes balanced, reference or both.")
        if self.adapt_steps is not None and self.adapt_steps < 0:
            raise MetaSiamError(f"--adapt-steps {self.adapt_steps} is negative. Use 0 for no adaptation.")
        if self.adapt_rate <= 0:
            raise MetaSiamError(f"an adaptation rate of {self.adapt_rate} changes nothing. Use one above 0.")
        if self.bootstrap < 100:
            raise MetaSiamError(f"{self.bootstrap} bootstrap resamples are too few for a 95 % interval. Use 1000.")
        if unfit := [name for name in self.inference if name not in INFERENCE]:
            raise MetaSiamError(f"--inference {unfit[0]} is unknown. Use some of: {', '.join(INFERENCE)}.")
        if self.mirror and set(self.inference) & set(WRAPPING):
            raise MetaSiamError("--mirror and --inference go together as --inference mirror,…")
        if not self.episode_kinds or not all(_is_kind(kind) for kind in self.episode_kinds):
            raise MetaSiamError("--episodes takes at least 2 ways and 1 shot, e.g. 5x1,5x5,20x1.")
        if self.folds < 2:
            raise MetaSiamError("cross-fitting needs at least two folds.")

    @property
    def largest_shots(self) -> int:
        """The largest count of images other than ``all``."""
        return max((shots for shots in self.shots if shots != "all"), default=0)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples within tuples become lists too
        return values

    @classmethod
    def of_saved(cls, saved: Mapping[str, Any]) -> ProtocolSettings:
        """Return the settings that ``as_dict`` returned; what this version does not know is left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: _tuples(value) for name, value in saved.items() if name in known})


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_COUNTED


def _is_kind(kind: object) -> bool:
    """Tell whether it is ways and shots of an episode."""
    return (
        isinstance(kind, tuple | list)
        and len(kind) == 2
        and _is_count(kind[0], least=2)
        and _is_count(kind[1], least=1)
    )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
