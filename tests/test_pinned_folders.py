"""Folders of before open, go on and are measured for ever, and the same commands give the same numbers today.

``tests/fixtures/today/made.zip`` holds what the commands in ``make.sh`` beside it made once; see its README.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from metasiam import load_embedder
from metasiam.cli import run
from metasiam.gallery import load_gallery
from metasiam.runs import open_run

MADE = Path(__file__).parent / "fixtures" / "today" / "made.zip"

#: What may differ between two runs of one command: how long it took, when and on what it ran.
CIRCUMSTANCES = {"seconds", "minutes", "images_per_second", "created", "machine", "run"}

#: Digits that may differ where numbers are compared.
RELATIVE, ABSOLUTE = 1e-12, 0.0

#: What ``arithmetic`` is where the folders were made. Processors and releases of PyTorch add up in other orders; a few
#: steps of training make other answers of that. There the commands are run all the same, and numbers are not compared.
PINNED_ARITHMETIC = "AVX512 f7fcaaebd742f1bb"

DATA = ["--data", "folder:pictures", "--held-out", "3", "--validation", "2"]
TRAINING = ["--arch", "resnet8", "--init", "start.safetensors", "--batch-size", "8", "--device", "cpu"]
TRAINING += ["--precision", "fp32"]
MEASURE = ["--pairs", "40", "--adapt-shots", "0,all", "--adapt-steps", "2"]
SEARCH = ["tune", "--data", "pairs:pairs.csv", "--image-size", "16", "--device", "cpu", "--set", "arch=resnet8"]
SEARCH += ["--set", "init=start.safetensors", "--set", "batch_size=8"]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("today")
    with zipfile.ZipFile(MADE) as packed:
        packed.extractall(folder)
    return folder


@pytest.fixture
def today(unpacked, tmp_path, monkeypatch):
    """Go to a folder with the pictures, the pairs and the first weights; return a function that brings more there."""

    def bring(*names: str) -> Path:
        for name in names:
            if (unpacked / name).is_dir():
                shutil.copytree(unpacked / name, tmp_path / name)
            else:
                shutil.copy(unpacked / name, tmp_path / name)
        return tmp_path

    monkeypatch.setenv("METASIAM_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    bring("pictures", "pairs.csv", "start.safetensors")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order
    yield bring
    torch.set_num_threads(threads)


def read(path: str | Path) -> Any:
    """Return what a JSON file says, with paths as they are seen from where the command ran."""
    return json.loads(Path(path).read_text(encoding="utf-8").replace(f"{Path.cwd()}/", ""))


def arithmetic() -> str:
    """Return what a few training steps of plain PyTorch give here, to the bit."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(24, 3, 16, 16, generator=generator)
    shapes = ((16, 3, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3), (64, 32))
    weights = [torch.rand(*shape, generator=generator).sub(0.5).requires_grad_() for shape in shapes]
    optimizer = torch.optim.Adam(weights, lr=0.01)
    for _ in range(5):
        values = images
        for place, weight in enumerate(weights[:3]):
            values = functional.conv2d(values, weight, stride=1 + place % 2, padding=1)
            values = functional.relu(functional.batch_norm(values, None, None, training=True))
        embeddings = functional.normalize(values.mean((2, 3)) @ weights[3].t(), dim=1)
        loss = functional.cross_entropy(embeddings @ embeddings.t() / 0.1, torch.arange(24) // 4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    bits = b"".join(weight.detach().numpy().tobytes() for weight in weights)
    return f"{torch.backends.cpu.get_cpu_capability()} {hashlib.sha256(bits).hexdigest()[:16]}"


def differences(found: Any, pinned: Any, where: str = "") -> list[str]:
    """Return where two JSON values differ: in structure and words exactly, in numbers beyond the tolerance."""
    if isinstance(pinned, dict) and isinstance(found, dict):
        if list(found) != list(pinned):
            return [f"{where}: keys {list(found)}, pinned {list(pinned)}"]
        inside = [(found[key], pinned[key], f"{where}/{key}") for key in pinned if key not in CIRCUMSTANCES]
    elif isinstance(pinned, list) and isinstance(found, list):
        if len(found) != len(pinned):
            return [f"{where}: {len(found)} items, pinned {len(pinned)}"]
        inside = [
            (one, other, f"{where}/{place}") for place, (one, other) in enumerate(zip(found, pinned, strict=True))
        ]
    elif isinstance(pinned, float) and isinstance(found, float):
        same = math.isclose(found, pinned, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        return [] if same else [f"{where}: {found}, pinned {pinned}"]
    else:
        return [] if (type(found), found) == (type(pinned), pinned) else [f"{where}: {found!r}, pinned {pinned!r}"]
    return [line for one, other, place in inside for line in differences(one, other, place)]


def assert_as_pinned(found: Path, pinned: Path) -> None:
    here, there = read(found), read(pinned)
    assert list(here) == list(there)
    if arithmetic() != PINNED_ARITHMETIC:
        pytest.skip("it ran; its numbers were pinned where sums are made in another order")
    lines = differences(read(found), read(pinned))
    assert not lines, f"{found} is not as {pinned}:\n" + "\n".join(lines[:40])


def test_differences_are_seen_in_structure_words_and_numbers():
    pinned = {"a": [1.0, {"b": 3}], "c": "word", "seconds": 1.0}
    assert differences({"a": [1.0 + 1e-13, {"b": 3}], "c": "word", "seconds": 9.0}, pinned) == []
    for other in ({"c": "word", "a": [1.0, {"b": 3}], "seconds": 1.0}, {**pinned, "a": [1.01, {"b": 3}]}):
        assert differences(other, pinned)
    for a in ([1, {"b": 3}], [1.0, {"b": 3.0}], [1.0], [1.0, {"b": 3, "d": 0}]):
        assert differences({**pinned, "a": a}, pinned)


def test_a_triplet_run_gives_the_pinned_numbers(today, unpacked):
    command = ["triplet", *DATA, *TRAINING, "--compile", "off", "--lr", "0.01", "--iterations", "30", *MEASURE]
    assert run([*command, "--out", "new"]) == 0
    assert_as_pinned(Path("new/evaluation.json"), unpacked / "triplet/evaluation.json")


def test_a_siamese_run_gives_the_pinned_numbers(today, unpacked):
    command = ["siamese", "--data", "pairs:pairs.csv", "--image-size", "16", *TRAINING, "--head", "features"]
    assert run([*command, "--epochs", "1", "--lr", "0.001", "--out", "new"]) == 0
    assert_as_pinned(Path("new/evaluation.json"), unpacked / "siamese/evaluation.json")


def test_a_comparison_of_triplet_and_reptile_gives_the_pinned_numbers(today, unpacked):
    command = ["compare", "--methods", "triplet,reptile", "--set", "reptile.inner_epochs=2", *DATA, *TRAINING]
    assert run([*command, "--compile", "off", *MEASURE, "--budget-images", "96", "--out", "new"]) == 0
    for name in ("triplet/evaluation.json", "reptile/evaluation.json", "compare.json"):
        assert_as_pinned(Path("new", name), unpacked / "comparison" / name)


def test_a_stopped_triplet_run_goes_on_to_the_numbers_of_one_that_was_not(today, unpacked):
    today("triplet-stopped")
    assert run(["triplet", "--resume", "triplet-stopped", "--data", "folder:pictures"]) == 0
    assert_as_pinned(Path("triplet-stopped/evaluation.json"), unpacked / "triplet/evaluation.json")


def test_a_stopped_siamese_run_goes_on_to_the_numbers_of_one_that_was_not(today, unpacked):
    today("siamese-stopped")
    assert run(["siamese", "--resume", "siamese-stopped"]) == 0
    assert_as_pinned(Path("siamese-stopped/evaluation.json"), unpacked / "siamese/evaluation.json")


def test_a_finished_run_opens_and_is_measured_again(today, unpacked):
    today("triplet")
    opened = open_run("triplet")
    assert (opened.method, opened.images, opened.metrics()[-1]["step"]) == ("triplet", 720, 30)
    embedder, info = load_embedder("triplet")
    assert (info.arch, info.image_size, info.distance) == ("resnet8", (16, 16), "cosine")
    assert embedder(torch.zeros(1, 3, 16, 16)).shape == (1, 64)
    assert run(["triplet", "--resume", "triplet"]) == 0  # nothing to train: it is measured and drawn
    assert Path("triplet/report.html").is_file()
    assert_as_pinned(Path("triplet/evaluation.json"), unpacked / "triplet/evaluation.json")
    assert run(["evaluate", "triplet", *MEASURE, "--device", "cpu", "--out", "again"]) == 0
    again, before = read("again/evaluation.json"), read(unpacked / "triplet/evaluation.json")
    closed = "held_out", "closed", "0"
    for key in closed:
        again, before = again[key], before[key]
    assert differences(again, before) == []


def test_a_finished_siamese_run_opens_and_is_looked_at_again(today, unpacked):
    today("siamese")
    assert open_run("siamese").method == "siamese"
    assert run(["siamese", "--resume", "siamese"]) == 0
    assert_as_pinned(Path("siamese/evaluation.json"), unpacked / "siamese/evaluation.json")


def test_a_finished_comparison_is_drawn_again_and_its_runs_are_compared(today, unpacked):
    today("comparison")
    assert run(["compare", "--resume", "comparison"]) == 0
    assert Path("comparison/report.html").is_file()
    assert_as_pinned(Path("comparison/compare.json"), unpacked / "comparison/compare.json")
    assert run(["compare", "comparison/triplet", "comparison/reptile", *MEASURE, "--out", "again"]) == 0
    assert differences(read("again/compare.json")["paired"], read(unpacked / "comparison/compare.json")["paired"]) == []


def test_a_stopped_comparison_goes_on(today, capsys):
    today("comparison-stopped")
    trained = Path("comparison-stopped/triplet/embedder.safetensors").read_bytes()
    assert run(["compare", "--resume", "comparison-stopped"]) == 0
    assert "triplet is finished" in capsys.readouterr().out
    assert Path("comparison-stopped/triplet/embedder.safetensors").read_bytes() == trained
    assert set(read("comparison-stopped/compare.json")["methods"]) == {"triplet", "reptile"}
    reptile = open_run("comparison-stopped/reptile")
    assert reptile.metrics()[-1]["step"] == reptile.config["total_iterations"] == 3


def test_a_gallery_opens_and_identifies(today, capsys):
    today("gallery.safetensors", "triplet")
    assert load_gallery("gallery.safetensors").counts() == {"domain-0": 5, "domain-2": 5, "domain-4": 5}
    pictures = ["pictures/train/domain-2/0.png", "pictures/test/domain-0/5.png"]
    command = ["identify", *pictures, "--gallery", "gallery.safetensors", "--json", "--device", "cpu"]
    assert run(command) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["name"] for answer in answers] == ["domain-2", "domain-0"]
    assert [answer["probability"] for answer in answers] == pytest.approx([0.97, 0.96], abs=0.01)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("grid", ["--set", "epochs=1", "--try", "lr=0.001,0.01", "--try", "weight_decay=0.0,0.1"]),
        ("random", ["--set", "epochs=1", "--trials", "4", "--try", "lr=0.0001..0.01", "--try", "batch_size=6..8"]),
        ("tpe", ["--trials", "4", "--try", "lr=0.0001..0.01", "--try", "epochs=1,2"]),
    ],
)
def test_a_stopped_search_goes_on_to_the_trials_of_one_that_was_not(today, unpacked, kind, options):
    pytest.importorskip("optuna")
    folder = today(f"search-{kind}") / f"search-{kind}"
    begun = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert run([*SEARCH, "--strategy", kind, *options, "--resume", str(folder)]) == 0
    found = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    pinned = [json.loads(line) for line in (unpacked / f"search-{kind}-all.jsonl").read_text().splitlines()]
    assert found[:2] == begun  # not tried again
    if kind == "grid":  # what it tries does not depend on what it found
        assert [row["options"] for row in found] == [row["options"] for row in pinned]
    if kind != "random":
        if arithmetic() == PINNED_ARITHMETIC:
            assert differences(found, pinned) == []
        return
    assert [row["trial"] for row in found] == [0, 1, 2, 3]  # Optuna draws others than were drawn before it did
    assert all(0.0001 <= row["options"]["lr"] <= 0.01 and row["options"]["batch_size"] in (6, 7, 8) for row in found)
