"""The data of the benchmarks: real when given, else images of CIFAR-100's size and count, made up."""

from __future__ import annotations

from pathlib import Path

import torch

from metasiam.data.domains import DomainSet, Split, split_domains


def benchmark_domains(data: str, *, domains: int = 100, images: int = 600, seed: int = 0) -> DomainSet:
    """Load ``data``, or make up a domain set of CIFAR-100's shape when it is ``synthetic``.

    A made-up domain is a smooth random picture; its images are that picture, shifted in brightness, under noise.
    One image in six is a test image.

    Args:
        data: ``synthetic``, or what ``metasiam --data`` takes.
        domains: number of made-up domains.
        images: images of each.
        seed: of the made-up images.
    """
    if data != "synthetic":
        from metasiam.data.sources import load_domains

        return load_domains(data)
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(domains, 3, 4, 4, generator=generator) * 255
    pictures = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    made = torch.empty(domains, images, 3, 32, 32, dtype=torch.uint8)
    noise = torch.randn(images, 3, 32, 32, generator=generator) * 50
    for domain, picture in enumerate(pictures):
        light = torch.rand(images, 1, 1, 1, generator=generator) * 120 - 60
        turned = noise.roll((domain, 5 * domain, domain), (0, 2, 3))  # drawn once: drawing takes seconds
        made[domain] = (picture + light + turned).clamp(0, 255).to(torch.uint8)
    return DomainSet(
        made.flatten(0, 1),
        torch.arange(domains).repeat_interleave(images),
        tuple(f"domain {index:03d}" for index in range(domains)),
        (torch.arange(images) % 6 == 5).repeat(domains),
        data,
    )


def benchmark_split(domains: DomainSet) -> Split:
    """Hold out the last tenth of the domains, as the seeds do."""
    return split_domains(domains, held_out=max(len(domains.names) // 10, 1))


def unzipped(archives: Path, into: Path, name: str) -> Path:
    """Unzip ``NAME*.zip`` of a folder into ``into/NAME`` (once) and return that folder."""
    import zipfile

    folder = into / name
    if not folder.is_dir():
        partial = into / f".{name}.partial"
        for archive in sorted(archives.glob(f"{name}*.zip")):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(partial)
        partial.rename(folder)
    return folder
