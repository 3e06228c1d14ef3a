"""What people hand over as pictures: files and folders, Pillow images, arrays and tensors, each under a name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from metasiam.data.names import plain
from metasiam.data.pixels import as_image, as_images
from metasiam.data.sources.files import find
from metasiam.errors import MetaSiamError
from metasiam.gallery.enrolled import IN_MEMORY, check_name
from metasiam.gallery.folders import pictures_by_folder
from metasiam.options.paths import check_pictures
from metasiam.progress import SILENT, Listener
from metasiam.wording import counted

#: One picture or several: a file, a folder of files, a Pillow image, an array [H, W] or [H, W, C], a tensor [C, H, W],
#: a block of images [N, ...] as ``metasiam.data.pixels.as_images`` takes it, or a list of any of these.
Pictures = Any
#: Pictures by name; a folder with a sub-folder for each name; or a block of pictures and their N names.
NamedPictures = Mapping[Any, Pictures] | str | os.PathLike[str] | tuple[Pictures, Sequence[Any]]


@dataclass(frozen=True, eq=False)
class InMemory:
    """A picture that is no file.

    Attributes:
        image: of any mode that Pillow has.
        called: what to call it in a message.
    """

    image: Image.Image
    called: str

    def __str__(self) -> str:
        return self.called

    @property
    def content(self) -> str:
        """A hash of its size and pixels, the same for copies."""
        digest = hashlib.blake2b(f"{self.image.mode} {self.image.size}".encode(), digest_size=16)
        digest.update(self.image.tobytes())
        return digest.hexdigest()

    @property
    def file(self) -> str:
        """What a gallery calls it in the place of a file's path."""
        return IN_MEMORY + self.content


Picture = Path | InMemory


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """List the picture files among ``paths``: files as they are, folders with everything below them, sorted.

    In folders, pictures are found as ``metasiam.data.sources.files.find`` does, those of formats that are not read
    here among them: embedding them says so. What is named is always taken.

    Raises:
        MetaSiamError: if a path does not exist or cannot be read, or there is no picture at all.
    """
    found: list[Path] = []
    check_pictures(paths)
    for path in paths:
        if path.is_dir():
            found += [Path(file.path) for file in find(path)]
        else:
            found.append(path)
    if not found:
        raise MetaSiamError(f"{', '.join(map(str, paths))} has no pictures in it. Pass files, or folders of them.")
    return list(dict.fromkeys(found))


def as_pictures(given: Pictures, of: str = "") -> list[Picture]:
    """List the pictures that somebody handed over.

    A tensor of three dimensions is one picture [C, H, W] where C is 1 or 3, an array one [H, W, C]; else it is a block
    of grey pictures [N, H, W].

    Args:
        given: see ``Pictures``.
        of: whose they are, for messages: `` of 'rex'``.

    Raises:
        MetaSiamError: for a file that does not exist, something that is no picture, or none at all.
    """
    found = _listed(given, of)
    if not found:
        raise MetaSiamError(f"there is no picture{of}. Pass files, folders, images or arrays.")
    return [
        InMemory(one.image, f"picture {place}{of}") if isinstance(one, InMemory) else one
        for place, one in enumerate(found)
    ]


def _listed(given: Any, of: str) -> list[Picture]:
    if isinstance(given, str | os.PathLike):
        return list(find_pictures([Path(given)]))
    if isinstance(given, Image.Image):
        return [InMemory(given, "")]
    if isinstance(given, Tensor | np.ndarray):
        return [InMemory(_image(one), "") for one in _images(given, f"the array{of}")]
    if isinstance(given, Iterable) and not isinstance(given, Mapping):
        return [picture for one in given for picture in _listed(one, of)]
    raise MetaSiamError(f"a {type(given).__name__}{of} is not a picture. Pass files, folders, images or arrays.")


def _images(given: Any, called: str) -> Iterable[Tensor]:
    """Return the images of an array or tensor: uint8 [C, H, W] each."""
    channels = given.shape[:1] if isinstance(given, Tensor) else given.shape[-1:]
    single = given.ndim == 2 or (given.ndim == 3 and tuple(channels) in ((1,), (3,)))
    if not single:
        return as_images(given, called)
    return [as_image(given.unsqueeze(0) if isinstance(given, Tensor) and given.ndim == 2 else given, called)]


