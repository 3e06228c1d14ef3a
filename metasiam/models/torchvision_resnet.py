"""torchvision's ResNet-18 as an embedder, from scratch or with its ImageNet weights."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from metasiam.errors import MetaSiamError


class TorchvisionResNet18(nn.Module):
    """torchvision's ``resnet18`` without its classifier: 512-d embeddings.

    Args:
        channels: image channels; grey images are repeated to three channels.
        pretrained: load torchvision's ImageNet weights (downloaded once into torch's hub cache).

    Raises:
        MetaSiamError: if the weights are neither cached nor downloadable.
    """

    embedding_size = 512

    def __init__(self, channels: int = 3, *, pretrained: bool = False) -> None:
        super().__init__()
        from torchvision.models import ResNet18_Weights, resnet18

        self.channels = channels
        weights = ResNet18_Weights.IMAGENET1K_V1 if pretrained else None
        try:
            self.backbone = resnet18(weights=weights)
        except OSError as error:  # URLError and ConnectionError are OSErrors
            raise MetaSiamError(
                "resnet18's ImageNet weights are not in the cache "
                f"({torch.hub.get_dir()}/checkpoints) and cannot be downloaded ({error}). Put the file "
                f"{ResNet18_Weights.IMAGENET1K_V1.url.rsplit('/', 1)[-1]} there, or use an embedder trained here."
            ) from error
        self.backbone.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images: float [B, C, H, W] to [B, 512]."""
        if self.channels == 1:
            images = images.expand(-1, 3, -1, -1)
        return cast(Tensor, self.backbone(images))
