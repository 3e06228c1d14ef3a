"""The field's few-shot benchmarks: one recipe trained, then episodes on classes never trained on.

    python -m benchmarks.few_shot cifar-fs-conv4-baseline --data folder:PATH_TO_CIFAR100            # choose on these
    python -m benchmarks.few_shot cifar-fs-conv4-baseline --data folder:PATH_TO_CIFAR100 --test     # the last number

Without ``--test`` only validation classes are looked at. ``--set`` changes a recipe's option. The run stays in
``runs/few-shot/RECIPE`` and is taken as it is the next time; results go to ``results/few-shot/RECIPE.json``.
The recipes with resnet12 want a GPU.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import metasiam as ms
from benchmarks.keep import RESULTS, without_folders
from metasiam.methods import options_class
from metasiam.options.training import value_of
from metasiam.runs import Run, open_run

#: What every run is measured with besides plain cosine or distance to the class mean.
INFERENCE: tuple[tuple[str, ...], ...] = ((), ("centre", "normalise"), ("lda",))
MIRRORED: tuple[tuple[str, ...], ...] = (("mirror",), ("mirror", "centre", "normalise"), ("mirror", "lda"))

#: A cosine classifier of the seen classes.
_BASELINE: dict[str, Any] = {
    "batch_size": 192,
    "temperature": 0.1,
    "lr": 0.01,
    "weight_decay": 0.05,
    "schedule": "onecycle",
    "shift": 4,
}


@dataclass(frozen=True)
class Recipe:
    """What is trained on what: ``images`` to go through the network decide the iterations."""

    data: str
    split: str
    method: str
    images: int
    options: dict[str, Any]
    kinds: tuple[tuple[int, int], ...] = ((5, 1), (5, 5))


_OMNIGLOT = ((5, 1), (5, 5), (20, 1), (20, 5))

RECIPES: dict[str, Recipe] = {
    "cifar-fs-conv4-baseline": Recipe("cifar100", "cifar-fs", "baseline", 2_000_000, {**_BASELINE, "arch": "conv4"}),
    "fc100-conv4-baseline": Recipe("cifar100", "fc100", "baseline", 320_000, {**_BASELINE, "arch": "conv4"}),
    "cifar-fs-resnet12-baseline": Recipe(
        "cifar100", "cifar-fs", "baseline", 3_200_000, {**_BASELINE, "arch": "resnet12"}
    ),
    "fc100-resnet12-baseline": Recipe("cifar100", "fc100", "baseline", 3_000_000, {**_BASELINE, "arch": "resnet12"}),
    "omniglot-protonet": Recipe(
        "omniglot-rotated",
        "omniglot-vinyals",
        "protonet",
        270_000,
        {
            "arch": "conv4",
            "ways": 30,
            "shots": 1,
            "queries": 5,
            "lr": 0.003,
            "schedule": "onecycle",
            "shift": 2,
        },
        _OMNIGLOT,
    ),
    "omniglot-reptile": Recipe(
        "omniglot-rotated",
        "omniglot-vinyals",
        "reptile",
        345_600,
        {
            "arch": "conv4",
            "loss": "supcon",
            "temperature": 0.07,
            "batch_size": 128,
            "lr": 0.003,
            "inner_epochs": 5,
            "ways": 128,
            "meta_step": 1.0,
            "shift": 2,
        },
        _OMNIGLOT,
    ),
}


def trained(name: str, recipe: Recipe, data: ms.DomainSet, split: ms.Split, options: dict[str, Any], out: Path) -> Run:
    """Return the finished run of these options, trained here unless it is there already."""
    from metasiam.workflows.compare import options_for_budget

    if (out / "embedder.safetensors").is_file():
        run = open_run(out)
        changed = {key: value for key, value in options.items() if run.config["options"][key] != value}
        if changed:
            raise SystemExit(f"{out} was trained with other {', '.join(changed)}. Remove it, or choose another --out.")
        return run
    wanted = options if "iterations" in options else options_for_budget(recipe.method, options, recipe.images)
    return ms.train(recipe.method, data, split, out=out, overwrite=True, **wanted)


def episodes(
    run: Run, recipe: Recipe, data: ms.DomainSet, split: ms.Split, steps: tuple[str, ...], count: int
) -> dict[str, Any]:
    """Return accuracy, interval and number of the run's episodes of each kind."""
    report = ms.evaluate(
        run,
        data,
        split,
        shots=(0,),
        seen=False,
        regimes=(),
        support_draws=1,
        calibration_images=2,
        episodes=count,
        episode_kinds=recipe.kinds,
        inference=steps,
    )
    found: dict[str, Any] = report.data["held_out"]["episodes"]
    return {kind: value for kind, value in found.items() if not kind.startswith("all-way")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=list(RECIPES))
    parser.add_argument("--data")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--images", type=int)
    parser.add_argument("--test", action="store_true", help="measure the test classes too, once")
    parser.add_argument("--logistic", action="store_true", help="also the logistic head")
    parser.add_argument("--inference", help="only with these steps, e.g. mirror,lda; default every row of the page")
    parser.add_argument("--episodes", type=int, default=1000, help="of each kind")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS / "few-shot")
    arguments = parser.parse_args()

    recipe, out = RECIPES[arguments.recipe], arguments.out or Path("runs/few-shot") / arguments.recipe
    options = {**recipe.options, "seed": arguments.seed}
    for text in arguments.set:
        key, _, word = text.partition("=")
        options[key] = value_of(options_class(recipe.method), key, word, f"--set {text}")
    data = ms.load_domains(arguments.data or recipe.data, data_dir=arguments.data_dir)
    split = ms.split_domains(data, split=recipe.split)
    if arguments.images is not None:
        recipe = Recipe(recipe.data, recipe.split, recipe.method, arguments.images, recipe.options, recipe.kinds)
    run = trained(arguments.recipe, recipe, data, split, options, out)
    seconds = run.metrics()[-1]["seconds"]
    print(f"{arguments.recipe}: {run.images:,} images, {seconds / 60:.1f} minutes of training", flush=True)
    found: dict[str, Any] = {}
    parts = {"validation": ms.split_domains(data, split=f"{recipe.split}:validation")}
    if arguments.test:
        parts["test"] = split
    ways_of = (*INFERENCE, *(MIRRORED if run.config["options"]["flip"] else ()))
    if arguments.inference is not None:
        ways_of = (tuple(arguments.inference.split(",")),)
    for part, chosen in parts.items():
        for steps in ways_of:
            named = (*steps, "logistic") if arguments.logistic else steps
            measured = episodes(run, recipe, data, chosen, named, arguments.episodes)
            found.setdefault(part, {})[",".join(steps) or "plain"] = measured
            numbers = "  ".join(
                f"{kind} {value['mean']:.2f} [{value['ci95'][0]:.2f}, {value['ci95'][1]:.2f}]"
                for kind, value in measured.items()
            )
            print(f"{part} classes, {','.join(steps) or 'plain'}: {numbers}", flush=True)
    config = {**run.config, "split": run.config["split"]["name"]}
    saved = {"recipe": arguments.recipe, "config": config, "training_seconds": seconds, "episodes": found}
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"{out.name}.json"
    path.write_text(without_folders(json.dumps(saved, indent=1, ensure_ascii=False)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
