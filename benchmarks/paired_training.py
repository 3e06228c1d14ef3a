"""Training on pairs of pictures within a batch: what shipped_embedder.py and mnist_pairs.py have in common."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import metasiam as ms
from metasiam.data.augment import Augmentation
from metasiam.losses import NormalisedSoftmax
from metasiam.models import build_embedder
from metasiam.models.files import load_embedder
from metasiam.training.machine import choose_device, choose_precision
from metasiam.training.optimizers import adam, set_rate
from metasiam.training.step import TrainingStep

HAND = Augmentation(flip=False, rotation=15, shear=0.25, scale=0.2, translation=1.5)


@dataclass(frozen=True)
class Recipe:
    """How to train: a conv4 with Adam, the rate rising for a tenth of the steps and falling to nothing after."""

    iterations: int
    batch_size: int  #: pictures, two of each of half as many domains
    lr: float
    temperature: float
    seed: int


class PairsOfABatch(nn.Module):
    """Each picture finds the other one of its domain among the whole batch: cross-entropy over the cosines.

    Source: Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective" (2016), with the temperature
    and the two-sidedness of Chen et al., "A Simple Framework for Contrastive Learning" (2020).
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of float [2C, D], two rows after each other for each of C domains."""
        rows = F.normalize(embeddings, dim=1)
        alike = rows @ rows.mT / self.temperature
        itself = torch.eye(len(rows), dtype=torch.bool)
        return F.cross_entropy(alike.masked_fill(itself, -torch.inf), torch.arange(len(rows)) ^ 1)


def draw_batch(groups: list[Tensor], starts: Tensor, counts: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw two pictures of each of ``size / 2`` domains, of as few groups as hold them: int64 [size].

    Args:
        groups: domains that are hard to tell apart, int64 each.
        starts: int64 [domains], where each one's pictures begin.
        counts: int64 [domains], how many it has, at least two.
        size: pictures.
        generator: on the CPU.
    """
    rows: list[Tensor] = []
    for group in torch.randperm(len(groups), generator=generator).tolist():
        if sum(map(len, rows)) >= size // 2:
            break
        rows.append(groups[group][torch.randperm(len(groups[group]), generator=generator)])
    chosen = torch.cat(rows)[: size // 2]
    first, step = torch.rand(2, len(chosen), generator=generator)
    count = counts[chosen]
    one = (first * count).long()
    other = (one + 1 + (step * (count - 1)).long()) % count
    return torch.stack((starts[chosen] + one, starts[chosen] + other), 1).flatten()


def train_on_pairs(
    domains: ms.DomainSet, groups: list[Tensor] | None, recipe: Recipe, trained_on: str, *, init: str | None = None
) -> tuple[nn.Module, ms.EmbedderInfo]:
    """Train on every picture of a domain set that is sorted by domain.

    Args:
        domains: square grey pictures.
        groups: see ``draw_batch``; None for few domains: random batches, and the normalised-softmax loss with a proxy
            for every domain.
        recipe: how.
        trained_on: what the embedder's file shall say.
        init: weights to start from.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    if init is not None:
        started, start = load_embedder(init)
        info = replace(start, trained_on=trained_on, threshold=None, image_size=domains.image_size)
        embedder = build_embedder(info.arch, channels=info.channels, image_size=info.image_size)
        embedder.load_state_dict(started.state_dict())  # a convolution's weights fit every size
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            embedder = build_embedder("conv4", channels=1, image_size=domains.image_size)
        levels = statistics(domains)
        info = ms.EmbedderInfo("conv4", 1, domains.image_size, *levels, mirrored=False, trained_on=trained_on)
    embedder = embedder.to(memory_format=torch.channels_last)
    device = choose_device("cpu")
    objective: nn.Module = PairsOfABatch(recipe.temperature)
    if groups is None:
        objective = NormalisedSoftmax(len(domains.names), embedder.embedding_size, recipe.temperature, generator)
        objective.proxies.data.mul_(0.1)  # Adam's steps do not depend on a proxy's length: short ones turn faster
    optimizer = adam([*embedder.parameters(), *objective.parameters()], recipe.lr, (0.9, 0.999), device)
    precision = choose_precision("auto", device)
    step = TrainingStep(embedder, objective, optimizer, domains, HAND, info.mean, info.std, precision=precision)
    embedder.train()
    counts = torch.bincount(domains.labels, minlength=len(domains.names))
    starts = counts.cumsum(0) - counts
    began = time.perf_counter()
    for iteration in range(recipe.iterations):
        done = iteration / recipe.iterations
        if groups is None:
            batch = torch.randint(len(domains.images), (recipe.batch_size,), generator=generator)
        else:
            batch = draw_batch(groups, starts, counts, recipe.batch_size, generator)
        set_rate(optimizer, recipe.lr * min(done / 0.1 + 0.01, (1 - done) / 0.9, 1))
        loss = step(batch[None], HAND.draw((1, len(batch)), generator))
        if iteration % 200 == 199:
            speed = (iteration + 1) * recipe.batch_size / (time.perf_counter() - began)
            print(f"{iteration + 1}/{recipe.iterations} loss {float(loss):.3f}, {speed:.0f} pictures/s", flush=True)
    return embedder.eval(), info


def statistics(domains: ms.DomainSet) -> tuple[tuple[float], tuple[float]]:
    """Return mean and standard deviation of the pixels, as fractions of 255."""
    some = domains.images[:: max(1, len(domains.images) // 5000)].float() / 255
    return (round(float(some.mean()), 4),), (round(float(some.std()), 4),)
