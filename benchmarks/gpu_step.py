"""Row 6: milliseconds of an inner step on a GPU, eager, compiled, and either as a CUDA graph.

Sampling and augmentation are included: whole Reptile iterations are timed, with one synchronisation at the end of each
round. Also prints what the seeds' full setting, 10,000 iterations of 30 inner epochs, would take. The file is written
after every kind of step, and a kind that fails says why in it: GPU time is too dear to lose results.
Needs only torch, numpy, safetensors and, for ``--data folder:``, Pillow; run in the repository's root.
"""

from __future__ import annotations

import sys
import time
import traceback
from typing import Any

import torch

from benchmarks.data import benchmark_domains, benchmark_split
from benchmarks.harness import options, save, summary
from metasiam.config import ReptileConfig
from metasiam.data.domains import DomainSet
from metasiam.learners.context import TrainingContext, prepare
from metasiam.learners.reptile import Reptile
from metasiam.training.distributed import Processes
from metasiam.training.step import GraphedStep, TrainingStep

#: Name → compiled, as a graph. Graphs need a GPU.
KINDS = {"eager": (False, False), "compiled": (True, False), "graph": (False, True), "compiled graph": (True, True)}


def learner(domains: DomainSet, arguments: Any, arch: str, compiled: bool) -> Reptile:
    """Return a Reptile learner with the seeds' inner setting."""
    config = ReptileConfig(
        arch=arch,
        batch_size=arguments.batch,
        inner_epochs=arguments.inner_epochs,
        iterations=10**6,
        flip=True,
        precision=arguments.precision,
        compile="on" if compiled else "off",
        seed=arguments.seed,
    )
    return Reptile(config, prepare(config, domains, benchmark_split(domains)), Processes())


def without_graph(context: TrainingContext, reptile: Reptile, compiled: bool) -> TrainingStep:
    """Return the step that the learner would have without its graph."""
    return TrainingStep(
        context.embedder,
        context.objective,
        reptile.optimizer,
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
    reptile = learner(domains, arguments, arch, compiled)
    if not graphed:
        reptile._step = without_graph(reptile.context, reptile, compiled)
    wait(reptile.iterate(0, lambda: False))
    first = time.perf_counter() - start
    assert graphed == isinstance(reptile._step, GraphedStep)
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


def main() -> int:
    """Run the benchmark and write its result; return 1 if a kind of step failed."""
    parser = options(
        __doc__.splitlines()[0], arch="resnet20,resnet56", batch=128, inner_epochs=30, iterations=10, precision="auto"
    )
    parser.add_argument("--kinds", default=",".join(KINDS), help="comma-separated")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.arch, arguments.batch, arguments.inner_epochs = "resnet8", 4, 2
        arguments.iterations, arguments.rounds = 1, 1
    cuda = torch.cuda.is_available()
    kinds = arguments.kinds.split(",") if cuda else ["eager"]
    if not cuda:
        print("no CUDA device here: only the eager step on the CPU is timed, which shows that the script runs")
    domains = benchmark_domains(arguments.data, images=30 if arguments.quick else 600)
    results: dict[str, dict[str, Any]] = {arch: {} for arch in arguments.arch.split(",")}
    failed = False
    for arch in results:
        for kind in kinds:
            try:
                results[arch][kind] = measure(domains, arguments, arch, kind)
            except Exception as error:
                failed = True
                traceback.print_exc()
                results[arch][kind] = {"failed": f"{type(error).__name__}: {str(error)[:2000]}"}
            path = save("gpu_step" if cuda else "gpu_step-on-cpu", arguments, results)
    print(path.read_text(encoding="utf-8") if arguments.quick else "")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
