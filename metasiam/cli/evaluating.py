"""Evaluation as the commands share it: settings from options, files in the run folder, tables on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from metasiam.cli.options import given
from metasiam.errors import MetaSiamError
from metasiam.presets import ADAPT_SHOTS

if TYPE_CHECKING:
    from metasiam.cli.progress import Lines
    from metasiam.cli.training import RunOptions
    from metasiam.data.domains import DomainSet, Split
    from metasiam.evaluation.draws import Draws
    from metasiam.evaluation.result import Evaluation
    from metasiam.evaluation.settings import ProtocolSettings, Shots
    from metasiam.runs import Run

#: Test pairs of a task; triplets are as many, drawn for every domain at once.
_MOST_PAIRS = 1_000_000


def parse_shots(text: str) -> tuple[Shots, ...]:
    """Read ``--adapt-shots``: counts of images and ``all``, separated by commas.

    Raises:
        MetaSiamError: for anything else.
    """
    shots: list[Shots] = []
    for part in text.split(","):
        word = part.strip()
        if word == "all":
            shots.append("all")
        elif word.isdecimal():
            shots.append(int(word))
        else:
            raise MetaSiamError(f"--adapt-shots {text}: '{word}' is not a number of images. Use e.g. 0,1,5,20,all.")
    return tuple(dict.fromkeys(shots))


def parse_counts(option: str, text: str, example: str = "0,5,10,30") -> tuple[int, ...]:
    """Read whole numbers separated by commas.

    Raises:
        MetaSiamError: naming the option, for anything else.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise MetaSiamError(f"{option} {text} is not a list of whole numbers. Use e.g. {example}.")
    return tuple(int(word) for word in words)


def more_settings(protocol: str | None, inference: str | None, episodes: str | None) -> dict[str, Any]:
    """Read ``--protocol``, ``--inference`` (names) and ``--episodes`` (WAYSxSHOTS), each separated by commas.

    Returns:
        Those that were given, as fields of ``ProtocolSettings``.

    Raises:
        MetaSiamError: for episodes of another form.
    """
    more: dict[str, Any] = {}
    if protocol is not None:
        more["protocols"] = tuple(dict.fromkeys(word.strip() for word in protocol.split(",")))
    if inference is not None:
        more["inference"] = tuple(dict.fromkeys(word.strip() for word in inference.split(",")))
    if episodes is not None:
        kinds = [word.strip().split("x") for word in episodes.split(",")]
        if not all(len(kind) == 2 and all(part.isdecimal() for part in kind) for kind in kinds):
            raise MetaSiamError(f"--episodes {episodes} is not a list of WAYSxSHOTS. Use e.g. 5x1,5x5,20x1.")
        more["episode_kinds"] = tuple((int(ways), int(shots)) for ways, shots in kinds)
    return more


def settings_from(
    run: RunOptions, seed: int | None, *, earlier: Mapping[str, Any] | None = None, **more: Any
) -> ProtocolSettings:
    """Return the protocol settings that the options ask for.

    Args:
        run: the options.
        seed: of every draw; None is 0, or the earlier one.
        earlier: settings as they were saved, which hold where nothing else was given.
        more: further fields of ``ProtocolSettings``; None is not given.

    Raises:
        MetaSiamError: for a threshold that is no number, more pairs than fit, or shots and steps that cannot be read.
    """
    from metasiam.evaluation.settings import ProtocolSettings

    values = given(seed=seed, **more)
    if not math.isfinite(values.get("threshold", 0.0)):
        raise MetaSiamError(f"--threshold must be a finite number, not {values['threshold']}.")
    if run.pairs is not None:
        if run.pairs > _MOST_PAIRS:
            raise MetaSiamError(f"--pairs {run.pairs} is more than {_MOST_PAIRS}, the most a task can have. Lower it.")
        values |= {"pairs": run.pairs, "triplets": run.pairs}
    shots = run.adapt_shots if run.adapt_shots is not None else ADAPT_SHOTS.get(run.preset or "")
    if shots is not None:
        values["shots"] = parse_shots(shots)
    if run.adapt_steps is not None:
        values["adapt_steps"] = run.adapt_steps
    if run.curve_steps is not None:
        values["curve_steps"] = parse_counts("--curve-steps", run.curve_steps)
    return replace(ProtocolSettings.of_saved(earlier or {}), **values)


