"""Row 1: our training step against the straightforward loop, sampling and augmentation included.

Wall-clock ratios are the result; ratios of CPU seconds are given next to them, since they hold on a busy machine too.
Both sides train the same embedder on batches of one random seen domain with antidomain negatives (the published inner
step), each in its own process; only one of them works at a time. Ours is what ``metasiam reptile`` runs.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.data import benchmark_domains, benchmark_split
from benchmarks.harness import interleaved, options, ratios, save, summary
from benchmarks.sides import Side
from metasiam.data.tasks import draw_triplets
from metasiam.evaluation.embedded import embed_all
from metasiam.kernels.build import library
from metasiam.models.files import EmbedderInfo

#: Ours with one thing taken away or changed at a time: what each lever is worth.
LEVERS: dict[str, dict[str, Any]] = {
    "without compiling": {"compile": "off"},
    "in fp32": {"precision": "fp32"},
    "in fp32 without compiling": {"precision": "fp32", "compile": "off"},
}


@dataclass(frozen=True)
class Stepping:
    """One side: called, it makes a step of training ``embedder`` and returns its loss."""

    step: Callable[[], Tensor]
    embedder: nn.Module
    info: EmbedderInfo

    def __call__(self) -> float:
        return float(self.step())


def build_straightforward(
    data: str, arch: str, batch: int, seed: int, workers: int, *, joined: bool = False
) -> Stepping:
    """Build the straightforward side; called in its own process."""
    from benchmarks.straightforward import StraightforwardTraining
    from metasiam.models import build_embedder

    domains = benchmark_domains(data)
    split = benchmark_split(domains)
    mean, std = domains.channel_statistics(domains.pool(split.seen, "train"))
    random.seed(seed)
    torch.manual_seed(seed)
    embedder = build_embedder(arch).train()
    training = StraightforwardTraining(
        embedder, domains, split, mean, std, batch_size=batch, workers=workers, joined=joined
    )
    return Stepping(training, embedder, EmbedderInfo(arch, 3, domains.image_size, mean, std))


def build_ours(data: str, arch: str, batch: int, seed: int, changes: dict[str, Any]) -> Stepping:
    """Build our side, with the step, the optimizer and the allocator of ``metasiam reptile``; in its own process."""
    from metasiam.data.tasks import draw_triplets_of
    from metasiam.learners.context import prepare
    from metasiam.options.reptile import ReptileOptions
    from metasiam.training.machine import tune_allocator
    from metasiam.training.optimizers import adam
    from metasiam.training.state import prime, trainable

    tune_allocator()
    domains = benchmark_domains(data)
    config = ReptileOptions(
        **{"arch": arch, "batch_size": batch, "seed": seed, "flip": True, "compile": "on", **changes}
    )
    context = prepare(config, domains, benchmark_split(domains))
    context.embedder.train()
    optimizer = adam(trainable((context.embedder, context.objective)), config.lr, (0.9, 0.999), context.device)
    prime(optimizer)
    step = context.step(optimizer, 10**9)
    generator, seen = context.generator("benchmark"), context.seen

    def one() -> Tensor:
        rows = torch.randint(len(seen.domains), (1,), generator=generator, device=context.device)
        index = draw_triplets_of(seen, rows, seen, (batch,), generator)
        return step(index, context.augmentation.draw((3, batch), generator))

    return Stepping(one, context.embedder, context.info)


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


def learner(name: str, arguments: Any, arch: str, seed: int) -> Stepping:
    """Build one of ``LEARNERS`` in this process."""
    if name == "ours":
        return build_ours(arguments.data, arch, arguments.batch, seed, {"compile": "off"} if arguments.quick else {})
    joined = name != "straightforward"
    return build_straightforward(arguments.data, arch, arguments.batch, seed, arguments.workers, joined=joined)


#: What learns side by side.
LEARNERS = ("straightforward", "straightforward, one forward pass", "ours")


def learned(side: Stepping, data: str, seed: int) -> float:
    """Return the triplet accuracy in percent on training images of the domains held out, in eval mode."""
    domains = benchmark_domains(data)
    split = benchmark_split(domains)
    new, seen = domains.pool(split.held_out, "train"), domains.pool(split.seen, "train")
    right = []
    for domain in split.held_out:
        index = draw_triplets(new.only([domain]), seen, (500,), torch.Generator().manual_seed(seed))
        embedded = embed_all(side.embedder.eval(), side.info, domains, [index])
        right.append(float(embedded.triplets_right(index).double().mean()))
    side.embedder.train()
    return 100 * statistics.mean(right)


def final_losses(arguments: Any, arch: str) -> None:
    """Train each side for ``loss_steps``; compare the loss over the last tenth and what was learned, over seeds.

    Written after every seed: a run that is cut short keeps those it has.
    """
    losses: dict[str, list[float]] = {name: [] for name in LEARNERS}
    accuracy: dict[str, list[float]] = {name: [] for name in LEARNERS}
    tail = max(arguments.loss_steps // 10, 1)
    for seed in range(arguments.seed, arguments.seed + arguments.loss_seeds):
        for name in LEARNERS:
            side = learner(name, arguments, arch, seed)
            losses[name].append(statistics.mean([side() for _ in range(arguments.loss_steps)][-tail:]))
            accuracy[name].append(learned(side, arguments.data, seed))
            print(
                f"{arch} seed {seed} {name}: mean loss of the last {tail} steps {losses[name][-1]:.4f}, "
                f"held-out triplets {accuracy[name][-1]:.1f} %",
                flush=True,
            )
        result = {
            name: {
                "mean": statistics.mean(losses[name]),
                "by_seed": [round(value, 5) for value in losses[name]],
                "held_out_triplets": [round(value, 2) for value in accuracy[name]],
            }
            for name in LEARNERS
        }
        made = argparse.Namespace(**vars(arguments) | {"loss_seeds": len(losses["ours"])})
        save("training_loss", made, {arch: result})


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
