"""Learning rates as plain functions of the epoch (as torch's schedulers of the same names) or of the step.

A function needs no state, so a resumed run has the same rate at the same epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def epoch_rate(
    schedule: str,
    base: float,
    epoch: int,
    *,
    epochs: int,
    step_size: int = 10,
    milestones: Sequence[float] = (),
    gamma: float = 0.1,
) -> float:
    """Return the learning rate of an epoch.

    Args:
        schedule: ``none``, ``step``, ``multistep``, ``exponential`` or ``cosine`` (to 0 after the last epoch).
        base: rate of the first epoch.
        epoch: from 0.
        epochs: of the whole training, for ``cosine``.
        step_size: epochs between two steps of ``step``.
        milestones: epochs of ``multistep``.
        gamma: factor of a step, or of an epoch of ``exponential``.

    Raises:
        ValueError: for an unknown schedule.
    """
    if schedule == "none":
        return base
    if schedule == "step":
        return float(base * gamma ** (epoch // step_size))
    if schedule == "multistep":
        return float(base * gamma ** sum(epoch >= milestone for milestone in milestones))
    if schedule == "exponential":
        return float(base * gamma**epoch)
    if schedule == "cosine":
        return base * (1 + math.cos(math.pi * epoch / epochs)) / 2
    raise ValueError(f"no schedule is called {schedule}")


def step_rate(schedule: str, base: float, step: int, total: int) -> float:
    """Return the learning rate of a step.

    Args:
        schedule: ``constant``, ``linear`` or ``cosine`` to 0, or ``onecycle`` (warm-up over the first fifth, then
            linearly to 0).
        base: the highest rate.
        step: from 0.
        total: steps of the whole training.

    Raises:
        ValueError: for an unknown schedule.
    """
    done, warm = step / total, 0.2
    if schedule == "constant":
        return base
    if schedule == "linear":
        return base * (1 - done)
    if schedule == "cosine":
        return base * (1 + math.cos(math.pi * done)) / 2
    if schedule == "onecycle":
        return base * min((done + 1 / total) / warm, (1 - done) / (1 - warm), 1.0)
    raise ValueError(f"no schedule is called {schedule}")
