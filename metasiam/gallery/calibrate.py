"""Thresholds and probabilities of a gallery, learned by simulating recognition: see ``posterior`` for the model.

On background domains, some are enrolled, with as many names and pictures as the gallery has, others come as strangers,
and the rest is the cohort. That teaches what scores are worth. How alike the gallery's own names are is then measured
on their pictures, and weighs the more against the background's the more names there are. Lead and stretch are fitted to
the names' pictures, each left out in turn. Without a background, a fixed threshold takes the place of what it teaches.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from metasiam.evaluation.calibration import ProbabilityCalibrator, ThresholdCalibrator
from metasiam.evaluation.verification import similarity_matrix
from metasiam.gallery.posterior import Gain, Line, Usual, adapted, fit, some_rows
from metasiam.gallery.rules import Rules
from metasiam.gallery.scoring import LEAST_COHORT, NameScorer
from metasiam.models.files import EmbedderInfo
from metasiam.wording import counted

_DRAWS = 20  # times that recognition is simulated
_MOST_NAMES = 20  # names simulated at once; more change little and leave fewer strangers
#: With so many other names, own pictures and background weigh the same in what is usual, unless they are far apart.
#: Two to eight made no difference on CIFAR-100 classes 50 to 89 and on faces, with the published 50-50 weights.
_STRENGTH = 4.0
#: The same for how names differ from each other. Which of them background pictures are more like says nothing: names
#: were told apart better without (same classes).
_NAME_STRENGTH = 15.0
_FARTHEST = (0.1, 1.5)  # factors of the lead that are expected before a name has a second picture
#: What a fixed threshold is taken for: the middle of a lead of so many spreads, as of the published weights.
_FIXED_LEAD = 1.5
_MOST_SCORES = 1 << 22  # in a table on which names' levels are measured
#: The published system's fixed threshold, and FaceNet's margin: used if there is nothing to learn one from.
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
        """The most pictures that recognition can be simulated with: one name, one stranger and a cohort have more."""
        counts = torch.unique(self.labels, return_counts=True)[1].sort(descending=True).values
        return max(int(counts[LEAST_COHORT + 1]) - 1, 0) if len(counts) > LEAST_COHORT + 1 else 0

    def cohort(self) -> Tensor | None:
        """Return what scores are set in proportion to: None where no threshold for such scores can be learned here."""
        return self.prototypes() if self.most_shots else None


def calibrate(
    embeddings: Tensor,
    labels: Tensor,
    count: int,
    info: EmbedderInfo,
    background: Background | None,
    *,
    seed: int = 0,
    slope: float | None = None,
) -> Rules:
    """Learn thresholds and probabilities for named domains.

    Args:
        embeddings: float [M, D], the names' pictures.
        labels: int64 [M], 0 … count − 1, each at least once.
        count: number of names.
        info: distance, and a threshold if the embedder has one.
        background: images of other domains.
        seed: of the draws from the background.
        slope: log-odds for one unit of similarity of two pictures, where no background can say it.
    """
    pair_threshold, pair_slope = _pair_rule(background, info, seed)
    if background is None and slope is not None:
        pair_slope = slope
    acted = None
    if background is not None and count > 0:
        pictures = torch.bincount(labels, minlength=count).tolist()
        acted = _Taught.by(background, count, round(statistics.median(pictures)), info.distance, seed)
    taught = acted or _Taught.assumed(pair_threshold, pair_slope)
    strangers = embeddings[:0]
    if background is not None and count > 0:
        strangers = background.embeddings[some_rows(background.labels, count, _MOST_SCORES)]
    if acted is not None and background is not None:
        images, domains = len(background.labels), len(background.prototypes())
        learned_on = f"{counted(images, 'image')} of {counted(domains, 'domain')} of {background.source}"
    else:
        learned_on = _learned_on(count, info, background)
    cohort = background.cohort() if acted is not None and background is not None else None
    scorer = NameScorer.of(embeddings, labels, count, info.distance, cohort)
    level, line, own, strength = _lines(scorer, embeddings, labels, strangers, taught)
    return Rules(
        thresholds=tuple((level + line.margin).tolist()),
        own_thresholds=(None,) * count if own is None else tuple((own + line.margin).tolist()),
        general_threshold=taught.level + line.margin,
        slope=line.slope,
        pair_threshold=pair_threshold,
        pair_slope=pair_slope,
        strength=strength,
        learned_on=learned_on,
        margin=line.margin,
        share=line.share,
    )


def _lines(
    scorer: NameScorer, embeddings: Tensor, labels: Tensor, strangers: Tensor, taught: _Taught
) -> tuple[Tensor, Line, Tensor | None, float]:
    """Return names' levels, the line, levels that other names' pictures alone say (None for one name), and strength."""
    count = len(scorer.means)
    usual = Usual(torch.full((count,), taught.level), taught.spread, taught.shared)
    if len(strangers):
        usual = Usual.of(scorer.scores(strangers)).evened()
    if count < 2:
        return usual.level, Line.of(usual, taught.gain, max(count, 1)), None, _STRENGTH
    scores, own = own_scores(scorer, embeddings, labels, most=_MOST_SCORES)
    apart = Usual.of(scores, ~F.one_hot(own, count).bool())
    usual, strength = _joined(usual, apart)
    # Until own pictures say better: pictures of one thing are as alike as they are on the background.
    least, most = _FARTHEST
    raised = taught.level + taught.gain.lead * taught.spread - float(usual.level.mean())
    start = min(max(raised / usual.spread / taught.gain.lead, least), most)
    tried = replace(taught.gain, lead=taught.left_out)
    gain = taught.gain.scaled(*adapted(scores, own, usual, tried, start))
    return usual.level, Line.of(usual, gain, count), apart.level, strength


def _joined(usual: Usual, own: Usual) -> tuple[Usual, float]:
    """Let what the names' own pictures say weigh in what is usual, and return with how many others both weigh the same.

    How all names differ from the background weighs more than how each does: the mean over names errs by a spread
    divided by the root of their number, and what is seen beyond that error is no chance (James & Stein, 1961).
    """
    others, everyone = len(usual.level) - 1, own.level.mean()
    apart = float(everyone - usual.level.mean())
    strength = 1 / max(1 / _STRENGTH, (apart / usual.spread) ** 2 - 1 / others)
    level = usual.level + others / (others + strength) * apart
    level = level + others / (others + _NAME_STRENGTH) * (own.level - everyone)
    return replace(usual.mixed(own, others / (others + _STRENGTH)), level=level), strength


def own_scores(scorer: NameScorer, embeddings: Tensor, labels: Tensor, *, most: int) -> tuple[Tensor, Tensor]:
    """Score names' own pictures, each left out of its name; of very many so many that there are ``most`` scores.

    Returns:
        float [Q, N] scores, NaN with the name of which it is the only picture; int64 [Q] the pictures' names.
    """
    rows = some_rows(labels, len(scorer.means), most)
    scores, own = scorer.scores(embeddings[rows]), labels[rows]
    scores[torch.arange(len(rows)), own] = scorer.leave_one_out(embeddings, labels)[rows]
    return scores, own


@dataclass(frozen=True)
class _Taught:
    """What a background teaches: how pictures score with names that they are not, and with those that they are.

    ``left_out`` is the lead of a name's own pictures, each left out of it.
    """

    level: float
    spread: float
    shared: float
    gain: Gain
    left_out: float

    @staticmethod
    def assumed(threshold: float, slope: float) -> _Taught:
        """Return what a fixed threshold and slope would be the middle of."""
        spread = _FIXED_LEAD / slope
        return _Taught(threshold - spread * _FIXED_LEAD / 2, spread, 0.0, Gain(_FIXED_LEAD), _FIXED_LEAD)

    @staticmethod
    def by(background: Background, names: int, shots: int, distance: str, seed: int) -> _Taught | None:
        """Act recognition out; None when the background has too few domains or images for it."""
        shots = min(shots, background.most_shots)
        if shots < 1:
            return None
        domains, counts = torch.unique(background.labels, return_counts=True)
        domains = domains[counts >= shots + 1]
        names = min(names, _MOST_NAMES, (len(domains) - LEAST_COHORT) // 2)
        generator = torch.Generator().manual_seed(seed)
        plays = [_play(background, domains, names, shots, distance, generator) for _ in range(_DRAWS)]
        lead = max(statistics.fmean(play.lead for play in plays), 0.1)
        left_out = statistics.fmean(play.left_out for play in plays) if shots > 1 else lead
        return _Taught(
            level=statistics.fmean(float(play.usual.level.mean()) for play in plays),
            spread=statistics.fmean(play.usual.spread for play in plays),
            shared=statistics.fmean(play.usual.shared for play in plays),
            gain=fit([(play.scores, play.usual, play.truth) for play in plays], lead),
            left_out=max(left_out, 0.1),
        )


@dataclass(frozen=True, eq=False)
class _Play:
    """One simulation: every query's scores and truth (−1: a stranger), what is usual, and own names' leads."""

    scores: Tensor
    truth: Tensor
    usual: Usual
    lead: float
    left_out: float


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
    rest = background.embeddings[torch.isin(background.labels, order[2 * names :])]
    usual = Usual.of(scorer.scores(rest)).evened()
    left_out, own = own_scores(scorer, embeddings, labels, most=_MOST_SCORES)
    if names > 1:
        apart = Usual.of(left_out, ~F.one_hot(own, names).bool())
        usual = _joined(usual, apart)[0]
    asked = torch.cat((*queries, foreign))
    answers = torch.cat((*truth, torch.full((len(foreign),), -1)))
    scores = scorer.scores(background.embeddings[asked])
    above, places = (scores - usual.level) / usual.spread, answers.clamp(min=0).unsqueeze(1)
    lead = float(above.gather(1, places).squeeze(1)[answers >= 0].mean())
    off = (left_out - usual.level) / usual.spread
    return _Play(scores, answers, usual, lead, float(off.gather(1, own.unsqueeze(1)).mean()))


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


def _learned_on(count: int, info: EmbedderInfo, background: Background | None) -> str:
    """Say what was learned on where no background acted recognition out, and why."""
    if count > 1:
        small = f" (the background, {background.source}, is too small to learn on)" if background is not None else ""
        return f"the names' own pictures{small}"
    why = "no names are enrolled" if count == 0 else "with one name there are no others to tell it from"
    if background is not None:
        return f"pairs of pictures of {background.source} alone: {why}, and it is too small to simulate recognition on"
    origin = "the one stored with the embedder" if info.threshold is not None else "a fixed one"
    return f"nothing, it is {origin}: {why}, and there is no background"
