"""A quarter of an hour of a GPU in one command: the checks that need one, then the published setting and its rivals.

In this order, each stage resumed or skipped when it was done before: the ``gpu`` tests; ``gpu_step``; the published
Reptile (10,000 × 30) with ResNet-20, then with ResNet-56; classic triplet training with ResNet-56 and as many images;
a stronger recipe (normalised softmax, then Reptile from its weights). Each training ends in an evaluation; one that
the time is too short for goes on in a later session: on an H200 the checks take six minutes (left out where
``benchmarks/results/gpu_step.json`` is committed, but for ``--stages none``) and the published training with ResNet-20
fourteen. ``--stages`` chooses among them. Needs torch, numpy, scikit-learn, scipy, safetensors, Pillow, tensorboard,
filelock and, for the tests, pytest.

    python3 -m benchmarks.gpu_session --archives ZIPS --keep /tmp/gpu --home HOME

For machines that are lent for a while and forget everything but one folder: a call stops after ``--minutes`` (8: made
for commands of at most 10, with the start counted and time left for an evaluation), saved, and the same call goes on.
Runs are made, and resumed, in ``--keep``. What is worth keeping is copied to ``--home`` every minute, as few files of
less than 16 MB: ``kept.tar.gz`` and the newest checkpoint of each unfinished training. On a fresh machine ``--back``
takes such a folder up again. While archives are still on their way, ``--stages none`` runs the checks, which need no
data.

Every stage has a process of its own, because a CUDA graph's capture that fails spoils all later ones of its process. A
stage that fails says why in ``KEEP/STAGE.failed.txt`` and the others go on; later calls leave it out unless
``--stages`` names it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import metasiam
from benchmarks.data import benchmark_domains, benchmark_split, unzipped
from benchmarks.harness import RESULTS, machine
from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split
from metasiam.progress import Listener, Progress
from metasiam.runs import Run, open_run


@dataclass(frozen=True)
class Stage:
    """One training of the session.

    Attributes:
        name: of the run's folder and of its file in ``benchmarks/results``.
        method: ``reptile`` or ``triplet``.
        options: of the training.
        after: stage whose weights it starts from.
    """

    name: str
    method: str
    options: dict[str, Any]
    after: str | None = None


#: 10,000 iterations of 30 inner epochs are as many steps as this; triplet training gets as many images.
SEED_STEPS = 300_000
STAGES = (
    Stage("gpu-reptile-resnet20", "reptile", {"arch": "resnet20"}),
    Stage("gpu-reptile-resnet56", "reptile", {"arch": "resnet56"}),
    Stage("gpu-triplet-resnet56", "triplet", {"arch": "resnet56", "iterations": SEED_STEPS}),
    Stage(
        "gpu-softmax-resnet56",
        "triplet",
        {"arch": "resnet56", "loss": "softmax", "iterations": 20_000, "schedule": "onecycle", "lr": 0.003, "shift": 4},
    ),
    Stage(
        "gpu-softmax-reptile-resnet56",
        "reptile",
        {"arch": "resnet56", "iterations": 500, "meta_step": 0.1},
        after="gpu-softmax-resnet56",
    ),
)
CHECKPOINT, EMBEDDER, PROGRESS = "checkpoint.pt", "embedder.safetensors", "progress.json"
#: Seconds that the tests, the step benchmark and one of its kinds may take: nothing may hang for long.
TESTS_LAST, STEP_LASTS, KIND_LASTS = 180, 380, 120
#: Seconds without which nothing is begun, that a stage may run over, for its evaluation, and from SIGINT to the kill.
MARGIN, GRACE, LAST_WORDS = 45, 90, 10
#: Exit statuses of a stage's process.
OUT_OF_TIME, FAILED = 3, 4


class OutOfTime(Exception):
    """The session's minutes are over."""


