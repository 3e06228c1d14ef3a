"""Run folders: everything about one training in one place (DESIGN's names)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metasiam.arguments import checked
from metasiam.errors import MetaSiamError
from metasiam.notebook import summary
from metasiam.runs.atomic import atomically
from metasiam.runs.places import (
    CONFIG_FILE,
    EMBEDDER_FILE,
    METRICS_FILE,
    RUN,
    check_contents,
    check_writable,
    clear,
    names_method,
)
from metasiam.runs.reading import read_text
from metasiam.shapes import METRICS, check, parse_json
from metasiam.shapes import RUN as SHAPE

if TYPE_CHECKING:
    from torch import nn

    from metasiam.learners.trained_head import TrainedHead
    from metasiam.models.files import EmbedderInfo
    from metasiam.own_parts import OwnParts


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        about = [str(self.config["options"].get("arch", "")), self._trained_on and f"on {self._trained_on}"]
        finished = "finished" if (self.path / "embedder.safetensors").is_file() else "unfinished"
        return f"Run({self.path}: {' '.join(word for word in (self.method, *about) if word)}, {finished})"

    def _repr_html_(self) -> str:
        """Return its options as a table for a notebook."""
        return summary(repr(self), ("option", "value"), self.config["options"].items())

    @property
    def _trained_on(self) -> str:
        data = self.config.get("data")
        return str(data.get("source", "")) if isinstance(data, dict) else ""

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
        """Return what a training on pairs learned besides the embedder: the head that compares two embeddings.

        Raises:
            MetaSiamError: if the run trained none, has not finished, or its head is damaged.
        """
        from metasiam.learners.trained_head import load_head

        embedder, _ = self.embedder()
        return load_head(self.path, int(embedder.embedding_size))  # type: ignore[arg-type]

    def check_method(self, method: str) -> None:
        """Raise unless the method that began it is to continue it.

        Raises:
            MetaSiamError: naming the method and the command that continues it.
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
        """Return the options that it continues with: its own.

        Args:
            method: that wants to go on.
            given: options that were also given; they must be its own.

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
    folder = Path(init).parent if Path(init).name == EMBEDDER_FILE else Path(init)
    return open_run(folder) if (folder / CONFIG_FILE).is_file() else None


def create_run(path: Path, config: dict[str, Any], *, overwrite: bool = False) -> Run:
    """Make a run folder with its ``config.json``; with ``overwrite`` an earlier run's files are removed first.

    The folder's lock should be held: another process may be training there.

    Raises:
        MetaSiamError: as ``check_new``.
    """
    check_contents(RUN, path, overwrite=overwrite)
    check_writable(path)
    clear(RUN, path)
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
    if not names_method(config):
        raise MetaSiamError(
            f"{file} is not the configuration of a run: it does not name a method. Pass the --out of an earlier run."
        )
    try:
        check(config, SHAPE)
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
