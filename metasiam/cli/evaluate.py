"""``metasiam evaluate``: test a run, or weights trained elsewhere, on domains never trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from metasiam.cli.next_steps import YOUR_OWN, recognise, say_next
from metasiam.cli.terminal import terminal
from metasiam.options.data import DataOptions
from metasiam.options.evaluation import ProtocolSettings, settings_from
from metasiam.options.flags import Flags, takes
from metasiam.options.run import RunOptions
from metasiam.options.training import TrainingOptions
from metasiam.options.weights import WeightsOptions


@takes(
    Flags(WeightsOptions, "given"),
    Flags(
        DataOptions,
        "data",
        defaults={
            "data": "the run's; of other weights glyphs",
            "held_out": "the run's, or the data's own split, else 10",
        },
    ),
    Flags(ProtocolSettings, "protocol", without=("seed",)),
    Flags(
        RunOptions,
        "run",
        only=("out", "overwrite"),
        defaults={"out": "the run; for weights or other data runs/evaluate-<time>"},
        more={"out": {"help": "Folder of the report."}, "overwrite": {"help": "Replace an earlier evaluation there."}},
    ),
    Flags(TrainingOptions, "machine", only=("seed", "device"), more={"seed": {"help": "Of every draw."}}),
)
def command(
    given: dict[str, Any],
    data: dict[str, Any],
    protocol: dict[str, Any],
    run: dict[str, Any],
    machine: dict[str, Any],
    weights: Annotated[Path, typer.Argument(help="Run folder, .safetensors, or a PyTorch state dict (.pt).")],
) -> None:
    """Test an embedder on classes it never saw: per-class table, calibrated thresholds, few-shot episodes.

    Images are cropped and resized as the training images were, if the weights say how; otherwise they keep their size.

    \b
    Examples:
      metasiam evaluate runs/mine
      metasiam evaluate classic-90-10.pt --arch resnet56 --data cifar100 --held-out 10
    """
    from metasiam.cli.evaluating import print_evaluation
    from metasiam.progress_lines import lines
    from metasiam.workflows.evaluate import evaluate_weights

    settings = settings_from(protocol, seed=machine.get("seed"))
    console = terminal()
    arch = given.pop("arch", None)
    with lines(console) as shown:
        measured = evaluate_weights(
            weights,
            DataOptions(**data),
            settings,
            RunOptions(**run),
            shown,
            arch=arch,
            said=given,
            asked_kinds=protocol.get("episode_kinds", ()),
            device=machine.get("device", "auto"),
        )
    print_evaluation(console, measured.evaluation, measured.run.method, measured.written)
    if not given:  # enroll takes weights as they are
        say_next(console, recognise(weights, measured.data, arch), YOUR_OWN)
