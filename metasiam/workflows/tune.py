"""Search over the options of a pair training with Optuna: grid, random or TPE; resumable; on validation pairs only.

The test pairs are withheld from every trial. The best options can be trained and tested once afterwards.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metasiam.arguments import checked
from metasiam.data.pairs import PARTS, PairSet
from metasiam.errors import MetaSiamError
from metasiam.options.choices import Choice, check_together, parse_choice
from metasiam.options.declare import declared
from metasiam.options.pairs import UNUSED, PairDataOptions, SiameseOptions
from metasiam.options.presets import preset_options
from metasiam.options.training import options_of
from metasiam.pair_session import cross_validated
from metasiam.progress import SHOWN, SILENT, Listener, heard
from metasiam.runs import SEARCH, check_new, write_text
from metasiam.runs.locks import run_held
from metasiam.runs.reading import read_text
from metasiam.shapes import TRIAL, check, parse_json
from metasiam.workflows.study import finished, needed_optuna, open_study, proposals, tell

TRIALS_FILE = "trials.jsonl"
#: How trials are proposed.
STRATEGIES = ("grid", "random", "tpe")


@checked
@heard
def tune(
    pairs: PairSet,
    choices: Sequence[Choice | str],
    *,
    out: str | Path = "runs/tune",
    strategy: str = "grid",
    trials: int = 20,
    seed: int = 0,
    resume: bool = False,
    listener: Listener | None = SHOWN,
    **options: Any,
) -> list[dict[str, Any]]:
    """Try options with Optuna, and keep what each found in ``out/trials.jsonl``; Optuna's own study lies next to it.

    Args:
        pairs: their test part is removed before anything else.
        choices: what may vary, as a ``Choice`` or a text: ``lr=0.001,0.01``, ``lr=0.0001..0.01``.
        out: folder of the search.
        strategy: of ``STRATEGIES``.
        trials: how many, for ``random`` and ``tpe``; a grid has its own number.
        seed: of the search; every training has the same seed from ``options``.
        resume: continue the trials in ``out``.
        listener: told of every trial before it, and what it found; by default a terminal or a notebook shows it; None
            is silent.
        options: fields of ``SiameseOptions`` that do not vary.

    Returns:
        The trials: ``{"trial", "options", "score", "accuracy", "auc", "seconds"}``; the score is the validation
        accuracy (a fraction) at the best threshold, with the AUC deciding between equals.

    Raises:
        MetaSiamError: for options that do not fit, an earlier search in ``out`` that is another one, or without Optuna.
    """
    told = listener or SILENT
    wanted = [parse_choice(choice) if isinstance(choice, str) else choice for choice in choices]
    check_search(strategy, wanted, options)
    total = math.prod(len(choice.values) for choice in wanted) if strategy == "grid" else trials
    about = {"strategy": strategy, "seed": seed, "choices": [str(choice) for choice in wanted], "options": options}
    kept = without_test(pairs)
    out = Path(out)
    _open_search(out, about | {"fingerprint": kept.fingerprint}, resume)
    with run_held(out):
        file = out / TRIALS_FILE
        study = open_study(out, wanted, read_trials(file))
        rows = finished(study)
        write_text(file, "".join(json.dumps(row) + "\n" for row in rows))
        for trial in proposals(study, strategy, wanted, total, seed):
            told.started({"trial": len(rows) + 1, "trials": total, "options": dict(trial.params)})
            found = cross_validated(kept, options_of(SiameseOptions, {**options, **trial.params}))
            tell(study, trial, found)
            rows = finished(study)
            with open(file, "a", encoding="utf-8") as text:
                text.write(json.dumps(rows[-1]) + "\n")
            told.measured(rows[-1])
    return rows


def check_search(strategy: str, choices: Sequence[Choice], options: Mapping[str, Any]) -> None:
    """Raise unless a search over choices can be made to its end.

    Args:
        strategy: of ``STRATEGIES``.
        choices: what may vary.
        options: fields of ``SiameseOptions`` that do not vary.

    Raises:
        MetaSiamError: for an unknown strategy, nothing to try, a grid over a range, values that do not fit, or without
            Optuna.
    """
    needed_optuna()
    if strategy not in STRATEGIES:
        raise MetaSiamError(f"--strategy {strategy} is unknown. Use one of: {', '.join(STRATEGIES)}.")
    if not choices:
        raise MetaSiamError("there is nothing to try. Add e.g. --try lr=0.0001,0.001.")
    ranged = [choice.name for choice in choices if not choice.values]
    if strategy == "grid" and ranged:
        raise MetaSiamError(f"a grid needs listed values for {ranged[0]}, not a range. Use --strategy random.")
    check_together(choices, options, grid=strategy == "grid")


def without_test(pairs: PairSet) -> PairSet:
    """Return the pairs without those of the test part: a search cannot look at what it does not have."""
    rows = (pairs.part != PARTS.index("test")).nonzero().flatten()
    columns = ("first", "second", "same", "part", "fold")
    return replace(pairs, **{name: getattr(pairs, name)[rows] for name in columns})


def _open_search(out: Path, about: dict[str, Any], resume: bool) -> None:
    described = out / SEARCH.markers[0]
    text = json.dumps(about, indent=1, sort_keys=True, default=str) + "\n"
    check_new(SEARCH, out, goes_on=resume)
    if described.is_file():
        if read_text(described) != text:
            raise MetaSiamError(f"{out} holds a search over other options or pairs. Use another --out.")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_text(described, text)


def read_trials(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a ``trials.jsonl`` up to a damaged one: a killed search may have left half of a last one."""
    rows: list[dict[str, Any]] = []
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        try:
            row = parse_json(line)
            check(row, TRIAL)
            rows.append(row)
        except ValueError:
            break
    return rows


def best_trial(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the trial with the highest score, the earliest of equals."""
    return max(rows, key=lambda row: (row["score"], -row["trial"]))


def next_command(data: PairDataOptions, preset: str | None, options: Mapping[str, Any]) -> str:
    """Return the ``metasiam siamese`` command that trains with what was found, as a shell takes it.

    Args:
        data: the pairs that were searched on, with every default filled in.
        preset: where the search started.
        options: fields of ``SiameseOptions``, those tried and those fixed.
    """
    preset_method = preset_options(preset, "siamese")[1]
    if any(value is None and name in preset_method for name, value in options.items()):
        # No command line can take a preset's value back: say the rest of the preset word by word.
        preset, options = None, preset_method | dict(options)
    known = {name for name, option in declared(SiameseOptions).items() if not option.opt.hidden} - set(UNUSED)
    said = {
        "data": data.data,
        "preset": preset,
        "data_dir": data.data_dir,
        "crop": data.crop,
        "image_size": data.image_size,
        "grey": data.grey or None,
        **{name: value for name, value in options.items() if name in known},
    }
    words = ["metasiam", "siamese"]
    for name, value in said.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", str(value)]
    return shlex.join(words)
