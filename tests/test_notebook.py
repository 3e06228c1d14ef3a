"""What a notebook and a prompt show of the public objects: short, escaped, and the figures and page in one call."""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import TinyDomains
from reports_samples import evaluation as sample
from torch import nn

import metasiam as ms
from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split
from metasiam.runs import Run

LONGEST = 400  # characters of a repr


def pixels(name: str) -> ms.Embedder:
    return ms.Embedder(nn.Sequential(nn.Flatten(), nn.Linear(192, 8)), image_size=8, name=name)


@pytest.fixture(scope="module")
def measured(tiny_domains: TinyDomains) -> tuple[DomainSet, Split, ms.Comparison]:
    domains = tiny_domains(domains=8, images=12)
    split = ms.split_domains(domains, held_out=3, validation=2)
    settings = ms.ProtocolSettings(shots=(0, 2), pairs=40, triplets=40, bootstrap=100, seen=False, adapt_steps=0)
    modules = {name: pixels(name) for name in ("pixels", "<b>linear</b>")}
    compared = ms.compare(modules, domains, split, settings, listener=None)
    return domains, split, compared


def test_reprs_are_short_and_say_what_it_is(measured, tmp_path):
    domains, split, compared = measured
    evaluation = compared.evaluations["pixels"]
    run = Run(tmp_path, {"options": {"method": "reptile", "arch": "resnet8", "lr": 0.1}, "data": {"source": "glyphs"}})
    assert re.match(
        r"DomainSet\(\S+: 8 domains, 96 images of \d+x\d+ pixels in colour, \d+ for training", repr(domains)
    )
    assert repr(split) == "Split(held-out 3: 3 seen, 2 for validation, 3 held out)"
    assert repr(run) == f"Run({tmp_path}: reptile resnet8 on glyphs, unfinished)"
    assert repr(evaluation).startswith("Evaluation(On three unseen")
    assert repr(compared).startswith("Comparison(pixels, <b>linear</b>: On three unseen")
    for shown in (domains, split, run, evaluation, compared):
        assert len(repr(shown)) < LONGEST
        assert "\n" not in repr(shown)
        page = shown._repr_html_()
        assert "<b>" not in page
        assert len(page) < 20_000
        assert page.count("<table>") >= 1
    assert "&lt;b&gt;linear" in compared._repr_html_()
    assert "<td>lr</td><td>0.1</td>" in run._repr_html_()


def test_many_domains_are_cut_and_names_are_escaped():
    images = torch.zeros(100, 1, 4, 4, dtype=torch.uint8)
    names = [f"<script>{i}" for i in range(50)]
    domains = DomainSet.from_arrays(images, torch.arange(100) // 2, names=names)
    page = domains._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;0" in page
    assert "… and 30 more" in page
    assert "50 domains, 100 images of 4x4 pixels in grey" in repr(domains)


def test_a_comparison_has_a_table_a_figure_and_a_page(measured, tmp_path):
    domains, _, compared = measured
    text = compared.table()
    assert "pixels" in text
    assert "On three unseen" in text
    assert max(map(len, text.splitlines()[:-1])) <= 120
    figure = compared.plot()
    assert figure._repr_svg_().lstrip().startswith("<?xml")
    assert compared.plot("tasks") is not None
    with pytest.raises(ms.MetaSiamError, match=r"no figure 'rocks' of these numbers. There is: tasks, accuracy_over"):
        compared.plot("rocks")
    page = compared.report(tmp_path / "out", domains=domains)
    assert page == tmp_path / "out" / "report.html"
    assert "Right and wrong answers" in page.read_text(encoding="utf-8")
    written = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert {"compare.json", "compare.md", "tasks.csv", "figures/tasks.svg", "figures/roc.svg"} <= written
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["methods"] == compared.data["methods"]
    before = page.stat().st_mtime_ns
    with pytest.raises(ms.MetaSiamError, match="holds a comparison"):
        compared.report(tmp_path / "out")
    with pytest.raises(ms.MetaSiamError, match="holds a comparison, not an evaluation"):
        compared.evaluations["pixels"].report(tmp_path / "out", overwrite=True)
    assert page.stat().st_mtime_ns == before
    compared.report(tmp_path / "out", overwrite=True)
    assert "Right and wrong answers" not in page.read_text(encoding="utf-8")


def test_an_evaluation_has_a_figure_a_page_and_rows(measured, tmp_path, monkeypatch):
    domains, _, compared = measured
    evaluation = compared.evaluations["pixels"]
    page = evaluation.report(tmp_path / "out", name="raw pixels", domains=domains)
    assert "raw pixels" in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == evaluation.data
    assert (tmp_path / "out" / "figures" / "similarity.svg").is_file()
    assert evaluation.plot("roc")._repr_svg_()
    rows = evaluation.records()
    assert len(rows) == len(evaluation.data["held_out"]["tasks"])
    first = evaluation.data["held_out"]["tasks"][0]
    assert rows[0]["name"] == first["name"]
    assert rows[0]["triplet_accuracy"] == first["triplet_accuracy"]["mean"]
    assert rows[0]["triplet_accuracy_low"] == first["triplet_accuracy"]["ci95"][0]
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda given: ("frame", given)))
    assert evaluation.to_frame() == ("frame", rows)
    assert [row["method"] for row in compared.to_frame()[1]].count("pixels") == len(rows)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ms.MetaSiamError, match="to_frame needs pandas: pip install pandas"):
        evaluation.to_frame()


def test_evaluations_of_every_kind_are_shown():
    whole = ms.Evaluation(sample())
    assert "is right about same/different in" in repr(whole)
    assert whole._repr_html_().count("<table>") >= 2
    assert repr(ms.Evaluation({"schema": 1, "protocol": {}})) == "Evaluation(nothing measured on held-out domains)"
    assert ms.Evaluation({"schema": 1, "protocol": {}})._repr_html_() == ""
    with pytest.raises(ms.MetaSiamError, match="nothing to draw"):
        ms.Evaluation({"schema": 1, "protocol": {}}).plot()


def test_a_misspelt_option_is_one_line_that_says_what_was_meant(measured, tmp_path):
    domains, split, _ = measured
    with pytest.raises(ms.MetaSiamError, match=r"reptile has no option 'meta_stepp'. Did you mean meta_step\?"):
        ms.train("reptile", domains, split, out=tmp_path / "run", meta_stepp=0.1)
    with pytest.raises(ms.MetaSiamError, match=r"evaluate has no option 'pair'. Did you mean pairs\?"):
        ms.evaluate(pixels("mine"), domains, split, pair=10)
    assert not (tmp_path / "run").exists()
