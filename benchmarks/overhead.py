"""Row 2: a whole Reptile iteration against the bare compiled forward-backward-Adam on one fixed batch.

Both use the same network, objective, precision and optimizer. The bare side has its input ready: no sampling,
gathering, augmentation, interpolation or logging.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.data import benchmark_domains, benchmark_split
from benchmarks.harness import interleaved, options, ratios, save, summary


def build(arguments: Any, folder: Path) -> tuple[Any, Any]:
    """Return one call that runs an iteration with its logging, and one that makes as many bare steps."""
    from metasiam.kernels.norm import use_kernels
    from metasiam.learners.context import prepare
    from metasiam.learners.reptile import Reptile
    from metasiam.models import build_embedder
    from metasiam.options.reptile import ReptileOptions
    from metasiam.runs import Run
    from metasiam.training.distributed import Processes
    from metasiam.training.loop import TrainingLoop, _Logger
    from metasiam.training.machine import tune_allocator
    from metasiam.training.optimizers import adam

    tune_allocator()
    domains = benchmark_domains(arguments.data)
    compiled = "off" if arguments.no_compile else "on"
    config = ReptileOptions(
        arch=arguments.arch,
        batch_size=arguments.batch,
        inner_epochs=arguments.inner_epochs,
        iterations=10**6,
        flip=True,
        compile=compiled,
        seed=arguments.seed,
    )
    context = prepare(config, domains, benchmark_split(domains))
    reptile = Reptile(config, context, Processes())
    loop = TrainingLoop(reptile, Run(folder, {"options": {"method": "reptile"}}), Processes())
    logger = _Logger(loop)
    count = 0

    def iteration() -> None:
        nonlocal count
        logger.add(reptile.iterate(count, lambda: False))
        count += 1
        loop.iteration = count
        logger.fetch()  # in a real run about once a second; here every iteration

    torch.manual_seed(arguments.seed)
    embedder = build_embedder(arguments.arch).to(memory_format=torch.channels_last).train()
    optimizer = adam(list(embedder.parameters()), config.lr, (0.9, 0.999), context.device)
    inputs = torch.randn(3 * arguments.batch, 3, 32, 32).to(context.precision)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    lowered = context.precision != torch.float32

    def forward(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=context.precision, enabled=lowered, cache_enabled=False):
            embeddings = embedder(images)
        return context.objective(embeddings.float(), None)

    # On our own kernels, as the iteration's step is, where they work: nothing faster is known here.
    plain = arguments.no_compile or use_kernels(embedder)
    loss_of = forward if plain else torch.compile(forward, dynamic=False)

    def bare() -> None:
        for _ in range(arguments.inner_epochs):
            loss_of(inputs).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return iteration, bare


def main() -> None:
    """Run the benchmark and write its result."""
    parser = options(__doc__.splitlines()[0], arch="resnet20", batch=128, inner_epochs=10)
    parser.add_argument("--no-compile", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.arch, arguments.batch, arguments.inner_epochs, arguments.rounds = "resnet8", 4, 2, 1
        arguments.no_compile = True
    with tempfile.TemporaryDirectory() as folder:
        iteration, bare = build(arguments, Path(folder))
        seconds = interleaved({"iteration": iteration, "bare": bare}, rounds=arguments.rounds)
    per_step = {name: summary([1000 * t / arguments.inner_epochs for t in times]) for name, times in seconds.items()}
    ratio = ratios(seconds["iteration"], seconds["bare"])
    print(f"an iteration takes {ratio['median']:.3f}× the bare steps' time")
    save("overhead", arguments, {"ms_per_inner_step": per_step, "iteration_over_bare": ratio})


if __name__ == "__main__":
    main()
