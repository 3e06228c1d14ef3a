"""The published systems' own measurements: a run under the ``reference`` protocol, and a sweep over class splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metasiam.reports.chance import is_guessing
from metasiam.reports.inputs import SweepPoint
from metasiam.reports.numbers import (
    MISSING,
    SPREAD,
    Json,
    interval,
    method_name,
    metrics_of,
    number,
    plus_minus,
    split_sizes,
    sweep_reading,
)
from metasiam.reports.published import (
    CLASSIC,
    META_PAIRS,
    META_TRIPLET,
    REPTILE,
    PublishedSplit,
    constant_answer,
    is_of_cifar100,
)
from metasiam.reports.rendering import Column, Row, Table


def reference_table(methods: Mapping[str, Json]) -> Table:
    """Return each method's score by the published measurements, that of a constant answer, and the published figure.

    Published figures stand next to splits of CIFAR-100's 100 classes only: they are about that, with ResNet-56.

    Args:
        methods: parsed ``evaluation.json`` by method; those without ``reference_protocol`` stay empty.
    """
    found = {name: evaluation.get("reference_protocol") or {} for name, evaluation in methods.items()}
    sizes = next((size for evaluation in methods.values() if (size := split_sizes(evaluation)) is not None), None)
    published_data = any(is_of_cifar100(evaluation) for evaluation in methods.values())
    seen = sizes[0] if sizes is not None and sum(sizes) == 100 and published_data else None
    classic = CLASSIC.get(seen) if seen is not None else None
    few_shots = [own["few_shot"] for own in found.values() if isinstance(own.get("few_shot"), Mapping)]
    few_shot: Json = few_shots[0] if few_shots else {}
    constant = number(interval(few_shot.get("constant_answer")))
    measures: list[tuple[str, dict[str, str], str, float | None]] = [
        ("seen triplets", _cells(found, "seen_triplet"), "50.0", classic and classic.seen_triplet),
        ("seen pairs, threshold 0.2", _cells(found, "seen_pairs"), "50.0", classic and classic.seen_pairs),
        (
            "“few-shot”, threshold 0.2",
            {name: _spread(own.get("few_shot")) for name, own in found.items()},
            constant,
            classic and classic.few_shot,
        ),
        ("the same, plain accuracy", _cells(found, "few_shot", "plain_accuracy"), constant, None),
        (
            "held-out triplets, adapted",
            _cells(found, "meta", "triplet_accuracy"),
            "50.0",
            META_TRIPLET if seen == 90 else None,
        ),
        (
            "held-out pairs, adapted, 0.7",
            _cells(found, "meta", "pair_accuracy"),
            "50.0",
            META_PAIRS if seen == 90 else None,
        ),
    ]
    rows = tuple(
        (label, *(cells[name] for name in found), constant_score, number(published))
        for label, cells, constant_score, published in measures
        if any(cell != MISSING for cell in cells.values())
    )
    columns = (
        Column("measured", "left"),
        *(Column(method_name(name, 24)) for name in found),
        Column("constant answer"),
        Column("published"),
    )
    draws = few_shot.get("draws")
    note = (
        f"“Few-shot” is the mean ± standard deviation over {draws or 'many'} draws of the support images (the "
        "published figure is one draw); one pair in N is same there, so that always answering “different” scores the "
        "constant answer. Adapted: 30 steps on all images of each held-out class, 50 pairs a class. "
        "Published: CIFAR-100, ResNet-56; classic for the first rows, Reptile for the adapted ones."
    )
    return Table("By the published systems' own protocol (reference), in %", columns, rows, note=note if rows else "")


def _cells(found: Mapping[str, Json], *path: str) -> dict[str, str]:
    """Word one number of each method's ``reference_protocol``, at a path of keys."""
    cells = {}
    for name, own in found.items():
        value: Any = own
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        cells[name] = plus_minus(interval(value))
    return cells


def _spread(few_shot: object) -> str:
    """Word the mean with the standard deviation over support draws."""
    if not isinstance(few_shot, Mapping) or interval(few_shot) is None:
        return plus_minus(interval(few_shot))
    deviation = interval(few_shot.get("sd"))
    mean = number(interval(few_shot))
    return mean if deviation is None else f"{mean} ± {number(deviation)}"


def sweep_table(points: Sequence[SweepPoint]) -> Table:
    """Return a sweep next to the published figures: the balanced protocol first, then the published systems' own.

    The published figures are about CIFAR-100 with ResNet-56, so they stand next to that only; a split is matched by its
    number of seen domains, where seen and held-out ones are 100 in all.
    """
    titles = (
        "held-out triplet", "held-out pairs", "seen triplet", "seen pairs", "few-shot", "constant answer",
    )  # fmt: skip
    published_of: dict[str, dict[int, PublishedSplit]] = {"reptile": REPTILE, "triplet": CLASSIC}
    rows: list[Row] = []
    for point in sorted(points, key=lambda point: (point.seen, point.method)):
        whole = point.seen + point.held_out == 100 and is_of_cifar100(point.evaluation)
        published = published_of.get(point.method, {}).get(point.seen) if whole else None
        few_shot = (point.evaluation.get("reference_protocol") or {}).get("few_shot")
        rows.append(
            (
                f"{point.seen}-{point.held_out}",
                method_name(point.method),
                *(plus_minus(sweep_reading(point.evaluation, name)) for name in ("triplet", "pairs")),
                _beside(number(sweep_reading(point.evaluation, "seen_triplet")), published and published.seen_triplet),
                _beside(number(sweep_reading(point.evaluation, "seen_pairs")), published and published.seen_pairs),
                _beside(_spread(few_shot), published and published.few_shot),
                number(constant_answer(point.held_out)),
            )
        )
    columns = (Column("split"), Column("method", "left"), *(Column(title) for title in titles))
    note = (
        "Split: seen and held-out domains. Held-out triplet and pairs: balanced protocol, not adapted, half of the "
        f"pairs same ({SPREAD}). The others: the published systems' own protocol; few-shot (one pair in N same) is "
        "the mean ± standard deviation over draws of support images, and always answering “different” scores "
        "the constant answer there. Published: CIFAR-100, ResNet-56, 150 epochs (triplet) or 10,000 iterations of 30 "
        "(reptile)."
    )
    if guessed := [
        f"{method_name(point.method)} {point.seen}-{point.held_out}" for point in points if _guesses(point.evaluation)
    ]:
        note += f" Held-out pairs that cannot be told from guessing (50): {', '.join(guessed)}."
    title = "Accuracy in % over class splits (in brackets: published)"
    return Table(title, columns, tuple(rows), note=note if rows else "")


def _guesses(evaluation: Json) -> bool:
    """Tell whether the pairs of a sweep's held-out domains are answered no better than by guessing."""
    regime = "closed" if metrics_of(evaluation, "closed", "0") else "antidomain"
    return is_guessing(evaluation, regime, "0", "pair_accuracy_global")


def _beside(measured: str, published: float | None) -> str:
    """Word a number with the published one in brackets, where there is one."""
    return measured if published is None else f"{measured} ({number(published)})"
