"""Row 3: sampling from CIFAR-100 in memory, image tensors included: episodes and triplet batches a second.

Both sides in one thread: learn2learn's sampler is plain Python. Episodes against learn2learn's ``Taskset``
(``MetaDataset``, ``NWays``, ``KShots``, ``LoadData``), which is a benchmark-only dependency; triplet batches against a
PyTorch ``DataLoader`` for each domain.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.data import benchmark_domains, benchmark_split
from benchmarks.harness import interleaved, options, ratios, save, summary
from metasiam.data.domains import DomainSet
from metasiam.data.pool import Pool
from metasiam.data.tasks import draw_episodes, draw_triplets_of


def taskset(domains: DomainSet, pool: Pool, ways: int, images: int, seed: int) -> Callable[[], object]:
    """Return a call that draws one learn2learn task: its images and labels as tensors."""
    import learn2learn
    from learn2learn.data.transforms import KShots, LoadData, NWays

    random.seed(seed)
    pictures = domains.gather(pool.images)
    data = torch.utils.data.TensorDataset(pictures, domains.labels[pool.images])
    meta = learn2learn.data.MetaDataset(data)
    tasks = learn2learn.data.Taskset(meta, [NWays(meta, ways), KShots(meta, images), LoadData(meta)], num_tasks=-1)
    return tasks.sample


def our_episodes(
    domains: DomainSet, pool: Pool, ways: int, shots: int, queries: int, count: int, block: int, seed: int
) -> Callable[[], object]:
    """Return a call that draws ``count`` episodes and gathers their images, ``block`` episodes at a time.

    A loop looks at a block's images and asks for the next, so one buffer, uint8 [block, ways, shots + queries, C, H,
    W], serves them all; a small one stays in the processor's cache.
    """
    generator = torch.Generator().manual_seed(seed)
    out = torch.empty(block, ways, shots + queries, *domains.images.shape[1:], dtype=torch.uint8)

    def draw() -> None:
        drawn = draw_episodes(pool, ways=ways, shots=shots, queries=queries, episodes=count, generator=generator)
        for index in torch.cat((drawn.support, drawn.query), dim=2).split(block):
            domains.gather(index, out=out)

    return draw


def loader_triplets(domains: DomainSet, batch: int, seed: int) -> Callable[[], object]:
    """Return a call that draws one batch of triplets the straightforward way, augmented and normalised."""
    from benchmarks.straightforward import StraightforwardTraining

    random.seed(seed)
    torch.manual_seed(seed)
    split = benchmark_split(domains)
    mean, std = domains.channel_statistics(domains.pool(split.seen, "train"))
    nothing = torch.nn.Linear(1, 1)
    return StraightforwardTraining(nothing, domains, split, mean, std, batch_size=batch).batch


def our_triplets(domains: DomainSet, batch: int, seed: int, epochs: int = 30) -> Callable[[], object]:
    """Return a call that draws a task's ``epochs`` batches as ``metasiam reptile`` does and makes their images.

    Augmented and normalised, in the type that training takes on this processor (bfloat16 where it multiplies it).
    """
    from metasiam.data.augment import Augmentation
    from metasiam.kernels.build import library
    from metasiam.training.machine import choose_precision

    library()  # as the compiled step does
    split = benchmark_split(domains)
    seen = domains.pool(split.seen, "train")
    mean, std = domains.channel_statistics(seen)
    generator = torch.Generator().manual_seed(seed)
    augmentation = Augmentation()
    precision = choose_precision("auto", domains.device)

    def draw() -> None:
        rows = torch.randint(len(seen.domains), (1,), generator=generator)
        index = draw_triplets_of(seen, rows, seen, (epochs, batch), generator).transpose(0, 1).flatten(1)
        parameters = augmentation.draw((epochs, 3 * batch), generator)
        for epoch in range(epochs):
            augmentation.apply(domains.gather(index[epoch]), parameters[epoch], mean, std, precision)

    return draw


def times(work: Callable[[], object], count: int) -> Callable[[], None]:
    """Return a call that does the work ``count`` times."""

    def many() -> None:
        for _ in range(count):
            work()

    return many


def main() -> None:
    """Run the benchmark and write its result."""
    from metasiam.training.machine import choose_precision, tune_allocator

    parser = options(__doc__.splitlines()[0], ways=5, shots=1, queries=15, batch=128, episodes=256, block=8, threads=1)
    arguments = parser.parse_args()
    theirs_tasks, our_calls, batches, tasks = 200, 20, 20, 20
    if arguments.quick:
        arguments.rounds, arguments.episodes, arguments.block, arguments.batch = 1, 4, 2, 8
        theirs_tasks = our_calls = batches = tasks = 2
    tune_allocator()  # for both sides: they share the process
    torch.set_num_threads(arguments.threads)
    domains = benchmark_domains(arguments.data, images=60 if arguments.quick else 600)
    pool = domains.pool(benchmark_split(domains).seen, "train")
    size = (arguments.ways, arguments.shots + arguments.queries)
    results: dict[str, Any] = {}
    kind = (arguments.ways, arguments.shots, arguments.queries)
    ours = our_episodes(domains, pool, *kind, arguments.episodes, arguments.block, arguments.seed)
    one = our_episodes(domains, pool, *kind, 1, 1, arguments.seed)
    sides = {"ours": times(ours, our_calls), "ours, one at a time": times(one, our_calls)}
    per_call = {"ours": our_calls * arguments.episodes, "ours, one at a time": our_calls}
    try:
        sides["learn2learn"] = times(taskset(domains, pool, *size, arguments.seed), theirs_tasks)
        per_call["learn2learn"] = theirs_tasks
    except ImportError:
        print("learn2learn is not installed: only our own rate is measured")
    results["episodes"] = rates(interleaved(sides, rounds=arguments.rounds), per_call, "learn2learn")
    loaders = {
        "ours": times(our_triplets(domains, arguments.batch, arguments.seed), tasks),
        "DataLoader": times(loader_triplets(domains, arguments.batch, arguments.seed), batches),
    }
    seconds = interleaved(loaders, rounds=arguments.rounds)
    results["triplet_batches"] = rates(seconds, {"ours": 30 * tasks, "DataLoader": batches}, "DataLoader")
    arguments.precision = str(choose_precision("auto", domains.device)).removeprefix("torch.")
    save("sampling", arguments, results)


def rates(seconds: dict[str, list[float]], per_call: dict[str, int], other: str) -> dict[str, Any]:
    """Return what each side draws a second, and how many times the other's rate ours is."""
    found: dict[str, Any] = {
        name: {"per_second": summary([per_call[name] / t for t in taken])} for name, taken in seconds.items()
    }
    for name, taken in seconds.items():
        print(f"{name}: {found[name]['per_second']['median']:.0f} a second")
        if other in seconds and name != other:
            each = [t / per_call[other] for t in seconds[other]]
            found[name]["ratio"] = ratios(each, [t / per_call[name] for t in taken])
            print(f"  {found[name]['ratio']['median']:.1f}× {other}")
    return found


if __name__ == "__main__":
    main()
