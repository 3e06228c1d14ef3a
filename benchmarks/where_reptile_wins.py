"""Accuracy over gradient steps of adaptation, for several trainings of several methods: does Reptile adapt better?

    python -m benchmarks.where_reptile_wins measure --data folder:CIFAR100 --shots 1,5,20 --name cifar100-steps \
        classic=runs/classic-0,runs/classic-1,runs/classic-2 reptile=runs/reptile-0,runs/reptile-1,runs/reptile-2
    python -m benchmarks.where_reptile_wins measure … --look edges --name edges-steps
    python -m benchmarks.where_reptile_wins show --name cifar100-steps

Every method gets the same images, triplets, pairs and steps: Adam on all weights, the triplet loss of the balanced
protocol, BatchNorm's statistics frozen. Rate and number of steps are chosen for each method and number of images on
*training* images of validation domains, with the method's first training; zero steps are allowed. The curve over steps
of the held-out domains is at the best rate that takes steps. ``--look`` shows all pictures, the seen domains' negatives
too, as the networks have never seen any: ``edges`` (how steep brightness is) or ``inverted``. What is measured already
stands in the result file, and is not measured again. ``show`` prints the tables of the documentation and draws its
figure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

import metasiam as ms
from benchmarks.harness import RESULTS, machine
from benchmarks.recipe_search import training_images_only
from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split
from metasiam.evaluation.adaptation import AdaptationPlan, adaptation_path
from metasiam.evaluation.draws import Draws, draw_protocol
from metasiam.evaluation.embedded import embed_all
from metasiam.evaluation.resampling import as_percent
from metasiam.evaluation.statistics import bootstrap_mean, over_trainings, paired_difference
from metasiam.evaluation.verification import best_threshold
from metasiam.models.files import load_embedder
from metasiam.options.evaluation import ProtocolSettings, Shots, read_shots
from metasiam.reports.numbers import shots_order
from metasiam.reports.style import FAINT, in_house_style, save_figure, series_style, upright_grid_off
from metasiam.training.machine import generator_for, tune_allocator

#: Numbers of steps that are asked about, and rates tried, by whether images are few or all.
STEPS = {"few": (0, 1, 2, 5, 10), "all": (0, 5, 10, 20, 30)}
RATES = {"few": (3e-4, 1e-3), "all": (1e-3,)}
#: Triplets in a step, as the balanced protocol has them.
BATCH = {"few": 32, "all": 128}
#: Validation domains to choose on, as the protocol does; test images of each domain to answer about.
CHOICE_DOMAINS, TESTED = 4, 40
METRICS = ("triplets", "pairs")
LOOKS = ("plain", "edges", "inverted")


def looking(domains: DomainSet, look: str) -> DomainSet:
    """Return the set with all its pictures changed."""
    if look == "inverted":
        return replace(domains, images=255 - domains.images, source=f"{domains.source}, inverted")
    if look == "edges":
        parts = [_edges(block) for block in torch.split(domains.images, 4096)]
        return replace(domains, images=torch.cat(parts), source=f"{domains.source}, edges")
    return domains


def _edges(images: Tensor) -> Tensor:
    """Return how steep each channel of uint8 [B, C, H, W] is (Sobel's gradient), likewise in 0..255."""
    slope = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
    channels = images.shape[1]
    padded = torch.nn.functional.pad(images.float(), (1, 1, 1, 1), mode="replicate")
    across, down = (
        torch.nn.functional.conv2d(padded, kernel.expand(channels, 1, 3, 3), groups=channels)
        for kernel in (slope, slope.t())
    )
    return torch.hypot(across, down).clamp(0, 255).round().to(torch.uint8)


def fewer_tests(domains: DomainSet, of: Sequence[int], count: int) -> DomainSet:
    """Return the set with only the first so many test images of some domains: each is embedded after many steps."""
    keep = torch.ones(len(domains.images), dtype=torch.bool)
    for domain in of:
        keep[domains.pool([domain], "test").images.cpu()[count:]] = False
    return replace(domains, images=domains.images[keep], labels=domains.labels[keep], is_test=domains.is_test[keep])


def kind_of(shots: Shots) -> str:
    return "all" if shots == "all" else "few"


def curves(weights: Path, domains: DomainSet, draws: Draws, shots: Shots, rate: float) -> list[list[list[float]]]:
    """Return by domain, number of steps (``STEPS``) and metric (``METRICS``) the share of right answers."""
    embedder, info = load_embedder(weights)
    plan = AdaptationPlan(rate=rate, batch=BATCH[kind_of(shots)])
    found: list[list[list[float]]] = []
    for domain, own in draws.shots[str(shots)].items():
        task = next(task for task in draws.tasks if task.domain == domain)
        generator = generator_for("cpu", 0, "adaptation", domain, str(shots))
        negatives = draws.adaptation_negatives
        steps = STEPS[kind_of(shots)]
        path = adaptation_path(embedder, info, domains, own, negatives, plan, generator, at=steps)
        found.append([])
        for _, module in path:
            embedded = embed_all(module, info, domains, [task.images])
            scores = embedded.similarity(task.pairs.first, task.pairs.second)
            triplets = float(embedded.triplets_right(task.triplets).double().mean())
            found[-1].append([round(triplets, 5), round(best_threshold(scores, task.pairs.same)[1], 5)])
    return found


def choose(weights: Path, domains: DomainSet, draws: Draws, shots: Shots) -> dict[str, Any]:
    """Return the best rate that takes steps, the best number of steps at it (0: none help), and all that was tried."""
    kind = kind_of(shots)
    tried = {}
    for rate in RATES[kind]:
        tried[rate] = torch.tensor(curves(weights, domains, draws, shots, rate))[:, :, 0].mean(0)
    rate = max(tried, key=lambda rate: float(tried[rate][1:].max()))
    return {
        "rate": rate,
        "steps": STEPS[kind][int(tried[rate].argmax())],
        "tried": {str(rate): [round(100 * value, 2) for value in row.tolist()] for rate, row in tried.items()},
    }


def measure(arguments: argparse.Namespace) -> None:
    """Measure what the result file lacks, and add it."""
    tune_allocator()
    domains = looking(ms.load_domains(arguments.data), arguments.look)
    split = ms.split_domains(domains, held_out=arguments.held_out, validation=arguments.validation)
    chosen_on = split.validation[:: max(len(split.validation) // CHOICE_DOMAINS, 1)][:CHOICE_DOMAINS]
    settings = ProtocolSettings(shots=read_shots(arguments.shots), regimes=("closed",), seen=False, episodes=0)
    asked = fewer_tests(training_images_only(domains, chosen_on), chosen_on, 2 * TESTED)
    to_choose = draw_protocol(asked, Split(split.seen, (), chosen_on, "choice"), settings)
    tested = fewer_tests(domains, split.held_out, TESTED)
    draws = draw_protocol(tested, split, settings)
    file = RESULTS / f"{arguments.name}.json"
    value: dict[str, Any] = {"look": arguments.look, "machine": machine(), "methods": {}}
    if file.is_file():
        value = json.loads(file.read_text())
    value |= {"tasks": [domains.names[domain] for domain in split.held_out], "steps": STEPS, "metrics": METRICS}
    for shots in settings.shots:
        for name, runs in (text.split("=") for text in arguments.methods):
            folders = [Path(run) for run in runs.split(",")]
            record = value["methods"].setdefault(name, {}).setdefault(str(shots), {"trainings": []})
            if "choice" not in record:
                record["choice"] = choose(folders[0], asked, to_choose, shots)
            for folder in folders[len(record["trainings"]) :]:
                record["trainings"].append(curves(folder, tested, draws, shots, record["choice"]["rate"]))
                file.write_text(json.dumps(value) + "\n")
            print(name, shots, record["choice"], flush=True)


def chosen(record: dict[str, Any], steps: Sequence[int], metric: str) -> tuple[Tensor, Tensor]:
    """Return float64 [trainings, tasks] shares unadapted, and after the steps that validation domains chose."""
    values = torch.tensor(record["trainings"], dtype=torch.float64)[..., METRICS.index(metric)]
    return values[..., 0], values[..., steps.index(record["choice"]["steps"])]


def table(value: dict[str, Any], metric: str) -> str:
    """Return, in Markdown, what each method reaches with its chosen steps, its gain, and how far it is from classic."""
    methods = value["methods"]
    first = next(iter(methods))
    lines = ["| images | method | as it is | rate, steps | adapted | gain | ahead of " + first + " |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for shots in sorted(methods[first], key=shots_order):
        steps = value["steps"][kind_of(shots if shots == "all" else int(shots))]
        base = chosen(methods[first][shots], steps, metric)[1]
        for name, records in methods.items():
            before, after = chosen(records[shots], steps, metric)
            choice = records[shots]["choice"]
            how = f"{choice['rate']:g}, {choice['steps']}" if choice["steps"] else "none"
            gain = _difference(after, before, paired=True)
            ahead = "" if name == first else _difference(after, base)
            lines.append(f"| {shots} | {name} | {_mean(before)} | {how} | {_mean(after)} | {gain} | {ahead} |")
    return "\n".join(lines)


@in_house_style
def figure_of(value: dict[str, Any]) -> Figure:
    """Draw triplets over steps, a panel for each number of images, means over trainings and tasks."""
    methods = value["methods"]
    kinds = sorted(next(iter(methods.values())), key=shots_order)
    figure = Figure(figsize=(7.2, 1.0 + 2.3 * ((len(kinds) + 1) // 2)), layout="constrained")
    panels = figure.subplots((len(kinds) + 1) // 2, 2, sharey=True, squeeze=False).flatten()
    for axes, shots in zip(panels, kinds, strict=False):
        steps = value["steps"][kind_of(shots if shots == "all" else int(shots))]
        for place, (name, records) in enumerate(methods.items()):
            shares = torch.tensor(records[shots]["trainings"], dtype=torch.float64)[..., 0]
            style = series_style(place)
            means = (100 * shares.mean((0, 1))).tolist()
            label = f"{name}, rate {records[shots]['choice']['rate']:g}"
            axes.plot(steps, means, color=style.colour, linestyle=style.dashes, marker=style.marker, label=label)
        axes.set_title("all images" if shots == "all" else f"{shots} image{'s' * (shots != '1')}")
        axes.set_xticks(steps)
        axes.legend(fontsize=7.5)
        upright_grid_off(axes)
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    figure.supxlabel("steps of Adam", fontsize=9, color=FAINT)
    figure.supylabel("% of closed triplets right", fontsize=9, color=FAINT)
    return figure


def _mean(values: Tensor) -> str:
    found = bootstrap_mean(values.mean(0), generator_for("cpu", 0, "bootstrap"))
    found = as_percent(over_trainings(found, values.mean(1)))
    return f"{found['mean']:.1f} [{found['ci95'][0]:.1f}, {found['ci95'][1]:.1f}]"


def _difference(first: Tensor, second: Tensor, *, paired: bool = False) -> str:
    """Return first − second of [trainings, tasks]; ``paired``: both are of the same trainings."""
    if paired:
        first, second = first - second, torch.zeros_like(first)
    sides = [list(side.t().unsqueeze(2)) for side in (first, second)]
    found = paired_difference(sides[0], sides[1], generator_for("cpu", 0, "paired"))
    low, high = (100 * bound for bound in found["ci95"])
    return f"{100 * found['difference']:+.1f} [{low:+.1f}, {high:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("measure", "show"))
    parser.add_argument("methods", nargs="*", help="NAME=RUN,RUN,…; the first one is what others are compared with")
    parser.add_argument("--data", default="folder:CIFAR100")
    parser.add_argument("--held-out", type=int, default=10)
    parser.add_argument("--validation", type=int, default=10)
    parser.add_argument("--look", choices=LOOKS, default="plain")
    parser.add_argument("--shots", default="1,5,20,all")
    parser.add_argument("--name", required=True, help="results go to NAME.json")
    arguments = parser.parse_intermixed_args()
    if arguments.what == "measure":
        measure(arguments)
        return
    value = json.loads((RESULTS / f"{arguments.name}.json").read_text())
    for metric in METRICS:
        print(f"\n{metric}, closed\n\n{table(value, metric)}")
    save_figure(figure_of(value), Path(f"docs/figures/{arguments.name}.svg"))


if __name__ == "__main__":
    main()
