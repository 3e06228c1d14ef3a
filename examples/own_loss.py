"""Losses of others and your own: by name, with their parameters, or as objects. On the embedded glyphs, half a minute.

python examples/own_loss.py
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

import metasiam as ms


class Spread(nn.Module):
    """Any loss of (embeddings [B, D], labels [B]) will do: same labels near each other, all of them spread out."""

    def __init__(self, num_classes: int, embedding_size: int, pull: float = 1.0) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(num_classes, embedding_size))  # trained with the network, and resumed
        self.pull = pull

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        near = (embeddings - self.centres[labels]).square().mean()
        return self.pull * near - torch.nn.functional.normalize(embeddings, dim=1).std(0).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("runs/own-loss"))
    arguments = parser.parse_args()

    domains = ms.load_domains("glyphs")
    split = ms.split_domains(domains, held_out=10, validation=10)
    losses: dict[str, dict[str, Any]] = {
        "own": {"loss": Spread, "loss_options": {"pull": 0.5}},  # a class: it is told how many classes there are
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
            arch="conv4",
            iterations=arguments.iterations,
            batch_size=32,
            device="cpu",
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
