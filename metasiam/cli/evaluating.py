"""Evaluation as the commands share it: settings from options, files in the run folder, tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from metasiam.cli.progress import Lines
    from metasiam.data.domains import DomainSet, Split
    from metasiam.evaluation.draws import Draws
    from metasiam.evaluation.result import Evaluation
    from metasiam.options.evaluation import ProtocolSettings
    from metasiam.runs import Run


def evaluate_run(
    run: Run, domains: DomainSet, split: Split, settings: ProtocolSettings, draws: Draws, shown: Lines
) -> Evaluation:
    """Evaluate a finished run and keep its calibrated threshold with its weights."""
    from metasiam.evaluation.protocol import evaluate
    from metasiam.models.files import load_embedder, save_embedder
    from metasiam.runs import EMBEDDER_FILE
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