class Session:
    """Runs a stage until it is done or the time is over.

    Args:
        keep: folder of the results; runs are made, and resumed, in ``keep/runs``.
        home: folder that gets copies of what is worth keeping; None for none.
        domains: the data.
        split: which domains are held out.
        end: when to stop, on the monotonic clock.
        tiny: make every training a few steps long.
        evaluates: whether a finished training is evaluated at once.
    """

    def __init__(
        self,
        keep: Path,
        home: Path | None,
        domains: DomainSet,
        split: Split,
        end: float,
        tiny: bool,
        evaluates: bool = True,
    ) -> None:
        self.keep = keep
        self.home = home
        self.domains = domains
        self.split = split
        self.end = end
        self.tiny = tiny
        self.evaluates = evaluates
        self.progress: dict[str, Any] = {}
        if (keep / PROGRESS).is_file():
            self.progress = json.loads((keep / PROGRESS).read_text(encoding="utf-8"))["stages"]
        self._saved = 0.0

    def train(self, stage: Stage) -> None:
        """Train and evaluate one stage, or go on with it."""
        folder = self.keep / "runs" / stage.name
        run = open_run(folder) if (folder / EMBEDDER).is_file() else self._train(stage, folder)  # written at the end
        self.save_progress()
        if self.evaluates:
            self.check_time()
            self.evaluate(stage, run)
        self.save_progress()

    def _train(self, stage: Stage, folder: Path) -> Run:
        options = dict(stage.options)
        if stage.after is not None:
            options["init"] = str(self.keep / "runs" / stage.after / EMBEDDER)
        if self.tiny:
            options |= {"iterations": 2, "batch_size": 4, "arch": "resnet8", "compile": "off"}
            options |= {"inner_epochs": 2} if stage.method == "reptile" else {}
        known: dict[str, Any] = {"listener": _Told(self, stage, folder)}
        if (folder / CHECKPOINT).is_file():
            return metasiam.train(stage.method, self.domains, self.split, resume=folder, **known)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        return metasiam.train(
            stage.method, self.domains, self.split, out=folder, checkpoint_every=60.0, **known, **options
        )

    def check_time(self) -> None:
        """Raise ``OutOfTime`` when it is."""
        if time.monotonic() > self.end:
            raise OutOfTime

    def report(self, stage: Stage, folder: Path, progress: Progress) -> None:
        """Save the progress every minute; end the session when its time is over."""
        if time.monotonic() - self._saved > 60:
            self._saved = time.monotonic()
            self.progress[stage.name] = {
                "iteration": progress.iteration,
                "of": progress.total,
                "loss": progress.loss,
                "images_per_second": progress.images_per_second,
                "seconds_left": progress.seconds_left,
            }
            print(f"{stage.name}: {self.progress[stage.name]}", flush=True)
            self.save_progress()
        if time.monotonic() > self.end:
            signal.raise_signal(signal.SIGTERM)  # the training saves itself and stops

    def save_progress(self) -> None:
        """Write how far each stage is, and bring everything home."""
        text = json.dumps({"machine": machine(), "stages": self.progress}, indent=1)
        (self.keep / PROGRESS).write_text(text + "\n", encoding="utf-8")
        bring_home(self.keep, self.home)

    def evaluate(self, stage: Stage, run: Run) -> None:
        """Evaluate a finished training and keep its numbers."""
        import torch

        from metasiam.evaluation.protocol import evaluate
        from metasiam.options.evaluation import ProtocolSettings

        settings = ProtocolSettings(shots=(0, "all"))
        if self.tiny:
            settings = replace(settings, pairs=4, triplets=4, episodes=2, queries=1, support_draws=2, bootstrap=100)
            settings = replace(settings, adapt_steps=1, calibration_images=4, calibration_negatives=8)
        embedder, info = metasiam.load_embedder(run.path)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        start = time.monotonic()
        evaluation = evaluate(embedder.to(device), info, self.domains, self.split, settings)
        run.write_json("evaluation.json", evaluation.data)
        last = run.metrics()[-1]
        result = {
            "stage": stage.name,
            "config": run.config,
            "machine": machine(),
            "training_seconds": last["seconds"],
            "images_per_second": last["images_per_second"],
            "evaluation_seconds": round(time.monotonic() - start, 1),
            "evaluation": evaluation.data,
        }
        (self.keep / f"{stage.name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"{stage.name}: trained in {last['seconds']:.0f} s, kept in {self.keep}", flush=True)


class _Told(Listener):
    """Tells a session how far the training of a stage is."""

    def __init__(self, session: Session, stage: Stage, folder: Path) -> None:
        self.session, self.stage, self.folder = session, stage, folder

    def training(self, progress: Progress) -> None:
        self.session.report(self.stage, self.folder, progress)

    def note(self, text: str) -> None:
        print(text, flush=True)


def bring_home(keep: Path, home: Path | None) -> None:
    """Copy numbers, weights and the checkpoints of unfinished runs to ``home``, each file whole at any moment."""
    if home is None:
        return
    home.mkdir(parents=True, exist_ok=True)
    partial = home / "partial"
    with tarfile.open(partial, "w:gz", compresslevel=1) as archive:
        for path in sorted(keep.rglob("*")):
            unwanted = path.suffix == ".partial" or path.name == CHECKPOINT or "tensorboard" in path.parts
            if path.is_file() and not unwanted:
                archive.add(path, path.relative_to(keep))
    os.replace(partial, home / "kept.tar.gz")
    for checkpoint in keep.glob(f"runs/*/{CHECKPOINT}"):
        copied = home / checkpoint.relative_to(keep)
        if (keep / f"{checkpoint.parent.name}.json").is_file():
            copied.unlink(missing_ok=True)
            continue
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkpoint, partial)
        os.replace(partial, copied)


