"""Thresholds and probabilities of a gallery, learned by acting out recognition on background domains."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from scipy.special import expit
from torch import Tensor

from metasiam.evaluation.calibration import ProbabilityCalibrator, ThresholdCalibrator, shrink
from metasiam.evaluation.verification import similarity_matrix
from metasiam.gallery.scoring import LEAST_COHORT, NameScorer
from metasiam.models.files import EmbedderInfo

_DRAWS = 30  # times that recognition is acted out
_MOST_NAMES = 20  # names acted out at once; more change little and leave fewer strangers
_STRENGTHS = (2.0, 5.0, 10.0, 20.0, 50.0, 200.0)  # in images; see evaluation.calibration.shrink
#: The seeds' fixed threshold, and FaceNet's margin: what is left where nothing can be learned from.
_FIXED = {"cosine": 0.2, "squared_euclidean": -1.0}
#: Log-odds for one unit of similarity where nothing can be learned from: of the published weights, rounded.
_SLOPE = {"cosine": 5.0, "squared_euclidean": 1.0}


@dataclass(frozen=True, eq=False)
class Background:
    """Embedded images of domains that are none of a gallery's names.

    Attributes:
        embeddings: float32 [N, D].
        labels: int64 [N], the domain of each.
        statistics: float32 [N, 2 · C], means and standard deviations per channel.
        source: where they are from, for people.
    """

    embeddings: Tensor
    labels: Tensor
    statistics: Tensor
    source: str

    def prototypes(self, domains: Tensor | None = None) -> Tensor:
        """Return the mean embedding of each domain (default: of every one): float [C, D]."""
        wanted = torch.unique(self.labels) if domains is None else domains
        return torch.stack([self.embeddings[self.labels == domain].mean(0) for domain in wanted])

    @property
    def most_shots(self) -> int:
        """The most pictures that recognition can be acted out with: one name, one stranger and a cohort have more."""
        counts = torch.unique(self.labels, return_counts=True)[1].sort(descending=True).values
        return max(int(counts[LEAST_COHORT + 1]) - 1, 0) if len(counts) > LEAST_COHORT + 1 else 0

    def cohort(self) -> Tensor | None:
        """Return what scores are set in proportion to: None where no threshold for such scores can be learned here."""
        return self.prototypes() if self.most_shots else None


@dataclass(frozen=True)
class Rules:
    """How scores become answers. Probabilities are those of even odds between right and wrong.

    Attributes:
        thresholds: for each name, the score above which a picture is taken for it.
        own_thresholds: before shrinking, from the name's own pictures; None with fewer than two.
        general_threshold: what names with few pictures get.
        slope: log-odds for one unit of score above the threshold.
        pair_threshold: similarity above which two pictures are called the same.
        pair_slope: log-odds for one unit of similarity above it.
        strength: how strongly own thresholds were shrunk, in pictures.
        learned_on: what all this was learned on, for people.
    """

    thresholds: tuple[float, ...]
    own_thresholds: tuple[float | None, ...]
    general_threshold: float
    slope: float
    pair_threshold: float
    pair_slope: float
    strength: float
    learned_on: str

    def as_dict(self) -> dict[str, Any]:
        """Return the rules as JSON-ready values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Rules:
        """Read rules that ``as_dict`` wrote; raises KeyError or TypeError for others."""
        found = {field.name: values[field.name] for field in fields(Rules)}
        for name in ("thresholds", "own_thresholds"):
            found[name] = tuple(found[name])
        return Rules(**found)

    def fits(self, names: int) -> bool:
        """Whether there is a threshold for each of so many names."""
        return len(self.thresholds) == len(self.own_thresholds) == names

    def values(self) -> list[float]:
        """Return every number in it."""
        scalars = [self.general_threshold, self.slope, self.pair_threshold, self.pair_slope, self.strength]
        return [*self.thresholds, *(value for value in self.own_thresholds if value is not None), *scalars]

    def probability(self, score: float, threshold: float) -> float:
        """Return the probability that the name is right: 0.5 at its threshold."""
        return float(expit(self.slope * (score - threshold)))

    def pair_probability(self, similarity: float) -> float:
        """Return the probability that two pictures are the same: 0.5 at the threshold."""
        return float(expit(self.pair_slope * (similarity - self.pair_threshold)))


