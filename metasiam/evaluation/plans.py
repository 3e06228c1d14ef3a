"""Which adaptation is safe: for each number of images, chosen on validation domains; not adapting is always allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split
from metasiam.evaluation.adaptation import AdaptationPlan, adapt, adaptation_path, averaged
from metasiam.evaluation.embedding import embed_images
from metasiam.evaluation.scored_pairs import ScoredPairs, score_images
from metasiam.evaluation.solved import FEWEST, default_stretch
from metasiam.evaluation.thresholds import DEFAULT_HEAD_STRENGTH, MANY, Calibration, calibrate_globally
from metasiam.evaluation.trials import (
    ActedDomains,
    calibrate_on_trials,
    mean_accuracies,
    predict_from_trials,
    surely_higher,
)
from metasiam.evaluation.verification import all_triplets_accuracy
from metasiam.models.files import EmbedderInfo
from metasiam.options.evaluation import ProtocolSettings, Shots
from metasiam.progress import SILENT, Listener
from metasiam.training.machine import generator_for
from metasiam.wording import counted

#: Gradient plans are tried at these numbers of steps up to their own, and at these averages with the start.
STEPS = (2, 5, 10, 20, 30)
AVERAGES = (1.0, 0.5)
#: Stretches tried for the solved head.
STRETCHES = (0.5, 1.0, 2.0, 4.0, 8.0)
#: Images to test a gradient plan on, of the validation domain and of others.
TEST_OWN, TEST_NEGATIVES = 100, 200
#: With ``MANY`` images or more, batches are the published 128 triplets; with fewer images, a quarter of that is enough.
SMALL_BATCH = 32


@dataclass(frozen=True)
class ChosenPlan:
    """What to do with so many images, and how it was decided.

    Attributes:
        plan: leaves the embedder as it is where nothing surely helped.
        chosen_on: ``validation domains``, ``settings`` or ``defaults``.
        calibration: global threshold and curve of embedders adapted so; None: the unadapted one's.
        tried: every candidate with its triplet accuracy on validation domains, in percent, for the report.
    """

    plan: AdaptationPlan
    chosen_on: str
    calibration: Calibration | None = None
    tried: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready values for ``protocol``."""
        predicted = self.calibration is not None and self.calibration.prediction is not None
        per_task = "own, shrunk, and predicted from mean scores" if predicted else "own, shrunk"
        return {"chosen_on": self.chosen_on, "per_task_threshold": per_task, **asdict(self.plan)}


def default_plan(shots: Shots, settings: ProtocolSettings) -> ChosenPlan:
    """Return the plan without validation domains: the settings' steps where given.

    Else the published 30 steps for ``all``, and for fewer images no steps but the solved head: plain fine-tuning on
    few images hurts (a ResNet-20 at 80.5 % fell to 63.7 after 15 steps on 5 images).
    """
    plan = AdaptationPlan(rate=settings.adapt_rate, part=settings.adapt_part, batch=_batch(shots))
    if settings.adapt_steps is not None:
        return ChosenPlan(replace(plan, steps=settings.adapt_steps if shots != 0 else 0), "settings")
    if shots == "all":
        return ChosenPlan(replace(plan, steps=30), "defaults")
    return ChosenPlan(replace(plan, steps=0, stretch=default_stretch(shots)), "defaults")


def _batch(shots: Shots) -> int:
    return SMALL_BATCH if shots != "all" and shots < MANY else AdaptationPlan().batch


def gradient_candidates(shots: Shots) -> tuple[AdaptationPlan, ...]:
    """Return the gradient plans worth trying: the fewer the images, the gentler and fewer the steps.

    With few images BatchNorm's scales and shifts alone were as good as all weights, or better.
    """
    if shots == "all" or shots >= MANY:
        return (AdaptationPlan(steps=30, rate=1e-3),)
    if shots < FEWEST:
        return ()
    few = shots < 10
    plan = AdaptationPlan(batch=SMALL_BATCH)
    return (
        replace(plan, steps=5 if few else 10, rate=1e-3),
        replace(plan, steps=10 if few else 20, rate=3e-4),
        replace(plan, steps=20 if few else 30, rate=1e-3, part="batchnorm"),
    )


