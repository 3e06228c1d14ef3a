"""Row 6: milliseconds of an inner step on a GPU, eager, compiled, and either as a CUDA graph.

Sampling and augmentation are included: whole Reptile iterations are timed, with one synchronisation at the end of each
round. Also prints what the published setting, 10,000 iterations of 30 inner epochs, would take. The file is written
after every kind of step, and a kind that fails says why in it: GPU time is too dear to lose results. Every embedder and
kind has a process of its own, since a capture that fails (PyTorch 2.11) spoils all later ones of its process; kinds
that compile come last, and ``--limit`` ends one that hangs.
Needs only torch, numpy, safetensors and, for ``--data folder:``, Pillow; run in the repository's root.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from benchmarks.data import benchmark_domains, benchmark_split
from benchmarks.harness import options, save, summary
from metasiam.data.domains import DomainSet
from metasiam.learners.context import TrainingContext, prepare
from metasiam.learners.reptile import Reptile
from metasiam.options.reptile import ReptileOptions
from metasiam.progress import Listener
from metasiam.training.distributed import Processes
from metasiam.training.step import GraphedStep, TrainingStep

#: Name → compiled, as a graph. Graphs need a GPU. In the order of their risks.
KINDS = {"eager": (False, False), "graph": (False, True), "compiled graph": (True, True), "compiled": (True, False)}


class _Notes(Listener):
    """Keeps what keeps a step from being what was asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def learner(domains: DomainSet, arguments: Any, arch: str, compiled: bool, graphed: bool) -> Reptile:
    """Return a Reptile learner with the published inner setting; no graph is captured but the one asked for."""
    config = ReptileOptions(
        arch=arch,
        batch_size=arguments.batch,
        inner_epochs=arguments.inner_epochs,
        iterations=10**6,
        flip=True,
        precision=arguments.precision,
        compile="on" if compiled else "off",
        seed=arguments.seed,
    )
    notes = _Notes()
    resolved = {"compiled": compiled} if graphed else None  # decided: no other step is built to time it
    context = prepare(config, domains, benchmark_split(domains), resolved=resolved, listener=notes)
    if not graphed:
        context.step = lambda optimizer, *_, **__: without_graph(context, optimizer, compiled)  # type: ignore
    reptile = Reptile(config, context, Processes())
    if graphed != isinstance(reptile._step, GraphedStep):
        raise RuntimeError("; ".join(notes.texts) or f"the step is a {type(reptile._step).__name__}")
    return reptile


def without_graph(context: TrainingContext, optimizer: torch.optim.Optimizer, compiled: bool) -> TrainingStep:
    """Return the step that a learner would have without its graph."""
    return TrainingStep(
        context.embedder,
        context.objective,
        optimizer,
        context.domains,
        context.augmentation,
        context.info.mean,
        context.info.std,
        precision=context.precision,
        compiled=compiled,
    )


def measure(domains: DomainSet, arguments: Any, arch: str, kind: str) -> dict[str, Any]:
    """Time iterations of one embedder and one kind of step."""
    compiled, graphed = KINDS[kind]
    start = time.perf_counter()
    reptile = learner(domains, arguments, arch, compiled, graphed)
    wait(reptile.iterate(0, lambda: False))
    first = time.perf_counter() - start
    times, count = [], 1
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        for _ in range(arguments.iterations):
            loss = reptile.iterate(count, lambda: False)
            count += 1
        wait(loss)
        times.append((time.perf_counter() - start) / arguments.iterations / arguments.inner_epochs)
    per_step = summary([1000 * t for t in times])
    hours = per_step["median"] / 1000 * 30 * 10_000 / 3600
    result = {
        "ms_per_inner_step": per_step,
        "images_per_second": round(3 * arguments.batch / per_step["median"] * 1000),
        "first_iteration_seconds": round(first, 1),
        "minutes_of_10000_x_30": round(60 * hours, 1),
    }
    if torch.cuda.is_available():
        result["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
        torch.cuda.reset_peak_memory_stats()
    print(
        f"{arch} {kind}: {per_step['median']:.2f} ms an inner step, 10,000 × 30 takes "
        f"{result['minutes_of_10000_x_30']} min; first iteration {first:.1f} s",
        flush=True,
    )
    return result


def wait(loss: torch.Tensor) -> None:
    """Wait for the device."""
    float(loss)


def measured_apart(arguments: Any, arch: str, kind: str) -> dict[str, Any]:
    """Measure one embedder and one kind of step in a process of its own; return its numbers, or why there are none."""
    limit = arguments.limit or None
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "benchmarks.gpu_step", *sys.argv[1:], "--arch", arch, "--kinds", kind]
        try:
            done = subprocess.run([*command, "--hand-back", str(result)], timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return {"failed": f"ended after {arguments.limit:.0f} s"}
        if not result.is_file():
            return {"failed": f"the process ended with status {done.returncode}"}
        return dict(json.loads(result.read_text(encoding="utf-8")))


def hand_back(arguments: Any, result: Path) -> int:
    """Measure the one embedder and kind that the arguments name, and write the numbers, or why there are none."""
    try:
        domains = benchmark_domains(arguments.data, images=30 if arguments.quick else 600)
        found = measure(domains, arguments, arguments.arch, arguments.kinds)
    except Exception as error:
        traceback.print_exc()
        found = {"failed": f"{type(error).__name__}: {str(error)[:2000]}"}
    result.write_text(json.dumps(found), encoding="utf-8")
    return int("failed" in found)


def main() -> int:
    """Run the benchmark and write its result; return 1 if a kind of step failed."""
    parser = options(
        __doc__.splitlines()[0], arch="resnet20,resnet56", batch=128, inner_epochs=30, iterations=10, precision="auto"
    )
    parser.add_argument("--kinds", default=",".join(KINDS), help="comma-separated")
    parser.add_argument("--limit", type=float, default=0.0, help="seconds for each kind of each embedder; 0: no limit")
    parser.add_argument("--hand-back", type=Path, help="measure in this process, and write the one result here")
    arguments = parser.parse_args()
    result = vars(arguments).pop("hand_back")
    if unknown := set(arguments.kinds.split(",")) - set(KINDS):
        parser.error(f"no kinds of step: {', '.join(sorted(unknown))}")
    if arguments.quick:
        arguments.arch, arguments.batch, arguments.inner_epochs = "resnet8", 4, 2
        arguments.iterations, arguments.rounds = 1, 1
    if result is not None:
        return hand_back(arguments, result)
    cuda = torch.cuda.is_available()
    kinds = [kind for kind in KINDS if kind in arguments.kinds.split(",")] if cuda else ["eager"]
    if not cuda:
        print("no CUDA device here: only the eager step on the CPU is timed, which shows that the script runs")
    results: dict[str, dict[str, Any]] = {arch: {} for arch in arguments.arch.split(",")}
    for kind in kinds:
        for arch in results:
            results[arch][kind] = measured_apart(arguments, arch, kind)
            path = save("gpu_step" if cuda else "gpu_step-on-cpu", arguments, results)
    print(path.read_text(encoding="utf-8") if arguments.quick else "")
    return int(any("failed" in found for by_kind in results.values() for found in by_kind.values()))


if __name__ == "__main__":
    sys.exit(main())
