"""One method after another over several class splits, each run kept, so that a sweep can go on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metasiam.arguments import checked
from metasiam.data.domains import DomainSet
from metasiam.data.sources import load_domains
from metasiam.data.splitting import Split, split_domains
from metasiam.errors import MetaSiamError
from metasiam.evaluation.draws import draw_protocol
from metasiam.evaluation.protocol import evaluate
from metasiam.models.files import load_embedder
from metasiam.options.evaluation import ProtocolSettings
from metasiam.progress import SHOWN_OR_WARNED, SILENT, Listener, Part, heard
from metasiam.reports.inputs import SweepPoint
from metasiam.runs import SWEEP, Run, write_text
from metasiam.runs.locks import run_held
from metasiam.runs.reading import read_text
from metasiam.session import check_trainable
from metasiam.shapes import EVALUATION, check, parse_json
from metasiam.training.machine import choose_device
from metasiam.wording import counted
from metasiam.workflows.sweep_plan import SweepPlan, stored
from metasiam.workflows.train import check_place, train_or_take

#: Trains a method on a split into a folder, or takes what is finished there.
Trainer = Callable[[str, dict[str, Any], Path, Split], Run]


@dataclass(frozen=True)
class SweptRun:
    """One split of a sweep.

    Attributes:
        method: what was trained.
        seen: seen-side domains, those held out for validation included.
        held_out: domains never trained on.
        run: its folder.
        evaluation: the dict of its ``evaluation.json``.
    """

    method: str
    seen: int
    held_out: int
    run: Run
    evaluation: dict[str, Any]


def seen_counts(domains: DomainSet, shares: Sequence[int]) -> list[int]:
    """Return how many domains are seen at each share, in percent of all (published: 10 … 100).

    Raises:
        MetaSiamError: for a share outside 1 … 100, or one that leaves fewer than two domains on a side.
    """
    total = len(domains.names)
    counts = []
    for share in shares:
        if not 1 <= share <= 100:
            raise MetaSiamError(f"--splits takes percentages of seen domains, not {share}. Use e.g. 10,50,90,100.")
        count = round(total * share / 100)
        if count < 2 or total - count == 1:
            raise MetaSiamError(
                f"--splits {share}: {count} of {counted(total, 'domain')} {'is' if count == 1 else 'are'} seen, "
                "and both sides need two. Use another share."
            )
        counts.append(count)
    return counts


def check_sweep(
    methods: Mapping[str, dict[str, Any]],
    domains: DomainSet,
    shares: Sequence[int],
    out: Path,
    check: Callable[[str, dict[str, Any], Path, Split], None],
    settings: ProtocolSettings,
) -> None:
    """Raise where ``sweep`` would after hours: every split is measured and trained on in thought.

    Args:
        methods: options by method.
        domains: the data.
        shares: percent of the domains that are seen.
        out: as for ``sweep``.
        check: raises if a method cannot be trained on a split into a folder.
        settings: what to measure.

    Raises:
        MetaSiamError: naming what does not fit.
    """
    for _, split, places in _parts(methods, domains, shares, out):
        draw_protocol(domains, split, settings)
        for method, path in places.items():
            check(method, methods[method], path, split)


def _parts(
    methods: Mapping[str, dict[str, Any]], domains: DomainSet, shares: Sequence[int], out: Path
) -> Iterator[tuple[int, Split, dict[str, Path]]]:
    """Yield every split: how many domains are seen, which, and the folder of each method's run."""
    for seen in seen_counts(domains, shares):
        held_out = len(domains.names) - seen
        places = {method: out / f"{method}-{seen}-{held_out}" for method in methods}
        yield seen, split_domains(domains, held_out=held_out), places


