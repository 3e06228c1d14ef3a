"""From the answers behind an evaluation to what a report shows next to the numbers: pictures, ROC, histograms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from metasiam.data.domains import DomainSet
from metasiam.evaluation.result import Evaluation, TaskResult
from metasiam.evaluation.verification import roc
from metasiam.reports.inputs import Curve, Extras, PictureExample, RocCurve, ScoreHistogram
from metasiam.reports.numbers import shots_words
from metasiam.reports.tables import chosen_condition

_BINS = 60
#: Picture examples of wrong answers, and of right ones.
_PICTURES = 8
#: Of these, pairs that show one class: eight pictures of one letter teach little.
_PAIRS_OF_A_CLASS = 2


def extras_of(
    evaluations: Mapping[str, Evaluation],
    domains: DomainSet | None,
    *,
    histories: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    training: Sequence[Curve] = (),
) -> Extras:
    """Gather pictures, ROC curves and histograms of the condition that the report leads with.

    Args:
        evaluations: by method.
        domains: where the pictures are; None leaves them out.
        histories: each method's logged steps.
        training: accuracy over training images, where it was measured.
    """
    pictures: list[PictureExample] = []
    curves: list[RocCurve] = []
    histograms: list[ScoreHistogram] = []
    for method, evaluation in evaluations.items():
        results = leading_results(evaluation)
        if results:
            if domains is not None:
                pictures += _pictures(method, results, domains)
            curves.append(_roc(method, results))
            histograms.append(_histogram(method, results))
    return Extras(
        pictures=pictures,
        roc=curves,
        histograms=histograms,
        training=training,
        histories=histories or {},
    )


def leading_results(evaluation: Evaluation) -> list[TaskResult]:
    """Return the held-out results that the report leads with."""
    regime, shots = chosen_condition([evaluation.data])
    return evaluation.select("held_out", regime, shots)


def _margin(result: TaskResult) -> torch.Tensor:
    return result.scores - result.thresholds["per_task"]


def _pictures(method: str, results: Sequence[TaskResult], domains: DomainSet) -> list[PictureExample]:
    margin = torch.cat([_margin(result) for result in results])
    same = torch.cat([result.same for result in results])
    probability = torch.cat([result.probability for result in results])
    similarity = torch.cat([result.scores for result in results])
    first, second = torch.cat([result.pair_images for result in results], 1)
    answered = margin > 0
    confidence = torch.where(answered, probability, 1 - probability)
    # The surest first; where probabilities are equal, as at their limits, those furthest from the threshold.
    order = margin.abs().argsort(descending=True)
    order = order[confidence[order].argsort(descending=True, stable=True)]
    chosen = []
    for right in (False, True):
        seen: set[int] = set()
        shown: Counter[int] = Counter()
        for pair in order[((same == answered) == right)[order]].tolist():
            images = {int(first[pair]), int(second[pair])}
            classes = {int(domains.labels[image]) for image in images}
            # One pair a picture: the same confident picture eight times over teaches nothing.
            if not images & seen and all(shown[label] < _PAIRS_OF_A_CLASS for label in classes):
                seen |= images
                shown.update(classes)
                chosen.append(pair)
            if len(seen) == 2 * _PICTURES:
                break
    return [
        PictureExample(
            method=method,
            first=domains.images[first[pair]].cpu().numpy(),
            second=domains.images[second[pair]].cpu().numpy(),
            same=bool(same[pair]),
            answered_same=bool(answered[pair]),
            similarity=float(similarity[pair]),
            probability=float(probability[pair]),
            first_name=domains.names[int(domains.labels[first[pair]])],
            second_name=domains.names[int(domains.labels[second[pair]])],
        )
        for pair in chosen
    ]


def _roc(method: str, results: Sequence[TaskResult]) -> RocCurve:
    # Scores are pooled relative to each task's own threshold, which is how they are used.
    scores = torch.cat([_margin(result) for result in results])
    same = torch.cat([result.same for result in results])
    false_positive, true_positive, _ = roc(scores, same)
    rates = false_positive.double().numpy(), true_positive.double().numpy()
    return RocCurve(method, *rates, condition=_condition(results))


def _condition(results: Sequence[TaskResult]) -> str:
    return f"{results[0].regime}, {shots_words(results[0].shots)}"


def _histogram(method: str, results: Sequence[TaskResult]) -> ScoreHistogram:
    scores = torch.cat([result.scores for result in results]).double().numpy()
    same = torch.cat([result.same for result in results]).numpy()
    edges = np.linspace(scores.min(), scores.max() + 1e-9, _BINS + 1)
    thresholds = {
        kind: float(np.median([result.thresholds[kind] for result in results]))
        for kind in ("fixed", "global", "per_task")
    }
    return ScoreHistogram(
        method, edges, np.histogram(scores[same], edges)[0], np.histogram(scores[~same], edges)[0], thresholds,
        _condition(results),
    )  # fmt: skip
