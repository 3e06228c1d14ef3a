"""Omniglot's own one-shot test: 20 characters of one alphabet, one drawing of each by one person, queries by another.

Source: Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program induction" (2015),
where 20 such runs are averaged. Here every run draws its alphabet's characters and its two people afresh, so the
average can be taken over as many runs as wanted; 20 make one test.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import metasiam as ms
from metasiam.app.ink import centre_ink, style_for
from metasiam.data.augment import normalise
from metasiam.data.sources.omniglot import BACKGROUND_DOMAINS
from metasiam.evaluation.verification import similarity_matrix

DRAWERS, WAYS = 20, 20


def omniglot_characters(data_dir: Path, size: int, *, evaluation: bool, trained_on: str) -> tuple[Tensor, list[str]]:
    """Return uint8 [characters, 20, 1, size, size], centred and scaled as the app does, and each one's alphabet."""
    domains = ms.load_domains("omniglot", data_dir=data_dir, image_size=105)
    part = slice(BACKGROUND_DOMAINS, None) if evaluation else slice(0, BACKGROUND_DOMAINS)
    images = domains.images.view(len(domains.names), DRAWERS, *domains.image_size)[part]
    style = style_for(trained_on)
    centred = torch.stack([centre_ink(image, size, style) for image in images.flatten(0, 1)])
    return centred.view(*images.shape[:2], 1, size, size), [name.split("/")[0] for name in domains.names[part]]


@torch.inference_mode()
def embed_characters(embedder: nn.Module, info: ms.EmbedderInfo, characters: Tensor) -> Tensor:
    """Embed uint8 [C, 20, 1, H, W]: float [C, 20, D]."""
    flat = characters.flatten(0, 1).expand(-1, info.channels, -1, -1)
    rows = [embedder(normalise(block, info.mean, info.std)) for block in flat.split(500)]
    return torch.cat(rows).view(*characters.shape[:2], -1)


def one_shot_accuracy(
    embeddings: Tensor, alphabets: list[str], distance: str, generator: torch.Generator, *, tests: int
) -> Tensor:
    """Return float [tests · alphabets, in order of tests]: each run's share of right answers among 20 queries."""
    members = {name: [i for i, other in enumerate(alphabets) if other == name] for name in dict.fromkeys(alphabets)}
    shares = []
    for _ in range(tests):
        for rows in members.values():
            if len(rows) < WAYS:
                continue
            order = torch.randperm(len(rows), generator=generator)[:WAYS]
            chosen = torch.tensor(rows)[order]
            first, second = torch.randperm(DRAWERS, generator=generator)[:2].tolist()
            scores = similarity_matrix(embeddings[chosen, second], embeddings[chosen, first], distance)
            shares.append((scores.argmax(1) == torch.arange(WAYS)).float().mean())
    return torch.stack(shares)


def measure(embedder: nn.Module, info: ms.EmbedderInfo, data_dir: Path, *, tests: int = 20) -> dict[str, object]:
    """Return the accuracy over ``tests`` tests of 20 runs (one for each evaluation alphabet), percent."""
    characters, alphabets = omniglot_characters(
        data_dir, info.image_size[0], evaluation=True, trained_on=info.trained_on
    )
    embeddings = embed_characters(embedder, info, characters)
    generator = torch.Generator().manual_seed(0)
    shares = 100 * one_shot_accuracy(embeddings, alphabets, info.distance, generator, tests=tests)
    runs = len(set(alphabets))
    by_test = shares.view(tests, runs).mean(1)
    half = 1.96 * float(shares.std()) / len(shares) ** 0.5
    mean = float(shares.mean())
    return {
        "mean": round(mean, 2),
        "ci95": [round(mean - half, 2), round(mean + half, 2)],
        "n": len(shares),
        "first_20_runs": round(float(by_test[0]), 2),
        "std_between_tests_of_20_runs": round(float(by_test.std()), 2),
        "what": "20-way 1-shot within alphabet, evaluation characters; one run an alphabet, 20 runs a test",
    }
