"""Comparisons name a winner only beyond doubt; the page holds everything, escapes everything, fetches nothing."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reports_samples import comparison, evaluation, extras, pictures, sweep_points
from rich.console import Console

from metasiam.reports.comparison import SHORT, comparison_table, verdict, verdicts
from metasiam.reports.inputs import Extras, PictureExample
from metasiam.reports.markdown import comparison_markdown, sweep_markdown
from metasiam.reports.page import comparison_page, evaluation_page
from metasiam.reports.pictures import data_uri, picture_groups
from metasiam.reports.reference import reference_table, sweep_table
from metasiam.reports.rendering import to_rich
from metasiam.reports.settings import settings_table
from metasiam.reports.wording import budget_words, data_name, headline

VOID = {"meta", "img", "br", "path", "use", "rect", "link"}


class Checked(HTMLParser):
    """Collects tags, ids and text of a page, and notices tags that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def paired(
    a: str, b: str, difference: float, low: float, high: float, name: str = "triplet_accuracy"
) -> dict[str, Any]:
    return {
        "a": a, "b": b, "regime": "closed", "shots": "0", "metric": name,
        "difference": difference, "ci95": [low, high], "p_value": 0.5,
    }  # fmt: skip


def only(compare: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {**compare, "paired": rows}


def test_a_winner_is_named_only_where_the_interval_excludes_zero() -> None:
    data = comparison({"a": 82.0, "b": 80.0}, shots=("0",))
    for low, high, winner in ((0.1, 3.9, "a"), (-0.1, 4.1, None), (0.0, 4.0, None), (-3.9, -0.1, "b")):
        found = verdict(only(data, [paired("a", "b", 2.0, low, high)]), "closed", "0", "triplet_accuracy")
        assert found.winner == winner
        assert found.words == (winner or "no clear winner")


def test_the_order_in_which_two_methods_were_compared_does_not_matter() -> None:
    data = comparison({"a": 82.0, "b": 80.0}, shots=("0",))
    found = verdict(only(data, [paired("b", "a", -2.0, -3.0, -1.0)]), "closed", "0", "triplet_accuracy")
    assert found.winner == "a"
    assert (found.first, found.second) == ("a", "b")
    assert found.difference is not None
    assert found.difference[:3] == (2.0, 1.0, 3.0)


def test_less_error_wins() -> None:
    data = comparison({"a": 82.0, "b": 80.0}, shots=("0",))
    found = verdict(only(data, [paired("a", "b", -2.0, -3.0, -1.0, "eer")]), "closed", "0", "eer")
    assert found.winner == "a"


def test_of_three_the_winner_must_beat_both_others() -> None:
    data = comparison({"a": 84.0, "b": 82.0, "c": 80.0}, shots=("0",))
    clear, open_ = (2.0, 1.0, 3.0), (2.0, -1.0, 5.0)
    for gap, winner in ((clear, "a"), (open_, None)):
        rows = [paired("a", "b", *gap), paired("a", "c", *clear), paired("b", "c", *clear)]
        found = verdict(only(data, rows), "closed", "0", "triplet_accuracy")
        assert found.winner == winner
        assert (found.first, found.second) == ("a", "b")
    missing = verdict(only(data, rows[:2]), "closed", "0", "triplet_accuracy")
    assert missing.words == "–"


def test_episodes_are_found_under_both_of_their_names() -> None:
    data = comparison({"a": 84.0, "b": 82.0})
    row = {"a": "a", "b": "b", "regime": "episodes", "shots": "5-way 1-shot", "metric": "accuracy",
           "difference": 2.0, "ci95": [1.0, 3.0], "p_value": 0.01}  # fmt: skip
    assert verdict(only(data, [row]), "episodes", "", "5-way 1-shot").winner == "a"
    old = {**row, "regime": "closed", "shots": "0", "metric": "episodes 5-way 1-shot"}
    assert verdict(only(data, [old]), "episodes", "", "5-way 1-shot").winner == "a"


def test_the_comparison_table_marks_winners_and_nothing_else() -> None:
    table = comparison_table(comparison({"reptile": 81.5, "triplet": 80.0}))
    titles = [column.title for column in table.columns]
    assert titles == ["measured", "images", "reptile", "classic", "reptile − classic (95 %)", "winner"]
    for place, row in enumerate(table.rows):
        won = row[-1] == "reptile"
        assert ((place, 2) in table.strong) == won
        assert (place, 3) not in table.strong
    winners = {row[1]: row[-1] for row in table.rows[:5]}
    assert winners == {"0": "no clear winner", "1": "reptile", "5": "reptile", "20": "reptile", "all": "reptile"}
    lost = comparison_table(comparison({"reptile": 80.0, "triplet": 81.5}))
    assert "classic" in {row[-1] for row in lost.rows}
    assert not {"triplet", "reptile"} & {row[-1] for row in lost.rows}
    assert len(verdicts(comparison(), tuple(SHORT))) == len(SHORT) * 10 + 3


def test_under_many_compared_rows_stands_that_chance_names_winners_too() -> None:
    data = comparison()
    chance = "By chance alone, about one row in twenty would name a winner where there is none."
    assert chance in comparison_table(data).note
    assert chance not in comparison_table(comparison(shots=("0",)), ("triplet_accuracy",)).note
    assert chance not in comparison_table({**data, "paired": []}).note  # rows, but none compared
    assert chance not in comparison_table(comparison({"a": 80.0})).note


@pytest.mark.parametrize("methods", [{"a": 80.0}, {"a": 80.0, "b": 70.0, "c": 75.0}])
def test_a_comparison_of_one_or_three_is_a_table_too(methods: dict[str, float]) -> None:
    table = comparison_table(comparison(methods))
    assert len(table.columns) == 2 + len(methods) + (2 if len(methods) > 1 else 0)
    if len(methods) > 1:
        assert table.rows[1][-2] == "a > b, c; c > b"


def test_the_answer_says_who_is_better_where_that_is_clear() -> None:
    answer = headline(comparison({"reptile": 81.5, "triplet": 80.0}))
    assert answer.sentence == (
        "On ten unseen CIFAR-100 classes, reptile is right about same/different in 76.5 % of pairs after seeing "
        "5 images of each, 1.5 points more than classic (75.0 %; guessing: 50 %)."
    )
    several = headline(comparison({"a": 78.0, "b": 82.0, "c": 80.0}))
    assert several.sentence.endswith(", 2.0 points more than c (75.0 %; a: 73.0 %; guessing: 50 %).")
    assert "b is right about same/different in 77.0 %" in several.sentence
    assert "+0.5 to +2.5" in answer.certainty
    lost = headline(comparison({"reptile": 80.0, "triplet": 81.5}))
    assert "classic is right about same/different in 76.5 %" in lost.sentence
    assert "+0.5 to +2.5" in lost.certainty


def test_the_answer_says_so_where_nothing_is_clear() -> None:
    answer = headline(comparison({"reptile": 80.5, "triplet": 80.0}))
    assert answer.sentence.endswith("after seeing 5 images of each (guessing: 50 %): no clear winner.")
    assert "includes zero" in answer.certainty
    several = headline(comparison({"a": 80.5, "b": 80.2, "c": 80.0}))
    assert several.sentence.endswith("no clear winner.")
    assert "not compared" in headline(only(comparison(), [])).certainty
    assert str(headline({})) == "Nothing was measured on held-out classes."


def test_the_answer_for_a_single_run_names_what_guessing_scores() -> None:
    data = evaluation(80.0, names=("only one",), shots=("0",))
    answer = headline({"methods": {"reptile": data}}, "folder:/home/someone/my photos/")
    assert answer.sentence.startswith("On one unseen my photos class, reptile is right")
    assert "73.0 % of pairs without having seen any image of them" in answer.sentence
    assert "50 %" in answer.sentence
    assert "chosen on other classes" in answer.terms


def test_data_and_budgets_are_worded() -> None:
    assert data_name("cifar100") == "CIFAR-100"
    assert data_name({"source": "folder:/data/cifar100", "images": 60_000}) == "CIFAR-100"  # as config.json has it
    assert data_name("folder:C:\\photos\\cats") == "cats"
    assert data_name("npz:/x/pathmnist.npz") == "pathmnist"
    assert budget_words({"images": 500000}) == "Every method was given the same budget: 500,000 training images."
    assert budget_words(None) == ""
    unequal = {"images_by_method": {"triplet": 100, "reptile": 2000}}
    assert budget_words(unequal) == (
        "The methods were not trained equally long, on numbers of training images: "
        "classic with 100, reptile with 2,000."
    )


def test_the_page_is_whole_and_fetches_nothing() -> None:
    methods = ("reptile", "triplet", "siamese")
    data = comparison({name: 80.0 + place for place, name in enumerate(methods)})
    page = comparison_page(data, settings={"reptile": {"lr": 0.001}}, extras=extras(methods))
    read = Checked(page)
    assert len(read.ids) == len(set(read.ids))
    assert not {"script", "link", "iframe", "object"} & set(read.tags)
    assert not re.search(r'(?:src|href)="(?!data:|#)', re.sub(r'xmlns(:\w+)?="[^"]*"', "", page))
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    for heading in ("Who is better at what", "Each held-out class", "In pictures", "Right and wrong answers",
                    "How to read this", "All numbers", "Settings to repeat this"):  # fmt: skip
        assert heading in read.text
    assert read.tags.count("svg") == 8
    assert "run: lr" in read.text


def test_only_terms_that_were_measured_are_explained() -> None:
    with_episodes = evaluation()
    without = {**with_episodes, "held_out": {**with_episodes["held_out"], "episodes": {}}}
    assert "which of the five is a new picture" in Checked(evaluation_page(with_episodes)).text
    assert "which of the five is a new picture" not in Checked(evaluation_page(without)).text
    assert "Closed and antidomain" in Checked(evaluation_page(without)).text


def test_terms_say_how_thresholds_are_chosen() -> None:
    text = Checked(evaluation_page(evaluation())).text
    assert "Global: chosen for each number of images, on validation classes or, without any, on seen ones." in text
    assert "Images known, adaptation" in text
    assert "closed, 5 images known, calibrated threshold" in text


def test_captions_say_what_scores_were_pooled() -> None:
    more = extras(("reptile",))
    pooled = replace(more, roc=[replace(curve, condition="closed, 5 images known") for curve in more.roc])
    words = "is not the AUC of the tables"
    assert words in Checked(evaluation_page(evaluation(), "reptile", extras=pooled)).text
    assert words not in Checked(evaluation_page(evaluation(), "reptile", extras=more)).text


def test_tables_that_scroll_have_shaded_edges_on_screens_and_none_in_print() -> None:
    style, _, printed = evaluation_page(evaluation()).partition("@media print")
    shaded = re.search(r"\.scroll \{([^}]*)\}", style)
    assert shaded is not None
    assert shaded[1].count("local") == shaded[1].count("scroll;") + shaded[1].count("scroll,") == 2
    assert style.count("--edge:") == 2  # light and dark
    assert ".scroll { overflow: visible; background: none; }" in printed


def test_a_single_run_has_a_page_without_winners() -> None:
    page = evaluation_page(evaluation(), "reptile", settings={"data": "mnist"}, extras=extras(("reptile",)))
    read = Checked(page)
    assert "Evaluation of reptile" in read.text
    assert "On ten unseen MNIST classes" in read.text
    assert "Who is better" not in read.text
    assert "willow_tree" in read.text


@pytest.mark.parametrize(
    "compare",
    [
        {},
        {"methods": {}},
        {"methods": {"a": {}}},
        {"methods": {"a": {}, "b": {"held_out": {"closed": {"0": {}}}}}},
        {"methods": {"a": evaluation(shots=("0",), regimes=("closed",)), "b": {}}, "paired": None},
        comparison({"a": 80.0, "b": 81.0}, names=tuple(f"domain {i}" for i in range(50)), shots=("0", "all")),
    ],
)
def test_pages_and_markdown_are_made_from_whatever_there_is(compare: dict[str, Any]) -> None:
    assert Checked(comparison_page(compare)).text
    assert comparison_markdown(compare).startswith("# ")


def test_no_name_becomes_markup() -> None:
    evil = "</title><script>alert(1)</script>\"'&"
    data = comparison({evil: 82.0, "b": 80.0}, names=(evil, "日本語の名前 " * 9, "a`|*b"))
    more = Extras(
        pictures=[
            PictureExample(
                evil, np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), True, False, 0.1, 0.2, evil, evil
            )
        ],
        histories={evil: [{"step": 1, "loss": 0.3}, {"step": 2, "loss": 0.2}]},
    )
    page = comparison_page(data, settings={evil: {evil: [evil, {evil: evil}]}}, extras=more)
    assert "<script" not in page
    read = Checked(page)
    assert evil in read.text
    assert "日本語の名前" in read.text
    text = comparison_markdown(data, settings={evil: {evil: evil}})
    assert "<script" not in text
    assert "a\\`\\|\\*b" in text


