"""Sides that run in processes of their own, so that neither meets the other's allocator or threads."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Side:
    """A worker process that makes steps when asked and sleeps otherwise.

    Args:
        build: a module-level function; called in the worker with ``arguments``, returns a function that makes one
            step and returns its loss.
        arguments: for ``build``; must be picklable.
    """

    def __init__(self, build: Callable[..., Callable[[], float]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, build, arguments), daemon=True)
        self._process.start()
        self.start_seconds: float = self._receive()["seconds"]

    def steps(self, count: int) -> dict[str, Any]:
        """Make ``count`` steps: seconds (wall), cpu_seconds (of all threads), losses, peak memory in MB."""
        self._pipe.send(count)
        return self._receive()

    def close(self) -> None:
        """End the worker."""
        self._pipe.send(None)
        self._process.join(30)

    def _receive(self) -> dict[str, Any]:
        answer = self._pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _work(pipe: Connection, build: Callable[..., Callable[[], float]], arguments: tuple[Any, ...]) -> None:
    try:
        start = time.perf_counter()
        step = build(*arguments)
        pipe.send({"seconds": time.perf_counter() - start})
        while (count := pipe.recv()) is not None:
            wall, cpu = time.perf_counter(), time.process_time()
            losses = [step() for _ in range(count)]
            pipe.send(
                {
                    "seconds": time.perf_counter() - wall,
                    "cpu_seconds": time.process_time() - cpu,
                    "losses": losses,
                    "peak_mb": peak_memory_mb(),
                }
            )
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return  # the benchmark ended
    except Exception as error:
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


def peak_memory_mb() -> float:
    """Return this process's largest resident size so far, in MB."""
    import resource
    import sys

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (1e6 if sys.platform == "darwin" else 1e3)
