"""The self-contained page: ``report.html`` of a single run or of a comparison.

Everything is inside the one file (style, figures as SVG, pictures as PNG), nothing is fetched and nothing is run:
it opens offline, prints, and follows the reader's light or dark setting. Every text that comes from data
(domain names are folder names) is escaped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from string import Template

from matplotlib.figure import Figure

from metasiam.reports.comparison import SHORT, comparison_table, pairs_table
from metasiam.reports.figures import accuracy_over_shots, accuracy_over_steps, adaptation_curves, task_bars
from metasiam.reports.inputs import Extras
from metasiam.reports.numbers import (
    REGIMES,
    Json,
    conditions,
    episodes_of,
    method_name,
    regime_words,
    shots_words,
    task_rows,
)
from metasiam.reports.pictures import picture_groups
from metasiam.reports.reference import reference_table
from metasiam.reports.rendering import to_html
from metasiam.reports.score_figures import roc, similarity_histograms
from metasiam.reports.settings import settings_table
from metasiam.reports.style import inline_svg
from metasiam.reports.tables import chosen_condition, episode_table, method_task_table, summary_table, task_table
from metasiam.reports.terms import how_to_read
from metasiam.reports.training_figures import accuracy_over_training, loss_curve
from metasiam.reports.trainings import trainings_table, trainings_words
from metasiam.reports.wording import budget_words, headline, leading_condition

_NOTHING = Extras()


def evaluation_page(
    evaluation: Json, name: str = "this embedder", *, settings: Json | None = None, extras: Extras = _NOTHING
) -> str:
    """Return the page of a single run.

    Args:
        evaluation: a parsed ``evaluation.json``.
        name: what to call the run's method, as in ``extras``.
        settings: the run's parsed ``config.json``.
        extras: pictures and curves to show next to the numbers.
    """
    return comparison_page(
        {"methods": {name: evaluation}}, settings={name: settings} if settings else {}, extras=extras
    )


def comparison_page(compare: Json, *, settings: Mapping[str, Json] | None = None, extras: Extras = _NOTHING) -> str:
    """Return the page of a comparison; of a single run if the comparison has one method only.

    Args:
        compare: a parsed ``compare.json``.
        settings: each method's parsed ``config.json``.
        extras: pictures and curves to show next to the numbers, by the same names of methods.
    """
    methods: Mapping[str, Json] = compare.get("methods") or {}
    settings = settings or {}
    data = next((own["data"] for own in settings.values() if own.get("data")), None)
    names = ", ".join(method_name(name, 60) for name in methods)
    title = f"Comparison of {names}" if len(methods) > 1 else f"Evaluation of {names or 'nothing'}"
    body = [header(title, compare, data), _tables(compare), figures_section(methods, extras)]
    body.append(pictures_section(extras, ", at most two of one class"))
    body.append(terms_section(methods))
    body.append(_all_numbers(compare))
    body.append(settings_section(methods, settings))
    return document(title, body)


def document(title: str, body: Sequence[str]) -> str:
    """Return the whole page from its parts, as HTML; empty ones are left out."""
    return Template(_own("page.html")).substitute(
        title=html.escape(title),
        style=_own("page.css"),
        body="\n".join(part for part in body if part),
        footer="Made by MetaSiam. This page is self-contained and works offline.",
    )


def pictures_section(extras: Extras, most: str = "") -> str:
    """Return right and wrong answers in pictures; ``most`` says how they were picked, after a comma."""
    if not extras.pictures:
        return ""
    words = f"The pairs that each method was surest about{most}. "
    words += "Its mistakes say most about what it looks at."
    return section("Right and wrong answers", picture_groups(extras.pictures), words)


def terms_section(methods: Mapping[str, Json]) -> str:
    """Return what the terms of these evaluations mean."""
    terms = "".join(
        f"<div><dt>{sentence_html(term)}</dt><dd>{sentence_html(text)}</dd></div>"
        for term, text in how_to_read(methods.values())
    )
    return section("How to read this", f"<dl>{terms}</dl>")


def settings_section(methods: Mapping[str, Json], settings: Mapping[str, Json]) -> str:
    """Return every setting of evaluations and runs; empty where none is known."""
    listed = settings_table(methods, settings)
    if not listed.rows:
        return ""
    words = "Every setting behind these numbers. The same settings and seed give the same pairs, images and tasks."
    return section("Settings to repeat this", to_html(replace(listed, title=""), css_class="settings"), words)


def _own(name: str) -> str:
    return resources.files("metasiam.reports").joinpath(name).read_text(encoding="utf-8")


def sentence_html(text: str) -> str:
    """Escape a sentence, and keep numbers together with their per cent sign."""
    return html.escape(text).replace(" %", "\u00a0%")


def header(title: str, compare: Json, data: object) -> str:
    """Return the title, the answer, and what it is about."""
    answer = headline(compare, data)
    lines = (answer.certainty, answer.terms, budget_words(compare.get("budget")), trainings_words(compare))
    leads = "".join(f'<p class="lead">{sentence_html(line)}</p>' for line in lines if line)
    return (
        f'<header><h1>{sentence_html(title)}</h1><p class="answer">{sentence_html(answer.sentence)}</p>{leads}</header>'
    )


def section(title: str, content: str, words: str = "") -> str:
    """Return a part of the page: heading, a sentence or two, content (HTML)."""
    lead = f"<p>{sentence_html(words)}</p>" if words else ""
    return f"<section><h2>{html.escape(title)}</h2>{lead}{content}</section>"


def _tables(compare: Json) -> str:
    """Return the tables that answer the question; the others stand at the end."""
    methods: Mapping[str, Json] = compare.get("methods") or {}
    parts = []
    if len(methods) > 1:
        leading = leading_condition(compare)
        regimes = REGIMES if leading is None else (leading[0],)
        names = ("triplet_accuracy", "pair_accuracy_per_task")
        better = to_html(comparison_table(compare, names, regimes))
        if len(methods) > 2 and leading is not None:
            better += to_html(pairs_table(compare, *leading[:2]))
        parts.append(section("Who is better at what", better))
    if any(task_rows(evaluation) for evaluation in methods.values()):
        shown = _task_condition(methods)
        several = len(methods) > 1
        table = method_task_table(methods, *shown) if several else task_table(next(iter(methods.values())), *shown)
        parts.append(section("Each held-out class", to_html(table)))
    return "".join(parts)


def _task_condition(methods: Mapping[str, Json]) -> tuple[str, str]:
    """Return the regime and images that tasks are shown for: those of the answer, if tasks were measured so."""
    leading = leading_condition({"methods": methods})
    if leading is not None and any(task_rows(evaluation, *leading[:2]) for evaluation in methods.values()):
        return leading[:2]
    return chosen_condition(methods.values())


def _all_numbers(compare: Json) -> str:
    methods: Mapping[str, Json] = compare.get("methods") or {}
    parts = []
    for name, evaluation in methods.items():
        table = summary_table(evaluation)
        if table.rows:
            heading = f"<h3>{html.escape(method_name(name, 60))}</h3>" if len(methods) > 1 else ""
            parts.append(heading + to_html(table))
    if episodes_of(methods.values()):
        parts.append(to_html(episode_table(methods)))
    if len(methods) > 1:
        # Nobody wins by a threshold chosen in hindsight.
        names = tuple(name for name in SHORT if name != "pair_accuracy_oracle")
        parts.append(to_html(comparison_table(compare, names)))
    if compare.get("trainings"):
        parts.append(to_html(trainings_table(compare)))
    if any(evaluation.get("reference_protocol") for evaluation in methods.values()):
        parts.append(to_html(reference_table(methods)))
    return section("All numbers", "".join(parts)) if parts else ""


def figures_section(methods: Mapping[str, Json], extras: Extras) -> str:
    """Return every figure that the numbers and the extras allow; empty where there is none."""
    order = list(methods)
    found: list[tuple[str, Figure, str]] = []
    regime, shots = _task_condition(methods)
    if any(task_rows(evaluation, regime, shots) for evaluation in methods.values()):
        caption = f"Share of right answers for each class, {regime}, {shots_words(shots)}, calibrated threshold."
        found.append(("tasks", task_bars(methods, regime=regime, shots=shots, order=order), caption))
    for kind in ("closed", "antidomain"):
        if len({key[1] for key in conditions(methods.values()) if key[0] == kind}) > 1:
            caption = f"Accuracy after seeing images of each held-out class; pairs {regime_words(kind)}."
            found.append((f"shots-{kind}", accuracy_over_shots(methods, regime=kind, order=order), caption))
    adaptation = extras.adaptation or adaptation_curves(methods)
    if adaptation:
        caption = "Triplet accuracy as the model adapts: it can fall when few images are memorised."
        found.append(("steps", accuracy_over_steps(adaptation, order=order), caption))
    if extras.roc:
        caption = "Further up and to the left is better."
        if any(curve.condition for curve in extras.roc):
            caption += (
                " The scores of all classes together, each less its class's own threshold: the area under this curve "
                "is not the AUC of the tables, which is the mean over classes."
            )
        found.append(("roc", roc(extras.roc, order=order), caption))
    if extras.histograms:
        caption = "The less the two humps overlap, the better. Above the threshold the answer is “same”."
        found.append(("similarity", similarity_histograms(extras.histograms), caption))
    if extras.training:
        caption = "Accuracy against the number of training images used so far."
        found.append(("training", accuracy_over_training(extras.training, order=order), caption))
    if any(extras.histories.values()):
        caption = "Losses of different methods are different quantities: compare their shapes, not their heights."
        caption = (
            caption
            if len(methods) > 1 and len(extras.histories) > 1
            else "The line is a running mean of the faint values."
        )
        found.append(("loss", loss_curve(extras.histories, order=order), caption))
    if not found:
        return ""
    figures = "".join(
        f"<figure>{inline_svg(figure, re.sub('[^a-z-]', '', name), caption)}"
        f"<figcaption>{sentence_html(caption)}</figcaption></figure>"
        for name, figure, caption in found
    )
    return section("In pictures", f'<div class="figures">{figures}</div>')
