"""A network of another library as an embedder: fed as it likes, without its classifier."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

Size = tuple[int, int]


class Backbone(nn.Module):
    """Somebody's network, whose classifier was taken off.

    Args:
        backbone: maps float [B, C, H, W] to float [B, D].
        channels: image channels.
        image_size: height and width of the images.
        takes: height and width that the network needs; images of another size are resized on the way in. None: any.
        repeated: whether grey images are repeated to three channels.
    """

    def __init__(
        self, backbone: nn.Module, channels: int, image_size: Size, *, takes: Size | None, repeated: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels = channels
        self.takes = takes
        self.repeated = repeated and channels == 1
        self.embedding_size = width_of(self, channels, image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images: float [B, C, H, W] to [B, embedding_size]."""
        if self.takes is not None and images.shape[-2:] != self.takes:
            images = resized(images, self.takes)
        if self.repeated:
            images = images.expand(-1, 3, -1, -1)
        return cast(Tensor, self.backbone(images))


def resized(images: Tensor, size: Size) -> Tensor:
    """Return float [B, C, H, W] images in another height and width."""
    return functional.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


@torch.no_grad()
def width_of(module: nn.Module, channels: int, image_size: Size) -> int:
    """Return D of a module that maps [2, C, H, W] to [2, D], by a forward pass that computes nothing where it can.

    Raises:
        ValueError: for images that it does not take.
    """
    try:
        without = copy.deepcopy(module).to("meta").eval()
        return int(without(torch.zeros(2, channels, *image_size, device="meta")).shape[1])
    except Exception:  # not everything can be done without values
        pass
    training = module.training
    try:
        return int(module.eval()(torch.zeros(2, channels, *image_size)).shape[1])
    except Exception as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    finally:
        module.train(training)