def test_markdown_says_the_same_as_the_page() -> None:
    data = comparison({"reptile": 81.5, "triplet": 80.0})
    text = comparison_markdown(data, settings={"reptile": {"lr": 0.001}})
    assert "# Comparison: reptile, classic" in text
    assert headline(data).sentence in text
    assert "| **reptile** |" in text
    assert "no clear winner" in text
    assert "| **run: lr** | 0.001 | not set |" in text
    assert "wardrobe" in text
    assert "78.8 ± 4.4" in text


def test_pictures_are_sorted_by_confidence_wrong_ones_first() -> None:
    text = picture_groups(pictures("reptile", 16), most=3)
    read = Checked(text)
    assert read.text.index("sure and wrong") < read.text.index("sure and right")
    assert read.tags.count("li") == 6
    shares = [int(share) for share in re.findall(r"(\d+)\s%", read.text)]
    assert shares[:3] == sorted(shares[:3], reverse=True)
    assert "turtle and wardrobe <i>" in read.text
    unknown = PictureExample("m", np.zeros((3, 9, 9), np.uint8), np.zeros((3, 9, 9), np.uint8), True, True, -0.25)
    assert "“same”, similarity −0.25" in Checked(picture_groups([unknown])).text
    sure = PictureExample("m", np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8), True, True, 0.9, 1.0)
    assert "over 99.9" in picture_groups([sure])


