"""Whether what an option names is there: asked before torch is imported, and before anything is loaded."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from metasiam import catalogue
from metasiam.errors import MetaSiamError
from metasiam.runs import EMBEDDER_FILE
from metasiam.runs.reading import why_no_file


def check_weights(path: str | Path) -> None:
    """Raise unless there is a folder with weights or a file where they are to be read.

    Raises:
        MetaSiamError: saying what to pass.
    """
    path = Path(path)
    if path.is_dir() and not (path / EMBEDDER_FILE).is_file():
        raise MetaSiamError(
            f"{path} does not contain {EMBEDDER_FILE}. Pass the folder of a finished run (metasiam reptile or triplet) "
            "or a weights file, or finish this run with --resume."
        )
    if not path.is_dir() and not path.is_file():
        raise MetaSiamError(f"{path} {why_no_file(path)}. Pass a run folder or a weights file.")


def check_gallery(path: Path) -> None:
    """Raise unless there is a gallery file.

    Raises:
        MetaSiamError: saying how one is made.
    """
    if path.exists() and not path.is_file():
        raise MetaSiamError(f"{path} {why_no_file(path)}, not a gallery file. Pass e.g. --gallery gallery.safetensors.")
    if not path.is_file():
        raise MetaSiamError(
            f"{path} does not exist. Make it with: metasiam enroll DIR --weights RUN --gallery {shlex.quote(str(path))}"
        )


def check_pictures(paths: Iterable[Path]) -> None:
    """Raise unless pictures, or folders of them, are where they are said to be.

    Raises:
        MetaSiamError: naming the first that is not.
    """
    for path in paths:
        if not path.exists():
            raise MetaSiamError(f"{path} does not exist. Pass picture files, or folders of them.")


def check_named_folders(paths: Iterable[Path]) -> None:
    """Raise unless each path is a folder, in which names can be sub-folders.

    Raises:
        MetaSiamError: naming the first that is none.
    """
    for path in paths:
        if not path.is_dir():
            raise MetaSiamError(f"{path} is not a folder. Pass DIR with DIR/<name>/*.jpg in it, or add --name NAME.")


def check_folder(root: Path) -> None:
    """Raise unless a folder of images can be listed.

    Raises:
        MetaSiamError: saying how it is laid out.
    """
    if not os.path.isdir(root):  # Path.is_dir raises below a folder that may not be entered
        raise MetaSiamError(
            f"{root} is not a folder that can be read. Pass --data folder:PATH with PATH/<domain>/<image> in it."
        )


def check_pair_list(file: Path) -> None:
    """Raise unless there is a file of labelled pairs.

    Raises:
        MetaSiamError: saying what it holds.
    """
    if not file.is_file():
        raise MetaSiamError(
            f"{file} {why_no_file(file)}. Pass --data pairs:FILE.csv with the columns path_a,path_b,same."
        )


def check_data(data: str) -> None:
    """Raise unless ``--data`` names a source of images, and what its path names is there.

    Raises:
        MetaSiamError: saying what to pass.
    """
    row, path = catalogue.find_source(data)
    if row.name == "folder":
        check_folder(Path(path).expanduser())
    elif row.name == "npz" and not os.path.exists(Path(path).expanduser()):
        raise MetaSiamError(f"{path} does not exist. Check the path given to --data npz:PATH.")


def check_pairs(data: str) -> None:
    """Raise if ``--data pairs:FILE`` names a file that is not there.

    Raises:
        MetaSiamError: saying what to pass.
    """
    kind, _, path = data.partition(":")
    if kind == "pairs" and path:
        check_pair_list(Path(path).expanduser())
