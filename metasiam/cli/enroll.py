"""``metasiam enroll``: name things from a few pictures of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from metasiam.cli import groups
from metasiam.cli.next_steps import next_line
from metasiam.cli.terminal import say, terminal
from metasiam.options.flags import Flags, takes
from metasiam.options.gallery import EnrollOptions, GalleryOptions
from metasiam.wording import counted

if TYPE_CHECKING:
    from metasiam.gallery import Gallery


@takes(Flags(GalleryOptions, "where"), Flags(EnrollOptions, "wanted"), groups.MACHINE)
def command(
    where: dict[str, Any],
    wanted: dict[str, Any],
    machine: dict[str, Any],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="A folder with DIR/<name>/*.jpg in it; or, with --name, the pictures.", show_default=False),
    ] = None,
) -> None:
    """Name things from a few pictures of each, in a gallery file. Without pictures, show what is in it.

    One picture per name is enough. Enrolling a name again adds pictures; copies do not count. A picture that moved to
    another name's folder moves in the gallery too. Thresholds are recalibrated each time.
    Of DIR/train/<name>/ and DIR/test/<name>/, only the pictures of train/ are enrolled.

    \b
    Examples:
      metasiam enroll photos/ --weights runs/mine --gallery pets.safetensors
      metasiam enroll rex*.jpg --name Rex --gallery pets.safetensors
      metasiam enroll --gallery pets.safetensors

    Exit codes: 0 done; 1 done, but some pictures could not be read or show nothing; 2 bad input, nothing changed.
    """
    from metasiam.progress_lines import lines
    from metasiam.workflows.enroll import enroll_pictures

    with lines(terminal(stderr=True)) as shown:
        done = enroll_pictures(paths or (), EnrollOptions(**wanted), GalleryOptions(**where), shown, **machine)
    if done.fit:
        say(done.fit)
    if done.moved:
        say(f"thresholds are learned from all names together: {counted(done.moved, 'earlier name')} got a new one")
    _show(done.gallery, done.path)
    if done.left_out:
        raise typer.Exit(1)


def _show(gallery: Gallery, path: Path) -> None:
    from metasiam.gallery.rehearsal import rehearse
    from metasiam.gallery.upkeep import missing_note
    from metasiam.reports.gallery_tables import learned_on, names_table

    console = terminal(highlight=False, soft_wrap=True)
    acted = rehearse(gallery)
    if acted is None:
        console.print(Text(f"{path} has no names"))
        return
    console.print(Text(f"{path}: {counted(len(gallery.names), 'name')}, {counted(len(gallery.files), 'picture')}"))
    console.print(names_table(gallery, acted), soft_wrap=False)
    for line in (learned_on(gallery), *acted.said()):
        console.print(Text(line))
    console.print(Text(next_line(["metasiam", "identify", "PICTURES", "--gallery", str(path)])))
    if text := missing_note(gallery):
        say(f"note: {text}")
