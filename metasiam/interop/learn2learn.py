"""learn2learn both ways: domain sets as its data, its data as domain sets, embedders in its algorithms.

Source: Arnold et al., "learn2learn: A Library for Meta-Learning Research" (2020), version 0.2.0.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from metasiam.data.augment import normalise
from metasiam.data.domains import DomainSet
from metasiam.data.pool import Pool
from metasiam.data.tasks import draw_episodes
from metasiam.errors import MetaSiamError
from metasiam.wording import counted


def learn2learn() -> ModuleType:
    """Import and return learn2learn, without the warnings of its old dependencies.

    Raises:
        MetaSiamError: when it is not installed, saying how to install it.
    """
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # where gym prints its own
            warnings.simplefilter("ignore")
            import learn2learn as l2l
    except ImportError as error:
        raise MetaSiamError(
            f"learn2learn cannot be imported ({error}). Install it with "
            "pip install 'learn2learn==0.2.0' -C--build-option=build_ext (Python 3.10 to 3.12)."
        ) from error
    return l2l  # type: ignore[no-any-return]


class PoolDataset(Dataset[tuple[Tensor, int]]):
    """A pool's images as a map-style torch data set of ``(image, label)``.

    An item is a float32 [C, H, W], normalised as embedders want it, and the domain's index as an int.

    Args:
        domains: the images.
        pool: which of them, in this order.
        mean: per channel, as a fraction of 255; default: the pool's own, as in training.
        std: likewise.
    """

    def __init__(
        self, domains: DomainSet, pool: Pool, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        own_mean, own_std = domains.channel_statistics(pool) if mean is None or std is None else (mean, std)
        self.domains = domains
        self.pool = pool
        self.mean = tuple(mean if mean is not None else own_mean)
        self.std = tuple(std if std is not None else own_std)
        self.labels: list[int] = torch.repeat_interleave(pool.domains, pool.counts).tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        image = self.domains.gather(self.pool.images[place].reshape(1))
        return normalise(image, self.mean, self.std)[0], self.labels[place]


def meta_dataset(
    domains: DomainSet, pool: Pool, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Any:
    """Return a pool as an ``l2l.data.MetaDataset`` of ``(float32 [C, H, W], domain's index)``.

    The bookkeeping comes from the labels that are known already, so no image is touched.

    Args:
        domains: the images.
        pool: which of them, e.g. ``domains.pool(split.seen, "train")``.
        mean: per channel, as a fraction of 255; default: the pool's own.
        std: likewise.

    Raises:
        MetaSiamError: when learn2learn is not installed.
    """
    dataset = PoolDataset(domains, pool, mean, std)
    indices_to_labels = dict(enumerate(dataset.labels))
    labels_to_indices: dict[int, list[int]] = {}
    for place, label in indices_to_labels.items():
        labels_to_indices.setdefault(label, []).append(place)
    return learn2learn().data.MetaDataset(
        dataset, labels_to_indices=labels_to_indices, indices_to_labels=indices_to_labels
    )


class EpisodeTasks:
    """N-way episodes where learn2learn's examples expect a ``Taskset``: ``.sample()``, ``len``, iteration, indexing.

    A task is ``(data, labels)``: float32 [ways * (shots + queries), C, H, W] and int64 labels 0..ways-1. Each way's
    images stand together, so that every ``(shots + queries)``-th block is a way's, as after learn2learn's ``KShots``;
    the first ``shots`` of a block are the support. Drawing needs no learn2learn.

    Args:
        domains: the images.
        pool: the domains and images to draw from.
        ways: domains in a task.
        shots: support images of each.
        queries: query images of each; for learn2learn's even-odd split, as many as ``shots``.
        generator: source of the tasks; drawing a task moves it on.
        count: what ``len`` says and iteration stops after; -1 never stops.
        mean: per channel, as a fraction of 255; default: the pool's own.
        std: likewise.

    Raises:
        ValueError: if the pool has too few domains, or a domain too few images.
    """

    def __init__(
        self,
        domains: DomainSet,
        pool: Pool,
        *,
        ways: int,
        shots: int,
        queries: int,
        generator: torch.Generator,
        count: int = -1,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if len(pool.domains) < ways:
            raise ValueError(f"{counted(ways, 'way')} of {counted(len(pool.domains), 'domain')}")
        if int(pool.counts.min()) < shots + queries:
            raise ValueError(f"a domain has only {counted(pool.fewest, 'image')}, a task takes {shots + queries}")
        dataset = PoolDataset(domains, pool, mean, std)
        self.domains, self.pool, self.mean, self.std = domains, pool, dataset.mean, dataset.std
        self.ways, self.shots, self.queries, self.count = ways, shots, queries, count
        self.generator = generator

    def sample_indices(self) -> Tensor:
        """Draw a task as int64 [ways, shots + queries] indices of the domain set's images."""
        drawn = draw_episodes(
            self.pool,
            ways=self.ways,
            shots=self.shots,
            queries=self.queries,
            episodes=1,
            generator=self.generator,
        )
        return torch.cat((drawn.support[0], drawn.query[0]), dim=1)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Draw a task: float32 [ways * (shots + queries), C, H, W] and int64 [ways * (shots + queries)]."""
        index = self.sample_indices()
        data = normalise(self.domains.gather(index.flatten()), self.mean, self.std)
        labels = torch.arange(self.ways, device=index.device).repeat_interleave(index.shape[1])
        return data, labels

    def __len__(self) -> int:
        return self.count if self.count >= 0 else 1  # as learn2learn's own Taskset

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        """Draw a task; like learn2learn's, whatever ``place`` says below ``len``."""
        if self.count >= 0 and place >= self.count:
            raise IndexError(place)
        return self.sample()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        drawn = 0
        while self.count < 0 or drawn < self.count:
            yield self.sample()
            drawn += 1


def domain_set(
    source: Any,
    *,
    names: Sequence[str] | None = None,
    part: Literal["train", "test"] = "train",
    name: str = "memory",
) -> DomainSet:
    """Return ``DomainSet.from_dataset``, all of whose images are in one part; takes an l2l ``Taskset`` too.

    Args:
        source: a map-style torch data set of ``(image, label)``, or what draws from one.
        names: the labels' names, in order of the labels; default: the labels themselves.
        part: whether the images may be trained on, or are for testing only.
        name: what the domain set calls itself.

    Raises:
        MetaSiamError: for images of several sizes, normalised images, or names that do not fit the labels.
    """
    dataset = source.dataset if hasattr(source, "task_transforms") else source
    return DomainSet.from_dataset(dataset, names=names, is_test=[part == "test"] * len(dataset), source=name)


class EmbedderClassifier(nn.Module):
    """An embedder with a linear head, for ``l2l.algorithms.MAML`` (whole) and ANIL (``features`` and ``head`` apart).

    Args:
        embedder: a MetaSiam embedder; images float32 [B, C, H, W] to float32 [B, embedding_size].
        ways: classes of a task.
    """

    def __init__(self, embedder: nn.Module, ways: int) -> None:
        super().__init__()
        self.features = embedder
        self.head = nn.Linear(int(embedder.embedding_size), ways)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float32 [B, ways] of images float32 [B, C, H, W]."""
        logits: Tensor = self.head(self.features(images))
        return logits
