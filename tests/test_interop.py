"""learn2learn's own samplers and algorithms on our data, and its data as ours."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from metasiam import MetaSiamError, build_embedder
from metasiam.data.augment import normalise
from metasiam.interop import EmbedderClassifier, EpisodeTasks, domain_set, learn2learn, meta_dataset

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def l2l():
    try:
        return learn2learn()
    except MetaSiamError as error:
        pytest.skip(str(error))


@pytest.fixture
def domains(tiny_domains):
    return tiny_domains(domains=8, images=12, size=16)


@pytest.fixture
def pool(domains):
    return domains.pool(range(6), "train")


def episodes(domains, pool, **changes):
    options = {"ways": 3, "shots": 2, "queries": 2, "generator": torch.Generator().manual_seed(0), **changes}
    return EpisodeTasks(domains, pool, **options)


def network(ways=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return EmbedderClassifier(build_embedder("conv4", image_size=(16, 16)), ways)


def test_both_sides_see_equal_images_and_labels(l2l, domains, pool):
    ours = meta_dataset(domains, pool)
    mean, std = domains.channel_statistics(pool)
    assert len(ours) == len(pool.images)
    for place in (0, 7, len(ours) - 1):
        image, label = ours[place]
        index = pool.images[place]
        assert label == int(domains.labels[index])
        torch.testing.assert_close(image, normalise(domains.images[index][None], mean, std)[0])
    rebuilt = l2l.data.MetaDataset(ours.dataset)  # learn2learn goes through every item
    assert rebuilt.labels_to_indices == ours.labels_to_indices
    assert rebuilt.indices_to_labels == ours.indices_to_labels


def test_learn2learns_tasks_never_leave_the_pool(l2l, domains, pool):
    data = meta_dataset(domains, pool)
    t = l2l.data.transforms
    tasks = l2l.data.Taskset(
        data, [t.NWays(data, 3), t.KShots(data, 4), t.LoadData(data), t.RemapLabels(data)], num_tasks=5
    )
    known = {tuple(data[place][0].flatten().tolist()) for place in range(len(data))}
    for _ in range(5):
        images, labels = tasks.sample()
        assert images.shape == (12, 3, 16, 16)
        assert labels.bincount().tolist() == [4, 4, 4]
        assert all(tuple(image.flatten().tolist()) in known for image in images)


def test_our_tasks_are_what_the_sampler_drew(domains, pool):
    index = episodes(domains, pool).sample_indices()
    images, labels = episodes(domains, pool).sample()
    mean, std = domains.channel_statistics(pool)
    torch.testing.assert_close(images, normalise(domains.images[index.flatten()], mean, std))
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert all(len(set(domains.labels[row].tolist())) == 1 for row in index)
    assert len({int(domains.labels[row[0]]) for row in index}) == 3
    assert index.unique().numel() == 12
    assert not domains.is_test[index].any()


def test_tasks_can_be_counted_iterated_and_indexed(domains, pool):
    tasks = episodes(domains, pool, count=3)
    assert len(tasks) == 3
    assert len(list(tasks)) == 3
    assert tasks[2][0].shape == (12, 3, 16, 16)
    with pytest.raises(IndexError):
        tasks[3]
    endless = iter(episodes(domains, pool))
    assert not torch.equal(next(endless)[0], next(endless)[0])


def test_tasks_that_cannot_be_drawn_are_refused(domains, pool):
    with pytest.raises(ValueError, match="7 ways of 6 domains"):
        episodes(domains, pool, ways=7)
    with pytest.raises(ValueError, match="only 8 images, a task takes 9"):
        episodes(domains, pool, queries=7)


@pytest.mark.parametrize("first_order", [True, False])
def test_one_maml_step_equals_the_gradients_by_hand(l2l, domains, pool, first_order):
    images, labels = episodes(domains, pool).sample()
    support = torch.arange(12) % 4 < 2
    model = network()
    maml = l2l.algorithms.MAML(model, lr=0.1, first_order=first_order)
    clone = maml.clone()
    clone.adapt(F.cross_entropy(clone(images[support]), labels[support]))
    F.cross_entropy(clone(images[~support]), labels[~support]).backward()
    got = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    plain = network()
    names, start = zip(*plain.named_parameters(), strict=True)

    def loss(values, part):
        state = dict(zip(names, values, strict=True))
        return F.cross_entropy(torch.func.functional_call(plain, state, (images[part],)), labels[part])

    gradients = torch.autograd.grad(loss(start, support), start, create_graph=not first_order)
    moved = [value - 0.1 * gradient for value, gradient in zip(start, gradients, strict=True)]
    expected = torch.autograd.grad(loss(moved, ~support), start)
    for name, gradient in zip(names, expected, strict=True):
        torch.testing.assert_close(got[name], gradient, rtol=1e-3, atol=1e-5)


def test_anil_adapts_the_head_and_trains_the_features(l2l, domains, pool):
    model = network()
    head = l2l.algorithms.MAML(model.head, lr=0.5)
    optimizer = torch.optim.Adam([*model.features.parameters(), *head.parameters()], 3e-3)
    before = next(model.features.parameters()).detach().clone()
    tasks = episodes(domains, pool, queries=6)
    support = torch.arange(24) % 8 < 2
    losses = []
    for _ in range(30):
        images, labels = tasks.sample()
        rows = model.features(images)
        learner = head.clone()
        for _ in range(3):
            learner.adapt(F.cross_entropy(learner(rows[support]), labels[support]))
        loss = F.cross_entropy(learner(rows[~support]), labels[~support])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert not torch.equal(before, next(model.features.parameters()))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_prototypes_on_learn2learns_tasks_tell_blobs_apart(l2l, domains, pool):
    data = meta_dataset(domains, pool)
    t = l2l.data.transforms
    tasks = l2l.data.Taskset(data, [t.NWays(data, 3), t.KShots(data, 4), t.LoadData(data), t.RemapLabels(data)])
    right = []
    for _ in range(20):
        images, labels = tasks.sample()
        order = torch.argsort(labels, stable=True)
        rows = images[order].flatten(1).reshape(3, 4, -1)
        prototypes, queries = rows[:, :2].mean(1), rows[:, 2:].flatten(0, 1)
        guess = torch.cdist(queries, prototypes).argmin(1)
        right.append((guess == torch.arange(3).repeat_interleave(2)).float().mean())
    assert float(torch.stack(right).mean()) > 0.8


@pytest.mark.parametrize("arch", ["resnet8", "resnet12", "conv4"])
def test_any_embedder_goes_through_gbml(l2l, domains, pool, arch):
    model = EmbedderClassifier(build_embedder(arch, image_size=(16, 16)), 3)
    images, labels = episodes(domains, pool).sample()
    learner = l2l.algorithms.GBML(model, l2l.optim.transforms.ModuleTransform(torch.nn.Identity), lr=0.01)
    clone = learner.clone()
    clone.adapt(F.cross_entropy(clone(images), labels))
    F.cross_entropy(clone(images), labels).backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_a_taskset_comes_back_as_the_same_domains(l2l, domains, pool):
    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return len(pool.images)

        def __getitem__(self, place):
            index = pool.images[place]
            return domains.images[index], int(domains.labels[index])

    back = domain_set(l2l.data.Taskset(l2l.data.MetaDataset(Pictures())), names=domains.names[:6])
    assert torch.equal(back.images, domains.images[pool.images])
    assert torch.equal(back.labels, domains.labels[pool.images])
    assert back.names == domains.names[:6]
    assert not back.is_test.any()


def test_pillow_arrays_and_floats_become_the_same_domain_set(domains):
    some = domains.images[:6]
    arrays = [image.permute(1, 2, 0).numpy() for image in some]
    kinds = (arrays, [Image.fromarray(array) for array in arrays], list(some), list(some.float() / 255))
    for images in kinds:
        found = domain_set([(image, 10 * (place // 3)) for place, image in enumerate(images)], part="test")
        assert torch.equal(found.images, some)
        assert found.names == ("0", "10")
        assert found.is_test.all()
    grey = domain_set([(np.zeros((4, 4), np.uint8), 0), (np.ones((4, 4), np.uint8), 0)])
    assert grey.images.shape == (2, 1, 4, 4)


def test_what_cannot_become_a_domain_set_says_why():
    flat = torch.zeros(3, 4, 4)
    with pytest.raises(MetaSiamError, match="without Normalize"):
        domain_set([(flat - 1, 0), (flat, 0)])
    with pytest.raises(MetaSiamError, match="Resize them"):
        domain_set([(flat, 0), (torch.zeros(3, 5, 5), 0)])
    with pytest.raises(MetaSiamError, match="no images"):
        domain_set([])
    with pytest.raises(MetaSiamError, match="1 label and 2 names"):
        domain_set([(flat, 0), (flat, 0)], names=("a", "b"))


def test_without_learn2learn_the_error_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    with pytest.raises(MetaSiamError, match="pip install 'learn2learn"):
        learn2learn()


def test_the_example_runs(l2l, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["learn2learn_maml.py", "--iterations", "2", "--test-tasks", "2"])
    monkeypatch.setenv("METASIAM_DATA", os.environ.get("METASIAM_DATA", str(tmp_path)))
    runpy.run_path(str(EXAMPLES / "learn2learn_maml.py"), run_name="__main__")
    assert "held-out 5-way 1-shot accuracy" in capsys.readouterr().out
