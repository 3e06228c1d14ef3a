"""The GPU's path on a machine without one: nothing meets across devices, and no iteration waits for the device."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from listeners import Heard
from pair_samples import write_lfw
from pretended_gpu import CUDA, OnDevice, pretended_gpu
from torch import Tensor, nn

import metasiam
from metasiam.data.sources import load_pairs
from metasiam.evaluation.protocol import evaluate
from metasiam.learners.context import prepare
from metasiam.methods import METHODS
from metasiam.models.files import EmbedderInfo, load_embedder
from metasiam.options.evaluation import ProtocolSettings
from metasiam.options.training import options_of
from metasiam.pair_session import train_pairs
from metasiam.training import loop, machine
from metasiam.training.distributed import Processes

pytestmark = pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda':UserWarning")

COMMON = {"arch": "resnet8", "precision": "fp32", "compile": "off", "flip": True, "seed": 1}
REPTILE = {"iterations": 3, "inner_epochs": 2, "batch_size": 4, "meta_step": 0.5}
TRIPLET = {"iterations": 3, "batch_size": 4, "schedule": "linear"}
EPISODES = {"ways": 3, "shots": 1, "queries": 2, "iterations": 3}


@pytest.fixture
def data(tiny_domains):
    """Eight domains, two of them held out."""
    domains = tiny_domains(domains=8, images=12)
    return domains, metasiam.split_domains(domains, held_out=2)


def learner(method: str, data: Any, device: str, options: dict[str, Any]) -> Any:
    kind, build = METHODS[method].options, METHODS[method].learner
    config = options_of(kind, {**COMMON, **options, "device": device})
    return build(config, prepare(config, *data), Processes())


def stop(progress: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_the_pretended_gpu_refuses_tensors_of_two_devices_and_notices_waiting(monkeypatch):
    with pretended_gpu(monkeypatch) as gpu:
        there, here = torch.arange(3, device=CUDA), torch.arange(3)
        with pytest.raises(RuntimeError, match="same device"):
            there + here
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert (there + torch.tensor(1)).device == there.to(torch.float32).device == CUDA
        assert isinstance(torch.where(there > 1, there, 0)[there], OnDevice)
        assert gpu.waits == []
        for wait in (
            lambda: float(there[0]),
            lambda: bool((there > 1).any()),
            lambda: there.tolist(),
            lambda: there.cpu(),
            lambda: here.to(CUDA),
            lambda: torch.tensor(1.0, device=CUDA),
            lambda: there[there > 1],
            lambda: there[here],
            lambda: torch.where(there > 1, there, torch.tensor(0)),
            lambda: there.nonzero(),
            lambda: torch.repeat_interleave(there, there),
        ):
            gpu.waits.clear()
            wait()
            assert gpu.waits


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("reptile", REPTILE),
        ("reptile", {**REPTILE, "inner_optimizer": "sgd", "lr": 0.05, "loss": "softmax", "shift": 2}),
        ("reptile", {**REPTILE, "inner_optimizer": "sgd", "beta1": 0.9, "loss": "euclidean", "ways": 2}),
        ("reptile", {**REPTILE, "meta_optimizer": "adam", "loss": "contrastive", "batch_norm": "frozen"}),
        ("reptile", {**REPTILE, "meta_optimizer": "nesterov", "optimizer_state": "reset", "meta_batch": 2}),
        ("triplet", TRIPLET),
        ("triplet", {**TRIPLET, "optimizer": "sgd", "weight_decay": 0.1}),
        ("baseline", {"iterations": 3, "batch_size": 8}),
        ("protonet", EPISODES),
        ("fomaml", {**EPISODES, "meta_batch": 2, "inner_steps": 2}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_iteration_waits_for_nothing_and_learns_what_it_does_on_the_cpu(method, options, data, monkeypatch):
    expected = learner(method, data, "cpu", options)
    losses = [float(expected.iterate(number, lambda: False)) for number in range(3)]
    with pretended_gpu(monkeypatch) as gpu:
        ours = learner(method, data, "cuda", options)
        assert isinstance(next(ours.context.embedder.parameters()), OnDevice)
        ours.iterate(0, lambda: False)
        gpu.waits.clear()
        found = [ours.iterate(number, lambda: False) for number in (1, 2)]
        assert gpu.waits == []
        assert [float(loss) for loss in found] == pytest.approx(losses[1:], rel=1e-3, abs=1e-4)
        ours.finish()


@pytest.mark.parametrize(("method", "options"), [("reptile", REPTILE), ("triplet", {**TRIPLET, "loss": "softmax"})])
def test_a_run_stops_goes_on_and_is_kept(method, options, data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 0.0)
    options = {**COMMON, **options, "device": "cuda"}
    with pretended_gpu(monkeypatch):
        whole = metasiam.train(method, *data, out=tmp_path / "whole", **options)
        with pytest.raises(metasiam.TrainingStopped):
            metasiam.train(method, *data, out=tmp_path / "part", listener=Heard(training=stop), **options)
        part = metasiam.train(method, *data, resume=tmp_path / "part")
    assert part.config["machine"]["device"] == "cuda"
    kept, again = (load_embedder(run.path)[0].state_dict() for run in (whole, part))
    for name, value in kept.items():
        assert torch.equal(value, again[name]), name


class TinyEmbedder(nn.Module):
    """Two layers with BatchNorm, for images of 8 × 8 pixels."""

    embedding_size = 6

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten())
        self.output = nn.Linear(54, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.layers(images))  # type: ignore[no-any-return]


def leaves(value: Any, *path: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every value that is no dict or list, with the way to it."""
    if isinstance(value, (dict, list, tuple)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, *path, key)
    else:
        yield path, value


