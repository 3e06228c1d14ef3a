"""What a gallery holds: named domains as embeddings of their pictures, of which embedder, and what was learned."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from metasiam.catalogue import OWN
from metasiam.data.names import composed, plain, plain_name
from metasiam.errors import MetaSiamError
from metasiam.gallery.calibrate import Background
from metasiam.gallery.rules import Rules
from metasiam.models.files import EmbedderInfo

if TYPE_CHECKING:
    from typing_extensions import Self

_MOST_NAME = 200  # characters
#: How the file names of pictures begin that were handed over as arrays; the rest is a hash of what they show.
IN_MEMORY = "memory:"
#: What a gallery's embedder is called where embeddings themselves were enrolled.
EMBEDDINGS = OWN + "embeddings"


@dataclass(frozen=True)
class EmbedderKey:
    """Which embedder a gallery belongs to.

    Attributes:
        path: where its weights were, for finding them again; empty for torchvision's own, and for a module that was
            handed over.
        fingerprint: hash of the weights: embeddings of other weights mean nothing here.
        info: image size, channels, normalisation, distance.
    """

    path: str
    fingerprint: str
    info: EmbedderInfo


def fingerprint_of(embedder: nn.Module) -> str:
    """Return a short hash of an embedder's weights and running statistics."""
    digest = hashlib.blake2b(digest_size=12)
    for name, value in sorted(embedder.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Enrolled:
    """Named domains as embeddings of their pictures, and what was calibrated from them.

    Attributes:
        embedder: what made the embeddings.
        mirror: whether embeddings are averaged with the mirrored picture's.
        names: the domains, sorted.
        labels: int64 [M], each picture's place in ``names``.
        embeddings: float32 [M, D].
        files: the pictures' paths as given, for people.
        statistics: float32 [M, 2 · C], the pictures' means and standard deviations per channel.
        background: embeddings of domains that are none of these, if there were any.
        hashes: of the pictures' files; none in galleries of before.
        rules: thresholds and probability, calibrated when the gallery last changed.
    """

    embedder: EmbedderKey
    mirror: bool
    names: tuple[str, ...] = ()
    labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    embeddings: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    files: tuple[str, ...] = ()
    statistics: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    background: Background | None = None
    rules: Rules | None = None
    hashes: tuple[str, ...] = ()

    @property
    def contents(self) -> tuple[str, ...]:
        """The hash of each picture's file, empty where it is not known."""
        return self.hashes or ("",) * len(self.files)

    def counts(self) -> dict[str, int]:
        """Return how many pictures each name has."""
        return dict(zip(self.names, torch.bincount(self.labels, minlength=len(self.names)).tolist(), strict=True))

    def with_pictures(self, name: str, files: Sequence[str], embeddings: Tensor, statistics: Tensor) -> Self:
        """Return the gallery with pictures added to a name, new or not; a file given again replaces its picture.

        Raises:
            MetaSiamError: for a name that cannot be one.
        """
        check_name(plain(name))
        return self.with_named([name] * len(files), files, embeddings, statistics)

    def with_named(
        self,
        names: Sequence[str],
        files: Sequence[str],
        embeddings: Tensor,
        statistics: Tensor,
        *,
        embedder: EmbedderKey | None = None,
        hashes: Sequence[str] | None = None,
    ) -> Self:
        """Return the gallery with pictures of many names at once, as ``with_pictures`` adds them to one.

        Args:
            names: the name of each picture.
            files: the file of each picture.
            embeddings: float32 [len(files), D].
            statistics: float32 [len(files), 2 · C].
            embedder: what made the embeddings, if it may have moved: where it is now is kept.
            hashes: of the files' contents, where they are known.

        Raises:
            MetaSiamError: for a name that cannot be one.
            ValueError: if they were made by another embedder.
        """
        names = [plain(name) for name in names]
        for name in set(names):
            check_name(name)
        if embedder is not None:
            if embedder.fingerprint != self.embedder.fingerprint:
                raise ValueError("the pictures were embedded by another embedder than the gallery's")
            moved = replace(self.embedder, path=embedder.path)
            return replace(self, embedder=moved).with_named(names, files, embeddings, statistics, hashes=hashes)
        if not files:
            return self
        old_names = [plain(self.names[label]) for label in self.labels.tolist()]
        all_names, all_files = [*old_names, *names], [*self.files, *files]
        parts = [(self.embeddings, self.statistics)] if len(self.labels) else []
        rows, numbers = map(torch.cat, zip(*parts, (embeddings, statistics), strict=True))
        newest = {picture: row for row, picture in enumerate(zip(all_names, all_files, strict=True))}
        stays = sorted(newest.values())
        all_hashes = [*self.contents, *(hashes or [""] * len(files))]
        kept_names, kept_files, kept = ([values[i] for i in stays] for values in (all_names, all_files, all_hashes))
        return self._of(kept_names, kept_files, kept, rows[stays], numbers[stays])

    def without(self, name: str) -> Self:
        """Return the gallery without a name.

        Raises:
            MetaSiamError: if it is not in it.
        """
        gone = [label for label, known in enumerate(self.names) if plain(known) == plain(name)]
        if not gone:
            known = ", ".join(self.names) or "nobody"
            raise MetaSiamError(f"the gallery has no '{name}', so it cannot be removed. It has: {known}.")
        stays = ~torch.isin(self.labels, torch.tensor(gone))
        return self.keeping(stays)

    def keeping(self, stays: Tensor) -> Self:
        """Return the gallery with some of its pictures, bool [M]; names without any are gone."""
        rows = stays.nonzero().flatten().tolist()
        names = [self.names[label] for label in self.labels[stays].tolist()]
        files, hashes = ([values[row] for row in rows] for values in (self.files, self.contents))
        return self._of(names, files, hashes, self.embeddings[stays], self.statistics[stays])

    def _of(
        self, picture_names: list[str], files: list[str], hashes: list[str], embeddings: Tensor, statistics: Tensor
    ) -> Self:
        names = tuple(sorted(set(picture_names)))
        place = {name: index for index, name in enumerate(names)}
        labels = torch.tensor([place[name] for name in picture_names], dtype=torch.int64)
        order = torch.argsort(labels, stable=True)
        return replace(
            self,
            names=names,
            labels=labels[order],
            embeddings=embeddings[order],
            files=tuple(files[i] for i in order.tolist()),
            hashes=tuple(hashes[i] for i in order.tolist()),
            statistics=statistics[order],
            rules=None,
        )


#: A gallery, or a class that adds to it: what takes one returns one of the same.
Kind = TypeVar("Kind", bound=Enrolled)


def check_name(name: str) -> None:
    """Raise MetaSiamError unless ``name`` can name a domain: printable, not blank, not the answer ``unknown``.

    The answer is not to be mistaken for a name, so it is none in capitals either.
    """
    if plain_name(name) != composed(name) or not name or len(name) > _MOST_NAME:
        raise MetaSiamError(
            f"{name!r} cannot be a name. Use up to {_MOST_NAME} printable characters, no blanks at the ends."
        )
    if name.casefold() == "unknown":
        raise MetaSiamError(f"'{name}' is what identify answers when it is none of the names. Use another name.")
