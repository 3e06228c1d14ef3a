"""A fiftieth of the published Reptile training with its learning curve, next to the published figures task by task.

    python -m benchmarks.published_reptile train --data folder:CIFAR100 --out runs/published
    python -m benchmarks.published_reptile measure --data folder:CIFAR100 --out runs/published
    python -m benchmarks.published_reptile show

``train`` makes the training of ``metasiam reptile`` with its defaults (the published settings: single-domain tasks, 30
inner epochs of 128 triplets, meta-step 0.01 → 0), shortened to 200 iterations of a ResNet-20, and keeps the weights on
the way. ``measure`` does with each of them what the published figures were made by: held-out domains, one at a time,
adapted to with 30 steps of Adam at 0.001 on batches of 128 triplets of all their training images; then triplets and
pairs of test images with negatives of seen domains, at the published threshold 0.7 and at the best one in hindsight. It
asks 500 of each where the published figures had 50. Nothing is chosen. ``show`` prints the tables of the documentation
and draws its figure.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import metasiam as ms
from benchmarks.harness import RESULTS, machine
from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split
from metasiam.evaluation.adaptation import AdaptationPlan, adaptation_path
from metasiam.evaluation.draws import Draws, TaskDraw, draw_protocol
from metasiam.evaluation.embedded import EmbeddedImages, embed_all
from metasiam.evaluation.resampling import Mean, as_percent
from metasiam.evaluation.statistics import bootstrap_mean, paired_difference
from metasiam.evaluation.verification import best_threshold, pairs_right
from metasiam.learners.context import prepare
from metasiam.learners.reptile import Reptile
from metasiam.models.files import EmbedderInfo, load_embedder, save_embedder
from metasiam.options.evaluation import ProtocolSettings
from metasiam.options.reptile import ReptileOptions
from metasiam.reports.inputs import Curve
from metasiam.reports.style import (
    FAINT,
    draw_curves,
    in_house_style,
    label_ends,
    new_figure,
    save_figure,
    series_style,
    upright_grid_off,
)
from metasiam.training.distributed import Processes
from metasiam.training.machine import generator_for, tune_allocator

#: Published after adaptation: triplets and pairs at 0.7 of the last ten classes of CIFAR-100, and the mean triplets.
PUBLISHED = (
    (82, 68), (68, 60), (86, 80), (76, 54), (88, 64), (96, 90), (76, 84), (72, 76), (78, 62), (78, 50),
)  # fmt: skip
PUBLISHED_TRIPLETS = 80.0
#: The published threshold of cosines for Reptile.
THRESHOLD = 0.7
#: Pairs, and triplets, of a task.
QUESTIONS = 500
#: Adaptation steps at which a held-out domain is asked about.
STEPS = (0, 5, 10, 30)


def weights_at(folder: Path, iteration: int) -> Path:
    """Return where the weights after so many iterations are."""
    return folder / f"iteration-{iteration:05d}.safetensors"


def train(domains: DomainSet, split: Split, config: ReptileOptions, kept: Iterable[int], folder: Path) -> None:
    """Train as ``metasiam reptile`` does, and keep the embedder at some iterations."""
    tune_allocator()
    context = prepare(config, domains, split)
    learner = Reptile(config, context, Processes())
    wanted = sorted({0, *kept, config.iterations})
    folder.mkdir(parents=True, exist_ok=True)
    history: list[dict[str, float]] = []
    started = time.perf_counter()
    for iteration in range(config.iterations + 1):
        if iteration in wanted:
            save_embedder(weights_at(folder, iteration), context.embedder, context.info)
            done = {"config": config.as_dict(), "kept": wanted, "history": history, "machine": machine()}
            (folder / "training.json").write_text(json.dumps(done, indent=1) + "\n")
        if iteration == config.iterations:
            break
        loss = float(learner.iterate(iteration, lambda: False))
        seconds = time.perf_counter() - started
        images = (iteration + 1) * learner.images_per_iteration
        history.append({"iteration": iteration + 1, "loss": loss, "images": images, "seconds": seconds})
        print(f"{iteration + 1} of {config.iterations}  loss {loss:.4f}  {images / seconds:,.0f} images/s", flush=True)


def answers(embedded: EmbeddedImages, task: TaskDraw) -> dict[str, float]:
    """Return one task's shares of right answers."""
    scores = embedded.similarity(task.pairs.first, task.pairs.second)
    return {
        "triplets": float(embedded.triplets_right(task.triplets).double().mean()),
        "pairs_at_0.7": float(pairs_right(scores, task.pairs.same, THRESHOLD).double().mean()),
        "pairs_oracle": best_threshold(scores, task.pairs.same)[1],
    }


