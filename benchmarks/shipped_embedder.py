"""Makes metasiam/app/strokes.safetensors, the small embedder that the drawing app starts with.

    python benchmarks/shipped_embedder.py --minutes-hint

Everything it learns from is drawn by stroke_characters.py, so this runs anywhere, without a download.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

import metasiam as ms
from metasiam.data.domains import Split
from stroke_characters import character_set

HERE = Path(__file__).parent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--arch", default="conv4")
    options.add_argument("--classes", type=int, default=3000)
    options.add_argument("--hands", type=int, default=40)
    options.add_argument("--size", type=int, default=32)
    options.add_argument("--iterations", type=int, default=6000)
    options.add_argument("--batch-size", type=int, default=64)
    options.add_argument("--lr", type=float, default=0.003)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--data", type=Path, default=Path("strokes.pt"), help="drawn characters, kept for another run")
    options.add_argument("--out", type=Path, default=Path("runs/shipped"))
    given = options.parse_args()

    begin = time.perf_counter()
    if given.data.is_file():
        saved = torch.load(given.data, weights_only=True)
        domains = ms.DomainSet(saved["images"], saved["labels"], tuple(saved["names"]), saved["is_test"], "strokes")
    else:
        generator = torch.Generator().manual_seed(given.seed)
        domains = character_set(given.classes, given.hands, given.size, generator, report=print)
        kept = {"images": domains.images, "labels": domains.labels, "names": list(domains.names)}
        torch.save(kept | {"is_test": domains.is_test}, given.data)
    print(
        f"{len(domains.images)} drawings of {len(domains.names)} characters, {time.perf_counter() - begin:.0f} s",
        flush=True,
    )
    split = Split(tuple(range(len(domains.names))), (), (), "all")
    run = ms.train(
        "triplet",
        domains,
        split,
        out=given.out,
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
        report=lambda p: (
            print(f"{p.iteration}/{p.total} loss {p.loss:.3f} {p.images_per_second:.0f}/s", flush=True)
            if p.iteration % 100 < 2
            else None
        ),
    )
    print(run.path)


if __name__ == "__main__":
    main()
