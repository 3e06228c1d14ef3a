"""``metasiam enroll``: name things from a few pictures of each."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from metasiam.cli import own_pictures as o
from metasiam.cli.terminal import terminal
from metasiam.data.names import plain, plain_name
from metasiam.errors import MetaSiamError
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
    from metasiam.gallery import calibrated, load_gallery
    from metasiam.gallery.recognise import thresholds_moved
    from metasiam.gallery.store import check_writable
    from metasiam.gallery.upkeep import missing_note
    from metasiam.runs.locks import file_held

    if out is not None and out.exists():
        there = shlex.quote(str(out))
        raise MetaSiamError(f"{out} exists already. Choose another --out, or --gallery {there} to add to it.")
    if not paths and not remove and not forget_missing:
        if out is not None:
            raise MetaSiamError(
                f"--out {out} is for a changed gallery, and nothing changes here. Pass pictures, or --remove."
            )
        if not gallery.exists():
            raise MetaSiamError(
                f"{gallery} does not exist yet. Pass a folder with DIR/<name>/*.jpg, and --weights RUN."
            )
        shown = load_gallery(gallery)
        _show(shown, gallery)
        _note(missing_note(shown))
        return
    with file_held(gallery, o.Notes()):  # neither loses the other's
        new = None if gallery.exists() else _Start(weights, arch, background, mirror, device)
        opened = load_gallery(gallery) if new is None else None
        if opened is not None and (background is not None or mirror is not None):
            raise MetaSiamError(f"--background and --mirror belong to a new gallery; {gallery} has its own. Omit them.")
        check_writable(out or gallery)  # before pictures are embedded for nothing
        before = opened
        for gone in remove or ():
            if opened is None:
                raise MetaSiamError(f"{gallery} does not exist, so '{gone}' cannot be removed from it.")
            opened = _without(opened, gone)
        unreadable = 0
        if paths:
            named = {plain(name): _pictures(paths)} if name is not None else _folders(paths)
            opened, unreadable = _add(opened, new, named, weights, arch, device)
        if forget_missing:
            opened = _without_missing(opened, gallery)
        assert opened is not None
        result = calibrated(opened, seed=seed)
        result.save(out or gallery)
    if before is not None and (moved := thresholds_moved(before, result)):
        o.say(f"thresholds are learned from all names together: {counted(moved, 'earlier name')} got a new one")
    _show(result, out or gallery)
    _note(missing_note(result))
    if unreadable:
        raise typer.Exit(1)


def _note(text: str) -> None:
    if text:
        o.note(text)


def _without(opened: Gallery, gone: str) -> Gallery:
    """Take out a name or, where it is none, a picture; names that have none left are told."""
    from metasiam.gallery.upkeep import without_picture

    left = None if plain(gone) in map(plain, opened.names) else without_picture(opened, gone)
    if left is None:
        return opened.without(gone)
    _tell_gone(opened, left)
    return left


def _without_missing(opened: Gallery | None, path: Path) -> Gallery:
    from metasiam.gallery.upkeep import without_missing

    if opened is None:
        raise MetaSiamError(f"{path} does not exist, so it has no pictures to forget. Omit --forget-missing.")
    left, count = without_missing(opened)
    o.note(f"{counted(count, 'missing picture')} removed" if count else "no picture is missing")
    _tell_gone(opened, left)
    return left


def _tell_gone(before: Gallery, after: Gallery) -> None:
    for name in before.names:
        if plain(name) not in map(plain, after.names):
            o.note(f"'{name}' has no picture left and was removed")


class _Start:
    """What a new gallery is made from."""

    def __init__(
        self, weights: str | None, arch: str | None, background: str | None, mirror: bool | None, device: str
    ) -> None:
        self.weights, self.arch, self.background, self.mirror, self.device = weights, arch, background, mirror, device

    def gallery(self, embedder: Any, key: Any, names: Iterable[str]) -> Gallery:
        """Return an empty gallery with its background, in which none of the names may be."""
        from metasiam.gallery import Gallery

        mirror = key.info.mirrored if self.mirror is None else self.mirror
        return Gallery(key, mirror, background=self._background(embedder, key, mirror, names))

    def _background(self, embedder: Any, key: Any, mirror: bool, names: Iterable[str]) -> Any:
        from metasiam.cli.progress import lines
        from metasiam.gallery.background import BackgroundChoice, load_background, of_run

        if self.background == "none":
            return None
        choice = BackgroundChoice(self.background, {}) if self.background is not None else None
        if choice is None and self.weights is not None:
            choice = of_run(Path(self.weights))
        if choice is None:
            o.say("no background pictures: thresholds come from your own pictures alone (see --background)")
            return None
        try:
            with lines(terminal(stderr=True)) as shown:
                return load_background(choice, embedder, key.info, mirror=mirror, listener=shown, without=names)
        except MetaSiamError as error:
            if self.background is not None:
                raise
            o.say(f"no background pictures ({error}): thresholds come from your own pictures alone")
            return None


def _add(
    opened: Gallery | None,
    new: _Start | None,
    named: dict[str, list[Path]],
    weights: str | None,
    arch: str | None,
    device: str,
) -> tuple[Gallery, int]:
    from metasiam.gallery import open_embedder
    from metasiam.gallery.recognise import suitability, unlikeness
    from metasiam.gallery.store import check_name
    from metasiam.gallery.upkeep import content_of, join

    for name in named:
        check_name(name)
    embedder, key = open_embedder(
        weights, arch=arch, key=opened.embedder if opened is not None else None, listener=o.Notes()
    )
    embedder = o.on_device(embedder, device)
    paths = [path for pictures in named.values() for path in pictures]
    found = o.embedded(embedder, key.info, paths, mirror=_mirrors(opened, new, key))
    if opened is None:
        assert new is not None
        opened = new.gallery(embedder, key, named)
    place = {path: row for row, path in enumerate(found.paths)}
    names, rows = [], []
    for name, pictures in named.items():
        own = [place[path] for path in pictures if path in place]
        if not own:
            o.say(f"metasiam: '{name}' has no usable picture: left out")
        names += [name] * len(own)
        rows += own
    # Resolved: the same name in two folders is two pictures, and two names of one file are one.
    files = [str(found.paths[row].resolve()) for row in rows]
    before, hashes = opened, [content_of(file) for file in files]
    joined = join(opened, names, files, hashes)
    for text in joined.notes:
        o.note(text)
    names, files, hashes = ([values[i] for i in joined.add] for values in (names, files, hashes))
    rows = [rows[i] for i in joined.add]
    opened = joined.gallery.with_named(
        names, files, found.embeddings[rows], found.statistics[rows], embedder=key, hashes=hashes
    )
    _tell_gone(before, opened)
    o.say(suitability(key.info, unlikeness(found.statistics, opened)))
    return opened, len(found.unreadable) + len(found.blank)


def _mirrors(opened: Gallery | None, new: _Start | None, key: Any) -> bool:
    if opened is not None:
        return opened.mirror
    assert new is not None
    return bool(key.info.mirrored if new.mirror is None else new.mirror)


def _pictures(paths: list[Path]) -> list[Path]:
    from metasiam.gallery.pictures import find_pictures

    return find_pictures(paths)


def _folders(paths: list[Path]) -> dict[str, list[Path]]:
    """Return the pictures of each sub-folder, under its name; where there are parts, those for training alone."""
    from metasiam.data.sources.files import is_passed_over
    from metasiam.data.sources.tree import arrange, joined

    named: dict[str, list[Path]] = {}
    known: dict[str, set[Path]] = {}
    for path in paths:
        if not path.is_dir():
            raise MetaSiamError(f"{path} is not a folder. Pass DIR with DIR/<name>/*.jpg in it, or add --name NAME.")
        tree = arrange(path)
        if tree.parts and "train" not in tree.parts:
            part = next(folders[0] for folders in tree.parts.values())
            raise MetaSiamError(
                f"{path} has {part}/ but no train/. Pass {shlex.quote(str(path / part))} to enroll that."
            )
        pictures = sorted(tree.pictures + tree.foreign)
        chosen = [p for p in pictures if p.part != "test" and tree.split.get(p.domain, "train") == "train"]
        for text in tree.outside_notes() if chosen else []:
            o.say(f"note: {text}")
        if len(chosen) < len(pictures) or tree.validation:
            rest = [folder for part, folders in tree.parts.items() if part != "train" for folder in folders]
            count = counted(len(pictures) - len(chosen) + len(tree.validation), "picture")
            o.say(
                f"note: names come from {joined(tree.parts['train'])} alone. The {count} of {joined(rest)} can show "
                f"how well they are recognised: metasiam identify {shlex.quote(str(path / rest[0]))}"
            )
        for unseen in dict.fromkeys(picture.domain for picture in chosen if not plain_name(picture.domain)):
            o.say(f"metasiam: the folder {unseen!r} has a name that cannot be displayed: left out. Rename it.")
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
                o.say(f"metasiam: {folder} has no pictures in it: left out")
    if not named:
        raise MetaSiamError(
            f"{', '.join(map(str, paths))} has no folders with pictures in it. Lay them out as DIR/<name>/*.jpg, "
            "or add --name NAME."
        )
    return named


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
    console.print(Text(f"next: metasiam identify PICTURES --gallery {shlex.quote(str(path))}"))


def _own_weight(gallery: Gallery) -> str:
    """Say how much the names' own pictures count in the thresholds, beside a background."""
    assert gallery.rules is not None
    others, strength = len(gallery.names) - 1, gallery.rules.strength
    if others < 1 or gallery.background is None:
        return ""
    return f"; the similarity of your own names counts {100 * others / (others + strength):.0f} %"
