"""Try recipes of one method on validation domains: what the presets were chosen by. Test images are never looked at.

    python -m benchmarks.recipe_search reptile --data glyphs --preset quick "more=iterations:6,inner_epochs:30" "now="

Each recipe is NAME=OPTION:VALUE,… on top of the preset. It is trained once for each seed on the seen domains and
answers questions about the *training* images of the validation domains, unadapted. A line a training is added to
benchmarks/results/recipes-NAME.jsonl, and a training that stands there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import metasiam as ms
from benchmarks.harness import RESULTS
from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split
from metasiam.methods import options_class
from metasiam.options.presets import preset_options
from metasiam.options.training import value_of

#: What is asked of every training: name → where it stands in an evaluation's held-out part.
MEASURED = ("triplets", "pairs", "5-way 1-shot")


def parse(method: str, text: str) -> tuple[str, dict[str, Any]]:
    """Return a recipe's name and options."""
    name, _, listed = text.partition("=")
    given = dict(item.split(":", 1) for item in listed.split(",") if item)
    return name, {key: value_of(options_class(method), key, word, text) for key, word in given.items()}


def training_images_only(domains: DomainSet, of: tuple[int, ...]) -> DomainSet:
    """Return the set with every second training image of some domains in the place of their test images."""
    theirs = torch.isin(domains.labels, torch.tensor(of))
    keep = ~(theirs & domains.is_test)
    is_test = domains.is_test.clone()
    is_test[torch.nonzero(theirs & keep).flatten()[::2]] = True
    return DomainSet(
        domains.images[keep], domains.labels[keep], domains.names, is_test[keep], f"{domains.source}, training images"
    )


def measured(folder: Path, domains: DomainSet, split: Split, seed: int) -> dict[str, float]:
    """Return closed triplets, pairs at the best threshold and 5-way 1-shot episodes, in percent."""
    data = ms.evaluate(
        folder, domains, split, shots=(0,), regimes=("closed",), seen=False, support_draws=0, bootstrap=200, seed=seed
    ).data["held_out"]
    closed = data["closed"]["0"]
    return {
        "triplets": closed["triplet_accuracy"]["mean"],
        "pairs": closed["pair_accuracy"]["oracle"]["mean"],
        "5-way 1-shot": data["episodes"]["5-way 1-shot"]["mean"],
    }


def main() -> None:
    """Train what is missing, and print a table of means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("method")
    parser.add_argument("recipes", nargs="+", help="NAME=OPTION:VALUE,OPTION:VALUE")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--data", default="glyphs")
    parser.add_argument("--held-out", type=int, default=10)
    parser.add_argument("--validation", type=int, default=10)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--name", required=True, help="results go to recipes-NAME.jsonl")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    kept = arguments.out / f"recipes-{arguments.name}.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    domains = ms.load_domains(arguments.data)
    whole = ms.split_domains(domains, held_out=arguments.held_out, validation=arguments.validation)
    asked = training_images_only(domains, whole.validation)
    split = Split(whole.seen, (), whole.validation, "validation")
    preset = preset_options(arguments.preset, arguments.method)[1]
    for name, options in (parse(arguments.method, text) for text in arguments.recipes):
        results = []
        for seed in (int(word) for word in arguments.seeds.split(",")):
            recipe = {"method": arguments.method, **preset, **options, "seed": seed}
            row = next((row for row in rows if row["recipe"] == recipe), None)
            if row is None:
                start = time.perf_counter()
                with tempfile.TemporaryDirectory() as folder:
                    training = {key: value for key, value in recipe.items() if key != "method"}
                    run = ms.train(arguments.method, asked, split, out=folder + "/run", **training)
                    seconds, images = time.perf_counter() - start, run.metrics()[-1]["images"]
                    row = {"name": name, "recipe": recipe, "images": images, "seconds": round(seconds)}
                    row |= measured(run.path, asked, split, seed)
                rows.append(row)
                with kept.open("a") as lines:
                    lines.write(json.dumps(row) + "\n")
            results.append(row)
        means = "  ".join(f"{key} {statistics.mean(row[key] for row in results):5.1f}" for key in MEASURED)
        print(f"{name:32} {results[0]['images']:8,} images {results[0]['seconds']:4} s  {means}", flush=True)


if __name__ == "__main__":
    main()