def evaluate_run(
    run: Run, domains: DomainSet, split: Split, settings: ProtocolSettings, draws: Draws, shown: Lines
) -> Evaluation:
    """Evaluate a finished run and keep its calibrated threshold with its weights."""
    from metasiam.evaluation.protocol import evaluate
    from metasiam.models.files import EMBEDDER_FILE, load_embedder, save_embedder
    from metasiam.training.machine import choose_device

    embedder, info = load_embedder(run.path, listener=shown)
    device = choose_device(run.config["options"]["device"])
    evaluation = evaluate(embedder.to(device), info, domains, split, settings, draws=draws, listener=shown)
    threshold = evaluation.data["protocol"].get("global_threshold")
    if threshold is not None:
        save_embedder(run.path / EMBEDDER_FILE, embedder, replace(info, threshold=float(threshold)))
    return evaluation


def write_evaluation(run: Run, evaluation: Evaluation, domains: DomainSet) -> list[Path]:
    """Write ``evaluation.json``, ``tasks.csv``, the report and its figures into the run folder."""
    from metasiam.reports.extras import extras_of
    from metasiam.reports.page import evaluation_page
    from metasiam.reports.style import save_figure
    from metasiam.reports.tables import tasks_csv
    from metasiam.reports.training_figures import loss_curve
    from metasiam.runs import write_text

    written = [run.write_json("evaluation.json", evaluation.data)]
    if evaluation.data.get("held_out", {}).get("tasks"):
        written.append(write_text(run.path / "tasks.csv", tasks_csv(evaluation.data)))
    history = run.metrics()
    extras = extras_of({run.method: evaluation}, domains, histories={run.method: history} if history else {})
    page = evaluation_page(evaluation.data, run.method, settings=run.config, extras=extras)
    written.append(write_text(run.path / "report.html", page))
    if history:
        figure = run.path / "figures" / "loss.svg"
        save_figure(loss_curve({run.method: history}), figure)
        written.append(figure)
    return written


def print_answer(console: Console, compare: Mapping[str, Any]) -> None:
    """Print the answer that a report begins with, from a dict as of ``compare.json``."""
    from metasiam.reports.wording import headline

    answer = headline(compare)
    words = " ".join(part for part in (answer.sentence, answer.certainty) if part)
    console.print(f"\n{words}", highlight=False, markup=False, soft_wrap=True)


def print_evaluation(console: Console, evaluation: Evaluation, name: str, written: Iterable[Path]) -> None:
    """Print the per-task table, the means, measurements of the published systems, the answer and what was written."""
    from metasiam.reports.reference import reference_table
    from metasiam.reports.rendering import print_table
    from metasiam.reports.tables import episode_table, summary_table, task_table

    if evaluation.data.get("held_out", {}).get("tasks"):
        print_table(console, task_table(evaluation.data))
    summary = summary_table(evaluation.data)
    if summary.rows:
        print_table(console, summary)
    if evaluation.data.get("held_out", {}).get("episodes"):
        print_table(console, episode_table({"accuracy": evaluation.data}))
    if "reference_protocol" in evaluation.data:
        print_table(console, reference_table({"this embedder": evaluation.data}))
    print_answer(console, {"methods": {name: evaluation.data}})
    print_written(console, written)


def print_written(console: Console, written: Iterable[Path]) -> None:
    """Say which files were written, the folder once."""
    paths = list(written)
    if not paths:
        return
    folder = paths[0].parent
    names = ", ".join(str(path.relative_to(folder)) for path in paths).replace("report.html", "report.html (open it)")
    console.print(f"\nwrote to {folder}: {names}", highlight=False, markup=False, soft_wrap=True)
