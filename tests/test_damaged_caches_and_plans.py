"""Damaged files that trainings of several parts, and packed pictures, are read from again.

``compare.json``, ``results.json``, ``folds.json`` and ``tasks.csv`` are not here: they are written for people and other
programs, and nothing in MetaSiam reads them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import few, mutated, one_line
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import metasiam as ms
import metasiam.workflows.folds
import metasiam.workflows.pairs
import metasiam.workflows.plans
import metasiam.workflows.sweep_plan
from metasiam.cli import run
from metasiam.data.cache import cached, cached_images, digest
from metasiam.data.preparation import Preparation
from metasiam.evaluation.protocol import evaluate
from metasiam.models.files import load_embedder
from metasiam.options.evaluation import ProtocolSettings
from metasiam.reports.figures import sweep as sweep_figure
from metasiam.reports.inputs import SweepPoint
from metasiam.reports.markdown import sweep_markdown
from metasiam.session import train
from metasiam.workflows.folds import _done
from metasiam.workflows.sweep import _stored_evaluation
from metasiam.workflows.sweep_plan import _check_plan

OPTIONS = {"arch": "resnet8", "iterations": 2, "batch_size": 4, "compile": "off"}
SMALL = ProtocolSettings(
    protocols=("balanced", "reference"),
    shots=(0,),
    pairs=20,
    triplets=20,
    regimes=("closed",),
    episodes=0,
    bootstrap=100,
)


def tensors_of(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def damaged(path: Path, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """Damage a packed file as a whole, in its texts or in its tensors, sealed again or not."""
    kind = draw(st.sampled_from(["bytes", "cut", "texts", "tensors"]))
    whole = path.read_bytes()
    if kind == "bytes":
        place = draw(st.integers(0, len(whole) - 1))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ draw(st.integers(1, 255))]) + whole[place + 1 :])
        return
    if kind == "cut":
        path.write_bytes(whole[: draw(st.integers(0, len(whole) - 1))])
        return
    tensors, about = tensors_of(path)
    if kind == "texts":
        name = draw(st.sampled_from(sorted(about)))
        try:
            about[name] = json.dumps(mutated(json.loads(about[name]), draw))
        except (ValueError, TypeError):
            about[name] = draw(st.sampled_from(["", "x", "[]", "null", "[" * 60_000 + "]" * 60_000]))
    else:
        name = draw(st.sampled_from(sorted(tensors)))
        other = [torch.zeros(0), torch.zeros(3, 3), torch.tensor(7), torch.full((8,), -1), torch.rand(16, 3, 8, 8)]
        other += [tensors[name][:-1], tensors[name].flip(0).roll(1), tensors[name] + 1, tensors[name].float()]
        tensors[name] = draw(st.sampled_from(other))
    if draw(st.booleans()):
        about.pop("seal", None)
        about["seal"] = digest(about)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata=about)


@few
@given(st.data())
def test_packed_domains_that_are_damaged_are_made_anew(tmp_path, tiny_domains, data):
    made = tiny_domains(domains=4, images=4, size=8)
    path = tmp_path / "cache" / "domains.safetensors"
    path.unlink(missing_ok=True)
    expected = cached(path, "key", lambda: made, source="tiny")
    damaged(path, data.draw)
    found = cached(path, "key", lambda: made, source="tiny")
    assert found.fingerprint == expected.fingerprint
    assert found.names == expected.names
    assert torch.equal(found.is_test, expected.is_test)
    assert torch.equal(found.labels, expected.labels)


@few
@given(st.data())
def test_packed_pictures_of_pairs_that_are_damaged_are_made_anew(tmp_path, tiny_domains, data):
    images = tiny_domains(domains=4, images=4, size=8).images
    path = tmp_path / "cache" / "pairs.safetensors"
    path.unlink(missing_ok=True)
    cached_images(path, "key", lambda: (images, Preparation()))
    damaged(path, data.draw)
    found, _ = cached_images(path, "key", lambda: (images, Preparation()))
    assert torch.equal(found, images)


@pytest.fixture(scope="module")
def swept(tmp_path_factory, tiny_domains) -> tuple[Path, ms.DomainSet, ms.Split]:
    """A run with its evaluation, as a sweep leaves it."""
    domains = tiny_domains(domains=8, size=8)
    split = ms.split_domains(domains, held_out=3)
    folder = tmp_path_factory.mktemp("sweep")
    made = train(
        "triplet", domains, split, out=folder / "run", arch="resnet8", iterations=2, batch_size=4, compile="off"
    )
    embedder, info = load_embedder(made.path)
    made.write_json("evaluation.json", evaluate(embedder, info, domains, split, SMALL).data)
    return made.path, domains, split


@few
@given(st.data())
def test_evaluations_of_a_sweep_that_are_damaged_are_measured_anew(swept, tmp_path, data):
    path, domains, split = swept
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    shutil.copytree(path, tmp_path / "run", ignore=shutil.ignore_patterns("tensorboard", "*.pt"))
    file = tmp_path / "run" / "evaluation.json"
    whole = json.loads(file.read_text())
    changed = mutated(whole, data.draw)
    file.write_text(json.dumps(changed))
    found = _stored_evaluation(ms.open_run(tmp_path / "run"), SMALL, domains, split)
    if found is not None:  # then it is good enough to be shown
        points = [SweepPoint("triplet", 5, 3, found)]
        one_line(lambda: sweep_markdown(points).replace("\n", " "))
        one_line(lambda: sweep_figure(points))


@pytest.fixture(scope="module")
def arrays(tmp_path_factory, tiny_domains) -> str:
    made, file = tiny_domains(domains=8, size=8), tmp_path_factory.mktemp("arrays") / "a.npz"
    parts = {"train": ~made.is_test, "test": made.is_test}
    images = {f"{name}_images": made.images[part].permute(0, 2, 3, 1).numpy() for name, part in parts.items()}
    np.savez(file, **images, **{f"{name}_labels": made.labels[part].numpy() for name, part in parts.items()})
    return f"npz:{file}"


def said(words: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that is refused and return its one line."""
    assert run([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.strip()
    assert error.count("\n") == 1
    return error


@few
@given(st.data())
def test_comparisons_whose_plan_is_damaged(arrays, tmp_path, monkeypatch, capsys, data):
    def stopped(*given: object, **named: object) -> None:
        raise ms.MetaSiamError("what is read comes before it")

    monkeypatch.setattr(metasiam.workflows.plans, "train_or_take", stopped)
    whole = {
        "methods": {"triplet": OPTIONS, "reptile": {**OPTIONS, "inner_epochs": 2}},
        "data": {"data": arrays, "data_dir": None, "held_out": 3, "validation": 0},
        "budget": {"images": 100},
        "evaluation": SMALL.as_dict(),
        "seeds": [0, 1],
    }
    (tmp_path / "comparison.json").write_text(json.dumps(mutated(whole, data.draw)))
    said(["compare", "--resume", tmp_path], capsys)


@few
@given(st.data())
def test_sweeps_whose_plan_is_damaged(arrays, tmp_path, monkeypatch, capsys, data):
    plans: list[dict[str, object]] = []

    def stopped(out: Path, plan: dict[str, object], *, overwrite: bool) -> None:
        plans.append(plan)
        _check_plan(out, plan, overwrite=overwrite)
        raise ms.MetaSiamError("what is read comes before it")

    monkeypatch.setattr(metasiam.workflows.sweep_plan, "_check_plan", stopped)
    file = tmp_path / "sweep.json"
    file.unlink(missing_ok=True)
    said(["sweep", "--data", arrays, "--methods", "triplet", "--out", tmp_path], capsys)
    file.write_text(json.dumps(mutated(plans[0], data.draw)))
    said(["sweep", "--data", arrays, "--methods", "triplet", "--out", tmp_path], capsys)


@few
@given(st.data())
def test_folds_whose_plan_or_numbers_are_damaged(tmp_path, monkeypatch, capsys, data):
    def stopped(*given: object, **named: object) -> None:
        raise ms.MetaSiamError("what is read comes before it")

    monkeypatch.setattr(metasiam.workflows.pairs, "load_pairs", stopped)
    options = {"method": "siamese", "arch": "resnet8", "epochs": 1}
    whole = {"options": options, "data": {"source": "lfw:10-folds", "options": {"data": "lfw:10-folds"}}}
    (tmp_path / "folds-config.json").write_text(json.dumps(mutated(whole, data.draw)))
    said(["siamese", "--resume", tmp_path], capsys)
    mean = {"mean": 90.0, "ci95": [88.0, 92.0], "n": 100}
    closed = {"0": {"pair_accuracy": {"global": mean}, "auc": mean}}
    (tmp_path / "evaluation.json").write_text(json.dumps(mutated({"held_out": {"closed": closed}}, data.draw)))
    one_line(lambda: _done(tmp_path / "evaluation.json"))
