"""An embedder trained longer on all of Omniglot's background characters, on Omniglot's own one-shot test.

    python benchmarks/omniglot_embedder.py --data-dir DATA_DIR

It goes on from the drawing app's embedder (shipped_embedder.py, which keeps five alphabets back) with all thirty, and
compares embeddings averaged over a few distorted views of a picture; what the views are worth is measured on the
alphabets kept back, before they are trained on. Evaluation characters are only tested on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from one_shot_runs import measure, omniglot_characters, one_shot_test
from paired_training import Recipe, train_on_pairs
from shipped_embedder import SHIPPED, TRAINED_ON, alike_characters, kept_back, training_set

import metasiam as ms
from metasiam.training.machine import choose_device, describe_machine, tune_allocator

HERE = Path(__file__).resolve().parent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data-dir", type=Path, required=True)
    options.add_argument("--iterations", type=int, default=1500)
    options.add_argument("--batch-size", type=int, default=256)
    options.add_argument("--lr", type=float, default=0.002)
    options.add_argument("--temperature", type=float, default=0.07)
    options.add_argument("--views", type=int, default=10)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--out", type=Path, default=Path("runs/omniglot.safetensors"))
    given = options.parse_args()
    tune_allocator()
    embedder, info = ms.load_embedder(SHIPPED)
    characters, alphabets = omniglot_characters(
        given.data_dir, info.image_size[0], evaluation=False, trained_on=TRAINED_ON
    )
    kept = kept_back(alphabets, 5)
    rows = torch.tensor([alphabet in kept for alphabet in alphabets])
    own = [alphabet for alphabet in alphabets if alphabet in kept]
    before = {
        str(views): one_shot_test(embedder, info, characters[rows], own, tests=80, views=views)
        for views in (1, given.views)
    }
    print(json.dumps(before), flush=True)
    domains = training_set(characters, torch.Generator().manual_seed(given.seed))
    recipe = Recipe(given.iterations, given.batch_size, given.lr, given.temperature, given.seed)
    began = time.perf_counter()
    embedder, info = train_on_pairs(domains, alike_characters(alphabets), recipe, TRAINED_ON, init=str(SHIPPED))
    result = {
        "command": "python benchmarks/omniglot_embedder.py --data-dir DATA_DIR",
        "settings": {key: value for key, value in vars(given).items() if key not in ("data_dir", "out")},
        "machine": describe_machine(choose_device("cpu")),
        "training_seconds": round(time.perf_counter() - began),
        "kept_back_one_shot_before_by_views": before,
        "omniglot_one_shot": measure(embedder, info, given.data_dir, views=given.views),
        "omniglot_one_shot_without_views": measure(embedder, info, given.data_dir),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    ms.save_embedder(given.out, embedder, info)
    print(json.dumps(result, indent=1))
    (HERE / "results" / "omniglot_embedder.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
