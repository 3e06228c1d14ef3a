"""The few-shot field's usual backbones: conv4 (alone, and at three scales) and ResNet-12."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv4(nn.Module):
    """Four blocks of 3 × 3 convolution, BatchNorm, 2 × 2 max pooling and ReLU, flattened.

    Source: Vinyals et al., "Matching Networks" (2016); 64 channels throughout as in Snell et al. (2017).
    Images of 28 to 32 pixels give 64 and 256 dimensions, 84 pixels give 1600.

    Args:
        channels: image channels.
        image_size: height and width in pixels, at least 16.
        width: channels of every block.
    """

    def __init__(self, channels: int, image_size: tuple[int, int], width: int = 64) -> None:
        super().__init__()
        if min(image_size) < 16:
            raise ValueError(f"conv4 halves the image four times and needs at least 16 pixels, not {image_size}")
        sizes = (channels, width, width, width, width)
        self.blocks = nn.Sequential(
            *(_conv_block(sizes[i], sizes[i + 1]) for i in range(4)),
        )
        self.embedding_size = width * (image_size[0] // 16) * (image_size[1] // 16)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images: float [B, C, H, W] to [B, embedding_size]."""
        features: Tensor = self.blocks(images)
        return torch.flatten(features, 1)


class Conv4AtScales(nn.Module):
    """Three ``Conv4`` that look at an image at full, 5/6 and 2/3 size; their embeddings, each of length 1, in a row.

    The cosine of two embeddings is the mean of the three cosines. Meant to be put together from networks trained apart,
    whose mistakes differ (deep ensembles: Lakshminarayanan et al., 2017); trained as one it works too.

    Args:
        channels: image channels.
        image_size: height and width in pixels, at least 24.
    """

    def __init__(self, channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        height, width = image_size
        self.sizes = tuple((round(height * part / 6), round(width * part / 6)) for part in (6, 5, 4))
        parts = [Conv4(channels, size) for size in self.sizes]
        self.parts = nn.ModuleList(parts)
        self.embedding_size = sum(part.embedding_size for part in parts)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images: float [B, C, H, W] to [B, embedding_size], rows of length √3."""
        rows = [F.normalize(self.parts[0](images), dim=1)]
        for part, size in zip(self.parts[1:], self.sizes[1:], strict=True):
            smaller = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
            rows.append(F.normalize(part(smaller), dim=1))
        return torch.cat(rows, 1)


def _conv_block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.MaxPool2d(2),  # the same before ReLU as after it, and a quarter of the values to pass
        nn.ReLU(),
    )


class ResNet12Block(nn.Module):
    """Three 3 × 3 convolutions with a 1 × 1 projection shortcut, then 2 × 2 max pooling."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        sizes = (channels_in, channels_out, channels_out, channels_out)
        self.convs = nn.ModuleList(nn.Conv2d(sizes[i], sizes[i + 1], 3, padding=1, bias=False) for i in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels_out) for _ in range(3))
        self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C_in, H, W] to [B, C_out, H // 2, W // 2]."""
        out = x
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            out = norm(conv(out))
            if index < 2:
                out = F.leaky_relu(out, 0.1)
        out = F.leaky_relu(out + self.shortcut(x), 0.1)
        return F.max_pool2d(out, 2)


class ResNet12(nn.Module):
    """ResNet-12 with 64, 160, 320, 640 channels and global average pooling.

    Source: Oreshkin et al., "TADAM" (2018), in the wide form of Lee et al., "MetaOptNet" (2019), without DropBlock.

    Args:
        channels: image channels.
        image_size: height and width in pixels, at least 16.
    """

    embedding_size = 640

    def __init__(self, channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        if min(image_size) < 16:
            raise ValueError(f"resnet12 halves the image four times and needs at least 16 pixels, not {image_size}")
        sizes = (channels, 64, 160, 320, 640)
        self.blocks = nn.Sequential(*(ResNet12Block(sizes[i], sizes[i + 1]) for i in range(4)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images: float [B, C, H, W] to [B, 640]."""
        features: Tensor = self.blocks(images)
        return torch.mean(features, dim=(2, 3))
