"""Folders of people's pictures: DIR/<name>/*.jpg, and the pictures of each name."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from metasiam.data.names import plain, plain_name
from metasiam.data.sources.files import is_passed_over
from metasiam.data.sources.tree import arrange, joined
from metasiam.errors import MetaSiamError
from metasiam.options.paths import check_named_folders
from metasiam.progress import SILENT, Listener
from metasiam.wording import counted


def pictures_by_folder(paths: Sequence[Path], listener: Listener = SILENT) -> dict[str, list[Path]]:
    """Return the pictures of each sub-folder, under its name; where there are parts, those for training alone.

    Args:
        paths: folders with DIR/<name>/*.jpg, or DIR/train/<name>/*.jpg.
        listener: told what is left out.

    Raises:
        MetaSiamError: if one is no folder, or there is no sub-folder with pictures in it.
    """
    named: dict[str, list[Path]] = {}
    known: dict[str, set[Path]] = {}
    check_named_folders(paths)
    for path in paths:
        tree = arrange(path)
        if tree.parts and "train" not in tree.parts:
            part = next(folders[0] for folders in tree.parts.values())
            raise MetaSiamError(
                f"{path} has {part}/ but no train/. Pass {shlex.quote(str(path / part))} to enroll that."
            )
        pictures = sorted(tree.pictures + tree.foreign)
        chosen = [p for p in pictures if p.part != "test" and tree.split.get(p.domain, "train") == "train"]
        for text in tree.outside_notes() if chosen else []:
            listener.note(text)
        if len(chosen) < len(pictures) or tree.validation:
            rest = [folder for part, folders in tree.parts.items() if part != "train" for folder in folders]
            count = counted(len(pictures) - len(chosen) + len(tree.validation), "picture")
            listener.note(
                f"names come from {joined(tree.parts['train'])} alone. The {count} of {joined(rest)} can show "
                f"how well they are recognised: metasiam identify {shlex.quote(str(path / rest[0]))}",
            )
        for unseen in dict.fromkeys(picture.domain for picture in chosen if not plain_name(picture.domain)):
            listener.note(f"the folder {unseen!r} has a name that cannot be displayed: left out. Rename it.")
        for picture in chosen:
            file, name = Path(picture.path), plain_name(picture.domain)
            if not name:
                continue
            own = known.setdefault(name, set())
            if file.resolve() not in own:
                own.add(file.resolve())
                named.setdefault(name, []).append(file)
        with_pictures = {picture.domain for picture in chosen}
        for folder in sorted(p for p in path.iterdir() if p.is_dir() and not is_passed_over(p.name)):
            if not tree.parts and folder.name not in with_pictures and plain(folder.name) not in named:
                listener.note(f"{folder} has no pictures in it: left out")
    if not named:
        raise MetaSiamError(
            f"{', '.join(map(str, paths))} has no folders with pictures in it. Lay them out as DIR/<name>/*.jpg, "
            "or add --name NAME."
        )
    return named
