"""``metasiam siamese``: training on labelled pairs, such as LFW's faces."""

from __future__ import annotations

import shlex
from typing import Any

from metasiam.cli import groups
from metasiam.cli.next_steps import say_next
from metasiam.cli.terminal import terminal
from metasiam.options.flags import Flags, takes
from metasiam.options.pairs import UNUSED, PairDataOptions, SiameseOptions
from metasiam.options.run import RunOptions

_CHECKPOINT_EVERY = 120.0


@takes(
    groups.preset_of(SiameseOptions),
    Flags(SiameseOptions, "training", without=UNUSED),
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
    from metasiam.workflows.pairs import TrainedFolds, carry_out, plan_pairs

    where = RunOptions(**{"checkpoint_every": _CHECKPOINT_EVERY, **run, **preset})
    plan = plan_pairs(training, PairDataOptions(**data), where)
    # torch only now, when what was given can work.
    from metasiam.cli.evaluating import print_answer, print_written
    from metasiam.cli.training import told
    from metasiam.progress_lines import lines
    from metasiam.reports.pair_report import folds_table, result_table
    from metasiam.reports.rendering import print_table

    console = terminal()
    again = None if plan.folds is None else f"metasiam siamese --resume {shlex.quote(str(plan.folds))}"
    with lines(console) as shown, told(shown, "siamese", again):
        done = carry_out(plan, shown)
    if isinstance(done, TrainedFolds):
        print_table(console, folds_table(done.summary))
        folds = f"fold-1 … fold-{len(done.summary['folds'])}"
        console.print(f"\nwrote to {done.path}: folds.json, {folds}", highlight=False, markup=False)
        weights = done.path / "fold-1"
    else:
        weights, found = done.training.run.path, done.training.evaluation
        print_answer(console, {"methods": {str(done.training.run.config["options"]["arch"]): found}})
        print_table(console, result_table(found))
        print_written(console, done.written)
    say_next(console, ["metasiam", "match", "A.jpg", "B.jpg", "--weights", str(weights)], "two pictures of your own")