def measured(embedder: nn.Module, info: EmbedderInfo, domains: DomainSet, draws: Draws) -> list[dict[str, Any]]:
    """Return a row for each held-out domain, regime and number of steps, and for each seen domain, unadapted."""
    asked = [task for task in draws.tasks if task.part == "seen"]
    seen = embed_all(embedder, info, domains, [task.images for task in asked])
    rows: list[dict[str, Any]] = [_row(domains, task, 0, seen) for task in asked]
    for domain, own in draws.shots["all"].items():
        tasks = [task for task in draws.tasks if task.part == "held_out" and task.domain == domain]
        generator = generator_for("cpu", 0, "adaptation", domain, "all")
        negatives = draws.adaptation_negatives
        path = adaptation_path(embedder, info, domains, own, negatives, AdaptationPlan(), generator, at=STEPS)
        for steps, module in path:
            embedded = embed_all(module, info, domains, [task.images for task in tasks])
            rows += [_row(domains, task, steps, embedded) for task in tasks]
    return rows


def _row(domains: DomainSet, task: TaskDraw, steps: int, embedded: EmbeddedImages) -> dict[str, Any]:
    names = {"domain": domains.names[task.domain], "part": task.part, "regime": task.regime, "steps": steps}
    return {**names, **answers(embedded, task)}


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean of each kind of row over its domains, in percent, with 95 % intervals."""
    kinds = list(dict.fromkeys((row["part"], row["regime"], row["steps"]) for row in rows))
    found = []
    for part, regime, steps in kinds:
        of = [row for row in rows if (row["part"], row["regime"], row["steps"]) == (part, regime, steps)]
        found.append({"part": part, "regime": regime, "steps": steps} | {name: _mean(of, name) for name in METRICS})
    return found


METRICS = ("triplets", "pairs_at_0.7", "pairs_oracle")


def _mean(rows: list[dict[str, Any]], name: str) -> Mean:
    values: Tensor = torch.tensor([row[name] for row in rows], dtype=torch.float64)
    return as_percent(bootstrap_mean(values, generator_for("cpu", 0, "bootstrap", name)))


def measure(domains: DomainSet, split: Split, folder: Path, result: Path, only: list[int]) -> None:
    """Measure the kept weights that the result file does not hold yet, and add them to it."""
    training = json.loads((folder / "training.json").read_text())
    settings = ProtocolSettings(shots=("all",), episodes=0, pairs=QUESTIONS, triplets=QUESTIONS)
    draws = draw_protocol(domains, split, settings)
    earlier = json.loads(result.read_text())["points"] if result.is_file() else []
    points = {point["iteration"]: point for point in earlier}
    for iteration in only or training["kept"]:
        if iteration not in points:
            embedder, info = load_embedder(weights_at(folder, iteration))
            rows = measured(embedder, info, domains, draws)
            points[iteration] = {"iteration": iteration, "means": means(rows), "tasks": rows}
            held_out = [mean for mean in points[iteration]["means"] if mean["regime"] == "antidomain"]
            print(iteration, [(m["steps"], *(round(m[n]["mean"], 1) for n in METRICS)) for m in held_out], flush=True)
        value = {"training": training, "points": [points[key] for key in sorted(points)]}
        result.write_text(json.dumps(value, indent=1) + "\n")


def curve_table(points: list[dict[str, Any]]) -> str:
    """Return, in Markdown, what is reached after how many iterations, unadapted and adapted."""
    lines = [
        "| iterations | images | triplet, as it is | adapted | pairs at 0.7, as it is | adapted "
        "| pairs, best threshold, as it is | adapted |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for point in points:
        images = point["iteration"] * 30 * 3 * 128
        cells = [_interval(_found(point, steps)[name]) for name in METRICS for steps in (0, STEPS[-1])]
        lines.append(f"| {point['iteration']} | {images:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def task_table(point: dict[str, Any]) -> str:
    """Return, in Markdown, each held-out domain's adapted figures next to the published ones."""
    lines = ["| held-out class | published: triplet / pairs at 0.7 | here | pairs, best threshold |"]
    lines.append("| --- | --- | --- | --- |")
    rows = [row for row in point["tasks"] if (row["regime"], row["steps"]) == ("antidomain", STEPS[-1])]
    for row, (triplets, pairs) in zip(rows, PUBLISHED, strict=True):
        here = [f"{100 * row[name]:.1f}" for name in METRICS]
        lines.append(f"| {row['domain']} | {triplets} / {pairs} | {here[0]} / {here[1]} | {here[2]} |")
    return "\n".join(lines)


