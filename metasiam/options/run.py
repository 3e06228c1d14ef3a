"""Where a run goes, and how it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from metasiam.options.declare import Opt

_RUN = "Run"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a run goes, and what it starts from."""

    preset: Annotated[
        str | None,
        Opt("Set many options at once; yours win. metasiam presets NAME shows them", panel="Preset"),
    ] = None
    out: Annotated[Path | None, Opt("Run folder.", panel=_RUN, nothing="runs/<method>-<time>")] = None
    resume: Annotated[Path | None, Opt("Resume this run (bit-exact).", panel=_RUN)] = None
    overwrite: Annotated[bool, Opt("Replace the run in --out.", panel=_RUN)] = False
    checkpoint_every: Annotated[
        float, Opt("Seconds between checkpoints; 0 saves after every iteration.", panel=_RUN, least=0)
    ] = 60.0
