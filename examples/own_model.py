"""Your own network, loss and data: trained by Reptile, and compared with what it was before and with raw pixels.

python examples/own_model.py            # the embedded glyphs, about a minute
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import metasiam as ms


class SmallNet(nn.Module):
    """Any module that maps float [B, 3, H, W] to embeddings [B, D] will do."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)


class CosineProxies(nn.Module):
    """Any loss of (embeddings [B, D], labels [B]) will do; its own weights are trained with the network's."""

    def __init__(self, classes: int, size: int = 64) -> None:
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(classes, size))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        cosines = F.normalize(embeddings, dim=1) @ F.normalize(self.proxies, dim=1).t()
        return F.cross_entropy(cosines / 0.1, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=18)
    parser.add_argument("--out", type=Path, default=Path("runs/own-model"))
    arguments = parser.parse_args()

    # Your own arrays would do as well: ms.DomainSet.from_arrays(images, labels), or .from_dataset(torch_data_set).
    domains = ms.load_domains("glyphs")
    split = ms.split_domains(domains, held_out=10, validation=10)
    torch.manual_seed(0)
    network = SmallNet()
    run = ms.train(
        "reptile",
        domains,
        split,
        arch=network,  # a copy is trained
        loss=CosineProxies(len(domains.names)),
        preset="quick",
        iterations=arguments.iterations,
        out=arguments.out,
        overwrite=True,
    )
    settings = ms.ProtocolSettings(shots=(0,), seen=False, regimes=("closed",), pairs=400, support_draws=20)
    candidates: dict[str, ms.Run | nn.Module] = {
        "trained": run,
        "untrained": network,
        "pixels": nn.Sequential(nn.AvgPool2d(4), nn.Flatten()),
    }
    comparison = ms.compare(candidates, domains, split, settings)
    for name, evaluation in comparison.data["methods"].items():
        found = evaluation["held_out"]
        triplets = found["closed"]["0"]["triplet_accuracy"]["mean"]
        episodes = found["episodes"]["5-way 1-shot"]["mean"]
        print(f"{name:10} triplets {triplets:5.1f} %   5-way 1-shot {episodes:5.1f} %")
    trained, info = ms.load_embedder(run.path, build=SmallNet)  # the weights again, with what makes the network
    print(f"{info.arch} maps an image to {trained(torch.zeros(1, 3, 32, 32)).shape[1]} numbers")


if __name__ == "__main__":
    main()
