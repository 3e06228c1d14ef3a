"""What every training command does: load, say what will happen, train, evaluate, write."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from metasiam.cli import options as o
from metasiam.cli.progress import Lines, in_words, lines
from metasiam.cli.terminal import terminal
from metasiam.errors import MetaSiamError
from metasiam.option_values import check_seconds
from metasiam.presets import check_start, preset_options
from metasiam.progress import Listener, Progress, Relay
from metasiam.shapes import DATA_OPTIONS, check

if TYPE_CHECKING:
    from metasiam.data.domains import DomainSet, Split
    from metasiam.data.preparation import Size
    from metasiam.evaluation.settings import ProtocolSettings
    from metasiam.models.files import EmbedderInfo
    from metasiam.runs import Run

#: A CPU run that needs longer than this is told what an hour would do instead.
_LONG = 2 * 3600.0


def check_stored(stored: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise unless these are options that data can be loaded with.

    Raises:
        MetaSiamError: naming the one that is not.
    """
    try:
        check(stored, DATA_OPTIONS)
        if unknown := sorted(set(stored) - set(known)):
            raise ValueError(f"{unknown[0]} is not a data option")
    except ValueError as error:
        raise MetaSiamError(
            f"the run does not say properly how its data was loaded: {error}. Pass --data again."
        ) from error


@dataclass(frozen=True)
class DataOptions:
    """Which data, and how its domains are split; None means not given."""

    data: str | None = None
    data_dir: Path | None = None
    image_size: int | Size | None = None
    skip_unreadable: bool = False
    held_out: int | None = None
    split: str | None = None
    validation: int | None = None
    keep_back: int | None = None  #: a preset's validation, for data that have no split of their own
    squeeze: bool = False  #: pictures to their size, as runs of before did with npz

    def given(self) -> dict[str, Any]:
        """Return the options that were given."""
        return {name: value for name, value in self.__dict__.items() if value is not None and value is not False}

    def with_defaults(self, preset: dict[str, Any]) -> DataOptions:
        """Fill what was not given from a preset, then from the defaults."""
        values = {"data": preset.get("data", "glyphs"), "keep_back": preset.get("validation")}
        return replace(self, **{name: value for name, value in values.items() if getattr(self, name) is None})

    def load(self, shown: Lines, shown_to: EmbedderInfo | None = None) -> tuple[DomainSet, Split]:
        """Load the domain set, prepared for trained weights where these are given, and split its domains."""
        from metasiam.data.domains import split_domains
        from metasiam.data.preparation import Preparation
        from metasiam.data.sources import load_domains

        assert self.data is not None
        how = shown_to.preparation if shown_to is not None else None
        if self.squeeze:
            how = Preparation(fit="squeeze")
        domains = load_domains(
            self.data,
            data_dir=self.data_dir,
            image_size=self.image_size,
            skip_unreadable=self.skip_unreadable,
            listener=shown,
            preparation=how,
            grey=shown_to is not None and shown_to.channels == 1,
        )
        validation = self.validation
        if validation is None:
            own = self.held_out is None and self.split is None and domains.own_split is not None
            validation = 0 if own else self.keep_back or 0
        return domains, split_domains(domains, held_out=self.held_out, validation=validation, split=self.split)

    def saved(self) -> dict[str, Any]:
        """Return the options as they are kept in ``config.json``, to load the same data again."""
        return o.saved(self)

    @staticmethod
    def of_run(run: Run) -> DataOptions:
        """Return the options that a run's data was loaded with."""
        stored = dict(run.config["data"]["options"] or {})
        if "split" not in run.config:
            raise MetaSiamError(
                f"{run.path} was trained on pairs ({run.method}) and has no split. Pass --data and --held-out."
            )
        if not stored:
            raise MetaSiamError(
                f"{run.path} was trained from Python and does not say how its data was loaded. Pass --data and "
                "--held-out (or --split)."
            )
        return DataOptions.from_stored(stored)

    @staticmethod
    def from_stored(stored: dict[str, Any]) -> DataOptions:
        """Return the options that ``saved`` made into JSON."""
        from metasiam.data.preparation import squeezed_before

        check_stored(stored, {field.name for field in fields(DataOptions)})
        values = {"squeeze": squeezed_before(str(stored.get("data"))), **stored}
        if values.get("data_dir") is not None:
            values["data_dir"] = Path(values["data_dir"])
        return DataOptions(**values)

    def with_run(self, run: Run) -> DataOptions:
        """Fill from a run what was not given: its data, its split, or both."""
        stored: dict[str, Any] = {}
        if self.data is None or (run.config["data"]["options"] and "split" in run.config):
            stored = DataOptions.of_run(run).__dict__
        missing = ["data", "data_dir", "image_size", "skip_unreadable", "squeeze"] if self.data is None else []
        if self.held_out is None and self.split is None:
            missing += ["held_out", "split", "validation", "keep_back"]
        filled = {name: stored[name] for name in missing if name in stored and name not in self.given()}
        return replace(self, **filled).with_defaults({})


