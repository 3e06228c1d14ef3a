"""``metasiam match``: do two pictures show the same thing?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from metasiam.cli import groups
from metasiam.cli.next_steps import YOUR_OWN, next_line, recognise
from metasiam.cli.terminal import say, terminal
from metasiam.errors import MetaSiamError
from metasiam.options.flags import Flags, takes
from metasiam.options.gallery import AnswerOptions, GalleryOptions


@takes(
    Flags(
        GalleryOptions,
        "where",
        defaults={"gallery": "gallery.safetensors, if it exists"},
        more={"gallery": {"help": "Use this gallery's embedder and calibration."}},
    ),
    Flags(AnswerOptions, "told", only=("as_json",), more={"as_json": {"help": "Print a JSON object."}}),
    groups.MACHINE,
)
def command(
    where: dict[str, Any],
    told: dict[str, Any],
    machine: dict[str, Any],
    first: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another picture.", show_default=False)],
) -> None:
    """Compare two pictures: same or different, similarity, threshold and probability.

    With a gallery the threshold is calibrated. With --weights alone, the pair head of a siamese run decides at the
    run's threshold, and similarity is its log-odds; for other weights the threshold is the stored one, or a fixed one.

    \b
    Examples:
      metasiam match a.jpg b.jpg --gallery pets.safetensors
      metasiam match a.jpg b.jpg --weights runs/mine

    Exit codes: 0 same; 1 different; 2 bad input.
    """
    for path in (first, second):
        if path.is_dir() or not path.exists():
            raise MetaSiamError(f"{path} is not a file. Pass two pictures.")
    from metasiam.progress_lines import lines
    from metasiam.workflows.identify import choose_judge

    given = GalleryOptions(**where)
    with_gallery = "gallery" in where or (not where and given.gallery.is_file())
    with lines(terminal(stderr=True)) as shown:
        judge = choose_judge(given, shown, with_gallery=with_gallery, **machine)
        verdict = judge.verdict(first, second, listener=shown)
    if told:
        row = {
            "same": verdict.same,
            "similarity": round(verdict.similarity, 4),
            "threshold": round(verdict.threshold, 4),
            "probability_same": round(verdict.probability, 4),
        }
        sys.stdout.write(json.dumps(row) + "\n")
    else:
        word, sure = ("same", verdict.probability) if verdict.same else ("different", 1 - verdict.probability)
        terminal(highlight=False, soft_wrap=True).print(
            f"{word} ({100 * sure:.0f} %): similarity {verdict.similarity:.3f}, threshold {verdict.threshold:.3f}"
        )
        say(judge.learned_on)
        if with_gallery:
            say(next_line(["metasiam", "identify", "PICTURES", "--gallery", str(given.gallery)], "which name is it?"))
        elif given.weights is not None:
            words = recognise(Path(given.weights), arch=given.arch)
            say(next_line(words, f"a threshold calibrated on {YOUR_OWN}"))
    if not verdict.same:
        raise typer.Exit(1)