def carry_out(plan: SweepPlan, listener: Listener) -> tuple[list[SweptRun], list[Path]]:
    """Train and measure everything in a plan, or take what is finished, and write the table and the figure.

    Raises:
        MetaSiamError: for data or folders that do not fit.
        TrainingStopped: when the user pressed Ctrl-C; the same plan continues.
    """
    data = plan.data
    domains = load_domains(
        str(data.data),
        data_dir=data.data_dir,
        image_size=data.image_size,
        skip_unreadable=data.skip_unreadable,
        listener=listener,
    )

    def check(method: str, options: dict[str, Any], path: Path, split: Split) -> None:
        check_place(method, options, path, domains, split, overwrite=plan.overwrite)
        check_trainable(method, domains, split, **options)

    def trainer(method: str, options: dict[str, Any], path: Path, split: Split) -> Run:
        part = replace(data, held_out=len(split.held_out), validation=len(split.validation))
        return train_or_take(
            method, options, path, domains, split, data=part, overwrite=plan.overwrite, listener=listener
        )

    check_sweep(plan.options, domains, plan.shares, plan.out, check, plan.settings)
    with run_held(plan.out):
        write_text(plan.out / SWEEP.markers[0], json.dumps(stored(plan), indent=1) + "\n")
        swept = sweep(
            plan.options,
            domains,
            plan.shares,
            plan.out,
            trainer,
            plan.settings,
            device=plan.device,
            listener=listener,
        )
    return swept, _write(plan.out, swept)


def _write(out: Path, swept: Sequence[SweptRun]) -> list[Path]:
    """Write the table, the figure and every number of a sweep."""
    from metasiam.reports.figures import sweep as sweep_figure
    from metasiam.reports.markdown import sweep_markdown
    from metasiam.reports.style import save_figure

    points = points_of(swept)
    figure = out / "sweep.svg"
    save_figure(sweep_figure(points), figure)
    rows = [
        {
            "method": run.method,
            "seen": run.seen,
            "held_out": run.held_out,
            "run": run.run.path.name,
            "evaluation": run.evaluation,
        }
        for run in swept
    ]
    results = json.dumps({"schema": 1, "runs": rows}, indent=1, ensure_ascii=False) + "\n"
    return [
        write_text(out / "sweep.md", sweep_markdown(points)),
        figure,
        write_text(out / "results.json", results),
    ]


def points_of(swept: Sequence[SweptRun]) -> list[SweepPoint]:
    """Return what tables and figures show of a sweep."""
    return [SweepPoint(run.method, run.seen, run.held_out, run.evaluation) for run in swept]


@checked
@heard
def sweep(
    methods: Mapping[str, dict[str, Any]],
    domains: DomainSet,
    shares: Sequence[int],
    out: str | Path,
    trainer: Trainer,
    settings: ProtocolSettings,
    *,
    device: str = "auto",
    listener: Listener | None = SHOWN_OR_WARNED,
) -> list[SweptRun]:
    """Train and evaluate every method on every split; what is finished in ``out`` is taken as it is.

    Args:
        methods: options by method.
        domains: the data.
        shares: percent of the domains that are seen.
        out: each run goes to ``out/<method>-<seen>-<held out>``.
        trainer: trains one method on one split.
        settings: what to measure; a split without held-out domains measures the seen ones only.
        device: where to evaluate.
        listener: told how far it is; by default a terminal or a notebook shows it; None is silent.

    Raises:
        MetaSiamError: without methods or shares, or for a share that leaves fewer than two domains on a side.
    """
    if not methods or not shares:
        raise MetaSiamError("a sweep needs at least one method and one share of seen domains.")
    swept = []
    out = Path(out)
    for seen, split, places in _parts(methods, domains, shares, out):
        for method, path in places.items():
            run = trainer(method, methods[method], path, split)
            evaluation = _stored_evaluation(run, settings, domains, split)
            if evaluation is None:
                told = Part(listener or SILENT, path.name)
                embedder, info = load_embedder(run.path, listener=told)
                embedder = embedder.to(choose_device(device))
                evaluation = evaluate(embedder, info, domains, split, settings, listener=told).data
                run.write_json("evaluation.json", evaluation)
            swept.append(SweptRun(method, seen, len(domains.names) - seen, run, evaluation))
    return swept


def _stored_evaluation(run: Run, settings: ProtocolSettings, domains: DomainSet, split: Split) -> dict[str, Any] | None:
    """Return the run's evaluation if it was measured as it would be now."""
    try:
        stored: dict[str, Any] = parse_json(read_text(run.path / "evaluation.json"))
        check(stored, EVALUATION)
    except (OSError, ValueError):
        return None
    wanted = {**settings.as_dict(), "fingerprint": domains.fingerprint, "split": split.as_dict()}
    protocol = stored.get("protocol", {})
    return stored if all(protocol.get(key) == value for key, value in wanted.items()) else None
