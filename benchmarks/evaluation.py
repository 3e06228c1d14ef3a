"""Row 4: the balanced protocol without adaptation, against embedding the two images of each pair anew.

Ours is the protocol's own path: every image of the tasks is embedded once, pairs and triplets index the embeddings.
The other side embeds both images of every pair and the three of every triplet, in batches as large as ours; it is
timed on a part of each task's pairs and counted up, since all of it would take minutes.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.data import benchmark_domains, benchmark_split
from benchmarks.harness import interleaved, options, ratios, save, summary
from metasiam.evaluation.draws import draw_protocol
from metasiam.evaluation.embedded import embed_all
from metasiam.evaluation.embedding import embed_images
from metasiam.models import build_embedder
from metasiam.models.files import EmbedderInfo
from metasiam.options.evaluation import ProtocolSettings


def main() -> None:
    """Run the benchmark and write its result."""
    parser = options(__doc__.splitlines()[0], arch="resnet20", pairs=2000, sampled=256)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.arch, arguments.pairs, arguments.sampled, arguments.rounds = "resnet8", 20, 8, 1
    domains = benchmark_domains(arguments.data, images=60 if arguments.quick else 600)
    split = benchmark_split(domains)
    settings = ProtocolSettings(
        seed=arguments.seed, pairs=arguments.pairs, triplets=arguments.pairs, shots=(0,), episodes=0
    )
    draws = draw_protocol(domains, split, settings)
    torch.manual_seed(arguments.seed)
    embedder = build_embedder(arguments.arch).eval()
    info = EmbedderInfo(arch=arguments.arch)
    tasks = draws.tasks
    shown = sum(2 * len(task.pairs.same) + 3 * task.triplets.shape[1] for task in tasks)
    once = len(torch.unique(torch.cat([task.images for task in tasks])))

    def ours() -> None:
        embedded = embed_all(embedder, info, domains, [task.images for task in tasks], mirror=False)
        for task in tasks:
            embedded.similarity(task.pairs.first, task.pairs.second)
            embedded.triplets_right(task.triplets)

    part = torch.cat([torch.cat((tasks[0].pairs.first, tasks[0].pairs.second)), tasks[0].triplets.flatten()])
    part = part[torch.randperm(len(part), generator=torch.Generator().manual_seed(arguments.seed))]
    part = part[: arguments.sampled]

    def anew() -> None:
        embed_images(embedder, info, domains, part)

    seconds = interleaved({"ours": ours, "each pair anew": anew}, rounds=arguments.rounds)
    whole = [t * shown / len(part) for t in seconds["each pair anew"]]
    ratio = ratios(whole, seconds["ours"])
    print(f"{len(tasks)} tasks: {once} images instead of {shown}; {ratio['median']:.1f}× faster than embedding anew")
    results: dict[str, Any] = {
        "tasks": len(tasks),
        "images_embedded_once": once,
        "images_embedded_anew": shown,
        "ours_seconds": summary(seconds["ours"]),
        "anew_seconds_counted_up": summary(whole),
        "ratio": ratio,
    }
    save("evaluation", arguments, results)


if __name__ == "__main__":
    main()
