"""Listeners of tests: one that keeps what it is told, and does what a test wants meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metasiam.progress import Listener, Progress


class Heard(Listener):
    """Keeps everything that it is told, in order.

    Args:
        training: called with each progress of a training.
        started: called with each config.
    """

    def __init__(
        self,
        *,
        training: Callable[[Progress], object] | None = None,
        started: Callable[[dict[str, Any]], object] | None = None,
    ) -> None:
        self.steps: list[tuple[str, int, int]] = []
        self.trainings: list[Progress] = []
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.configs: list[dict[str, Any]] = []
        self._training, self._started = training, started

    def progress(self, what: str, done: int, total: int) -> None:
        self.steps.append((what, done, total))

    def training(self, progress: Progress) -> None:
        self.trainings.append(progress)
        if self._training is not None:
            self._training(progress)

    def measured(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def started(self, config: dict[str, Any]) -> None:
        self.configs.append(config)
        if self._started is not None:
            self._started(config)
