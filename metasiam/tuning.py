"""Search over the options of a pair training with Optuna: grid, random or TPE; resumable; on validation pairs only.

The test pairs are withheld from every trial. The best options can be trained and tested once afterwards.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
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
from metasiam.runs import SEARCH, check_new, write_text
from metasiam.runs.locks import run_held
from metasiam.runs.reading import read_text
from metasiam.shapes import TRIAL, check, parse_json
from metasiam.training.machine import generator_for

TRIALS_FILE = "trials.jsonl"
#: Optuna's own account of the search, which a search goes on from: a journal of JSON lines.
STUDY_FILE = "study.log"
#: Under which name a trial of the study keeps what was measured.
_FOUND = "found"
#: How trials are proposed.
STRATEGIES = ("grid", "random", "tpe")
#: Trials that TPE draws at random first. Not a share of all trials: a search may be resumed with more of them.
_STARTUP = 5


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


@heard
def search(
    pairs: PairSet,
    choices: Sequence[Choice],
    *,
    out: str | Path,
    strategy: str = "grid",
    trials: int = 20,
    seed: int = 0,
    resume: bool = False,
    listener: Listener | None = SHOWN,
    **options: Any,
) -> list[dict[str, Any]]:
    """Try options with Optuna, and keep what each found in ``out/trials.jsonl``; Optuna's own study lies beside it.

    Args:
        pairs: their test part is removed before anything else.
        choices: what may vary.
        out: folder of the search.
        strategy: of ``STRATEGIES``.
        trials: how many, for ``random`` and ``tpe``; a grid has its own number.
        seed: of the search; every training has the same seed from ``options``.
        resume: go on with the trials in ``out``.
        listener: told of every trial before it; by default a terminal or a notebook shows it; None is silent.
        options: fields of ``SiameseOptions`` that do not vary.

    Returns:
        The trials: ``{"trial", "options", "score", "accuracy", "auc", "seconds"}``; the score is the validation
        accuracy (a fraction) at the best threshold, with the AUC deciding between equals.

    Raises:
        MetaSiamError: for options that do not fit, an earlier search in ``out`` that is another one, or without Optuna.
    """
    told = listener or SILENT
    check_search(strategy, choices)
    total = math.prod(len(choice.values) for choice in choices) if strategy == "grid" else trials
    about = {"strategy": strategy, "seed": seed, "choices": [str(choice) for choice in choices], "options": options}
    kept = without_test(pairs)
    out = Path(out)
    _open_search(out, about | {"fingerprint": kept.fingerprint}, resume)
    with run_held(out):
        file, study = out / TRIALS_FILE, open_study(out, choices)
        rows = finished(study)
        write_text(file, "".join(json.dumps(row) + "\n" for row in rows))
        for trial in proposals(study, strategy, choices, total, seed):
            told.started({"trial": len(rows) + 1, "trials": total, "options": dict(trial.params)})
            found = cross_validated(kept, options_of(SiameseOptions, {**options, **trial.params}))
            trial.set_user_attr(_FOUND, found)
            study.tell(trial, found["accuracy"] + 1e-3 * found["auc"])
            rows = finished(study)
            with open(file, "a", encoding="utf-8") as text:
                text.write(json.dumps(rows[-1]) + "\n")
    return rows


def check_search(strategy: str, choices: Sequence[Choice]) -> None:
    """Raise unless choices can be searched so.

    Raises:
        MetaSiamError: for an unknown strategy, nothing to try, a grid over a range, or without Optuna.
    """
    _optuna()
    if strategy not in STRATEGIES:
        raise MetaSiamError(f"--strategy {strategy} is unknown. Use one of: {', '.join(STRATEGIES)}.")
    if not choices:
        raise MetaSiamError("there is nothing to try. Add e.g. --try lr=0.0001,0.001.")
    ranged = [choice.name for choice in choices if not choice.values]
    if strategy == "grid" and ranged:
        raise MetaSiamError(f"a grid needs listed values for {ranged[0]}, not a range. Use --strategy random.")


def proposals(study: Any, strategy: str, choices: Sequence[Choice], total: int, seed: int) -> Iterator[Any]:
    """Yield the trials that are still to be made, as Optuna's, one after the other: tell the study of each.

    Args:
        study: from ``open_study``.
        strategy: of ``STRATEGIES``.
        choices: what may vary.
        total: how many trials in all.
        seed: of the draws; trial n is the same however often the search was stopped.
    """
    samplers, space = _optuna().samplers, _space(choices)
    grid = itertools.product(*(choice.values for choice in choices)) if strategy == "grid" else ()
    together = [dict(zip(space, values, strict=True)) for values in grid]
    for number in range(len(finished(study)), total):
        # A sampler of its own for every trial: the n-th trial does not depend on where the search was stopped.
        own = int(torch.randint(2**31, (), generator=generator_for("cpu", seed, "trial", number)))
        tpe = strategy == "tpe"
        study.sampler = (
            samplers.TPESampler(seed=own, n_startup_trials=_STARTUP) if tpe else samplers.RandomSampler(seed=own)
        )
        if together and not study.get_trials(states=(_optuna().trial.TrialState.WAITING,)):
            study.enqueue_trial(together[number])
        yield study.ask(space)


def open_study(out: Path, choices: Sequence[Choice]) -> Any:
    """Return Optuna's study in a folder, new if there is none; it then knows the trials in ``trials.jsonl``.

    Raises:
        MetaSiamError: if its file is damaged, or Optuna is not installed.
    """
    optuna, file = _optuna(), out / STUDY_FILE
    _drop_half_a_line(file)
    journal = optuna.storages.journal
    try:
        backend = journal.JournalFileBackend(str(file), lock_obj=journal.JournalFileOpenLock(str(file)))
        storage = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(storage=storage, study_name="tune", direction="maximize", load_if_exists=True)
        known = study.get_trials(deepcopy=False)
        finished(study)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise MetaSiamError(f"{file} is damaged ({error}). Remove it: {TRIALS_FILE} knows the trials too.") from error
    for trial in known:  # of a search that was killed: it is made again
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    if not known:
        try:
            study.add_trials([_told(optuna, row, choices) for row in read_trials(out / TRIALS_FILE)])
        except (ValueError, LookupError, TypeError) as error:
            raise MetaSiamError(f"{out / TRIALS_FILE} holds trials of other options ({error}). Remove it.") from error
    return study


def finished(study: Any) -> list[dict[str, Any]]:
    """Return the finished trials of a study, as ``trials.jsonl`` has them."""
    done = study.get_trials(deepcopy=False, states=(_optuna().trial.TrialState.COMPLETE,))
    return [
        {"trial": number, "options": dict(trial.params), "score": trial.value, **trial.user_attrs[_FOUND]}
        for number, trial in enumerate(done)
    ]


def _told(optuna: Any, row: dict[str, Any], choices: Sequence[Choice]) -> Any:
    """Return a trial of a search that has no study yet, as Optuna knows it."""
    tried = dict(row["options"])
    for choice in choices:
        if not choice.values:  # it may have been rounded beyond the range's end
            tried[choice.name] = min(max(tried[choice.name], choice.low), choice.high)
    found = {name: value for name, value in row.items() if name not in ("trial", "options", "score")}
    return optuna.trial.create_trial(
        params=tried, distributions=_space(choices), value=row["score"], user_attrs={_FOUND: found}
    )


def _space(choices: Sequence[Choice]) -> dict[str, Any]:
    """Return what may vary as Optuna's distributions."""
    kinds, space = _optuna().distributions, {}
    for choice in choices:
        if choice.values:
            space[choice.name] = kinds.CategoricalDistribution(choice.values)
        elif choice.whole:
            low = round(choice.low)
            space[choice.name] = kinds.IntDistribution(low, round(choice.high), log=choice.logarithmic and low > 0)
        else:
            space[choice.name] = kinds.FloatDistribution(choice.low, choice.high, log=choice.logarithmic)
    return space


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MetaSiamError("metasiam tune needs Optuna. Install it with: pip install 'metasiam[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def without_test(pairs: PairSet) -> PairSet:
    """Return the pairs without those of the test part: a search cannot look at what it does not have."""
    from dataclasses import replace

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


def _drop_half_a_line(file: Path) -> None:
    """Take away what a killed process left of a last line: the next would be joined to it."""
    if file.is_file() and not (text := file.read_bytes()).endswith(b"\n"):
        with open(file, "r+b") as journal:
            journal.truncate(text.rfind(b"\n") + 1)


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
