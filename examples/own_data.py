"""Your own arrays and data sets: any number of channels, depth, Hugging Face's rows. A few seconds.

python examples/own_data.py
"""

import argparse
from pathlib import Path

import numpy as np

import metasiam as ms


def measured(classes: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return made-up pictures of six channels [N, 16, 16, 6] in 16 bits, and their labels."""
    random = np.random.default_rng(0)
    spectra = random.uniform(2000, 9000, (classes, 1, 1, 1, 6))
    noise = random.normal(0, 1500, (classes, images, 16, 16, 6))
    return (spectra + noise).clip(0, 10000).astype(np.uint16).reshape(-1, 16, 16, 6), np.arange(classes).repeat(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/own-data"))
    arguments = parser.parse_args()

    pixels, labels = measured(classes=12, images=20)
    domains = ms.DomainSet.from_arrays(pixels, labels, levels=(0, 10000))  # what becomes 0 and what 255
    print(f"{len(domains.images)} images of {domains.channels} channels, {len(domains.names)} classes")
    split = ms.split_domains(domains, held_out=4, validation=2)
    run = ms.train(
        "triplet", domains, split, arch="resnet8", iterations=arguments.iterations, batch_size=16, device="cpu",
        random_crop=0.5, erase=0.3, out=arguments.out, overwrite=True,
    )  # fmt: skip
    found = ms.evaluate(run, domains, split, shots=(0,), seen=False, episodes=100, pairs=200, support_draws=5)
    print(f"new classes: triplets {found.data['held_out']['closed']['0']['triplet_accuracy']['mean']:.1f} %")

    # Items may be pairs (torchvision's) or dicts (Hugging Face's): datasets.load_dataset(…) goes in as it is.
    rows = [{"image": image, "label": f"class {label}"} for image, label in zip(pixels[..., :3], labels, strict=True)]
    colour = ms.DomainSet.from_dataset(rows, source="rows", levels=(0, 10000))
    print(f"{colour.source}: {colour.channels} channels, {colour.names[0]}, {colour.names[1]}, …")


if __name__ == "__main__":
    main()
