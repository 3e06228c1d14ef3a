"""``metasiam reptile``, ``triplet``, ``protonet`` …: a command for every method, made of its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metasiam.cli import groups
from metasiam.methods import Method
from metasiam.options.flags import Flags, takes


def command_of(method: Method) -> Callable[..., None]:
    """Return the command that trains a method on domains and tests it."""

    @takes(
        groups.preset_of(method.options),
        Flags(method.options, "training"),
        groups.DATA,
        groups.RUN,
        groups.TRAINING_PROTOCOL,
    )
    def command(
        preset: dict[str, Any],
        training: dict[str, Any],
        data: dict[str, Any],
        run: dict[str, Any],
        protocol: dict[str, Any],
    ) -> None:
        from metasiam.cli.training import run_training
        from metasiam.options.data import DataOptions
        from metasiam.options.run import RunOptions

        run_training(method.name, training, DataOptions(**data), RunOptions(**run, **preset), protocol)

    command.__doc__ = method.help()
    return command
