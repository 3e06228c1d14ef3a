"""An embedder trained on all of Omniglot's background characters, on Omniglot's own one-shot test.

    python benchmarks/omniglot_embedder.py --data-dir DATA_DIR

Three conv4 for 48, 40 and 32 pixels, each going on from the drawing app's embedder (shipped_embedder.py, which keeps
five alphabets back) with all thirty alphabets, make one ``conv4-scales``. Two drawings are compared by the most similar
of their distorted views, the background characters' mean embedding taken off. ``--tune`` keeps the five alphabets back
here too, measures with and without each on them, and writes nothing. Evaluation characters are only tested on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from one_shot_runs import mean_embedding, measure, omniglot_characters, one_shot_test
from paired_training import Recipe, train_on_pairs
from shipped_embedder import SHIPPED, TRAINED_ON, alike_characters, kept_back, training_set

import metasiam as ms
from metasiam.training.machine import choose_device, describe_machine, tune_allocator

HERE = Path(__file__).resolve().parent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data-dir", type=Path, required=True)
    options.add_argument("--size", type=int, default=48, help="pixels of the largest of the three")
    options.add_argument("--iterations", type=int, default=3000, help="of each of the three")
    options.add_argument("--batch-size", type=int, default=256)
    options.add_argument("--lr", type=float, default=0.002)
    options.add_argument("--temperature", type=float, default=0.07)
    options.add_argument("--views", type=int, default=7, help="of each drawing: itself and distorted ones")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--tune", action="store_true", help="measure on the alphabets held out, write nothing")
    options.add_argument("--out", type=Path, default=Path("runs/omniglot.safetensors"))
    given = options.parse_args()
    tune_allocator()
    size = (given.size, given.size)
    characters, alphabets = omniglot_characters(given.data_dir, given.size, evaluation=False, trained_on=TRAINED_ON)
    kept = kept_back(alphabets, 5)
    rows = torch.tensor([alphabet in kept for alphabet in alphabets])
    learned = [alphabet for alphabet in alphabets if not given.tune or alphabet not in kept]
    drawn = torch.Generator().manual_seed(given.seed)
    domains = training_set(characters[~rows] if given.tune else characters, drawn)
    embedder = ms.build_embedder("conv4-scales", channels=1, image_size=size)
    began = time.perf_counter()
    for number, (part, of_part) in enumerate(zip(embedder.parts, embedder.sizes, strict=True)):
        seed = given.seed + number
        recipe = Recipe(given.iterations, given.batch_size, given.lr, given.temperature, seed)
        groups = alike_characters(learned)
        trained, info = train_on_pairs(resized(domains, of_part), groups, recipe, TRAINED_ON, init=str(SHIPPED))
        part.load_state_dict(trained.state_dict())
    seconds = round(time.perf_counter() - began)
    embedder, info = embedder.eval(), replace(info, arch="conv4-scales", image_size=size)
    centre = mean_embedding(embedder, info, characters[~rows] if given.tune else characters)
    own = [alphabet for alphabet in alphabets if alphabet in kept]
    if given.tune:
        for views in (1, given.views):
            for centred in (None, centre):
                shown = one_shot_test(embedder, info, characters[rows], own, tests=80, views=views, centre=centred)
                print(f"{views} views, {'plain' if centred is None else 'centred'}: {shown}", flush=True)
        return
    result = {
        "command": "python benchmarks/omniglot_embedder.py --data-dir DATA_DIR",
        "settings": {key: value for key, value in vars(given).items() if key not in ("data_dir", "out", "tune")},
        "machine": describe_machine(choose_device("cpu")),
        "training_seconds": seconds,
        "parameters": sum(value.numel() for value in embedder.state_dict().values()),
        "omniglot_one_shot": measure(embedder, info, given.data_dir, views=given.views, centre=centre),
        "omniglot_one_shot_plain": measure(embedder, info, given.data_dir),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    ms.save_embedder(given.out, embedder, info)
    print(json.dumps(result, indent=1))
    (HERE / "results" / "omniglot_embedder.json").write_text(json.dumps(result, indent=1) + "\n")


def resized(domains: ms.DomainSet, size: tuple[int, int]) -> ms.DomainSet:
    """Return the domain set with every picture brought to a size, as ``conv4-scales`` does with its input."""
    if size == domains.image_size:
        return domains
    blocks = [
        F.interpolate(block.float(), size, mode="bilinear", antialias=True).round().to(torch.uint8)
        for block in domains.images.split(4000)
    ]
    return replace(domains, images=torch.cat(blocks))


if __name__ == "__main__":
    main()
