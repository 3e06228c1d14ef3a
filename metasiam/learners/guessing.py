"""What a loss is while nothing is learned, and whether a training ever left it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: A loss above this share of guessing's has hardly moved.
_SHARE = 0.98


def guessing_loss(config: Mapping[str, Any]) -> tuple[float, str] | None:
    """Return the loss of guessing and what is guessed at, from a run's ``config.json``; None where there is no such.

    A classifier that gives all classes the same probability has the loss ln(classes); one that answers labelled pairs
    with their share of same ones has that share's entropy.
    """
    options = config["options"]
    loss = options.get("loss")
    if loss == "softmax":
        classes = len(config["split"]["seen"])
    elif loss in ("prototypes", "classifier") or (loss == "balanced-softmax" and "ways" in options):  # of one task
        classes = int(options["ways"])
    elif loss == "bce" and "pairs" in config and options.get("solver") != "svm":
        train = config["pairs"]["train"]
        share = train["same"] / train["pairs"]
        return -share * math.log(share) - (1 - share) * math.log(1 - share), "two answers"
    else:
        return None
    return (math.log(classes), f"{classes} classes: ln {classes}") if classes > 1 else None


def never_learned(config: Mapping[str, Any], loss: float) -> str:
    """Say that a training's last loss is still that of guessing; empty where it is not, or that is not known."""
    found = guessing_loss(config)
    if found is None or loss < _SHARE * found[0]:
        return ""
    return (
        f"note: the loss ended at {loss:.3g}, which is that of guessing ({found[1]} = {found[0]:.3g}): hardly anything "
        "was learned. Train longer, or try another --lr."
    )
