"""Figures draw what they are given, in one style, without a warning and without touching global state."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from reports_samples import comparison, evaluation, extras, histogram, history, sweep_points

from metasiam.errors import MetaSiamError
from metasiam.reports.figures import accuracy_over_shots, accuracy_over_steps, sweep, task_bars
from metasiam.reports.files import write_figures
from metasiam.reports.inputs import Curve
from metasiam.reports.numbers import method_name
from metasiam.reports.published import constant_answer
from metasiam.reports.score_figures import roc, similarity_histograms
from metasiam.reports.style import inline_svg, save_figure, spread
from metasiam.reports.training_figures import accuracy_over_training, loss_curve, running_mean

METHODS = ("reptile", "triplet", "siamese")


def every_figure(methods: tuple[str, ...]) -> dict[str, Figure]:
    data = comparison({name: 80.0 + place for place, name in enumerate(methods)})["methods"]
    more = extras(methods)
    return {
        "loss": loss_curve(more.histories),
        "tasks": task_bars(data, regime="closed", shots="5"),
        "shots": accuracy_over_shots(data, regime="closed"),
        "steps": accuracy_over_steps(more.adaptation),
        "training": accuracy_over_training(more.training),
        "roc": roc(more.roc),
        "histograms": similarity_histograms(more.histograms),
        "sweep": sweep(sweep_points(methods)),
    }


def svg_texts(figure: Figure) -> list[str]:
    root = ElementTree.fromstring(inline_svg(figure, "x", "a figure"))
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("methods", [METHODS[:1], METHODS])
def test_every_figure_becomes_an_svg_of_real_text(methods: tuple[str, ...]) -> None:
    for name, figure in every_figure(methods).items():
        named = methods if len(methods) > 1 or name != "tasks" else ("wardrobe",)  # one method's bars have no legend
        text = " ".join(svg_texts(figure))
        # The method triplet is called classic.
        assert all(method_name(word) in text for word in named), name


def test_drawing_leaves_the_global_settings_as_they_were() -> None:
    before = dict(matplotlib.rcParams)
    loss_curve({"reptile": history(0.1)})
    assert dict(matplotlib.rcParams) == before


def test_png_and_svg_are_written_and_folders_made(tmp_path: Path) -> None:
    figure = loss_curve({"reptile": history(0.1)})
    save_figure(figure, tmp_path / "figures" / "loss.png")
    save_figure(figure, tmp_path / "figures" / "loss.svg")
    with Image.open(tmp_path / "figures" / "loss.png") as picture:
        assert picture.width > 900
    assert b"<svg" in (tmp_path / "figures" / "loss.svg").read_bytes()
    with pytest.raises(MetaSiamError, match="cannot be written"):
        save_figure(figure, tmp_path / "figures" / "loss.png" / "loss.png")


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        save_figure(loss_curve({"reptile": history(0.1)}), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_the_loss_curve_counts_images_only_where_every_line_has_them() -> None:
    lines = history(0.1, count=5)
    assert "training images" in svg_texts(loss_curve({"a": lines}))
    assert "steps" in svg_texts(loss_curve({"a": lines, "b": [{"step": 1, "loss": 0.3}, {"step": 2, "loss": 0.2}]}))


@pytest.mark.parametrize("lines", [[], [{"step": 1}], [{"step": 1, "loss": 0.5}], [{"step": 1, "loss": float("nan")}]])
def test_a_training_with_hardly_any_lines_is_still_drawn(lines: list[dict[str, Any]]) -> None:
    assert svg_texts(loss_curve({"reptile": lines}))


def test_a_training_of_one_line_shows_a_point() -> None:
    (line,) = loss_curve({"reptile": [{"step": 1, "loss": 0.5}]}).axes[0].lines
    assert line.get_marker() not in (None, "None", "")


def test_the_running_mean_is_the_mean_of_the_neighbours() -> None:
    values = np.array([1.0, 5.0, 2.0, 8.0, 3.0])
    naive = [np.mean([values[i] for i in range(5) if abs(i - place) <= 1]) for place in range(5)]
    np.testing.assert_allclose(running_mean(values, 1), naive)


def test_names_in_any_script_or_markup_are_drawn_as_they_are() -> None:
    names = ("$x_1$ & <b>", "한글 이름", "a name that goes on and on, past any bar", "\x07bell", "%d{}\\")
    methods = {"метод 1": evaluation(names=names), "_$m$": evaluation(names=names, seed=1)}
    texts = svg_texts(task_bars(methods, regime="closed", shots="0"))
    assert "_$m$" in [text.strip() for text in texts]
    assert "$x_1$ & <b>" in texts
    assert "한글 이름" in texts
    assert "bell" in texts
    assert any(text.endswith("…") for text in texts)
    assert "метод 1" in texts


def test_the_figures_beside_a_report_are_real_text_too_and_warn_of_no_glyph(tmp_path: Path) -> None:
    data = comparison({"reptile": 80.0, "triplet": 81.0})["methods"]
    for row in data["triplet"]["held_out"]["tasks"] + data["reptile"]["held_out"]["tasks"]:
        row["name"] = f"日本 {row['task']}"
    files = write_figures(tmp_path / "figures", data, extras(("reptile", "triplet")))
    assert {"tasks.svg", "roc.svg", "loss.svg"} <= {file.name for file in files}
    for file in files:
        assert "<text" in file.read_text(encoding="utf-8")
    assert "日本" in (tmp_path / "figures" / "tasks.svg").read_text(encoding="utf-8")


def test_fifty_tasks_make_a_taller_figure() -> None:
    few = task_bars({"a": evaluation()}, regime="closed", shots="0").get_figheight()
    many = {"a": evaluation(names=tuple(f"d{i}" for i in range(50)))}
    assert task_bars(many, regime="closed", shots="0").get_figheight() > 3 * few


def test_absent_numbers_leave_gaps_in_the_figures() -> None:
    partial = evaluation()
    del partial["held_out"]["closed"]["5"]
    methods = {"full": evaluation(), "partial": partial, "empty": {}}
    assert "empty" not in " ".join(svg_texts(accuracy_over_shots(methods, regime="closed")))
    assert svg_texts(accuracy_over_shots({"empty": {}}, regime="closed"))
    assert svg_texts(task_bars({"empty": {}}, regime="closed", shots="0"))
    assert svg_texts(similarity_histograms([]))
    assert svg_texts(accuracy_over_steps([Curve("a", [], [])]))
    assert svg_texts(roc([]))
    assert svg_texts(sweep([]))


def test_roc_and_histograms_say_of_which_pairs_they_are() -> None:
    condition = "closed, 5 images known"
    more = extras(("reptile", "triplet"))
    curves = [replace(curve, condition=condition) for curve in more.roc]
    assert condition in " ".join(svg_texts(roc(curves)))
    assert condition not in " ".join(svg_texts(roc(more.roc)))
    panels = similarity_histograms([replace(one, condition=condition) for one in more.histograms])
    assert " ".join(svg_texts(panels)).count(condition) == 2


@pytest.mark.parametrize(("triplet", "drawn"), [(60.0, True), (45.0, True), (90.0, False)])
def test_the_line_of_guessing_is_drawn_where_it_is_near_else_the_axis_says_that_it_is_cut(
    triplet: float, drawn: bool
) -> None:
    texts = svg_texts(accuracy_over_shots({"a": evaluation(triplet)}, regime="closed"))
    assert ("guessing: 50" in texts) == drawn
    assert any("axis is cut" in text for text in texts) != drawn


def test_only_thresholds_inside_the_histogram_are_named() -> None:
    drawn = histogram("a")
    texts = svg_texts(similarity_histograms([drawn]))
    assert "fixed 0.20" in texts
    assert "per task 0.26" in texts
    wide = type(drawn)("a", drawn.edges, drawn.same, drawn.different, {"fixed": 5.0})
    assert not any("fixed" in text for text in svg_texts(similarity_histograms([wide])))


def test_labels_are_spread_apart_in_their_order_and_no_further_than_needed() -> None:
    assert spread([0.0, 1.0, 100.0], 10) == pytest.approx([-4.5, 5.5, 100.0])
    assert spread([0.0, 50.0], 10) == [0.0, 50.0]
    many = spread([5.0] * 6, 10)
    assert all(b - a >= 10 - 1e-9 for a, b in pairwise(many))
    assert np.mean(many) == pytest.approx(5.0)


def test_ids_of_two_inline_figures_never_meet() -> None:
    first = inline_svg(loss_curve({"a": history(0.1)}), "one", "x")
    second = inline_svg(loss_curve({"a": history(0.1)}), "two", "x")

    def ids(svg: str) -> set[str]:
        return {node.attrib["id"] for node in ElementTree.fromstring(svg).iter() if "id" in node.attrib}

    assert ids(first)
    assert not ids(first) & ids(second)


def test_the_constant_answer_is_right_on_all_pairs_but_one_in_n() -> None:
    assert constant_answer(10) == pytest.approx(90.0)
    assert constant_answer(90) == pytest.approx(98.9, abs=0.05)
    assert constant_answer(0) is None
