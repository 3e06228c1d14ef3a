"""What can be named, and where it lives. No torch here: the command line and the options read it.

A name is looked up among the rows below, then among the entry points of installed packages (``metasiam.embedders`` and
the like: whoever installed a package trusts it). Both may be read from a file. ``package.module:attribute`` is neither:
it imports whatever it names. So it counts only where somebody gave it to this process (``give``), on the command line
or in Python; a file that says it (weights, ``config.json``, a gallery, a plan) is refused unless the same was given.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from metasiam.errors import MetaSiamError, UnknownArchitectureError


@dataclass(frozen=True)
class Entry:
    """One thing that can be named.

    Attributes:
        name: what people type.
        where: ``module:attribute``; an attribute that is a dict holds it under its name.
        about: one line for people.
        extra: the optional dependency that it needs, as in ``pip install metasiam[extra]``.
    """

    name: str
    where: str
    about: str
    extra: str | None = None

    def load(self) -> Any:
        """Import what the name stands for.

        Raises:
            MetaSiamError: if it cannot be imported.
        """
        found = imported(self.where, self.name)
        return found[self.name] if isinstance(found, Mapping) else found


def _rows(*rows: Entry) -> dict[str, Entry]:
    return {row.name: row for row in rows}


def _koch() -> Iterable[Entry]:
    for norm in ("", "-bn"):
        for bias in ("", "-nobias"):
            for pool in ("", "-pool4"):
                more = [text for on, text in zip((norm, bias, pool), _KOCH_PARTS, strict=True) if on]
                about = "Koch et al.'s network for 105 px" + (f", {', '.join(more)}" if more else "")
                yield Entry(f"koch{norm}{bias}{pool}", "metasiam.models.koch:KOCH_NETWORKS", about)


_KOCH_PARTS = ("with BatchNorm", "no bias in the first convolution", "four poolings")

#: Name → where it is made: a builder ``(channels, image_size) → module``, or an ``Architecture``.
EMBEDDERS: dict[str, Entry] = _rows(
    *(
        Entry(
            f"resnet{depth}",
            "metasiam.models.resnet_cifar:RESNETS_CIFAR",
            f"CIFAR ResNet of {depth} layers, 64 dimensions",
        )
        for depth in (8, 14, 20, 32, 44, 56, 110)
    ),
    Entry("conv4", "metasiam.models.few_shot:Conv4", "four convolutions, the few-shot field's first backbone"),
    Entry("conv4-scales", "metasiam.models.few_shot:Conv4AtScales", "three conv4 that look at three sizes of an image"),
    Entry("resnet12", "metasiam.models.few_shot:ResNet12", "the few-shot field's ResNet-12, 640 dimensions"),
    *_koch(),
    Entry("fisher", "metasiam.models.fisher:FISHER", "Fisher vectors of dense SIFT: statistics, nothing to train"),
    Entry("fisher-256", "metasiam.models.fisher:FISHER", "the same with 256 Gaussians"),
    Entry("resnet18", "metasiam.models.torchvision_models:RESNET18", "torchvision's ResNet-18, untrained"),
    Entry(
        "resnet18-imagenet",
        "metasiam.models.torchvision_models:RESNET18",
        "torchvision's ResNet-18 with its ImageNet weights",
    ),
)

#: Embedders of fixed statistics: there are no weights to train.
STATISTICS = frozenset({"fisher", "fisher-256"})

#: Name → what makes the objective; called with those of its parameters that ``objectives.build_objective`` knows.
LOSSES: dict[str, Entry] = _rows(
    Entry("cosine", "metasiam.losses:TripletCosine", "triplet loss on cosine similarity"),
    Entry("euclidean", "metasiam.losses:TripletSquaredEuclidean", "triplet loss on squared distance (FaceNet)"),
    Entry("contrastive", "metasiam.losses:Contrastive", "same pairs near, different ones beyond a margin"),
    Entry("softmax", "metasiam.losses:NormalisedSoftmax", "cross-entropy over cosines to one proxy a domain"),
    Entry("balanced-softmax", "metasiam.losses:BalancedSoftmax", "softmax for tasks of few domains"),
    Entry("mined-hard", "metasiam.losses:mined_hard", "triplet loss on each anchor's hardest images", "mining"),
    Entry("mined-semihard", "metasiam.losses:mined_semihard", "triplet loss on semi-hard triplets", "mining"),
    Entry("supcon", "metasiam.losses:SupervisedContrastive", "supervised contrastive loss over a batch", "mining"),
)

#: The same for methods that train on episodes.
EPISODE_LOSSES: dict[str, Entry] = _rows(
    Entry("prototypes", "metasiam.losses:Prototypes", "squared distances to class means, of an episode"),
    Entry("classifier", "metasiam.losses:EpisodeClassifier", "a linear head on an episode"),
)


@dataclass(frozen=True)
class SourceEntry(Entry):
    """A source of images.

    Attributes:
        takes_path: whether ``:PATH`` follows its name; None, of other people's: it may.
    """

    takes_path: bool | None = False


#: Name → where its ``Source`` is.
SOURCES: dict[str, SourceEntry] = {
    row.name: row
    for row in (
        SourceEntry(
            "glyphs",
            "metasiam.data.sources.glyphs:SOURCE",
            "100 domains of rendered characters, 14,000 colour images of 32x32; nothing to download",
        ),
        SourceEntry(
            "cifar100",
            "metasiam.data.sources.cifar100:SOURCE",
            "CIFAR-100: 100 domains, 60,000 colour photographs of 32x32",
        ),
        SourceEntry(
            "mnist", "metasiam.data.sources.mnist:SOURCE", "MNIST: 10 domains, 70,000 handwritten digits of 28x28"
        ),
        SourceEntry(
            "omniglot",
            "metasiam.data.sources.omniglot:SOURCE",
            "Omniglot: 1,623 domains, 20 drawn characters each, scaled to 28x28",
        ),
        SourceEntry(
            "omniglot-rotated",
            "metasiam.data.sources.omniglot:SOURCE_ROTATED",
            "Omniglot with its characters turned by 90, 180 and 270 degrees as further domains: 6,492",
        ),
        SourceEntry(
            "lfw",
            "metasiam.data.sources.lfw:SOURCE",
            "Labeled Faces in the Wild: the people with at least 10 images",
        ),
        SourceEntry(
            "folder",
            "metasiam.data.sources.folder:SOURCE",
            "your own images: PATH/<domain>/<image>, or PATH/{train,test}/<domain>/<image>",
            takes_path=True,
        ),
        SourceEntry("npz", "metasiam.data.sources.npz:SOURCE", "one .npz file in MedMNIST's layout", takes_path=True),
    )
}

#: Kind → the group of entry points in which packages of others offer theirs.
GROUPS = {kind: f"metasiam.{kind}" for kind in ("embedders", "losses", "methods", "sources")}

#: How names of people's own modules and losses begin, in ``config.json`` and in weights: they stand for objects that
#: somebody hands over in Python.
OWN = "own:"
#: Libraries whose networks and losses have names too.
EMBEDDER_LIBRARIES, LOSS_LIBRARIES = ("timm:", "torchvision:"), ("pml:",)
_GIVEN: set[str] = set()
_PLACE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_place(name: str) -> bool:
    """Tell whether a name is ``package.module:attribute``, which only a caller may give."""
    return _PLACE.fullmatch(name) is not None and not name.startswith((OWN, *EMBEDDER_LIBRARIES, *LOSS_LIBRARIES))


def give(name: object) -> None:
    """Import what the caller named, if that is ``package.module:attribute``; from now on files may say it too.

    Modules in the current folder are found as well. Never call it with what a file says.

    Raises:
        MetaSiamError: if it cannot be imported.
    """
    if not isinstance(name, str) or not is_place(name):
        return
    if "" not in sys.path and (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    imported(name, name)
    _GIVEN.add(name)


def check_given(name: str, option: str) -> None:
    """Raise if a name, which a file may say, would import what nobody gave to this process.

    Raises:
        UnknownArchitectureError: saying how to give it.
    """
    if is_place(name) and name not in _GIVEN:
        raise UnknownArchitectureError(
            f"a file says {name}, and what a file says is not imported. If you trust it, say so yourself: "
            f"{option} {name}."
        )


def embedders(*, with_weights: bool = False) -> tuple[str, ...]:
    """Return the names of all embedders, or of those that have weights to train."""
    ours = (name for name in EMBEDDERS if not (with_weights and name in STATISTICS))
    return (*ours, *(name for name in installed("embedders") if name not in EMBEDDERS))


def losses() -> tuple[str, ...]:
    """Return the names of all losses of batches of triplets."""
    return (*LOSSES, *(name for name in installed("losses") if name not in LOSSES))


def check_stored(options: object) -> None:
    """Raise if options that were read from a file would import what nobody gave to this process.

    Raises:
        UnknownArchitectureError: saying how to give it.
    """
    if isinstance(options, Mapping):
        for option in ("arch", "loss", "augment"):
            check_given(str(options.get(option)), f"--{option}")


def check_embedder(said: str, name: str, *, with_weights: bool) -> None:
    """Raise unless an embedder can have a name; those of libraries are looked up when it is built.

    Raises:
        MetaSiamError: with the names that there are.
    """
    if name.startswith(OWN) or is_place(name) or (name.startswith(EMBEDDER_LIBRARIES) and not name.endswith(":")):
        return
    ours = name in EMBEDDERS and not (with_weights and name in STATISTICS)
    if not ours and (name in EMBEDDERS or name not in installed("embedders")):
        raise MetaSiamError(unknown(said, name, embedders(with_weights=with_weights)))


def check_loss(said: str, name: str, allowed: tuple[str, ...] = ()) -> None:
    """Raise unless a loss can have a name.

    Args:
        said: how to name the option in a complaint.
        name: what was asked for.
        allowed: the losses of a method that takes few; empty: it takes any.

    Raises:
        MetaSiamError: with the names that there are.
    """
    if name in allowed:
        return
    if allowed:
        raise MetaSiamError(unknown(said, name, allowed))
    library = name.startswith(LOSS_LIBRARIES) and not name.endswith(":")
    if not (name.startswith(OWN) or is_place(name) or library or name in LOSSES or name in installed("losses")):
        raise MetaSiamError(unknown(said, name, losses()))


def sources() -> tuple[str, ...]:
    """Return what ``--data`` takes, those with a path as ``folder:PATH``."""
    ours = (f"{name}:PATH" if row.takes_path else name for name, row in SOURCES.items())
    return (*ours, *(name for name in installed("sources") if name not in SOURCES))


def find_source(data: str) -> tuple[SourceEntry, str]:
    """Return the source that ``--data`` names, and the path behind the colon.

    Raises:
        MetaSiamError: for an unknown source, or a path too many or too few.
    """
    kind, colon, path = data.partition(":")
    known = ", ".join(sources())
    row = SOURCES.get(kind)
    if row is None and (foreign := installed("sources").get(kind)) is not None:
        row = SourceEntry(foreign.name, foreign.where, foreign.about, takes_path=None)
    if row is None:
        folder = f"{shlex.quote(f'folder:{data}')}, " if data and os.path.isdir(data) else ""
        raise MetaSiamError(f"the data source '{data}' is not known. Use {folder}one of {known}.")
    if (row.takes_path and not path) or (colon and row.takes_path is False):
        wanted = f"{kind}:PATH" if row.takes_path else kind
        raise MetaSiamError(f"--data {data} should be {wanted}. Use one of {known}.")
    return row, path


def unknown(said: str, name: str, known: Iterable[str]) -> str:
    """Return a complaint about a name that is not known."""
    return f"{said} {name} is unknown. Use one of: {', '.join(known)}."


def given(name: str, option: str) -> Any:
    """Return what ``package.module:attribute`` names, if it was given to this process.

    Raises:
        UnknownArchitectureError: if only a file says it.
    """
    check_given(name, option)
    return imported(name, name)


def imported(where: str, said: str) -> Any:
    """Import ``module:attribute``. Never call it with what a file says, but for a row of this catalogue.

    Args:
        where: what to import.
        said: how to name it in a complaint.

    Raises:
        MetaSiamError: if there is no such module, it cannot be imported, or has no such attribute.
    """
    module, _, attribute = where.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except MetaSiamError:
        raise
    except Exception as error:  # whatever somebody's module does when it is imported
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise MetaSiamError(f"{said} cannot be imported: {reason}. Is {module} installed, or on PYTHONPATH?") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise MetaSiamError(f"{said} cannot be imported: {module} has no {attribute}. Check the name.")
        found = getattr(found, name)
    return found


def installed(kind: str) -> Mapping[str, Entry]:
    """Return what installed packages offer of a kind: a key of ``GROUPS``. Nothing is imported yet."""
    return _installed(kind, tuple(sys.path))


@cache
def _installed(kind: str, _path: tuple[str, ...]) -> Mapping[str, Entry]:
    points = metadata.entry_points(group=GROUPS[kind])
    return {
        point.name: Entry(point.name, point.value, f"of {point.dist.name if point.dist else point.module}")
        for point in points
    }


def entry(kind: str, name: str, rows: Mapping[str, Entry]) -> Entry | None:
    """Return a name's entry: one of ours, an installed package's, or what was given; None where there is none.

    Raises:
        UnknownArchitectureError: for a ``package.module:attribute`` that nobody gave.
    """
    if is_place(name):
        check_given(name, {"embedders": "--arch", "losses": "--loss"}[kind])
        return Entry(name, name, "given by the caller")
    return rows.get(name) or installed(kind).get(name)
