"""How a training is told on the terminal: what it will take, where it stopped, what it found."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from metasiam.cli.next_steps import YOUR_OWN, recognise, say_next
from metasiam.cli.terminal import terminal
from metasiam.options.data import DataOptions
from metasiam.options.run import RunOptions
from metasiam.progress import Listener, Progress, Relay
from metasiam.progress_lines import Lines, in_words, lines
from metasiam.workflows.train import NotMeasured, carry_out, is_first_process, plan_training

#: A CPU run that needs longer than this is told what an hour would do instead.
_LONG = 2 * 3600.0


def run_training(
    method: str, given: dict[str, Any], data: DataOptions, run: RunOptions, protocol: dict[str, Any]
) -> None:
    """Train with a method, evaluate, print the per-task table, and say what was written."""
    from metasiam.cli.evaluating import print_evaluation

    plan = plan_training(method, given, data, run, protocol)
    console = terminal()
    with lines(console if is_first_process() else terminal(quiet=True)) as shown, told(shown, method):
        trained = carry_out(plan, Talk(shown))
    if trained is not None:
        print_evaluation(console, trained.evaluation, method, trained.written)
        say_next(console, recognise(trained.run.path, plan.data.data), YOUR_OWN)


@contextmanager
def told(shown: Lines, command: str, again: str | None = None) -> Iterator[None]:
    """Say where a training stopped, and the command that continues.

    Args:
        shown: where to say it.
        command: whose ``--resume`` takes the run's folder.
        again: what continues instead.
    """
    from metasiam.session import TrainingStopped

    try:
        yield
    except TrainingStopped as stopped:
        where = f" in {stopped.run.path}" if again is None else ""
        following = again or f"metasiam {command} --resume {shlex.quote(str(stopped.run.path))}"
        shown.say(f"saved at iteration {stopped.iteration}{where}\nnext: {following}")
        raise typer.Exit(130) from stopped
    except NotMeasured as stopped:
        following = again or f"metasiam {command} --resume {shlex.quote(str(stopped.path))}"
        shown.say(f"{stopped}\nnext: {following}")
        raise


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
