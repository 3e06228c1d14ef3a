"""Runs from Python remember how their data were loaded and split, so that the command line goes on with them."""

import json
from pathlib import Path

import numpy as np
import pytest

import metasiam as ms
from metasiam.cli import run

SMALL = {"arch": "resnet8", "iterations": 4, "batch_size": 4, "compile": "off", "device": "cpu", "precision": "fp32"}
MEASURE = ["--pairs", "10", "--adapt-shots", "0"]


@pytest.fixture
def pictures(tiny_npz):
    return Path(tiny_npz.removeprefix("npz:"))


@pytest.mark.parametrize("split", [{"held_out": 3}, {"held_out": 3, "validation": 2}])
def test_a_run_from_python_is_measured_and_resumed_from_the_command_line(pictures, tmp_path, monkeypatch, split):
    monkeypatch.chdir(tmp_path)
    domains = ms.load_domains("npz:pictures.npz")
    parts = ms.split_domains(domains, **split)
    whole = ms.train("triplet", domains, parts, out="whole", **SMALL)
    stored = whole.config["data"]["options"]
    assert stored["data"] == f"npz:{pictures}"  # found from anywhere
    assert stored["held_out"] == 3

    from metasiam.training.loop import TrainingLoop

    go = TrainingLoop.go

    def stopped(self):
        self.learner.total = 4
        step = self.learner.iterate
        self.learner.iterate = lambda number, stop: (
            (_ for _ in ()).throw(KeyboardInterrupt) if number == 2 else step(number, stop)
        )
        return go(self)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "go", stopped)
        with pytest.raises((KeyboardInterrupt, ms.TrainingStopped)):
            ms.train("triplet", domains, parts, out="part", checkpoint_every=0.0, **SMALL)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(["triplet", "--resume", "../part", *MEASURE]) == 0
    first, second = (ms.load_embedder(tmp_path / name)[0].state_dict() for name in ("whole", "part"))
    assert all(bool((first[name] == second[name]).all()) for name in first)
    assert run(["evaluate", "../whole", *MEASURE]) == 0
    assert json.loads((tmp_path / "whole/evaluation.json").read_text())["protocol"]["split"] == parts.as_dict()


def test_what_was_made_by_hand_has_no_recipe(pictures, tmp_path, capsys):
    domains = ms.load_domains(f"npz:{pictures}")
    by_hand = ms.Split((0, 1, 2, 3), (), (4, 5), "mine")
    made = ms.train("triplet", domains, by_hand, out=tmp_path / "run", **SMALL)
    assert made.config["data"]["options"] == {}
    assert run(["evaluate", str(made.path), *MEASURE]) == 2
    assert "was trained from Python and does not say how its data was loaded" in capsys.readouterr().err
    arrays = ms.DomainSet.from_arrays(np.zeros((20, 8, 8), np.uint8), np.arange(20) % 4)
    assert arrays.recipe is None
    assert ms.load_domains(f"npz:{pictures}", test_fraction=0.5).recipe is None


def test_the_recipe_loads_the_same_images_again(pictures):
    from metasiam.workflows.data import from_stored, load

    domains = ms.load_domains(f"npz:{Path(pictures)}", image_size=8)
    split = ms.split_domains(domains, held_out=2, validation=1)
    again, parts = load(from_stored({**domains.recipe, **split.recipe}), None)
    assert again.fingerprint == domains.fingerprint
    assert parts == split


def pairs_of(folder):
    from PIL import Image

    random = np.random.default_rng(1)
    for number in range(16):
        Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    rows = [
        f"{a}.png,{b}.png,{same},{part}"
        for a, b, same, part in zip(
            range(0, 16, 2), range(1, 16, 2), [1, 0] * 4, ["train"] * 4 + ["validation"] * 2 + ["test"] * 2, strict=True
        )
    ]
    (folder / "pairs.csv").write_text("path_a,path_b,same,part\n" + "\n".join(rows) + "\n")
    return folder / "pairs.csv"


def test_train_takes_pairs_too_and_the_command_line_looks_at_the_run_again(tmp_path, capsys):
    pairs = ms.load_pairs(f"pairs:{pairs_of(tmp_path)}", data_dir=tmp_path)
    small = {"arch": "resnet8", "head": "cosine", "epochs": 1, "batch_size": 2, "device": "cpu", "precision": "fp32"}
    made = ms.train("siamese", pairs, out=tmp_path / "run", **small)
    assert made.config["options"]["method"] == "siamese"
    assert made.config["data"]["options"]["data"] == f"pairs:{tmp_path / 'pairs.csv'}"
    assert (made.path / "evaluation.json").is_file()
    assert run(["siamese", "--resume", str(made.path)]) == 0
    domains = ms.DomainSet.from_arrays(np.zeros((40, 8, 8), np.uint8), np.arange(40) % 4)
    for wrong, said in (
        (
            lambda: ms.train("siamese", domains, ms.split_domains(domains, held_out=2)),
            "siamese trains on labelled pairs (load_pairs), not on domains",
        ),
        (lambda: ms.train("triplet", domains), "triplet needs a split of the domains. split_domains makes one."),
        (
            lambda: ms.train("triplet", pairs),
            "triplet trains on domains (load_domains), not on pairs. Use one of: siamese.",
        ),
        (lambda: ms.train("siamese", pairs, ms.split_domains(domains, held_out=2)), "Omit split"),
        (lambda: ms.train("siamese", pairs, solvr="svm"), "siamese has no option 'solvr'. Did you mean solver?"),
    ):
        with pytest.raises(ms.MetaSiamError) as caught:
            wrong()
        assert said in str(caught.value)
