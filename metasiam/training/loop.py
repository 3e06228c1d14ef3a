"""The training loop: iterations, progress, logging, checkpoints, stopping."""

from __future__ import annotations

import math
import shlex
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from metasiam.errors import MetaSiamError
from metasiam.progress import SILENT, Listener, Progress
from metasiam.runs import CHECKPOINT_FILE, Run
from metasiam.runs.atomic import storage_error, trouble
from metasiam.training.checkpoint import is_finite, load_checkpoint, save_checkpoint
from metasiam.training.distributed import Processes, ProcessLost
from metasiam.training.learner import Learner, StopRequested
from metasiam.training.machine import derive_seed
from metasiam.training.state import plain_values, set_plain_values

#: Losses are fetched from the device, logged and shown about this often (seconds).
LOG_EVERY = 1.0


class _StopFlag:
    """Turned on by the first Ctrl-C (or SIGTERM); the second Ctrl-C interrupts at once.

    Args:
        patient: never interrupt at once. ``torchrun`` passes on a Ctrl-C that its processes have received already.
    """

    def __init__(self, patient: bool = False) -> None:
        self.on = False
        self.patient = patient

    def __call__(self) -> bool:
        return self.on

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.on and number == signal.SIGINT and not self.patient:
            raise KeyboardInterrupt
        self.on = True