def gains(points: list[dict[str, Any]]) -> str:
    """Return, line by line, what the last weights have over untrained ones on the same held-out domains."""
    lines = []
    for steps in (0, STEPS[-1]):
        for name in METRICS:
            first, last = (
                [
                    torch.tensor([row[name]])
                    for row in point["tasks"]
                    if (row["part"], row["regime"], row["steps"]) == ("held_out", "antidomain", steps)
                ]
                for point in (points[0], points[-1])
            )
            found = paired_difference(last, first, generator_for("cpu", 0, "paired"))
            low, high = (100 * bound for bound in found["ci95"])
            lines.append(f"{name} after {steps} steps: {100 * found['difference']:+.1f} [{low:+.1f}, {high:+.1f}]")
    return "\n".join(lines)


def _found(point: dict[str, Any], steps: int, regime: str = "antidomain") -> dict[str, Any]:
    return next(
        mean for mean in point["means"] if (mean["part"], mean["regime"], mean["steps"]) == ("held_out", regime, steps)
    )


def _interval(mean: Mean) -> str:
    return f"{mean['mean']:.1f} [{mean['ci95'][0]:.1f}, {mean['ci95'][1]:.1f}]"


@in_house_style
def figure_of(points: list[dict[str, Any]]) -> Figure:
    """Draw triplets over iterations, unadapted and adapted, next to the published point."""
    figure, (axes,) = new_figure()
    ends = []
    for place, (label, steps) in enumerate((("as it is", 0), ("adapted", STEPS[-1]))):
        found = [_found(point, steps)["triplets"] for point in points]
        low, high = ([mean["ci95"][side] for mean in found] for side in (0, 1))
        curve = Curve(label, [p["iteration"] for p in points], [mean["mean"] for mean in found], low, high)
        ends += draw_curves(axes, [curve], series_style(place).colour, look=series_style(place), named=True)
    axes.axhline(PUBLISHED_TRIPLETS, color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
    where = (0, PUBLISHED_TRIPLETS)
    axes.annotate(f"published, after 10,000 iterations: {PUBLISHED_TRIPLETS}", where, (2, 4),
                  textcoords="offset points", color=FAINT, fontsize=9)  # fmt: skip
    upright_grid_off(axes)
    axes.set_xlabel("iterations of 30 inner epochs, 11,520 images each")
    axes.set_ylabel("% of triplets right")
    axes.set_title("The published settings, a fiftieth of the way")
    label_ends(figure, axes, ends)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("train", "measure", "show"))
    parser.add_argument("--data", default="folder:CIFAR100")
    parser.add_argument("--held-out", type=int, default=10)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--kept", default="25,50,100", help="iterations whose weights are kept, next to first and last")
    parser.add_argument("--out", type=Path, default=Path("runs/published"), help="folder of the weights")
    parser.add_argument("--only", default="", help="measure these iterations")
    parser.add_argument("--result", type=Path, default=RESULTS / "cifar100-reptile-published.json")
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/published-reptile.svg"))
    arguments = parser.parse_args()
    if arguments.what == "show":
        points = json.loads(arguments.result.read_text())["points"]
        print(curve_table(points), task_table(points[-1]), gains(points), sep="\n\n")
        save_figure(figure_of(points), arguments.figure)
        return
    domains = ms.load_domains(arguments.data)
    split = ms.split_domains(domains, held_out=arguments.held_out)
    if arguments.what == "train":
        config = ReptileOptions(arch=arguments.arch, iterations=arguments.iterations, inner_epochs=30, flip=True)
        train(domains, split, config, map(int, arguments.kept.split(",")), arguments.out)
    else:
        only = [int(word) for word in arguments.only.split(",") if word]
        measure(domains, split, arguments.out, arguments.result, only)


if __name__ == "__main__":
    main()
