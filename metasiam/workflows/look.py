"""Data looked at before anything is trained on them, at whatever sizes their pictures have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from metasiam.options.data import DataOptions
from metasiam.progress import Listener, Relay
from metasiam.wording import counted

if TYPE_CHECKING:
    from metasiam.data.domains import DomainSet
    from metasiam.data.pairs import PairSet
    from metasiam.data.splitting import Split

_Loaded = TypeVar("_Loaded")
_Size = int | tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class LookedAt:
    """Domains, as they would be split.

    Attributes:
        domains: loaded; where pictures have several sizes, at one that suits them.
        split: of the domains; None where none is asked for and the data have none of their own.
        advice: which sizes there are, and which to give for training; empty where it is one.
        small: domains with fewer than two train or two test images, which no pairs can be drawn of.
    """

    domains: DomainSet
    split: Split | None
    advice: str
    small: list[int]


def look_at_domains(source: str, wanted: DataOptions, listener: Listener) -> LookedAt:
    """Load a source of domains and split it as options say.

    Raises:
        MetaSiamError: for data that cannot be loaded, or a split that does not fit.
    """
    from metasiam.data.sources import load_domains
    from metasiam.data.splitting import split_domains

    domains, advice = _of_any_size(
        lambda at, told: load_domains(
            source, data_dir=wanted.data_dir, image_size=at, skip_unreadable=wanted.skip_unreadable, listener=told
        ),
        wanted.image_size,
        listener,
    )
    split = None
    if wanted.held_out is not None or wanted.split is not None or wanted.validation is not None or domains.own_split:
        split = split_domains(domains, held_out=wanted.held_out, validation=wanted.validation or 0, split=wanted.split)
    small = ((domains.counts("train") < 2) | (domains.counts("test") < 2)).nonzero().flatten().tolist()
    return LookedAt(domains, split, advice, small)


def look_at_pairs(source: str, wanted: DataOptions, listener: Listener) -> tuple[PairSet, str]:
    """Load a source of labelled pairs; return them, and which size to give for training where there are several.

    Raises:
        MetaSiamError: for pairs that cannot be loaded.
    """
    from metasiam.data.sources import load_pairs

    return _of_any_size(
        lambda at, told: load_pairs(source, data_dir=wanted.data_dir, image_size=at, listener=told),
        wanted.image_size,
        listener,
    )


class _Once(Relay):
    """Says a note once, though what is told is loaded twice."""

    def __init__(self, to: Listener) -> None:
        super().__init__(to)
        self._said: set[str] = set()

    def note(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            super().note(text)


def _kind(channels: int) -> str:
    return {1: "grey", 3: "colour"}.get(channels, counted(channels, "channel"))


def _of_any_size(
    load: Callable[[Any, Listener], _Loaded], image_size: _Size, listener: Listener
) -> tuple[_Loaded, str]:
    """Load data at the size asked for or, where pictures have several and none is, at one that suits them.

    Returns:
        The data, and a line that says what sizes there are and which to give for training; empty where it is one.
    """
    from metasiam.data.sources.pictures import SizesDiffer
    from metasiam.data.sources.sizes import in_words, sizes_of, suited

    once = _Once(listener)
    try:
        return load(image_size, once), ""
    except SizesDiffer as differing:
        sizes = sizes_of(differing.paths, listener)
    size = suited(sizes)
    return load(size, once), (
        f"pictures of {in_words(sizes)}; shown here as the middle square of each at {size}x{size}: "
        f"pass --image-size {size} to train on them like this"
    )
