"""Which embedder a gallery is made with, and whether what is at hand is that one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from metasiam import catalogue
from metasiam.catalogue import OWN
from metasiam.errors import MetaSiamError, OtherArchitectureError, UnknownArchitectureError
from metasiam.gallery.enrolled import EMBEDDINGS, EmbedderKey, fingerprint_of
from metasiam.gallery.given import InMemory, Picture
from metasiam.gallery.pictures import prepared_pixels
from metasiam.models import architecture, build
from metasiam.models.files import EmbedderInfo, load_embedder, read_embedder, usual_feeding
from metasiam.models.own import Embedder, own_embedder
from metasiam.progress import SHOWN_OR_WARNED, SILENT, Listener, heard
from metasiam.runs import Run

#: What galleries take as an embedder: a run or its folder, a weights file, any module, or a module and its info.
EmbedderLike = str | os.PathLike[str] | Run | nn.Module | tuple[nn.Module, EmbedderInfo]


def embedder_from(
    given: EmbedderLike | None,
    *,
    key: EmbedderKey | None = None,
    pictures: Sequence[Picture] = (),
    listener: Listener = SHOWN_OR_WARNED,
) -> tuple[nn.Module, EmbedderKey]:
    """Return an embedder in evaluation mode from whatever somebody hands over, and which it is.

    Args:
        given: see ``EmbedderLike``; of a module, a copy is used. None takes that of ``key``.
        key: the gallery's embedder, if there is a gallery already: it must be that one.
        pictures: what a module without an image size, or a normalisation, of its own is fitted to.
        listener: told what of a weights file is left out.

    Raises:
        MetaSiamError: if there is no such embedder, it is another than ``key`` says, or does not take such pictures.
    """
    if isinstance(given, Run) and given.own is not None and given.own.arch is not None:
        module, info = load_embedder(given.path, build=given.own.arch, listener=listener)
        return _known(module, EmbedderKey(_place(given.path), fingerprint_of(module), info), key)
    if isinstance(given, Run):
        return open_embedder(given.path, key=key, listener=listener)
    if isinstance(given, nn.Module):
        module = own_embedder(given).eval()
        info = key.info if key is not None else _info_of(module, pictures)
        return _known(module, EmbedderKey("", fingerprint_of(module), info), key)
    if isinstance(given, tuple):
        module, info = given
        return _known(module.eval(), EmbedderKey("", fingerprint_of(module), info), key)
    return open_embedder(None if given is None else Path(given), key=key, listener=listener)


def _known(module: nn.Module, found: EmbedderKey, key: EmbedderKey | None) -> tuple[nn.Module, EmbedderKey]:
    if key is not None and found.fingerprint != key.fingerprint:
        raise MetaSiamError(
            f"this {found.info.arch.removeprefix(OWN)} has other weights than the embedder that the gallery was made "
            "with. Pass that one, or enroll again into a new gallery."
        )
    return module, found if key is None else replace(found, info=key.info)


def _info_of(module: Embedder, pictures: Sequence[Picture]) -> EmbedderInfo:
    """Say how somebody's module is fed: what it does not say itself is taken from the pictures."""
    images = [picture.image for picture in pictures if isinstance(picture, InMemory)]
    size = module.image_size
    if size is None:
        sizes = {image.size for image in images}
        if len(sizes) != 1 or len(images) < len(pictures):
            raise MetaSiamError(
                f"{module.name} does not say which size of pictures it takes. Say it: "
                "Embedder(module, image_size=…, mean=…, std=…)."
            )
        width, height = sizes.pop()
        size = height, width
    grey = bool(images) and len(images) == len(pictures) and all(image.mode == "L" for image in images)
    channels = len(module.mean) if module.mean is not None else 1 if grey else 3
    module.measure(channels, size)
    unknown = (0.0,) * channels, (1.0,) * channels
    info = replace(module.info(channels, size, *unknown), mirrored=False)  # nobody says that a mirrored one is the same
    if module.mean is not None:
        return info
    if not pictures:
        raise MetaSiamError(
            f"{module.name} does not say how pictures are normalised. Say it: Embedder(module, mean=…, std=…)."
        )
    fractions = prepared_pixels(pictures, info).float().div(255).transpose(0, 1).flatten(1)
    mean, std = fractions.mean(1), fractions.std(1).clamp(min=1e-3)
    return replace(info, mean=tuple(round(m, 4) for m in mean.tolist()), std=tuple(round(s, 4) for s in std.tolist()))


