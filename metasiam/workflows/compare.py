"""Methods compared on the same tasks, adaptation images and pairs; trained here under one budget, or before."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import nn

from metasiam.arguments import checked
from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split
from metasiam.errors import MetaSiamError
from metasiam.evaluation.comparison import compare_evaluations
from metasiam.evaluation.draws import Draws, draw_protocol
from metasiam.evaluation.protocol import evaluate
from metasiam.evaluation.result import Evaluation
from metasiam.evaluation.trainings import check_poolable, pool
from metasiam.learners.context import prepare
from metasiam.measurable import embedder_of
from metasiam.methods import options_class
from metasiam.option_values import shown
from metasiam.options.evaluation import ProtocolSettings
from metasiam.options.training import options_of
from metasiam.progress import SHOWN_OR_WARNED, SILENT, Listener, Part, heard
from metasiam.reports.python import (
    answer_of,
    as_html,
    as_text,
    figure_of,
    frame_of,
    named,
    records_of,
    write_comparison_report,
)
from metasiam.runs import Run
from metasiam.trained_on import check_comparable
from metasiam.training.machine import choose_device
from metasiam.training.state import prime, trainable


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What a comparison found.

    Attributes:
        data: the dict of ``compare.json``; its ``trainings`` are the evaluations behind the means of methods that were
            trained several times.
        evaluations: each method's evaluation, with the answers behind its numbers.
        settings: the ``config.json`` of each method that was trained here: the first training's, with all seeds.
    """

    data: dict[str, Any]
    evaluations: dict[str, Evaluation]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Comparison({named(self.evaluations)}: {answer_of(self.data)})"

    def _repr_html_(self) -> str:
        """Return the answer and its tables for a notebook."""
        return as_html(self.data)

    def table(self) -> str:
        """Return the tables of the comparison and its answer as text."""
        return as_text(self.data)

    def plot(self, figure: str | None = None) -> Figure:
        """Return a matplotlib figure of all methods; see ``Evaluation.plot``.

        Raises:
            MetaSiamError: if the numbers do not allow it.
        """
        return figure_of(self.evaluations, figure)

    def report(self, folder: str | Path, *, domains: DomainSet | None = None, overwrite: bool = False) -> Path:
        """Write the page, ``compare.json``, ``compare.md``, ``tasks.csv`` and the figures; return the page's path.

        Args:
            folder: is made when missing.
            domains: the data, for pictures of right and wrong answers; None leaves them out.
            overwrite: replace the files of an earlier report there.

        Raises:
            MetaSiamError: if it holds a report without ``overwrite``, or something else, or cannot be written.
        """
        return write_comparison_report(
            Path(folder), self.data, self.evaluations, settings=self.settings, domains=domains, overwrite=overwrite
        )

    def records(self) -> list[dict[str, Any]]:
        """Return a dict for each method, held-out task, regime and number of images."""
        return records_of(self.data["methods"])

    def to_frame(self) -> Any:
        """Return ``records`` as a ``pandas.DataFrame``.

        Raises:
            MetaSiamError: without pandas.
        """
        return frame_of(self.data["methods"])


@checked
@heard
def compare(
    runs: Mapping[str, Run | nn.Module | Sequence[Run | nn.Module]],
    domains: DomainSet,
    split: Split,
    settings: ProtocolSettings | None = None,
    *,
    draws: Draws | None = None,
    budget: Mapping[str, Any] | None = None,
    device: str = "auto",
    listener: Listener | None = SHOWN_OR_WARNED,
) -> Comparison:
    """Evaluate trained runs on identical draws and compare them pair by pair.

    Args:
        runs: by the name that the report gives them; all trained on this split of these domains. Anybody's modules too,
            as ``evaluate`` takes them: nobody can tell what those were trained on. Several runs of one
            name are trainings of one method, as with other seeds: their means are compared, and the intervals hold the
            chance of training.
        domains: the data.
        split: seen, validation and held-out domains.
        settings: what to measure; default ``ProtocolSettings()``.
        draws: from ``draw_protocol`` with the same three, where they were made before.
        budget: what each method was allowed, for the report.
        device: where to compute.
        listener: told how far it is; by default a terminal or a notebook shows it; None is silent.

    Raises:
        MetaSiamError: if the runs do not belong together.
    """
    settings = settings if settings is not None else ProtocolSettings()
    if not runs:
        raise MetaSiamError("there is no run to compare. Pass at least one, by the name that the report gives it.")
    trainings = {name: _as_list(name, given) for name, given in runs.items()}
    if empty := [name for name, listed in trainings.items() if not listed]:
        raise MetaSiamError(f"{empty[0]} has no run to compare. Pass at least one.")
    for name, listed in trainings.items():
        if len({run.path.resolve() if isinstance(run, Run) else id(run) for run in listed}) < len(listed):
            raise MetaSiamError(f"{name} has the same run twice. Pass each training once.")
    check_comparable((run for run in itertools.chain(*trainings.values()) if isinstance(run, Run)), domains, split)
    if any(len(listed) > 1 for listed in trainings.values()):
        check_poolable(settings)
    draws = draws if draws is not None else draw_protocol(domains, split, settings)
    each: dict[str, list[Evaluation]] = {}
    for name, listed in trainings.items():
        for number, run in enumerate(listed, 1):
            who = name if len(listed) == 1 else f"{name}, training {number} of {len(listed)}"
            embedder, info = embedder_of(run, domains, split)
            told = Part(listener or SILENT, who)
            embedder = embedder.to(choose_device(device))
            found = evaluate(embedder, info, domains, split, settings, draws=draws, listener=told)
            each.setdefault(name, []).append(found)
    evaluations = {name: pool(listed, settings) for name, listed in each.items()}
    data: dict[str, Any] = {
        "schema": 1,
        "budget": {**(budget or {}), **_budget_of(trainings)},
        "methods": {name: evaluation.data for name, evaluation in evaluations.items()},
        "paired": compare_evaluations(evaluations, resamples=settings.bootstrap, seed=settings.seed),
    }
    several = {
        name: [{**_named(run), "evaluation": one.data} for run, one in zip(listed, each[name], strict=True)]
        for name, listed in trainings.items()
        if len(listed) > 1
    }
    return Comparison(data | ({"trainings": several} if several else {}), evaluations, _settings_of(trainings))


