"""One's own module as an embedder: the module, and how pictures are fed to it.

What a file says is only ever a name. A name that begins with ``own:`` stands for a module that a person handed over in
Python; no name read from a file imports anything.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from metasiam.catalogue import OWN
from metasiam.errors import MetaSiamError
from metasiam.models.backbone import resized

if TYPE_CHECKING:  # it loads what is defined here
    from metasiam.models.files import EmbedderInfo


class Embedder(nn.Module):
    """A module, and how it is fed: what ``evaluate``, ``compare`` and the galleries need to know of it.

    Args:
        module: maps normalised float [B, C, H, W] to float [B, D]; anything with a forward, also without weights.
        image_size: height and width, or the side of a square, that the module takes; pictures of another size are
            resized on the way in. None: it takes any.
        mean: subtracted from each channel, as fractions of 255; None: of the images that it is measured on.
        std: each channel is divided by it; None: likewise.
        distance: ``cosine`` or ``squared_euclidean``: how two embeddings are compared.
        threshold: similarity from which two pictures count as same, if known.
        name: what reports and files call it; default: the module's class.

    Attributes:
        embedding_size: D, found by one forward pass; None before the first.

    Raises:
        MetaSiamError: for another distance, or something that is no module.

    Example:
        >>> embedder = Embedder(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16)), image_size=8)
        >>> embedder(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        image_size: int | tuple[int, int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        distance: str = "cosine",
        threshold: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise MetaSiamError(f"Embedder takes a torch.nn.Module, not a {type(module).__name__}.")
        if distance not in ("cosine", "squared_euclidean"):
            raise MetaSiamError(f"distance {distance!r} is unknown. Use cosine or squared_euclidean.")
        if (mean is None) != (std is None):
            raise MetaSiamError("mean and std belong together. Pass both or neither.")
        self.module = module
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.mean = None if mean is None else tuple(map(float, mean))
        self.std = None if std is None else tuple(map(float, std))
        self.distance = distance
        self.threshold = threshold
        self.name = name if name is not None else type(module).__name__
        self.embedding_size: int | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised float [B, C, H, W] to float [B, embedding_size]."""
        if self.image_size is not None and images.shape[-2:] != self.image_size:
            images = resized(images, self.image_size)
        embeddings: Tensor = self.module(images)
        return embeddings

    def measure(self, channels: int, image_size: tuple[int, int]) -> None:
        """Find ``embedding_size`` by one forward pass over two blank images.

        Raises:
            MetaSiamError: if the module does not take such images, or returns anything but float [2, D].
        """
        parameter = next(self.parameters(), None)
        device = None if parameter is None else parameter.device
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                found = self(torch.zeros(2, channels, *image_size, device=device))
        except Exception as error:  # whatever somebody's module does with images that it does not take
            reason = str(error).partition("\n")[0]
            raise MetaSiamError(
                f"{self.name} does not take images [B, {channels}, {image_size[0]}, {image_size[1]}] ({reason}). Say "
                "what it takes: Embedder(module, image_size=…)."
            ) from error
        finally:
            self.train(training)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2:
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise MetaSiamError(f"{self.name} must map two images to float [2, D], not to {shape}.")
        self.embedding_size = int(found.shape[1])

    def info(
        self, channels: int, image_size: tuple[int, int], mean: Sequence[float], std: Sequence[float]
    ) -> EmbedderInfo:
        """Return what must be known to use the weights; ``mean`` and ``std`` where it has none of its own."""
        from metasiam.models.files import EmbedderInfo

        return EmbedderInfo(
            arch=OWN + self.name,
            channels=channels,
            image_size=image_size,
            mean=self.mean if self.mean is not None else tuple(mean),
            std=self.std if self.std is not None else tuple(std),
            distance=self.distance,
            threshold=self.threshold,
        )


def own_embedder(given: nn.Module | Callable[[], nn.Module]) -> Embedder:
    """Return a copy of one's own module, or what a factory makes, as an ``Embedder``; the caller's own stays as it is.

    Raises:
        MetaSiamError: if it is no module and makes none.
    """
    if isinstance(given, nn.Module):
        made = copy.deepcopy(given)
    else:
        made = given()
        if not isinstance(made, nn.Module):
            raise MetaSiamError(f"a factory of embedders must return a torch.nn.Module, not a {type(made).__name__}.")
    return made if isinstance(made, Embedder) else Embedder(made)
