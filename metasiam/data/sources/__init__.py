"""Where images come from: one file a source, as ``metasiam.catalogue`` lists them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from metasiam import catalogue
from metasiam.arguments import checked
from metasiam.data.domains import DomainSet
from metasiam.data.pairs import PairSet
from metasiam.data.preparation import USUAL, Preparation, Size
from metasiam.data.sources import lfw, pair_list
from metasiam.data.sources.pair_images import PairRequest
from metasiam.data.sources.source import Request, Source
from metasiam.errors import MetaSiamError
from metasiam.options.data import DataOptions, saved
from metasiam.options.pairs import PairDataOptions
from metasiam.progress import SHOWN, SHOWN_OR_WARNED, SILENT, Listener, heard

#: Data that come as labelled pairs: name → loader. ``pairs`` takes a path.
PAIR_SOURCES: dict[str, Callable[[PairRequest], PairSet]] = {"lfw": lfw.load_pairs, "pairs": pair_list.load}


def default_data_dir() -> Path:
    """Return where downloads and the cache live: ``$METASIAM_DATA``, else the user's cache folder."""
    named = os.environ.get("METASIAM_DATA")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_cache_path

    cache = os.environ.get("XDG_CACHE_HOME")
    before = (Path(cache) if cache else Path.home() / ".cache") / "metasiam"  # on every system, up to version 0.1
    return before if before.is_dir() else user_cache_path("metasiam", appauthor=False)


@checked
@heard
def load_domains(
    name: str,
    *,
    data_dir: str | Path | None = None,
    image_size: int | Size | None = None,
    skip_unreadable: bool = False,
    test_fraction: float = 0.2,
    listener: Listener | None = SHOWN_OR_WARNED,
    preparation: Preparation | None = None,
    grey: bool = False,
) -> DomainSet:
    """Load a domain set by the name that ``--data`` takes.

    Args:
        name: ``glyphs``, ``cifar100``, ``mnist``, ``omniglot``, ``omniglot-rotated``, ``lfw``, ``folder:PATH`` or
            ``npz:PATH``.
        data_dir: where downloads and the cache of decoded images live; the default is ``$METASIAM_DATA``,
            else the user's cache folder.
        image_size: bring images to this many pixels square, or to this height and width; None keeps each source's own
            size. The largest middle part of that shape is cut out and resized.
        skip_unreadable: leave images out that cannot be read, instead of stopping at the first.
        test_fraction: share of each domain that becomes test, for folders without train/ and test/; above 0, two
            images or more where a domain has four.
        listener: told how far downloading, decoding and rendering are, and what is left out; by default shown in a
            terminal or a notebook, and what is left out is a ``UserWarning`` elsewhere; None is silent.
        preparation: what else is done to one's own pictures (``folder``, ``npz``, ``lfw``), for showing them to trained
            weights: their ``EmbedderInfo.preparation``.
        grey: make one's own picture files grey.

    Raises:
        MetaSiamError: if the name is unknown, or the data are missing, damaged or unfit.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if size is not None and not (len(size) == 2 and all(isinstance(side, int) and 4 <= side <= 1024 for side in size)):
        raise MetaSiamError(f"--image-size {image_size} is not between 4 and 1024 pixels. Choose one that is.")
    if not 0 <= test_fraction < 1:
        raise MetaSiamError(f"a test fraction of {test_fraction} is not between 0 and 1. Choose one that is.")
    source, path = source_of(name)
    request = Request(
        _data_dir(data_dir),
        path,
        size,
        skip_unreadable,
        test_fraction,
        listener or SILENT,
        preparation or USUAL,
        grey,
    )
    domains = source.load(request)
    asked = DataOptions(
        name,
        Path(data_dir) if data_dir is not None else None,
        size if size is None or size[0] != size[1] else size[0],
        skip_unreadable,
    )
    as_asked = test_fraction == 0.2 and preparation is None and not grey
    return replace(domains, recipe=saved(asked)) if as_asked else domains


@checked
@heard
def load_pairs(
    name: str,
    *,
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    crop: int | None = None,
    grey: bool = False,
    listener: Listener | None = SHOWN,
    squeeze: bool = False,
) -> PairSet:
    """Load labelled pairs of images.

    Args:
        name: ``lfw`` (development pairs), ``lfw:10-folds`` or ``pairs:FILE.csv``.
        data_dir: where downloads and the cache of decoded images live; the default is ``$METASIAM_DATA``,
            else the user's cache folder.
        image_size: bring to this many pixels square: the middle square is cut out and resized; None keeps their size.
        crop: cut this many pixels square out of the middle first; None keeps all.
        grey: make every image grey; LFW's always are.
        listener: told how far downloading and decoding are; None is silent.
        squeeze: squeeze the whole picture to ``image_size``, as runs of before this was one rule did.

    Raises:
        MetaSiamError: if the name is unknown, or the data are missing, damaged or unfit.
    """
    for option, value in (("--image-size", image_size), ("--crop", crop)):
        if value is not None and not 4 <= value <= 1024:
            raise MetaSiamError(f"{option} {value} is not between 4 and 1024 pixels. Choose one that is.")
    kind, _, path = name.partition(":")
    if kind not in PAIR_SOURCES or (kind == "pairs" and not path):
        raise MetaSiamError(f"--data {name} has no labelled pairs. Use lfw, lfw:10-folds or pairs:FILE.csv.")
    how = Preparation(crop=crop, fit="squeeze" if squeeze else "cut")
    pairs = PAIR_SOURCES[kind](PairRequest(_data_dir(data_dir), path, image_size, how, grey, listener or SILENT))
    where = Path(data_dir) if data_dir is not None else None
    return replace(pairs, recipe=saved(PairDataOptions(name, where, crop, image_size, grey, squeeze)))


@heard
def fetch(name: str, data_dir: Path | None = None, *, listener: Listener | None = SHOWN) -> Path:
    """Make sure that a source's data are in the data dir, downloading what is missing; return that folder.

    Raises:
        MetaSiamError: if the name is unknown or takes a path, or the download fails.
    """
    source, _ = source_of(name)
    request = Request(_data_dir(data_dir), listener=listener or SILENT)
    if source.fetch is None:
        raise MetaSiamError(f"{name} has nothing to download. Use it as it is: metasiam data show {shlex.quote(name)}")
    source.fetch(request)
    return request.data_dir


def _data_dir(data_dir: str | Path | None) -> Path:
    return default_data_dir() if data_dir is None else Path(data_dir).expanduser()


def source_of(name: str) -> tuple[Source, str]:
    """Return the source that ``--data`` names, and the path behind the colon.

    Raises:
        MetaSiamError: for an unknown source, or a path too many or too few.
    """
    row, path = catalogue.find_source(name)
    found = row.load()
    if not isinstance(found, Source):
        raise MetaSiamError(f"{row.where}, which a package offers as the source {row.name}, is not a Source.")
    return found, path


__all__ = ["PAIR_SOURCES", "Request", "Source", "default_data_dir", "fetch", "load_domains", "load_pairs", "source_of"]
