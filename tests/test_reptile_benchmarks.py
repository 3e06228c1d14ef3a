"""The scripts behind the documentation's pages on Reptile measure what they say."""

import json

import pytest
import torch

import metasiam as ms
from benchmarks import published_reptile as published
from benchmarks import where_reptile_wins as adapting
from metasiam.data.domains import DomainSet
from metasiam.models.files import load_embedder
from metasiam.options.reptile import ReptileOptions


def test_weights_on_the_way_are_those_of_the_command(tiny_domains, tmp_path):
    domains = tiny_domains()
    split = ms.split_domains(domains, held_out=2)
    options = {"arch": "resnet8", "iterations": 2, "inner_epochs": 2, "batch_size": 4, "flip": True, "compile": "off"}
    published.train(domains, split, ReptileOptions(**options), [1], tmp_path / "kept")
    run = ms.train("reptile", domains, split, out=tmp_path / "run", **options)
    theirs = load_embedder(run.path)[0].state_dict()
    ours = {at: load_embedder(published.weights_at(tmp_path / "kept", at))[0].state_dict() for at in (0, 1, 2)}
    assert all(torch.equal(ours[2][name], theirs[name]) for name in theirs)
    assert not torch.equal(ours[0]["conv1.weight"], ours[1]["conv1.weight"])
    assert json.loads((tmp_path / "kept" / "training.json").read_text())["kept"] == [0, 1, 2]


def test_edges_are_how_steep_the_brightness_is():
    picture = torch.zeros(1, 3, 4, 6, dtype=torch.uint8)
    picture[..., 3:] = 100  # a step upright: Sobel's gradient over 4 is its height, on either side of it
    assert adapting._edges(picture)[0, 0, 1].tolist() == [0, 0, 100, 100, 0, 0]


@pytest.fixture
def pictures():
    images = torch.arange(12, dtype=torch.uint8).reshape(12, 1, 1, 1).expand(12, 1, 2, 2).clone()
    labels = torch.arange(2).repeat_interleave(6)
    return DomainSet(images, labels, ("a", "b"), torch.tensor([0, 0, 0, 1, 1, 1] * 2, dtype=torch.bool))


def test_inverted_pictures_are_white_where_they_were_black(pictures):
    assert adapting.looking(pictures, "inverted").images[0].unique().tolist() == [255]


def test_only_test_images_of_the_named_domains_are_left_out(pictures):
    kept = adapting.fewer_tests(pictures, [1], 2)
    assert kept.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


def test_the_rate_that_takes_steps_is_shown_even_where_no_step_helps(monkeypatch):
    harmful = {3e-4: [0.8, 0.7, 0.6, 0.5, 0.4], 1e-3: [0.8, 0.78, 0.6, 0.5, 0.4]}
    shares = lambda weights, domains, draws, shots, rate: [[[share, 0.0] for share in harmful[rate]]] * 2  # noqa: E731
    monkeypatch.setattr(adapting, "curves", shares)
    assert {key: adapting.choose(None, None, None, 5)[key] for key in ("rate", "steps")} == {"rate": 1e-3, "steps": 0}


def test_gains_are_those_of_the_chosen_steps():
    record = {"choice": {"rate": 1e-3, "steps": 2}, "trainings": [[[[0.5, 0.6], [0.7, 0.1], [0.9, 0.8]]] * 6] * 2}
    before, after = adapting.chosen(record, [0, 1, 2], "triplets")
    assert before.shape == (2, 6)
    assert (before.unique().tolist(), after.unique().tolist()) == ([0.5], [0.9])
    assert adapting._difference(after, before, paired=True).startswith("+40.0")
