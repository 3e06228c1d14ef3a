"""Triplet training the straightforward way: what our training step is compared with.

Written as such code usually is, with nothing made slow on purpose: torchvision transforms on PIL images, a
``DataLoader`` for each domain's anchors and positives and one for the negatives, negatives of the anchor's domain
replaced one by one, three forward passes, Adam.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split
from metasiam.losses import triplet_cosine


def _pictures(domains: DomainSet, index: Tensor) -> list[Any]:
    arrays = domains.images[index].permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(array) for array in arrays]


class PairsOfOneDomain(Dataset[tuple[Tensor, Tensor]]):
    """Item i: image i of a domain, and another image of it."""

    def __init__(self, pictures: list[Any], transform: Any) -> None:
        self.pictures = pictures
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        other = random.randrange(len(self.pictures) - 1)
        other += other >= item
        return self.transform(self.pictures[item]), self.transform(self.pictures[other])


class Labelled(Dataset[tuple[Tensor, int]]):
    """Every seen training image with its domain."""

    def __init__(self, pictures: list[Any], labels: list[int], transform: Any) -> None:
        self.pictures = pictures
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[item]), self.labels[item]


class StraightforwardTraining:
    """One gradient step a call, each on a batch of one random domain with antidomain negatives.

    Args:
        embedder: trained in place, fp32, NCHW.
        domains: the images.
        split: the seen domains are trained on.
        mean: per channel, as fractions of 255.
        std: per channel, as fractions of 255.
        batch_size: triplets in a batch.
        lr: Adam's.
        workers: processes of each loader; 0 loads in the training process.
        joined: pass anchors, positives and negatives through the network together, as one batch.
    """

    def __init__(
        self,
        embedder: nn.Module,
        domains: DomainSet,
        split: Split,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        batch_size: int = 128,
        lr: float = 0.001,
        workers: int = 0,
        joined: bool = False,
    ) -> None:
        self.joined = joined
        transform = transforms.Compose(
            [transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(mean, std)]
        )
        self.embedder = embedder
        self.optimizer = torch.optim.Adam(embedder.parameters(), lr=lr)
        seen = domains.pool(split.seen, "train")
        by_domain = seen.images.split(seen.counts.tolist())
        options: dict[str, Any] = {"batch_size": batch_size, "shuffle": True, "num_workers": workers}
        options |= {"drop_last": True, "persistent_workers": workers > 0}
        self.loaders = {
            domain: DataLoader(PairsOfOneDomain(_pictures(domains, images), transform), **options)
            for domain, images in zip(seen.domains.tolist(), by_domain, strict=True)
        }
        self.everything = Labelled(_pictures(domains, seen.images), domains.labels[seen.images].tolist(), transform)
        self.negatives = DataLoader(self.everything, **options)
        self._batches: dict[int, Iterator[Any]] = {}

    def _next(self, key: int, loader: DataLoader[Any]) -> Any:
        """Return the loader's next batch, beginning again after the last."""
        while True:
            if key not in self._batches:
                self._batches[key] = iter(loader)
            batch = next(self._batches[key], None)
            if batch is not None:
                return batch
            del self._batches[key]

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return anchors, positives and antidomain negatives of a random domain: three float [B, C, H, W]."""
        domain = random.choice(list(self.loaders))
        anchors, positives = self._next(domain, self.loaders[domain])
        negatives, labels = self._next(-1, self.negatives)
        for place in range(len(labels)):
            while labels[place] == domain:
                negatives[place], labels[place] = self.everything[random.randrange(len(self.everything))]
        return anchors, positives, negatives

    def __call__(self) -> Tensor:
        """Make one gradient step; return its loss."""
        anchors, positives, negatives = self.batch()
        if self.joined:
            anchor, positive, negative = self.embedder(torch.cat((anchors, positives, negatives))).chunk(3)
        else:
            anchor, positive, negative = self.embedder(anchors), self.embedder(positives), self.embedder(negatives)
        loss = triplet_cosine(anchor, positive, negative)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()
