"""``metasiam match``: do two pictures show the same thing?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from metasiam.cli import own_pictures as o
from metasiam.cli.next_steps import YOUR_OWN, next_line, recognise
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

    With a gallery the threshold is calibrated. With --weights alone, the pair head of a siamese run decides at the
    run's threshold, and similarity is its log-odds; for other weights the threshold is the stored one, or a fixed one.

    Example: [bold]metasiam match a.jpg b.jpg --gallery pets.safetensors[/bold]

    Exit codes: 0 same; 1 different; 2 bad input.
    """
    from metasiam.options.paths import check_gallery, check_weights

    for path in (first, second):
        if path.is_dir() or not path.exists():
            raise MetaSiamError(f"{path} is not a file. Pass two pictures.")
    if gallery is not None:
        check_gallery(gallery)
    if weights is not None:
        check_weights(weights)
    # torch only now, when what was given can work.
    from metasiam.gallery import load_gallery, open_embedder
    from metasiam.gallery.matching import judge_by_head, judge_by_rules
    from metasiam.learners.trained_head import has_head
    from metasiam.training.machine import choose_device

    if gallery is None and weights is None and arch is None and o.DEFAULT_GALLERY.is_file():
        gallery = o.DEFAULT_GALLERY
    opened = load_gallery(gallery) if gallery is not None else None
    if opened is None and arch is None and weights is not None and has_head(Path(weights)):
        judge = judge_by_head(Path(weights), choose_device(device))
    else:
        key = opened.embedder if opened is not None else None
        embedder, key = open_embedder(weights, arch=arch, key=key, listener=o.Notes())
        mirror = opened.mirror if opened is not None else key.info.mirrored
        judge = judge_by_rules(o.on_device(embedder, device), key.info, mirror=mirror, gallery=opened)
    verdict = judge.verdict(first, second, listener=o.Notes())
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
        o.say(judge.learned_on)
        if opened is not None:
            o.say(next_line(["metasiam", "identify", "PICTURES", "--gallery", str(gallery)], "which name is it?"))
        elif weights is not None:
            words = recognise(Path(weights), arch=arch)
            o.say(next_line(words, f"a threshold calibrated on {YOUR_OWN}"))
    if not verdict.same:
        raise typer.Exit(1)
