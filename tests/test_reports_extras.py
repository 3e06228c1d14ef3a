"""From answers to pictures, curves and histograms: the surest pairs of several classes, and which pairs they are of."""

from __future__ import annotations

from collections import Counter

import torch

from metasiam.data.domains import DomainSet
from metasiam.evaluation.result import Evaluation, TaskResult
from metasiam.reports.extras import extras_of
from metasiam.reports.inputs import Extras
from metasiam.reports.pictures import confidence

EACH = 20


def domains(count: int) -> DomainSet:
    images = torch.arange(count * EACH, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    labels = torch.arange(count).repeat_interleave(EACH)
    return DomainSet(images, labels, tuple("abcdefgh"[:count]), torch.arange(count * EACH) % 2 == 0)


def result(domain: int, probability: torch.Tensor, scores: torch.Tensor) -> TaskResult:
    """Return right answers about pairs of neighbouring images of one domain; a last one, barely, that it differs."""
    scores, probability = torch.cat((scores, torch.tensor([-0.01]))), torch.cat((probability, torch.tensor([0.5])))
    first = torch.arange(0, 2 * len(scores), 2) + domain * EACH
    return TaskResult(
        domain=domain,
        name="abcdefgh"[domain],
        part="held_out",
        regime="closed",
        shots="5",
        scores=scores,
        same=torch.arange(len(scores)) < len(scores) - 1,
        probability=probability,
        pair_images=torch.stack((first, first + 1)),
        triplets_right=torch.ones(4, dtype=torch.bool),
        triplet_images=torch.zeros(3, 4, dtype=torch.int64),
        thresholds={"fixed": 0.2, "global": 0.0, "per_task": 0.0, "oracle": 0.0},
        known=None,
    )


def shown(*results: TaskResult) -> Extras:
    rows = [{"task": one.domain, "name": one.name, "regime": "closed", "shots": "5"} for one in results]
    return extras_of({"m": Evaluation({"held_out": {"tasks": rows}}, results, {})}, domains(len(results)))


def test_the_surest_pairs_are_shown_by_probability_and_at_most_two_of_one_class() -> None:
    torch.manual_seed(0)
    near, far = torch.rand(6) * 0.1 + 0.1, torch.rand(6) * 0.1 + 5
    # Whoever goes by the distance to the threshold would show domain 0; by probability, it comes last.
    sure = [torch.linspace(0.7, 0.71, 6) + 0.05 * place for place in range(5)]
    results = [result(0, torch.linspace(0.6, 0.7, 6), far), *(result(d, sure[d - 1], near) for d in range(1, 6))]
    pictures = shown(*results).pictures
    assert Counter(picture.first_name for picture in pictures) == {"f": 2, "e": 2, "d": 2, "c": 2}
    for name in "fedc":
        own = torch.tensor([confidence(picture) for picture in pictures if picture.first_name == name])
        torch.testing.assert_close(own, results["abcdef".index(name)].probability[-3:-1].flip(0))
    few = shown(*results[:2]).pictures
    assert Counter(picture.first_name for picture in few) == {"a": 2, "b": 2}


def test_of_equally_sure_pairs_those_furthest_from_the_threshold_are_shown() -> None:
    scores = torch.tensor([0.1, 0.5, 0.3, 0.9, 0.2])
    pictures = shown(result(0, torch.ones(5), scores)).pictures
    assert [round(picture.similarity, 1) for picture in pictures] == [0.9, 0.5]


def test_curves_and_histograms_name_the_regime_and_the_images_known() -> None:
    found = shown(result(0, torch.ones(4), torch.rand(4)), result(1, torch.ones(4), torch.rand(4)))
    assert found.roc[0].condition == found.histograms[0].condition == "closed, 5 images known"
