"""A package of somebody else, as pip would have installed it: modules and entry points in a folder on ``sys.path``."""

from __future__ import annotations

from pathlib import Path

#: What its modules hold. The names of files in a run may be told by importing one of them, so each leaves a trace.
MODULES = {
    "foreignkit/__init__.py": "",
    "foreignkit/networks.py": '''
import torch
from torch import nn

import metasiam as ms


def build(channels, image_size):
    """A small network for any images."""
    return nn.Sequential(nn.Conv2d(channels, 5, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())


def fed():
    """The same with what it wants to be shown."""
    torch.manual_seed(3)
    return ms.Embedder(build(3, None), image_size=12, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
''',
    "foreignkit/losses.py": '''
import torch
from torch import nn
from torch.nn import functional as F


class Centres(nn.Module):
    """Distance to a learned centre a domain."""

    def __init__(self, num_classes, embedding_size, pull=1.0):
        super().__init__()
        self.centres = nn.Parameter(torch.zeros(num_classes, embedding_size))
        self.pull = pull
        self.register_buffer("seen", torch.zeros(()))
        self.calls = 0

    def forward(self, embeddings, labels):
        self.calls += 1
        self.seen += 1
        return self.pull * F.mse_loss(embeddings, self.centres[labels]) / (1 + self.calls)


def spread(embeddings, labels):
    """A plain function is a loss as well."""
    return -embeddings.std(0).mean()
''',
    "foreignkit/sources.py": '''
import numpy as np

import metasiam as ms
from metasiam.data.sources import Source


def load(request):
    """Eight domains, each of its own colour."""
    random = np.random.default_rng(0)
    labels = np.arange(96) % 8
    images = random.integers(0, 60, (96, 12, 12, 3)) + 24 * labels[:, None, None, None]
    return ms.DomainSet.from_arrays(images.astype(np.uint8), labels, test=0.5, source="foreign-squares")


SQUARES = Source(load)
''',
    "foreignkit/methods.py": '''
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

import metasiam as ms
from metasiam.learners.gradient_steps import GradientSteps
from metasiam.options.declare import Opt
from metasiam.options.few_shot import FewShotOptions


@dataclass(frozen=True, kw_only=True)
class PairedOptions(FewShotOptions):
    """Written without postponed annotations."""

    method: ClassVar[str] = "foreign-pairs"
    losses: ClassVar[tuple[str, ...]] = ("softmax",)

    loss: str = "softmax"
    twins: Annotated[int, Opt("Images drawn together.", panel="Foreign", least=2)] = 4

    @property
    def batch_shape(self) -> tuple[int, int]:
        return 1, self.twins


def build(options, context, processes):
    def draw(generator):
        images = context.seen.images
        return images[torch.randint(len(images), (1, options.twins), generator=generator)]

    return GradientSteps(options, context, processes, draw)


PAIRED = ms.Method(PairedOptions, build, "Train on images drawn together")
''',
}
ENTRY_POINTS = """
[metasiam.embedders]
foreign-net = foreignkit.networks:build
foreign-fed = foreignkit.networks:fed

[metasiam.losses]
foreign-centres = foreignkit.losses:Centres

[metasiam.sources]
foreign-squares = foreignkit.sources:SQUARES

[metasiam.methods]
foreign-pairs = foreignkit.methods:PAIRED
"""


def install(folder: Path, *, entry_points: bool = True) -> None:
    """Write the package, and what makes it an installed one, into a folder."""
    for name, text in MODULES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if entry_points:
        about = folder / "foreignkit-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: foreignkit\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(ENTRY_POINTS)
