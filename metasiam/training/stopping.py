"""Early stopping: when to give up, and which epoch was best."""

from __future__ import annotations

import math


class EarlyStopping:
    """Watches one value, epoch by epoch.

    Args:
        patience: epochs in a row without improvement after which to stop; None: never.
        min_delta: an improvement must be larger than this.
        higher_is_better: for accuracies; else lower is, for losses.

    Attributes:
        best: the best value so far.
        best_epoch: when it was, from 0; −1 before the first.
    """

    def __init__(self, patience: int | None, min_delta: float = 0.0, *, higher_is_better: bool = False) -> None:
        self.patience = patience
        self.min_delta = min_delta
        self._sign = -1.0 if higher_is_better else 1.0
        self.best = self._sign * math.inf
        self.best_epoch = -1
        self._epoch = -1

    def update(self, value: float) -> bool:
        """Take the next epoch's value; return whether it is the best so far (a value that is no number never is)."""
        self._epoch += 1
        improved = self._sign * value < self._sign * self.best - self.min_delta
        if improved:
            self.best, self.best_epoch = value, self._epoch
        return improved

    @property
    def exhausted(self) -> bool:
        """Whether it is time to stop."""
        return self.patience is not None and self._epoch - self.best_epoch >= self.patience

    def state(self) -> dict[str, float]:
        """Return what ``load`` needs."""
        return {"best": self.best, "best_epoch": self.best_epoch, "epoch": self._epoch}

    def load(self, state: dict[str, float]) -> None:
        """Take up a state that ``state`` returned."""
        self.best, self.best_epoch, self._epoch = state["best"], int(state["best_epoch"]), int(state["epoch"])
