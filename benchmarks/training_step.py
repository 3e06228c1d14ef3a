"""Row 1: our training step against the straightforward loop, sampling and augmentation included.

Wall-clock ratios are the result; ratios of CPU seconds are given beside them, since they hold on a busy machine too.
Both sides train the same embedder on batches of one random seen domain with antidomain negatives (the seeds' inner
step), each in its own process; only one of them works at a time. Ours is what ``metasiam reptile`` runs.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.data import benchmark_domains, benchmark_split
from benchmarks.harness import interleaved, options, ratios, save, summary
from benchmarks.sides import Side
from metasiam.kernels.build import library

#: Ours with one thing taken away or changed at a time: what each lever is worth.
LEVERS: dict[str, dict[str, Any]] = {
    "without compiling": {"compile": "off"},
    "in fp32": {"precision": "fp32"},
    "in fp32 without compiling": {"precision": "fp32", "compile": "off"},
}


def build_straightforward(data: str, arch: str, batch: int, seed: int, workers: int) -> Callable[[], float]:
    """Build the straightforward side; called in its own process."""
    from benchmarks.straightforward import StraightforwardTraining
    from metasiam.models import build_embedder

    domains = benchmark_domains(data)
    split = benchmark_split(domains)
    mean, std = domains.channel_statistics(domains.pool(split.seen, "train"))
    random.seed(seed)
    torch.manual_seed(seed)
    embedder = build_embedder(arch).train()
    training = StraightforwardTraining(embedder, domains, split, mean, std, batch_size=batch, workers=workers)
    return lambda: float(training())


def build_ours(data: str, arch: str, batch: int, seed: int, changes: dict[str, Any]) -> Callable[[], float]:
    """Build our side, with the step, the optimizer and the allocator of ``metasiam reptile``; in its own process."""
    from metasiam.config import ReptileConfig
    from metasiam.data.tasks import draw_triplets_of
    from metasiam.learners.context import prepare
    from metasiam.training.machine import tune_allocator
    from metasiam.training.optimizers import adam
    from metasiam.training.state import prime, trainable

    tune_allocator()
    domains = benchmark_domains(data)
    config = ReptileConfig(
        **{"arch": arch, "batch_size": batch, "seed": seed, "flip": True, "compile": "on", **changes}
    )
    context = prepare(config, domains, benchmark_split(domains))
    context.embedder.train()
    optimizer = adam(trainable((context.embedder, context.objective)), config.lr, (0.9, 0.999), context.device)
    prime(optimizer)
    step = context.step(optimizer, 10**9)
    generator, seen = context.generator("benchmark"), context.seen

    def one() -> float:
        rows = torch.randint(len(seen.domains), (1,), generator=generator, device=context.device)
        index = draw_triplets_of(seen, rows, seen, (batch,), generator)
        return float(step(index, context.augmentation.draw((3, batch), generator)))

    return one


def compare(arguments: Any, arch: str) -> dict[str, Any]:
    """Time both sides and the levers of one embedder."""
    common = (arguments.data, arch, arguments.batch, arguments.seed)
    sides = {
        "straightforward": Side(build_straightforward, *common, arguments.workers),
        "ours": Side(build_ours, *common, {"compile": "off"} if arguments.quick else {}),
    }
    if arguments.levers:
        sides |= {f"ours {name}": Side(build_ours, *common, change) for name, change in LEVERS.items()}
    first = {}
    for name, side in sides.items():
        start = time.perf_counter()
        side.steps(1)
        first[name] = round(time.perf_counter() - start, 2)
        print(f"{arch} {name}: first step {first[name]} s", flush=True)
    cpu: dict[str, list[float]] = {name: [] for name in sides}

    def work(name: str) -> Callable[[], None]:
        def steps() -> None:
            done = sides[name].steps(arguments.steps)
            cpu[name].append(done["cpu_seconds"])
            print(f"{arch} {name}: {done['seconds']:.2f} s, {done['cpu_seconds']:.2f} CPU s", flush=True)

        return steps

    seconds = interleaved({name: work(name) for name in sides}, rounds=arguments.rounds)
    images = 3 * arguments.batch * arguments.steps
    result: dict[str, Any] = {"first_step_seconds": first, "sides": {}}
    for name, times in seconds.items():
        result["sides"][name] = {
            "images_per_second": round(images / statistics.median(times), 1),
            "ms_per_step": summary([1000 * t / arguments.steps for t in times]),
            "ratio": ratios(seconds["straightforward"], times),
            "cpu_ms_per_step": summary([1000 * t / arguments.steps for t in cpu[name][1:]]),
            "ratio_of_cpu_seconds": ratios(cpu["straightforward"][1:], cpu[name][1:]),
            "peak_mb": round(sides[name].steps(0)["peak_mb"]),
        }
        sides[name].close()
        print(
            f"{arch} {name}: {result['sides'][name]['images_per_second']} images/s, "
            f"{result['sides'][name]['ratio']['median']:.2f}× the straightforward loop, "
            f"{result['sides'][name]['ratio_of_cpu_seconds']['median']:.2f}× in CPU seconds",
            flush=True,
        )
    eager = seconds.get("ours without compiling")
    if eager is not None:
        saved = (statistics.median(eager) - statistics.median(seconds["ours"])) / arguments.steps
        extra = first["ours"] - first["ours without compiling"]
        result["compiling"] = {
            "seconds": round(extra, 1),
            "saves_ms_per_step": round(1000 * saved, 1),
            "saves_fraction": round(saved / (statistics.median(eager) / arguments.steps), 3),
            "pays_back_after_steps": round(extra / saved) if saved > 0 else None,
        }
    return result


def final_losses(arguments: Any, arch: str) -> None:
    """Train each side for ``loss_steps`` and compare the mean loss over the last tenth, over seeds.

    Written after every seed: a run that is cut short keeps those it has.
    """
    changes = {"compile": "off"} if arguments.quick else {}
    sides = {"straightforward": (build_straightforward, arguments.workers), "ours": (build_ours, changes)}
    found: dict[str, list[float]] = {name: [] for name in sides}
    tail = max(arguments.loss_steps // 10, 1)
    for seed in range(arguments.seed, arguments.seed + arguments.loss_seeds):
        for name, (build, last) in sides.items():
            side = Side(build, arguments.data, arch, arguments.batch, seed, last)
            losses = side.steps(arguments.loss_steps)["losses"]
            side.close()
            found[name].append(statistics.mean(losses[-tail:]))
            print(f"{arch} seed {seed} {name}: mean loss of the last {tail} steps {found[name][-1]:.4f}", flush=True)
        result = {
            name: {"mean": statistics.mean(values), "by_seed": [round(value, 5) for value in values]}
            for name, values in found.items()
        }
        save("training_loss", arguments, {arch: result})


def main() -> None:
    """Run the benchmark and write its result."""
    parser = options(__doc__.splitlines()[0], arch="resnet20,resnet56", batch=128, steps=2, workers=0, threads=0)
    parser.add_argument("--loss-steps", type=int, default=200, help="0 leaves the losses out; --arch '' the speed")
    parser.add_argument("--loss-seeds", type=int, default=3)
    parser.add_argument("--loss-arch", default="resnet20")
    parser.add_argument("--no-levers", dest="levers", action="store_false", help="only the two sides")
    arguments = parser.parse_args()
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # the sides' processes inherit it
    if arguments.quick:
        arguments.arch = arguments.loss_arch = "resnet8"
        arguments.batch, arguments.steps, arguments.rounds, arguments.levers = 4, 1, 1, False
        arguments.loss_steps, arguments.loss_seeds = 2, 1
    if arguments.arch:
        arguments.kernels = library() is not None and not arguments.quick
        save("training_step", arguments, {arch: compare(arguments, arch) for arch in arguments.arch.split(",")})
    if arguments.loss_steps:
        final_losses(arguments, arguments.loss_arch)


if __name__ == "__main__":
    main()
