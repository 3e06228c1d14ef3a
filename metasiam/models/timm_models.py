"""timm's networks by name: ``resnet18`` untrained, ``resnet18.a1_in1k`` with those weights."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from metasiam.data.names import close_to
from metasiam.data.preparation import USUAL, Preparation
from metasiam.errors import MetaSiamError
from metasiam.models.architecture import Architecture, Feeding
from metasiam.models.backbone import Backbone, Size


def architecture(name: str) -> Architecture:
    """Return what a name of timm's stands for.

    Args:
        name: of a network that timm itself holds; behind a dot, the tag of its weights.

    Raises:
        MetaSiamError: if timm is not installed, or has no such network or weights.
    """
    timm = _library()
    plain, dot, tag = name.partition(".")
    if not timm.models.is_model(plain):  # not what timm would fetch from elsewhere: hf-hub:…, local-dir:…
        raise MetaSiamError(f"timm has no network '{plain}'.{close_to(plain, timm.list_models())}")
    if dot and name not in (tags := timm.list_models(plain, pretrained=True)):
        which = ", ".join(one.partition(".")[2] for one in tags) or "none"
        raise MetaSiamError(f"timm's {plain} has no weights '{tag}'. It has: {which}.")
    config = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    feeding = None if config is None else _feeding(config)
    takes = feeding.image_size if feeding is not None and (dot or config.fixed_input_size) else None
    return Architecture(
        build=partial(_build, plain, takes),
        feeding=feeding,
        pretrain=partial(_pretrain, name) if dot else None,
        resizes=takes is not None,
    )


def _library() -> Any:
    try:
        import timm
    except ImportError as error:
        raise MetaSiamError("--arch timm:… needs timm. Install it with: pip install timm") from error
    return timm


def _feeding(config: Any) -> Feeding:
    """Return how pictures were shown to a network in training: timm's own evaluation, in our words."""
    height, width = config.input_size[1:]
    shorter = round(min(height, width) / config.crop_pct)
    cut = Preparation(crop=min(height, width), crop_of=shorter) if shorter > min(height, width) else USUAL
    about = f"photographs (timm's {config.tag})" if config.tag else "photographs (timm)"
    return Feeding((height, width), tuple(config.mean), tuple(config.std), cut, about)


def _build(name: str, takes: Size | None, channels: int, image_size: Size) -> nn.Module:
    network = _library().create_model(name, pretrained=False, num_classes=0, in_chans=channels)
    return Backbone(network, channels, image_size, takes=takes)


def _pretrain(name: str, module: nn.Module) -> None:
    backbone: Any = module
    try:
        loaded = _library().create_model(name, pretrained=True, num_classes=0, in_chans=backbone.channels)
    except Exception as error:  # the hub has a family of its own for what can go wrong on the way
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise MetaSiamError(
            f"the weights of timm:{name} are not in the cache of huggingface_hub and cannot be downloaded ({reason}). "
            "Try again with a network, or give their file with --init."
        ) from error
    backbone.backbone.load_state_dict(loaded.state_dict())
