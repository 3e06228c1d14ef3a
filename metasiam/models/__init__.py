"""Embedders by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from metasiam.arguments import checked
from metasiam.errors import MetaSiamError
from metasiam.models.convolutions import make_column_safe
from metasiam.models.few_shot import Conv4, Conv4AtScales, ResNet12
from metasiam.models.fisher import FISHER
from metasiam.models.koch import KOCH_NETWORKS
from metasiam.models.resnet_cifar import RESNETS_CIFAR
from metasiam.models.torchvision_resnet import TorchvisionResNet18

#: Name → builder(channels, image_size). A builder returns a module with ``embedding_size`` whose forward maps
#: normalised images [B, C, H, W] to embeddings [B, embedding_size].
EMBEDDERS: dict[str, Callable[[int, tuple[int, int]], nn.Module]] = {
    **RESNETS_CIFAR,
    "conv4": Conv4,
    "conv4-scales": Conv4AtScales,
    "resnet12": ResNet12,
    **KOCH_NETWORKS,
    **FISHER,
    "resnet18": lambda channels, size: TorchvisionResNet18(channels),
    "resnet18-imagenet": lambda channels, size: TorchvisionResNet18(channels, pretrained=True),
}

#: What an embedder may be asked to take. Weights that ask for more are damaged: building it would take all memory.
MOST_CHANNELS, MOST_PIXELS = 1024, 4096


def architectures(*, with_weights: bool) -> tuple[str, ...]:
    """Return the names of all embedders, or of those that have weights to train."""
    return tuple(name for name in EMBEDDERS if not (with_weights and name in FISHER))


@checked
def build_embedder(arch: str, *, channels: int = 3, image_size: tuple[int, int] = (32, 32)) -> nn.Module:
    """Build an embedder by name.

    Args:
        arch: a key of ``EMBEDDERS``.
        channels: image channels, 1 or 3.
        image_size: height and width in pixels.

    Returns:
        A module with ``embedding_size``; forward maps float [B, C, H, W] to float [B, embedding_size].

    Raises:
        MetaSiamError: for an unknown name, or images that are too small for it.
    """
    if arch not in EMBEDDERS:
        raise MetaSiamError(f"--arch {arch} is unknown. Use one of: {', '.join(EMBEDDERS)}.")
    if not 1 <= channels <= MOST_CHANNELS:
        raise MetaSiamError(f"images of {channels} channels cannot be embedded. Use 1 (grey) or 3 (colour).")
    if len(image_size) != 2 or not all(isinstance(side, int) and 1 <= side <= MOST_PIXELS for side in image_size):
        raise MetaSiamError(f"image_size must be height and width from 1 to {MOST_PIXELS} pixels, not {image_size!r}.")
    try:
        return make_column_safe(EMBEDDERS[arch](channels, image_size))
    except ValueError as error:
        raise MetaSiamError(f"--arch {arch} does not fit the images: {error}. Use another one.") from error
