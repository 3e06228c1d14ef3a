"""Real CIFAR-100: both methods train on it from the command line, and the committed weights give their figures."""

import json
from pathlib import Path

import pytest
import torch

from metasiam import ProtocolSettings, load_embedder, split_domains
from metasiam.cli import run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("command", "iterations"),
    [
        (["triplet", "--iterations", "6", "--schedule", "onecycle"], 6),
        (["reptile", "--iterations", "2", "--inner-epochs", "3", "--meta-step", "0.5"], 2),
    ],
    ids=["triplet", "reptile"],
)
def test_training_on_real_images_ends_in_the_table_of_ten_held_out_classes(
    real_data, cifar100, tmp_path, monkeypatch, capsys, command, iterations
):
    monkeypatch.chdir(tmp_path)
    folder = real_data("cifar100")
    data = ["--data", f"folder:{folder}", "--data-dir", str(folder.parent), "--held-out", "10"]
    arguments = [
        *data,
        "--arch",
        "resnet8",
        "--batch-size",
        "16",
        "--pairs",
        "200",
        "--adapt-shots",
        "0",
        "--out",
        "run",
    ]
    assert run([*command, *arguments]) == 0
    shown = capsys.readouterr().out
    assert "willow_tree" in shown
    assert "90 seen, 0 validation, 10 held out" in shown
    config = json.loads(Path("run/config.json").read_text())
    assert config["total_iterations"] == iterations
    assert config["data"]["images"] == 60_000
    rows = json.loads(Path("run/evaluation.json").read_text())["held_out"]["tasks"]
    assert {row["task"] for row in rows} == set(range(90, 100))


def test_a_shuffled_test_set_is_at_chance(cifar100):
    """Labels that say nothing must score 50 %: a check on the measuring, not on the model."""
    from dataclasses import replace

    from metasiam import EmbedderInfo, build_embedder
    from metasiam.evaluation.protocol import evaluate as evaluate_embedder

    order = torch.randperm(len(cifar100.labels), generator=torch.Generator().manual_seed(0))
    shuffled = replace(cifar100, labels=cifar100.labels[order])
    split = split_domains(shuffled, held_out=10)
    settings = ProtocolSettings(shots=(0,), seen=False, episodes=0, support_draws=0)
    report = evaluate_embedder(build_embedder("resnet8").eval(), EmbedderInfo("resnet8"), shuffled, split, settings)
    metrics = report.data["held_out"]["closed"]["0"]
    assert metrics["triplet_accuracy"]["mean"] == pytest.approx(50, abs=2)
    assert metrics["pair_accuracy"]["global"]["mean"] == pytest.approx(50, abs=2)


def test_the_committed_embedder_still_gives_the_committed_figures(cifar100):
    """The weights trained by the command in docs/results.md, as they are in the repository."""
    results = Path(__file__).parents[1] / "benchmarks" / "results"
    stored = json.loads((results / "cifar100-triplet-9-minutes.json").read_text())
    embedder, info = load_embedder(results / "cifar100-triplet-9-minutes.safetensors")
    assert info.threshold == pytest.approx(stored["evaluation"]["protocol"]["global_threshold"])
    split = split_domains(cifar100, held_out=10, validation=10)
    from metasiam.evaluation.protocol import evaluate as evaluate_embedder

    settings = ProtocolSettings(shots=(0,), regimes=("closed",), seen=False, episodes=0, support_draws=0)
    metrics = evaluate_embedder(embedder, info, cifar100, split, settings).data["held_out"]["closed"]["0"]
    committed = stored["evaluation"]["held_out"]["closed"]["0"]
    assert metrics["triplet_accuracy"]["mean"] == pytest.approx(committed["triplet_accuracy"]["mean"], abs=0.5)
    assert committed["triplet_accuracy"]["mean"] > 80
