"""What each inference step gains, for pairs and episodes alike, with the same weights on the same draws.

    python -m benchmarks.inference_gain classic-90-10.pt --arch resnet56 --data folder:PATH_TO_CIFAR100 --held-out 10

Every row is what ``metasiam evaluate … --adapt-shots 0 --inference STEPS`` measures (closed regime); an image that
several rows look at is embedded once. Writes ``results/inference_gain.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.keep import RESULTS, without_folders
from metasiam import load_domains, split_domains
from metasiam.evaluation.draws import draw_protocol
from metasiam.evaluation.protocol import evaluate
from metasiam.models.files import load_embedder
from metasiam.options.evaluation import ProtocolSettings

#: The steps of each row.
ROWS: tuple[tuple[str, ...], ...] = (
    (),
    ("tukey",),
    ("centre",),
    ("lda",),
    ("tukey", "lda"),
    ("mirror",),
    ("mirror", "centre"),
    ("mirror", "lda"),
    ("mirror", "tukey", "lda"),
    ("mirror", "shifts"),
    ("mirror", "shifts", "lda"),
)


class Remembering(nn.Module):
    """An embedder that computes no image twice."""

    def __init__(self, embedder: nn.Module) -> None:
        super().__init__()
        self.embedder = embedder
        self.embedding_size = int(embedder.embedding_size)  # type: ignore[arg-type]
        self.known: dict[bytes, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Map float [B, C, H, W] to float [B, embedding_size]."""
        keys = [image.contiguous().numpy().tobytes() for image in images]
        new = list({key: place for place, key in enumerate(keys) if key not in self.known}.values())
        if new:
            for place, row in zip(new, self.embedder(images[new]), strict=True):
                self.known[keys[place]] = row.clone()
        return torch.stack([self.known[key] for key in keys])


def measured(data: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a row."""
    closed = data["held_out"]["closed"]["0"]
    pairs = closed["pair_accuracy"]
    return {
        "triplet_accuracy": closed["triplet_accuracy"],
        "pairs_global_threshold": pairs["global"],
        "pairs_best_threshold": pairs["oracle"],
        "auc": closed["auc"],
        **data["held_out"]["episodes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--arch")
    parser.add_argument("--data", default="cifar100")
    parser.add_argument("--held-out", type=int, default=10)
    parser.add_argument("--split")
    parser.add_argument("--views", choices=["one", "mirror", "all"], default="all", help="leave out rows with more")
    parser.add_argument("--calibration-images", type=int, default=20)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--name", default="inference_gain")
    arguments = parser.parse_args()

    domains = load_domains(arguments.data)
    split = split_domains(domains, held_out=arguments.held_out, split=arguments.split)
    embedder, info = load_embedder(arguments.weights, arch=arguments.arch)
    remembering = Remembering(embedder).eval()
    common: dict[str, Any] = {
        "shots": (0,),
        "seen": False,
        "regimes": ("closed",),
        "episodes": arguments.episodes,
        "calibration_images": arguments.calibration_images,
    }
    draws = draw_protocol(domains, split, ProtocolSettings(**common))
    excluded = {"one": {"mirror", "shifts"}, "mirror": {"shifts"}, "all": set()}[arguments.views]
    rows = []
    for steps in (row for row in ROWS if not excluded & set(row)):
        start = time.perf_counter()
        # The head changes episodes only: measured with every row at no more embedding.
        settings = ProtocolSettings(**common, inference=(*steps, "logistic"))
        found = measured(evaluate(remembering, info, domains, split, settings, draws=draws).data)
        rows.append({"inference": list(steps), **found})
        numbers = "  ".join(f"{name} {value['mean']:.2f}" for name, value in found.items())
        print(f"{','.join(steps) or 'plain'}: {numbers}  ({time.perf_counter() - start:.0f} s)", flush=True)
    saved = {
        "weights": arguments.weights.name,
        "data": without_folders(domains.source),
        "split": split.as_dict()["name"],
        "settings": {**common, "seed": 0},
        "rows": rows,
    }
    path = RESULTS / f"{arguments.name}.json"
    path.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