def _settings_of(trainings: Mapping[str, Sequence[Run | nn.Module]]) -> dict[str, dict[str, Any]]:
    """Return the ``config.json`` of each method's trainings: the first's, with the seeds of all."""
    found: dict[str, dict[str, Any]] = {}
    for name, listed in trainings.items():
        runs = [run for run in listed if isinstance(run, Run)]
        if not runs:
            continue
        config, seeds = runs[0].config, [run.config["options"].get("seed") for run in runs]
        several = {**config, "options": {**config["options"], "seed": seeds}}
        found[name] = config if len(runs) == 1 else several
    return found


def _named(run: Run | nn.Module) -> dict[str, Any]:
    if isinstance(run, Run):
        return {"run": run.path.name, "seed": run.config["options"].get("seed")}
    return {"run": type(run).__name__, "seed": None}


def _as_list(name: str, given: Run | nn.Module | Sequence[Run | nn.Module]) -> list[Run | nn.Module]:
    """Return a name's trainings.

    Raises:
        MetaSiamError: if there is anything but runs and modules among them.
    """
    runs: list[Run | nn.Module] = []
    for one in given if isinstance(given, tuple | list) else [given]:
        if not isinstance(one, Run | nn.Module):
            raise MetaSiamError(
                f"{name} must be a Run, a torch.nn.Module or a list of them, not {shown(one)}. open_run opens a folder."
            )
        runs.append(one)
    return runs


def _budget_of(trainings: Mapping[str, Sequence[Run | nn.Module]]) -> dict[str, Any]:
    """Return how many images the runs were trained with; of modules it is not known."""
    runs = {name: [run for run in listed if isinstance(run, Run)] for name, listed in trainings.items()}
    images = {name: max(run.images for run in listed) for name, listed in runs.items() if listed}
    if len(images) < len(trainings):
        return {"images_by_method": images} if images else {}
    equal = len(set(images.values())) == 1
    return {"images": next(iter(images.values()))} if equal else {"images_by_method": images}


def options_for_budget(method: str, options: Mapping[str, Any], images: int) -> dict[str, Any]:
    """Return a method's options with as many iterations as ``images`` pay for.

    Raises:
        MetaSiamError: if that is not even one iteration.
    """
    config = options_of(options_class(method), options)
    each = config.images_per_iteration
    if images < each:
        raise MetaSiamError(
            f"--budget-images {images:,} does not pay for one iteration of {method}, which takes {each:,}. Raise it."
        )
    return {**options, "iterations": images // each}


def images_in(
    minutes: float,
    method: str,
    options: Mapping[str, Any],
    domains: DomainSet,
    split: Split,
    listener: Listener = SILENT,
) -> int:
    """Return how many images a method's embedder gets through in so many minutes here, measured, compiling apart."""
    config = options_of(options_class(method), options)
    context = prepare(config, domains, split, listener=listener)
    from metasiam.training.optimizers import adam

    context.embedder.train()
    optimizer = adam(trainable((context.embedder, context.objective)), config.lr, (0.9, 0.999), context.device)
    prime(optimizer)
    guess = int(minutes * 60 * 2)  # steps, at half a second each: only decides whether compiling pays
    step = context.step(optimizer, steps=max(guess, 1))
    generator = context.generator("rate")
    shape = config.batch_shape
    index = context.seen.images[:1].expand(shape).contiguous()
    parameters = context.augmentation.draw(shape, generator)
    for _ in range(3):
        float(step(index, parameters))
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        float(step(index, parameters))
        seconds.append(time.perf_counter() - start)
    rate = math.prod(shape) / sorted(seconds)[len(seconds) // 2]
    return max(int(rate * minutes * 60), math.prod(shape))
