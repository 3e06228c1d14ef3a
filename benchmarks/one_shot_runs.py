"""Omniglot's own one-shot test: 20 characters of one alphabet, one drawing of each by one person, queries by another.

Source: Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program induction" (2015),
where 20 such runs are averaged. Here every run draws its alphabet's characters and its two people afresh, so the
average can be taken over as many runs as wanted; 20 make one test.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import metasiam as ms
from metasiam.app.ink import centre_ink, style_for
from metasiam.data.augment import Augmentation, normalise
from metasiam.data.sources.omniglot import BACKGROUND_DOMAINS
from metasiam.evaluation.verification import similarity_matrix

DRAWERS, WAYS = 20, 20
VIEW = Augmentation(flip=False, rotation=10, shear=0.15, scale=0.12, translation=1.0)


def omniglot_characters(data_dir: Path, size: int, *, evaluation: bool, trained_on: str) -> tuple[Tensor, list[str]]:
    """Return uint8 [characters, 20, 1, size, size], centred and scaled as the app does, and each one's alphabet."""
    domains = ms.load_domains("omniglot", data_dir=data_dir, image_size=105)
    part = slice(BACKGROUND_DOMAINS, None) if evaluation else slice(0, BACKGROUND_DOMAINS)
    images = domains.images.view(len(domains.names), DRAWERS, *domains.image_size)[part]
    style = style_for(trained_on)
    centred = torch.stack([centre_ink(image, size, style) for image in images.flatten(0, 1)])
    return centred.view(*images.shape[:2], 1, size, size), [name.split("/")[0] for name in domains.names[part]]


@torch.inference_mode()
def embed_characters(
    embedder: nn.Module, info: ms.EmbedderInfo, characters: Tensor, *, views: int = 1, centre: Tensor | None = None
) -> Tensor:
    """Embed uint8 [C, 20, 1, H, W], the picture and ``views - 1`` distorted ones: float [C, 20, views, D].

    With a ``centre``, float [D], every embedding is brought to length 1 and the centre taken off.
    """
    flat = characters.flatten(0, 1).expand(-1, info.channels, -1, -1)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for block in flat.split(500):
        seen = [embedder(normalise(block, info.mean, info.std))]
        for _ in range(views - 1):
            drawn = VIEW.draw((len(block),), generator)
            seen.append(embedder(VIEW.apply(block, drawn, info.mean, info.std)))
        rows.append(torch.stack(seen, 1))
    embeddings = torch.cat(rows).view(*characters.shape[:2], views, -1)
    return embeddings if centre is None else F.normalize(embeddings, dim=-1) - centre


def mean_embedding(embedder: nn.Module, info: ms.EmbedderInfo, characters: Tensor) -> Tensor:
    """Return the mean of embeddings of length 1, every fifth drawing of each character: float [D]."""
    return F.normalize(embed_characters(embedder, info, characters[:, ::5]), dim=-1).flatten(0, 2).mean(0)


def one_shot_accuracy(
    embeddings: Tensor, alphabets: list[str], distance: str, generator: torch.Generator, *, tests: int
) -> Tensor:
    """Return float [tests · alphabets, in order of tests]: each run's share of right answers among 20 queries.

    Two drawings are as similar as the two most similar of their views.
    """
    members = {name: [i for i, other in enumerate(alphabets) if other == name] for name in dict.fromkeys(alphabets)}
    shares = []
    for _ in range(tests):
        for rows in members.values():
            if len(rows) < WAYS:
                continue
            order = torch.randperm(len(rows), generator=generator)[:WAYS]
            chosen = torch.tensor(rows)[order]
            first, second = torch.randperm(DRAWERS, generator=generator)[:2].tolist()
            query, support = (embeddings[chosen, drawer].flatten(0, 1) for drawer in (second, first))
            scores = similarity_matrix(query, support, distance).view(WAYS, -1, WAYS, embeddings.shape[2]).amax((1, 3))
            shares.append((scores.argmax(1) == torch.arange(WAYS)).float().mean())
    return torch.stack(shares)


def one_shot_test(
    embedder: nn.Module,
    info: ms.EmbedderInfo,
    characters: Tensor,
    alphabets: list[str],
    *,
    tests: int,
    views: int = 1,
    centre: Tensor | None = None,
) -> dict[str, object]:
    """Return the accuracy over ``tests`` tests (each one run for every alphabet of 20 characters or more), percent."""
    embeddings = embed_characters(embedder, info, characters, views=views, centre=centre)
    generator = torch.Generator().manual_seed(0)
    shares = 100 * one_shot_accuracy(embeddings, alphabets, info.distance, generator, tests=tests)
    by_test = shares.view(tests, -1).mean(1)
    half = 1.96 * float(shares.std()) / len(shares) ** 0.5
    mean = float(shares.mean())
    return {
        "mean": round(mean, 2),
        "ci95": [round(mean - half, 2), round(mean + half, 2)],
        "n": len(shares),
        "first_test": round(float(by_test[0]), 2),
        "std_between_tests": round(float(by_test.std()), 2),
    }


def measure(
    embedder: nn.Module,
    info: ms.EmbedderInfo,
    data_dir: Path,
    *,
    tests: int = 20,
    views: int = 1,
    centre: Tensor | None = None,
) -> dict[str, object]:
    """Return the accuracy over ``tests`` tests of 20 runs on the evaluation characters, percent."""
    characters, alphabets = omniglot_characters(
        data_dir, info.image_size[0], evaluation=True, trained_on=info.trained_on
    )
    what = "20-way 1-shot within alphabet, evaluation characters; one run an alphabet, 20 runs a test"
    return {
        **one_shot_test(embedder, info, characters, alphabets, tests=tests, views=views, centre=centre),
        "what": what,
    }
