"""What a source of images is, and what it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from metasiam.data.domains import DomainSet
from metasiam.data.preparation import USUAL, Preparation, Size, prepared_images
from metasiam.progress import SILENT, Listener


@dataclass(frozen=True)
class Request:
    """Everything that ``load_domains`` was asked for.

    Attributes:
        data_dir: where downloads and the cache live.
        path: what stands behind the colon of ``folder:`` and ``npz:``; empty for the other sources.
        size: height and width to bring images to; None keeps the source's own.
        skip_unreadable: leave images out that cannot be read, instead of stopping.
        test_fraction: share of each domain that becomes test where the source does not say itself; above 0, two
            images or more where a domain has four.
        listener: told how far it is.
        preparation: what is done to people's own pictures before.
        grey: make people's own pictures grey.
    """

    data_dir: Path
    path: str = ""
    size: Size | None = None
    skip_unreadable: bool = False
    test_fraction: float = 0.2
    listener: Listener = SILENT
    preparation: Preparation = USUAL
    grey: bool = False


@dataclass(frozen=True)
class Source:
    """One kind of data that ``--data`` takes; ``metasiam.catalogue`` has its name.

    Attributes:
        load: makes the domain set, downloading what is missing.
        is_present: whether the data lie in a data dir already; None for sources named by a path.
        fetch: makes sure they do; None where there is nothing to download.
    """

    load: Callable[[Request], DomainSet]
    is_present: Callable[[Path], bool] | None = None
    fetch: Callable[[Request], None] | None = None


def shown(path: Path) -> str:
    """Return the path as people write it: the home folder as ~."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)


def resized(domains: DomainSet, size: Size | None) -> DomainSet:
    """Return the domain set with images of this height and width (itself when it is None or has them)."""
    images = prepared_images(domains.images, USUAL, size)
    return domains if images is domains.images else replace(domains, images=images)
