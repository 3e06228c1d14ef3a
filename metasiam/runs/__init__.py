"""Run folders and what else is written: one place for what may be written where, whole files, safe reading, locks."""

from __future__ import annotations

from metasiam.runs.folder import (
    CONFIG_FILE,
    METRICS_FILE,
    RUN_FILES,
    RUN_FOLDERS,
    Run,
    check_out,
    check_overwrite,
    check_writable,
    clear_run,
    create_run,
    open_run,
    run_behind,
    write_text,
)

__all__ = [
    "CONFIG_FILE",
    "METRICS_FILE",
    "RUN_FILES",
    "RUN_FOLDERS",
    "Run",
    "check_out",
    "check_overwrite",
    "check_writable",
    "clear_run",
    "create_run",
    "open_run",
    "run_behind",
    "write_text",
]
