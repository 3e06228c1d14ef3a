"""The cosine baseline and prototypical networks: losses by hand, exact resume, training that helps."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from metasiam import MetaSiamError, split_domains
from metasiam.cli import run
from metasiam.config import config_from
from metasiam.learners import METHODS
from metasiam.learners.context import prepare
from metasiam.losses import prototypical
from metasiam.training.distributed import Processes

SETTINGS = {"arch": "resnet8", "device": "cpu", "precision": "fp32", "compile": "off", "flip": False}
OPTIONS = {
    "baseline": {"batch_size": 16, "schedule": "cosine"},
    "protonet": {"ways": 4, "shots": 2, "queries": 3},
}


def make(method, domains, split, **options):
    kind, build = METHODS[method]
    config = config_from(kind, {**SETTINGS, **OPTIONS[method], **options})
    return build(config, prepare(config, domains, split), Processes())


def naive_embeddings(learner, index):
    context = learner.context
    pixels = context.domains.images[index].float() / 255
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (context.info.mean, context.info.std))
    return context.embedder((pixels - mean) / std)


@pytest.fixture
def data(tiny_domains):
    domains = tiny_domains(domains=8, images=12)
    return domains, split_domains(domains, held_out=3)


def test_the_prototypical_loss_is_that_of_loops():
    embeddings = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    losses = []
    for way in range(3):
        for query in embeddings[way, 2:]:
            scores = torch.stack([-((query - embeddings[other, :2].mean(0)) ** 2).sum() for other in range(3)])
            losses.append(-torch.log(scores.exp()[way] / scores.exp().sum()))
    torch.testing.assert_close(prototypical(embeddings, 2), torch.stack(losses).mean())


def test_baselines_iteration_is_cross_entropy_on_scaled_cosines(data):
    learner = make("baseline", *data)
    index = learner.draw_batch(learner.context.generator("step", 0))[0]
    rows, proxies = naive_embeddings(learner, index), learner.context.objective.proxies
    logits = torch.cosine_similarity(rows[:, None], proxies[None], dim=2) / 0.05
    expected = torch.nn.functional.cross_entropy(logits, data[0].labels[index])
    assert float(learner.iterate(0, lambda: False)) == pytest.approx(float(expected.detach()), rel=1e-3)


def test_protonets_iteration_is_an_episode_of_different_domains_and_images(data):
    learner = make("protonet", *data)
    index = learner.draw_batch(learner.context.generator("step", 0))[0]
    labels = data[0].labels[index].view(4, 5)
    assert (labels == labels[:, :1]).all()
    assert len(labels.unique()) == 4
    assert len(index.unique()) == 20
    expected = prototypical(naive_embeddings(learner, index).view(4, 5, -1), 2)
    assert float(learner.iterate(0, lambda: False)) == pytest.approx(float(expected.detach()), rel=1e-3)


@pytest.mark.parametrize("method", OPTIONS)
def test_a_learner_that_took_up_a_state_goes_on_bit_for_bit(data, method):
    whole, resumed = make(method, *data, iterations=4), make(method, *data, iterations=4)
    for i in range(4):
        whole.iterate(i, lambda: False)
        if i == 1:
            state = whole.state()
    resumed.load(state)
    for i in (2, 3):
        resumed.iterate(i, lambda: False)
    pairs = zip(
        whole.context.embedder.state_dict().values(), resumed.context.embedder.state_dict().values(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("method", "distance"), [("baseline", "cosine"), ("protonet", "squared_euclidean")])
def test_training_lowers_the_loss_of_fresh_batches(tiny_domains, method, distance):
    domains = tiny_domains(domains=14, images=16)
    learner = make(method, domains, split_domains(domains, held_out=3), lr=0.003, iterations=40)
    losses = [float(learner.iterate(iteration, lambda: False)) for iteration in range(40)]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert learner.context.info.distance == distance


def test_bad_options_are_said_in_one_line(data):
    for method, options, text in (
        ("protonet", {"ways": 9}, "--ways 9 needs as many seen domains, there are 5"),
        ("protonet", {"queries": 30}, "need 32 images of a domain, one has 8"),
        ("baseline", {"loss": "cosine"}, "baseline's --loss cosine is unknown"),
    ):
        with pytest.raises(MetaSiamError, match=text):
            make(method, *data, **options)


def test_compare_trains_all_methods_under_one_budget(tmp_path, tiny_domains, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METASIAM_DATA", str(tmp_path / "data"))
    tiny = tiny_domains(domains=8, images=12)
    parts = {}
    for name, part in (("train", ~tiny.is_test), ("test", tiny.is_test)):
        parts[f"{name}_images"] = tiny.images[part].permute(0, 2, 3, 1).numpy()
        parts[f"{name}_labels"] = tiny.labels[part].numpy()
    np.savez("tiny.npz", **parts)
    sets = ["reptile.inner_epochs=2", "protonet.ways=3", "protonet.shots=2", "protonet.queries=4"]
    assert run(["compare", "--methods", "reptile,triplet,protonet,baseline", "--data", "npz:tiny.npz",
                "--held-out", "3",
                "--validation", "2", "--arch", "resnet8", "--batch-size", "6", "--device", "cpu", "--precision", "fp32",
                "--compile", "off", "--budget-images", "72", "--pairs", "40", "--adapt-shots", "0", "--out", "all",
                *(part for text in sets for part in ("--set", text))]) == 0  # fmt: skip
    for method, each in (("reptile", 36), ("triplet", 18), ("protonet", 18), ("baseline", 6)):
        config = json.loads(Path(f"all/{method}/config.json").read_text())
        assert config["images_per_iteration"] == each
        assert config["total_iterations"] * each == 72
