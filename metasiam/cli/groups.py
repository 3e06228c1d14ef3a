"""The groups of flags that commands share."""

from __future__ import annotations

from dataclasses import replace

from metasiam.options.data import DataOptions
from metasiam.options.evaluation import ProtocolSettings
from metasiam.options.flags import Flags
from metasiam.options.presets import DATA as DOMAIN_PRESETS
from metasiam.options.run import RunOptions
from metasiam.options.training import TrainingOptions

PRESET = Flags(RunOptions, "preset", only=("preset",), more={"preset": {"names": lambda: DOMAIN_PRESETS}})
DATA = Flags(DataOptions, "data")
RUN = Flags(RunOptions, "run", without=("preset",))

#: What is measured at the end of a training.
TRAINING_PROTOCOL = Flags(ProtocolSettings, "protocol", only=("pairs", "shots", "adapt_steps", "curve_steps"))
#: What can be measured of weights that are there.
PROTOCOL = Flags(ProtocolSettings, "protocol", without=("seed", "mirror"))


def preset_of(options: type[TrainingOptions]) -> Flags:
    """Return ``--preset`` with the names that a method has."""
    return replace(PRESET, more={"preset": {"names": lambda: options.presets}})


#: Options that mean the same to every method.
SHARED_TRAINING = Flags(
    TrainingOptions,
    "training",
    only=("arch", "loss", "lr", "batch_size", "shift", "init", "seed", "device", "precision", "compile"),
)

#: Where to compute, for what trains nothing.
MACHINE = Flags(TrainingOptions, "machine", only=("device",))
