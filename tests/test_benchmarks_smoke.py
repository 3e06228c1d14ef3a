"""Every benchmark runs: tiny, and its numbers mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import NAMES
from benchmarks.harness import interleaved, ratios, summary
from benchmarks.memory_and_start import imports_torch
from benchmarks.one_shot_runs import one_shot_accuracy

ROOT = Path(__file__).parents[1]


def test_sides_take_turns_and_the_order_alternates():
    calls: list[str] = []
    seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, warmup=1)
    assert calls == ["a", "b", "a", "b", "b", "a"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_ratios_are_taken_pair_by_pair():
    found = ratios([2.0, 6.0, 8.0], [1.0, 2.0, 8.0])
    assert found["pairs"] == [2.0, 3.0, 1.0]
    assert (found["median"], found["lowest"], found["highest"]) == (2.0, 1.0, 3.0)
    assert summary([4.0, 2.0])["spread"] == pytest.approx(2 / 3, abs=1e-3)


def test_one_shot_runs_compare_the_most_similar_views():
    by_even_drawers, by_odd_drawers = torch.eye(40).split(20)  # two embeddings of each character, nothing in common
    one_view = torch.stack([by_odd_drawers if drawer % 2 else by_even_drawers for drawer in range(20)], 1)
    two_views = torch.stack((one_view, one_view.flip(1)), 2)

    def accuracy(embeddings):
        generator = torch.Generator().manual_seed(0)
        return one_shot_accuracy(embeddings, ["one alphabet"] * 20, "cosine", generator, tests=10).mean()

    assert accuracy(two_views) == 1
    assert accuracy(one_view[:, :, None]) < 1


def test_help_does_not_import_torch():
    assert not imports_torch()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "calibration", "threshold_rules"])
def test_a_quick_run_writes_its_result_with_settings_and_machine(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", "--quick", "--out", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = list(tmp_path.glob("*.json"))
    assert files
    for file in files:
        written = json.loads(file.read_text())
        assert written["settings"]["quick"] is True
        assert written["machine"]["cores"] >= 1
        assert written["results"]


@pytest.mark.slow
def test_the_gpu_session_can_be_tried_anywhere_and_goes_on_where_it_stopped(tmp_path):
    keep, home, fresh = (tmp_path / name for name in ("keep", "home", "fresh"))
    command = [sys.executable, "-m", "benchmarks.gpu_session", "--tiny"]
    command += ["--stages", "gpu-softmax-resnet56,gpu-softmax-reptile-resnet56"]
    keep.mkdir()
    (keep / "gpu-tests.log").write_text("not here")
    (keep / "gpu_step.json").write_text("{}")
    first = ["--keep", str(keep), "--home", str(home)]
    elsewhere = ["--keep", str(fresh), "--back", str(home)]
    for more, said, times in (
        ([*first, "--minutes", "0"], "the time is over", 1),
        (first, "kept in", 2),
        (first, "done before", 2),
        (elsewhere, "done before", 2),
    ):
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count(said) == times
        checkpoints = [path.relative_to(home).as_posix() for path in home.rglob("checkpoint.pt")]
        assert checkpoints == (["runs/gpu-softmax-resnet56/checkpoint.pt"] if said == "the time is over" else [])
    assert json.loads((fresh / "gpu-softmax-resnet56.json").read_text())["evaluation"]["schema"] == 1
    assert (fresh / "runs" / "gpu-softmax-resnet56" / "embedder.safetensors").is_file()


@pytest.mark.slow
def test_a_few_shot_recipe_measures_validation_classes_and_the_test_classes_only_when_asked(tmp_path, real_data):
    data = real_data("cifar100")
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.few_shot", "cifar-fs-conv4-baseline"]
    command += ["--data", f"folder:{data}", "--out", str(tmp_path / "tried"), "--results", str(tmp_path)]
    command += ["--set", "iterations=2", "--set", "batch_size=8", "--episodes", "100"]
    command += ["--inference", "mirror"]
    environment = {**os.environ, "METASIAM_DATA": str(data.parent), "OMP_NUM_THREADS": "1"}
    for more, parts in (([], {"validation"}), (["--test"], {"validation", "test"})):
        done = subprocess.run([*command, *more], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        saved = json.loads((tmp_path / "tried.json").read_text())
        assert set(saved["episodes"]) == parts
        assert saved["episodes"]["validation"]["mirror"]["5-way 1-shot"]["n"] == 100
