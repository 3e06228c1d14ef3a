"""Domain sets: all images of a data set, each with its domain (class)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from metasiam.data.names import first_twice
from metasiam.data.pixels import as_images
from metasiam.data.pool import Pool, grouped
from metasiam.data.preparation import Preparation, in_grey
from metasiam.data.rows import class_names, image_and_label, items_of, parts_of
from metasiam.errors import MetaSiamError
from metasiam.notebook import summary
from metasiam.option_values import shown
from metasiam.wording import counted, listed

if TYPE_CHECKING:
    from metasiam.data.splitting import Split

Part = Literal["train", "test"]


def _test_share(labels: Tensor, share: float, source: str) -> Tensor:
    """Return bool [N], true for the last images of each class: a share of them, at least one, and never all.

    Raises:
        MetaSiamError: for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise MetaSiamError(f"test must be a share between 0 and 1, not {share} ({source}).")
    order = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels)
    place = torch.empty_like(labels)
    place[order] = torch.arange(len(labels)) - (torch.cumsum(counts, 0) - counts)[labels[order]]
    kept = (counts * share).round().long().clamp(min=1)
    return place >= (counts - kept)[labels]


@dataclass(frozen=True, eq=False, repr=False)
class DomainSet:
    """All images of a data set, each with its domain (class).

    Attributes:
        images: uint8 [N, C, H, W]; C is 1 (grey), 3 (colour) or any other number of channels.
        labels: int64 [N], the domain's index.
        names: the domains' names, by index.
        is_test: bool [N], true for the images that only evaluation may touch.
        source: what names this data on the command line (``--data``).
        preparation: how pictures became the images, for training to store with the weights; None where they came as
            arrays and nobody says.
        own_split: how the data themselves split their domains; None where they do not.
        recipe: options that load the same data again (``metasiam.options.data``), so that a run from Python can be
            resumed and measured from the command line; None where they came as arrays.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    is_test: Tensor
    source: str = "memory"
    preparation: Preparation | None = None
    own_split: Split | None = None
    recipe: Mapping[str, Any] | None = None
    _fingerprint: str | None = field(default=None, init=False, repr=False)  # not copied: other images, another one

    def __post_init__(self) -> None:
        for name in ("images", "labels", "is_test"):
            if not isinstance(getattr(self, name), Tensor):
                hint = "; torch.from_numpy makes one" if hasattr(getattr(self, name), "__array__") else ""
                raise ValueError(f"{name} must be a torch.Tensor, not {shown(getattr(self, name))}{hint}")
        if not isinstance(self.names, tuple | list) or not all(isinstance(name, str) for name in self.names):
            raise ValueError(f"names must be a tuple of texts, not {shown(self.names)}")
        if (twice := first_twice(self.names)) is not None:
            raise ValueError(f"names must differ, but '{twice}' is there twice")
        count = len(self.images)
        if self.images.dtype != torch.uint8:
            raise ValueError(f"images must be uint8, not {self.images.dtype} (from_arrays takes other kinds)")
        if self.images.ndim != 4 or 0 in self.images.shape[1:]:
            raise ValueError(f"images must have four sizes, [N, C, H, W], none 0, not {list(self.images.shape)}")
        if self.images.shape[1] not in (1, 3) and self.images.shape[3] in (1, 3):
            raise ValueError(
                f"images must have their channels first, [N, C, H, W], not {list(self.images.shape)} "
                "(permute(0, 3, 1, 2) makes them so)"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != (count,):
            raise ValueError(f"labels must be int64 [{count}]")
        if self.is_test.dtype != torch.bool or self.is_test.shape != (count,):
            raise ValueError(f"is_test must be bool [{count}]")
        if count == 0:
            raise MetaSiamError(f"{self.source} has no images. Check the path given to --data.")
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.names):
            raise ValueError(f"labels must lie in 0..{len(self.names) - 1}")
        small = (self.counts("train") + self.counts("test") < 2).nonzero().flatten().tolist()
        if small:
            which, have = self.said(small), "have" if len(small) > 1 else "has"
            raise MetaSiamError(
                f"{which} of {self.source} {have} fewer than two images, and so no pair. Add images or remove "
                f"{'them' if len(small) > 1 else 'it'}."
            )

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        labels: Any,
        *,
        names: Sequence[str] | None = None,
        test: float = 0.2,
        is_test: Any = None,
        source: str = "arrays",
        channels: Literal["first", "last"] | None = None,
        levels: tuple[float, float] | None = None,
    ) -> DomainSet:
        """Make a domain set of arrays, as of numpy or torch.

        Args:
            images: [N, H, W], [N, H, W, C] or [N, C, H, W], of uint8 or of floats from 0 to 1; or a list of images. C
                is 1, 3 or any other number of channels.
            labels: N whole numbers or names, the class of each image.
            names: the classes' names, in order of the sorted labels; default: the labels themselves.
            test: share of each class's images that only evaluation may touch, at least one of them.
            is_test: N bools that say so for each image, instead of ``test``.
            source: what the set calls itself.
            channels: where they stand, if the sizes do not say it: 1 and 3 are channels, else the smaller number.
            levels: what becomes 0 and what 255, for images of other numbers: 16 bits, metres of depth.

        Raises:
            MetaSiamError: for images, labels or names of another form, or that do not fit each other.

        Example:
            >>> images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
            >>> domains = DomainSet.from_arrays(images, np.arange(40) % 4, names=["a", "b", "c", "d"])
            >>> domains.counts("test").tolist()
            [2, 2, 2, 2]
        """
        pixels = as_images(images, source, channels=channels, levels=levels)
        kinds, place = np.unique(np.asarray(labels), return_inverse=True)
        if len(place) != len(pixels):
            raise MetaSiamError(
                f"{source} has {counted(len(pixels), 'image')} and {counted(len(place), 'label')}. "
                "Pass one label per image."
            )
        if names is not None and len(names) != len(kinds):
            raise MetaSiamError(
                f"{source} has {counted(len(kinds), 'label')} and {counted(len(names), 'name')}. Pass one name per "
                "label."
            )
        rows = torch.from_numpy(place.reshape(-1).astype(np.int64))
        chosen = _test_share(rows, test, source) if is_test is None else torch.as_tensor(np.asarray(is_test, bool))
        if len(chosen) != len(pixels):
            raise MetaSiamError(f"{source} has {counted(len(pixels), 'image')}, and is_test speaks of {len(chosen)}.")
        return cls(pixels, rows, tuple(names) if names is not None else tuple(map(str, kinds)), chosen, source)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        names: Sequence[str] | None = None,
        test: float = 0.2,
        is_test: Any = None,
        source: str | None = None,
        keys: tuple[str, str] | None = None,
        channels: Literal["first", "last"] | None = None,
        levels: tuple[float, float] | None = None,
    ) -> DomainSet:
        """Make a domain set of somebody's data set: PyTorch's, torchvision's, Hugging Face's, learn2learn's.

        Args:
            dataset: its items are ``(image, label)``, or dicts with ``image`` (or ``img``) and ``label`` (or
                ``fine_label``). An image is what Pillow and numpy call one, or a tensor [C, H, W]. Of a dict of data
                sets, ``train`` and ``test`` are taken; of learn2learn's tasks, the data set that they are drawn from.
            names: as for ``from_arrays``; default: the data set's own, where it has them.
            test: as for ``from_arrays``.
            is_test: as for ``from_arrays``; default for a dict: what ``test`` holds.
            source: what the set calls itself; default: its class's name.
            keys: under which an item that is a dict keeps image and label.
            channels: as for ``from_arrays``.
            levels: as for ``from_arrays``.

        Raises:
            MetaSiamError: for images of several sizes, normalised images, or names that do not fit the labels.
        """
        parts = parts_of(dataset)
        name = source if source is not None else type(dataset).__name__
        items = [image_and_label(item, name, keys) for part in parts.values() for item in items_of(part, name)]
        pictures, labels = [image for image, _ in items], [label for _, label in items]
        images = as_images(pictures, name, channels=channels, levels=levels)
        if is_test is None and "test" in parts and len(parts) > 1:
            is_test = [part == "test" for part, of in parts.items() for _ in range(len(of))]
        classes = class_names(next(iter(parts.values())), keys)
        if names is None and classes is not None and all(type(k) is int and 0 <= k < len(classes) for k in labels):
            names = [str(classes[kind]) for kind in sorted(set(labels))]
        return cls.from_arrays(images, labels, names=names, test=test, is_test=is_test, source=name, channels="first")

    def __repr__(self) -> str:
        height, width = self.image_size
        kind = {1: "grey", 3: "colour"}.get(self.channels, counted(self.channels, "channel"))
        test = int(self.is_test.sum())
        return (
            f"DomainSet({self.source}: {counted(len(self.names), 'domain')}, {counted(len(self.images), 'image')} of "
            f"{width}x{height} pixels in {kind}, {len(self.images) - test:,} for training, {test:,} for testing)"
        )

    def _repr_html_(self) -> str:
        """Return its domains and how many images they have as a table for a notebook."""
        counts = (self.counts(part).tolist() for part in ("train", "test"))
        return summary(repr(self), ("domain", "training images", "test images"), zip(self.names, *counts, strict=True))

    def said(self, domains: Sequence[int]) -> str:
        """Name some domains in a sentence, the first five of many: ``domain 'cat'``, ``domains 'cat', 'dog'``."""
        names = listed([f"'{self.names[domain]}'" for domain in domains])
        return f"domain{'s' if len(domains) > 1 else ''} {names}"

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour, or as many as there are."""
        return int(self.images.shape[1])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    @property
    def device(self) -> torch.device:
        """Where images and labels live."""
        return self.images.device

    def to(self, device: torch.device | str) -> DomainSet:
        """Return the same domain set on ``device`` (itself when it is there already)."""
        if torch.device(device) == self.device:
            return self
        moved = replace(
            self, images=self.images.to(device), labels=self.labels.to(device), is_test=self.is_test.to(device)
        )
        object.__setattr__(moved, "_fingerprint", self._fingerprint)
        return moved

    def with_channels(self, channels: int) -> DomainSet:
        """Return grey images as three equal channels where colour is wanted, coloured ones in grey where grey is.

        It keeps its fingerprint: they are the same pictures. Other numbers of channels leave it as it is.
        """
        if channels == self.channels or not {channels, self.channels} <= {1, 3}:
            return self
        pixels = in_grey(self.images) if channels == 1 else self.images.repeat(1, 3, 1, 1)
        shown = replace(self, images=pixels, recipe=None)
        object.__setattr__(shown, "_fingerprint", self.fingerprint)
        return shown

    def with_own_split(self, split: Split) -> DomainSet:
        """Return the same images with a split of their own, which is no part of the fingerprint."""
        found = replace(self, own_split=split)
        object.__setattr__(found, "_fingerprint", self._fingerprint)
        return found

    def counts(self, part: Part) -> Tensor:
        """Return the number of images per domain in one part: int64 [number of domains]."""
        if part not in ("train", "test"):
            raise ValueError(f"a domain set has the parts train and test, not {part!r}")
        chosen = self.is_test if part == "test" else ~self.is_test
        return torch.bincount(self.labels[chosen], minlength=len(self.names))

    def pool(self, domains: Iterable[int], part: Part) -> Pool:
        """Return the pool of these domains' images in one part.

        Raises:
            MetaSiamError: if one of the domains has no image there.
            ValueError: for an unknown part, no domain, or one that is not in the set.
        """
        chosen_domains = sorted(set(domains))
        if not chosen_domains:
            raise ValueError("a pool needs at least one domain")
        if chosen_domains[0] < 0 or chosen_domains[-1] >= len(self.names):
            wrong = chosen_domains[0] if chosen_domains[0] < 0 else chosen_domains[-1]
            raise ValueError(f"{self.source} has no domain {wrong}: they are 0..{len(self.names) - 1}")
        wanted = torch.tensor(chosen_domains, dtype=torch.int64, device=self.device)
        counts = self.counts(part)[wanted]
        if int(counts.min()) == 0:
            empty = wanted[counts == 0].tolist()
            have, it = ("have", "them") if len(empty) > 1 else ("has", "it")
            raise MetaSiamError(
                f"{self.said(empty)} of {self.source} {have} no {part} images. Add some or remove {it}."
            )
        chosen = (self.is_test if part == "test" else ~self.is_test) & torch.isin(self.labels, wanted)
        index = chosen.nonzero().flatten()
        index = index[torch.argsort(self.labels[index], stable=True)]
        return grouped(index, wanted, counts)

    @cached_property
    def _rows(self) -> Tensor:
        # Rows viewed as int64 gather several times faster than rows of bytes.
        flat = self.images.reshape(len(self.images), -1)
        return flat.view(torch.int64) if flat.shape[1] % 8 == 0 and flat.is_contiguous() else flat

    def gather(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the images at ``index``.

        Args:
            index: int64 [...], on the domain set's device.
            out: uint8 [..., C, H, W] to write into, when the caller keeps a buffer.

        Returns:
            uint8 [..., C, H, W].
        """
        shape = (*index.shape, *self.images.shape[1:])
        if out is not None:
            target = out.view(index.numel(), -1).view(self._rows.dtype)
            torch.index_select(self._rows, 0, index.reshape(-1), out=target)
            return out
        return self._rows.index_select(0, index.reshape(-1)).view(torch.uint8).view(shape)

    @property
    def fingerprint(self) -> str:
        """A short hash of images, labels, names and parts: equal data, equal fingerprint."""
        if self._fingerprint is None:
            digest = hashlib.blake2b(digest_size=12)
            for tensor in (self.images, self.labels, self.is_test):
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
            digest.update(json.dumps(self.names).encode())
            object.__setattr__(self, "_fingerprint", digest.hexdigest())
        assert self._fingerprint is not None
        return self._fingerprint

    def channel_statistics(self, pool: Pool) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation per channel, as fractions of 255, of a pool's images."""
        histogram = torch.zeros(self.channels, 256, dtype=torch.float64)
        for block in torch.split(pool.images, 4096):
            pixels = self.gather(block).transpose(0, 1).reshape(self.channels, -1)
            for channel in range(self.channels):
                histogram[channel] += torch.bincount(pixels[channel].cpu(), minlength=256)
        levels = torch.arange(256, dtype=torch.float64) / 255
        weight = histogram / histogram.sum(1, keepdim=True)
        mean = (weight * levels).sum(1)
        std = ((weight * levels**2).sum(1) - mean**2).clamp(min=1e-6).sqrt()
        return tuple(round(m, 4) for m in mean.tolist()), tuple(max(round(s, 4), 1e-3) for s in std.tolist())
