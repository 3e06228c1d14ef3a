"""The published systems' own measurements, reproduced and labelled, next to the score of a constant "different".

The two seed reports compare numbers that are not the same quantity (see the balanced protocol for ones that are):
the classic one pairs one support image a held-out class with all images of all of them, so that one pair in ten is
same; the meta one asks 50 half-and-half pairs a task, after adaptation to all images of the class.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metasiam.data.domains import DomainSet
from metasiam.data.pool import Pool
from metasiam.data.splitting import Split
from metasiam.data.tasks import complete_triplets, draw_pairs, draw_triplets
from metasiam.evaluation.adaptation import AdaptationPlan, adapt
from metasiam.evaluation.embedded import EmbeddedImages, embed_all
from metasiam.evaluation.episodes import all_way_one_shot
from metasiam.evaluation.resampling import as_percent
from metasiam.evaluation.statistics import bootstrap_mean
from metasiam.models.files import EmbedderInfo
from metasiam.options.evaluation import ProtocolSettings
from metasiam.progress import SILENT, Listener
from metasiam.training.machine import generator_for

CLASSIC_THRESHOLD, META_THRESHOLD = 0.2, 0.7
META_PAIRS = 50


def reference_protocol(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    split: Split,
    settings: ProtocolSettings,
    *,
    embedded: EmbeddedImages | None = None,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Measure as the published systems did.

    Args:
        embedder: on the domain set's device; left as it was.
        info: normalisation and distance.
        domains: the images.
        split: its held-out domains are the "few-shot" classes.
        settings: seed, number of support draws, bootstrap samples; adapts as the published Reptile did if ``shots`` has
            ``all``.
        embedded: this embedder's embeddings of ``reference_images``, where they were made before.
        listener: told how far it is.

    Returns:
        JSON-ready values; percentages.
    """
    seen = _pool(domains, split.seen)
    found: dict[str, Any] = {"threshold": CLASSIC_THRESHOLD}
    held_out = _pool(domains, split.held_out) if split.held_out else None
    if embedded is None:
        embedded = embed_all(embedder, info, domains, reference_images(domains, split), mirror=settings.mirror)
    found |= _seen(embedded, seen, settings)
    if held_out is not None:
        found["few_shot"] = _few_shot(embedded, held_out, settings)
        if "all" in settings.shots:
            found["meta"] = _meta(embedder, info, domains, split, settings, listener)
    return found


def reference_images(domains: DomainSet, split: Split) -> list[Tensor]:
    """Return the images that are looked at unadapted: the test images of seen and held-out domains, int64 each."""
    return [_pool(domains, wanted).images for wanted in (split.seen, split.held_out) if wanted]


def _pool(domains: DomainSet, wanted: tuple[int, ...]) -> Pool:
    pool = domains.pool(wanted, "test")
    return Pool(pool.images.cpu(), pool.domains.cpu(), pool.starts.cpu(), pool.counts.cpu())


def _seen(embedded: EmbeddedImages, pool: Pool, settings: ProtocolSettings) -> dict[str, Any]:
    """Return seen triplet and pair accuracy: every test image once as anchor, its two pairs judged at 0.2."""
    generator = generator_for("cpu", settings.seed, "reference", "seen")
    row = torch.repeat_interleave(torch.arange(len(pool.domains)), pool.counts)
    offset = torch.arange(len(pool.images)) - pool.starts[row]
    triplets = complete_triplets(pool, pool, row, offset, generator)
    near = embedded.similarity(triplets[0], triplets[1])
    far = embedded.similarity(triplets[0], triplets[2])
    right = {
        "seen_triplet": (near > far).double(),
        "seen_pairs": ((near > CLASSIC_THRESHOLD).double() + (far <= CLASSIC_THRESHOLD).double()) / 2,
    }
    return {
        name: as_percent(
            bootstrap_mean(
                torch.stack([block.mean() for block in torch.split(answers, pool.counts.tolist())]),
                generator,
                resamples=settings.bootstrap,
            )
        )
        for name, answers in right.items()
    }


def _few_shot(embedded: EmbeddedImages, pool: Pool, settings: ProtocolSettings) -> dict[str, Any]:
    """Return the published classic system's "few-shot" accuracy over many draws of the support images.

    For each held-out class in turn, its support image is compared with every held-out test image at 0.2; after
    each class the accuracy so far is noted, and the mean of these running means was the score.
    """
    generator = generator_for("cpu", settings.seed, "reference", "supports")
    supports = all_way_one_shot(pool, settings.reference_draws, generator)
    row = torch.repeat_interleave(torch.arange(len(pool.domains)), pool.counts)
    count = len(pool.domains)
    so_far = torch.arange(1, count + 1, dtype=torch.float64)
    running, plain = [], []
    for support in supports:
        scores = torch.stack(
            [embedded.similarity(pool.images[s].expand(len(pool.images)), pool.images) for s in support]
        )
        right = (scores > CLASSIC_THRESHOLD) == (row[support].unsqueeze(1) == row)
        accuracy = right.double().mean(1)
        running.append((accuracy.cumsum(0) / so_far).mean())
        plain.append(accuracy.mean())
    scores = torch.stack(running)
    # Always answering "different" is wrong only on a support's own class.
    constant = 1 - float((pool.counts.double() / len(pool.images)).mean())
    return {
        "mean": 100 * float(scores.mean()),
        "sd": 100 * float(scores.std()) if len(scores) > 1 else 0.0,
        "draws": len(scores),
        "plain_accuracy": 100 * float(torch.stack(plain).mean()),
        "constant_answer": 100 * constant,
    }


def _meta(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    split: Split,
    settings: ProtocolSettings,
    listener: Listener,
) -> dict[str, Any]:
    """Return published Reptile's held-out scores: 30 steps on all images of a class, then 50 triplets and 50 pairs."""
    own, others = domains.pool(split.held_out, "train"), _pool(domains, split.seen)
    tested, negatives = _pool(domains, split.held_out), domains.pool(split.seen, "train").images.cpu()
    rows = []
    for number, domain in enumerate(split.held_out):
        listener.progress("reference protocol: adapting", number, len(split.held_out))
        generator = generator_for("cpu", settings.seed, "reference", "meta", domain)
        images = own.only([domain]).images.cpu()
        adapted = adapt(embedder, info, domains, images, negatives, AdaptationPlan(), generator)
        anchors = tested.only([domain])
        triplets = draw_triplets(anchors, others, (META_PAIRS,), generator)
        pairs = draw_pairs(anchors, others, META_PAIRS, generator)
        embedded = embed_all(adapted, info, domains, [triplets, pairs.first, pairs.second], mirror=settings.mirror)
        right = (embedded.similarity(pairs.first, pairs.second) > META_THRESHOLD) == pairs.same
        rows.append(
            {
                "task": domain,
                "name": domains.names[domain],
                "triplet_accuracy": 100 * float(embedded.triplets_right(triplets).double().mean()),
                "pair_accuracy": 100 * float(right.double().mean()),
            }
        )
    return {
        "threshold": META_THRESHOLD,
        "pairs": META_PAIRS,
        "triplet_accuracy": _mean(rows, "triplet_accuracy", settings),
        "pair_accuracy": _mean(rows, "pair_accuracy", settings),
        "tasks": rows,
    }


def _mean(rows: list[dict[str, Any]], key: str, settings: ProtocolSettings) -> Any:
    values: Tensor = torch.tensor([row[key] / 100 for row in rows])
    generator = generator_for("cpu", settings.seed, "bootstrap", "reference", key)
    return as_percent(bootstrap_mean(values, generator, resamples=settings.bootstrap))
