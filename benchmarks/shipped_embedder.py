"""Makes metasiam/app/strokes.safetensors, the small embedder that the drawing app starts with, and measures it.

    python benchmarks/shipped_embedder.py --data-dir DATA_DIR

It learns from Omniglot's background characters (Lake et al., 2015; MIT licence), each in four orientations, which
count as characters of their own, with a fine and a broad pen, every time a little turned, slanted and stretched.
Some alphabets are held out: every setting was chosen on them (``--tune`` prints that figure and writes nothing), and
the threshold is. The evaluation characters are only tested on, with Omniglot's own one-shot test (one_shot_runs.py).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from one_shot_runs import measure, omniglot_characters, one_shot_test
from paired_training import Recipe, train_on_pairs
from stroke_characters import character_set
from torch import Tensor

import metasiam as ms
from metasiam.app.ink import style_for
from metasiam.data.tasks import draw_pairs
from metasiam.evaluation.calibration import ProbabilityCalibrator, ThresholdCalibrator
from metasiam.evaluation.embedding import embed_images
from metasiam.evaluation.verification import similarity
from metasiam.training.machine import choose_device, describe_machine, tune_allocator

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parent / "metasiam" / "app" / "strokes.safetensors"
TRAINED_ON = "omniglot (background characters, drawn by people)"
DRAWN = 200  # invented and printed characters, for a second measurement


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data-dir", type=Path, required=True, help="with Omniglot")
    options.add_argument("--size", type=int, default=32)
    options.add_argument("--iterations", type=int, default=3000)
    options.add_argument("--batch-size", type=int, default=256)
    options.add_argument("--lr", type=float, default=0.003)
    options.add_argument("--temperature", type=float, default=0.07)
    options.add_argument("--kept-back", type=int, default=5, help="alphabets not trained on")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--tune", action="store_true", help="measure on the alphabets held out, write nothing")
    given = options.parse_args()
    tune_allocator()

    characters, alphabets = omniglot_characters(given.data_dir, given.size, evaluation=False, trained_on=TRAINED_ON)
    kept = kept_back(alphabets, given.kept_back)
    is_kept = torch.tensor([alphabet in kept for alphabet in alphabets])
    domains = training_set(characters[~is_kept], torch.Generator().manual_seed(given.seed))
    print(f"{len(domains.images)} pictures of {len(domains.names)} characters; held out: {', '.join(kept)}", flush=True)
    groups = alike_characters([alphabet for alphabet in alphabets if alphabet not in kept])
    began = time.perf_counter()
    recipe = Recipe(given.iterations, given.batch_size, given.lr, given.temperature, given.seed)
    embedder, info = train_on_pairs(domains, groups, recipe, TRAINED_ON)
    seconds = time.perf_counter() - began
    own_alphabets = [alphabet for alphabet in alphabets if alphabet in kept]
    result = {
        "command": "python benchmarks/shipped_embedder.py --data-dir DATA_DIR",
        "settings": {key: value for key, value in vars(given).items() if key not in ("data_dir", "tune")},
        "kept_back_alphabets": kept,
        "machine": describe_machine(choose_device("cpu")),
        "training_seconds": round(seconds),
        "kept_back_one_shot": one_shot_test(embedder, info, characters[is_kept], own_alphabets, tests=80),
    }
    if given.tune:
        print(json.dumps(result, indent=1))
        return
    info, rule = with_threshold(embedder, info, as_domains(characters[is_kept]))
    ms.save_embedder(SHIPPED, embedder, info)
    rule = {
        **rule,
        "learned_on": f"{int(is_kept.sum())} characters of {len(kept)} alphabets it was not trained on",
        "made_by": "benchmarks/shipped_embedder.py",
    }
    SHIPPED.with_suffix(".json").write_text(json.dumps(rule, indent=1) + "\n")
    drawn = character_set(DRAWN, 20, given.size, style_for(TRAINED_ON), torch.Generator().manual_seed(0))
    result |= {
        "bytes": SHIPPED.stat().st_size,
        "parameters": sum(value.numel() for value in embedder.state_dict().values()),
        "kept_back_pairs": right_pairs(embedder, info, as_domains(characters[is_kept])),
        "drawn_pairs": right_pairs(embedder, info, drawn),
        "omniglot_one_shot": measure(embedder, info, given.data_dir),
    }
    print(json.dumps(result, indent=1))
    (HERE / "results" / "shipped_embedder.json").write_text(json.dumps(result, indent=1) + "\n")


def kept_back(alphabets: list[str], count: int) -> list[str]:
    """Choose alphabets of at least 20 characters, which the one-shot test needs; always the same ones."""
    large = [name for name in dict.fromkeys(alphabets) if alphabets.count(name) >= 20]
    order = torch.randperm(len(large), generator=torch.Generator().manual_seed(5))
    return [large[place] for place in order[:count].tolist()]


def as_domains(characters: Tensor, names: tuple[str, ...] | None = None) -> ms.DomainSet:
    """Return uint8 [characters, drawings, 1, H, W] as a domain set, a domain a character."""
    count, each = characters.shape[:2]
    names = names or tuple(f"character {place}" for place in range(count))
    images = characters.flatten(0, 1).contiguous()
    nothing = torch.zeros(len(images), dtype=torch.bool)
    return ms.DomainSet(images, torch.arange(count).repeat_interleave(each), names, nothing, "omniglot")


def training_set(characters: Tensor, generator: torch.Generator) -> ms.DomainSet:
    """Return the characters in four orientations, each drawing twice: as it is and with a broader pen."""
    turned = torch.cat([torch.rot90(characters, quarter, (3, 4)) for quarter in range(4)])
    names = tuple(f"{place % len(characters)} turned {place // len(characters)}" for place in range(len(turned)))
    broad = [
        (block + (F.max_pool2d(block, 3, 1, 1) - block) * torch.rand(len(block), 1, 1, 1, generator=generator))
        for block in turned.flatten(0, 1).float().split(4000)
    ]
    broader = torch.cat(broad).round().to(torch.uint8).view_as(turned)
    return as_domains(torch.cat((turned, broader), 1), names)


def alike_characters(alphabets: list[str]) -> list[Tensor]:
    """Return the domains of the training set that belong together: an alphabet in one orientation."""
    alphabet = torch.tensor([alphabets.index(name) for name in alphabets])
    place = [(alphabet == value).nonzero().flatten() for value in torch.unique(alphabet)]
    return [rows + quarter * len(alphabets) for quarter in range(4) for rows in place]


def pair_scores(
    embedder: torch.nn.Module, info: ms.EmbedderInfo, domains: ms.DomainSet, seed: int
) -> tuple[Tensor, Tensor]:
    """Return similarity and truth of 20,000 pairs, half of them of one character."""
    pool = domains.pool(range(len(domains.names)), "train")
    pairs = draw_pairs(pool, pool, 20000, torch.Generator().manual_seed(seed))
    index, place = torch.unique(torch.stack((pairs.first, pairs.second)), return_inverse=True)
    rows = embed_images(embedder, info, domains, index)
    return similarity(rows, place[0], place[1], info.distance), pairs.same


def with_threshold(
    embedder: torch.nn.Module, info: ms.EmbedderInfo, domains: ms.DomainSet
) -> tuple[ms.EmbedderInfo, dict[str, float]]:
    """Return the info with the threshold that is best on these characters, and threshold and slope."""
    scores, same = pair_scores(embedder, info, domains, seed=1)
    threshold = round(ThresholdCalibrator().fit(scores, same).threshold, 4)
    slope = round(ProbabilityCalibrator().fit(scores, same).slope, 3)
    return replace(info, threshold=threshold), {"threshold": threshold, "slope": slope}


def right_pairs(embedder: torch.nn.Module, info: ms.EmbedderInfo, domains: ms.DomainSet) -> dict[str, object]:
    """Return the share of pairs that the stored threshold gets right, percent, with a 95 % interval over pairs."""
    scores, same = pair_scores(embedder, info, domains, seed=2)
    right = ((scores > info.threshold) == same).float()
    mean, half = 100 * float(right.mean()), 196 * float(right.std()) / len(right) ** 0.5
    return {"mean": round(mean, 2), "ci95": [round(mean - half, 2), round(mean + half, 2)], "n": len(right)}


if __name__ == "__main__":
    main()
