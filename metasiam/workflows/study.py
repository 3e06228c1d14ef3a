"""A search as Optuna keeps it: which trials come next, and what the earlier ones found."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from metasiam.errors import MetaSiamError
from metasiam.options.choices import Choice
from metasiam.training.machine import generator_for

#: Optuna's own account of a search, which it continues from: a journal of JSON lines.
STUDY_FILE = "study.log"
#: Under which name a trial of the study keeps what was measured.
_FOUND = "found"
#: Trials that TPE draws at random first. Not a share of all trials: a search may be resumed with more of them.
_STARTUP = 5


def open_study(out: Path, choices: Sequence[Choice], earlier: Sequence[Mapping[str, Any]] = ()) -> Any:
    """Return Optuna's study in a folder; a new one if there is none, which then knows the earlier trials.

    Args:
        out: the folder.
        choices: what may vary.
        earlier: trials as ``finished`` returns them.

    Raises:
        MetaSiamError: if its file is damaged, the trials are of other options, or Optuna is not installed.
    """
    optuna, file = needed_optuna(), out / STUDY_FILE
    _drop_half_a_line(file)
    journal = optuna.storages.journal
    try:
        backend = journal.JournalFileBackend(str(file), lock_obj=journal.JournalFileOpenLock(str(file)))
        storage = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(storage=storage, study_name="tune", direction="maximize", load_if_exists=True)
        known = study.get_trials(deepcopy=False)
        finished(study)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise MetaSiamError(f"{file} is damaged ({error}). Remove it: trials.jsonl knows the trials too.") from error
    for trial in known:  # of a search that was killed: it is made again
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    if not known:
        try:
            study.add_trials([_told(optuna, row, choices) for row in earlier])
        except (ValueError, LookupError, TypeError) as error:
            raise MetaSiamError(f"{out} holds trials of other options ({error}). Use another --out.") from error
    return study


def proposals(study: Any, strategy: str, choices: Sequence[Choice], total: int, seed: int) -> Iterator[Any]:
    """Yield the trials that are still to be made, as Optuna's, one after the other: tell the study of each.

    Args:
        study: from ``open_study``.
        strategy: of ``STRATEGIES``.
        choices: what may vary.
        total: how many trials in all.
        seed: of the draws; trial n is the same however often the search was stopped.
    """
    samplers, space = needed_optuna().samplers, _space(choices)
    grid = itertools.product(*(choice.values for choice in choices)) if strategy == "grid" else ()
    together = [dict(zip(space, values, strict=True)) for values in grid]
    for number in range(len(finished(study)), total):
        # A sampler of its own for every trial: the n-th trial does not depend on where the search was stopped.
        own = int(torch.randint(2**31, (), generator=generator_for("cpu", seed, "trial", number)))
        tpe = strategy == "tpe"
        study.sampler = (
            samplers.TPESampler(seed=own, n_startup_trials=_STARTUP) if tpe else samplers.RandomSampler(seed=own)
        )
        if together and not study.get_trials(states=(needed_optuna().trial.TrialState.WAITING,)):
            study.enqueue_trial(together[number])
        yield study.ask(space)


def tell(study: Any, trial: Any, found: Mapping[str, Any]) -> None:
    """Keep what a trial found: its validation accuracy, with the AUC deciding between equals, and all else."""
    trial.set_user_attr(_FOUND, dict(found))
    study.tell(trial, found["accuracy"] + 1e-3 * found["auc"])


def finished(study: Any) -> list[dict[str, Any]]:
    """Return the finished trials of a study, as ``trials.jsonl`` has them."""
    done = study.get_trials(deepcopy=False, states=(needed_optuna().trial.TrialState.COMPLETE,))
    return [
        {"trial": number, "options": dict(trial.params), "score": trial.value, **trial.user_attrs[_FOUND]}
        for number, trial in enumerate(done)
    ]


def _told(optuna: Any, row: Mapping[str, Any], choices: Sequence[Choice]) -> Any:
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
    kinds, space = needed_optuna().distributions, {}
    for choice in choices:
        if choice.values:
            space[choice.name] = kinds.CategoricalDistribution(choice.values)
        elif choice.whole:
            low = round(choice.low)
            space[choice.name] = kinds.IntDistribution(low, round(choice.high), log=choice.logarithmic and low > 0)
        else:
            space[choice.name] = kinds.FloatDistribution(choice.low, choice.high, log=choice.logarithmic)
    return space


def needed_optuna() -> Any:
    """Return the library.

    Raises:
        MetaSiamError: if it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MetaSiamError("metasiam tune needs Optuna. Install it with: pip install 'metasiam[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _drop_half_a_line(file: Path) -> None:
    """Take away what a killed process left of a last line: the next would be joined to it."""
    if file.is_file() and not (text := file.read_bytes()).endswith(b"\n"):
        with open(file, "r+b") as journal:
            journal.truncate(text.rfind(b"\n") + 1)
