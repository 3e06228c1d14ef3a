"""The GPU path: the graph computes what the eager step computes, follows the rate, and never waits for the host."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import metasiam
from metasiam.config import ReptileConfig, TripletConfig
from metasiam.learners.context import prepare
from metasiam.learners.reptile import Reptile
from metasiam.learners.triplet import Triplet
from metasiam.training.distributed import Processes
from metasiam.training.step import GraphedStep, TrainingStep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

COMMON = {"arch": "resnet8", "batch_size": 8, "device": "cuda", "precision": "fp32", "compile": "off", "seed": 1}


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


def weights(learner: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.context.embedder.parameters()])


@pytest.mark.parametrize("options", [{}, {"inner_optimizer": "sgd", "lr": 0.05}, {"loss": "softmax"}])
def test_reptile_with_the_graph_equals_reptile_without_it(make, options):
    config = ReptileConfig(**{**COMMON, "iterations": 4, "inner_epochs": 3, "meta_step": 0.5, **options})
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
    config = TripletConfig(**{**COMMON, "iterations": 5, "optimizer": optimizer, "schedule": "linear", "lr": 0.01})
    graphed, plain = make(Triplet, config), make(Triplet, config)
    plain._step = eager_step(plain)
    for iteration in range(5):
        graphed.iterate(iteration, lambda: False)
        plain.iterate(iteration, lambda: False)
    torch.testing.assert_close(weights(graphed), weights(plain), rtol=0, atol=2e-3)


def test_an_iteration_never_waits_for_the_device(make):
    config = ReptileConfig(**{**COMMON, "iterations": 4, "inner_epochs": 3})
    reptile = make(Reptile, config)
    reptile.iterate(0, lambda: False)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = reptile.iterate(1, lambda: False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)


def test_bf16_learns_as_fp32_does(make):
    losses = {}
    for precision in ("fp32", "bf16"):
        config = TripletConfig(**{**COMMON, "iterations": 60, "precision": precision, "lr": 0.003})
        learner = make(Triplet, config)
        losses[precision] = [float(learner.iterate(i, lambda: False)) for i in range(60)][-10:]
    assert sum(losses["bf16"]) / 10 == pytest.approx(sum(losses["fp32"]) / 10, abs=0.05)


def test_a_run_trains_stops_and_goes_on_with_the_graph(tiny_domains, tmp_path):
    domains = tiny_domains(domains=8, images=12, size=16)
    split = metasiam.split_domains(domains, held_out=2)
    options = {**COMMON, "iterations": 3, "inner_epochs": 2}
    run = metasiam.train("reptile", domains, split, out=tmp_path / "run", **options)
    assert run.config["machine"]["device"] == "cuda"
    again = metasiam.train("reptile", domains, split, resume=run.path)
    assert again.metrics()[-1]["step"] == 3