def nearly(value: Any) -> Any:
    """Allow what another order of the same float32 sums may change.

    One answer more or less is far outside of it, 12 points of 8 pairs or 0.1 of an AUC. Thresholds and probabilities
    are of scores about 1, rounded at 1e-7; Adam's steps of 0.001 can each go the other way where a gradient is zero.
    """
    return pytest.approx(value, rel=1e-3, abs=1e-3, nan_ok=True) if isinstance(value, float) else value


@pytest.mark.parametrize(
    "options",
    [
        {"adapt_steps": 2, "inference": ("mirror", "centre", "lda", "normalise", "logistic"), "shots": (0, "all")},
        {"adapt_steps": 2, "adapt_part": "head", "shots": (2,)},
        {"adapt_steps": 2, "curve_steps": (0, 1), "shots": (0, 2), "protocols": ("balanced", "reference")},
    ],
    ids=["inference", "head", "reference"],
)
def test_an_evaluation_is_the_same_as_on_the_cpu(options, tiny_domains, monkeypatch):
    # Adaptation takes bfloat16 where the processor multiplies it; the pretended GPU does not, so neither may.
    monkeypatch.setattr(machine, "_cpu_multiplies_bf16", lambda: False)
    domains = tiny_domains(domains=8, images=12)
    split = metasiam.split_domains(domains, held_out=2)
    few = {"pairs": 8, "triplets": 8, "episodes": 2, "queries": 1, "support_draws": 2, "reference_draws": 2}
    settings = ProtocolSettings(**few, bootstrap=100, **options)
    info = EmbedderInfo("tiny", image_size=domains.image_size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        embedder = TinyEmbedder().eval()
    expected = evaluate(embedder, info, domains, split, settings)
    with pretended_gpu(monkeypatch):
        ours = embedder.to(CUDA)
        assert isinstance(ours.output.weight, OnDevice)
        found = evaluate(ours, info, domains, split, settings)
    assert list(leaves(found.data)) == [(path, nearly(value)) for path, value in leaves(expected.data)]


@pytest.mark.parametrize("options", [{"mirror": True}, {"freeze": True}, {"loss": "contrastive"}, {"solver": "svm"}])
def test_training_on_pairs_works_there(options, tmp_path, monkeypatch):
    pairs = load_pairs("lfw", data_dir=write_lfw(Path(tmp_path)), image_size=16)
    quick = {"arch": "conv4", "head": "features", "batch_size": 32, "epochs": 2, "precision": "fp32", "folds": 2}
    with pretended_gpu(monkeypatch):
        trained = train_pairs(pairs, out=tmp_path / "run", device="cuda", **{**quick, **options})
    assert trained.run.config["machine"]["device"] == "cuda"
