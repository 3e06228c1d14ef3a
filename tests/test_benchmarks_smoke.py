"""Every benchmark runs: tiny, and its numbers mean nothing."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
import zipfile
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_session, gpu_step
from benchmarks.__main__ import NAMES
from benchmarks.data import unzipped
from benchmarks.harness import interleaved, ratios, summary
from benchmarks.memory_and_start import imports_torch
from benchmarks.one_shot_runs import one_shot_accuracy
from benchmarks.performance_page import load
from benchmarks.scaling import figure_of
from metasiam.errors import MetaSiamError
from metasiam.training.step import TrainingStep

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


def zip_of(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)


def test_archives_are_unzipped_once_and_only_when_all_are_there(tmp_path):
    archives, into = tmp_path / "archives", tmp_path / "into"
    archives.mkdir()
    with pytest.raises(MetaSiamError, match="train/ has 0 domains and test/ 0"):
        unzipped(archives, into, "set")
    zip_of(archives / "set-test.zip", "test/a/1.png", "test/b/1.png")
    zip_of(archives / "set-train-1.zip", "train/a/2.png")
    with pytest.raises(MetaSiamError, match="train/ has 1 domain and test/ 2"):
        unzipped(archives, into, "set")
    (archives / "set-train-2.zip").write_bytes((archives / "set-test.zip").read_bytes()[:60])
    with pytest.raises(MetaSiamError, match="set-train-2.zip is damaged or not all there"):
        unzipped(archives, into, "set")
    assert not [path for path in into.rglob("*") if path.name.endswith("set") or "partial" in path.name]
    zip_of(archives / "set-train-2.zip", "train/b/2.png")
    whole = unzipped(archives, into, "set")
    assert whole.name == "set"
    assert {path.relative_to(whole).as_posix() for path in whole.rglob("*.png")} == {
        f"{part}/{domain}/{number}.png" for part, number in (("test", 1), ("train", 2)) for domain in "ab"
    }
    (whole / "kept").touch()
    assert (unzipped(archives, into, "set") / "kept").is_file()
    zip_of(archives / "set-train-3.zip", "train/a/3.png")
    assert len(list(unzipped(archives, into, "set").rglob("*.png"))) == 5


def test_a_kind_of_step_that_fails_says_why_and_only_the_graph_asked_for_is_captured(tmp_path, tiny_domains):
    arguments = Namespace(batch=2, inner_epochs=1, precision="fp32", seed=0, data="nowhere", quick=True)
    assert gpu_step.hand_back(arguments, tmp_path / "result.json") == 1
    assert "nowhere" in json.loads((tmp_path / "result.json").read_text())["failed"]
    domains = tiny_domains(domains=8, images=12)
    reptile = gpu_step.learner(domains, arguments, "resnet8", compiled=False, graphed=False)
    assert type(reptile._step) is TrainingStep
    assert torch.isfinite(reptile.iterate(0, lambda: False))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="the step is a TrainingStep"):
            gpu_step.learner(domains, arguments, "resnet8", compiled=False, graphed=True)
    assert list(gpu_step.KINDS)[:2] == ["eager", "graph"]  # what compiles comes last


def stages_ending(monkeypatch, statuses: dict[str, int]) -> list[str]:
    """Let a stage's process do nothing but end with its status; return the list of those begun."""
    begun: list[str] = []
    start = subprocess.Popen

    def popen(command, **options):
        begun.append(command[command.index("--alone") + 1])
        return start([sys.executable, "-S", "-c", f"import os; {ending(statuses.get(begun[-1], 0))}"])

    def ending(status: int) -> str:
        return f"os._exit({status})" if status >= 0 else f"os.kill(os.getpid(), {-status})"

    monkeypatch.setattr(gpu_session.subprocess, "Popen", popen)
    return begun


def test_a_stage_that_fails_does_not_stop_the_others_and_is_tried_again_when_named(tmp_path, monkeypatch):
    first, second, third = (stage.name for stage in gpu_session.STAGES[:3])
    stages = list(gpu_session.STAGES[:3])

    class Failing:
        keep = tmp_path

        def train(self, stage):
            raise RuntimeError("operation not permitted when stream is capturing")

    assert gpu_session.run_stage(Failing(), stages[0]) == gpu_session.FAILED
    assert "RuntimeError: operation not permitted" in (tmp_path / f"{first}.failed.txt").read_text()
    later = time.monotonic() + 600
    begun = stages_ending(monkeypatch, {second: -9})
    assert gpu_session.run_stages(tmp_path, tmp_path / "home", stages, False, True, later) == 1
    assert begun == [second, third]
    assert "signal 9" in (tmp_path / f"{second}.failed.txt").read_text()
    assert (tmp_path / "home" / "kept.tar.gz").is_file()
    begun.clear()
    assert gpu_session.run_stages(tmp_path, None, stages[:1], True, True, later) == 0
    assert begun == [first]
    assert not (tmp_path / f"{first}.failed.txt").exists()