@heard
def open_embedder(
    weights: str | Path | None,
    *,
    arch: str | None = None,
    key: EmbedderKey | None = None,
    listener: Listener | None = SHOWN_OR_WARNED,
) -> tuple[nn.Module, EmbedderKey]:
    """Load an embedder, and check that it is a gallery's.

    Args:
        weights: run folder or weights file; None takes the gallery's own, or those that ``arch`` names.
        arch: embedder name, for weights that do not say it; one that names weights (``resnet18-imagenet``,
            ``timm:NAME.TAG``) needs none.
        key: the gallery's embedder, if there is a gallery already.
        listener: told what of a weights file is left out; None is silent.

    Raises:
        MetaSiamError: if there is no such embedder, or it is another than the gallery's.
    """
    catalogue.give(arch)
    if key is not None:
        return _open_again(weights, arch, key, listener or SILENT)
    return _open(weights, arch, listener or SILENT)


def _open(weights: str | Path | None, arch: str | None, listener: Listener) -> tuple[nn.Module, EmbedderKey]:
    """Load an embedder; ``arch`` may be a gallery's word."""
    if weights is None:
        embedder, info = _named(arch)
    else:
        embedder, info = read_embedder(weights, arch=arch, listener=listener)
    return embedder, EmbedderKey(_place(weights), fingerprint_of(embedder), info)


def _named(arch: str | None) -> tuple[nn.Module, EmbedderInfo]:
    """Return an embedder whose name says its weights, as it is fed.

    Raises:
        MetaSiamError: if the name says none, or they cannot be had.
    """
    named = None if arch is None else architecture(arch)
    if arch is None or named is None or (named.pretrain is None and not catalogue.is_place(arch)):
        without = "" if arch is None else f"{arch} comes without weights: "
        raise MetaSiamError(
            f"{without or 'there is no embedder yet. '}"
            f"{'give' if without else 'Give'} --weights RUN, or --arch resnet18-imagenet (downloaded)."
        )
    if named.feeding is not None:
        fed = usual_feeding(arch, 3)
        embedder = build(arch, named, 3, fed["image_size"], pretrained=True).eval()
        return embedder, EmbedderInfo(arch=arch, trained_on=named.feeding.trained_on, **fed)
    own = build(arch, named, 3, (224, 224), pretrained=True).eval()
    if not isinstance(own, Embedder) or own.image_size is None or own.mean is None or own.std is None:
        raise MetaSiamError(
            f"{arch} does not say how pictures are fed to it. Let it return ms.Embedder(module, image_size=…, mean=…, "
            "std=…)."
        )
    return own, replace(own.info(len(own.mean), own.image_size, own.mean, own.std), arch=arch)


def _place(weights: str | Path | None) -> str:
    return "" if weights is None else str(Path(weights).absolute())


def _open_again(
    weights: str | Path | None, arch: str | None, key: EmbedderKey, listener: Listener
) -> tuple[nn.Module, EmbedderKey]:
    """Load a gallery's embedder from where it was, or from where it is said to be now."""
    if key.info.arch == EMBEDDINGS:
        raise MetaSiamError(
            "the gallery was made of embeddings, not of pictures. Pass embeddings from Python: gallery.identify(…)."
        )
    if key.info.arch.startswith(OWN) and weights is None:
        raise MetaSiamError(
            f"the gallery was made with a custom module, {key.info.arch.removeprefix(OWN)}. Use it from Python: "
            "load_gallery(path, embedder=module)."
        )
    if arch is not None and arch != key.info.arch:
        raise MetaSiamError(
            f"the gallery was made with a {key.info.arch}, not with {arch}. Omit --arch, or enroll into a new gallery."
        )
    place = weights if weights is not None else key.path or None
    if weights is None and key.path and not Path(key.path).exists():
        raise MetaSiamError(
            f"the gallery's embedder is no longer in {key.path}. Say where it is now with --weights; enroll keeps the "
            "new place when it adds pictures."
        )
    try:
        try:
            embedder, found = _open(place, None if place is not None else key.info.arch, listener)
        except UnknownArchitectureError:
            embedder, found = _open(place, key.info.arch, listener)
        same = found.fingerprint == key.fingerprint
    except OtherArchitectureError:
        same = False
    if same:
        return embedder, found
    if place is None or _place(place) == key.path:
        raise MetaSiamError(
            f"the weights in {place or key.info.arch} are not those that the gallery was made with: they were trained "
            "or changed since. Pass a copy of the old ones with --weights, or enroll again into a new gallery."
        )
    if key.path and not Path(key.path).exists():
        raise MetaSiamError(
            f"{place} is another embedder than the gallery was made with, which was in {key.path}. Say where that is "
            "now with --weights, or enroll again into a new gallery."
        )
    raise MetaSiamError(
        f"{place} is another embedder than the gallery was made with ({key.path or key.info.arch}). Omit --weights, or "
        "enroll again into a new gallery."
    )
