"""Which adaptation is safe: for each number of images, steps and rate chosen on validation domains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from metasiam.data.domains import DomainSet, Split
from metasiam.evaluation.adaptation import AdaptationPlan, adaptation_path, averaged
from metasiam.evaluation.embedding import embed_images
from metasiam.evaluation.settings import ProtocolSettings, Shots
from metasiam.evaluation.thresholds import Calibration, ScoredPairs, calibrate_globally, score_images
from metasiam.evaluation.verification import all_triplets_accuracy
from metasiam.models.files import EmbedderInfo
from metasiam.training.machine import generator_for

Report = Callable[[str, int, int], None]

#: Tried for every number of images, each at all of ``STEPS`` up to its own and at both ``AVERAGES``.
CANDIDATES = (
    AdaptationPlan(steps=30, rate=1e-3),
    AdaptationPlan(steps=20, rate=3e-4),
    AdaptationPlan(steps=30, rate=1e-3, part="batchnorm"),
    AdaptationPlan(steps=30, rate=1e-3, part="head"),
)
#: What is worth trying with a hundred images and more: moving less than everything only helps where images are few.
CANDIDATES_FOR_MANY = CANDIDATES[:2]
STEPS = (0, 2, 5, 10, 20, 30)
AVERAGES = (1.0, 0.5)

#: Images to test a candidate on, of the validation domain and of seen domains.
TEST_OWN, TEST_NEGATIVES = 100, 200

#: From so many images on, batches are the seeds' 128 triplets; with fewer, a quarter of that repeats each image enough.
MANY, SMALL_BATCH = 100, 32


@dataclass(frozen=True)
class ChosenPlan:
    """What to do with so many images, and how it was decided.

    Attributes:
        plan: zero steps where nothing surely helped.
        chosen_on: ``validation domains``, ``settings`` or ``defaults``.
        calibration: global threshold and Platt curve of embedders adapted so, where validation domains gave one.
        tried: every candidate with its accuracy on validation domains, in percent, for the report.
    """

    plan: AdaptationPlan
    chosen_on: str
    calibration: Calibration | None = None
    tried: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready values for ``protocol``."""
        return {"chosen_on": self.chosen_on, **asdict(self.plan)}


@dataclass(frozen=True, eq=False)
class _Trial:
    """One candidate plan, tested on one validation domain after another."""

    plan: AdaptationPlan
    accuracy: list[float]
    pairs: dict[int, ScoredPairs]


def default_plan(shots: Shots, settings: ProtocolSettings) -> ChosenPlan:
    """Return the plan without validation domains: the settings' steps, else the seeds' 30 for ``all`` and 0 for fewer.

    Plain fine-tuning on few images hurts: a ResNet-20 at 80.5 % fell to 63.7 after 15 steps on 5 images.
    """
    plan = AdaptationPlan(rate=settings.adapt_rate, part=settings.adapt_part, batch=_batch(shots))
    if settings.adapt_steps is not None:
        return ChosenPlan(replace(plan, steps=settings.adapt_steps if shots != 0 else 0), "settings")
    return ChosenPlan(replace(plan, steps=30 if shots == "all" else 0), "defaults")


def _batch(shots: Shots) -> int:
    return SMALL_BATCH if shots != "all" and shots < MANY else AdaptationPlan().batch


