"""Losses of pytorch-metric-learning and of other packages, by name and as objects: trained, saved, resumed."""

import sys

import pytest
import torch
from foreign import install
from torch import nn
from torch.nn import functional as F

import metasiam as ms
from metasiam import catalogue
from metasiam.objectives import build_objective
from metasiam.options.training import read_loss_options

SMALL = {"batch_size": 4, "device": "cpu", "precision": "fp32", "compile": "off", "arch": "resnet8"}
DOMAINS = torch.tensor([1, 3, 4, 7])  # those trained on, of eight


@pytest.fixture
def data(tiny_domains):
    domains = tiny_domains(domains=8, images=12, size=8)
    return domains, ms.split_domains(domains, held_out=3, validation=2)


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    install(tmp_path / "site")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    monkeypatch.setattr(catalogue, "_GIVEN", set())
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "foreignkit"]:
        del sys.modules[name]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(12, 6, generator=generator, requires_grad=True)
    return embeddings, DOMAINS[torch.arange(12) % 4]


def objective(name, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_objective(
            name, options=options, domains=DOMAINS, embedding_size=6, generator=torch.Generator().manual_seed(0)
        )


def test_a_loss_by_name_is_theirs_on_rows_of_the_domains_that_are_trained_on(batch):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    embeddings, labels = batch
    made = objective("pml:ProxyAnchorLoss", margin=0.2, alpha=16)
    theirs = losses.ProxyAnchorLoss(num_classes=4, embedding_size=6, margin=0.2, alpha=16)
    theirs.load_state_dict(made.loss.state_dict())
    assert made.loss.proxies.shape == (4, 6)
    assert torch.equal(made(embeddings, labels), theirs(embeddings, torch.arange(12) % 4))
    assert made.distance == "cosine"


def test_their_miners_and_distances_are_named_too(batch):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    from pytorch_metric_learning import distances, miners

    embeddings, labels = batch
    made = objective(
        "pml:TripletMarginLoss",
        **{"miner": "MultiSimilarityMiner", "miner.epsilon": 0.3, "distance": "LpDistance", "margin": 0.4},
        **{"distance.normalize_embeddings": False},
    )
    mined = miners.MultiSimilarityMiner(epsilon=0.3)(embeddings, labels)
    distance = distances.LpDistance(normalize_embeddings=False)
    theirs = losses.TripletMarginLoss(margin=0.4, distance=distance)(embeddings, labels, mined)
    assert torch.equal(made(embeddings, labels), theirs)
    assert made.distance == "squared_euclidean"


#: Parameters that a loss of theirs cannot do without.
NEEDED = {
    "CrossBatchMemory": {"loss": "NTXentLoss", "memory_size": 24},
    "RankedListLoss": {"margin": 0.4, "Tn": 2},
    "HistogramLoss": {"n_bins": 20},
    "LargeMarginSoftmaxLoss": {"margin": 2},
    "SphereFaceLoss": {"margin": 2},
}


def losses_of_theirs():
    try:
        from pytorch_metric_learning import losses
    except ImportError:
        return []
    others = ("Base", "SelfSupervised", "VICReg", "MultipleLosses", "Generic", "Manifold")
    found = [name for name in dir(losses) if isinstance(getattr(losses, name), type) and name.endswith("Loss")]
    return [name for name in [*found, "CrossBatchMemory"] if not name.startswith(others) and "Mixin" not in name]


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # in their HistogramLoss
@pytest.mark.parametrize("name", losses_of_theirs())
def test_every_loss_of_theirs_gives_a_scalar_that_reaches_the_embeddings(name, batch):
    embeddings, labels = batch
    loss = objective(f"pml:{name}", **NEEDED.get(name, {}))(embeddings, labels)
    loss.backward()
    assert loss.shape == ()
    assert float(embeddings.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("pml:ProxyAnchor", {}, r"losses have no 'ProxyAnchor'\. They are: AngularLoss, ArcFaceLoss"),
        ("pml:ProxyAnchorLoss", {"marign": 1}, r"pml:ProxyAnchorLoss has no parameter 'marign'\. It has: alpha, "),
        ("pml:ProxyAnchorLoss", {"num_classes": 1}, "has no parameter 'num_classes'"),
        ("pml:NTXentLoss", {"miner.epsilon": 1}, "has miner options and no miner"),
        ("pml:NTXentLoss", {"miner": "Nobody"}, "miners have no 'Nobody'"),
        ("pml:LargeMarginSoftmaxLoss", {"margin": "much"}, "pml:LargeMarginSoftmaxLoss cannot be made so"),
        ("pml:VICRegLoss", {}, "is not called with a batch and its labels"),
        ("cosine", {"alpha": 1}, r"the loss cosine has no parameter 'alpha'\. It has: margin\."),
    ],
)
def test_what_a_loss_does_not_take_is_told_in_one_line(name, options, text):
    pytest.importorskip("pytorch_metric_learning")
    with pytest.raises(ms.MetaSiamError, match=text):
        objective(name, **options)


