"""Answers from a gallery: which name is it, and are two pictures the same?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from metasiam import catalogue
from metasiam.arguments import checked
from metasiam.errors import MetaSiamError, OtherArchitectureError, UnknownArchitectureError
from metasiam.evaluation.verification import similarity_matrix
from metasiam.gallery.calibrate import calibrate
from metasiam.gallery.posterior import probabilities
from metasiam.gallery.rules import Rules
from metasiam.gallery.scoring import NameScorer
from metasiam.gallery.store import EmbedderKey, Gallery, fingerprint_of
from metasiam.models import architecture, build
from metasiam.models.files import EmbedderInfo, read_embedder, usual_feeding
from metasiam.models.own import Embedder
from metasiam.progress import SHOWN_OR_WARNED, SILENT, Listener, heard


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
    """

    name: str
    probability: float
    guesses: tuple[Guess, ...]
    unknown: float


@dataclass(frozen=True)
class Verdict:
    """Whether two pictures show the same domain."""

    same: bool
    similarity: float
    threshold: float
    probability: float  #: of being the same, at even odds


@heard
def open_embedder(
    weights: str | Path | None,
    *,
    arch: str | None = None,
    key: EmbedderKey | None = None,
    listener: Listener | None = SHOWN_OR_WARNED,
) -> tuple[nn.Module, EmbedderKey]:
    """Load an embedder, and check that it is a gallery's.

    Args:
        weights: run folder or weights file; None takes the gallery's own, or those that ``arch`` names.
        arch: embedder name, for weights that do not say it; one that names weights (``resnet18-imagenet``,
            ``timm:NAME.TAG``) needs none.
        key: the gallery's embedder, if there is a gallery already.
        listener: told what of a weights file is left out; None is silent.

    Raises:
        MetaSiamError: if there is no such embedder, or it is another than the gallery's.
    """
    catalogue.give(arch)
    if key is not None:
        return _open_again(weights, arch, key, listener or SILENT)
    return _open(weights, arch, listener or SILENT)


def _open(weights: str | Path | None, arch: str | None, listener: Listener) -> tuple[nn.Module, EmbedderKey]:
    """Load an embedder; ``arch`` may be a gallery's word."""
    if weights is None:
        embedder, info = _named(arch)
    else:
        embedder, info = read_embedder(weights, arch=arch, listener=listener)
    return embedder, EmbedderKey(_place(weights), fingerprint_of(embedder), info)


def _named(arch: str | None) -> tuple[nn.Module, EmbedderInfo]:
    """Return an embedder whose name says its weights, as it is fed.

    Raises:
        MetaSiamError: if the name says none, or they cannot be had.
    """
    named = None if arch is None else architecture(arch)
    if arch is None or named is None or (named.pretrain is None and not catalogue.is_place(arch)):
        without = "" if arch is None else f"{arch} comes without weights: "
        raise MetaSiamError(
            f"{without or 'there is no embedder yet. '}"
            f"{'give' if without else 'Give'} --weights RUN, or --arch resnet18-imagenet (downloaded)."
        )
    if named.feeding is not None:
        fed = usual_feeding(arch, 3)
        embedder = build(arch, named, 3, fed["image_size"], pretrained=True).eval()
        return embedder, EmbedderInfo(arch=arch, trained_on=named.feeding.trained_on, **fed)
    own = build(arch, named, 3, (224, 224), pretrained=True).eval()
    if not isinstance(own, Embedder) or own.image_size is None or own.mean is None or own.std is None:
        raise MetaSiamError(
            f"{arch} does not say how pictures are fed to it. Let it return ms.Embedder(module, image_size=…, mean=…, "
            "std=…)."
        )
    return own, replace(own.info(len(own.mean), own.image_size, own.mean, own.std), arch=arch)


def _place(weights: str | Path | None) -> str:
    return "" if weights is None else str(Path(weights).absolute())


def _open_again(
    weights: str | Path | None, arch: str | None, key: EmbedderKey, listener: Listener
) -> tuple[nn.Module, EmbedderKey]:
    """Load a gallery's embedder from where it was, or from where it is said to be now."""
    if arch is not None and arch != key.info.arch:
        raise MetaSiamError(
            f"the gallery was made with a {key.info.arch}, not with {arch}. Omit --arch, or enroll into a new gallery."
        )
    place = weights if weights is not None else key.path or None
    if weights is None and key.path and not Path(key.path).exists():
        raise MetaSiamError(
            f"the gallery's embedder is no longer in {key.path}. Say where it is now with --weights; enroll keeps the "
            "new place when it adds pictures."
        )
    try:
        try:
            embedder, found = _open(place, None if place is not None else key.info.arch, listener)
        except UnknownArchitectureError:
            embedder, found = _open(place, key.info.arch, listener)
        same = found.fingerprint == key.fingerprint
    except OtherArchitectureError:
        same = False
    if same:
        return embedder, found
    if place is None or _place(place) == key.path:
        raise MetaSiamError(
            f"the weights in {place or key.info.arch} are not those that the gallery was made with: they were trained "
            "or changed since. Pass a copy of the old ones with --weights, or enroll again into a new gallery."
        )
    if key.path and not Path(key.path).exists():
        raise MetaSiamError(
            f"{place} is another embedder than the gallery was made with, which was in {key.path}. Say where that is "
            "now with --weights, or enroll again into a new gallery."
        )
    raise MetaSiamError(
        f"{place} is another embedder than the gallery was made with ({key.path or key.info.arch}). Leave --weights "
        "out, or enroll again into a new gallery."
    )


def calibrated(gallery: Gallery, *, seed: int = 0) -> Gallery:
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
def identify(gallery: Gallery, embeddings: Tensor) -> list[Answer]:
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


def scorer_of(gallery: Gallery) -> NameScorer:
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


def pair_rules(info: EmbedderInfo, gallery: Gallery | None) -> Rules:
    """Return the rules for comparing two pictures: the gallery's, else the embedder's fixed threshold."""
    if gallery is not None and gallery.rules is not None:
        return gallery.rules
    nobody = torch.empty(0, 1), torch.empty(0, dtype=torch.int64)
    return calibrate(*nobody, 0, info, gallery.background if gallery is not None else None)


#: Own pictures' statistics further than this many standard deviations from the background's are called unlike it.
_UNLIKE = 2.0


def unlikeness(statistics: Tensor, gallery: Gallery) -> float | None:
    """Return how far pictures are from the background in brightness, contrast and colour, in standard deviations.

    Args:
        statistics: float [Q, 2 · C], as ``pictures.Embedded.statistics``.
        gallery: with a background, or the answer is None.
    """
    if gallery.background is None or len(statistics) == 0:
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


def thresholds_moved(before: Gallery, after: Gallery) -> int:
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
