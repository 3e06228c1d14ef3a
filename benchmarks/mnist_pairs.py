"""MNIST: same or different digit, for digits never trained on, and for all ten.

    python benchmarks/mnist_pairs.py --data-dir DATA_DIR

Trained on the digits 0 … 6, tested on pairs and triplets of 7, 8 and 9; and trained on all ten, tested on their test
images. For the first, training starts from the drawing app's embedder (Omniglot; no digit of MNIST was in it), and
quarter turns and mirror images of a digit are digits of their own: 56 domains instead of 7.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from paired_training import Recipe, train_on_pairs

import metasiam as ms
from metasiam.evaluation.calibration import ThresholdCalibrator
from metasiam.evaluation.embedding import embed_images
from metasiam.evaluation.verification import similarity, triplets_right
from metasiam.training.machine import choose_device, describe_machine, tune_allocator

HERE = Path(__file__).resolve().parent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data-dir", type=Path, required=True)
    options.add_argument("--ten-iterations", type=int, default=1800)
    options.add_argument("--ten-temperature", type=float, default=0.25)
    options.add_argument("--batch-size", type=int, default=128, help="for the ten")
    options.add_argument("--lr", type=float, default=0.003)
    options.add_argument("--images", type=int, default=5000, help="of each digit, for the seven")
    options.add_argument("--seven-iterations", type=int, default=300)
    options.add_argument("--seven-lr", type=float, default=0.0001)
    options.add_argument("--seven-temperature", type=float, default=0.1)
    options.add_argument(
        "--init", default="metasiam/app/strokes.safetensors", help="for the seven: weights to start from"
    )
    options.add_argument("--tune", action="store_true", help="test on training images held out, write nothing")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", choices=("seven_seen", "ten_seen"))
    given = options.parse_args()
    tune_allocator()
    digits = ms.load_domains("mnist", data_dir=given.data_dir, image_size=32)
    path = HERE / "results" / "mnist_pairs.json"
    result = json.loads(path.read_text()) if path.is_file() else {}
    for name, part in (("seven_seen", seven_seen), ("ten_seen", ten_seen)):
        if given.only in (None, name):
            key = f"{name}_alone" if name == "seven_seen" and given.init == "none" else name
            settings = {k: v for k, v in vars(given).items() if k not in ("data_dir", "only", "tune")}
            result[key] = {
                "command": "python benchmarks/mnist_pairs.py --data-dir DATA_DIR",
                "settings": settings,
                **part(digits, given),
            }
            print(json.dumps(result[key], indent=1), flush=True)
            if given.tune:
                continue
            path.write_text(json.dumps(result, indent=1) + "\n")


def seven_seen(digits: ms.DomainSet, given: argparse.Namespace) -> dict[str, object]:
    """Train on 0 … 6 in all eight orientations, test on 7, 8 and 9 as they are (``--tune``: on 0 … 3, on 4, 5, 6)."""
    seen, held_out, part = (range(4), (4, 5, 6), "train") if given.tune else (range(7), (7, 8, 9), "test")
    domains = oriented(digits, seen, given.images, given.seed)
    init = None if given.init == "none" else given.init
    recipe = Recipe(given.seven_iterations, 2 * len(domains.names), given.seven_lr, given.seven_temperature, given.seed)
    began = time.perf_counter()
    embedder, info = train_on_pairs(domains, [torch.arange(len(domains.names))], recipe, "mnist", init=init)
    seconds = time.perf_counter() - began
    threshold = calibrated(embedder, info, digits, digits.pool(seen, "train"))
    return {
        "machine": describe_machine(choose_device("cpu")),
        "training_seconds": round(seconds),
        **tested(embedder, info, digits, digits.pool(held_out, part), threshold),
    }


def ten_seen(digits: ms.DomainSet, given: argparse.Namespace) -> dict[str, object]:
    """Train on the training images of all ten digits, test on their test images (``--tune``: on those held out)."""
    kept = torch.randperm(len(digits.images), generator=torch.Generator().manual_seed(1)) % 10 == 0
    training = digits.images[~digits.is_test & ~kept], digits.labels[~digits.is_test & ~kept]
    domains = ms.DomainSet(*training, digits.names, torch.zeros(len(training[0]), dtype=torch.bool), "mnist")
    chosen = digits.images[~digits.is_test & kept], digits.labels[~digits.is_test & kept]
    validation = ms.DomainSet(*chosen, digits.names, torch.zeros(len(chosen[0]), dtype=torch.bool), "mnist")
    recipe = Recipe(given.ten_iterations, given.batch_size, given.lr, given.ten_temperature, given.seed)
    began = time.perf_counter()
    embedder, info = train_on_pairs(domains, None, recipe, "mnist")
    seconds = time.perf_counter() - began
    threshold = calibrated(embedder, info, validation, validation.pool(range(10), "train"))
    asked, part = (validation, "train") if given.tune else (digits, "test")
    result = tested(embedder, info, asked, asked.pool(range(10), part), threshold)
    return {"machine": describe_machine(choose_device("cpu")), "training_seconds": round(seconds), **result}


def oriented(digits: ms.DomainSet, seen: range, images: int, seed: int) -> ms.DomainSet:
    """Return a domain set of the digits' eight orientations, sorted by domain."""
    pool = digits.pool(seen, "train").shots(images, torch.Generator().manual_seed(seed))
    labels, order = digits.labels[pool.images].sort()
    upright = digits.gather(pool.images[order])
    kinds = [
        turned.flip(-1) if mirrored else turned
        for mirrored in (False, True)
        for turned in (torch.rot90(upright, quarter, (2, 3)) for quarter in range(4))
    ]
    labels = (torch.arange(8).unsqueeze(1) * len(seen) + labels).flatten()
    names = tuple(f"{digit} {way}" for way in range(8) for digit in seen)
    nothing = torch.zeros(len(labels), dtype=torch.bool)
    return ms.DomainSet(torch.cat(kinds).contiguous(), labels, names, nothing, "mnist")


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
