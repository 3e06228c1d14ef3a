"""Several processes, started by the real torchrun: the same result as one, one voice, and no run lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import metasiam
from metasiam.data.domains import DomainSet
from metasiam.learners.context import prepare
from metasiam.learners.reptile import Reptile
from metasiam.learners.triplet import Triplet
from metasiam.options.reptile import ReptileOptions
from metasiam.options.triplet import TripletOptions
from metasiam.training.checkpoint import load_checkpoint
from metasiam.training.distributed import Processes, ProcessLost
from metasiam.training.loop import _stop_on_signals

COMMON = {
    "flip": True,
    "arch": "resnet8",
    "batch_size": 6,
    "device": "cpu",
    "precision": "fp32",
    "compile": "off",
    "seed": 3,
}
REPTILE = {**COMMON, "iterations": 3, "inner_epochs": 2, "meta_step": 0.5, "meta_optimizer": "nesterov"}
TRIPLET = {**COMMON, "iterations": 4, "loss": "softmax"}

#: What each process runs: the trainings that the tests compare, one after the other.
WORKER = """
import json, sys, torch, metasiam
from metasiam.data.domains import DomainSet
torch.set_num_threads(1)
data, out = torch.load(sys.argv[1], weights_only=True), sys.argv[2]
domains = DomainSet(data["images"], data["labels"], tuple(data["names"]), data["is_test"], "tiny")
split = metasiam.split_domains(domains, held_out=2)
for method, options in json.loads(sys.argv[3]).items():
    metasiam.train(method, domains, split, out=f"{out}/{method}", **options)
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def torchrun(*arguments: str, count: int = 2) -> subprocess.Popen[str]:
    """Start ``count`` processes; their output is one text."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[1],
    )


def save_domains(domains: DomainSet, path: Path) -> Path:
    data = {"images": domains.images, "labels": domains.labels, "names": domains.names, "is_test": domains.is_test}
    torch.save(data, path)
    return path


def in_one_process(kind: type[Any], config: Any, domains: DomainSet) -> Any:
    """A learner that does the work of two processes alone."""
    return kind(config, prepare(config, domains, metasiam.split_domains(domains, held_out=2)), Processes(0, 1, 2))


@pytest.fixture(scope="module")
def two_processes(tiny_domains, tmp_path_factory) -> tuple[Path, DomainSet]:
    """Runs of both methods by two processes, and the data."""
    folder = tmp_path_factory.mktemp("two")
    domains = tiny_domains(domains=6, images=10)
    (folder / "worker.py").write_text(WORKER)
    data = save_domains(domains, folder / "data.pt")
    methods = json.dumps({"reptile": REPTILE, "triplet": TRIPLET})
    process = torchrun(str(folder / "worker.py"), str(data), str(folder), methods)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return folder, domains


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    embedder, _ = metasiam.load_embedder(run)
    return {k: v for k, v in embedder.state_dict().items() if v.is_floating_point()}


def test_two_processes_with_a_task_each_equal_one_process_with_both(two_processes, tmp_path):
    folder, domains = two_processes
    split = metasiam.split_domains(domains, held_out=2)
    alone = metasiam.train("reptile", domains, split, out=tmp_path / "one", **{**REPTILE, "meta_batch": 2})
    expected = weights_of(alone.path)
    for name, value in weights_of(folder / "reptile").items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5, msg=name)
    assert [row["loss"] for row in alone.metrics()] == pytest.approx(
        [row["loss"] for row in metasiam.open_run(folder / "reptile").metrics()], abs=1e-5
    )


def test_triplet_gradients_are_the_mean_over_the_processes_halves(two_processes):
    folder, domains = two_processes
    config = TripletOptions(**TRIPLET)
    learner = in_one_process(Triplet, config, domains)
    context = learner.context
    parameters = [*context.embedder.parameters(), *context.objective.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config.lr)
    for iteration in range(config.iterations):
        generator = context.generator("step", iteration)
        index = learner.draw_batch(iteration, generator)
        moves = context.augmentation.draw((3, 12), generator)
        total = 0.0
        for half in (slice(0, 6), slice(6, 12)):
            flat = index[:, half].reshape(-1)
            images = context.augmentation.apply(
                domains.gather(flat), moves[:, half].reshape(18, -1), context.info.mean, context.info.std
            )
            total = total + context.objective(context.embedder(images), domains.labels[flat]) / 2
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
    saved = load_checkpoint(folder / "triplet" / "checkpoint.pt")["learner"]["weights"]
    assert len(saved) == len(parameters)
    for value, expected in zip(saved, parameters, strict=True):
        torch.testing.assert_close(value, expected.detach(), rtol=0, atol=1e-5)


def test_only_the_first_process_writes(two_processes):
    folder, _ = two_processes
    for method in ("reptile", "triplet"):
        run = metasiam.open_run(folder / method)
        assert run.config["processes"] == 2
        steps = [row["step"] for row in run.metrics()]
        assert steps == sorted(set(steps))
        assert len(list((run.path / "tensorboard").iterdir())) == 1


def test_a_run_begun_by_two_processes_goes_on_with_one_as_if_nothing_had_changed(two_processes, tmp_path):
    folder, domains = two_processes
    whole = in_one_process(Reptile, ReptileOptions(**REPTILE), domains)
    assert whole.tasks_per_iteration == 2
    for iteration in range(whole.total):
        whole.iterate(iteration, lambda: False)
    whole.finish()
    expected = weights_of(folder / "reptile")
    for name, value in whole.context.embedder.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5, msg=name)


def test_more_processes_than_tasks_are_refused(tiny_domains):
    domains = tiny_domains(domains=6, images=10)
    config = ReptileOptions(**REPTILE)
    context = prepare(config, domains, metasiam.split_domains(domains, held_out=2))
    with pytest.raises(metasiam.MetaSiamError, match="too few for 4 processes"):
        Reptile(config, context, Processes(0, 4, 2))


def test_a_batch_that_processes_cannot_share_equally_is_refused(tiny_domains):
    domains = tiny_domains(domains=6, images=10)
    config = TripletOptions(**TRIPLET)
    context = prepare(config, domains, metasiam.split_domains(domains, held_out=2))
    with pytest.raises(metasiam.MetaSiamError, match="cannot be shared equally by 5"):
        Triplet(config, context, Processes(0, 5, 2))


def test_shares_of_the_work_are_disjoint_and_complete():
    for count, total in ((1, 4), (3, 4), (4, 4), (5, 3)):
        shares = [list(Processes(rank, count).share(total)) for rank in range(count)]
        assert sorted(piece for share in shares for piece in share) == list(range(total))


@pytest.fixture
def npz(tiny_domains, tmp_path) -> Path:
    """The tiny domains as a file that the command line reads."""
    domains = tiny_domains(domains=6, images=10)
    arrays = {}
    for part, chosen in (("train", ~domains.is_test), ("test", domains.is_test)):
        arrays[f"{part}_images"] = domains.images[chosen].permute(0, 2, 3, 1).numpy()
        arrays[f"{part}_labels"] = domains.labels[chosen].numpy()
    numpy.savez(tmp_path / "tiny.npz", **arrays)
    return tmp_path / "tiny.npz"


def command(npz: Path, out: Path, **options: object) -> list[str]:
    flags = {"data": f"npz:{npz}", "held-out": 2, "arch": "resnet8", "batch-size": 6, "compile": "off", **options}
    flags |= {"device": "cpu", "out": out}
    return ["-m", "metasiam", "reptile", *(str(part) for key, value in flags.items() for part in (f"--{key}", value))]


@pytest.mark.slow
def test_an_error_that_all_processes_meet_is_said_once(npz, tmp_path):
    process = torchrun(*command(npz, tmp_path / "run", **{"held-out": 5}))
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert output.count("metasiam: ") == 1, output
    assert "--held-out 5" in output
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_run_with_one_error_and_the_run_goes_on_alone(npz, tmp_path, victim):
    out = tmp_path / "run"
    process = torchrun(*command(npz, out, iterations=100000, **{"inner-epochs": 2, "checkpoint-every": 0.5}))
    try:
        wait_for(out / "metrics.jsonl", process)
        os.kill(pid_of_rank(process.pid, victim), signal.SIGKILL)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode != 0
    assert output.count("metasiam: another of the 2 processes ended") == 1, output
    reached = load_checkpoint(out / "checkpoint.pt")["iteration"]
    assert (reached > 0) or victim == 0
    shorten(out, reached + 2)
    run = metasiam.open_run(out)
    domains = metasiam.load_domains(f"npz:{npz}")
    again = metasiam.train("reptile", domains, metasiam.split_domains(domains, held_out=2), resume=run.path)
    assert again.metrics()[-1]["step"] == reached + 2


def test_a_process_that_lost_another_may_say_so_before_torchrun_ends_it():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def lose() -> None:
        with _stop_on_signals(patient=True):
            raise ProcessLost("another of the 2 processes ended")

    try:
        with pytest.raises(ProcessLost):
            lose()
        os.kill(os.getpid(), signal.SIGTERM)  # as torchrun does: it does not end this process at once
        assert signal.getsignal(signal.SIGINT) == before[signal.SIGINT]
    finally:
        signal.signal(signal.SIGTERM, before[signal.SIGTERM])


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_at_the_same_iteration_and_saves(npz, tmp_path):
    out = tmp_path / "run"
    process = torchrun(*command(npz, out, iterations=100000, **{"inner-epochs": 2, "checkpoint-every": 1000}))
    try:
        wait_for(out / "metrics.jsonl", process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert output.count("saved at iteration") == 1, output
    assert load_checkpoint(out / "checkpoint.pt")["iteration"] > 0


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while not (file.is_file() and file.read_text().count("\n") >= 2):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f"{file} did not appear"
        time.sleep(0.1)


def pid_of_rank(parent: int, rank: int) -> int:
    children = [
        folder
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and f"\nPPid:\t{parent}\n" in (folder / "status").read_text()
    ]
    for folder in children:
        if f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
            return int(folder.name)
    raise AssertionError(f"no process of rank {rank}")


def shorten(run: Path, iterations: int) -> None:
    """Make a run end soon: the options are the run's own, so that its checkpoint still fits."""
    config = json.loads((run / "config.json").read_text())
    config["options"]["iterations"] = iterations
    (run / "config.json").write_text(json.dumps(config))