@contextmanager
def _stop_on_signals(patient: bool) -> Iterator[_StopFlag]:
    flag = _StopFlag(patient)
    try:
        previous = {number: signal.signal(number, flag.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: the caller's own handlers stay
        previous = {}
    try:
        yield flag
    except ProcessLost:
        # This process is about to end and to say why; torchrun's SIGTERM, which is on its way, must not come first.
        previous.pop(signal.SIGTERM, None)
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class TrainingLoop:
    """Runs a learner from its last checkpoint to its end.

    Args:
        learner: what is trained.
        run: where metrics and checkpoints go.
        processes: only the writing process writes and reports.
        checkpoint_every: seconds between checkpoints.
        listener: told of the training about once a second.
        objective: the loss, whose plain numbers are saved too; None where it has none.
    """

    def __init__(
        self,
        learner: Learner,
        run: Run,
        processes: Processes,
        *,
        checkpoint_every: float = 60.0,
        listener: Listener = SILENT,
        objective: nn.Module | None = None,
    ) -> None:
        self.learner = learner
        self.objective = objective
        self.run = run
        self.processes = processes
        self.checkpoint_every = checkpoint_every
        self.listener = listener
        self.iteration = 0
        self.seconds = 0.0
        self.saved_at: int | None = None  #: iteration of the checkpoint that is in the run folder

    def resume(self) -> None:
        """Take up the run's checkpoint."""
        state = load_checkpoint(self.run.path / CHECKPOINT_FILE)
        self.iteration, self.seconds = int(state["iteration"]), float(state["seconds"])
        if self.iteration > self.learner.total:
            raise MetaSiamError(f"{self.run.path} is at iteration {self.iteration}, beyond {self.learner.total}.")
        try:
            self.learner.load(state["learner"])
            if self.objective is not None and "objective" in state:
                set_plain_values(self.objective, state["objective"])
        except (LookupError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise MetaSiamError(f"{self.run.path / CHECKPOINT_FILE} does not fit this run ({error}).") from error
        self.saved_at = self.iteration
        if self.processes.writes:
            self.run.keep_metrics_to(self.iteration)

    def go(self) -> bool:
        """Train to the end; return False if the user stopped it (everything is saved then).

        Raises:
            MetaSiamError: if the loss or the weights are no longer finite, or nothing can be written; the last good
                checkpoint is kept.
        """
        try:
            return self._go()
        except MetaSiamError:
            raise
        except Exception as error:
            found = storage_error(error)
            if found is None:
                raise
            reason, remedy = trouble(found)
            where = found.filename or self.run.path
            raise MetaSiamError(
                f"{where} cannot be written: {reason}. {remedy}, then {self._what_is_kept()}."
            ) from error

    def _what_is_kept(self) -> str:
        """Say how to go on: from the checkpoint that is there, if there is one."""
        if self.saved_at is None:
            return "start again with --overwrite: nothing was trained yet"
        there = shlex.quote(str(self.run.path))
        return f"continue with --resume {there}: its checkpoint of iteration {self.saved_at} is kept"

    def _go(self) -> bool:
        with _stop_on_signals(patient=self.processes.count > 1) as stop, _Logger(self) as logger:
            saved = time.monotonic()
            if not (self.run.path / CHECKPOINT_FILE).exists():
                self._save()  # a run that is killed can always be resumed
            while self.iteration < self.learner.total:
                try:
                    with self._own_randomness():
                        loss = self.learner.iterate(self.iteration, stop)
                except StopRequested:
                    logger.fetch()
                    self._save()
                    return False
                except ProcessLost as lost:
                    self._save()
                    what = f"Iteration {self.iteration}" if self.processes.writes else "The newest checkpoint"
                    raise ProcessLost(
                        f"{lost} {what} is saved in {self.run.path}; continue with --resume "
                        f"{shlex.quote(str(self.run.path))}."
                    ) from lost
                self.iteration += 1
                logger.add(loss)
                if logger.due() or self.iteration == self.learner.total:
                    logger.fetch()
                    if time.monotonic() - saved > self.checkpoint_every:
                        self._save()
                        saved = time.monotonic()
            self._save()
        return True

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Give an iteration its own state of torch's global generators, which dropout and losses of others draw from.

        A resumed run draws what an uninterrupted one would; the caller's own randomness stays untouched.
        """
        used = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        devices = [torch.cuda.current_device()] if used else []
        with torch.random.fork_rng(devices=devices):
            seed = int(self.run.config["options"].get("seed", 0))
            torch.manual_seed(derive_seed(seed, "global", self.processes.rank, self.iteration))
            yield

    def _save(self) -> None:
        if self.processes.writes:
            learned = self.learner.state()
            if not is_finite(learned):  # the loss can stay finite where the weights or running statistics overflow
                raise self.diverged(f"the weights are not finite at iteration {self.iteration}")
            state = {"iteration": self.iteration, "seconds": self.seconds, "learner": learned}
            if self.objective is not None:
                state["objective"] = plain_values(self.objective)
            save_checkpoint(self.run.path / CHECKPOINT_FILE, state)
            self.saved_at = self.iteration

    def diverged(self, what: str) -> MetaSiamError:
        """Return the error that ends a training which went astray: what was seen, what is kept, what to do."""
        at = "" if self.saved_at is None else f" (iteration {self.saved_at})"
        return MetaSiamError(
            f"{what}. The last good checkpoint is kept in {self.run.path}{at}. The training diverged: start again with "
            "a lower --lr or --meta-step, or with --precision fp32."
        )


def _tensorboard(loop: TrainingLoop) -> Any:
    """Return a writer of TensorBoard events, or None where TensorBoard is not installed: metrics.jsonl has it all."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(loop.run.path / "tensorboard"), purge_step=loop.iteration)  # type: ignore[no-untyped-call,unused-ignore]


class _Logger:
    """Collects losses on the device and fetches them rarely."""

    def __init__(self, loop: TrainingLoop) -> None:
        self.loop = loop
        self.waiting: list[Tensor] = []
        self.last = self.started = time.monotonic()
        self.recent: deque[tuple[float, int]] = deque(maxlen=30)
        self.writer = _tensorboard(loop) if loop.processes.writes else None

    def __enter__(self) -> _Logger:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.writer is not None:
            self.writer.close()

    def add(self, loss: Tensor) -> None:
        self.waiting.append(loss)

    def due(self) -> bool:
        return time.monotonic() - self.last >= LOG_EVERY

    def fetch(self) -> None:
        """Fetch the waiting losses, log and report their mean."""
        if not self.waiting:
            return
        loop = self.loop
        loss = float(torch.stack(self.waiting).mean())
        now = time.monotonic()
        loop.seconds += now - self.last
        if not math.isfinite(loss):
            raise loop.diverged(f"the loss is {loss} at iteration {loop.iteration}")
        self.last = now
        self.waiting = []
        self.recent.append((now, loop.iteration))
        progress = self._progress(loss)
        if loop.processes.writes:
            row = {
                "step": progress.iteration,
                "loss": round(loss, 6),
                "images": progress.images,
                "seconds": round(progress.seconds, 3),
                "images_per_second": round(progress.images_per_second, 1),
                "rate": loop.learner.rate(loop.iteration - 1),
            }
            loop.run.append_metrics(row)
            if self.writer is not None:
                for key in ("loss", "images_per_second", "rate"):
                    self.writer.add_scalar(f"train/{key}", row[key], loop.iteration)
            loop.listener.training(progress)

    def _progress(self, loss: float) -> Progress:
        loop, learner = self.loop, self.loop.learner
        first_time, first_iteration = self.recent[0]
        elapsed, done = self.last - first_time, loop.iteration - first_iteration
        left = (learner.total - loop.iteration) * elapsed / done if done else None
        if done:
            rate = done * learner.images_per_iteration / elapsed
        else:  # the first report: compiling and warm-up are in it
            rate = loop.iteration * learner.images_per_iteration / max(self.last - self.started, 1e-9)
        images = loop.iteration * learner.images_per_iteration
        return Progress(loop.run.method, loop.iteration, learner.total, loss, images, rate, loop.seconds, left)
