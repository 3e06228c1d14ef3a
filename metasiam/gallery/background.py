"""Background pictures: domains that are none of a person's own, which teach a gallery what "unknown" looks like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metasiam.catalogue import SOURCES
from metasiam.data.domains import DomainSet
from metasiam.data.names import plain
from metasiam.data.preparation import Preparation, squeezed_before
from metasiam.data.sources import load_domains
from metasiam.errors import MetaSiamError
from metasiam.gallery.calibrate import Background
from metasiam.gallery.pictures import embed_pixels, fitted
from metasiam.models.files import EmbedderInfo
from metasiam.progress import SHOWN_OR_WARNED, SILENT, Listener, heard
from metasiam.runs import CONFIG_FILE, open_run
from metasiam.runs.reading import read_text
from metasiam.shapes import parse_json
from metasiam.wording import counted

#: Enough for steady means and thresholds; embedding them takes seconds.
DOMAINS, IMAGES = 100, 20


@dataclass(frozen=True)
class BackgroundChoice:
    """Which pictures are the background: a ``--data`` name, its options, and which of its domains may be used.

    With a ``fingerprint`` they must be those very pictures: domains are named by their place.
    """

    data: str
    options: dict[str, Any]
    domains: tuple[int, ...] | None = None
    fingerprint: str | None = None


def of_run(weights: Path) -> BackgroundChoice | None:
    """Return the domains that a run trained or chose with; None for weights without a run, or one on listed pairs.

    Domains that the run held out are left out: they may be the very ones that a person wants recognised.
    """
    folder = weights if weights.is_dir() else weights.parent
    if not (folder / CONFIG_FILE).is_file() or _is_foreign(folder / CONFIG_FILE):
        return None
    config = open_run(folder).config
    stored = config.get("data", {}).get("options") or {}
    split = config.get("split", {})
    if not _has_domains(str(stored.get("data", ""))):
        return None
    if "split" not in config:  # pairs: their pictures, and so the fingerprint, are not those of the domains
        return BackgroundChoice(str(stored["data"]), {"data_dir": stored["data_dir"]} if stored.get("data_dir") else {})
    kept = ("data_dir", "image_size", "skip_unreadable")
    options = {name: stored[name] for name in kept if stored.get(name) is not None}
    if stored.get("squeeze", squeezed_before(str(stored["data"]))):
        options["preparation"] = Preparation(fit="squeeze")
    domains = tuple(split.get("seen", ())) + tuple(split.get("validation", ()))
    return BackgroundChoice(str(stored["data"]), options, domains or None, config["data"].get("fingerprint"))


def _has_domains(data: str) -> bool:
    """Tell whether a ``--data`` name is a source of domains; labelled pairs alone (``pairs:FILE.csv``) are none."""
    name, _, path = data.partition(":")
    return name in SOURCES and SOURCES[name].takes_path == bool(path)


def _is_foreign(config: Path) -> bool:
    """Tell whether a ``config.json`` is another program's, as in the folders of Hugging Face's models."""
    try:
        found = parse_json(read_text(config))
    except (ValueError, OSError):  # a run's own that is damaged: opening it says so
        return False
    options = found.get("options") if isinstance(found, dict) else None
    return not (isinstance(options, dict) and isinstance(options.get("method"), str))


@heard
def load_background(
    choice: BackgroundChoice,
    embedder: nn.Module,
    info: EmbedderInfo,
    *,
    mirror: bool,
    listener: Listener | None = SHOWN_OR_WARNED,
    without: Iterable[str] = (),
) -> Background:
    """Load and embed up to IMAGES images of up to DOMAINS domains, evenly spread, test images first.

    Domains named like one of ``without`` are no background: what is to be recognised would be learned as unknown.

    Raises:
        MetaSiamError: if the data cannot be loaded, are others than were chosen, or have fewer than four domains.
    """
    options, listener = dict(choice.options), listener or SILENT
    if options.get("data_dir") is not None:
        options["data_dir"] = Path(options["data_dir"])
    if choice.fingerprint is None:  # not the run's own, which are loaded as they were for its training
        options |= {"image_size": info.image_size, "preparation": info.preparation, "grey": info.channels == 1}
    domains = load_domains(choice.data, listener=listener, **options)
    if choice.fingerprint not in (None, domains.fingerprint):
        raise MetaSiamError(f"{choice.data} holds other pictures than were trained on. Pass --background.")
    usable = range(len(domains.names)) if choice.domains is None else choice.domains
    left = _others(domains, usable, without, listener)
    return embed_background(domains, left, embedder, info, mirror=mirror, listener=listener)


def _others(domains: DomainSet, usable: Iterable[int], without: Iterable[str], listener: Listener) -> tuple[int, ...]:
    """Return the domains that are none of the names ``without``, and say which are left out."""
    wanted = {plain(name).casefold() for name in without}
    listed = tuple(usable)
    same = [domain for domain in listed if plain(domains.names[domain]).casefold() in wanted]
    if same:
        what = "is also a name to enroll" if len(same) == 1 else "are also names to enroll"
        listener.note(f"{domains.said(same)} {what}: left out of the background")
    return tuple(domain for domain in listed if domain not in same)


def chosen_background(
    asked: str | DomainSet | None,
    weights: Path | None,
    embedder: nn.Module,
    info: EmbedderInfo,
    *,
    mirror: bool,
    names: Iterable[str] = (),
    listener: Listener = SILENT,
) -> Background | None:
    """Return the background that is asked for, or what a run was trained on; None where there is none.

    Args:
        asked: a ``--data`` name, a domain set, ``none``, or None for what the run was trained on.
        weights: run folder or weights file, if the embedder came from there.
        embedder: in evaluation mode.
        info: how it is fed.
        mirror: whether embeddings are averaged with the mirrored picture's.
        names: that are enrolled: domains of theirs are left out.
        listener: told of progress, and why what the run was trained on cannot be had.

    Raises:
        MetaSiamError: as ``load_background``, for what was asked for.
    """
    if isinstance(asked, DomainSet):
        left = _others(asked, range(len(asked.names)), names, listener)
        return embed_background(asked, left, embedder, info, mirror=mirror, listener=listener)
    if asked == "none":
        return None
    choice = BackgroundChoice(asked, {}) if asked is not None else of_run(weights) if weights is not None else None
    if choice is None:
        return None
    try:
        return load_background(choice, embedder, info, mirror=mirror, listener=listener, without=names)
    except MetaSiamError as error:
        if asked is not None:
            raise
        listener.note(f"no background pictures ({error}): thresholds come from your own pictures alone")
        return None


def embed_background(
    domains: DomainSet,
    chosen: tuple[int, ...] | None,
    embedder: nn.Module,
    info: EmbedderInfo,
    *,
    mirror: bool,
    listener: Listener = SILENT,
) -> Background:
    """Embed a domain set's images as a background; see ``load_background``."""
    usable = sorted(chosen) if chosen is not None else list(range(len(domains.names)))
    if len(usable) < 4:
        raise MetaSiamError(
            f"{domains.source} has {counted(len(usable), 'domain')} for the background and 4 are needed. "
            "Choose another --background."
        )
    usable = [usable[i * len(usable) // min(len(usable), DOMAINS)] for i in range(min(len(usable), DOMAINS))]
    index = torch.cat([_some_of(domains, domain) for domain in usable])
    blocks, statistics = [], []
    for begin in range(0, len(index), 256):
        images = domains.gather(index[begin : begin + 256])
        pixels = fitted(images, info)
        blocks.append(embed_pixels(embedder, info, pixels, mirror=mirror))
        fractions = pixels.flatten(2).float() / 255
        statistics.append(torch.cat((fractions.mean(2), fractions.std(2)), 1))
        listener.progress("embedding background", min(begin + 256, len(index)), len(index))
    return Background(torch.cat(blocks), domains.labels[index], torch.cat(statistics), domains.source)


def _some_of(domains: DomainSet, domain: int) -> Tensor:
    own = domains.labels == domain
    test, train = (own & domains.is_test).nonzero().flatten(), (own & ~domains.is_test).nonzero().flatten()
    return torch.cat((test, train))[:IMAGES]
