"""``metasiam siamese``: training on labelled pairs, such as LFW's faces."""

from __future__ import annotations

from typing import Any

from metasiam.cli import groups
from metasiam.options.flags import Flags, takes
from metasiam.options.pairs import PairDataOptions, SiameseOptions

_CHECKPOINT_EVERY = 120.0


#: Options that do nothing to pairs have no flag.
TRAINING = Flags(SiameseOptions, "training", without=("temperature", "compile"))


@takes(
    groups.preset_of(SiameseOptions),
    TRAINING,
    Flags(PairDataOptions, "data"),
    Flags(groups.RUN.group, "run", without=("preset",), defaults={"checkpoint_every": f"{_CHECKPOINT_EVERY}"}),
)
def command(preset: dict[str, Any], training: dict[str, Any], data: dict[str, Any], run: dict[str, Any]) -> None:
    """Train on labelled pairs (same or different?), tune on held-out people, and evaluate once on the test pairs.

    \b
    Examples:
      metasiam siamese --preset quick
      metasiam siamese --preset best --data lfw
    """
    from metasiam.cli.pair_training import run_siamese
    from metasiam.options.run import RunOptions

    run_siamese(
        training, PairDataOptions(**data), RunOptions(**{"checkpoint_every": _CHECKPOINT_EVERY, **run, **preset})
    )
