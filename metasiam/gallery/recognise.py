"""Answers from a gallery: which name is it, and are two pictures the same?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metasiam.arguments import checked
from metasiam.errors import MetaSiamError
from metasiam.evaluation.verification import similarity_matrix
from metasiam.gallery.calibrate import calibrate
from metasiam.gallery.enrolled import Enrolled, Kind
from metasiam.gallery.posterior import probabilities
from metasiam.gallery.rules import Rules
from metasiam.gallery.scoring import NameScorer
from metasiam.models.files import EmbedderInfo


@dataclass(frozen=True)
class Guess:
    """One name that a picture may be."""

    name: str
    probability: float  #: of being right; those of all names and of ``unknown`` add up to one
    score: float
    threshold: float  #: the score at which it would be as likely as ``unknown``, for this picture


@dataclass(frozen=True)
class Answer:
    """What a picture was recognised as.

    Attributes:
        name: a name of the gallery, or ``unknown``.
        probability: that ``name`` is right.
        guesses: every name, likeliest first.
        unknown: the probability of ``unknown``. It is ``posterior.UNKNOWN_PRIOR`` before the picture is seen.
        picture: the picture's file, or which of several arrays it was; empty where only an embedding was given.
    """

    name: str
    probability: float
    guesses: tuple[Guess, ...]
    unknown: float
    picture: str = ""

    @property
    def nearest(self) -> str:
        """The likeliest name, also of a picture that is answered with ``unknown``."""
        return self.guesses[0].name


@dataclass(frozen=True)
class Verdict:
    """Whether two pictures show the same domain."""

    same: bool
    similarity: float
    threshold: float
    probability: float  #: of being the same, at even odds


def calibrated(gallery: Kind, *, seed: int = 0) -> Kind:
    """Return the gallery with rules learned from its pictures and background (none for an empty one).

    Args:
        gallery: its pictures and background decide.
        seed: of the draws from the background.
    """
    if not gallery.names:
        return replace(gallery, rules=None)
    info, names = gallery.embedder.info, len(gallery.names)
    rules = calibrate(gallery.embeddings, gallery.labels, names, info, gallery.background, seed=seed)
    return replace(gallery, rules=rules)


@checked
def identify(gallery: Enrolled, embeddings: Tensor) -> list[Answer]:
    """Recognise pictures, embedded as the gallery's are.

    Args:
        gallery: with rules (see ``calibrated``).
        embeddings: float [Q, D].

    Raises:
        MetaSiamError: if the gallery has no names, or the embeddings are of another width than its own.
    """
    rules = gallery.rules
    if rules is None:
        raise MetaSiamError("the gallery has no names yet. Enroll some pictures first.")
    if embeddings.ndim != 2 or embeddings.shape[1] != gallery.embeddings.shape[1]:
        width = gallery.embeddings.shape[1]
        raise MetaSiamError(
            f"the embeddings are {list(embeddings.shape)} and the gallery's {width} wide: it is damaged, or of another "
            "embedder. Enroll again into a new one."
        )
    return [answer_from(gallery.names, rules, row) for row in scorer_of(gallery).scores(embeddings)]


def scorer_of(gallery: Enrolled) -> NameScorer:
    """Return what scores pictures against a gallery's names."""
    cohort = gallery.background.cohort() if gallery.background is not None else None
    distance = gallery.embedder.info.distance
    return NameScorer.of(gallery.embeddings, gallery.labels, len(gallery.names), distance, cohort)


def answer_from(names: tuple[str, ...], rules: Rules, scores: Tensor) -> Answer:
    """Return what a picture is recognised as from its score for each name: float [names]."""
    above = rules.log_odds(scores.unsqueeze(0))
    *chances, nobody = probabilities(above)[0].tolist()
    odds, thresholds = above[0].tolist(), (scores - above[0] / rules.slope).tolist()
    order = sorted(range(len(names)), key=lambda place: -odds[place])  # probabilities saturate
    values = scores.tolist()
    guesses = tuple(Guess(names[i], chances[i], values[i], thresholds[i]) for i in order)
    known = odds[order[0]] > 0
    return Answer(guesses[0].name if known else "unknown", guesses[0].probability if known else nobody, guesses, nobody)


def compare(first: Tensor, second: Tensor, rules: Rules, distance: str) -> Verdict:
    """Tell whether two pictures (float [D] embeddings) show the same domain."""
    similarity = float(similarity_matrix(first.unsqueeze(0), second.unsqueeze(0), distance)[0, 0])
    return Verdict(
        similarity > rules.pair_threshold, similarity, rules.pair_threshold, rules.pair_probability(similarity)
    )


def pair_rules(info: EmbedderInfo, gallery: Enrolled | None) -> Rules:
    """Return the rules for comparing two pictures: the gallery's, else the embedder's fixed threshold."""
    if gallery is not None and gallery.rules is not None:
        return gallery.rules
    nobody = torch.empty(0, 1), torch.empty(0, dtype=torch.int64)
    return calibrate(*nobody, 0, info, gallery.background if gallery is not None else None)


#: Own pictures' statistics further than this many standard deviations from the background's are called unlike it.
_UNLIKE = 2.0


def unlikeness(statistics: Tensor, gallery: Enrolled) -> float | None:
    """Return how far pictures are from the background in brightness, contrast and colour, in standard deviations.

    Args:
        statistics: float [Q, 2 · C], as ``pictures.Embedded.statistics``.
        gallery: with a background, or the answer is None.
    """
    if gallery.background is None or statistics.numel() == 0:
        return None
    usual = gallery.background.statistics
    spread = usual.std(0).clamp(min=0.02)
    return float(((statistics.median(0).values - usual.median(0).values) / spread).abs().max())


def suitability(info: EmbedderInfo, far: float | None) -> str:
    """Say in one line what the embedder was trained on, and whether the pictures look like that."""
    trained = info.trained_on or "something that its file does not say"
    size = "×".join(map(str, info.image_size))
    said = f"the embedder was trained on {trained}, at {size} pixels"
    if info.preparation.changes:
        said += f" ({info.preparation.in_words()})"
    if far is not None and far > _UNLIKE:
        return f"{said}; these pictures look unlike that ({far:.1f} standard deviations off), so expect more mistakes"
    return said


def thresholds_moved(before: Enrolled, after: Enrolled) -> int:
    """Return how many names that are in both galleries have another threshold in the second: calibrating moves all.

    Args:
        before: with rules, or none are counted.
        after: the same.
    """
    if before.rules is None or after.rules is None:
        return 0
    old = dict(zip(before.names, before.rules.thresholds, strict=True))
    new = dict(zip(after.names, after.rules.thresholds, strict=True))
    return sum(abs(new[name] - old[name]) > 1e-6 for name in old.keys() & new.keys())
