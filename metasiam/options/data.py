"""Which data, and how its domains are split."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from metasiam import catalogue
from metasiam.data.split_files import check_split
from metasiam.options.declare import Opt
from metasiam.options.paths import check_data

_DATA, _SHOWN = "Data", "Shown"


@dataclass(frozen=True)
class DataOptions:
    """Which data, and how its domains are split; None means not given.

    ``keep_back`` is a preset's validation, for data that have no split of their own; ``squeeze`` is how runs of before
    brought npz pictures to their size.
    """

    data: Annotated[
        str | None,
        Opt(
            "Images to train and test on",
            panel=_DATA,
            nothing="glyphs",
            names=catalogue.sources,
            found=check_data,
        ),
    ] = None
    data_dir: Annotated[
        Path | None, Opt("Where downloads live.", panel=_DATA, nothing="$METASIAM_DATA or the user cache")
    ] = None
    image_size: Annotated[
        int | tuple[int, int] | None,
        Opt("Crop images to their middle square and resize it to so many pixels.", panel=_DATA),
    ] = None
    skip_unreadable: Annotated[bool, Opt("Skip images that cannot be read.", panel=_DATA)] = False
    held_out: Annotated[
        int | None,
        Opt("Hold out the last so many domains.", panel=_DATA, nothing="the data's own split, else 10", least=0),
    ] = None
    split: Annotated[
        str | None,
        Opt(
            "cifar-fs, fc100, omniglot-vinyals or a JSON file, instead of --held-out; NAME:validation to tune.",
            panel=_DATA,
            found=check_split,
        ),
    ] = None
    validation: Annotated[
        int | None,
        Opt("Hold out so many seen domains to choose thresholds and adaptation on.", panel=_DATA, nothing="0", least=0),
    ] = None
    keep_back: Annotated[int | None, Opt(hidden=True)] = None
    squeeze: Annotated[bool, Opt(hidden=True)] = False

    def given(self) -> dict[str, Any]:
        """Return the options that were given."""
        return {name: value for name, value in self.__dict__.items() if value is not None and value is not False}

    def with_defaults(self, preset: Mapping[str, Any]) -> DataOptions:
        """Fill what was not given from a preset, then from the defaults."""
        values = {"data": preset.get("data", "glyphs"), "keep_back": preset.get("validation")}
        return replace(self, **{name: value for name, value in values.items() if getattr(self, name) is None})


def saved(options: Any) -> dict[str, Any]:
    """Return options of data as ``config.json`` keeps them: files and folders are found from anywhere."""
    values = {name: _absolute(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    kind, colon, path = str(values["data"] or "").partition(":")
    if kind in ("folder", "npz", "pairs") and colon:
        values["data"] = f"{kind}:{_absolute(path)}"
    if str(values.get("split") or "").endswith(".json"):
        values["split"] = _absolute(values["split"])
    return values


def _absolute(path: str | Path) -> str:
    return os.path.abspath(Path(path).expanduser())


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """What is shown of data."""

    every: Annotated[bool, Opt("List every domain, however many there are.", panel=_SHOWN, flag="--all")] = False
    out: Annotated[Path | None, Opt("Write a grid of pictures to this PNG file.", panel=_SHOWN)] = None
    columns: Annotated[
        int, Opt("Show so many pictures of each domain in it, from 1 to 100.", panel=_SHOWN, least=1, most=100)
    ] = 12
    rows: Annotated[
        int, Opt("Show so many domains in it, evenly spread, from 1 to 500.", panel=_SHOWN, least=1, most=500)
    ] = 20
    overwrite: Annotated[bool, Opt("Replace the file that --out names.", panel=_SHOWN)] = False
