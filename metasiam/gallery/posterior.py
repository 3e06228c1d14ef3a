"""From scores to probabilities: how likely each name and ``unknown`` are, all of them adding up to one.

Beforehand, ``unknown`` has the probability ``UNKNOWN_PRIOR``, and the names share the rest evenly. What a picture's
scores say changes that by Bayes' rule. This is the model of the scores:

- **A name that a picture is not** scores at the name's *level*, give or take. How much is the *spread*. Part of it is
  *shared*: some pictures are a little like every name. That part says nothing about which name it is, so the share of
  it that so many names allow to estimate is taken off (the usual estimate of a random effect).
- **The name that it is** scores higher by the *lead*, counted in spreads. Both are taken for normal with equal spread,
  so the evidence for a name rises in proportion to its score, and is zero halfway between the two levels.
- **Real scores are not normal**, and levels are estimated. So the evidence is multiplied by a *stretch* and moved by a
  *shift*, fitted (by ``fit``) where the truth is known: on recognition simulated with background pictures.
- **A gallery's own names may be harder or easier than the background**, most of all if they are all of one kind that
  it is not: to weights for objects, every face is like every other. So levels, spread and share are measured on the
  pictures of the other names, too (``Usual.of``), and weigh the more, the more names there are. Lead
  and stretch are then fitted on the gallery's pictures, each left out of its name or as if its name were not enrolled
  (``adapted``), starting from what the background taught.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: Probability of ``unknown`` before a picture is seen. The names share the rest evenly.
UNKNOWN_PRIOR = 0.5
#: Log-odds of all names together against ``unknown`` beforehand.
_PRIOR = math.log((1 - UNKNOWN_PRIOR) / UNKNOWN_PRIOR)
#: How far lead and stretch of a gallery may be from the background's: standard deviation of the logarithm.
_SCATTER = 0.5
_LEADS = tuple(0.03 * 1.25**i for i in range(21))  # factors that are tried: 0.03 … 2.6
_STRETCHES = tuple(2.0 ** (i / 2) for i in range(-3, 4))
_MOST_SCORES = 150_000  # in the tables on which factors are tried
_LEAST_STRETCH = 0.02


@dataclass(frozen=True, eq=False)
class Usual:
    """How pictures score with names that they are not.

    Attributes:
        level: float [N], each name's mean score.
        spread: standard deviation around it.
        shared: correlation of a picture's scores with two names, 0 … 1.
    """

    level: Tensor
    spread: float
    shared: float

    @staticmethod
    def of(scores: Tensor, foreign: Tensor | None = None) -> Usual:
        """Measure it on float [Q, N] scores; bool [Q, N] ``foreign`` says which count (default: all)."""
        counted = torch.ones_like(scores, dtype=torch.bool) if foreign is None else foreign
        level = scores.where(counted, 0).sum(0) / counted.sum(0).clamp(min=1)
        off = (scores - level).where(counted, 0).double()
        variance = float(off.square().sum() / counted.sum().clamp(min=1))
        each = counted.sum(1).double()
        # The mean product of two different scores of a picture.
        together = float((off.sum(1).square() - off.square().sum(1)).sum() / (each * (each - 1)).sum().clamp(min=1))
        shared = min(max(together / max(variance, 1e-12), 0.0), 0.98)
        return Usual(level, max(variance**0.5, 1e-6), shared)

    def evened(self) -> Usual:
        """Return one level for all names; how these differ becomes part of the spread."""
        level = self.level.mean().expand(len(self.level))
        return Usual(level, (self.spread**2 + float(self.level.var(correction=0))) ** 0.5, self.shared)

    def mixed(self, other: Usual, weight: float) -> Usual:
        """Return the mean of both, the other weighing ``weight``, 0 … 1."""
        variance = (1 - weight) * self.spread**2 + weight * other.spread**2
        shared = (1 - weight) * self.shared + weight * other.shared
        return Usual((1 - weight) * self.level + weight * other.level, variance**0.5, shared)


@dataclass(frozen=True)
class Gain:
    """What scoring higher with a name is worth as evidence for it.

    Attributes:
        lead: by how many spreads a picture's own name is above its level.
        stretch: what evidence is multiplied by.
        shift: what is added to it.
    """

    lead: float
    stretch: float = 1.0
    shift: float = 0.0

    def scaled(self, lead: float, stretch: float) -> Gain:
        """Return it with another lead and stretch, by factors: where no name stands out, nothing is to be shifted."""
        return Gain(self.lead * lead, self.stretch * stretch, self.shift * min(lead * stretch, 1.0))


@dataclass(frozen=True)
class Line:
    """Log-odds of names against ``unknown``: rising evenly with scores.

    Attributes:
        slope: log-odds for one unit of score.
        margin: how far above its level a name's score must be to be as likely as ``unknown``, for a picture that is
            as usual with the names on the whole.
        share: how much of a picture's mean distance from all levels is taken off.
    """

    slope: float
    margin: float
    share: float

    @staticmethod
    def of(usual: Usual, gain: Gain, names: int) -> Line:
        """Return the line for so many names."""
        shared = usual.shared if names > 1 else 0.0  # one score cannot be told from what is shared
        each = shared / (1 + (names - 1) * shared)
        slope = gain.stretch * gain.lead / ((1 - shared) * usual.spread)
        middle = usual.spread * gain.lead / 2 * (1 - each)
        return Line(slope, middle - (gain.shift + _PRIOR - math.log(names)) / slope, each * names)

    def log_odds(self, above: Tensor) -> Tensor:
        """Return float [Q, N] log-odds from how far scores are above their levels: float [Q, N]."""
        return self.slope * (above - self.share * above.mean(1, keepdim=True) - self.margin)


def probabilities(log_odds: Tensor) -> Tensor:
    """Turn float [Q, N] log-odds against ``unknown`` into probabilities: float64 [Q, N + 1], ``unknown`` last."""
    return F.pad(log_odds.double(), (0, 1)).softmax(1)


def log_likelihood(log_odds: Tensor, truth: Tensor) -> Tensor:
    """Return the log-probability of int64 [Q] truths (−1 for ``unknown``): float [Q]."""
    nobody = truth < 0
    right = log_odds.gather(1, truth.clamp(min=0).unsqueeze(1)).squeeze(1).masked_fill(nobody, 0)
    return right - F.pad(log_odds, (0, 1)).logsumexp(1)


def fit(plays: Sequence[tuple[Tensor, Usual, Tensor]], lead: float) -> Gain:
    """Fit stretch and shift to simulated recognition, known pictures and strangers counting alike (Newton's method).

    Args:
        plays: float [Q, N] scores, what is usual, and int64 [Q] truths (−1 for strangers), both kinds in each.
        lead: of names that are right.
    """
    tables = []
    for scores, usual, truth in plays:
        line, known = Line.of(usual, Gain(lead), scores.shape[1]), truth >= 0
        prior = _PRIOR - math.log(scores.shape[1])
        evidence = line.log_odds(scores - usual.level).double() - prior
        weight = torch.where(known, 0.5 / known.sum(), 0.5 / (~known).sum()).double()
        right = evidence.gather(1, truth.clamp(min=0).unsqueeze(1)).squeeze(1).where(known, 0)
        tables.append((evidence, prior, weight, known.double(), right))
    stretch, shift = 1.0, 0.0
    for _ in range(30):
        slope, bend = torch.zeros(2, dtype=torch.float64), 1e-6 * torch.eye(2, dtype=torch.float64)
        for evidence, prior, weight, known, right in tables:
            chance = probabilities(stretch * evidence + shift + prior)[:, :-1]
            named, mean = chance.sum(1), (chance * evidence).sum(1)
            slope += torch.stack(((weight * (right - mean)).sum(), (weight * (known - named)).sum()))
            square = (weight * ((chance * evidence.square()).sum(1) - mean.square())).sum()
            both, count = (weight * mean * (1 - named)).sum(), (weight * named * (1 - named)).sum()
            bend += torch.stack((square, both, both, count)).view(2, 2)
        step = torch.linalg.solve(bend, slope)
        step = step / max(1.0, float(step.abs().max()))
        stretch, shift = max(stretch + float(step[0]), _LEAST_STRETCH), shift + float(step[1])
        if float(step.abs().max()) < 1e-4:
            break
    return Gain(lead, stretch, shift)


def adapted(scores: Tensor, labels: Tensor, usual: Usual, gain: Gain, start: float) -> tuple[float, float]:
    """Find by what factors lead and stretch differ for a gallery's own pictures: the likeliest, with the start's pull.

    Every picture comes twice: left out of its name, and as a stranger to the other names.

    Args:
        scores: float [Q, N], of some of the pictures; with the own name, those without the picture (NaN: its only one).
        labels: int64 [Q], their names.
        usual: of the gallery.
        gain: of left-out pictures elsewhere.
        start: where the lead's factor starts.

    Returns:
        The factors of lead and stretch; those of the start for one name, or where no name has a second picture.
    """
    count = scores.shape[1]
    rows = some_rows(labels, count, _MOST_SCORES)
    scores, labels = scores[rows], labels[rows]
    own = F.one_hot(labels, count).bool()
    several = ~scores[own].isnan()
    if count < 2 or not bool(several.any()):
        return start, 1.0
    above = scores - usual.level
    alike, apart = above[several], above[~own].view(len(labels), count - 1)
    strangers = labels.new_full((len(labels),), -1)
    best, chosen = -math.inf, (start, 1.0)
    for lead in _LEADS:
        for stretch in _STRETCHES:
            tried = gain.scaled(lead, stretch)
            known = log_likelihood(Line.of(usual, tried, count).log_odds(alike), labels[several]).mean()
            foreign = log_likelihood(Line.of(usual, tried, count - 1).log_odds(apart), strangers).mean()
            pull = (math.log(lead / start) ** 2 + math.log(stretch) ** 2) / (2 * _SCATTER**2)
            found = int(several.sum()) * float(known + foreign) - pull
            if found > best:
                best, chosen = found, (lead, stretch)
    return chosen


def some_rows(labels: Tensor, names: int, most: int) -> Tensor:
    """Return rows of int64 [M] labels, evenly spread: all, or so many that they have ``most`` scores."""
    rows = max(most // max(names, 1), 50)
    return torch.arange(len(labels)) if len(labels) <= rows else torch.linspace(0, len(labels) - 1, rows).long()
