"""Every vectorised loss equals the loop that its formula spells out."""

import math

import pytest
import torch
import torch.nn.functional as F

from metasiam import MetaSiamError
from metasiam.catalogue import LOSSES
from metasiam.losses import (
    BalancedSoftmax,
    SupervisedContrastive,
    contrastive,
    normalised_softmax,
    pair_bce,
    triplet_cosine,
    triplet_squared_euclidean,
)
from metasiam.objectives import build_objective


def batch(rows: int = 7, size: int = 5, dtype: torch.dtype = torch.float64, parts: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(rows, size, generator=generator, dtype=torch.float64).to(dtype) for _ in range(parts)]


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("margin", [0.0, 0.3, 1.0])
def test_triplet_cosine_equals_its_formula_triplet_by_triplet(dtype, margin):
    anchor, positive, negative = batch(dtype=dtype)
    terms = [max(0.0, margin - cosine(a, p) + cosine(a, n)) for a, p, n in zip(anchor, positive, negative, strict=True)]
    assert float(triplet_cosine(anchor, positive, negative, margin)) == pytest.approx(sum(terms) / len(terms), abs=1e-6)


@pytest.mark.parametrize("margin", [0.5, 1.0, 30.0])
def test_triplet_squared_euclidean_equals_its_formula_triplet_by_triplet(margin):
    anchor, positive, negative = batch()
    terms = [
        max(0.0, margin + float(((a - p) ** 2).sum()) - float(((a - n) ** 2).sum()))
        for a, p, n in zip(anchor, positive, negative, strict=True)
    ]
    assert float(triplet_squared_euclidean(anchor, positive, negative, margin)) == pytest.approx(sum(terms) / 7)


def test_contrastive_pulls_same_pairs_and_pushes_different_ones_up_to_the_margin():
    first, second = batch(parts=2)
    same = torch.tensor([True, False, True, False, False, True, False])
    terms = []
    for a, b, s in zip(first, second, same.tolist(), strict=True):
        distance = math.sqrt(float(((a - b) ** 2).sum()))
        terms.append(distance**2 if s else max(0.0, 3.0 - distance) ** 2)
    assert float(contrastive(first, second, same, 3.0)) == pytest.approx(sum(terms) / 7)


def test_contrastive_has_a_finite_gradient_where_two_images_coincide():
    point = torch.ones(1, 4, requires_grad=True)
    contrastive(point, torch.ones(1, 4), torch.tensor([False])).backward()
    assert torch.isfinite(point.grad).all()


def test_pair_bce_equals_minus_the_mean_log_probability_of_the_right_answer():
    logits = torch.tensor([2.0, -1.0, 0.0])
    same = torch.tensor([True, True, False])
    probability = [1 / (1 + math.exp(-x)) for x in logits.tolist()]
    expected = -(math.log(probability[0]) + math.log(probability[1]) + math.log(1 - probability[2])) / 3
    assert float(pair_bce(logits, same)) == pytest.approx(expected, rel=1e-6)


def test_normalised_softmax_is_the_cross_entropy_of_cosines_over_temperature():
    embeddings, proxies = batch(rows=4, parts=2)
    targets = torch.tensor([3, 0, 1, 1])
    terms = []
    for row, target in zip(embeddings, targets.tolist(), strict=True):
        logits = [cosine(row, proxy) / 0.1 for proxy in proxies]
        terms.append(math.log(sum(math.exp(x) for x in logits)) - logits[target])
    assert float(normalised_softmax(embeddings, proxies, targets, 0.1)) == pytest.approx(sum(terms) / 4)


def test_the_balanced_softmax_adds_the_log_of_how_often_the_task_shows_a_domain():
    embeddings = batch(rows=6, dtype=torch.float32, parts=1)[0]
    labels = torch.tensor([7, 5, 7, 5, 9, 6])  # anchors 7 and 5, their positives, two negatives; 5, 6, 7, 9 are seen
    objective = BalancedSoftmax(torch.tensor([5, 6, 7, 9]), embeddings.shape[1], 0.1)
    shares = {5: 1 / 3 + 1 / 12, 6: 1 / 12, 7: 1 / 3 + 1 / 12, 9: 1 / 12}  # two thirds shared by two, one third by four
    terms = []
    for row, label in zip(embeddings, labels.tolist(), strict=True):
        logits = {
            name: cosine(row, proxy) / 0.1 + math.log(shares[name])
            for name, proxy in zip(shares, objective.proxies.detach(), strict=True)
        }
        terms.append(math.log(sum(math.exp(x) for x in logits.values())) - logits[label])
    assert objective(embeddings, labels).item() == pytest.approx(sum(terms) / 6, rel=1e-5)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_objective_gives_a_scalar_whose_gradient_reaches_every_embedding_kind(name):
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(12, 6, generator=generator, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 1, 2, 3, 0])
    objective = build_objective(name, domains=torch.arange(4), embedding_size=6, generator=generator)
    loss = objective(embeddings, labels)
    assert loss.shape == ()
    loss.backward()
    assert torch.isfinite(embeddings.grad).all()
    assert float(embeddings.grad.abs().sum()) > 0


def test_the_mined_hard_loss_takes_the_hardest_positive_and_negative_of_each_anchor():
    embeddings = F.normalize(torch.randn(9, 4, generator=torch.Generator().manual_seed(5)), dim=1)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    terms = []
    for i in range(9):
        cosines = [cosine(embeddings[i], embeddings[j]) for j in range(9)]
        hardest_same = min(cosines[j] for j in range(9) if labels[j] == labels[i] and j != i)
        hardest_other = max(cosines[j] for j in range(9) if labels[j] != labels[i])
        terms.append(max(0.0, 0.3 - hardest_same + hardest_other))
    nonzero = [t for t in terms if t > 0]  # pytorch-metric-learning averages over the triplets that still cost
    objective = build_objective("mined-hard", domains=torch.arange(3), embedding_size=4, generator=torch.Generator())
    assert float(objective(embeddings, labels)) == pytest.approx(sum(nonzero) / len(nonzero), rel=1e-4)


def test_supcon_is_the_mean_over_an_images_partners_of_their_cross_entropy_among_all_others():
    embeddings, labels = batch(7, 4, torch.float32, 1)[0], torch.tensor([0, 0, 1, 1, 1, 2, 3])
    cosines = F.cosine_similarity(embeddings[:, None], embeddings[None], dim=2) / 0.1
    expected = []
    for anchor in range(5):  # the last two have no partner
        others = [i for i in range(7) if i != anchor]
        partners = [i for i in others if labels[i] == labels[anchor]]
        all_of_them = torch.logsumexp(cosines[anchor, others], 0)
        expected.append(sum(float(all_of_them - cosines[anchor, i]) for i in partners) / len(partners))
    found = SupervisedContrastive(0.1)(embeddings, labels)
    assert float(found) == pytest.approx(sum(expected) / 5, rel=1e-4)


def test_an_unknown_loss_is_named_with_the_ones_there_are():
    with pytest.raises(MetaSiamError, match=r"--loss hinge is unknown.*cosine"):
        build_objective("hinge", domains=torch.arange(2), embedding_size=2, generator=torch.Generator())
