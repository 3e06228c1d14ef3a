"""A gallery's rules: how its scores become answers and probabilities."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from scipy.special import expit
from torch import Tensor

from metasiam.gallery.posterior import Line


@dataclass(frozen=True)
class Rules:
    """How scores become answers.

    Attributes:
        thresholds: for each name, the score at which it is as likely as ``unknown``, for a picture that is as usual
            with the names on the whole.
        own_thresholds: what the other names' pictures alone say, without the background; None where there are none.
        general_threshold: what a usual name would get without own pictures.
        slope: log-odds for one unit of score.
        pair_threshold: similarity above which two pictures are called the same.
        pair_slope: log-odds for one unit of similarity above it.
        strength: with how many other names own thresholds and the background weigh the same.
        learned_on: what all this was learned on, for people.
        margin: how far thresholds are above names' usual scores with other pictures.
        share: how much of a picture's mean distance from these is taken off its scores; 0 in older galleries.
    """

    thresholds: tuple[float, ...]
    own_thresholds: tuple[float | None, ...]
    general_threshold: float
    slope: float
    pair_threshold: float
    pair_slope: float
    strength: float
    learned_on: str
    margin: float = 0.0
    share: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the rules as JSON-ready values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Rules:
        """Read rules that ``as_dict`` wrote, or an older one; raises KeyError or TypeError for others."""
        old = {"margin": 0.0, "share": 0.0}  # of galleries that were made before there were these
        found = {field.name: {**old, **values}[field.name] for field in fields(Rules)}
        for name in ("thresholds", "own_thresholds"):
            found[name] = tuple(found[name])
        return Rules(**found)

    def fits(self, names: int) -> bool:
        """Whether there is a threshold for each of so many names."""
        return len(self.thresholds) == len(self.own_thresholds) == names

    def values(self) -> list[float]:
        """Return every number in it."""
        scalars = [self.general_threshold, self.slope, self.pair_threshold, self.pair_slope, self.strength]
        own = [value for value in self.own_thresholds if value is not None]
        return [*self.thresholds, *own, *scalars, self.margin, self.share]

    @property
    def line(self) -> Line:
        """How far a score is above its level becomes log-odds."""
        return Line(self.slope, self.margin, self.share)

    def levels(self) -> Tensor:
        """Return how pictures of other things usually score with each name: float64 [N]."""
        return torch.tensor(self.thresholds, dtype=torch.float64) - self.margin

    def log_odds(self, scores: Tensor) -> Tensor:
        """Return how much likelier than ``unknown`` each name is: log-odds float64 [Q, N] of float [Q, N] scores."""
        return self.line.log_odds(scores - self.levels())

    def pair_probability(self, similarity: float) -> float:
        """Return the probability that two pictures are the same: 0.5 at the threshold."""
        return float(expit(self.pair_slope * (similarity - self.pair_threshold)))
