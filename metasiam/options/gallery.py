"""What enroll, identify, match and draw are told: which gallery, which embedder, and what becomes of the pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from metasiam.errors import MetaSiamError
from metasiam.option_values import MOST_SEED
from metasiam.options.declare import Opt
from metasiam.options.paths import check_weights

_GALLERY, _ENROLL, _ANSWERS, _APP = "Gallery", "Enrolling", "Answers", "App"

#: How files of answers may end.
ANSWER_FILES = (".csv", ".jsonl")


@dataclass(frozen=True, kw_only=True)
class GalleryOptions:
    """A gallery, and the embedder that it is used with."""

    gallery: Annotated[Path, Opt("Use this gallery file.", panel=_GALLERY)] = Path("gallery.safetensors")
    weights: Annotated[
        str | None,
        Opt(
            "Use the embedder of this run or weights file.",
            panel=_GALLERY,
            nothing="the gallery's",
            found=check_weights,
        ),
    ] = None
    arch: Annotated[
        str | None,
        Opt(
            "Name the architecture, for weights that do not say it; timm:NAME.TAG needs no --weights.",
            panel=_GALLERY,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class EnrollOptions:
    """What is put into a gallery or taken out of it, and what a new one is made from."""

    name: Annotated[str | None, Opt("Give all these pictures this name.", panel=_ENROLL)] = None
    remove: Annotated[list[str] | None, Opt("Remove this name or this picture (repeatable).", panel=_ENROLL)] = None
    forget_missing: Annotated[bool, Opt("Remove pictures whose files are gone.", panel=_ENROLL)] = False
    background: Annotated[
        str | None,
        Opt(
            "Learn from pictures of other things what unknown looks like: a --data name, or none.",
            panel=_ENROLL,
            nothing="what the run was trained on",
        ),
    ] = None
    mirror: Annotated[
        bool | None,
        Opt(
            "Average each embedding with that of the mirrored picture.",
            panel=_ENROLL,
            nothing="as trained",
            flag="--mirror/--no-mirror",
        ),
    ] = None
    seed: Annotated[
        int, Opt("Draw the pictures for the calibration with this seed.", panel=_ENROLL, least=0, largest=MOST_SEED)
    ] = 0
    out: Annotated[Path | None, Opt("Write the changed gallery here instead of changing --gallery.", panel=_ENROLL)] = (
        None
    )


def _check_ending(out: Path) -> None:
    if out.suffix.lower() not in ANSWER_FILES:
        raise MetaSiamError(f"{out} does not end in {' or '.join(ANSWER_FILES)}. Name such a file with --out.")


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """How answers are given."""

    as_json: Annotated[bool, Opt("Print one JSON object per line and picture.", panel=_ANSWERS, flag="--json")] = False
    as_csv: Annotated[bool, Opt("Print comma-separated values with a header.", panel=_ANSWERS, flag="--csv")] = False
    out: Annotated[
        Path | None, Opt("Write the answers to this file too: .csv or .jsonl.", panel=_ANSWERS, found=_check_ending)
    ] = None
    overwrite: Annotated[bool, Opt("Replace the file that --out names.", panel=_ANSWERS)] = False


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """Where the drawing app is."""

    host: Annotated[
        str, Opt("Listen on this address; any other than the default lets other machines in.", panel=_APP)
    ] = "127.0.0.1"
    port: Annotated[int, Opt("Listen on this port; 0 picks a free one.", panel=_APP)] = 7860
    browser: Annotated[
        bool, Opt("Open the page in a browser.", panel=_APP, nothing="yes", flag="--browser/--no-browser")
    ] = True
