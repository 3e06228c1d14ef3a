"""Row 8: time of an iteration and peak memory as the work grows, one thing at a time, each in a fresh process."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import options, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASE = {"arch": "resnet20", "batch_size": 32, "inner_epochs": 2, "meta_batch": 1, "domains": 100, "images": 600}
#: What is varied: name → its values. Everything else stays as in ``BASE``.
VARIED: dict[str, list[Any]] = {
    "batch_size": [16, 32, 64, 128],
    "inner_epochs": [1, 2, 10, 30],
    "arch": ["resnet8", "resnet20", "resnet32", "resnet56"],
    "meta_batch": [1, 2, 4],
    "domains": [10, 100, 1000],
    "images": [60, 600, 2000],
}
QUICK: dict[str, list[Any]] = {"batch_size": [2, 4]}

_ITERATIONS = """
import json, sys, time
from benchmarks.data import benchmark_domains, benchmark_split
from benchmarks.sides import peak_memory_mb
from metasiam.options.reptile import ReptileOptions
from metasiam.learners.context import prepare
from metasiam.learners.reptile import Reptile
from metasiam.training.distributed import Processes
from metasiam.training.machine import tune_allocator
tune_allocator()
setting, data, rounds = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
made = {key: setting.pop(key) for key in ("domains", "images")}
domains = benchmark_domains(data, **made)
loaded = peak_memory_mb()
config = ReptileOptions(iterations=10**6, flip=True, compile=sys.argv[4], **setting)
reptile = Reptile(config, prepare(config, domains, benchmark_split(domains)), Processes())
wall, cpu = [], []
begun = time.perf_counter()
for count in range(rounds + 1):
    if count > 3 and time.perf_counter() - begun > 20:
        break  # three rounds of what takes long are enough
    start, cpu_start = time.perf_counter(), time.process_time()
    float(reptile.iterate(count, lambda: False))
    wall.append(time.perf_counter() - start)
    cpu.append(time.process_time() - cpu_start)
print(json.dumps({"seconds": wall[1:], "cpu_seconds": cpu[1:], "peak_mb": peak_memory_mb(), "loaded_mb": loaded}))
"""


def measure(setting: dict[str, Any], arguments: Any) -> dict[str, Any]:
    """Time iterations of one setting: median seconds, CPU seconds, peak memory after loading and in all."""
    import json

    command = [sys.executable, "-c", _ITERATIONS, json.dumps(setting), arguments.data, str(arguments.rounds)]
    command.append("off" if arguments.quick else "on")
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(answer.splitlines()[-1])
    images = 3 * setting["batch_size"] * setting["inner_epochs"] * setting["meta_batch"]
    seconds = statistics.median(found["seconds"])
    return {
        "seconds_per_iteration": round(seconds, 4),
        "lowest": round(min(found["seconds"]), 4),
        "highest": round(max(found["seconds"]), 4),
        "cpu_seconds_per_iteration": round(statistics.median(found["cpu_seconds"]), 4),
        "images_per_iteration": images,
        "images_per_second": round(images / seconds, 1),
        "peak_mb": round(found["peak_mb"]),
        "loaded_mb": round(found["loaded_mb"]),
    }


def figure_of(results: dict[str, dict[str, Any]]) -> Figure:
    """Return CPU seconds and peak memory over each thing that was varied, one column each, rows with one scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(results), 5))
    axes = figure.subplots(2, len(results), sharey="row", squeeze=False)
    for column, (name, by_value) in enumerate(results.items()):
        places = range(len(by_value))
        words = {value.rstrip("0123456789") for value in by_value}
        word = words.pop() if len(words) == 1 else ""
        for row, (key, label) in enumerate(
            (("cpu_seconds_per_iteration", "CPU seconds an iteration"), ("peak_mb", "peak memory (MB)"))
        ):
            axis = axes[row][column]
            axis.plot(places, [found[key] for found in by_value.values()], marker="o", color="#0072b2")
            axis.set_xticks(list(places), [value.removeprefix(word) for value in by_value])
            axis.margins(x=0.15)
            axis.grid(axis="y", alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
        axes[1][column].set_xlabel(f"{name.replace('_', ' ')} ({word}…)" if word else name.replace("_", " "))
    for axis in axes[:, 0]:  # only now: a limit that is set ends the search for one that suits the whole row
        axis.set_ylim(bottom=0)
    figure.tight_layout()
    return figure


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Write ``figure_of`` the results to an SVG file."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "metasiam"}):  # equal numbers, equal file
        figure_of(results).savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Run the benchmark and write its result."""
    parser = options(__doc__.splitlines()[0], figure="docs/scaling.svg")
    arguments = parser.parse_args()
    base, varied = dict(BASE), VARIED
    if arguments.quick:
        base |= {"arch": "resnet8", "inner_epochs": 1, "domains": 10, "images": 12}
        varied, arguments.rounds, arguments.figure = QUICK, 1, str(arguments.out / "scaling-quick.svg")
    results: dict[str, dict[str, Any]] = {}
    for name, values in varied.items():
        results[name] = {}
        for value in values:
            found = results[name][str(value)] = measure(base | {name: value}, arguments)
            print(f"{name} {value}: {found}", flush=True)
    save("scaling", arguments, {"base": base, "varied": results})
    draw(results, Path(arguments.figure))


if __name__ == "__main__":
    main()
