"""Everything random about an evaluation, drawn before any embedder is looked at.

The draws depend on the domain set, the split and the settings only. Methods that are compared meet the same pairs,
triplets, episodes, adaptation images and calibration images; each draw has its own named random stream, so asking
for more of one kind leaves the others as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metasiam.data.domains import DomainSet, Part
from metasiam.data.pool import Pool
from metasiam.data.splitting import Split
from metasiam.data.tasks import Episodes, Pairs, draw_episodes, draw_pairs, draw_triplets
from metasiam.errors import MetaSiamError
from metasiam.evaluation.episodes import all_way_one_shot
from metasiam.options.evaluation import ProtocolSettings, Regime
from metasiam.training.machine import generator_for
from metasiam.wording import counted


@dataclass(frozen=True, eq=False)
class TaskDraw:
    """The test pairs and triplets of one domain in one regime, as indices into the domain set."""

    domain: int
    part: Literal["seen", "held_out"]
    regime: Regime
    pairs: Pairs
    triplets: Tensor  #: int64 [3, T]

    @property
    def images(self) -> Tensor:
        """Every index that occurs: int64 [anything]."""
        return torch.cat((self.pairs.first, self.pairs.second, self.triplets.flatten()))


@dataclass(frozen=True, eq=False)
class Draws:
    """All draws of one evaluation; every index tensor is on the CPU.

    Attributes:
        tasks: test pairs and triplets: seen domains, then held-out ones, by regime.
        shots: for each key of ``evaluation.json`` (``"1"``, ``"all"``) and held-out domain, its k training images.
        negatives: seen-domain training images that a task's own images are compared with, for calibration.
        adaptation_negatives: all other seen-domain training images: those to calibrate with are never adapted to.
        calibration: training images of the domains that the global threshold is chosen on.
        episodes: by name, e.g. ``5-way 1-shot``.
        held_out_test: the held-out domains' test images, or None.
        supports: int64 [draws, D], one image of every held-out domain as places within ``held_out_test``.
    """

    tasks: tuple[TaskDraw, ...]
    shots: dict[str, dict[int, Tensor]]
    negatives: Tensor
    adaptation_negatives: Tensor
    calibration: dict[int, Tensor]
    episodes: dict[str, Episodes]
    held_out_test: Pool | None
    supports: Tensor


def draw_protocol(domains: DomainSet, split: Split, settings: ProtocolSettings) -> Draws:
    """Draw what an evaluation tests on, adapts on and calibrates on.

    Raises:
        MetaSiamError: if a domain has too few images for what was asked, or more adaptation images are asked for
            than there are.
    """
    seed = settings.seed
    seen_training = _pool(domains, split.seen, "train")
    calibrated_on = split.validation if split.validation else split.seen
    held_out = _pool(domains, split.held_out, "test") if split.held_out else None
    negatives = min(settings.calibration_negatives, len(seen_training.images) // 2)
    compared_with = spread(seen_training, negatives, generator_for("cpu", seed, "negatives"))
    episodes = _draw_episodes(held_out, settings) if held_out is not None else {}
    several = held_out is not None and len(held_out.domains) > 1
    return Draws(
        tasks=tuple(_draw_tasks(domains, split, settings)),
        shots=_draw_shots(domains, split.held_out, settings) if split.held_out else {},
        negatives=compared_with,
        adaptation_negatives=seen_training.images[~torch.isin(seen_training.images, compared_with)],
        calibration=_draw_calibration(domains, calibrated_on, settings),
        episodes=episodes,
        held_out_test=held_out,
        supports=all_way_one_shot(held_out, settings.support_draws, generator_for("cpu", seed, "supports"))
        if held_out is not None and several and settings.episodes
        else torch.empty(0, 0, dtype=torch.int64),
    )


def _pool(domains: DomainSet, wanted: Sequence[int], part: Part) -> Pool:
    # On the CPU, so that the draws are the same on every device.
    pool = domains.pool(wanted, part)
    return Pool(pool.images.cpu(), pool.domains.cpu(), pool.starts.cpu(), pool.counts.cpu())


def _draw_tasks(domains: DomainSet, split: Split, settings: ProtocolSettings) -> list[TaskDraw]:
    kinds: list[tuple[Literal["seen", "held_out"], Regime, Sequence[int], Sequence[int]]] = []
    if settings.seen:
        kinds.append(("seen", "closed", split.seen, split.seen))
    # A single held-out domain has no others to be compared with.
    if "closed" in settings.regimes and len(split.held_out) > 1:
        kinds.append(("held_out", "closed", split.held_out, split.held_out))
    if "antidomain" in settings.regimes and split.held_out:
        kinds.append(("held_out", "antidomain", split.held_out, split.seen))
    tasks = []
    for part, regime, tested, others in kinds:
        own, negatives = _pool(domains, tested, "test"), _pool(domains, others, "test")
        if int(own.counts.min()) < 2:
            single = own.domains[own.counts < 2].tolist()
            have, it = ("have", "them") if len(single) > 1 else ("has", "it")
            raise MetaSiamError(
                f"{domains.said(single)} {have} a single test image and so no pair. Remove {it}, or add images: a "
                "domain of a folder without train/ and test/ needs four or more, two of which are used for the test."
            )
        for domain in own.domains.tolist():
            anchors = own.only([domain])
            pairs = draw_pairs(
                anchors, negatives, settings.pairs, generator_for("cpu", settings.seed, "pairs", regime, domain)
            )
            triplets = draw_triplets(
                anchors,
                negatives,
                (settings.triplets,),
                generator_for("cpu", settings.seed, "triplets", regime, domain),
            )
            tasks.append(TaskDraw(domain, part, regime, pairs, triplets))
    return tasks


def _draw_shots(
    domains: DomainSet, held_out: Sequence[int], settings: ProtocolSettings
) -> dict[str, dict[int, Tensor]]:
    if not any(shots != 0 for shots in settings.shots):
        return {}
    pool = _pool(domains, held_out, "train")
    fewest = int(pool.counts.argmin())
    if settings.largest_shots > int(pool.counts[fewest]):
        raise MetaSiamError(
            f"--adapt-shots {settings.largest_shots} is more than domain "
            f"'{domains.names[int(pool.domains[fewest])]}' has: {counted(int(pool.counts[fewest]), 'training image')}. "
            "Lower it."
        )
    drawn = {}
    for shots in settings.shots:
        if shots == 0:
            continue
        # Equally seeded, so five shots contain the one shot.
        generator = generator_for("cpu", settings.seed, "shots")
        kept = pool if shots == "all" else pool.shots(shots, generator)
        drawn[str(shots)] = by_domain(kept)
    return drawn


def _draw_calibration(domains: DomainSet, wanted: Sequence[int], settings: ProtocolSettings) -> dict[int, Tensor]:
    pool = _pool(domains, wanted, "train")
    if "balanced" in settings.protocols and int(pool.counts.max()) < 2:
        raise MetaSiamError(
            f"the threshold is chosen on {counted(len(pool.domains), 'domain')} with a single training image each "
            f"(e.g. '{domains.names[int(pool.domains[0])]}'), and a pair needs two. Add training images, or choose it "
            "on others with --validation."
        )
    generator = generator_for("cpu", settings.seed, "calibration")
    return {
        domain: images[torch.randperm(len(images), generator=generator)[: settings.calibration_images]]
        for domain, images in by_domain(pool).items()
        if len(images) > 1
    }


def _draw_episodes(pool: Pool, settings: ProtocolSettings) -> dict[str, Episodes]:
    episodes = {}
    for ways, shots in settings.episode_kinds:
        queries = min(settings.queries, int(pool.counts.min()) - shots)
        if settings.episodes == 0 or ways > len(pool.domains) or queries < 1:
            continue
        name = f"{ways}-way {shots}-shot"
        episodes[name] = draw_episodes(
            pool,
            ways=ways,
            shots=shots,
            queries=queries,
            episodes=settings.episodes,
            generator=generator_for("cpu", settings.seed, "episodes", name),
        )
    return episodes


def seen_sample(domains: DomainSet, split: Split, count: int, settings: ProtocolSettings) -> Tensor:
    """Draw up to ``count`` training images, as evenly over the seen domains as they allow: int64 [≤ count]."""
    return spread(_pool(domains, split.seen, "train"), count, generator_for("cpu", settings.seed, "inference"))


def by_domain(pool: Pool) -> dict[int, Tensor]:
    """Return each domain's images of a pool."""
    blocks = torch.split(pool.images, pool.counts.tolist())
    return dict(zip(pool.domains.tolist(), blocks, strict=True))


def spread(pool: Pool, count: int, generator: torch.Generator) -> Tensor:
    """Draw up to ``count`` images of a pool, as evenly over its domains as they allow: int64 [≤ count]."""
    order, rank, keys = pool.shuffled(generator)
    first = torch.argsort(rank.double() + keys * 0.5, stable=True)  # every domain's first, then its second, …
    return pool.images[order[first[:count]]]
