"""Run folders and what else is written: one place for what may be written where, whole files, safe reading, locks."""

from __future__ import annotations

from metasiam.runs.folder import Run, create_run, open_run, run_behind, write_text
from metasiam.runs.places import (
    CHECKPOINT_FILE,
    COMPARISON,
    CONFIG_FILE,
    EMBEDDER_FILE,
    EVALUATION,
    FOLDS,
    METRICS_FILE,
    RUN,
    SEARCH,
    SWEEP,
    check_measured,
    check_new,
    check_new_file,
    clear,
    fresh_folder,
    holds,
)

__all__ = [
    "CHECKPOINT_FILE",
    "COMPARISON",
    "CONFIG_FILE",
    "EMBEDDER_FILE",
    "EVALUATION",
    "FOLDS",
    "METRICS_FILE",
    "RUN",
    "SEARCH",
    "SWEEP",
    "Run",
    "check_measured",
    "check_new",
    "check_new_file",
    "clear",
    "create_run",
    "fresh_folder",
    "holds",
    "open_run",
    "run_behind",
    "write_text",
]
