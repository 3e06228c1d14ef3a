"""The GPU path: the graph computes what the eager step computes, follows the rate, and never waits for the host."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import pytest
import torch
from listeners import Heard

import metasiam
from metasiam.learners.context import prepare
from metasiam.learners.reptile import Reptile
from metasiam.learners.triplet import Triplet
from metasiam.methods import METHODS
from metasiam.models.files import load_embedder
from metasiam.options.reptile import ReptileOptions
from metasiam.options.training import options_of
from metasiam.options.triplet import TripletOptions
from metasiam.training import distributed, loop
from metasiam.training.distributed import Processes
from metasiam.training.step import GraphedStep, TrainingStep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

COMMON = {"arch": "resnet8", "batch_size": 8, "device": "cuda", "precision": "fp32", "compile": "off", "seed": 1}


@pytest.fixture(autouse=True)
def reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a step give the same bits every time: Adam makes a whole step of a rounding error's sign."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.fixture
def make(tiny_domains) -> Any:
    """Function that makes a learner on tiny images on the GPU."""

    def build(kind: type[Any], config: Any) -> Any:
        domains = tiny_domains(domains=8, images=12, size=16)
        return kind(config, prepare(config, domains, metasiam.split_domains(domains, held_out=2)), Processes())

    return build


def eager_step(learner: Any) -> TrainingStep:
    context = learner.context
    return TrainingStep(
        context.embedder,
        context.objective,
        learner.optimizer,
        context.domains,
        context.augmentation,
        context.info.mean,
        context.info.std,
        precision=context.precision,
    )


def stop(progress: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def weights(learner: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.context.embedder.parameters()])


@pytest.mark.parametrize("options", [{}, {"inner_optimizer": "sgd", "lr": 0.05}, {"loss": "softmax"}])
def test_reptile_with_the_graph_equals_reptile_without_it(make, options):
    config = ReptileOptions(**{**COMMON, "iterations": 4, "inner_epochs": 3, "meta_step": 0.5, **options})
    graphed, plain = make(Reptile, config), make(Reptile, config)
    assert isinstance(graphed._step, GraphedStep)
    plain._step = eager_step(plain)
    torch.testing.assert_close(weights(graphed), weights(plain), rtol=0, atol=0)  # capturing left no trace
    for iteration in range(4):
        a, b = graphed.iterate(iteration, lambda: False), plain.iterate(iteration, lambda: False)
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(weights(graphed), weights(plain), rtol=0, atol=2e-3)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_captured_step_follows_the_learning_rate(make, optimizer):
    config = TripletOptions(**{**COMMON, "iterations": 5, "optimizer": optimizer, "schedule": "linear", "lr": 0.01})
    graphed, plain = make(Triplet, config), make(Triplet, config)
    plain._step = eager_step(plain)
    for iteration in range(5):
        graphed.iterate(iteration, lambda: False)
        plain.iterate(iteration, lambda: False)
    torch.testing.assert_close(weights(graphed), weights(plain), rtol=0, atol=2e-3)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (Reptile, ReptileOptions(**COMMON, iterations=4, inner_epochs=3)),
        (Triplet, TripletOptions(**COMMON, iterations=4, shift=2)),
    ],
    ids=["reptile", "triplet"],
)
def test_an_iteration_never_waits_for_the_device(make, kind, config):
    learner = make(kind, config)
    learner.iterate(0, lambda: False)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = learner.iterate(1, lambda: False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)


@pytest.mark.filterwarnings("default")  # torch.compile gives advice
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_graph_learns_what_the_eager_one_does(make, precision):
    losses = {}
    for compiled in ("off", "on"):
        options = {"iterations": 10, "precision": precision, "compile": compiled, "shift": 2}
        learner = make(Triplet, TripletOptions(**{**COMMON, **options}))
        assert isinstance(learner._step, GraphedStep)
        losses[compiled] = [float(learner.iterate(number, lambda: False)) for number in range(10)]
    assert losses["on"] == pytest.approx(losses["off"], abs=0.05)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("baseline", {"batch_size": 16}),
        ("protonet", {"ways": 3, "shots": 1, "queries": 2}),
        ("fomaml", {"ways": 3, "shots": 1, "queries": 2, "meta_batch": 2}),
    ],
)
def test_the_few_shot_methods_train_on_it(tiny_domains, method, options):
    domains = tiny_domains(domains=8, images=12, size=16)
    kind, build = METHODS[method].options, METHODS[method].learner
    config = options_of(kind, {**COMMON, "iterations": 3, **options})
    learner = build(config, prepare(config, domains, metasiam.split_domains(domains, held_out=2)), Processes())
    before = weights(learner)
    assert all(torch.isfinite(learner.iterate(number, lambda: False)) for number in range(3))
    assert not torch.equal(weights(learner), before)
    learner.finish()


def test_bf16_learns_as_fp32_does(make):
    losses = {}
    for precision in ("fp32", "bf16"):
        config = TripletOptions(**{**COMMON, "iterations": 60, "precision": precision, "lr": 0.003})
        learner = make(Triplet, config)
        losses[precision] = [float(learner.iterate(i, lambda: False)) for i in range(60)][-10:]
    assert sum(losses["bf16"]) / 10 == pytest.approx(sum(losses["fp32"]) / 10, abs=0.05)


def test_a_run_stops_goes_on_and_is_evaluated_there(tiny_domains, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 0.0)
    domains = tiny_domains(domains=8, images=12, size=16)
    split = metasiam.split_domains(domains, held_out=2)
    options = {**COMMON, "iterations": 3, "inner_epochs": 2}
    whole = metasiam.train("reptile", domains, split, out=tmp_path / "whole", **options)
    assert whole.config["machine"]["device"] == "cuda"
    with pytest.raises(metasiam.TrainingStopped):
        metasiam.train("reptile", domains, split, out=tmp_path / "part", listener=Heard(training=stop), **options)
    part = metasiam.train("reptile", domains, split, resume=tmp_path / "part")
    for ours, theirs in zip(*(load_embedder(run.path)[0].parameters() for run in (whole, part)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)

    few = {"pairs": 8, "triplets": 8, "episodes": 2, "queries": 1, "support_draws": 2, "bootstrap": 100}
    few |= {"inference": ("mirror", "lda", "normalise"), "adapt_steps": 2}
    found = {
        device: metasiam.evaluate(whole, domains, split, shots=(0, 2, "all"), device=device, **few).data
        for device in ("cpu", "cuda")
    }
    for shots in ("0", "2", "all"):  # 16 triplets and TF32's rounding
        cpu, gpu = (found[device]["held_out"]["closed"][shots]["triplet_accuracy"]["mean"] for device in found)
        assert gpu == pytest.approx(cpu, abs=20)


@pytest.mark.filterwarnings("default")  # a group of one is not what DistributedDataParallel is for
def test_what_processes_tell_each_other_goes_over_nccl(make, monkeypatch):
    """One GPU takes one process, but that is a group too: weights go through NCCL, votes through gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1}
    for name, value in known.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(distributed, "_started_by_torchrun", lambda: True)
    try:
        assert distributed.join("cuda").count == 1
        assert torch.distributed.get_backend_config() == "cpu:gloo,cuda:nccl"
        first_of_two = Processes(0, 2)  # asks the group, in which it is alone
        sent = [torch.ones(3, device="cuda"), torch.full((2, 2), 5.0, device="cuda")]
        first_of_two.sum_(sent)
        assert [tensor.sum().item() for tensor in sent] == [3, 20]
        assert first_of_two.any(True)
        assert not first_of_two.any(False)

        shared = make(Triplet, TripletOptions(**COMMON, iterations=3))
        context = shared.context
        averaged = context.step(shared.optimizer, 3, first_of_two, average_gradients=True)
        assert isinstance(averaged, TrainingStep)  # gradients that wait for other processes are not captured
        alone = eager_step(make(Triplet, TripletOptions(**COMMON, iterations=3)))
        index = context.seen.images[torch.arange(24, device="cuda").view(3, 8)]
        drawn = context.augmentation.draw((3, 8), context.generator("example"))
        torch.testing.assert_close(averaged(index, drawn), alone(index, drawn))

        config = ReptileOptions(**COMMON, iterations=2, inner_epochs=2, meta_batch=2)
        domains = context.domains.to("cpu")
        split = metasiam.split_domains(domains, held_out=2)
        reptile = Reptile(config, prepare(config, domains, split), first_of_two)
        assert torch.isfinite(reptile.iterate(0, lambda: False))
    finally:
        torch.distributed.destroy_process_group()
