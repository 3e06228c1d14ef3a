"""Makes metasiam/app/strokes.safetensors, the small embedder that the drawing app starts with, and measures it.

    python benchmarks/shipped_embedder.py --omniglot DATA_DIR

Everything it learns from is drawn by stroke_characters.py, so the training runs anywhere, without a download.
Omniglot, if given, is only for measuring: its own one-shot test on the evaluation characters (one_shot_runs.py).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from one_shot_runs import measure
from safetensors.torch import load_file
from stroke_characters import character_set

import metasiam as ms
from metasiam.data.domains import Split
from metasiam.data.tasks import draw_pairs
from metasiam.evaluation.calibration import ProbabilityCalibrator, ThresholdCalibrator
from metasiam.evaluation.embedding import embed_images
from metasiam.evaluation.verification import similarity

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parent / "metasiam" / "app" / "strokes.safetensors"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--arch", default="conv4")
    options.add_argument("--classes", type=int, default=3000)
    options.add_argument("--hands", type=int, default=40)
    options.add_argument("--size", type=int, default=32)
    options.add_argument("--iterations", type=int, default=2500)
    options.add_argument("--batch-size", type=int, default=64, help="triplets")
    options.add_argument("--lr", type=float, default=0.003)
    options.add_argument("--held-out", type=int, default=200, help="characters for the threshold")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--drawn", type=Path, help="keep the drawn characters in this file, for another run")
    options.add_argument("--init", help="go on from these weights, on newly drawn batches")
    options.add_argument("--run", type=Path, default=Path("runs/strokes"))
    options.add_argument("--omniglot", type=Path, help="data dir with Omniglot, to measure")
    given = options.parse_args()

    began = time.perf_counter()
    domains = drawn_characters(given)
    print(f"{len(domains.images)} drawings of {len(domains.names)} characters", flush=True)
    kept = len(domains.names) - given.held_out
    split = Split(tuple(range(kept)), (), tuple(range(kept, len(domains.names))), f"held-out {given.held_out}")
    drawn_seconds = time.perf_counter() - began
    run = train(domains, split, given, **({"init": given.init} if given.init is not None else {}))
    seconds = time.perf_counter() - began - drawn_seconds
    embedder, info = ms.load_embedder(run.path)
    info, calibrated = with_threshold(embedder, info, domains, split)
    ms.save_embedder(SHIPPED, embedder, info)
    rule = {
        "threshold": calibrated["threshold"],
        "slope": calibrated["slope"],
        "learned_on": f"{given.held_out} characters it was not trained on",
        "made_by": "benchmarks/shipped_embedder.py",
    }
    SHIPPED.with_suffix(".json").write_text(json.dumps(rule, indent=1) + "\n")
    result = {
        "command": "python benchmarks/shipped_embedder.py --omniglot DATA_DIR",
        "settings": {key: str(value) for key, value in vars(given).items() if key not in ("omniglot", "drawn", "run")},
        "machine": run.config["machine"],
        "training_seconds": round(seconds),
        "bytes": SHIPPED.stat().st_size,
        "parameters": sum(v.numel() for v in load_file(SHIPPED).values()),
        "held_out_strokes": calibrated,
    }
    if given.omniglot is not None:
        result["omniglot_one_shot"] = measure(embedder, info, given.omniglot)
    print(json.dumps(result, indent=1))
    (HERE / "results" / "shipped_embedder.json").write_text(json.dumps(result, indent=1) + "\n")


def drawn_characters(given: argparse.Namespace) -> ms.DomainSet:
    """Draw the characters, or read those that were kept."""
    if given.drawn is not None and given.drawn.is_file():
        saved = torch.load(given.drawn, weights_only=True)
        return ms.DomainSet(saved["images"], saved["labels"], tuple(saved["names"]), saved["is_test"], "strokes")
    generator = torch.Generator().manual_seed(given.seed)
    domains = character_set(given.classes, given.hands, given.size, generator, report=print)
    if given.drawn is not None:
        tensors = {"images": domains.images, "labels": domains.labels, "is_test": domains.is_test}
        torch.save({**tensors, "names": list(domains.names)}, given.drawn)
    return domains


def train(domains: ms.DomainSet, split: Split, given: argparse.Namespace, **more: object) -> ms.Run:
    """Train with the normalised-softmax loss, a proxy for every character."""
    options = {
        "arch": given.arch,
        "loss": "softmax",
        "flip": False,
        "shift": 1,
        "lr": given.lr,
        "schedule": "onecycle",
        "iterations": given.iterations,
        "batch_size": given.batch_size,
        "seed": given.seed,
        **more,
    }

    def report(progress: object) -> None:
        if progress.iteration % 50 < 3:
            print(
                f"{progress.iteration}/{progress.total} loss {progress.loss:.3f} {progress.images_per_second:.0f}/s",
                flush=True,
            )

    return ms.train("triplet", domains, split, out=given.run, overwrite=True, report=report, **options)


def with_threshold(
    embedder: torch.nn.Module, info: ms.EmbedderInfo, domains: ms.DomainSet, split: Split
) -> tuple[ms.EmbedderInfo, dict[str, float]]:
    """Return the info with the threshold that is best on characters never trained on, and what it reaches there."""
    generator = torch.Generator().manual_seed(1)
    pool = domains.pool(split.held_out, "train")
    pairs = draw_pairs(pool, pool, 20000, generator)
    index, place = torch.unique(torch.stack((pairs.first, pairs.second)), return_inverse=True)
    scores = similarity(embed_images(embedder, info, domains, index), place[0], place[1], info.distance)
    threshold = ThresholdCalibrator().fit(scores, pairs.same)
    curve = ProbabilityCalibrator().fit(scores, pairs.same)
    accuracy = float((threshold.predict(scores) == pairs.same).float().mean())
    about = {
        "pair_accuracy_percent": round(100 * accuracy, 2),
        "threshold": round(threshold.threshold, 4),
        "slope": round(curve.slope, 3),
    }
    return replace(info, threshold=round(threshold.threshold, 4), trained_on="strokes"), about


if __name__ == "__main__":
    main()
