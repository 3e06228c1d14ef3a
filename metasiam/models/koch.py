"""Koch's convolutional network, the classic Siamese embedder.

Source: Koch, Zemel, Salakhutdinov, "Siamese Neural Networks for One-shot Image Recognition" (2015), figure 4: 105 × 105
grey images, convolutions 64 @ 10 × 10, 128 @ 7 × 7, 128 @ 4 × 4 and 256 @ 4 × 4 with ReLU, 2 × 2 max pooling after the
first three, then 4096 sigmoid units. The L1 distance and the output unit are ``pair_heads.LearnedL1``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Output channels and kernel size of each convolution.
CONVOLUTIONS = ((64, 10), (128, 7), (128, 4), (256, 4))


class KochNetwork(nn.Module):
    """Four convolutions and a sigmoid layer of 4096 units.

    With 105 × 105 grey images and the head's output unit it has 38,951,745 parameters. ``batch_norm`` adds 1,152, and
    1,152 running statistics, which Keras counts too: 38,954,049, the published TensorFlow system. A fourth pooling
    leaves 10,640,193.

    Args:
        channels: image channels.
        image_size: height and width in pixels; 105 in the paper, at least 65 (73 with four poolings).
        batch_norm: BatchNorm between each convolution and its ReLU.
        first_bias: whether the first convolution has a bias.
        poolings: 3 as in the paper, or 4: also after the last convolution.
        units: sigmoid units.

    Attributes:
        dropout: probability of zeroing an embedding's unit in training; 0 at first.
    """

    def __init__(
        self,
        channels: int,
        image_size: tuple[int, int],
        *,
        batch_norm: bool = False,
        first_bias: bool = True,
        poolings: int = 3,
        units: int = 4096,
    ) -> None:
        super().__init__()
        self.embedding_size = units
        self.poolings = poolings
        self.dropout = 0.0
        convs: list[nn.Module] = []
        height, width = image_size
        before = channels
        for place, (after, kernel) in enumerate(CONVOLUTIONS):
            convs.append(nn.Conv2d(before, after, kernel, bias=first_bias or place > 0))
            height, width, before = height - kernel + 1, width - kernel + 1, after
            if place < poolings:
                height, width = height // 2, width // 2
            if min(height, width) < 1:
                raise ValueError(
                    f"koch needs at least 65 pixels (73 with four poolings; 105 in the paper), not {min(image_size)}"
                )
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(after) if batch_norm else nn.Identity() for after, _ in CONVOLUTIONS)
        self.dense = nn.Linear(before * height * width, units)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images: float [B, C, H, W] to [B, units], each in 0 … 1."""
        x = images
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = F.relu(norm(conv(x)))
            if place < self.poolings:
                x = F.max_pool2d(x, 2)
        features = torch.sigmoid(self.dense(torch.flatten(x, 1)))
        return F.dropout(features, self.dropout, self.training)


@torch.no_grad()
def initialise_as_in_paper(network: nn.Module, generator: torch.Generator) -> None:
    """Draw weights as in the paper, in place, for a network or a head.

    Convolutions N(0, 0.01), fully connected weights N(0, 0.2), every bias N(0.5, 0.01): mean and standard deviation.

    Args:
        network: changed in place; BatchNorm stays as it is.
        generator: on the CPU.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            spread = 0.01 if isinstance(module, nn.Conv2d) else 0.2
            module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * spread)
            if module.bias is not None:
                module.bias.copy_(0.5 + torch.randn(module.bias.shape, generator=generator) * 0.01)


def koch_name(*, batch_norm: bool = False, first_bias: bool = True, poolings: int = 3) -> str:
    """Return the ``--arch`` name of a variant, e.g. ``koch-bn-pool4``."""
    return "koch" + "-bn" * batch_norm + "-nobias" * (not first_bias) + "-pool4" * (poolings == 4)


#: Name → builder(channels, image_size), for every variant.
KOCH_NETWORKS: dict[str, Callable[[int, tuple[int, int]], nn.Module]] = {
    koch_name(batch_norm=batch_norm, first_bias=first_bias, poolings=poolings): partial(
        KochNetwork, batch_norm=batch_norm, first_bias=first_bias, poolings=poolings
    )
    for batch_norm, first_bias, poolings in product((False, True), (True, False), (3, 4))
}