def test_pictures_arrive_pixel_by_pixel_and_large_ones_smaller() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)

    def opened(array: np.ndarray[Any, Any]) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(data_uri(array).split(",")[1])))

    np.testing.assert_array_equal(np.asarray(opened(picture)), picture.transpose(1, 2, 0))
    np.testing.assert_array_equal(np.asarray(opened(picture[:1])), picture[0])
    assert opened(np.zeros((3, 500, 250), np.uint8)).size == (80, 160)
    six = np.stack([np.full((8, 8), level, np.uint8) for level in range(6)])
    np.testing.assert_array_equal(np.asarray(opened(six))[0, 0], [0, 1, 2])  # of more channels the first three
    with pytest.raises(ValueError, match=r"\[C, H, W\] or \[H, W\]"):
        data_uri(np.zeros((4, 3, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="not float64"):
        data_uri(np.zeros((3, 8, 8)))  # type: ignore[arg-type]


def test_settings_that_differ_stand_out() -> None:
    table = settings_table(
        {"a": {"protocol": {"seed": 0}}, "b": {"protocol": {"seed": 0}}},
        {"a": {"lr": 0.001, "split": {"held_out": ["x", "y"]}}, "b": {"lr": 0.01, "flip": True, "split": {}}},
    )
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["protocol: seed"] == ("0", "same")
    assert rows["run: lr"] == ("0.001", "0.01")
    assert rows["run: flip"] == ("not set", "yes")
    assert rows["run: split.held_out"] == ("x, y", "not set")
    long = settings_table({"a": {"protocol": {"seen": [0, 1, 2, 3, 5], "plans_tried": {"5": [1]}}}}, {})
    assert [row[1] for row in long.rows] == ["0–3, 5"]
    assert {table.rows[place][0] for place, _ in table.strong} >= {"run: lr", "run: flip"}
    assert "protocol: seed" not in {table.rows[place][0] for place, _ in table.strong}


def test_settings_word_episodes_and_say_where_fewer_pairs_were_drawn() -> None:
    data = evaluation()
    data["protocol"]["episode_kinds"] = [[5, 1], [5, 5]]
    rows = {row[0]: row[1] for row in settings_table({"a": data}, {}).rows}
    assert rows["protocol: episode_kinds"] == "5-way 1-shot, 5-way 5-shot"
    assert rows["protocol: pairs"] == "2000"
    for row in data["held_out"]["tasks"]:
        row["n_pairs"] = 1560
    words = dict(row[:2] for row in settings_table({"a": data}, {}).rows)["protocol: pairs"]
    assert words == "2000, but 1560 drawn for each task (no more test images)"
    data["held_out"]["tasks"][0]["n_pairs"] = 2000
    assert "but 1560 to 2000 drawn" in dict(row[:2] for row in settings_table({"a": data}, {}).rows)["protocol: pairs"]
    assert data["protocol"]["pairs"] == 2000


def test_the_seeds_figures_stand_beside_the_constant_answer_and_the_published_ones() -> None:
    data = evaluation()
    rows = {row[0]: row[1:] for row in reference_table({"ours": data}).rows}
    assert rows["seen triplets"] == ("88.1 ± 1.3", "50.0", "88.3")
    assert rows["“few-shot”, threshold 0.2"] == ("78.8 ± 4.4", "90.0", "83.1")
    assert rows["the same, plain accuracy"] == ("79.2", "90.0", "–")
    assert rows["held-out pairs, adapted, 0.7"] == ("61.5 ± 1.3", "50.0", "68.8")
    elsewhere = {**data, "protocol": {**data["protocol"], "data": "glyphs"}}
    assert {row[-1] for row in reference_table({"ours": elsewhere}).rows} == {"–"}  # 100 classes, but others
    data["protocol"]["split"]["seen"] = [0, 1]
    assert {row[-1] for row in reference_table({"ours": data}).rows} == {"–"}
    assert reference_table({"ours": {}}).rows == ()


def test_a_run_measured_only_as_the_seeds_did_is_answered_with_the_constant_beside_it() -> None:
    whole = evaluation()
    data = {key: whole[key] for key in ("schema", "protocol", "reference_protocol")}
    assert headline({"methods": {"ours": data}}).sentence == (
        "By the published systems' own few-shot figure, ours scores 78.8 %; always answering “different” scores 90.0 %."
    )
    assert "By the published systems' own protocol" in Checked(evaluation_page(data)).text


def test_a_sweep_stands_beside_the_published_figures() -> None:
    table = sweep_table(sweep_points(("reptile", "triplet")))
    rows = {(row[0], row[1]): row[2:] for row in table.rows}
    assert rows["90-10", "classic"][2:] == ("88.1 (88.3)", "80.7 (81.0)", "81.0 ± 4.4 (83.1)", "90.0")
    assert rows["10-90", "classic"][-2:] == ("54.3 ± 4.4 (45.3)", "98.9")
    assert rows["90-10", "reptile"][2] == "88.1 (73.4)"
    assert rows["10-90", "reptile"][2] == "88.1"
    assert "always answering “different”" in sweep_markdown(sweep_points())
    for point in (points := sweep_points()):
        point.evaluation["protocol"]["data"] = "omniglot"  # type: ignore[index]
    assert "(88.3)" not in str(sweep_table(points).rows)
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(to_rich(table))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert any(line.startswith(" 90-10") and line.rstrip().endswith(" 90.0") for line in lines)
