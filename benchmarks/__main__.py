"""Run every benchmark: ``python -m benchmarks`` (an hour on two quiet cores; ``--quick`` only shows that they run)."""

from __future__ import annotations

import subprocess
import sys

#: In order of a report; each is ``python -m benchmarks.NAME``.
NAMES = ("training_step", "overhead", "sampling", "evaluation", "memory_and_start", "gpu_step", "scaling")


def main() -> int:
    """Run each in a process of its own, with the arguments given; return how many failed."""
    failed = []
    for name in NAMES:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
