"""Losses of others and your own: by name, with their parameters, or as objects. On the embedded glyphs, a minute.

python examples/own_loss.py
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import metasiam as ms


class LargeMarginCosine(nn.Module):
    """Any loss of (embeddings [B, D], labels [B]) will do. Here: Wang et al., "CosFace" (2018)."""

    def __init__(self, num_classes: int, embedding_size: int, margin: float = 0.1) -> None:
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(num_classes, embedding_size))  # trained with the network, and resumed
        self.margin = margin

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        cosines = functional.normalize(embeddings, dim=1) @ functional.normalize(self.proxies, dim=1).t()
        right = functional.one_hot(labels, len(self.proxies))
        return functional.cross_entropy((cosines - self.margin * right) / 0.1, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--out", type=Path, default=Path("runs/own-loss"))
    arguments = parser.parse_args()

    domains = ms.load_domains("glyphs")
    split = ms.split_domains(domains, held_out=10, validation=10)
    losses: dict[str, dict[str, Any]] = {
        "own": {
            "loss": LargeMarginCosine,
            "loss_options": {"margin": 0.2},
        },  # a class: it is told how many classes there are
    }
    try:
        import pytorch_metric_learning  # noqa: F401, only whether it is there
    except ImportError:
        print("pip install pytorch-metric-learning for its losses: --loss pml:ProxyAnchorLoss --set loss.margin=0.1")
    else:
        losses["proxy anchor"] = {"loss": "pml:ProxyAnchorLoss", "loss_options": {"margin": 0.1}}
    runs = {
        name: ms.train(
            "triplet",
            domains,
            split,
            preset="quick",
            iterations=arguments.iterations,
            out=arguments.out / name.replace(" ", "-"),
            overwrite=True,
            **options,
        )
        for name, options in losses.items()
    }
    settings = ms.ProtocolSettings(shots=(0,), seen=False, regimes=("closed",), pairs=400, support_draws=20)
    for name, evaluation in ms.compare(runs, domains, split, settings).data["methods"].items():
        print(f"{name:13} triplets {evaluation['held_out']['closed']['0']['triplet_accuracy']['mean']:5.1f} %")


if __name__ == "__main__":
    main()
