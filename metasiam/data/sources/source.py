"""What a source of images is, and what it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from metasiam.data.domains import DomainSet
from metasiam.progress import Report, quiet


@dataclass(frozen=True)
class Request:
    """Everything that ``load_domains`` was asked for.

    Attributes:
        data_dir: where downloads and the cache live.
        path: what stands behind the colon of ``folder:`` and ``npz:``; empty for the other sources.
        image_size: resize images to this many pixels square; None keeps the source's own size.
        skip_unreadable: leave images out that cannot be read, instead of stopping.
        test_fraction: share of each domain that becomes test where the source does not say itself; above 0, two
            images or more where a domain has four.
        report: told of progress as ``report(what, done, total)``.
    """

    data_dir: Path
    path: str = ""
    image_size: int | None = None
    skip_unreadable: bool = False
    test_fraction: float = 0.2
    report: Report = quiet


@dataclass(frozen=True)
class Source:
    """One kind of data that ``--data`` takes.

    Attributes:
        about: one line for people.
        load: makes the domain set, downloading what is missing.
        is_present: whether the data lie in a data dir already; None for sources named by a path.
        fetch: makes sure they do; None where there is nothing to download.
        takes_path: whether ``:PATH`` follows the name.
    """

    about: str
    load: Callable[[Request], DomainSet]
    is_present: Callable[[Path], bool] | None = None
    fetch: Callable[[Request], None] | None = None
    takes_path: bool = False


def shown(path: Path) -> str:
    """Return the path as people write it: the home folder as ~."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)


def resized(domains: DomainSet, size: int | None) -> DomainSet:
    """Return the domain set with images of ``size`` pixels square (itself when it is None or has them)."""
    if size is None or domains.image_size == (size, size):
        return domains
    blocks = [_resized(block, size) for block in torch.split(domains.images, 4096)]
    return replace(domains, images=torch.cat(blocks))


def _resized(images: Tensor, size: int) -> Tensor:
    scaled = functional.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).to(torch.uint8)