def choose_stretch(acted: ActedDomains, k: int, unadapted: Calibration, seed: int) -> ChosenPlan:
    """Choose the solved head's stretch for k images on validation domains, 0 unless another surely helps.

    Args:
        acted: validation domains.
        k: images of a domain.
        unadapted: kept where no stretch is chosen.
        seed: names the random streams.
    """
    none = ChosenPlan(AdaptationPlan(steps=0), "validation domains", unadapted)
    if k < FEWEST:
        return none
    trials = {stretch: acted.trials(k, stretch, seed) for stretch in (0.0, *STRETCHES)}
    accuracy = {stretch: mean_accuracies(of) for stretch, of in trials.items()}
    if len(accuracy[0.0]) == 0:
        return none
    best = max(STRETCHES, key=lambda stretch: float(accuracy[stretch].mean()))
    tried = [{"stretch": s, "steps": 0, "triplet_accuracy": 100 * float(v.mean())} for s, v in accuracy.items()]
    # The smallest that is not surely worse than the best (the one-standard-error rule): 0 wherever that will do.
    chosen = next(s for s in (0.0, *STRETCHES) if s == best or not surely_higher(accuracy[best], accuracy[s]))
    if chosen == 0:
        calibration = replace(unadapted, prediction=predict_from_trials(trials[0.0]))
        return replace(none, calibration=calibration, tried=tried)
    source = f"{acted.source}, {counted(k, 'image')} known"
    calibration = calibrate_on_trials(trials[chosen], strength=None, source=source, predict=True)
    return ChosenPlan(AdaptationPlan(steps=0, stretch=chosen), "validation domains", calibration, tried)


def calibrate_default(acted: ActedDomains, chosen: ChosenPlan, k: int, seed: int) -> ChosenPlan:
    """Give a default solved head the global threshold that goes with it, simulated on these domains."""
    trials = acted.trials(k, chosen.plan.stretch, seed)
    if not trials:
        return chosen
    source = f"{acted.source}, {counted(k, 'image')} known"
    return replace(chosen, calibration=calibrate_on_trials(trials, strength=DEFAULT_HEAD_STRENGTH, source=source))


@dataclass(frozen=True, eq=False)
class _Tested:
    """One plan, tested on one validation domain after another."""

    plan: AdaptationPlan
    accuracy: list[float]
    pairs: dict[int, ScoredPairs]


