"""What may be written where: every kind of folder is known by its marker file, and one rule holds for all of them.

A new folder is made where there is nothing yet. ``--overwrite`` replaces the files of the same kind and leaves others
alone; nothing replaces another kind, or files that are somebody's own.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from metasiam.errors import MetaSiamError
from metasiam.runs.atomic import check_can_write, remove_partials
from metasiam.runs.locks import RUN_LOCK, check_free
from metasiam.runs.reading import read_text
from metasiam.shapes import parse_json

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
CHECKPOINT_FILE = "checkpoint.pt"
EMBEDDER_FILE = "embedder.safetensors"


@dataclass(frozen=True)
class Kind:
    """A kind of folder.

    Attributes:
        name: what people call it, with its article.
        plural: the same of many.
        markers: any of these files says that a folder is of this kind.
        files: what belongs to it and is replaced, the first marker last: while it is there, the folder is known.
        folders: likewise.
        finished: the file that is written at its end.
        resumable: it can be resumed while one of these is there.
        resume: how, with the folder's ``{path}``.
        overwrites: whether its command has ``--overwrite``.
        among_others: whether it may be written next to files that are not its own.
        is_ours: whether a marker is what it seems to be; people have a ``config.json`` too.
    """

    name: str
    plural: str
    markers: tuple[str, ...]
    files: tuple[str, ...]
    folders: tuple[str, ...] = ("figures",)
    finished: str = ""
    resumable: tuple[str, ...] = ()
    resume: str = "--resume {path}"
    overwrites: bool = True
    among_others: bool = False
    is_ours: Callable[[Path], bool] = lambda path: True

    @property
    def noun(self) -> str:
        """The name without its article."""
        return self.name.partition(" ")[2]


def names_method(config: Any) -> bool:
    """Tell whether what a ``config.json`` says is about a run."""
    options = config.get("options") if isinstance(config, dict) else None
    return isinstance(options, dict) and isinstance(options.get("method"), str)


def _is_run(path: Path) -> bool:
    """Tell whether a run of ours is in a folder; one whose ``config.json`` is torn still has its checkpoint."""
    try:
        return names_method(parse_json(read_text(path / CONFIG_FILE)))
    except OSError:
        return False
    except ValueError:
        return (path / CHECKPOINT_FILE).is_file()


RUN = Kind(
    name="a run",
    plural="runs",
    markers=(CONFIG_FILE,),
    files=(
        METRICS_FILE,
        CHECKPOINT_FILE,
        EMBEDDER_FILE,
        "head.safetensors",
        "evaluation.json",
        "tasks.csv",
        "report.html",
        CONFIG_FILE,
    ),
    folders=("figures", "tensorboard"),
    finished=EMBEDDER_FILE,
    resumable=(CHECKPOINT_FILE, EMBEDDER_FILE),
    is_ours=_is_run,
)
COMPARISON = Kind(
    name="a comparison",
    plural="comparisons",
    markers=("comparison.json", "compare.json"),
    files=("compare.json", "compare.md", "tasks.csv", "report.html", "comparison.json"),
    finished="compare.json",
    resumable=("comparison.json",),
)
#: The same command continues it: what is finished is used as it is.
SWEEP = Kind(
    name="a sweep",
    plural="sweeps",
    markers=("sweep.json",),
    files=("sweep.md", "sweep.svg", "results.json", "sweep.json"),
    folders=(),
    finished="results.json",
    resumable=("sweep.json",),
    resume="the same command",
)
FOLDS = Kind(
    name="a ten-fold training",
    plural="ten-fold trainings",
    markers=("folds-config.json",),
    files=("folds.json", "folds-config.json"),
    folders=(),
    finished="folds.json",
    resumable=("folds-config.json",),
)
SEARCH = Kind(
    name="a search",
    plural="searches",
    markers=("search.json",),
    files=("study.log", "trials.jsonl", "trials.csv", "trials.md", "search.json"),
    resumable=("search.json",),
    overwrites=False,
)
#: Written into the run that it measures, or anywhere.
EVALUATION = Kind(
    name="an evaluation",
    plural="evaluations",
    markers=("evaluation.json",),
    files=("tasks.csv", "report.html", "evaluation.json"),
    folders=(),
    finished="evaluation.json",
    among_others=True,
)
#: In the order in which a folder is looked at: a run holds an evaluation too.
KINDS = (RUN, COMPARISON, SWEEP, FOLDS, SEARCH, EVALUATION)


def fresh_folder(name: str) -> Path:
    """Return ``runs/<name>-<time>``, with a number where that is taken."""
    first = Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    path, number = first, 1
    while path.exists():
        number += 1
        path = first.with_name(f"{first.name}-{number}")
    return path


def holds(kind: Kind, path: Path) -> bool:
    """Tell whether a folder of a kind is at ``path``, finished or not."""
    return any((path / marker).is_file() for marker in kind.markers)


def kind_of(path: Path) -> Kind | None:
    """Return the kind of the folder at ``path``; None where none of them is there."""
    return next((kind for kind in KINDS if holds(kind, path)), None)


def check_new(kind: Kind, path: Path, *, overwrite: bool = False, goes_on: bool = False) -> None:
    """Raise unless a folder of a kind may be written at ``path``; changes nothing.

    Args:
        kind: of the folder.
        path: where.
        overwrite: replace one of the same kind.
        goes_on: one of the same kind is welcome, because it is resumed.

    Raises:
        MetaSiamError: if it is a file, holds something else, cannot be written, or is being trained into.
    """
    check_contents(kind, path, overwrite=overwrite, goes_on=goes_on)
    check_writable(path)
    if overwrite:
        check_free(path)


def check_contents(kind: Kind, path: Path, *, overwrite: bool = False, goes_on: bool = False) -> None:
    """Raise if what is at ``path`` would be lost or mixed with a folder of a kind; as ``check_new``."""
    found = kind_of(path)
    if found is kind and found.is_ours(path):
        if not (overwrite and kind.overwrites) and not goes_on:
            raise MetaSiamError(_taken(kind, path))
        return
    if found is not None and found is not kind:
        raise MetaSiamError(f"{path} holds {found.name}, not {kind.name}. Choose another --out.")
    own = [name for name in kind.files if (path / name).is_file()]
    own += [f"{name}/" for name in kind.folders if (path / name).is_dir()]
    if own and (overwrite or kind.among_others):
        rule = f", and --overwrite replaces {kind.plural} only" if kind.overwrites else ""
        raise MetaSiamError(f"{path} holds {', '.join(own)} but no {kind.noun}{rule}. Choose another --out.")
    if not overwrite and not kind.among_others and not is_empty(path):
        raise MetaSiamError(f"{path} is not empty and does not contain {kind.name}. Choose another --out.")


def check_measured(run: Path, *, overwrite: bool) -> None:
    """Raise unless a run may get the evaluation that it is measured for into its own folder; changes nothing.

    Raises:
        MetaSiamError: if it has one, or files of that name, or cannot be written.
    """
    there = [name for name in (*EVALUATION.files, "figures/loss.svg") if (run / name).exists()]
    if there and not overwrite:
        what = EVALUATION.name if holds(EVALUATION, run) else " and ".join(there)
        again = "them" if len(there) > 1 and not holds(EVALUATION, run) else "it"
        raise MetaSiamError(f"{run} holds {what}. Use --overwrite to replace {again}, or another --out.")
    check_writable(run)


def is_empty(path: Path) -> bool:
    """Tell whether nothing is in a folder, or no folder is there; the lock of a training counts as nothing."""
    return not path.is_dir() or all(one.name == RUN_LOCK for one in path.iterdir())


def _taken(kind: Kind, path: Path) -> str:
    """Say what is there already, and what can be done with it."""
    finished = bool(kind.finished) and (path / kind.finished).is_file()
    start_over = "--overwrite to start over, " if kind.overwrites else ""
    if any((path / name).is_file() for name in kind.resumable):
        state = "a finished" if finished else "an unfinished" if kind.finished else "a"
        again = "look at it again" if finished else "continue it"
        resume = kind.resume.format(path=shlex.quote(str(path)))
        return f"{path} holds {state} {kind.noun}. Use {resume} to {again}, {start_over}or another --out."
    if finished:
        return f"{path} holds {kind.name}. Use --overwrite to replace it, or another --out."
    return f"{path} holds {kind.name} that never saved anything. Use --overwrite to start over, or another --out."


def check_writable(path: Path) -> None:
    """Raise unless files can be made in the folder ``path``, or where it would be made.

    Raises:
        MetaSiamError: if it is a file, or naming the folder and the reason.
    """
    if path.exists() and not path.is_dir():
        raise MetaSiamError(f"--out {path} is a file. Choose a folder.")
    try:
        check_can_write(path)
    except OSError as error:
        raise MetaSiamError(f"--out {path} cannot be written ({error.strerror}). Choose another folder.") from error


def check_new_file(path: Path, *, overwrite: bool, instead: str = "Use --overwrite to replace it") -> None:
    """Raise unless a single file may be written at ``path``; changes nothing.

    Args:
        path: of the file.
        overwrite: replace one that is there.
        instead: what can be done where one is there.

    Raises:
        MetaSiamError: if something is there, or no folder that it could be in.
    """
    if path.is_dir():
        raise MetaSiamError(f"--out {path} is a folder. Name a file in it.")
    if path.exists() and not overwrite:
        raise MetaSiamError(f"{path} exists already. {instead}, or choose another --out.")
    if not path.parent.is_dir():
        raise MetaSiamError(f"{path.parent} is not a folder. Create it, or choose another --out.")


def clear(kind: Kind, path: Path) -> None:
    """Remove the files of a kind from a folder and nothing else; its lock should be held.

    Raises:
        MetaSiamError: if they are not of that kind.
    """
    if path.is_dir():
        check_contents(kind, path, overwrite=True, goes_on=True)
    for name in kind.folders:
        shutil.rmtree(path / name, ignore_errors=True)
    for name in kind.files:
        (path / name).unlink(missing_ok=True)
    remove_partials(path)
