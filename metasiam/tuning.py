"""Search over the options of a pair training: grid, random or TPE; resumable; chosen on validation pairs only.

The test pairs are withheld from every trial. The best options can be trained and tested once afterwards.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from metasiam.data.pairs import PARTS, PairSet
from metasiam.errors import MetaSiamError
from metasiam.options.pairs import SiameseOptions
from metasiam.options.training import options_of, value_of
from metasiam.pair_session import cross_validated
from metasiam.progress import SHOWN, SILENT, Listener, heard
from metasiam.runs import check_writable, write_text
from metasiam.runs.reading import read_text
from metasiam.shapes import TRIAL, check, parse_json
from metasiam.training.machine import generator_for

TRIALS_FILE = "trials.jsonl"
#: How trials are proposed.
STRATEGIES = ("grid", "random", "tpe")
#: Trials that TPE draws at random first. Not a share of all trials: a search may be resumed with more of them.
_STARTUP = 5
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """What one option may be.

    Attributes:
        name: a field of ``SiameseOptions``.
        values: the listed values; empty for a range.
        low, high: ends of a range.
        logarithmic: whether the range is searched by factors.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False

    @property
    def whole(self) -> bool:
        """Whether the option counts something."""
        kind = next(field.type for field in fields(SiameseOptions) if field.name == self.name)
        return "int" in str(kind)


def parse_choice(text: str) -> Choice:
    """Read ``lr=0.001,0.01``, ``lr=0.0001..0.01`` (by factors) or ``dropout=0..0.5`` (evenly, since it starts at 0).

    Raises:
        MetaSiamError: for an unknown option, or values that it does not take.
    """
    name, equals, listed = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    known = {field.name for field in fields(SiameseOptions)}
    if not equals or not listed.strip():
        raise MetaSiamError(f"--try {text} has no values. Use e.g. --try lr=0.0001,0.001 or --try lr=0.0001..0.01.")
    if name not in known:
        raise MetaSiamError(f"--try {text}: siamese has no option '{name}'. It has: {', '.join(sorted(known))}.")
    if ".." in listed:
        try:
            low, high = (float(end) for end in listed.split(".."))
        except ValueError as error:
            raise MetaSiamError(f"--try {text} is not a range. Use e.g. --try {name}=0.0001..0.01.") from error
        if not low < high:
            raise MetaSiamError(f"--try {text}: the range must grow. Use e.g. --try {name}=0.0001..0.01.")
        return Choice(name, low=low, high=high, logarithmic=low > 0)
    return Choice(
        name, tuple(value_of(SiameseOptions, name, word.strip(), f"--try {text}") for word in listed.split(","))
    )


def proposals(
    strategy: str, choices: Sequence[Choice], trials: int, seed: int, earlier: Sequence[Values]
) -> Iterator[tuple[int, Values, Callable[[float], None]]]:
    """Yield the trials that are still to be made: number, options, and whom to tell the score.

    Args:
        strategy: of ``STRATEGIES``.
        choices: what may vary.
        trials: how many trials in all; a grid has its own number.
        seed: of the draws; trial n is the same however often the search was stopped.
        earlier: trials made already, in order, as ``trials.jsonl`` has them.

    Raises:
        MetaSiamError: for a grid over a range, or TPE without Optuna.
    """
    if strategy == "grid":
        ranged = [choice.name for choice in choices if not choice.values]
        if ranged:
            raise MetaSiamError(f"a grid needs listed values for {ranged[0]}, not a range. Use --strategy random.")
        names = [choice.name for choice in choices]
        grid = [dict(zip(names, values, strict=True)) for values in itertools.product(*(c.values for c in choices))]
        yield from ((number, grid[number], lambda score: None) for number in range(len(earlier), len(grid)))
    elif strategy == "random":
        for number in range(len(earlier), trials):
            yield number, _drawn(choices, generator_for("cpu", seed, "trial", number)), lambda score: None
    else:
        yield from _tpe(choices, trials, seed, earlier)


def _drawn(choices: Sequence[Choice], generator: torch.Generator) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    for choice in choices:
        share = float(torch.rand((), generator=generator))
        if choice.values:
            drawn[choice.name] = choice.values[min(int(share * len(choice.values)), len(choice.values) - 1)]
            continue
        if choice.logarithmic:
            value = choice.low * (choice.high / choice.low) ** share
        else:
            value = choice.low + (choice.high - choice.low) * share
        drawn[choice.name] = round(value) if choice.whole else float(f"{value:.4g}")
    return drawn