def test_no_stage_begins_without_time_data_or_the_weights_it_starts_from(tmp_path, monkeypatch, capsys):
    stages = list(gpu_session.STAGES)
    begun = stages_ending(monkeypatch, {stages[0].name: 1, stages[1].name: gpu_session.OUT_OF_TIME})
    now = time.monotonic()
    assert gpu_session.run_stages(tmp_path, None, stages, False, True, now + gpu_session.MARGIN - 1) == 0
    assert begun == []
    assert gpu_session.run_stages(tmp_path, None, stages, False, True, now + 600) == 1
    assert gpu_session.run_stages(tmp_path, None, stages[1:], False, True, now + 600) == 0
    assert gpu_session.run_stages(tmp_path, None, stages[-1:], False, True, now + 600) == 0
    assert begun == [stages[0].name, stages[1].name]
    assert not list(tmp_path.glob("*.failed.txt"))
    said = capsys.readouterr().out
    assert said.count("the time is over") == 2
    assert f"{stages[-1].name}: needs {stages[-1].after} first" in said


def test_a_finished_training_is_only_evaluated(tmp_path, monkeypatch, tiny_domains):
    stage = gpu_session.STAGES[0]
    folder = tmp_path / "runs" / stage.name
    folder.mkdir(parents=True)
    (folder / "embedder.safetensors").touch()
    (tmp_path / "progress.json").write_text('{"stages": {"another": {"iteration": 3}}}')
    session = gpu_session.Session(tmp_path, None, tiny_domains(), None, time.monotonic() + 60, True)
    evaluated = []
    monkeypatch.setattr(gpu_session, "open_run", lambda path: path)
    monkeypatch.setattr(session, "_train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(session, "evaluate", lambda _, run: evaluated.append(run))
    session.train(stage)
    assert evaluated == [folder]
    assert json.loads((tmp_path / "progress.json").read_text())["stages"] == {"another": {"iteration": 3}}


@pytest.mark.parametrize("deaf", [False, True])
def test_what_hangs_is_interrupted_then_killed_and_keeps_its_output(tmp_path, monkeypatch, deaf):
    monkeypatch.setattr(gpu_session, "LAST_WORDS", 1 if deaf else 30)
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    hearing = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{ignoring if deaf else hearing}\nimport time\nprint('begun')\ntime.sleep(100)"
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=gpu_session.unbuffered(),
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert not gpu_session.ended(process, time.monotonic())
        assert (process.returncode == -9) == deaf
    log = tmp_path / "a.log"
    gpu_session.logged([sys.executable, "-S", "-c", "print('said')"], log, time.monotonic() + 100)
    gpu_session.logged([sys.executable, "-S", "-c", "print('more')"], log, time.monotonic())
    assert log.read_text() == "said\n"


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
    in_time = ["--minutes", "30"]
    alone = [*first, "--minutes", "0", "--alone", "gpu-softmax-resnet56"]
    for more, said, times, status in (
        ([*first, "--minutes", "0"], "the time is over", 1, 0),
        (alone, "gpu-softmax-resnet56: {'iteration'", 1, gpu_session.OUT_OF_TIME),
        ([*first, *in_time], "kept in", 2, 0),
        (first, "done before", 2, 0),
        (elsewhere, "done before", 2, 0),
    ):
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        assert done.stdout.count(said) == times
        checkpoints = [path.relative_to(home).as_posix() for path in home.rglob("checkpoint.pt")]
        assert checkpoints == (["runs/gpu-softmax-resnet56/checkpoint.pt"] if status else [])
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


def test_the_figure_of_scaling_shows_every_point_and_its_labels_stay_apart() -> None:
    """A limit set for one of several axes that share it cut the higher curves off; long names ran into each other."""
    result = load("scaling")
    assert result is not None
    varied = result["results"]["varied"]
    figure = figure_of(varied)
    figure.draw_without_rendering()
    axes = figure.get_axes()
    assert len(axes) == 2 * len(varied)
    for axis, key in zip(axes, ["cpu_seconds_per_iteration"] * len(varied) + ["peak_mb"] * len(varied), strict=True):
        bottom, top = axis.get_ylim()
        drawn = [float(value) for value in axis.get_lines()[0].get_ydata()]
        assert drawn in [[found[key] for found in by_value.values()] for by_value in varied.values()]
        assert bottom == 0
        assert max(drawn) < top
        boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
