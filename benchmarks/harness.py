"""The small harness of every benchmark: interleaved sides, warm-up, median and spread, one JSON file out."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def interleaved(sides: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Time the sides in turn, round by round, so that whatever else the machine does meets all of them alike.

    The order is reversed in every second round: a machine that slows down or speeds up favours nobody.

    Args:
        sides: name → one unit of work.
        rounds: timed rounds.
        warmup: untimed calls of each side before.

    Returns:
        Name → seconds of each round.
    """
    for work in sides.values():
        for _ in range(warmup):
            work()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(rounds):
        names = list(sides) if round_ % 2 == 0 else list(reversed(list(sides)))
        for name in names:
            start = time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def summary(values: list[float]) -> dict[str, float]:
    """Return the median, the lowest and the highest of the values, and their relative spread."""
    middle = statistics.median(values)
    spread = (max(values) - min(values)) / middle if middle else 0.0
    return {"median": middle, "lowest": min(values), "highest": max(values), "spread": round(spread, 3)}


def ratios(slower: list[float], faster: list[float]) -> dict[str, Any]:
    """Return how many times longer the first side took, pair by pair: median, lowest, highest, and each pair's."""
    pairs = [a / b for a, b in zip(slower, faster, strict=True)]
    return {**summary(pairs), "pairs": [round(pair, 3) for pair in pairs]}


def options(description: str, **extra: Any) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has.

    Args:
        description: first line of the help.
        extra: name → default of further options, each of the default's type.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a smoke run: tiny, its numbers mean nothing")
    parser.add_argument("--data", default="synthetic", help="synthetic, or what metasiam --data takes (folder:PATH)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds; at least 5 for a result to keep")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON file")
    for name, default in extra.items():
        kind = type(default) if default is not None else str
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    return parser


def machine() -> dict[str, Any]:
    """Return what a number must say about where it was measured, the load of others included."""
    facts: dict[str, Any] = {"cores": os.cpu_count(), "load_average": [round(x, 2) for x in os.getloadavg()]}
    if "torch" in sys.modules:
        from metasiam.training.machine import choose_device, describe_machine

        facts |= describe_machine(choose_device("auto"))
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model n")]
        facts["processor"] = models[0] if models else "unknown"
    return facts


def save(name: str, arguments: argparse.Namespace, results: dict[str, Any]) -> Path:
    """Write ``results`` with the settings and the machine to ``OUT/NAME.json`` (``NAME-quick.json`` of a smoke run)."""
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
    settings.pop("out")
    if str(settings.get("data", "")).startswith(("folder:", "npz:")):
        settings["data"] = settings["data"].split(":")[0] + ":" + Path(settings["data"].split(":", 1)[1]).name
    value = {"benchmark": name, "settings": settings, "machine": machine(), "results": results}
    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}{'-quick' if arguments.quick else ''}.json"
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")
    return path
