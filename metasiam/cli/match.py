"""``metasiam match``: do two pictures show the same thing?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from metasiam.cli import own_pictures as o
from metasiam.cli.terminal import terminal
from metasiam.errors import MetaSiamError


def command(
    first: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another picture.", show_default=False)],
    gallery: Annotated[
        Path | None,
        typer.Option(
            "--gallery",
            help="Gallery whose embedder and calibration are used.",
            show_default="gallery.safetensors, if it exists",
        ),
    ] = None,
    weights: o.Weights = None,
    arch: o.Arch = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    device: o.Device = "auto",
) -> None:
    """Compare two pictures: same or different, similarity, threshold and probability.

    With a gallery the threshold is calibrated; with --weights alone it is the one stored with them, or a fixed one.

    Example: [bold]metasiam match a.jpg b.jpg --gallery pets.safetensors[/bold]

    Exit codes: 0 same; 1 different; 2 bad input.
    """
    from metasiam.gallery import compare, load_gallery, open_embedder
    from metasiam.gallery.pictures import BLANK, embed_pictures
    from metasiam.gallery.recognise import pair_rules

    if gallery is None and weights is None and arch is None and o.DEFAULT_GALLERY.is_file():
        gallery = o.DEFAULT_GALLERY
    opened = load_gallery(gallery) if gallery is not None else None
    embedder, key = open_embedder(
        weights, arch=arch, key=opened.embedder if opened is not None else None, listener=o.Notes()
    )
    mirror = opened.mirror if opened is not None else key.info.mirrored
    for path in (first, second):
        if path.is_dir() or not path.exists():
            raise MetaSiamError(f"{path} is not a file. Pass two pictures.")
    found = embed_pictures(o.on_device(embedder, device), key.info, [first, second], mirror=mirror, listener=None)
    for text in found.notes:
        o.note(text)
    if found.blank:
        raise MetaSiamError(f"{found.blank[0]} has {BLANK}. Use another picture.")
    if len(found.paths) < 2:
        raise MetaSiamError(f"{found.unreadable[0][0]} cannot be read ({found.unreadable[0][1]}). Use another picture.")
    rules = pair_rules(key.info, opened)
    verdict = compare(found.embeddings[0], found.embeddings[1], rules, key.info.distance)
    if as_json:
        row = {
            "same": verdict.same,
            "similarity": round(verdict.similarity, 4),
            "threshold": round(verdict.threshold, 4),
            "probability_same": round(verdict.probability, 4),
        }
        sys.stdout.write(json.dumps(row) + "\n")
    else:
        word = "same" if verdict.same else "different"
        sure = verdict.probability if verdict.same else 1 - verdict.probability
        terminal(highlight=False, soft_wrap=True).print(
            f"{word} ({100 * sure:.0f} %): similarity {verdict.similarity:.3f}, threshold {verdict.threshold:.3f}"
        )
        o.say(f"the threshold was learned on {rules.learned_on}" if opened is not None else _fixed(key.info))
    if not verdict.same:
        raise typer.Exit(1)


def _fixed(info: object) -> str:
    if getattr(info, "threshold", None) is not None:
        return "the threshold is the one stored with the weights, not calibrated for these pictures: see --gallery"
    return "the threshold is fixed, not calibrated: see --gallery"