def choose_plan(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    split: Split,
    shots: Shots,
    negatives: Tensor,
    unadapted: Calibration,
    settings: ProtocolSettings,
    *,
    candidates: Sequence[AdaptationPlan] | None = None,
    report: Report | None = None,
) -> ChosenPlan:
    """Choose how to adapt to so many images, on validation domains, where the split has any.

    Each validation domain is adapted to ``shots`` of its training images (``all``: four fifths) and tested on others
    of its *training* images against seen-domain training images: no test image of any domain is touched. Not
    adapting is always a candidate. The best other candidate must beat it by more than one standard error.

    Args:
        embedder: unadapted, on the domain set's device.
        info: normalisation and distance.
        domains: the images.
        split: with validation domains.
        shots: number of images.
        negatives: seen-domain training images, for adaptation and for testing.
        unadapted: its strength is kept.
        settings: seed, and how many validation domains to use.
        candidates: plans to try, at each of ``STEPS`` up to their own, with each of ``AVERAGES``; default: by the
            number of images.
        report: progress.
    """
    forced = settings.adapt_steps is not None
    if shots == 0 or not split.validation or settings.choice_domains == 0:
        return default_plan(shots, settings)
    if forced:
        candidates = [default_plan(shots, settings).plan]
    elif candidates is None:
        tried_here = CANDIDATES_FOR_MANY if _batch(shots) > SMALL_BATCH else CANDIDATES
        candidates = [replace(candidate, batch=_batch(shots)) for candidate in tried_here]
    chosen_domains = split.validation[:: max(len(split.validation) // settings.choice_domains, 1)]
    chosen_domains = chosen_domains[: settings.choice_domains]
    trials: dict[tuple[Any, ...], _Trial] = {}
    for number, domain in enumerate(chosen_domains):
        if report is not None:
            report(f"choosing how to adapt to {shots} images", number, len(chosen_domains))
        parts = _validation_images(domains, domain, shots, settings.seed)
        if parts is None:
            continue
        _try_domain(embedder, info, domains, domain, *parts, negatives, candidates, forced, settings, trials)
    usable = [trial for trial in trials.values() if len(trial.accuracy) > 0]
    if not usable:
        return default_plan(shots, settings)
    best = usable[0] if forced else _surely_best(usable)
    calibration = unadapted
    if not best.plan.leaves_unadapted:
        source = f"validation domains adapted to {shots} images"
        calibration = calibrate_globally(best.pairs, strength=unadapted.strength, source=source)
    tried = [
        {
            **{key: value for key, value in asdict(trial.plan).items() if key in ("steps", "rate", "part", "average")},
            "triplet_accuracy": 100 * sum(trial.accuracy) / len(trial.accuracy),
        }
        for trial in usable
    ]
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


def _try_domain(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    domain: int,
    own: Tensor,
    tested: Tensor,
    negatives: Tensor,
    candidates: Sequence[AdaptationPlan],
    forced: bool,
    settings: ProtocolSettings,
    trials: dict[tuple[Any, ...], _Trial],
) -> None:
    drawn = generator_for("cpu", settings.seed, "validation negatives", domain)
    others = negatives[torch.randperm(len(negatives), generator=drawn)[:TEST_NEGATIVES]]

    def test(plan: AdaptationPlan, module: nn.Module) -> None:
        rows = embed_images(module, info, domains, torch.cat((tested, others)), mirror=settings.mirror).cpu()
        pairs = score_images(rows[: len(tested)], rows[len(tested) :], info.distance)
        # Not adapting is one and the same candidate, whatever rate it is not done with.
        key = (0,) if plan.leaves_unadapted else (plan.steps, plan.rate, plan.part, plan.average)
        trial = trials.setdefault(key, _Trial(plan, [], {}))
        trial.accuracy.append(all_triplets_accuracy(rows[: len(tested)], rows[len(tested) :], info.distance))
        trial.pairs[domain] = pairs

    if not forced:
        test(replace(candidates[0], steps=0), embedder)
    for number, candidate in enumerate(candidates):
        at = [candidate.steps] if forced else [steps for steps in STEPS if 0 < steps <= candidate.steps]
        generator = generator_for("cpu", settings.seed, "validation batches", domain, number)
        for steps, module in adaptation_path(embedder, info, domains, own, negatives, candidate, generator, at=at):
            for average in (candidate.average,) if forced else AVERAGES:
                test(replace(candidate, steps=steps, average=average), averaged(embedder, module, average))


def _surely_best(trials: Sequence[_Trial]) -> _Trial:
    """Return the most accurate candidate if it beats not adapting by more than a standard error, else not adapting."""
    unadapted = next(trial for trial in trials if trial.plan.leaves_unadapted)
    best = max(trials, key=lambda trial: sum(trial.accuracy))
    gain = torch.tensor(best.accuracy) - torch.tensor(unadapted.accuracy)
    error = float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else float("inf")
    return best if float(gain.mean()) > error else unadapted
