"""Which embedder the drawing app starts with, and its calibration for pairs of drawings."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from metasiam.app.studio import SHIPPED, PairRule, Studio
from metasiam.errors import MetaSiamError
from metasiam.gallery.background import load_background, of_run
from metasiam.gallery.calibrate import calibrate
from metasiam.models.files import load_embedder
from metasiam.progress import SHOWN, SILENT, Listener, heard
from metasiam.training.machine import choose_device


@heard
def open_studio(
    weights: str | Path | None = None,
    *,
    arch: str | None = None,
    device: str = "auto",
    listener: Listener | None = SHOWN,
) -> Studio:
    """Load an embedder and calibrate it for pairs.

    The shipped one comes with its calibration. Others are calibrated on images of the domains that their run was
    trained or chosen with, where these can be loaded; else their stored or a fixed threshold is used, and said.

    Args:
        weights: run folder or weights file; None is the shipped embedder.
        arch: for weights that do not say it.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        listener: told how far it is, and what somebody should know; None is silent.
    """
    place, listener = choose_device(device), listener or SILENT
    if weights is None:
        embedder, info = load_embedder(SHIPPED)
        about = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))
        rule = PairRule(float(about["threshold"]), float(about["slope"]), str(about["learned_on"]))
        return Studio(embedder.to(place), info, rule)
    embedder, info = load_embedder(weights, arch=arch, listener=listener)
    embedder = embedder.to(place)
    background = None
    choice = of_run(Path(weights))
    if choice is not None:
        try:
            background = load_background(choice, embedder, info, mirror=False, listener=listener)
        except MetaSiamError as error:
            listener.note(f"not calibrated: its training images cannot be loaded ({error})")
    rules = calibrate(torch.empty(0, 1), torch.empty(0, dtype=torch.int64), 0, info, background)
    learned_on = "" if background is None else f"images of {background.source}"
    return Studio(embedder, info, PairRule(rules.pair_threshold, rules.pair_slope, learned_on))