@dataclass(frozen=True)
class RunOptions:
    """Where a run goes and how it is measured; None means not given."""

    out: Path | None = None
    resume: Path | None = None
    overwrite: bool = False
    checkpoint_every: float = 60.0
    preset: str | None = None
    pairs: int | None = None
    adapt_shots: str | None = None
    adapt_steps: int | None = None
    curve_steps: str | None = None


def run_training(method: str, given: dict[str, Any], data: DataOptions, run: RunOptions) -> None:
    """Train with a method, evaluate, print the per-task table, and say what was written."""
    from metasiam.cli.evaluating import evaluate_run, print_evaluation, settings_from, write_evaluation
    from metasiam.config import config_from
    from metasiam.evaluation.draws import draw_protocol
    from metasiam.learners import config_class
    from metasiam.locking import run_held
    from metasiam.runs import check_out
    from metasiam.session import TrainingStopped, arch_of, train

    console = terminal()
    check_seconds(run.checkpoint_every)
    preset_data, preset_method = preset_options(run.preset, method)
    if run.resume is not None:
        options, data, settings = dict(given), *_resumed(method, run, given, data)
    else:
        options, data = preset_method | given, data.with_defaults(preset_data)
        if "epochs" in given:  # a preset's iterations give way
            if "iterations" in given:
                raise MetaSiamError("--epochs and --iterations both set the length. Use one of them.")
            options["iterations"] = None
        check_start(run.preset, method, options)
        init = config_from(config_class(method), options).init  # said now, not when the data are loaded
        if init is not None and "arch" not in options:
            options["arch"] = arch_of(init)
        settings = settings_from(run, given.get("seed"))
        if run.out is not None:
            check_out(run.out, overwrite=run.overwrite)
    speaks = _is_first_process()
    with lines(console if speaks else terminal(quiet=True)) as shown:
        domains, split = data.load(shown)
        draws = draw_protocol(domains, split, settings)  # before hours of training: it may not fit the data
        try:
            trained = train(
                method,
                domains,
                split,
                out=run.out,
                resume=run.resume,
                overwrite=run.overwrite,
                checkpoint_every=run.checkpoint_every,
                listener=Talk(shown),
                data_options=data.saved(),
                evaluation=settings,
                **options,
            )
        except TrainingStopped as stopped:
            shown.say(
                f"saved at iteration {stopped.iteration} in {stopped.run.path}\n"
                f"next: metasiam {method} --resume {shlex.quote(str(stopped.run.path))}"
            )
            raise typer.Exit(130) from stopped
        if not speaks:
            return
        try:
            with run_held(trained.path):  # nobody else starts over while this one is measured
                evaluation = evaluate_run(trained, domains, split, settings, draws, shown)
                written = write_evaluation(trained, evaluation, domains)
        except KeyboardInterrupt:
            again = f"metasiam {method} --resume {shlex.quote(str(trained.path))}"
            shown.say(f"trained and saved in {trained.path}, not measured yet\nnext: {again}")
            raise
    print_evaluation(console, evaluation, method, written)


