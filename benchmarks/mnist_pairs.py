"""MNIST: same or different digit, for digits never trained on, and for all ten.

    python benchmarks/mnist_pairs.py --data-dir DATA_DIR

Trained on the digits 0 … 6, tested on pairs and triplets of 7, 8 and 9; and trained on all ten, tested on their test
images. For the first, quarter turns and mirror images of a digit are digits of their own: 56 domains instead of 7.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

import metasiam as ms
from metasiam.data.augment import Augmentation
from metasiam.data.domains import Split
from metasiam.evaluation.calibration import ThresholdCalibrator
from metasiam.evaluation.embedding import embed_images
from metasiam.evaluation.verification import similarity, triplets_right

HERE = Path(__file__).resolve().parent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data-dir", type=Path, required=True)
    options.add_argument("--arch", default="conv4")
    options.add_argument("--iterations", type=int, default=500)
    options.add_argument("--batch-size", type=int, default=64, help="triplets")
    options.add_argument("--lr", type=float, default=0.003)
    options.add_argument("--images", type=int, default=1500, help="of each digit, for the seven")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--runs", type=Path, default=Path("runs"))
    options.add_argument("--only", choices=("seven_seen", "ten_seen"))
    given = options.parse_args()
    digits = ms.load_domains("mnist", data_dir=given.data_dir)
    path = HERE / "results" / "mnist_pairs.json"
    result = json.loads(path.read_text()) if path.is_file() else {}
    for name, part in (("seven_seen", seven_seen), ("ten_seen", ten_seen)):
        if given.only in (None, name):
            settings = {k: v for k, v in vars(given).items() if k not in ("data_dir", "runs", "only")}
            result[name] = {
                "command": "python benchmarks/mnist_pairs.py --data-dir DATA_DIR",
                "settings": settings,
                **part(digits, given),
            }
            print(json.dumps(result[name], indent=1), flush=True)
            path.write_text(json.dumps(result, indent=1) + "\n")


def train(domains: ms.DomainSet, name: str, given: argparse.Namespace) -> tuple[ms.Run, float]:
    """Train on every domain with the normalised-softmax loss; return the run and its seconds."""
    began = time.perf_counter()
    run = ms.train(
        "triplet",
        domains,
        Split(tuple(range(len(domains.names))), (), (), "all"),
        out=given.runs / name,
        overwrite=True,
        arch=given.arch,
        loss="softmax",
        flip=False,
        shift=2,
        lr=given.lr,
        schedule="onecycle",
        iterations=given.iterations,
        batch_size=given.batch_size,
        seed=given.seed,
        report=lambda p: print(f"{name} {p.iteration}/{p.total} loss {p.loss:.3f}", flush=True),
    )
    return run, time.perf_counter() - began


def seven_seen(digits: ms.DomainSet, given: argparse.Namespace) -> dict[str, object]:
    """Train on 0 … 6 in all eight orientations, test on 7, 8 and 9 as they are."""
    run, seconds = train(oriented(digits, range(7), given.images, given.seed), "mnist-seven", given)
    embedder, info = ms.load_embedder(run.path)
    seen, held_out = digits.pool(range(7), "train"), digits.pool((7, 8, 9), "test")
    threshold = calibrated(embedder, info, digits, seen)
    return {
        "machine": run.config["machine"],
        "training_seconds": round(seconds),
        **tested(embedder, info, digits, held_out, threshold),
    }


def ten_seen(digits: ms.DomainSet, given: argparse.Namespace) -> dict[str, object]:
    """Train on the training images of all ten digits, test on their test images."""
    run, seconds = train(digits, "mnist-ten", given)
    embedder, info = ms.load_embedder(run.path)
    threshold = calibrated(embedder, info, digits, digits.pool(range(10), "train"))
    result = tested(embedder, info, digits, digits.pool(range(10), "test"), threshold)
    return {"machine": run.config["machine"], "training_seconds": round(seconds), **result}


def oriented(digits: ms.DomainSet, seen: range, images: int, seed: int) -> ms.DomainSet:
    """Return a domain set of the digits' eight orientations, each image a little turned, slanted and stretched."""
    generator = torch.Generator().manual_seed(seed)
    pool = digits.pool(seen, "train").shots(images, generator)
    upright = digits.gather(pool.images)
    kinds = [
        turned.flip(-1) if mirrored else turned
        for mirrored in (False, True)
        for turned in (torch.rot90(upright, quarter, (2, 3)) for quarter in range(4))
    ]
    labels = torch.arange(8).repeat_interleave(len(upright)) * len(seen) + digits.labels[pool.images].repeat(8)
    hand = Augmentation(flip=False, rotation=15, shear=0.2, scale=0.15)
    every = torch.cat(kinds)
    drawn = [
        hand.apply(block, hand.draw((len(block),), generator), (0.0,), (1.0,)).mul(255).round().to(torch.uint8)
        for block in every.split(2000)
    ]
    names = tuple(f"{digit} {way}" for way in range(8) for digit in seen)
    nothing = torch.zeros(len(every), dtype=torch.bool)
    return ms.DomainSet(torch.cat(drawn).contiguous(), labels, names, nothing, "mnist")


def calibrated(embedder: torch.nn.Module, info: ms.EmbedderInfo, digits: ms.DomainSet, pool: ms.Pool) -> float:
    """Choose the threshold on training images."""
    pairs = ms.draw_pairs(pool, pool, 10000, torch.Generator().manual_seed(2))
    index, place = torch.unique(torch.stack((pairs.first, pairs.second)), return_inverse=True)
    scores = similarity(embed_images(embedder, info, digits, index), place[0], place[1], info.distance)
    return ThresholdCalibrator().fit(scores, pairs.same).threshold


def tested(
    embedder: torch.nn.Module, info: ms.EmbedderInfo, digits: ms.DomainSet, pool: ms.Pool, threshold: float
) -> dict[str, object]:
    """Return triplet and pair accuracy on a pool of test images, percent, with 95 % intervals."""
    generator = torch.Generator().manual_seed(3)
    triplets = ms.draw_triplets(pool, pool, (20000,), generator)
    pairs = ms.draw_pairs(pool, pool, 20000, generator)
    index, place = torch.unique(torch.cat((triplets.flatten(), pairs.first, pairs.second)), return_inverse=True)
    rows = embed_images(embedder, info, digits, index)
    at = place[: triplets.numel()].view(3, -1)
    first, second = place[triplets.numel() :].chunk(2)
    scores = similarity(rows, first, second, info.distance)
    return {
        "triplet_accuracy": percent(triplets_right(rows, at, info.distance)),
        "pair_accuracy": percent((scores > threshold) == pairs.same),
        "threshold": round(threshold, 4),
    }


def percent(right: torch.Tensor) -> dict[str, object]:
    """Return mean and 95 % interval of bool [n], percent."""
    mean = float(right.float().mean())
    half = 1.96 * (mean * (1 - mean) / len(right)) ** 0.5
    return {
        "mean": round(100 * mean, 2),
        "ci95": [round(100 * (mean - half), 2), round(100 * (mean + half), 2)],
        "n": len(right),
    }


if __name__ == "__main__":
    main()