def _tpe(
    choices: Sequence[Choice], trials: int, seed: int, earlier: Sequence[Values]
) -> Iterator[tuple[int, Values, Callable[[float], None]]]:
    """Propose by the tree-structured Parzen estimator (Bergstra et al., 2011), told of every earlier trial."""
    try:
        import optuna
    except ImportError as error:
        raise MetaSiamError("--strategy tpe needs Optuna. Install it with: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {choice.name: _distribution(optuna, choice) for choice in choices}
    # A sampler of its own for every trial: the n-th trial does not depend on where the search was stopped.
    study = optuna.create_study(direction="maximize")
    for row in earlier:
        study.add_trial(optuna.trial.create_trial(params=row["options"], distributions=space, value=row["score"]))
    for number in range(len(earlier), trials):
        sampler_seed = int(torch.randint(2**31, (), generator=generator_for("cpu", seed, "trial", number)))
        study.sampler = optuna.samplers.TPESampler(seed=sampler_seed, n_startup_trials=_STARTUP)
        trial = study.ask(space)

        def tell(score: float, trial: Any = trial) -> None:
            study.tell(trial, score)

        yield number, dict(trial.params), tell


def _distribution(optuna: Any, choice: Choice) -> Any:
    if choice.values:
        return optuna.distributions.CategoricalDistribution(choice.values)
    if choice.whole:
        return optuna.distributions.IntDistribution(round(choice.low), round(choice.high), log=choice.logarithmic)
    return optuna.distributions.FloatDistribution(choice.low, choice.high, log=choice.logarithmic)


@heard
def search(
    pairs: PairSet,
    choices: Sequence[Choice],
    *,
    out: Path,
    strategy: str = "grid",
    trials: int = 20,
    seed: int = 0,
    resume: bool = False,
    listener: Listener | None = SHOWN,
    **options: Any,
) -> list[dict[str, Any]]:
    """Try options and keep what each found in ``out/trials.jsonl``.

    Args:
        pairs: their test part is removed before anything else.
        choices: what may vary.
        out: folder of the search.
        strategy: of ``STRATEGIES``.
        trials: how many, for ``random`` and ``tpe``.
        seed: of the search; every training has the same seed from ``options``.
        resume: go on with the trials in ``out``.
        listener: told of every trial before it; by default a terminal or a notebook shows it; None is silent.
        options: fields of ``SiameseOptions`` that do not vary.

    Returns:
        The trials: ``{"trial", "options", "score", "accuracy", "auc", "seconds"}``; the score is the validation
        accuracy (a fraction) at the best threshold, with the AUC deciding between equals.

    Raises:
        MetaSiamError: for options that do not fit, or an earlier search in ``out`` that is another one.
    """
    listener = listener or SILENT
    if strategy not in STRATEGIES:
        raise MetaSiamError(f"--strategy {strategy} is unknown. Use one of: {', '.join(STRATEGIES)}.")
    if not choices:
        raise MetaSiamError("there is nothing to try. Add e.g. --try lr=0.0001,0.001.")
    total = math.prod(len(choice.values) for choice in choices) if strategy == "grid" else trials
    about = {"strategy": strategy, "seed": seed, "choices": [str(choice) for choice in choices], "options": options}
    kept = without_test(pairs)
    file = _open_search(out, about | {"fingerprint": kept.fingerprint}, resume)
    rows = read_trials(file)
    for number, tried, tell in proposals(strategy, choices, trials, seed, rows):
        listener.started({"trial": number + 1, "trials": total, "options": dict(tried)})
        found = cross_validated(kept, options_of(SiameseOptions, {**options, **tried}))
        row = {"trial": number, "options": dict(tried), "score": found["accuracy"] + 1e-3 * found["auc"], **found}
        tell(row["score"])
        with open(file, "a", encoding="utf-8") as text:
            text.write(json.dumps(row) + "\n")
        rows.append(row)
    return rows


def without_test(pairs: PairSet) -> PairSet:
    """Return the pairs without those of the test part: a search cannot look at what it does not have."""
    from dataclasses import replace

    rows = (pairs.part != PARTS.index("test")).nonzero().flatten()
    columns = ("first", "second", "same", "part", "fold")
    return replace(pairs, **{name: getattr(pairs, name)[rows] for name in columns})


def _open_search(out: Path, about: dict[str, Any], resume: bool) -> Path:
    file, described = out / TRIALS_FILE, out / "search.json"
    text = json.dumps(about, indent=1, sort_keys=True, default=str) + "\n"
    if described.is_file():
        if not resume:
            raise MetaSiamError(f"{out} holds a search. Use --resume to continue it, or another --out.")
        if read_text(described) != text:
            raise MetaSiamError(f"{out} holds a search over other options or pairs. Use another --out.")
        return file
    check_writable(out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(described, text)
    return file


def read_trials(file: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a ``trials.jsonl``; a killed search may have left half a last one, which is dropped."""
    if not file.is_file():
        return []
    rows = []
    for line in file.read_bytes().splitlines():
        try:
            row = parse_json(line)
            check(row, TRIAL)
            rows.append(row)
        except ValueError:
            break
    write_text(file, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def best_trial(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the trial with the highest score, the earliest of equals."""
    return max(rows, key=lambda row: (row["score"], -row["trial"]))