def take_up(back: Path, keep: Path) -> None:
    """Make ``keep`` what it was when ``back`` was brought home, unless something is there already."""
    if any(keep.iterdir()) or not (back / "kept.tar.gz").is_file():
        return
    with tarfile.open(back / "kept.tar.gz") as archive:
        archive.extractall(keep, filter="data")
    for checkpoint in back.glob(f"runs/*/{CHECKPOINT}"):
        shutil.copyfile(checkpoint, keep / checkpoint.relative_to(back))


def check(keep: Path, home: Path | None, tiny: bool, data: str, end: float) -> None:
    """Run the tests that need a GPU and the step benchmark, in processes of their own, each once."""
    log = keep / "gpu-tests.log"
    if not log.is_file():
        tests_end = min(end, time.monotonic() + TESTS_LAST)
        # A library's new warning is no reason to learn nothing from a rare GPU. -vv names each test as it begins, over
        # the project's -q. What compiles comes later, and apart: a capture that fails spoils the later ones. Messages,
        # which may wait for ever, come last.
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-W", "default", "-vv", "--tb=short", "--durations=5"]
        for chosen in ("not compiled and not nccl", "compiled", "nccl"):
            logged([*command, "-k", chosen, "tests/test_gpu.py", "tests/test_augment.py"], log, tests_end)
        bring_home(keep, home)
    if not list(keep.glob("gpu_step*.json")):
        command = [sys.executable, "-m", "benchmarks.gpu_step", "--out", str(keep), "--data", data]
        command += ["--quick"] if tiny else ["--iterations", "3", "--limit", str(KIND_LASTS)]
        logged(command, keep / "gpu_step.log", min(end, time.monotonic() + STEP_LASTS))
        bring_home(keep, home)


def logged(command: list[str], log: Path, end: float) -> None:
    """Run a command until ``end`` at the latest, its output appended to a file, and print the file's end."""
    if end - time.monotonic() < LAST_WORDS:
        print(f"no time left for {' '.join(command[1:])}", flush=True)
        return
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=unbuffered())
        if not ended(process, end):
            file.write("\nended: its time was over\n")
    print(log.read_text(encoding="utf-8")[-2000:], flush=True)


def unbuffered() -> dict[str, str]:
    """Return this process's environment for another, which loses no output when it is killed."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def ended(process: subprocess.Popen[bytes], end: float) -> bool:
    """Wait for a process; at ``end`` interrupt it, a little later kill it, and return False."""
    try:
        process.wait(max(end - time.monotonic(), 0))
        return True
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as stopped:
        if isinstance(stopped, subprocess.TimeoutExpired):  # Ctrl-C reached it as well
            process.send_signal(signal.SIGINT)
        try:
            process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if isinstance(stopped, KeyboardInterrupt):
            raise
        return False


def done(keep: Path, stage: Stage, tiny: bool) -> bool:
    """Whether the stage's evaluation is here, or committed."""
    return (keep / f"{stage.name}.json").is_file() or (not tiny and (RESULTS / f"{stage.name}.json").is_file())


