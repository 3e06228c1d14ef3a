"""A threshold for a new domain from a handful of its images, and what it is worth.

    python examples/calibrate_new_domain.py RUN [--domain 3] [--images 5]

Takes the run's first (or given) held-out domain, calibrates on k of its training images against seen-domain images,
and answers pairs of its test images, which chose nothing.
"""

import argparse

import torch

import metasiam as ms
from metasiam.evaluation.calibration import shrink
from metasiam.evaluation.scored_pairs import score_images
from metasiam.evaluation.verification import balanced_accuracy, similarity
from metasiam.workflows.data import data_of_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a finished run folder")
    parser.add_argument("--domain", type=int, default=0, help="which of its held-out domains, from 0")
    parser.add_argument("--images", type=int, default=5, help="labelled images of the new domain")
    arguments = parser.parse_args()

    run = ms.open_run(arguments.run)
    options = data_of_run(run)
    domains = ms.load_domains(str(options.data), data_dir=options.data_dir, image_size=options.image_size)
    stored = run.config["split"]
    new = stored["held_out"][arguments.domain]
    embedder, info = ms.load_embedder(run.path)
    generator = torch.Generator().manual_seed(0)

    # What we may look at: k training images of the new domain, and seen domains' training images.
    own = domains.pool([new], "train").shots(arguments.images, generator).images
    seen = domains.pool(stored["seen"], "train")
    others = seen.images[torch.randperm(len(seen.images), generator=generator)[:1000]]
    scored = score_images(
        ms.embed_images(embedder, info, domains, own), ms.embed_images(embedder, info, domains, others), info.distance
    )
    known = info.threshold if info.threshold is not None else 0.2
    alone = ms.ThresholdCalibrator("eer").fit(scored.scores, scored.same).threshold if arguments.images > 1 else known
    threshold = shrink(alone, known, arguments.images, strength=5.0)

    # What it is worth: pairs of test images against seen domains' test images.
    pairs = ms.draw_pairs(
        domains.pool([new], "test"), domains.pool(stored["seen"], "test"), 2000, torch.Generator().manual_seed(1)
    )
    images, place = torch.unique(torch.cat((pairs.first, pairs.second)), return_inverse=True)
    embeddings = ms.embed_images(embedder, info, domains, images)
    first, second = place.view(2, -1)
    scores = similarity(embeddings, first, second, info.distance)
    print(f"{domains.names[new]}, from {arguments.images} images, {len(scores)} test pairs")
    for name, value in (("global", known), ("of these images alone", alone), ("shrunk", threshold)):
        print(f"  {name:<24} threshold {value:.3f}   {100 * balanced_accuracy(scores, pairs.same, value):.1f} % right")


if __name__ == "__main__":
    main()
