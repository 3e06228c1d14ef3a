"""Embedders by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from metasiam import catalogue
from metasiam.arguments import checked
from metasiam.errors import MetaSiamError
from metasiam.models.architecture import Architecture, Feeding, call_with
from metasiam.models.convolutions import make_column_safe
from metasiam.wording import counted

#: What an embedder may be asked to take. Weights that ask for more are damaged: building it would take all memory.
MOST_CHANNELS, MOST_PIXELS = 1024, 4096


@checked
def build_embedder(
    arch: str, *, channels: int = 3, image_size: tuple[int, int] = (32, 32), pretrained: bool = True
) -> nn.Module:
    """Build an embedder by name.

    Args:
        arch: a name of ``metasiam.catalogue.EMBEDDERS`` or of an installed package's entry points; ``timm:NAME`` or
            ``torchvision:NAME``; or ``package.module:factory``, which is imported.
        channels: image channels.
        image_size: height and width in pixels.
        pretrained: whether weights that the name names are loaded, from the cache or the network.

    Returns:
        A module with ``embedding_size``; forward maps float [B, C, H, W] to float [B, embedding_size].

    Raises:
        MetaSiamError: for an unknown name, images that are too small for it, or weights that cannot be had.
    """
    catalogue.give(arch)
    return build(arch, architecture(arch), channels, image_size, pretrained=pretrained)


def architecture(arch: str) -> Architecture:
    """Return what a name stands for, which a file may say.

    Raises:
        UnknownArchitectureError: for ``package.module:factory``, if nobody gave it to this process.
        MetaSiamError: for an unknown name.
    """
    kind, colon, name = arch.partition(":")
    if colon and kind == "timm":
        from metasiam.models import timm_models

        return timm_models.architecture(name)
    if colon and kind == "torchvision":
        from metasiam.models import torchvision_models

        return torchvision_models.architecture(name)
    entry = catalogue.entry("embedders", arch, catalogue.EMBEDDERS)
    if entry is None:
        raise MetaSiamError(catalogue.unknown("--arch", arch, catalogue.embedders()))
    return _architecture_of(entry.load())


def feeding_of(arch: str) -> Feeding | None:
    """Return how pictures are shown to an embedder, where that comes with its name."""
    return None if arch.startswith(catalogue.OWN) else architecture(arch).feeding


def size_of(arch: str) -> tuple[int, int] | None:
    """Return the height and width that an embedder brings all images to; None where it takes any."""
    named = None if arch.startswith(catalogue.OWN) else architecture(arch)
    return None if named is None or named.feeding is None or not named.resizes else named.feeding.image_size


def build(arch: str, named: Architecture, channels: int, image_size: tuple[int, int], *, pretrained: bool) -> nn.Module:
    """Build what a name stands for; as ``build_embedder``."""
    if not 1 <= channels <= MOST_CHANNELS:
        raise MetaSiamError(f"images of {counted(channels, 'channel')} cannot be embedded. Use 1 (grey) or 3 (colour).")
    if len(image_size) != 2 or not all(isinstance(side, int) and 1 <= side <= MOST_PIXELS for side in image_size):
        raise MetaSiamError(f"image_size must be height and width from 1 to {MOST_PIXELS} pixels, not {image_size!r}.")
    try:
        module = make_column_safe(named.build(channels, image_size))
    except ValueError as error:
        raise MetaSiamError(f"--arch {arch} does not fit the images: {error}. Use another one.") from error
    if pretrained and named.pretrain is not None:
        named.pretrain(module)
    return module


def _architecture_of(made: Any) -> Architecture:
    """Return an architecture as it is, and of a builder or somebody's factory the one that it makes."""
    return made if isinstance(made, Architecture) else Architecture(_builder_of(made))


def _builder_of(factory: Callable[..., Any]) -> Callable[[int, tuple[int, int]], nn.Module]:
    def build(channels: int, image_size: tuple[int, int]) -> nn.Module:
        made = call_with(factory, {"channels": channels, "image_size": image_size})
        if isinstance(made, nn.Module) and isinstance(getattr(made, "embedding_size", None), int):
            return made
        from metasiam.models.own import own_embedder  # it measures what does not say its width

        embedder = own_embedder(made)
        embedder.measure(channels, image_size)
        return embedder

    return build
