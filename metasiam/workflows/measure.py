"""A finished run measured: its evaluation, its threshold, and the files that they become."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from metasiam.progress import Listener
from metasiam.runs import EMBEDDER_FILE, Run, write_text

if TYPE_CHECKING:
    from metasiam.data.domains import DomainSet
    from metasiam.data.splitting import Split
    from metasiam.evaluation.draws import Draws
    from metasiam.evaluation.result import Evaluation
    from metasiam.options.evaluation import ProtocolSettings


def evaluate_run(
    run: Run, domains: DomainSet, split: Split, settings: ProtocolSettings, draws: Draws, listener: Listener
) -> Evaluation:
    """Evaluate a finished run and keep its calibrated threshold with its weights."""
    from metasiam.evaluation.protocol import evaluate
    from metasiam.models.files import load_embedder, save_embedder
    from metasiam.training.machine import choose_device

    embedder, info = load_embedder(run.path, listener=listener)
    device = choose_device(run.config["options"]["device"])
    evaluation = evaluate(embedder.to(device), info, domains, split, settings, draws=draws, listener=listener)
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
