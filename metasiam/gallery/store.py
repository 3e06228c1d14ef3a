"""The gallery file: everything needed to recognise named domains, in one safetensors file with a JSON header."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from metasiam.arguments import checked
from metasiam.data.names import composed, plain, plain_name
from metasiam.errors import MetaSiamError
from metasiam.gallery.calibrate import Background
from metasiam.gallery.rules import Rules
from metasiam.models.files import EmbedderInfo, info_fields
from metasiam.runs.atomic import atomically, check_can_write, storage_error, trouble
from metasiam.runs.reading import check_regular, why_no_file
from metasiam.shapes import GALLERY, check, parse_json, record, whole

SCHEMA = 1
_MOST_NAME = 200  # characters


@dataclass(frozen=True)
class EmbedderKey:
    """Which embedder a gallery belongs to.

    Attributes:
        path: where its weights were, for finding them again; empty for torchvision's own.
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
class Gallery:
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

    def with_pictures(self, name: str, files: Sequence[str], embeddings: Tensor, statistics: Tensor) -> Gallery:
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
    ) -> Gallery:
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

    def without(self, name: str) -> Gallery:
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

    def keeping(self, stays: Tensor) -> Gallery:
        """Return the gallery with some of its pictures, bool [M]; names without any are gone."""
        rows = stays.nonzero().flatten().tolist()
        names = [self.names[label] for label in self.labels[stays].tolist()]
        files, hashes = ([values[row] for row in rows] for values in (self.files, self.contents))
        return self._of(names, files, hashes, self.embeddings[stays], self.statistics[stays])

    def _of(
        self, picture_names: list[str], files: list[str], hashes: list[str], embeddings: Tensor, statistics: Tensor
    ) -> Gallery:
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

    def save(self, path: Path) -> None:
        """Write the gallery, atomically.

        Raises:
            MetaSiamError: if it cannot be written there.
        """
        about = {
            "schema": SCHEMA,
            "embedder": asdict(self.embedder),
            "mirror": self.mirror,
            "names": self.names,
            "files": self.files,
            "hashes": self.hashes,
            "background": self.background.source if self.background is not None else None,
            "rules": self.rules.as_dict() if self.rules is not None else None,
        }
        tensors = {"embeddings": self.embeddings, "labels": self.labels, "statistics": self.statistics}
        if self.background is not None:
            tensors |= {
                "background": self.background.embeddings,
                "background_labels": self.background.labels,
                "background_statistics": self.background.statistics,
            }
        whole = {name: value.contiguous() for name, value in tensors.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomically(path) as partial:
                save_file(whole, partial, metadata={"metasiam_gallery": json.dumps(about)})
        except (OSError, SafetensorError) as error:
            raise _unwritable(path, error) from error


def check_writable(path: Path) -> None:
    """Raise unless a gallery can be written at ``path``; changes nothing. For before pictures are embedded.

    Raises:
        MetaSiamError: naming the file and the reason.
    """
    if path.is_dir():
        raise MetaSiamError(f"{path} is a folder, not a gallery file. Pass --gallery FILE, e.g. gallery.safetensors.")
    try:
        check_can_write(path.absolute().parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> MetaSiamError:
    found = storage_error(error)
    reason, remedy = trouble(found) if found is not None else (str(error), "Look at its folder")
    remedies = [] if remedy == "Use another folder" else [remedy.removesuffix(", or use another folder")]
    advice = ", or ".join([*remedies, "write the gallery elsewhere with --out FILE"])
    return MetaSiamError(f"{path} cannot be written: {reason}. {advice[0].upper()}{advice[1:]}.")


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


@checked
def load_gallery(path: str | Path) -> Gallery:
    """Read a gallery file.

    Raises:
        MetaSiamError: if it is missing, damaged, no gallery, or of a newer MetaSiam.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise MetaSiamError(f"{path} {why_no_file(path)}, not a gallery file. Pass e.g. --gallery gallery.safetensors.")
    if not path.is_file():
        raise MetaSiamError(
            f"{path} does not exist. Make it with: metasiam enroll DIR --weights RUN --gallery {shlex.quote(str(path))}"
        )
    try:
        check_regular(path)
        with safe_open(str(path), framework="pt") as file:
            header = (file.metadata() or {}).get("metasiam_gallery")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        if (found := storage_error(error)) is not None:
            reason, remedy = trouble(found)
            raise MetaSiamError(f"{path} cannot be read: {reason}. {remedy}.") from error
        raise MetaSiamError(f"{path} is not a whole gallery file ({error}). Enroll again into a new one.") from error
    if header is None:
        raise MetaSiamError(f"{path} is not a gallery file. Pass one created by metasiam enroll.")
    try:
        about = parse_json(header)
        check(about, record({"schema": whole()}))
        if about["schema"] != SCHEMA:
            raise MetaSiamError(f"{path} is of schema {about['schema']}, not {SCHEMA}. Use a newer MetaSiam.")
        check(about, GALLERY)
        return _checked(_gallery(about, tensors))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise MetaSiamError(f"{path} is a damaged gallery ({reason}). Enroll again into a new one.") from error


def _gallery(about: dict[str, Any], tensors: dict[str, Tensor]) -> Gallery:
    key = about["embedder"]
    background = None
    if about["background"] is not None:
        background = Background(
            tensors["background"],
            tensors["background_labels"],
            tensors["background_statistics"],
            str(about["background"]),
        )
    return Gallery(
        embedder=EmbedderKey(str(key["path"]), str(key["fingerprint"]), EmbedderInfo(**info_fields(key["info"]))),
        mirror=bool(about["mirror"]),
        names=tuple(map(str, about["names"])),
        labels=tensors["labels"],
        embeddings=tensors["embeddings"],
        files=tuple(map(str, about["files"])),
        statistics=tensors["statistics"],
        background=background,
        hashes=tuple(map(str, about.get("hashes", ()))),
        rules=Rules.from_dict(about["rules"]) if about["rules"] is not None else None,
    )


def _checked(gallery: Gallery) -> Gallery:
    """Raise ValueError unless the parts fit each other."""
    count = len(gallery.files)
    right = (
        gallery.labels.dtype == torch.int64
        and gallery.labels.shape == (count,)
        and len(gallery.hashes) in (0, count)
        and gallery.embeddings.ndim == 2
        and gallery.embeddings.dtype == torch.float32
        and len(gallery.embeddings) == count
        and bool(torch.isfinite(gallery.embeddings).all())
        and _fit(gallery.statistics, count)
        and _background_fits(gallery)
        and torch.equal(torch.unique(gallery.labels), torch.arange(len(gallery.names)))
        and (gallery.rules is None or gallery.rules.fits(len(gallery.names)))
        and all(math.isfinite(value) for value in (gallery.rules.values() if gallery.rules is not None else ()))
    )
    if not right:
        raise ValueError("its parts do not fit each other")
    return gallery


def _fit(numbers: Tensor, count: int) -> bool:
    """Tell whether numbers are finite, of one precision, and in so many rows."""
    shape = numbers.ndim == 2 and numbers.dtype == torch.float32 and len(numbers) == count
    return shape and bool(torch.isfinite(numbers).all())


def _background_fits(gallery: Gallery) -> bool:
    """Tell whether a background is whole, and as wide as the pictures."""
    background = gallery.background
    if background is None:
        return True
    labels, count = background.labels, len(background.embeddings)
    wide = not gallery.files or (
        background.embeddings.shape[1:] == gallery.embeddings.shape[1:]
        and background.statistics.shape[1:] == gallery.statistics.shape[1:]
    )
    return (
        _fit(background.embeddings, count)
        and _fit(background.statistics, count)
        and labels.dtype == torch.int64
        and labels.shape == (count,)
        and wide
    )