def test_parameters_are_typed_as_numbers_and_words():
    given = ["loss.margin=0.1", "loss.alpha=32", "loss.miner=BatchHardMiner", "loss.flag=true"]
    assert read_loss_options(given) == {"margin": 0.1, "alpha": 32, "miner": "BatchHardMiner", "flag": True}
    for wrong in ("margin=0.1", "loss.margin", "loss.=3"):
        with pytest.raises(ms.MetaSiamError, match="is not loss.NAME=VALUE"):
            read_loss_options([wrong])


class Counting(nn.Module):
    """A loss with a parameter, a buffer, a plain counter and a draw of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64))
        self.register_buffer("mean", torch.zeros(64))
        self.calls = 0

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.mean.lerp_(embeddings.detach().mean(0), 0.5)
        kept = F.dropout(embeddings * self.weight - self.mean, 0.3)
        return kept.square().mean() / (1 + 0.1 * self.calls) - (embeddings @ embeddings.t())[0, 1]


@pytest.mark.parametrize(
    ("method", "loss"),
    [
        ("triplet", Counting),
        ("reptile", Counting()),
        ("triplet", "pml:CrossBatchMemory"),
        ("triplet", "foreign-centres"),
    ],
)
def test_a_loss_resumes_to_equal_bits_with_all_that_it_keeps(foreign, data, tmp_path, monkeypatch, method, loss):
    pytest.importorskip("pytorch_metric_learning")
    from metasiam.learners.optimized import OptimizedLearner
    from metasiam.learners.reptile import Reptile
    from metasiam.learners.triplet import Triplet
    from metasiam.training.learner import StopRequested

    options = {"iterations": 6, "lr": 0.01, "loss": loss} | ({"inner_epochs": 2} if method == "reptile" else {})
    if loss == "pml:CrossBatchMemory":
        options["loss_options"] = {"loss": "NTXentLoss", "memory_size": 20}
    whole = ms.train(method, *data, out=tmp_path / "whole", **SMALL, **options)
    learner = Reptile if method == "reptile" else Triplet
    assert learner is Reptile or issubclass(learner, OptimizedLearner)
    iterate = learner.iterate

    def stop_at_three(self, iteration, stop):
        if iteration == 3:
            raise StopRequested
        return iterate(self, iteration, stop)

    monkeypatch.setattr(learner, "iterate", stop_at_three)
    with pytest.raises(ms.TrainingStopped):
        ms.train(method, *data, out=tmp_path / "parts", **SMALL, **options)
    monkeypatch.setattr(learner, "iterate", iterate)
    again = {} if isinstance(loss, str) else {"loss": loss}
    parts = ms.train(method, *data, resume=tmp_path / "parts", **again)
    one, other = (ms.load_embedder(run.path)[0].state_dict() for run in (whole, parts))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_parameters_of_a_loss_are_stored_and_hold_when_it_is_resumed(data, tmp_path):
    pytest.importorskip("pytorch_metric_learning")
    options = {"loss": "pml:ProxyAnchorLoss", "loss_options": {"margin": 0.2}}
    run = ms.train("triplet", *data, out=tmp_path / "run", iterations=1, **options, **SMALL)
    assert run.config["options"]["loss_options"] == {"margin": 0.2}
    with pytest.raises(ms.MetaSiamError, match=r"--loss-options cannot change when resuming: .*'margin': 0\.2"):
        ms.train("triplet", *data, resume=run.path, loss_options={"margin": 0.3})


def test_a_function_with_parameters_and_a_place_are_losses_as_well(foreign, data, tmp_path):
    def weighted(rows, places, weight):
        return weight * rows.square().mean()

    with pytest.raises(ms.MetaSiamError, match="does not take these batches: .*weight"):
        ms.train("triplet", *data, out=tmp_path / "a", iterations=1, loss=weighted, **SMALL)
    options = {"loss_options": {"weight": 0.5}}
    assert ms.train("triplet", *data, out=tmp_path / "b", iterations=1, loss=weighted, **options, **SMALL)
    place = "foreignkit.losses:spread"
    run = ms.train("triplet", *data, out=tmp_path / "c", iterations=1, loss=place, **SMALL)
    assert run.config["options"]["loss"] == place


def test_a_loss_that_returns_no_scalar_is_told(data, tmp_path):
    with pytest.raises(ms.MetaSiamError, match=r"the loss rows must return a scalar tensor, not \[12\]"):
        ms.train("triplet", *data, out=tmp_path / "a", iterations=1, loss=rows, **SMALL)


def rows(embeddings, labels):
    return embeddings.sum(1)
