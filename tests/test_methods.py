"""The field's few-shot methods: losses and gradients by hand, exact resume, training that helps."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from metasiam import MetaSiamError, split_domains
from metasiam.cli import run
from metasiam.interop import learn2learn
from metasiam.learners.context import prepare
from metasiam.losses import prototypical
from metasiam.methods import METHODS
from metasiam.options.training import options_of
from metasiam.training.distributed import Processes
from metasiam.training.learner import StopRequested

SETTINGS = {"arch": "resnet8", "device": "cpu", "precision": "fp32", "compile": "off", "flip": False}
MAML = {"ways": 4, "shots": 2, "queries": 3, "meta_batch": 2, "inner_steps": 2, "inner_rate": 0.05}
OPTIONS = {
    "baseline": {"batch_size": 16, "schedule": "cosine"},
    "protonet": {"ways": 4, "shots": 2, "queries": 3},
    "fomaml": MAML,
    "maml": MAML,
    "anil": MAML,
}


def make(method, domains, split, **options):
    if method in ("maml", "anil"):
        try:
            learn2learn()
        except MetaSiamError as error:
            pytest.skip(str(error))
    kind, build = METHODS[method].options, METHODS[method].learner
    config = options_of(kind, {**SETTINGS, **OPTIONS[method], **options})
    return build(config, prepare(config, domains, split), Processes())


def test_meta_gradients_are_never_compiled_nor_in_bf16_and_say_so(data):
    learner = make("fomaml", *data, precision="auto", compile="auto")
    assert (learner.context.precision, learner.context.compiled) == (torch.float32, False)
    for option in ({"precision": "bf16"}, {"compile": "on"}):
        with pytest.raises(MetaSiamError, match=f"fomaml has no --{next(iter(option))} {next(iter(option.values()))}"):
            make("fomaml", *data, **option)


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


def head_and_features(learner):
    embedder, head = learner.context.embedder, learner.context.objective.head
    network = torch.nn.Sequential(embedder, head)
    names, values = zip(*network.named_parameters(), strict=True)

    def loss(values, images):
        logits = torch.func.functional_call(network, dict(zip(names, values, strict=True)), (images,))
        return torch.nn.functional.cross_entropy(logits, torch.arange(4).repeat_interleave(len(images) // 4))

    return loss, values, ["1." in name[:2] for name in names]


@pytest.mark.parametrize("method", ["fomaml", "maml", "anil"])
def test_the_meta_gradient_is_that_of_functional_steps(data, method):
    learner = make(method, *data)
    support, query = learner.images(learner.context.generator("episode", 0, 0))
    assert (len(support), len(query)) == (8, 12)
    loss, start, in_head = head_and_features(learner)
    before = [value.detach().clone() for value in start]
    moved = list(start)
    if method == "anil":  # one BatchNorm batch of support and queries together
        rows = learner.context.embedder(torch.cat((support, query)))
        weight, bias = learner.context.objective.head.parameters()
        inner = [weight, bias]
        way = torch.arange(4)
        for _ in range(2):
            logits = torch.nn.functional.linear(rows[:8], *inner)
            fit = torch.nn.functional.cross_entropy(logits, way.repeat_interleave(2))
            steps = torch.autograd.grad(fit, inner, create_graph=True)
            inner = [value - 0.05 * step for value, step in zip(inner, steps, strict=True)]
        logits = torch.nn.functional.linear(rows[8:], *inner)
        final = torch.nn.functional.cross_entropy(logits, way.repeat_interleave(3))
        expected = torch.autograd.grad(final, start)
    else:
        for _ in range(2):
            steps = torch.autograd.grad(loss(moved, support), moved, create_graph=method == "maml")
            moved = [value - 0.05 * step for value, step in zip(moved, steps, strict=True)]
            moved = moved if method == "maml" else [value.detach().requires_grad_() for value in moved]
        final = loss(moved, query)
        expected = torch.autograd.grad(final, start if method == "maml" else moved)
    assert float(learner.add_gradients(support, query)) == pytest.approx(float(final.detach()), rel=1e-4)
    assert all(torch.equal(value, kept) for value, kept in zip(start, before, strict=True))
    for value, gradient in zip(start, expected, strict=True):
        torch.testing.assert_close(value.grad, gradient, rtol=2e-3, atol=2e-5)
    assert any(in_head)


@pytest.mark.parametrize("method", ["fomaml", "maml", "anil"])
def test_after_training_the_running_statistics_are_those_of_seen_images(data, method):
    learner = make(method, *data, iterations=1)
    learner.iterate(0, lambda: False)
    learner.finish()
    context = learner.context
    first = next(module for module in context.embedder.modules() if isinstance(module, torch.nn.BatchNorm2d))
    inputs = []
    first.register_forward_hook(lambda module, args, output: inputs.append(args[0]))
    naive_embeddings(learner, context.seen.images)
    torch.testing.assert_close(first.running_mean, inputs[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert not context.embedder.training


def test_an_interrupted_iteration_leaves_no_gradient_behind(data):
    learner = make("fomaml", *data)
    answers = iter((False, True))
    with pytest.raises(StopRequested):
        learner.iterate(0, lambda: next(answers))
    assert all(value.grad is None for value in learner.context.embedder.parameters())


@pytest.mark.parametrize("method", ["maml", "anil"])
def test_without_learn2learn_the_error_names_the_package(data, method, monkeypatch):
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    kind, build = METHODS[method].options, METHODS[method].learner
    config = options_of(kind, {**SETTINGS, **MAML})
    with pytest.raises(MetaSiamError, match="pip install 'learn2learn"):
        build(config, prepare(config, *data), Processes())


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


@pytest.mark.parametrize(
    ("method", "distance"),
    [
        ("baseline", "cosine"),
        ("protonet", "squared_euclidean"),
        ("fomaml", "cosine"),
        ("maml", "cosine"),
        ("anil", "cosine"),
    ],
)
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
        ("baseline", {"optimizer": "lion"}, "--optimizer lion is unknown"),
        ("fomaml", {"inner_rate": 0}, "--inner-rate must be a positive number, not 0"),
        ("anil", {"ways": 9}, "--ways 9 needs as many seen domains"),
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
    sets = [
        "reptile.inner_epochs=2",
        "protonet.ways=3",
        "protonet.shots=2",
        "protonet.queries=4",
        "fomaml.ways=3",
        "fomaml.shots=2",
        "fomaml.queries=2",
        "fomaml.meta_batch=1",
        "fomaml.inner_steps=2",
    ]
    assert run(["compare", "--methods", "reptile,triplet,protonet,baseline,fomaml", "--data", "npz:tiny.npz",
                "--held-out", "3",
                "--validation", "2", "--arch", "resnet8", "--batch-size", "6", "--device", "cpu", "--precision", "fp32",
                "--compile", "off", "--budget-images", "72", "--pairs", "40", "--adapt-shots", "0", "--out", "all",
                *(part for text in sets for part in ("--set", text))]) == 0  # fmt: skip
    for method, each in (("reptile", 36), ("triplet", 18), ("protonet", 18), ("baseline", 6), ("fomaml", 18)):
        config = json.loads(Path(f"all/{method}/config.json").read_text())
        assert config["images_per_iteration"] == each
        assert config["total_iterations"] * each == 72
