"""The data of the benchmarks: real when given, else images of CIFAR-100's size and count, made up."""

from __future__ import annotations

from pathlib import Path

import torch

from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split, split_domains
from metasiam.errors import MetaSiamError
from metasiam.wording import counted


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
    """Hold out the last tenth of the domains, as the published systems do."""
    return split_domains(domains, held_out=max(len(domains.names) // 10, 1))


def unzipped(archives: Path, into: Path, name: str) -> Path:
    """Unzip ``NAME*.zip`` of a folder (once), and return the folder with their train/ and test/.

    It is ``into/KEY/NAME``, KEY made of the archives' names and sizes: what was unzipped from some of them is not
    taken for all.

    Raises:
        MetaSiamError: if an archive is missing or cut off; nothing is left behind.
    """
    import hashlib
    import shutil
    import zipfile

    found = sorted(archives.glob(f"{name}*.zip"))
    listed = "\n".join(f"{archive.name} {archive.stat().st_size}" for archive in found)
    folder = into / hashlib.sha256(listed.encode()).hexdigest()[:12] / name
    if folder.is_dir():
        return folder
    partial = folder.with_name(f".{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for archive in found:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(partial)
        parts = [{path.name for path in (partial / part).glob("*")} for part in ("train", "test")]
        if not parts[0] or parts[0] != parts[1]:
            few = f"train/ has {counted(len(parts[0]), 'domain')} and test/ {len(parts[1])}"
            raise MetaSiamError(f"{archives} lacks some of {name}*.zip: {few}. Bring the others there.")
        partial.rename(folder)
    except zipfile.BadZipFile as error:
        raise MetaSiamError(f"{archive} is damaged or not all there ({error}). Bring it there again.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
