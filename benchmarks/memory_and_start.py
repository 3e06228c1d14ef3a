"""Row 5: the peak memory of a training on CIFAR-100's size, and how long ``metasiam --help`` takes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.harness import options, save, summary

_TRAIN = """
import sys
from benchmarks.data import benchmark_domains, benchmark_split
from benchmarks.sides import peak_memory_mb
import metasiam
data, out, arch, images, batch, iterations, epochs, compile_ = sys.argv[1:]
domains = benchmark_domains(data, images=int(images))
loaded = peak_memory_mb()
metasiam.train("reptile", domains, benchmark_split(domains), out=out, arch=arch, batch_size=int(batch),
               iterations=int(iterations), inner_epochs=int(epochs), compile=compile_)
print(loaded, peak_memory_mb())
"""


def help_seconds(times: int) -> list[float]:
    """Time ``metasiam --help`` in fresh processes."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "metasiam", "--help"], check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return taken


def imports_torch() -> bool:
    """Whether ``metasiam --help`` imports torch."""
    script = (
        "import sys, contextlib, io\n"
        "from metasiam.cli import run\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    run(['--help'])\n"
        "print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    return answer.strip() == "True"


def training_peak(arguments: Any, arch: str, compile_: str) -> dict[str, float]:
    """Train in a fresh process and return its peak resident memory, in MB: after loading, and in all."""
    with tempfile.TemporaryDirectory() as folder:
        size = ("12", "4", "2", "1") if arguments.quick else ("600", "128", "2", str(arguments.inner_epochs))
        command = [sys.executable, "-c", _TRAIN, arguments.data, f"{folder}/run", arch, *size, compile_]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    loaded, peak = answer.splitlines()[-1].split()
    return {"after_loading_mb": round(float(loaded)), "peak_mb": round(float(peak))}


def main() -> None:
    """Run the benchmark and write its result."""
    parser = options(__doc__.splitlines()[0], arch="resnet20,resnet56", inner_epochs=5)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.arch, arguments.rounds = "resnet8", 1
    results: dict[str, Any] = {
        "help_seconds": summary(help_seconds(arguments.rounds)),
        "imports_torch": imports_torch(),
    }
    print(f"metasiam --help: {results['help_seconds']['median']:.2f} s, imports torch: {results['imports_torch']}")
    results["training"] = {}
    for arch in arguments.arch.split(","):
        for compile_ in ("off",) if arguments.quick else ("off", "on"):
            name = f"{arch}, compiled" if compile_ == "on" else arch
            results["training"][name] = training_peak(arguments, arch, compile_)
            print(f"{name}: {results['training'][name]}", flush=True)
    save("memory_and_start", arguments, results)


if __name__ == "__main__":
    main()