def run_stages(keep: Path, home: Path | None, stages: list[Stage], named: bool, tiny: bool, end: float) -> int:
    """Run the stages, each in a process of its own, until ``end``; return the exit status.

    Args:
        keep: folder of the results.
        home: folder that gets copies of what is worth keeping; None for none.
        stages: in their order.
        named: whether they were asked for by name; only then those that failed before are tried again.
        tiny: they are only tried.
        end: when to stop, on the monotonic clock.
    """
    status = 0
    for stage in stages:
        failure = keep / f"{stage.name}.failed.txt"
        if done(keep, stage, tiny):
            print(f"{stage.name}: done before", flush=True)
            continue
        if failure.is_file() and not named:
            print(f"{stage.name}: failed before, see {failure}; --stages {stage.name} tries again", flush=True)
            continue
        if stage.after is not None and not (keep / "runs" / stage.after / EMBEDDER).is_file():
            print(f"{stage.name}: needs {stage.after} first", flush=True)
            continue
        left = end - time.monotonic()
        if left < MARGIN:
            code = OUT_OF_TIME
        else:
            failure.unlink(missing_ok=True)
            command = [sys.executable, "-m", "benchmarks.gpu_session", *sys.argv[1:]]
            process = subprocess.Popen([*command, "--alone", stage.name, "--minutes", f"{left / 60}"], env=unbuffered())
            before = signal.signal(signal.SIGTERM, lambda number, _, process=process: process.send_signal(number))
            code = process.returncode if ended(process, end + GRACE) else OUT_OF_TIME
            signal.signal(signal.SIGTERM, before)
        if code in (OUT_OF_TIME, -signal.SIGINT, -signal.SIGTERM):
            print("the time is over; the same command goes on", flush=True)
            break
        if code < 0:
            failure.write_text(f"its process was ended by signal {-code}\n", encoding="utf-8")
        elif code not in (0, FAILED):  # nothing of the stage's own: data that cannot be read, say
            status = code
            break
        status = status or (1 if code else 0)
        bring_home(keep, home)
    bring_home(keep, home)
    return status


def run_stage(session: Session, stage: Stage) -> int:
    """Run one stage in this process; return the exit status, and leave in a file why it failed."""
    try:
        session.train(stage)
    except (OutOfTime, metasiam.TrainingStopped):
        session.save_progress()
        return OUT_OF_TIME
    except Exception:
        traceback.print_exc()
        (session.keep / f"{stage.name}.failed.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return FAILED
    return 0


def main() -> int:
    """Run the session; return 1 if a stage failed."""
    begin = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--archives", type=Path, help="folder of cifar100-*.zip, or of their train/ and test/; else made-up images"
    )
    parser.add_argument("--keep", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--home", type=Path, help="folder for what comes home, updated every minute")
    parser.add_argument("--back", type=Path, help="an earlier --home to go on from, where --keep is empty")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--stages", default="", help="only these, comma-separated, or none; default all")
    parser.add_argument("--alone", help="run this stage in this process, and nothing else")
    parser.add_argument("--train-only", action="store_true", help="evaluate in a later call, which needs no GPU")
    parser.add_argument("--tiny", action="store_true", help="a few steps of everything: to try the script")
    arguments = parser.parse_args()
    end = begin + 60 * arguments.minutes
    keep, home, tiny = arguments.keep, arguments.home, arguments.tiny
    keep.mkdir(parents=True, exist_ok=True)
    if arguments.back is not None:
        take_up(arguments.back, keep)
    scratch = Path(tempfile.gettempdir()) / "metasiam-gpu-session"
    scratch.mkdir(exist_ok=True)
    data = "synthetic"
    if arguments.archives is not None:
        there = (arguments.archives / "train").is_dir()
        data = f"folder:{arguments.archives if there else unzipped(arguments.archives, scratch, 'cifar100')}"
    if arguments.alone is not None:
        domains = benchmark_domains(data, images=36 if tiny else 600, domains=20 if tiny else 100)
        session = Session(keep, home, domains, benchmark_split(domains), end, tiny, not arguments.train_only)
        return run_stage(session, next(stage for stage in STAGES if stage.name == arguments.alone))
    if tiny or arguments.stages == "none" or not (RESULTS / "gpu_step.json").is_file():
        check(keep, home, tiny, data, end)
    wanted = arguments.stages.split(",") if arguments.stages else [stage.name for stage in STAGES]
    stages = [stage for stage in STAGES if stage.name in wanted]
    return run_stages(keep, home, stages, bool(arguments.stages), tiny, end)


if __name__ == "__main__":
    sys.exit(main())
