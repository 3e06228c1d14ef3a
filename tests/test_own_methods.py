"""Methods of one's own: handed over in Python, or offered by an installed package, with a command like the others."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
import torch
from foreign import install

import metasiam as ms
from metasiam import methods
from metasiam.cli import run
from metasiam.learners.gradient_steps import GradientSteps
from metasiam.methods import find, names
from metasiam.options.declare import Opt
from metasiam.options.few_shot import FewShotOptions

SMALL = {"arch": "resnet8", "iterations": 3, "compile": "off", "device": "cpu", "precision": "fp32"}


@dataclass(frozen=True, kw_only=True)
class OwnOptions(FewShotOptions):
    method: ClassVar[str] = "own-way"
    losses: ClassVar[tuple[str, ...]] = ("softmax",)

    loss: str = "softmax"
    together: Annotated[int, Opt("Images in a batch.", least=2)] = 6

    @property
    def batch_shape(self) -> tuple[int, int]:
        return 1, self.together


def build(options, context, processes):
    def draw(generator):
        images = context.seen.images
        return images[torch.randint(len(images), options.batch_shape, generator=generator)]

    return GradientSteps(options, context, processes, draw)


OWN = ms.Method(OwnOptions, build, "Train in a way of one's own")


@pytest.fixture
def data(tiny_domains):
    domains = tiny_domains(domains=6, images=10)
    return domains, ms.split_domains(domains, held_out=2)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(methods, "_GIVEN", {})


def test_it_trains_resumes_under_its_name_and_is_measured(data, tmp_path, monkeypatch):
    whole = ms.train(OWN, *data, out=tmp_path / "whole", **SMALL, together=4)
    assert whole.config["options"]["method"] == "own-way"
    assert whole.config["options"]["together"] == 4

    original = GradientSteps.iterate

    def stopped(self, iteration, stop):
        if iteration == 2:
            raise KeyboardInterrupt
        return original(self, iteration, stop)

    with monkeypatch.context() as patched:
        patched.setattr(GradientSteps, "iterate", stopped)
        with pytest.raises((KeyboardInterrupt, ms.TrainingStopped)):
            ms.train(OWN, *data, out=tmp_path / "part", checkpoint_every=0.0, **SMALL, together=4)
    resumed = ms.train("own-way", *data, resume=tmp_path / "part")
    first, second = (ms.load_embedder(made.path)[0].state_dict() for made in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    measured = ms.evaluate(whole, *data, shots=(0,), pairs=10, episodes=0).data
    assert {task["regime"] for task in measured["held_out"]["tasks"]} == {"closed", "antidomain"}


def test_its_options_are_checked_like_ours(data, tmp_path):
    with pytest.raises(ms.MetaSiamError, match="--together must be at least 2, not 1. Try --together 6"):
        ms.train(OWN, *data, out=tmp_path / "run", **SMALL, together=1)
    with pytest.raises(ms.MetaSiamError, match="own-way has no option 'togethr'. Did you mean together?"):
        ms.train(OWN, *data, out=tmp_path / "run", **SMALL, togethr=1)
    assert not (tmp_path / "run").exists()


def test_nobody_takes_the_name_of_one_of_ours(data, tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class Taken(OwnOptions):
        method: ClassVar[str] = "triplet"

    with pytest.raises(ms.MetaSiamError, match="there is a method triplet already"):
        ms.train(ms.Method(Taken, build, "Another"), *data, out=tmp_path / "run", **SMALL)


def test_an_unknown_one_is_said_with_those_that_there_are(data, tmp_path):
    with pytest.raises(ms.MetaSiamError, match="method own-way is unknown. Use one of: reptile, triplet"):
        ms.train("own-way", *data, out=tmp_path / "run", **SMALL)


def test_an_installed_packages_method_has_a_command(tiny_npz, tmp_path, monkeypatch, capsys):
    install(tmp_path / "site")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    monkeypatch.chdir(tmp_path)
    try:
        assert "foreign-pairs" in names()
        assert "foreignkit" not in sys.modules  # listing imports nothing
        assert run(["foreign-pairs", "--help"]) == 0
        assert "Images drawn together. [default: 4]" in " ".join(capsys.readouterr().out.split())
        small = [
            "--data",
            tiny_npz,
            "--held-out",
            "3",
            "--arch",
            "resnet8",
            "--iterations",
            "2",
            "--compile",
            "off",
            "--pairs",
            "10",
            "--adapt-shots",
            "0",
        ]
        assert run(["foreign-pairs", *small, "--twins", "6", "--out", "run"]) == 0
        assert json.loads(Path("run/config.json").read_text())["options"]["twins"] == 6
        assert run(["foreign-pairs", "--resume", "run"]) == 0
        assert run(["compare", "run", "--out", "both", "--pairs", "10", "--adapt-shots", "0"]) == 0
        assert run(["foreign-pairs", "--twins", "1"]) == 2
        assert "--twins must be at least 2, not 1. Try --twins 4." in capsys.readouterr().err
        assert find("foreign-pairs").about == "Train on images drawn together"
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "foreignkit"]:
            del sys.modules[name]


def test_an_installed_package_trains_resumes_and_is_measured_from_the_command_line(tmp_path, monkeypatch, capsys):
    install(tmp_path / "site")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    monkeypatch.chdir(tmp_path)
    measure = ["--pairs", "10", "--adapt-shots", "0"]
    try:
        assert run(["data", "list"]) == 0
        assert "foreign-squares" in capsys.readouterr().out
        options = ["--data", "foreign-squares", "--held-out", "3", "--arch", "foreign-net", "--loss", "foreign-centres"]
        options += ["--iterations", "4", "--batch-size", "4", "--compile", "off", "--device", "cpu"]
        assert run(["triplet", *options, "--checkpoint-every", "0", "--out", "run", *measure]) == 0
        stored = json.loads(Path("run/config.json").read_text())
        assert stored["data"]["options"]["data"] == "foreign-squares"
        assert stored["options"]["arch"] == "foreign-net"
        assert run(["triplet", "--resume", "run"]) == 0
        assert run(["evaluate", "run", *measure, "--overwrite"]) == 0
        assert run(["triplet", "--data", "foreign-circles"]) == 2
        assert "foreign-squares" in capsys.readouterr().err  # among those that there are
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "foreignkit"]:
            del sys.modules[name]
