"""Small stand-ins for LFW and for lists of pairs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

TRAIN = tuple(f"Train_{index:02d}" for index in range(30))
TEST = tuple(f"Test_{index:02d}" for index in range(10))


def write_lfw(folder: Path, *, size: int = 40, images: int = 4) -> Path:
    """Write a data dir with a tiny LFW in scikit-learn's layout: 30 + 10 people whose images are alike."""
    random = np.random.default_rng(0)
    home = folder / "lfw_home"
    for name in (*TRAIN, *TEST):
        person = home / "lfw_funneled" / name
        person.mkdir(parents=True)
        base = np.kron(random.integers(0, 255, (8, 8)), np.ones((size // 8, size // 8)))
        for number in range(1, images + 1):
            pixels = np.clip(base + random.normal(0, 20, (size, size)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).convert("RGB").save(person / f"{name}_{number:04d}.jpg")
    _write_pairs(home / "pairsDevTrain.txt", TRAIN)
    _write_pairs(home / "pairsDevTest.txt", TEST)
    folds = [TRAIN[start : start + 10] for start in (0, 10, 20)]
    lines = [line for people in folds for line in (*_same(people), *_different(people))]
    _write(home / "pairs.txt", ["3\t10", *lines])
    return folder


def _write_pairs(file: Path, people: tuple[str, ...]) -> None:
    _write(file, [str(len(people)), *_same(people), *_different(people)])


def _write(file: Path, lines: Iterable[str]) -> None:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _same(people: tuple[str, ...]) -> list[str]:
    return [f"{name}\t1\t2" for name in people]


def _different(people: tuple[str, ...]) -> list[str]:
    """Two pairs for each two neighbours: groups that share nobody stay small."""
    couples = list(zip(people[::2], people[1::2], strict=True))
    return [line for a, b in couples for line in (f"{a}\t1\t{b}\t2", f"{a}\t3\t{b}\t4")]


def write_list(folder: Path, *, people: int = 12, rows: str = "", header: str = "path_a,path_b,same") -> Path:
    """Write images and a ``pairs.csv`` of them; with ``rows`` that text stands below the header instead."""
    random = np.random.default_rng(1)
    lines = []
    for index in range(people):
        base = np.kron(random.integers(0, 255, (4, 4, 3)), np.ones((4, 4, 1)))
        for number in range(3):
            pixels = np.clip(base + random.normal(0, 10, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}-{number}.png")
        if index % 2:
            lines.append(f"{index - 1}-1.png,{index}-1.png,0")
            lines.append(f"{index - 1}-2.png,{index}-2.png,0")
        lines.append(f"{index}-0.png,{index}-1.png,1")
        lines.append(f"{index}-1.png,{index}-2.png,1")
    file = folder / "pairs.csv"
    file.write_text(f"{header}\n" + (rows or "\n".join(lines)) + "\n", encoding="utf-8")
    return file