def _resumed(
    method: str, run: RunOptions, given: dict[str, Any], data: DataOptions
) -> tuple[DataOptions, ProtocolSettings]:
    """Return the data and the evaluation of the run to go on with; only where the data lie may have changed."""
    from metasiam.cli.evaluating import settings_from
    from metasiam.runs import open_run

    refused = o.given(preset=run.preset, out=run.out, overwrite=run.overwrite or None) | data.given()
    for where in ("data", "data_dir"):  # their images must be the run's
        refused.pop(where, None)
    o.refuse(refused, "--resume takes the split and the options of the run")
    assert run.resume is not None
    earlier = open_run(run.resume)
    earlier.check_method(method)
    stored = DataOptions.of_run(earlier)
    measured = earlier.config.get("evaluation") or {"seed": earlier.config["options"].get("seed", 0)}
    settings = settings_from(run, given.get("seed"), earlier=measured)
    return replace(stored, **o.given(data=data.data, data_dir=data.data_dir)), settings


def check_place(
    method: str, options: dict[str, Any], path: Path, domains: DomainSet, split: Split, *, overwrite: bool
) -> None:
    """Raise if a method cannot be trained into a folder, nor gone on with or taken from there; changes nothing.

    Raises:
        MetaSiamError: if another run, somebody's files or a process at work is there.
    """
    from metasiam.locking import check_free
    from metasiam.runs import CONFIG_FILE, check_overwrite, open_run
    from metasiam.trained_on import check_trained_so

    if (path / CONFIG_FILE).is_file() and not overwrite:
        check_trained_so(open_run(path), method, options, domains, split)
    check_overwrite(path)
    check_free(path)


def train_or_take(
    method: str, options: dict[str, Any], path: Path, domains: DomainSet, split: Split, data: DataOptions, shown: Lines,
    *, overwrite: bool, again: str,
) -> Run:  # fmt: skip
    """Train a method into a folder, go on with what is there, or take it as it is when it is finished.

    Args:
        method: what to train.
        options: of the method.
        path: its folder.
        domains: the data.
        split: of the domains.
        data: how they were loaded.
        shown: where to say what happens.
        overwrite: start over whatever is there.
        again: the command that goes on after Ctrl-C.

    Raises:
        MetaSiamError: if another run is there.
    """
    from metasiam.runs import open_run
    from metasiam.session import TrainingStopped, train

    check_place(method, options, path, domains, split, overwrite=overwrite)
    if (path / "embedder.safetensors").is_file() and not overwrite:
        shown.say(f"{path} is finished: used as it is")
        return open_run(path)
    begun = (path / "checkpoint.pt").is_file() and not overwrite
    try:
        return train(
            method,
            domains,
            split,
            out=path,
            resume=path if begun else None,
            overwrite=True,
            listener=Talk(shown),
            data_options=data.saved(),
            **({} if begun else options),
        )
    except TrainingStopped as stopped:
        shown.say(f"saved at iteration {stopped.iteration}\nnext: {again}")
        raise typer.Exit(130) from stopped


def _is_first_process() -> bool:
    import os

    return os.environ.get("RANK", "0") == "0"


class Talk(Relay):
    """Says, besides, what one could do in an hour where a run takes long."""

    def __init__(self, to: Listener) -> None:
        super().__init__(to)
        self._warned = False
        self._config: dict[str, Any] = {}

    def started(self, config: dict[str, Any]) -> None:
        self._config = config
        super().started(config)

    def training(self, progress: Progress) -> None:
        super().training(progress)
        left = progress.seconds_left
        if self._warned or left is None or left < _LONG or self._config["machine"]["device"] != "cpu":
            return
        self._warned = True
        per_iteration = left / (progress.total - progress.iteration)
        better = "metasiam triplet --preset best" if progress.what == "reptile" else "--preset best"
        self.note(
            f"on this CPU the whole run takes about {in_words(left)}; in an hour it would do "
            f"--iterations {max(int(3600 / per_iteration), 1)}, or try {better}. Ctrl-C saves, --resume continues."
        )
