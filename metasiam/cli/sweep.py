"""``metasiam sweep``: methods over several class splits, one table and one figure."""

from __future__ import annotations

from typing import Any

from metasiam.cli import groups
from metasiam.cli.next_steps import say_next
from metasiam.cli.terminal import terminal
from metasiam.options.budget import SweepOptions
from metasiam.options.data import DataOptions
from metasiam.options.evaluation import ProtocolSettings
from metasiam.options.flags import Flags, takes
from metasiam.options.run import RunOptions
from metasiam.options.training import TrainingOptions


@takes(
    groups.PRESET,
    Flags(SweepOptions, "plan"),
    Flags(
        TrainingOptions,
        "training",
        only=("arch", "loss", "lr", "batch_size", "shift", "seed", "device", "precision", "compile"),
    ),
    Flags(DataOptions, "data", only=("data", "data_dir", "image_size", "skip_unreadable")),
    Flags(
        RunOptions,
        "run",
        only=("out", "overwrite"),
        defaults={"out": "runs/sweep"},
        more={
            "out": {"help": "Folder of the sweep; an unfinished sweep in it is continued."},
            "overwrite": {"help": "Replace the sweep in --out."},
        },
    ),
    Flags(ProtocolSettings, "protocol", only=("pairs", "protocols"), defaults={"protocols": "balanced,reference"}),
)
def command(
    preset: dict[str, Any],
    plan: dict[str, Any],
    training: dict[str, Any],
    data: dict[str, Any],
    run: dict[str, Any],
    protocol: dict[str, Any],
) -> None:
    """Train on a growing share of the domains and test on the rest, next to published results and a constant answer.

    Run the same command again after a stop: finished runs are kept, the unfinished one is resumed.

    \b
    Examples:
      metasiam sweep --data cifar100 --splits 10,50,90 --budget-images 200000
    """
    from metasiam.cli.training import Talk, told
    from metasiam.progress_lines import lines
    from metasiam.workflows.sweep_plan import plan_sweep

    where = RunOptions(**run, **preset)
    wanted = plan_sweep(SweepOptions(**plan), training, DataOptions(**data), protocol, where)
    # torch only now, when what was given can work.
    from metasiam.cli.evaluating import print_written
    from metasiam.reports.reference import sweep_table
    from metasiam.reports.rendering import print_table
    from metasiam.workflows.sweep import carry_out, points_of

    console = terminal()
    again = "the same command, without --overwrite" if where.overwrite else "the same command"
    with lines(console) as shown, told(shown, "sweep", again):
        swept, written = carry_out(wanted, Talk(shown))
    print_table(console, sweep_table(points_of(swept)))
    print_written(console, written)
    if tested := [run for run in swept if run.held_out > 1]:
        words = ["metasiam", "evaluate", str(tested[-1].run.path), "--adapt-shots", "0,5"]
        say_next(console, words, "what five images of each held-out class add")
