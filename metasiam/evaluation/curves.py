"""Accuracy over adaptation steps: does adapting help, from which step on does it hurt?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from metasiam.data.domains import DomainSet
from metasiam.evaluation.adaptation import adaptation_path, averaged
from metasiam.evaluation.draws import Draws
from metasiam.evaluation.embedded import embed_all
from metasiam.evaluation.plans import ChosenPlan
from metasiam.evaluation.resampling import as_percent
from metasiam.evaluation.statistics import bootstrap_mean
from metasiam.models.files import EmbedderInfo
from metasiam.options.evaluation import ProtocolSettings
from metasiam.progress import SILENT, Listener
from metasiam.training.machine import generator_for
from metasiam.wording import counted


def accuracy_over_steps(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    draws: Draws,
    plans: Mapping[str, ChosenPlan],
    settings: ProtocolSettings,
    *,
    listener: Listener = SILENT,
) -> dict[str, list[dict[str, Any]]]:
    """Return held-out triplet accuracy after each of ``settings.curve_steps``, for every number of images.

    What is shown is chosen nowhere: it is measured on test images, after the plans were chosen.

    Args:
        embedder: unadapted, on the domain set's device.
        info: normalisation and distance.
        domains: the images.
        draws: the same as the rest of the evaluation's; its triplets of the first regime are used (the closed one has
            a tenth of the other's images to embed after every step).
        plans: rate, trained part and average, by number of images; the steps are those of the curve.
        settings: seed, steps and bootstrap samples.
        listener: told how far it is.

    Returns:
        By key of ``evaluation.json`` (``"5"``, ``"all"``): ``[{"steps", "triplet_accuracy": mean}, …]``.
    """
    steps_shown = sorted(set(settings.curve_steps))
    tasks = [task for task in draws.tasks if task.part == "held_out"]
    held_out = {task.domain: task for task in tasks if task.regime == tasks[0].regime}
    curves: dict[str, list[dict[str, Any]]] = {}
    for shots, images in draws.shots.items():
        plan = plans[shots].plan
        found: dict[int, list[float]] = {steps: [] for steps in steps_shown}
        for number, (domain, own) in enumerate(images.items()):
            listener.progress(f"accuracy over steps, {counted(shots, 'image')}", number, len(images))
            triplets = held_out[domain].triplets
            # The same stream as the adaptation that was scored: a curve that ends at the plan's steps ends at its
            # result. Another length draws other batches.
            generator = generator_for("cpu", settings.seed, "adaptation", domain, shots)
            negatives = draws.adaptation_negatives
            path = adaptation_path(embedder, info, domains, own, negatives, plan, generator, at=steps_shown)
            for steps, module in path:
                part_way = averaged(embedder, module, plan.average)
                embedded = embed_all(part_way, info, domains, [triplets], mirror=settings.mirror)
                found[steps].append(float(embedded.triplets_right(triplets).double().mean()))
        generator = generator_for("cpu", settings.seed, "bootstrap", "curve", shots)
        curves[shots] = [
            {
                "steps": steps,
                "triplet_accuracy": as_percent(
                    bootstrap_mean(torch.tensor(values), generator, resamples=settings.bootstrap)
                ),
            }
            for steps, values in found.items()
        ]
    return curves
