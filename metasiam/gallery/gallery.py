"""A gallery as people use it: recognise pictures, compare two, put names in, take them out, keep it in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from metasiam.arguments import checked
from metasiam.errors import MetaSiamError
from metasiam.gallery.adding import left_without, prepared_rows, take_up, take_up_embeddings
from metasiam.gallery.embedders import EmbedderLike, embedder_from
from metasiam.gallery.enrolled import EMBEDDINGS, Enrolled
from metasiam.gallery.given import (
    NamedPictures,
    Picture,
    Pictures,
    as_embeddings,
    as_pictures,
    named_embeddings,
    named_pictures,
)
from metasiam.gallery.matching import Judge, judge_by_rules, match_embeddings
from metasiam.gallery.pictures import Embedded, embed_pictures
from metasiam.gallery.recognise import Answer, Verdict, calibrated, identify
from metasiam.gallery.store import read_gallery, write_gallery
from metasiam.notebook import summary
from metasiam.progress import SHOWN_OR_WARNED, SILENT, Listener, heard
from metasiam.training.machine import choose_device
from metasiam.wording import counted


@dataclass(frozen=True, eq=False, repr=False)
class Gallery(Enrolled):
    """Named domains, and the embedder that recognises them. ``enroll`` makes one, ``load_gallery`` opens one.

    It never changes: ``add`` and ``remove`` return another one.

    Attributes:
        module: the embedder, on its device in evaluation mode; None until it is needed.
    """

    module: nn.Module | None = field(default=None, compare=False)

    @property
    def of_embeddings(self) -> bool:
        """Whether it was made of embeddings: then it takes embeddings, float [Q, D], where others take pictures."""
        return self.embedder.info.arch == EMBEDDINGS

    @heard
    def identify(
        self, pictures: Pictures, *, skip_unreadable: bool = False, listener: Listener | None = SHOWN_OR_WARNED
    ) -> list[Answer]:
        """Recognise pictures: a name or ``unknown``, with probabilities.

        Args:
            pictures: files, folders, images, arrays, or a list of these; embeddings of a gallery of embeddings.
            skip_unreadable: leave out pictures that cannot be read or show nothing; ``Answer.picture`` says which each
                answer is of. Else they are an error.
            listener: told how far it is, and what is left out; None is silent.

        Returns:
            One answer for each picture, in their order.

        Raises:
            MetaSiamError: if the gallery has no names, its embedder is gone, or pictures cannot be read.
        """
        if self.rules is None:
            raise MetaSiamError("the gallery has no names yet. Enroll some pictures first.")
        if self.of_embeddings:
            return identify(self, prepared_rows(as_embeddings(pictures), self.embedder.info))
        found = self.embed(as_pictures(pictures), skip_unreadable=skip_unreadable, listener=listener)
        answers = identify(self, found.embeddings)
        return [replace(answer, picture=str(picture)) for answer, picture in zip(answers, found.pictures, strict=True)]

    def match(self, first: Pictures, second: Pictures) -> Verdict:
        """Tell whether two pictures (two embeddings, of a gallery of embeddings) show the same, by its calibration.

        Raises:
            MetaSiamError: if one cannot be read, or is several.
        """
        if self.of_embeddings:
            return match_embeddings(first, second, self.embedder.info, self)
        return self.judge().verdict(first, second)

    def judge(self) -> Judge:
        """Return what compares pictures by this gallery's calibration."""
        return judge_by_rules(self.opened(), self.embedder.info, mirror=self.mirror, gallery=self)

    @heard
    def add(
        self,
        pictures: NamedPictures,
        *,
        skip_unreadable: bool = False,
        seed: int = 0,
        listener: Listener | None = SHOWN_OR_WARNED,
    ) -> Gallery:
        """Return the gallery with more pictures, of new names or of those it has, calibrated anew.

        Args:
            pictures: as for ``enroll``. A copy of a picture that is there does not count again.
            skip_unreadable: leave out pictures that cannot be read or show nothing; else they are an error.
            seed: of the draws from the background.
            listener: told how far it is, and what is left out; None is silent.

        Raises:
            MetaSiamError: as ``enroll``.
        """
        if self.of_embeddings:
            return calibrated(take_up_embeddings(self, named_embeddings(pictures), listener or SILENT), seed=seed)
        named = named_pictures(pictures, listener or SILENT)
        found = self.embed(
            [one for own in named.values() for one in own], skip_unreadable=skip_unreadable, listener=listener
        )
        return calibrated(take_up(self, named, found, self.embedder, listener or SILENT), seed=seed)

    @heard
    def remove(self, what: str | Path, *, seed: int = 0, listener: Listener | None = SHOWN_OR_WARNED) -> Gallery:
        """Return the gallery without a name, or without one picture, given by its file; calibrated anew.

        Raises:
            MetaSiamError: if it has no such name, and no such picture.
        """
        return calibrated(left_without(self, str(what), listener or SILENT), seed=seed)

    def embed(
        self,
        pictures: Sequence[Picture],
        *,
        skip_unreadable: bool = False,
        listener: Listener | None = SHOWN_OR_WARNED,
    ) -> Embedded:
        """Embed pictures as the gallery's own were; see ``identify``."""
        told = listener or SILENT
        found = embed_pictures(self.opened(), self.embedder.info, pictures, mirror=self.mirror, listener=told)
        for text in found.notes:
            told.note(text)
        if not skip_unreadable:
            found.check_all()
        for picture, reason in found.unreadable:
            told.note(f"{picture} cannot be read ({reason}): left out")
        found.check_some()
        return found

    def opened(self) -> nn.Module:
        """Return the embedder, loaded from where its weights were if need be."""
        if self.module is None:
            module, _ = embedder_from(None, key=self.embedder)
            object.__setattr__(self, "module", module.to(choose_device("auto")))
        assert self.module is not None
        return self.module

    def save(self, path: str | Path) -> None:
        """Write the gallery's file, atomically; its folder is made when missing.

        Raises:
            MetaSiamError: if it cannot be written there.
        """
        write_gallery(self, Path(path))

    def __repr__(self) -> str:
        learned = f", thresholds learned on {self.rules.learned_on}" if self.rules is not None else ""
        words = f"{counted(len(self.names), 'name')}, {counted(len(self.files), self._kind)}"
        return f"Gallery({words}, {self.embedder.info.arch}{learned})"

    def _repr_html_(self) -> str:
        """Return its names, pictures and thresholds as a table for a notebook."""
        thresholds = self.rules.thresholds if self.rules is not None else ()
        said = [f"{threshold:.3f}" for threshold in thresholds] or [""] * len(self.names)
        rows = zip(self.names, self.counts().values(), said, strict=True)
        return summary(repr(self), ("name", f"{self._kind}s", "threshold"), rows)

    @property
    def _kind(self) -> str:
        return "embedding" if self.of_embeddings else "picture"


@checked
def load_gallery(path: str | Path, *, embedder: Any = None, device: str = "auto") -> Gallery:
    """Open a gallery file.

    Args:
        path: the file.
        embedder: the embedder that it was made with, where it is no longer in the same place, or was a module: a run,
            weights, or a module. None: it is opened from its place once it is needed.
        device: where to compute with it.

    Raises:
        MetaSiamError: if the file is missing, damaged, no gallery, or of a newer MetaSiam; or the embedder is another.
    """
    gallery = read_gallery(path, Gallery)
    if embedder is None:
        return gallery
    return with_embedder(gallery, embedder, device=device)


def with_embedder(gallery: Gallery, embedder: EmbedderLike, *, device: str = "auto") -> Gallery:
    """Return the gallery with its embedder at hand, and where its weights are now.

    Raises:
        MetaSiamError: if it is another embedder than the gallery's.
    """
    module, found = embedder_from(embedder, key=gallery.embedder)
    moved = replace(gallery.embedder, path=found.path)
    return replace(gallery, embedder=moved, module=module.to(choose_device(device)))