def choose_plan(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    split: Split,
    shots: Shots,
    negatives: Tensor,
    compared_with: Tensor,
    solved: ChosenPlan,
    unadapted: Calibration,
    settings: ProtocolSettings,
    *,
    candidates: Sequence[AdaptationPlan] | None = None,
    listener: Listener = SILENT,
) -> ChosenPlan:
    """Choose between leaving the embedder as it is, the solved head, and gradient steps, on validation domains.

    Each validation domain is adapted to ``shots`` of its training images (``all``: four fifths) and tested on others
    of its *training* images against training images of seen and of other validation domains: no test image of any
    domain is touched. The best plan must beat not adapting by more than one standard error.

    Args:
        embedder: unadapted, on the domain set's device.
        info: normalisation and distance.
        domains: the images.
        split: with validation domains.
        shots: number of images, at least 1.
        negatives: seen-domain training images to adapt with.
        compared_with: a disjoint set of negatives to test against: scores on images used for adaptation are optimistic.
        solved: from ``choose_stretch``.
        unadapted: the unadapted embedder's.
        settings: seed, how many validation domains to use; with ``adapt_steps`` nothing is chosen, but the global
            threshold of embedders adapted so is found.
        candidates: gradient plans, each tried at ``STEPS`` up to its own; default ``gradient_candidates(shots)``.
        listener: told how far it is.
    """
    forced = default_plan(shots, settings).plan if settings.adapt_steps is not None else None
    gradient: Sequence[AdaptationPlan] = gradient_candidates(shots) if candidates is None else candidates
    normed = any(isinstance(module, _BatchNorm) for module in embedder.modules())
    gradient = [plan for plan in gradient if plan.part != "batchnorm" or normed]
    if not any(weight.requires_grad for weight in embedder.parameters()):
        gradient = []
    if forced is None and not gradient:
        return solved
    tested: dict[AdaptationPlan, _Tested] = {}
    spacing = max(len(split.validation) // settings.choice_domains, 1)
    chosen_domains = split.validation[::spacing][: settings.choice_domains]
    for number, domain in enumerate(chosen_domains):
        listener.progress(f"choosing how to adapt to {counted(shots, 'image')}", number, len(chosen_domains))
        parts = _validation_images(domains, domain, shots, settings.seed)
        if parts is None:
            continue
        others = _test_negatives(domains, compared_with, split.validation, domain, settings.seed)
        for plan, module in _candidates(
            embedder, info, domains, domain, parts[0], negatives, forced, gradient, solved.plan, settings.seed
        ):
            rows = embed_images(module, info, domains, torch.cat((parts[1], others)), mirror=settings.mirror).cpu()
            own, far = rows[: len(parts[1])], rows[len(parts[1]) :]
            record = tested.setdefault(plan, _Tested(plan, [], {}))
            record.accuracy.append(all_triplets_accuracy(own, far, info.distance))
            record.pairs[domain] = score_images(own, far, info.distance)
    if not tested:
        return solved if forced is None else default_plan(shots, settings)
    known = int(domains.pool(split.held_out, "train").counts.max()) if shots == "all" else shots
    return _best(list(tested.values()), forced, shots, known, solved, unadapted)


def _best(
    tested: list[_Tested],
    forced: AdaptationPlan | None,
    shots: Shots,
    known: int,
    solved: ChosenPlan,
    unadapted: Calibration,
) -> ChosenPlan:
    """Return the plan to use, with the global threshold that goes with it; ``known`` is ``shots`` as a number."""
    best = max(tested, key=lambda record: sum(record.accuracy))
    if forced is None:
        baseline = next(record for record in tested if record.plan.leaves_unadapted)
        if not surely_higher(torch.tensor(best.accuracy), torch.tensor(baseline.accuracy)):
            best = baseline
    shown = ("steps", "rate", "part", "average", "stretch")
    tried = solved.tried + [
        {
            **{key: value for key, value in asdict(record.plan).items() if key in shown},
            "triplet_accuracy": 100 * sum(record.accuracy) / len(record.accuracy),
        }
        for record in tested
    ]
    calibration = unadapted
    if best.plan.trains:
        source = f"validation domains adapted to {counted(shots, 'image')}"
        # A domain's own threshold comes from another run of steps than the one it is used with: noise that more
        # images do not take away. So it never weighs more than that of validation domains adapted alike.
        strength = max(unadapted.strength, float(known))
        calibration = calibrate_globally(best.pairs, strength=strength, source=source)
    elif best.plan == solved.plan and solved.calibration is not None:
        calibration = solved.calibration
    return ChosenPlan(best.plan, "settings" if forced else "validation domains", calibration, tried)


def _validation_images(domains: DomainSet, domain: int, shots: Shots, seed: int) -> tuple[Tensor, Tensor] | None:
    """Return the images to adapt on and to test on, or None where the domain has too few."""
    images = domains.pool([domain], "train").images.cpu()
    order = torch.randperm(len(images), generator=generator_for("cpu", seed, "validation", domain))
    count = len(images) * 4 // 5 if shots == "all" else shots
    if count < 1 or len(images) - count < 2:
        return None
    # The tested images come from the other end, so they are the same for every number of images.
    return images[order[:count]], images[order[count:][-TEST_OWN:]]


def _test_negatives(domains: DomainSet, seen: Tensor, new: Sequence[int], domain: int, seed: int) -> Tensor:
    """Return images of seen domains and, half of them, of the other new ones."""
    drawn = generator_for("cpu", seed, "validation negatives", domain)
    others = [other for other in new if other != domain]
    pools = [seen, domains.pool(others, "train").images.cpu()] if others else [seen]
    count = TEST_NEGATIVES // len(pools)
    return torch.cat([images[torch.randperm(len(images), generator=drawn)[:count]] for images in pools])


def _candidates(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    domain: int,
    own: Tensor,
    negatives: Tensor,
    forced: AdaptationPlan | None,
    gradient: Sequence[AdaptationPlan],
    solved: AdaptationPlan,
    seed: int,
) -> Iterator[tuple[AdaptationPlan, nn.Module]]:
    """Yield every plan to be tested with the embedder that it leads to for one domain."""
    generator = generator_for("cpu", seed, "validation batches", domain)
    if forced is not None:
        yield forced, adapt(embedder, info, domains, own, negatives, forced, generator)
        return
    yield AdaptationPlan(steps=0), embedder
    if solved.stretch:
        yield solved, adapt(embedder, info, domains, own, negatives, solved, generator)
    for number, candidate in enumerate(gradient):
        at = [steps for steps in STEPS if steps <= candidate.steps]
        generator = generator_for("cpu", seed, "validation batches", domain, number)
        for steps, module in adaptation_path(embedder, info, domains, own, negatives, candidate, generator, at=at):
            for average in AVERAGES:
                plan = replace(candidate, steps=steps, average=average)
                yield plan, averaged(embedder, module, average)
