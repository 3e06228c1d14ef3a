"""Tasks over processes: torch.distributed behind a few verbs.

``torchrun`` starts the processes; gloo carries everything on the host (votes, and weights on a CPU), NCCL what lives
on GPUs. Process 0 writes the run folder and speaks.
"""

from __future__ import annotations

import atexit
import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from metasiam.errors import MetaSiamError

#: How long a process waits for the others. A dead one is noticed at once; this is for one that hangs, and longer
#: than compiling or loading takes.
PATIENCE = datetime.timedelta(minutes=30)


class ProcessLost(MetaSiamError):
    """Another process of the run ended, or did not answer within ``PATIENCE``."""


@dataclass(frozen=True)
class Processes:
    """This process's place among those that train together.

    Attributes:
        rank: 0 for the one that writes.
        count: how many there are.
        planned: how many the run was begun with; the work of an iteration is theirs, whatever ``count`` is now.
    """

    rank: int = 0
    count: int = 1
    planned: int = 0

    def __post_init__(self) -> None:
        if self.planned == 0:
            object.__setattr__(self, "planned", self.count)

    @property
    def writes(self) -> bool:
        """Whether this process writes the run folder and speaks."""
        return self.rank == 0

    def share(self, total: int) -> range:
        """Return which of ``total`` equal pieces of work are this process's: every ``count``-th."""
        return range(self.rank, total, self.count)

    def sum_(self, *groups: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over all processes, with one message for each device.

        Raises:
            ProcessLost: if another process ended; the tensors are unchanged or worthless then.
        """
        tensors = [tensor for group in groups for tensor in group]
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        with self.noticing_loss():
            dist.all_reduce(flat)
        for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Return whether ``flag`` is true in any process; waits for all of them, but not for a GPU.

        Raises:
            ProcessLost: if another process ended.
        """
        if self.count == 1:
            return flag
        votes = torch.tensor(float(flag))
        with self.noticing_loss():
            dist.all_reduce(votes)  # a tensor on the host: gloo
        return bool(votes)

    def wait(self) -> None:
        """Wait until every process is here.

        Raises:
            ProcessLost: if another process ended.
        """
        self.any(False)

    @contextmanager
    def noticing_loss(self) -> Iterator[None]:
        """Turn the backends' many errors about a missing process into ``ProcessLost``."""
        try:
            yield
        except RuntimeError as error:
            if self.count > 1 and _is_about_others(error):
                raise ProcessLost(f"another of the {self.count} processes ended or does not answer.") from error
            raise


def _is_about_others(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, dist.DistError) or any(name in text for name in ("gloo", "NCCL", "Connection closed"))


def _started_by_torchrun() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(device_type: str = "cpu") -> Processes:
    """Join the processes that ``torchrun`` started, or return the single one.

    On GPUs each process takes the one of its local rank.

    Raises:
        MetaSiamError: if the others cannot be reached.
    """
    if not _started_by_torchrun():
        return Processes()
    if not dist.is_initialized():
        cuda = device_type == "cuda"
        try:
            if cuda:
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise MetaSiamError(
                f"the other processes cannot be reached ({str(error).splitlines()[0]}). Start them all with torchrun."
            ) from error
        atexit.register(_leave)
    return Processes(dist.get_rank(), dist.get_world_size())


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def first_to_speak() -> bool:
    """Return whether this process should report the error that ends the run: true for the first that asks.

    What ends one process ends them all, and one line is enough. The processes ask the store that ``torchrun`` keeps,
    so it works before ``join`` and after a process was killed.
    """
    if not _started_by_torchrun():
        return True
    try:
        store, _, _ = next(rendezvous("env://", timeout=datetime.timedelta(seconds=5)))
        return int(store.add("metasiam/spoken", 1)) == 1
    except (RuntimeError, ValueError, OSError):
        return True  # nobody to ask: better said twice than not at all
