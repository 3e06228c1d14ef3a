"""An embedder trained on Omniglot's background characters, on Omniglot's own one-shot test.

    python benchmarks/omniglot_embedder.py --data-dir DATA_DIR --init metasiam/app/strokes.safetensors

Every background character in four orientations is a domain of its own; every drawing is seen several times, turned,
slanted and stretched. Evaluation characters and their drawers are only tested on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from one_shot_runs import measure, omniglot_characters

import metasiam as ms
from metasiam.data.augment import Augmentation
from metasiam.data.domains import Split

HERE = Path(__file__).resolve().parent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data-dir", type=Path, required=True)
    options.add_argument("--arch", default="conv4")
    options.add_argument("--size", type=int, default=28)
    options.add_argument("--copies", type=int, default=3, help="of every drawing, each distorted differently")
    options.add_argument("--init", help="weights or run to start from")
    options.add_argument("--iterations", type=int, default=2500)
    options.add_argument("--batch-size", type=int, default=64, help="triplets")
    options.add_argument("--lr", type=float, default=0.002)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--run", type=Path, default=Path("runs/omniglot"))
    given = options.parse_args()
    domains = background_domains(given)
    print(f"{len(domains.images)} drawings of {len(domains.names)} domains", flush=True)
    began = time.perf_counter()
    more = {"init": given.init} if given.init is not None else {}
    run = ms.train(
        "triplet",
        domains,
        Split(tuple(range(len(domains.names))), (), (), "background"),
        out=given.run,
        overwrite=True,
        arch=given.arch,
        loss="softmax",
        flip=False,
        shift=1,
        lr=given.lr,
        schedule="onecycle",
        iterations=given.iterations,
        batch_size=given.batch_size,
        seed=given.seed,
        report=lambda p: print(f"{p.iteration}/{p.total} loss {p.loss:.3f}", flush=True),
        **more,
    )
    seconds = time.perf_counter() - began
    embedder, info = ms.load_embedder(run.path)
    result = {
        "command": "python benchmarks/omniglot_embedder.py --data-dir DATA_DIR --init metasiam/app/strokes.safetensors",
        "settings": {key: str(value) for key, value in vars(given).items() if key not in ("data_dir", "run")},
        "machine": run.config["machine"],
        "training_seconds": round(seconds),
        "omniglot_one_shot": measure(embedder, info, given.data_dir),
    }
    print(json.dumps(result, indent=1))
    (HERE / "results" / "omniglot_embedder.json").write_text(json.dumps(result, indent=1) + "\n")


def background_domains(given: argparse.Namespace) -> ms.DomainSet:
    """Return the background characters in four orientations, each drawing distorted ``copies`` times."""
    generator = torch.Generator().manual_seed(given.seed)
    characters, _ = omniglot_characters(given.data_dir, given.size, evaluation=False, trained_on="omniglot")
    count, drawers = characters.shape[:2]
    turned = torch.cat([torch.rot90(characters, quarter, (3, 4)) for quarter in range(4)])
    every = turned.flatten(0, 1).repeat_interleave(given.copies, 0)
    hand = Augmentation(flip=False, rotation=15, shear=0.25, scale=0.2, translation=1.5)
    drawn = [
        hand.apply(block, hand.draw((len(block),), generator), (0.0,), (1.0,)).mul(255).round().to(torch.uint8)
        for block in every.split(2000)
    ]
    labels = torch.arange(4 * count).repeat_interleave(drawers * given.copies)
    names = tuple(f"character {index % count} turned {index // count}" for index in range(4 * count))
    images = torch.cat(drawn).contiguous()
    return ms.DomainSet(images, labels, names, torch.zeros(len(images), dtype=torch.bool), "omniglot")


if __name__ == "__main__":
    main()
