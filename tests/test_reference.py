"""The published systems' own measurements: reproduced by hand on tiny data, and on the published weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from metasiam.data.domains import DomainSet
from metasiam.data.splitting import split_domains
from metasiam.evaluation.draws import by_domain
from metasiam.evaluation.embedding import embed_images
from metasiam.evaluation.episodes import all_way_one_shot
from metasiam.evaluation.protocol import evaluate
from metasiam.evaluation.reference import reference_protocol
from metasiam.models.files import EmbedderInfo, load_embedder
from metasiam.options.evaluation import ProtocolSettings
from metasiam.training.machine import generator_for

INFO = EmbedderInfo("tiny", image_size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
PROTOCOLS = ("balanced", "reference")
SETTINGS = ProtocolSettings(shots=(0,), reference_draws=30, bootstrap=100, protocols=("reference",))


class Pixels(nn.Module):
    """The image itself as its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_size = 192
        self.weight = nn.Parameter(torch.eye(192) + 0.01)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight


@pytest.fixture
def domains(tiny_domains: Callable[..., DomainSet]) -> DomainSet:
    return tiny_domains(8, 12, test_images=5)


def test_the_few_shot_score_is_the_mean_of_running_means_over_the_classes(domains: DomainSet) -> None:
    found = reference_protocol(Pixels(), INFO, domains, split_domains(domains, held_out=4), SETTINGS)["few_shot"]
    pool = domains.pool(range(4, 8), "test")
    rows = embed_images(Pixels(), INFO, domains, pool.images)
    owner = domains.labels[pool.images]
    supports = all_way_one_shot(pool, 30, generator_for("cpu", 0, "reference", "supports"))
    scores, plain = [], []
    for support in supports:
        right: list[float] = []
        running = []
        for place in support:
            same = rows @ rows[place] > 0.2
            right += ((same) == (owner == owner[place])).double().tolist()
            running.append(sum(right) / len(right))
        scores.append(sum(running) / len(running))
        plain.append(running[-1])
    assert found["mean"] == pytest.approx(100 * sum(scores) / 30)
    assert found["plain_accuracy"] == pytest.approx(100 * sum(plain) / 30)
    assert found["sd"] == pytest.approx(100 * float(torch.tensor(scores).double().std()))
    assert found["constant_answer"] == pytest.approx(75)
    assert found["draws"] == 30


def test_an_embedder_that_says_nothing_scores_as_always_answering_same_or_different(domains: DomainSet) -> None:
    constant = Pixels()
    with torch.no_grad():
        constant.weight.zero_()  # embeddings of zeros: every cosine is 0, below 0.2
    found = reference_protocol(constant, INFO, domains, split_domains(domains, held_out=4), SETTINGS)
    assert found["few_shot"]["mean"] == pytest.approx(found["few_shot"]["constant_answer"])
    assert found["few_shot"]["sd"] == pytest.approx(0)
    assert found["seen_pairs"]["mean"] == pytest.approx(50)
    assert found["seen_triplet"]["mean"] == 0


def test_the_reference_alone_is_labelled_and_leads_nothing(domains: DomainSet) -> None:
    data = evaluate(Pixels(), INFO, domains, split_domains(domains, held_out=4), SETTINGS).data
    assert set(data) == {"schema", "protocol", "reference_protocol"}
    assert data["protocol"]["protocols"] == ["reference"]
    assert "meta" not in data["reference_protocol"]


def test_the_meta_seeds_measurement_adapts_to_each_class(domains: DomainSet) -> None:
    settings = replace(SETTINGS, shots=("all",))
    found = reference_protocol(Pixels(), INFO, domains, split_domains(domains, held_out=2), settings)["meta"]
    assert [row["task"] for row in found["tasks"]] == [6, 7]
    assert found["threshold"] == 0.7
    mean = sum(row["pair_accuracy"] for row in found["tasks"]) / 2
    assert found["pair_accuracy"]["mean"] == pytest.approx(mean)
    assert set(by_domain(domains.pool([6, 7], "train"))) == {6, 7}


def test_both_protocols_at_once_give_what_each_gives_alone_and_embed_once(
    domains: DomainSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, settings = split_domains(domains, held_out=4), replace(SETTINGS, pairs=20, triplets=20, episodes=5)
    alone = [evaluate(Pixels(), INFO, domains, split, replace(settings, protocols=(name,))).data for name in PROTOCOLS]
    embedded = []
    ordinary = Pixels.forward

    def forward(self: Pixels, images: Tensor) -> Tensor:
        embedded.append(len(images))
        return ordinary(self, images)

    monkeypatch.setattr(Pixels, "forward", forward)
    both = evaluate(Pixels(), INFO, domains, split, replace(settings, protocols=PROTOCOLS)).data
    assert both["reference_protocol"] == alone[1]["reference_protocol"]
    assert both["held_out"] == alone[0]["held_out"]
    assert sum(embedded) <= len(domains.labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "held_out", "triplet", "pairs", "few_shot", "deviation", "constant", "tolerance", "balanced"),
    [
        ("classic-90-10.pt", 10, 88.3, 81.0, 78.8, 4.4, 90.0, 1.0, (87.9, 80.9)),
        ("classic-50-50.pt", 50, 86.8, 78.3, 75.2, 1.9, 98.0, 1.5, (85.7, 79.1)),
    ],
)
def test_published_weights_score_as_published_and_as_known_in_the_balanced_protocol(
    cifar100: DomainSet,
    shared_data: Path,
    file: str,
    held_out: int,
    triplet: float,
    pairs: float,
    few_shot: float,
    deviation: float,
    constant: float,
    tolerance: float,
    balanced: tuple[float, float],
) -> None:
    embedder, info = load_embedder(shared_data / "data" / "reference" / file, arch="resnet56")
    split = split_domains(cifar100, held_out=held_out)
    settings = ProtocolSettings(
        shots=(0,), regimes=("closed",), episodes=0, support_draws=0, protocols=("balanced", "reference")
    )
    data = evaluate(embedder, info, cifar100, split, settings).data
    seen = data["seen"]["closed"]["0"]
    assert seen["triplet_accuracy"]["mean"] == pytest.approx(balanced[0], abs=0.7)
    assert seen["pair_accuracy"]["fixed"]["mean"] == pytest.approx(balanced[1], abs=0.7)
    found = data["reference_protocol"]
    assert found["seen_triplet"]["mean"] == pytest.approx(triplet, abs=tolerance)
    assert found["seen_pairs"]["mean"] == pytest.approx(pairs, abs=tolerance)
    assert found["few_shot"]["mean"] == pytest.approx(few_shot, abs=1.5)
    assert found["few_shot"]["sd"] == pytest.approx(deviation, abs=0.6)
    assert found["few_shot"]["constant_answer"] == pytest.approx(constant)
