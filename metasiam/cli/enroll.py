"""``metasiam enroll``: name things from a few pictures of each."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from metasiam.cli import own_pictures as o
from metasiam.cli.next_steps import next_line
from metasiam.cli.terminal import terminal
from metasiam.data.names import plain
from metasiam.errors import MetaSiamError
from metasiam.runs import check_new_file
from metasiam.wording import counted

if TYPE_CHECKING:
    from metasiam.gallery import Gallery


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="A folder with DIR/<name>/*.jpg in it; or, with --name, the pictures.", show_default=False),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of all these pictures.")] = None,
    gallery: o.GalleryFile = o.DEFAULT_GALLERY,
    weights: o.Weights = None,
    arch: o.Arch = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", help="Remove this name or this picture (repeatable).")
    ] = None,
    forget_missing: Annotated[
        bool, typer.Option("--forget-missing", help="Remove pictures whose files are gone.")
    ] = False,
    background: Annotated[
        str | None,
        typer.Option(
            "--background",
            help="Pictures of other things, to learn what unknown looks like: a --data name, or none.",
            show_default="what the run was trained on",
        ),
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirror",
            help="Average each embedding with that of the mirrored picture.",
            show_default="as trained",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of the calibration.")] = 0,
    device: o.Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the changed gallery here instead of changing --gallery.", show_default=False),
    ] = None,
) -> None:
    """Name things from a few pictures of each, in a gallery file. Without pictures, show what is in it.

    One picture per name is enough. Enrolling a name again adds pictures; copies do not count. A picture that moved to
    another name's folder moves in the gallery too. Thresholds are recalibrated each time.
    Of DIR/train/<name>/ and DIR/test/<name>/, only the pictures of train/ are enrolled.

    Example: [bold]metasiam enroll photos/ --weights runs/mine --gallery pets.safetensors[/bold]

    Exit codes: 0 done; 1 done, but some pictures could not be read or show nothing; 2 bad input, nothing changed.
    """
    from metasiam.options.paths import check_pictures, check_weights
    from metasiam.runs.locks import file_held

    if out is not None:
        check_new_file(out, overwrite=False, instead=f"Use --gallery {shlex.quote(str(out))} to add to it")
    only_show = not paths and not remove and not forget_missing
    if only_show:
        if out is not None:
            raise MetaSiamError(
                f"--out {out} is for a changed gallery, and nothing changes here. Pass pictures, or --remove."
            )
        if not gallery.exists():
            raise MetaSiamError(
                f"{gallery} does not exist yet. Pass a folder with DIR/<name>/*.jpg, and --weights RUN."
            )
    check_pictures(paths or ())
    if weights is not None:
        check_weights(weights)
    # torch only now, when what was given can work.
    from metasiam.gallery import calibrated, load_gallery
    from metasiam.gallery.adding import left_without
    from metasiam.gallery.recognise import thresholds_moved
    from metasiam.gallery.store import check_writable
    from metasiam.gallery.upkeep import missing_note

    if only_show:
        shown = load_gallery(gallery)
        _show(shown, gallery)
        _note(missing_note(shown))
        return
    with file_held(gallery, o.Notes()):  # neither loses the other's
        opened = load_gallery(gallery) if gallery.exists() else None
        if opened is not None and (background is not None or mirror is not None):
            raise MetaSiamError(f"--background and --mirror belong to a new gallery; {gallery} has its own. Omit them.")
        check_writable(out or gallery)  # before pictures are embedded for nothing
        before = opened
        for gone in remove or ():
            if opened is None:
                raise MetaSiamError(f"{gallery} does not exist, so '{gone}' cannot be removed from it.")
            opened = left_without(opened, gone, o.Notes())
        left_out = 0
        if paths:
            opened, left_out = _add(opened, _Start(weights, arch, background, mirror, device), paths, name)
        if forget_missing:
            opened = _without_missing(opened, gallery)
        assert opened is not None
        result = calibrated(opened, seed=seed)
        result.save(out or gallery)
    if before is not None and (moved := thresholds_moved(before, result)):
        o.say(f"thresholds are learned from all names together: {counted(moved, 'earlier name')} got a new one")
    _show(result, out or gallery)
    _note(missing_note(result))
    if left_out:
        raise typer.Exit(1)


def _note(text: str) -> None:
    if text:
        o.note(text)


def _without_missing(opened: Gallery | None, path: Path) -> Gallery:
    from metasiam.gallery.adding import tell_gone
    from metasiam.gallery.upkeep import without_missing

    if opened is None:
        raise MetaSiamError(f"{path} does not exist, so it has no pictures to forget. Omit --forget-missing.")
    left, count = without_missing(opened)
    o.note(f"{counted(count, 'missing picture')} removed" if count else "no picture is missing")
    tell_gone(opened, left, o.Notes())
    return left


@dataclass(frozen=True)
class _Start:
    """The options that say which embedder it is, and what a new gallery is made from."""

    weights: str | None
    arch: str | None
    background: str | None
    mirror: bool | None
    device: str


def _add(opened: Gallery | None, start: _Start, paths: list[Path], name: str | None) -> tuple[Gallery, int]:
    """Put pictures into a gallery, or into a new one; return it, not calibrated yet, and how many were left out."""
    from metasiam.gallery import Gallery, open_embedder
    from metasiam.gallery.adding import take_up
    from metasiam.gallery.background import chosen_background, of_run
    from metasiam.gallery.enrolled import check_name
    from metasiam.gallery.folders import pictures_by_folder
    from metasiam.gallery.given import find_pictures
    from metasiam.gallery.recognise import suitability, unlikeness
    from metasiam.progress_lines import lines

    named = pictures_by_folder(paths, o.Notes()) if name is None else {plain(name): find_pictures(paths)}
    for one in named:
        check_name(one)
    key = opened.embedder if opened is not None else None
    embedder, key = open_embedder(start.weights, arch=start.arch, key=key, listener=o.Notes())
    embedder = o.on_device(embedder, start.device)
    mirror = opened.mirror if opened is not None else key.info.mirrored if start.mirror is None else start.mirror
    found = o.embedded(embedder, key.info, [path for pictures in named.values() for path in pictures], mirror=mirror)
    if opened is None:
        weights = None if start.weights is None else Path(start.weights)
        if start.background is None and (weights is None or of_run(weights) is None):
            o.say("no background pictures: thresholds come from your own pictures alone (see --background)")
        with lines(terminal(stderr=True)) as shown:
            known = chosen_background(
                start.background, weights, embedder, key.info, mirror=mirror, names=named, listener=shown
            )
        opened = Gallery(key, mirror, background=known)
    opened = take_up(opened, named, found, key, o.Notes())
    o.say(suitability(key.info, unlikeness(found.statistics, opened)))
    return opened, found.left_out


def _show(gallery: Gallery, path: Path) -> None:
    from metasiam.gallery.rehearsal import rehearse

    console = terminal(highlight=False, soft_wrap=True)
    if gallery.rules is None:
        console.print(Text(f"{path} has no names"))
        return
    console.print(Text(f"{path}: {counted(len(gallery.names), 'name')}, {counted(len(gallery.files), 'picture')}"))
    acted = rehearse(gallery)
    assert acted is not None
    table = Table()
    table.add_column("name")
    for header in ("pictures", "threshold", "recognised"):
        table.add_column(header, justify="right")
    rows = zip(gallery.counts().items(), gallery.rules.thresholds, acted.named, acted.of, strict=True)
    for (name, count), threshold, right, tried in rows:
        table.add_row(Text(name), str(count), f"{threshold:.3f}", f"{right} of {tried}" if tried else "–")
    console.print(table, soft_wrap=False)
    console.print(Text(f"thresholds learned on {gallery.rules.learned_on}{_own_weight(gallery)}"))
    for line in acted.said():
        console.print(Text(line))
    console.print(Text(next_line(["metasiam", "identify", "PICTURES", "--gallery", str(path)])))


def _own_weight(gallery: Gallery) -> str:
    """Say how much the names' own pictures count in the thresholds, next to a background."""
    assert gallery.rules is not None
    others, strength = len(gallery.names) - 1, gallery.rules.strength
    if others < 1 or gallery.background is None:
        return ""
    return f"; the similarity of your own names counts {100 * others / (others + strength):.0f} %"