def _image(pixels: Tensor) -> Image.Image:
    array = pixels.cpu().numpy()
    return Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


def named_pictures(given: NamedPictures, listener: Listener = SILENT) -> dict[str, list[Picture]]:
    """Return the pictures of each name.

    Args:
        given: see ``NamedPictures``.
        listener: told what of a folder is left out.

    Raises:
        MetaSiamError: for a name that cannot be one, pictures and names that do not fit each other, or as
            ``as_pictures``.
    """
    if isinstance(given, str | os.PathLike):
        return {name: list(files) for name, files in pictures_by_folder([Path(given)], listener).items()}
    named: dict[str, list[Picture]] = {}
    if isinstance(given, Mapping):
        for name, pictures in given.items():
            named.setdefault(_name(name), []).extend(as_pictures(pictures, f" of '{name}'"))
    else:
        pictures, names = _both(given)
        listed = as_pictures(pictures)
        for picture, name in zip(listed, _fitting(names, len(listed), "picture"), strict=True):
            named.setdefault(name, []).append(picture)
    if not named:
        raise MetaSiamError("there is no name to enroll. Pass a dict of names and their pictures.")
    return named


def named_embeddings(given: Any) -> dict[str, Tensor]:
    """Return the embeddings of each name: float32 [n, D] on the CPU.

    Args:
        given: arrays or tensors [n, D] or [D] by name; or [N, D] and N names.

    Raises:
        MetaSiamError: for anything else, numbers that are not finite, or several widths.
    """
    if isinstance(given, Mapping):
        found = {_name(name): as_embeddings(rows, f"the embeddings of '{name}'") for name, rows in given.items()}
    else:
        values, names = _both(given)
        rows = as_embeddings(values)
        place: dict[str, list[int]] = {}
        for row, name in enumerate(_fitting(names, len(rows), "embedding")):
            place.setdefault(name, []).append(row)
        found = {name: rows[torch.tensor(own)] for name, own in place.items()}
    widths = sorted({rows.shape[1] for rows in found.values()})
    if len(widths) != 1:
        raise MetaSiamError(f"embeddings must be of one width, not of {' and '.join(map(str, widths)) or 'none'}.")
    return found


def as_embeddings(given: Any, called: str = "embeddings") -> Tensor:
    """Return embeddings as float32 [N, D] on the CPU.

    Raises:
        MetaSiamError: unless they are finite numbers [N, D] or [D], as of numpy or torch.
    """
    advice = "Pass finite numbers [N, D], or pictures with the embedder that they are for."
    if not isinstance(given, Tensor | np.ndarray | Sequence) or isinstance(given, str):
        raise MetaSiamError(f"{called} must be numbers [N, D], not a {type(given).__name__}. {advice}")
    try:
        rows = torch.as_tensor(given if isinstance(given, Tensor) else np.asarray(given)).detach().cpu().float()
    except (TypeError, ValueError, RuntimeError) as error:
        raise MetaSiamError(f"{called} must be numbers [N, D]. {advice}") from error
    rows = rows.unsqueeze(0) if rows.ndim == 1 else rows
    if rows.ndim != 2 or 0 in rows.shape:
        raise MetaSiamError(f"{called} must be [N, D], not {list(rows.shape)}. {advice}")
    if not bool(rows.isfinite().all()):
        raise MetaSiamError(f"{called} must be finite numbers. {advice}")
    return rows


def _both(given: Any) -> tuple[Any, Sequence[Any]]:
    if not isinstance(given, tuple) or len(given) != 2:
        raise MetaSiamError(
            f"to enroll, pass a dict of names and their pictures, a folder, or (pictures, names), not a "
            f"{type(given).__name__}."
        )
    return given


def _fitting(names: Any, count: int, what: str) -> list[str]:
    """Return a name for each of so many things."""
    listed = names.tolist() if hasattr(names, "tolist") else list(names)
    if len(listed) != count:
        raise MetaSiamError(
            f"there {'is' if count == 1 else 'are'} {counted(count, what)} and {counted(len(listed), 'name')}. "
            f"Pass one name for each."
        )
    return [_name(name) for name in listed]


def _name(given: Any) -> str:
    name = plain(str(given))
    check_name(name)
    return name