def calibrate(
    embeddings: Tensor,
    labels: Tensor,
    count: int,
    info: EmbedderInfo,
    background: Background | None,
    *,
    seed: int = 0,
) -> Rules:
    """Learn thresholds and probabilities for named domains.

    With a background, recognition is acted out on it with as many names and pictures: some of its domains are
    enrolled, others come as strangers, the rest is the cohort; where it has fewer pictures of a domain, with as many as
    it has. That gives the general threshold (as many strangers
    refused as own pictures accepted), the probability's slope, and how much a name's own pictures should move its
    threshold. Without one, the names' own pictures must do.

    Args:
        embeddings: float [M, D], the names' pictures.
        labels: int64 [M], 0 … count − 1, each at least once.
        count: number of names.
        info: distance, and a threshold if the embedder has one.
        background: images of other domains.
        seed: of the draws from the background.
    """
    acted = None
    if background is not None and count > 0:
        pictures = torch.bincount(labels, minlength=count).tolist()
        acted = _Acted.out(background, count, round(statistics.median(pictures)), info.distance, seed)
    pair_threshold, pair_slope = _pair_rule(background, info, seed)
    if acted is None or background is None:
        return _from_own(embeddings, labels, count, info, pair_threshold, pair_slope, background)
    cohort = background.prototypes()
    strangers = background.embeddings
    separating = _separating(embeddings, labels, count, info.distance, cohort, strangers)
    # A name's own separating score counts by how it differs from what such scores usually are.
    own = [None if value is None else acted.threshold + value - acted.usual for value in separating]
    return Rules(
        thresholds=_shrunk(own, labels, acted.threshold, acted.strength),
        own_thresholds=tuple(own),
        general_threshold=acted.threshold,
        slope=acted.slope,
        pair_threshold=pair_threshold,
        pair_slope=pair_slope,
        strength=acted.strength,
        learned_on=f"{len(background.embeddings)} images of {len(cohort)} domains of {background.source}",
    )


def _shrunk(own: list[float | None], labels: Tensor, general: float, strength: float) -> tuple[float, ...]:
    counts = torch.bincount(labels, minlength=len(own)).tolist()
    return tuple(
        general if value is None else shrink(value, general, k, strength) for value, k in zip(own, counts, strict=True)
    )


def _separating(
    embeddings: Tensor, labels: Tensor, count: int, distance: str, cohort: Tensor | None, strangers: Tensor
) -> list[float | None]:
    """Return for each name the score halfway between its own pictures and the strangers most like it.

    None for names with one picture, and where there are no strangers: the other names' pictures are some, too.
    """
    found: list[float | None] = [None] * count
    scorer = NameScorer.of(embeddings, labels, count, distance, cohort)
    counts = torch.bincount(labels, minlength=count)
    queries, owners = torch.cat((embeddings, strangers)), torch.cat((labels, labels.new_full((len(strangers),), -1)))
    several = ((counts > 1) & (counts < len(queries))).nonzero().flatten()
    if len(several) == 0:
        return found
    by_name = scorer.leave_one_out(embeddings, labels)[torch.argsort(labels, stable=True)]
    inside = torch.split(by_name, counts.tolist())
    for block, scores in scorer.blocks(queries, several):
        others = scores.masked_fill(owners.unsqueeze(1) == block, -torch.inf).t().contiguous()
        # The quantile 0.95 by its place among the highest: one pass, where sorting all would take most of the time.
        place = 0.05 * (len(queries) - counts[block] - 1).double().unsqueeze(1)
        above, below = place.floor().long(), place.ceil().long()
        highest = others.topk(int(below.max()) + 1, dim=1).values.double()
        upper, lower = highest.gather(1, above), highest.gather(1, below)
        outside = (upper + (lower - upper) * (place - above)).squeeze(1)
        for name, value in zip(block.tolist(), outside.tolist(), strict=True):
            found[name] = (float(inside[name].median()) + value) / 2
    return found


