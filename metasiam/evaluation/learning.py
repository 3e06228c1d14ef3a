"""What an evaluation learns before it looks at a held-out domain: the global threshold, and how to adapt safely."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split
from metasiam.evaluation.draws import Draws
from metasiam.evaluation.embedded import EmbeddedImages
from metasiam.evaluation.plans import (
    ChosenPlan,
    calibrate_default,
    choose_plan,
    choose_stretch,
    default_plan,
)
from metasiam.evaluation.scored_pairs import score_images
from metasiam.evaluation.solved import Background, learn_background
from metasiam.evaluation.thresholds import DEFAULT_STRENGTH, Calibration, calibrate_globally
from metasiam.evaluation.trials import ActedDomains, learn_strength
from metasiam.models.files import EmbedderInfo
from metasiam.options.evaluation import ProtocolSettings, Shots
from metasiam.progress import Listener

#: Numbers of images that the shrinkage strength of unadapted embedders is learned on.
STRENGTH_SHOTS = (2, 5, 10, 20)


@dataclass(frozen=True, eq=False)
class Learned:
    """What other domains taught.

    Attributes:
        acted: the validation domains, or seen ones where the split keeps none back, that it was learned on.
        background: of seen-domain training images, for solved heads.
        calibration: of the unadapted embedder.
        plans: by key of ``evaluation.json``; empty without held-out domains.
    """

    acted: ActedDomains
    background: Background
    calibration: Calibration
    plans: dict[str, ChosenPlan]


def learn_from_others(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    split: Split,
    settings: ProtocolSettings,
    draws: Draws,
    embedded: EmbeddedImages,
    listener: Listener,
) -> Learned:
    """Learn thresholds and plans from training images of validation and seen domains; no test image is touched.

    Args:
        embedder: unadapted, on the domain set's device.
        info: normalisation and distance.
        domains: the images.
        split: without validation domains the global threshold comes from seen domains' training images, and plans
            are the documented defaults.
        settings: what is measured.
        draws: the images to learn from.
        embedded: their unadapted embeddings.
        listener: told how far it is.
    """
    acted = ActedDomains(
        {domain: embedded[images] for domain, images in draws.calibration.items()},
        embedded[draws.negatives],
        domains.labels.cpu()[draws.negatives],
        info.distance,
        "validation domains" if split.validation else "seen domains' training images",
    )
    calibration = _calibrate(acted, bool(split.validation), settings.seed)

    def plan(shots: Shots) -> ChosenPlan:
        default = default_plan(shots, settings)
        if shots == 0:
            return default
        images = min(len(own) for own in acted.rows.values()) * 4 // 5 if shots == "all" else shots
        if not split.validation or settings.choice_domains == 0:
            if not default.plan.stretch:
                return default
            return calibrate_default(acted, default, images, settings.seed)
        solved = choose_stretch(acted, images, calibration, settings.seed)
        return choose_plan(
            embedder,
            info,
            domains,
            split,
            shots,
            draws.adaptation_negatives,
            draws.negatives,
            solved,
            calibration,
            settings,
            listener=listener,
        )

    plans = {str(shots): plan(shots) for shots in settings.shots} if split.held_out else {}
    return Learned(acted, learn_background(acted.negatives, acted.owners, info.distance), calibration, plans)


def _calibrate(acted: ActedDomains, validation: bool, seed: int) -> Calibration:
    """Learn the global threshold, and from validation domains how strongly to shrink towards it."""
    scored = {domain: score_images(own, acted.against(domain), acted.distance) for domain, own in acted.rows.items()}
    scored = {domain: pairs for domain, pairs in scored.items() if pairs.answerable}
    strength = DEFAULT_STRENGTH
    if validation:
        parts = [acted.trials(k, 0.0, seed) for k in STRENGTH_SHOTS]
        strength = learn_strength({d: [t for part in parts for t in part.get(d, [])] for d in acted.rows})
    return calibrate_globally(scored, strength=strength, source=acted.source)
