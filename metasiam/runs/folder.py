"""Run folders: everything about one training in one place (DESIGN's names)."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metasiam.arguments import checked
from metasiam.errors import MetaSiamError
from metasiam.runs.atomic import atomically, check_can_write, remove_partials
from metasiam.runs.locks import RUN_LOCK, check_free
from metasiam.runs.reading import read_text
from metasiam.shapes import METRICS, RUN, check, parse_json

if TYPE_CHECKING:
    from torch import nn

    from metasiam.learners.trained_head import TrainedHead
    from metasiam.models.files import EmbedderInfo
    from metasiam.own_parts import OwnParts

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
#: What a run folder may hold; ``--overwrite`` removes these and nothing else.
RUN_FILES = (
    METRICS_FILE,
    "checkpoint.pt",
    "embedder.safetensors",
    "head.safetensors",
    "evaluation.json",
    "tasks.csv",
    "report.html",
    CONFIG_FILE,  # last: while it is there, the folder is known as a run's
)
RUN_FOLDERS = ("figures", "tensorboard")


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        path: the folder.
        config: what ``config.json`` says.
        own: the objects that it was trained with in this process, where it was (``metasiam.own_parts``).
    """

    path: Path
    config: dict[str, Any]
    own: OwnParts | None = field(default=None, repr=False, compare=False)

    @property
    def method(self) -> str:
        """The method that trained it."""
        return str(self.config["options"]["method"])

    @property
    def images(self) -> int:
        """Images that went through the network in all, those of the run it started from included."""
        own = self.config.get("total_iterations", 0) * self.config.get("images_per_iteration", 0)
        return int(own + self.config.get("initial_images", 0))

    def embedder(self) -> tuple[nn.Module, EmbedderInfo]:
        """Return the trained embedder on the CPU in evaluation mode, and what must be known to use it.

        Raises:
            MetaSiamError: if the training has not finished, or its weights are damaged.
        """
        from metasiam.models.files import load_embedder  # here: a run folder can be looked at without torch

        return load_embedder(self.path, build=None if self.own is None else self.own.arch)

    def head(self) -> TrainedHead:
        """Return what a training on pairs learned beside the embedder: the head that compares two embeddings.

        Raises:
            MetaSiamError: if the run trained none, has not finished, or its head is damaged.
        """
        from metasiam.learners.trained_head import load_head

        embedder, _ = self.embedder()
        return load_head(self.path, int(embedder.embedding_size))  # type: ignore[arg-type]

    def check_method(self, method: str) -> None:
        """Raise unless it is to be gone on with by the method that began it.

        Raises:
            MetaSiamError: naming the method and the command that goes on with it.
        """
        if self.method == method:
            return
        whole = self.path if self.method in ("reptile", "triplet", "siamese") else self.path.parent
        command = self.method if whole == self.path else "compare"  # the others are trained by comparisons alone
        raise MetaSiamError(
            f"{self.path} was trained with {self.method}. Use metasiam {command} --resume {shlex.quote(str(whole))}."
        )

    def check_unchanged(self) -> None:
        """Raise if another run took this one's place since it was opened.

        Raises:
            MetaSiamError: saying so, or if nothing readable is there.
        """
        if open_run(self.path).config != self.config:
            raise MetaSiamError(f"{self.path} was replaced by another process meanwhile. Look at it, and try again.")

    def options_to_resume(self, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that it goes on with: its own.

        Args:
            method: that wants to go on.
            given: options that were asked for beside; they must be its own.

        Raises:
            MetaSiamError: if it is another method's, or was begun with another value.
        """
        self.check_method(method)
        saved: dict[str, Any] = self.config["options"]
        for name, value in given.items():
            if saved.get(name) != value:
                raise MetaSiamError(
                    f"--{name.replace('_', '-')} cannot change when resuming: {self.path} was started with "
                    f"{saved.get(name)}, not {value}. Omit it or start a new run."
                )
        return saved

    def metrics(self) -> list[dict[str, Any]]:
        """Return the logged steps, oldest first."""
        file = self.path / METRICS_FILE
        if not file.is_file():
            return []
        return [row for line in file.read_bytes().splitlines() if (row := _whole_row(line)) is not None]

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add one logged step."""
        with open(self.path / METRICS_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def keep_metrics_to(self, step: int) -> None:
        """Drop logged steps beyond ``step``: a resumed run makes them again."""
        kept = [json.dumps(row) + "\n" for row in self.metrics() if row["step"] <= step]
        write_text(self.path / METRICS_FILE, "".join(kept))

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file into the folder, atomically."""
        return write_text(self.path / name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _whole_row(line: bytes) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = parse_json(line)
        check(row, METRICS)
    except ValueError:  # the last line of a killed run
        return None
    return row


def write_text(path: Path, text: str) -> Path:
    """Write a text file, atomically."""
    with atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def run_behind(init: str | Path | None) -> Run | None:
    """Return the run that weights are of, given as its folder or its file in it; None for other weights, or none."""
    if init is None:
        return None
    folder = Path(init).parent if Path(init).name == "embedder.safetensors" else Path(init)
    return open_run(folder) if (folder / CONFIG_FILE).is_file() else None


def check_out(path: Path, *, overwrite: bool) -> None:
    """Raise unless a run may be written at ``path``; changes nothing.

    Raises:
        MetaSiamError: if it is a file, is not empty without ``overwrite``, cannot be written, or is being trained into.
    """
    _check_empty(path, overwrite=overwrite)
    check_writable(path)
    if overwrite:
        check_free(path)


def _check_empty(path: Path, *, overwrite: bool) -> None:
    if not overwrite and path.is_dir() and any(one.name != RUN_LOCK for one in path.iterdir()):
        finished = (path / "embedder.safetensors").is_file()
        if not (path / CONFIG_FILE).is_file():
            raise MetaSiamError(f"{path} is not empty and does not contain a run. Choose another --out.")
        if not finished and not (path / "checkpoint.pt").is_file():
            raise MetaSiamError(
                f"{path} holds a run that never saved anything. Use --overwrite to start over, or another --out."
            )
        what, again = ("a finished run", "look at it again") if finished else ("an unfinished run", "continue it")
        raise MetaSiamError(
            f"{path} holds {what}. Use --resume {shlex.quote(str(path))} to {again}, --overwrite to start over, or "
            "another --out."
        )


def check_writable(path: Path) -> None:
    """Raise unless files can be made in ``path``, or where it would be made.

    Raises:
        MetaSiamError: if it is a file, or naming the folder and the reason.
    """
    if path.exists() and not path.is_dir():
        raise MetaSiamError(f"--out {path} is a file. Choose a folder.")
    try:
        check_can_write(path)
    except OSError as error:
        raise MetaSiamError(f"--out {path} cannot be written ({error.strerror}). Choose another folder.") from error


def check_overwrite(path: Path) -> None:
    """Raise if a run written at ``path`` would replace files that are not a run's; changes nothing.

    Raises:
        MetaSiamError: naming what is in the way.
    """
    found = [name for name in RUN_FILES if (path / name).is_file()]
    found += [f"{name}/" for name in RUN_FOLDERS if (path / name).is_dir()]
    if found and not _holds_run(path):
        raise MetaSiamError(
            f"{path} holds {', '.join(found)} but no run, and --overwrite replaces runs only. Choose another --out."
        )


def _holds_run(path: Path) -> bool:
    """Tell whether a run of ours is in a folder; one whose ``config.json`` is torn still has its checkpoint."""
    try:
        config = parse_json(read_text(path / CONFIG_FILE))
    except OSError:
        return False
    except ValueError:
        return (path / "checkpoint.pt").is_file()
    return _names_method(config)


def _names_method(config: Any) -> bool:
    options = config.get("options") if isinstance(config, dict) else None
    return isinstance(options, dict) and isinstance(options.get("method"), str)


def clear_run(path: Path) -> None:
    """Remove the files of the run in a folder, if there is one, and nothing else; its lock should be held.

    Raises:
        MetaSiamError: as ``check_overwrite``.
    """
    check_overwrite(path)
    for name in RUN_FOLDERS:
        shutil.rmtree(path / name, ignore_errors=True)
    for name in RUN_FILES:
        (path / name).unlink(missing_ok=True)
    remove_partials(path)


def create_run(path: Path, config: dict[str, Any], *, overwrite: bool = False) -> Run:
    """Make a run folder with its ``config.json``; with ``overwrite`` an earlier run's files are removed first.

    The folder's lock should be held: another process may be training there.

    Raises:
        MetaSiamError: as ``check_out`` and ``check_overwrite``.
    """
    _check_empty(path, overwrite=overwrite)
    check_writable(path)
    clear_run(path)
    path.mkdir(parents=True, exist_ok=True)
    run = Run(path, config)
    run.write_json(CONFIG_FILE, config)
    return run


@checked
def open_run(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        MetaSiamError: if there is none, or its ``config.json`` is damaged.
    """
    path = Path(path)
    file = path / CONFIG_FILE
    if not file.is_file():
        raise MetaSiamError(f"{path} is not a run folder: it has no {CONFIG_FILE}. Pass the --out of an earlier run.")
    try:
        config = parse_json(read_text(file))
    except (ValueError, OSError) as error:
        raise MetaSiamError(f"{file} is damaged ({error}). Start the run again with --overwrite.") from error
    if not _names_method(config):
        raise MetaSiamError(
            f"{file} is not the configuration of a run: it does not name a method. Pass the --out of an earlier run."
        )
    try:
        check(config, RUN)
    except ValueError as error:
        raise MetaSiamError(f"{file} is damaged: {error}. Start the run again with --overwrite.") from error
    return Run(path, _Fields.of(config, file))


class _Fields(dict[str, Any]):
    """What a file says by name; what it does not say is an error that names the file."""

    file: Path

    @staticmethod
    def of(said: Mapping[str, Any], file: Path) -> _Fields:
        """Return fields, and fields within them."""
        fields = _Fields({name: _Fields.of(one, file) if isinstance(one, dict) else one for name, one in said.items()})
        fields.file = file
        return fields

    def __missing__(self, name: str) -> Any:
        raise MetaSiamError(f"{self.file} is damaged: it has no {name}. Start the run again with --overwrite.")