@dataclass(frozen=True)
class _Acted:
    """What acting recognition out on background domains taught."""

    threshold: float
    slope: float
    usual: float  # mean of names' separating scores
    strength: float

    @staticmethod
    def out(background: Background, names: int, shots: int, distance: str, seed: int) -> _Acted | None:
        """Act recognition out; None when the background has too few domains or images for it."""
        shots = min(shots, background.most_shots)
        if shots < 1:
            return None
        domains, counts = torch.unique(background.labels, return_counts=True)
        domains = domains[counts >= shots + 1]
        names = min(names, _MOST_NAMES, (len(domains) - LEAST_COHORT) // 2)
        generator = torch.Generator().manual_seed(seed)
        plays = [_play(background, domains, names, shots, distance, generator) for _ in range(_DRAWS)]
        scores, right = torch.cat([p.top for p in plays]), torch.cat([p.right for p in plays])
        if bool(right.any()):
            threshold = ThresholdCalibrator().fit(scores, right).threshold
            slope = ProbabilityCalibrator().fit(scores, right).slope
        else:  # recognition does not work at all here: nobody is recognised
            threshold, slope = float(scores.max()), 0.0
        found = [value for p in plays for value in p.own if value is not None]
        usual = statistics.fmean(found) if found else 0.0
        strength = _learn_strength(plays, threshold, usual, shots)
        return _Acted(threshold, max(slope, 1e-6), usual, strength)


@dataclass(frozen=True, eq=False)
class _Play:
    """One acting out: names' own separating scores, and for every query its top name, score and truth."""

    own: list[float | None]
    name: Tensor
    top: Tensor
    right: Tensor


def _play(
    background: Background, domains: Tensor, names: int, shots: int, distance: str, generator: torch.Generator
) -> _Play:
    order = domains[torch.randperm(len(domains), generator=generator)]
    known, strangers, cohort = order[:names], order[names : 2 * names], background.prototypes(order[2 * names :])
    enrolled, queries, truth = [], [], []
    for place, domain in enumerate(known):
        rows = (background.labels == domain).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        enrolled.append(rows[:shots])
        queries.append(rows[shots:])
        truth.append(torch.full((len(rows) - shots,), place))
    foreign = torch.isin(background.labels, strangers).nonzero().flatten()
    embeddings = background.embeddings[torch.cat(enrolled)]
    labels = torch.arange(names).repeat_interleave(shots)
    scorer = NameScorer.of(embeddings, labels, names, distance, cohort)
    top, name = scorer.scores(background.embeddings[torch.cat((*queries, foreign))]).max(1)
    answers = torch.cat((*truth, torch.full((len(foreign),), -1)))
    others = background.embeddings[torch.isin(background.labels, order[2 * names :])]
    own = _separating(embeddings, labels, names, distance, cohort, others)
    return _Play(own, name, top, name == answers)


def _learn_strength(plays: list[_Play], threshold: float, usual: float, shots: int) -> float:
    """Return the strength with the best balanced accuracy on the plays, the stronger of equals."""
    if shots < 2:
        return _STRENGTHS[-1]
    best, chosen = -1.0, _STRENGTHS[-1]
    for strength in reversed(_STRENGTHS):
        total = 0.0
        for play in plays:
            own = [threshold if value is None else threshold + value - usual for value in play.own]
            moved = torch.tensor([shrink(value, threshold, shots, strength) for value in own])
            accepted = play.top > moved[play.name]
            total += float(accepted[play.right].float().mean().nan_to_num(0.5) - accepted[~play.right].float().mean())
        if total > best + 1e-9:
            best, chosen = total, strength
    return chosen


def _pair_rule(background: Background | None, info: EmbedderInfo, seed: int) -> tuple[float, float]:
    """Return threshold and slope for two single pictures' similarity."""
    fixed = info.threshold if info.threshold is not None else _FIXED[info.distance]
    if background is None:
        return fixed, _SLOPE[info.distance]
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(background.embeddings), generator=generator)[:1000]
    scores = similarity_matrix(background.embeddings[rows], background.embeddings[rows], info.distance)
    upper = torch.ones_like(scores, dtype=torch.bool).triu(1)
    same = (background.labels[rows].unsqueeze(1) == background.labels[rows])[upper]
    if bool(same.all()) or not bool(same.any()):
        return fixed, _SLOPE[info.distance]
    pairs = scores[upper]
    different = (~same).nonzero().flatten()
    kept = torch.cat((same.nonzero().flatten(), different[torch.randperm(len(different), generator=generator)[:20000]]))
    threshold = ThresholdCalibrator().fit(pairs[kept], same[kept]).threshold
    slope = ProbabilityCalibrator().fit(pairs[kept], same[kept]).slope
    return threshold, max(slope, 1e-6)


def _from_own(
    embeddings: Tensor,
    labels: Tensor,
    count: int,
    info: EmbedderInfo,
    pair_threshold: float,
    pair_slope: float,
    background: Background | None,
) -> Rules:
    """Calibrate without a background, or with one that is too small: each name against the pictures of the others."""
    nobody = embeddings[:0]
    own = _separating(embeddings, labels, count, info.distance, None, nobody)
    known = [value for value in own if value is not None]
    # The more names have shown where they separate, the less the fixed threshold counts.
    general = (pair_threshold * 2 + sum(known)) / (2 + len(known))
    return Rules(
        thresholds=_shrunk(own, labels, general, 5.0),
        own_thresholds=tuple(own),
        general_threshold=general,
        slope=pair_slope,
        pair_threshold=pair_threshold,
        pair_slope=pair_slope,
        strength=5.0,
        learned_on=_learned_on(bool(known), count, info, background),
    )


def _learned_on(own: bool, count: int, info: EmbedderInfo, background: Background | None) -> str:
    """Say what ``_from_own`` learned on: the names' pictures, pairs of the background's, or nothing, and then why."""
    if own:
        small = f" (the background, {background.source}, is too small to learn on)" if background is not None else ""
        return f"the names' own pictures{small}"
    alone = {0: "no names are enrolled", 1: "one name alone has no others to be told from"}
    why = alone.get(count, "no name has two pictures")
    if background is not None:
        return f"pairs of pictures of {background.source} alone: {why}, and it is too small to act recognition out on"
    origin = "the one stored with the embedder" if info.threshold is not None else "a fixed one"
    return f"nothing, it is {origin}: {why}, and there is no background"
