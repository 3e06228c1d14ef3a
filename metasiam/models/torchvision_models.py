"""torchvision's networks by name: ``resnet18`` untrained, ``resnet18.IMAGENET1K_V1`` with those weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from metasiam.data.names import close_to
from metasiam.data.preparation import USUAL, Preparation
from metasiam.errors import MetaSiamError
from metasiam.models.architecture import Architecture, Feeding
from metasiam.models.backbone import Backbone, Size

#: What two of them must be told to have no second head.
_MORE: dict[str, dict[str, Any]] = {
    name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")
}
_PHOTOGRAPHS = "ImageNet photographs (torchvision)"
#: Networks that take one size only; the others take any.
_ONE_SIZE = ("vit_", "maxvit")


def architecture(name: str) -> Architecture:
    """Return what a name of torchvision's stands for.

    Args:
        name: of a classifier of ``torchvision.models``; behind a dot, the name of weights, or ``DEFAULT``.

    Raises:
        MetaSiamError: for a name that torchvision does not have.
    """
    from torchvision import models

    plain, dot, tag = name.partition(".")
    known = models.list_models(module=models)
    if plain not in known:
        raise MetaSiamError(f"torchvision has no network '{plain}'.{close_to(plain, known)}")
    choices = models.get_model_weights(plain)
    weights = choices["DEFAULT"]
    if dot:
        named = {one.upper(): one for one in (*choices.__members__, "DEFAULT")}
        if tag.upper() not in named:
            raise MetaSiamError(f"torchvision's {plain} has no weights '{tag}'. It has: {', '.join(named.values())}.")
        weights = choices[named[tag.upper()]]
    feeding = _feeding(weights)
    takes = feeding.image_size if plain.startswith(_ONE_SIZE) or dot else None
    return Architecture(
        build=partial(_build, plain, takes),
        feeding=feeding,
        pretrain=partial(_pretrain, plain, weights) if dot else None,
        resizes=takes is not None,
    )


def _feeding(weights: Any) -> Feeding:
    """Return how pictures were shown to a network in training: torchvision's own evaluation, in our words."""
    how = weights.transforms()
    (side,), (shorter,) = how.crop_size, how.resize_size
    cut = Preparation(crop=side, crop_of=shorter) if shorter > side else USUAL
    return Feeding((side, side), tuple(how.mean), tuple(how.std), cut, _PHOTOGRAPHS)


def _build(name: str, takes: Size | None, channels: int, image_size: Size) -> nn.Module:
    from torchvision.models import get_model

    if channels not in (1, 3):
        raise ValueError(f"torchvision's networks take 1 or 3 channels, not {channels}")
    more = {"image_size": takes[0]} if takes is not None and name.startswith("vit_") else _MORE.get(name, {})
    network = without_classifier(get_model(name, weights=None, **more))
    return Backbone(network, channels, image_size, takes=takes, repeated=True)


def without_classifier(network: nn.Module) -> nn.Module:
    """Take a classifier's last layer off, in place: what comes out are the features in front of it."""
    linear = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    if linear and linear[-1].partition(".")[0] in ("fc", "classifier", "head", "heads"):
        network.set_submodule(linear[-1], nn.Identity())
    else:  # SqueezeNet's is a convolution
        network.set_submodule("classifier", nn.AdaptiveAvgPool2d(1))
    return network


def _pretrain(name: str, weights: Any, module: nn.Module) -> None:
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except OSError as error:  # URLError and ConnectionError are OSErrors
        raise MetaSiamError(
            f"{name}'s ImageNet weights are not in the cache ({torch.hub.get_dir()}/checkpoints) and cannot be "
            f"downloaded ({error}). Put the file {weights.url.rsplit('/', 1)[-1]} there, or give it with --init."
        ) from error
    missing = module.backbone.load_state_dict(state, strict=False).missing_keys  # type: ignore[union-attr]
    if missing:
        raise MetaSiamError(f"{weights.url.rsplit('/', 1)[-1]} is not of {name}: it has no {missing[0]}.")


def _pretrain_resnet18(module: nn.Module) -> None:
    from torchvision.models import ResNet18_Weights

    _pretrain("resnet18", ResNet18_Weights.IMAGENET1K_V1, module)


#: ResNet-18 under the names that it had before all the others had one; images keep their size.
RESNET18 = {
    "resnet18": Architecture(build=partial(_build, "resnet18", None)),
    "resnet18-imagenet": Architecture(
        build=partial(_build, "resnet18", None),
        feeding=Feeding((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), trained_on=_PHOTOGRAPHS),
        pretrain=_pretrain_resnet18,
    ),
}
