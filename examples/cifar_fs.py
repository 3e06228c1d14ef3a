"""CIFAR-FS, the few-shot benchmark, in minutes: conv4 trained as a cosine classifier, then 5-way episodes.

    python examples/cifar_fs.py                                          # downloads CIFAR-100 once
    python examples/cifar_fs.py --data folder:PATH_TO_CIFAR100 --iterations 2000

The 16 validation classes are measured first: choose settings on them. The 20 test classes are for the last number only.
"""

import argparse
from pathlib import Path
from typing import Any

import metasiam as ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar100")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--method", default="baseline")
    parser.add_argument("--arch", default="conv4")
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/cifar-fs"))
    arguments = parser.parse_args()

    domains = ms.load_domains(arguments.data, data_dir=arguments.data_dir)
    split = ms.split_domains(domains, split="cifar-fs")
    options: dict[str, Any] = {
        "batch_size": 192,
        "lr": 0.01,
        "weight_decay": 0.05,
        "schedule": "onecycle",
        "temperature": 0.1,
        "shift": 4,
    }
    run = ms.train(
        arguments.method,
        domains,
        split,
        arch=arguments.arch,
        iterations=arguments.iterations,
        out=arguments.out,
        overwrite=True,
        **(options if arguments.method == "baseline" else {}),
    )
    choosing = ms.split_domains(domains, split="cifar-fs:validation")
    for name, parts in (("validation", choosing), ("test", split)):
        for steps in ((), ("mirror",)):
            report = ms.evaluate(
                run, domains, parts, shots=(0,), episodes=arguments.episodes, seen=False, regimes=(), inference=steps
            )
            for kind, found in report.data["held_out"]["episodes"].items():
                low, high = found["ci95"]
                how = ", ".join(steps) or "plain"
                print(f"{name} classes, {kind}, {how}: {found['mean']:.1f} [{low:.1f}, {high:.1f}] %", flush=True)


if __name__ == "__main__":
    main()
