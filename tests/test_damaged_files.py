"""Damaged files of every kind: each is read as before or refused in one line, and nothing is built or lost first."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import ODD, few, header, mutated, one_line, with_header
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import metasiam as ms
import metasiam.session
from metasiam.app.drawings import read_drawing, read_symbol_file
from metasiam.cli import run
from metasiam.data.sources import pair_list
from metasiam.data.sources.pair_images import PairRequest
from metasiam.gallery import EmbedderKey, calibrated
from metasiam.gallery.background import of_run
from metasiam.gallery.calibrate import Background
from metasiam.runs import create_run
from metasiam.session import train
from metasiam.trained_on import check_comparable, check_never_trained_on
from metasiam.training.checkpoint import load_checkpoint, save_checkpoint
from metasiam.workflows.data import data_of_run
from metasiam.workflows.tune import read_trials

OPTIONS = {"arch": "resnet8", "iterations": 2, "batch_size": 4, "compile": "off"}
DEEP = "[" * 60_000 + "]" * 60_000


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_domains) -> Path:
    """A folder with a whole file of every kind."""
    folder = tmp_path_factory.mktemp("whole")
    domains = tiny_domains(domains=8, size=8)
    split = ms.split_domains(domains, held_out=3)
    made = train("triplet", domains, split, out=folder / "run", **OPTIONS)
    info = ms.load_embedder(made.path)[1]
    rows = torch.nn.functional.normalize(torch.randn(4, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    background = Background(rows.repeat(3, 1), torch.arange(6).repeat_interleave(2), torch.rand(12, 6), "tiny")
    gallery = ms.Gallery(EmbedderKey(str(made.path), "0" * 24, info), mirror=False, background=background)
    gallery = gallery.with_named(["a", "a", "b", "b"], list("1234"), rows, torch.rand(4, 6))
    calibrated(gallery).save(folder / "gallery.safetensors")
    (folder / "split.json").write_text(
        json.dumps({"train": ["domain 00", "domain 01"], "validation": [], "test": ["domain 07"]})
    )
    row = {"trial": 0, "options": {"lr": 0.1}, "score": 0.5, "accuracy": 0.5, "auc": 0.5, "seconds": 1.0, "epochs": 1}
    (folder / "trials.jsonl").write_text(json.dumps(row) + "\n")
    return folder


@few
@given(st.data())
def test_weights_whose_header_is_damaged(files, tmp_path, data):
    about = mutated(header(files / "run" / "embedder.safetensors", "metasiam"), data.draw)
    source = files / "run" / "embedder.safetensors"
    path = with_header(source, tmp_path / "w.safetensors", "metasiam", json.dumps(about))
    one_line(lambda: ms.load_embedder(path))


@few
@given(st.data())
def test_galleries_whose_header_is_damaged(files, tmp_path, data):
    about = mutated(header(files / "gallery.safetensors", "metasiam_gallery"), data.draw)
    path = tmp_path / "g.safetensors"
    with_header(files / "gallery.safetensors", path, "metasiam_gallery", json.dumps(about))
    one_line(lambda: ms.identify(ms.load_gallery(path), torch.ones(1, 64)))


@few
@given(st.data())
def test_galleries_whose_tensors_are_damaged(files, tmp_path, data):
    text = json.dumps(header(files / "gallery.safetensors", "metasiam_gallery"))
    names = ("embeddings", "labels", "statistics", "background", "background_labels", "background_statistics")
    name = data.draw(st.sampled_from(names))
    odd = data.draw(
        st.sampled_from(
            [torch.zeros(0), torch.ones(4, 3), torch.ones(12, 3), torch.full((4, 64), torch.nan), torch.arange(4)]
        )
    )
    path = tmp_path / "g.safetensors"
    with_header(files / "gallery.safetensors", path, "metasiam_gallery", text, **{name: odd})
    one_line(lambda: ms.identify(ms.load_gallery(path), torch.ones(1, 64)))


@few
@given(st.data())
def test_runs_whose_config_is_damaged(files, tmp_path, tiny_domains, monkeypatch, data):
    monkeypatch.setattr(metasiam.session, "_train", lambda loop, context: loop.run)  # what is read comes before it
    domains = tiny_domains(domains=8, size=8)
    split = ms.split_domains(domains, held_out=3)
    path = copied_run(files, tmp_path)
    text = json.dumps(mutated(json.loads((path / "config.json").read_text()), data.draw))
    (path / "config.json").write_text(text)
    one_line(lambda: check_comparable([ms.open_run(path)], domains, split))
    one_line(lambda: check_never_trained_on(ms.open_run(path), domains, split))
    one_line(lambda: data_of_run(ms.open_run(path)))
    one_line(lambda: of_run(path))
    one_line(lambda: train("triplet", domains, split, resume=path))


def copied_run(files: Path, tmp_path: Path) -> Path:
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    return Path(shutil.copytree(files / "run", tmp_path / "run", ignore=shutil.ignore_patterns("tensorboard")))


@few
@given(st.data())
def test_checkpoints_whose_values_are_others(files, tmp_path, tiny_domains, data):
    domains = tiny_domains(domains=8, size=8)
    path = copied_run(files, tmp_path)
    state = load_checkpoint(path / "checkpoint.pt")
    state.pop("schema")
    save_checkpoint(path / "checkpoint.pt", mutated(state, data.draw))
    one_line(lambda: train("triplet", domains, ms.split_domains(domains, held_out=3), resume=path))


@few
@given(st.lists(st.one_of(ODD, st.dictionaries(st.sampled_from(["step", "loss", "images"]), ODD)), max_size=3))
def test_lines_of_metrics_that_are_none_are_left_out(tmp_path, rows):
    run = create_run(tmp_path / "run", {"options": {"method": "triplet"}}, overwrite=True)
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.append_metrics({"step": 3, "loss": 0.5})
    assert {"step": 3, "loss": 0.5} in run.metrics()
    run.keep_metrics_to(2)
    assert all(0 <= row["step"] <= 2 for row in run.metrics())


@few
@given(st.data())
def test_split_files_trials_and_drawings_that_are_damaged(files, tmp_path, tiny_domains, data):
    domains = tiny_domains(domains=8, size=8)
    split = tmp_path / "split.json"
    split.write_text(json.dumps(mutated(json.loads((files / "split.json").read_text()), data.draw)))
    one_line(lambda: ms.split_domains(domains, split=split))
    trials = tmp_path / "trials.jsonl"
    trials.write_text(json.dumps(mutated(json.loads((files / "trials.jsonl").read_text()), data.draw)) + "\n")
    one_line(lambda: read_trials(trials))
    drawing = {"strokes": [[[1, 2], [3.5, 4]]]}
    one_line(lambda: read_drawing(mutated(drawing, data.draw), "the pad"))
    symbols = {"format": "metasiam-symbols", "schema": 1, "symbols": [{"name": "a", "drawings": [drawing]}]}
    one_line(lambda: read_symbol_file(json.dumps(mutated(symbols, data.draw))))


@few
@given(st.data())
def test_arrays_that_are_damaged(tmp_path, data):
    arrays: dict[str, Any] = {
        "train_images": np.zeros((4, 6, 6), np.uint8),
        "train_labels": np.array([0, 0, 1, 1]),
        "test_images": np.zeros((4, 6, 6), np.uint8),
        "test_labels": np.array([0, 0, 1, 1]),
        "class_names": np.array(["a", "b"]),
    }
    odd = [np.zeros((4, 0, 0), np.uint8), np.zeros(0), np.array(3), np.zeros((4, 6, 6)), np.array([0, 0, 9, -1])]
    odd += [np.array(["", "a"]), np.array(["a", "a"]), np.array([b"a"]), np.zeros((4, 6, 6, 3), np.uint8)]
    arrays[data.draw(st.sampled_from(sorted(arrays)))] = data.draw(st.sampled_from(odd))
    np.savez(tmp_path / "a.npz", **arrays)
    one_line(lambda: ms.load_domains(f"npz:{tmp_path / 'a.npz'}"))


@few
@given(
    st.lists(
        st.sampled_from(["a.png", "b.png", "", "1", "0", "x", "\0", '"', ",", "\n", "\r", "é", "same"]), max_size=8
    )
)
def test_lists_of_pairs_that_are_damaged(tmp_path, words):
    file = tmp_path / "pairs.csv"
    file.write_text("path_a,path_b,same\n" + ",".join(words), encoding="utf-8")
    one_line(lambda: pair_list.load(PairRequest(tmp_path, str(file))))


# --- seen to fail before ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["weights", "gallery", "config", "metrics", "split", "trials", "symbols"])
def test_brackets_nested_by_the_thousand_are_one_line(files, tmp_path, tiny_domains, kind):
    deep = '{"a": ' + DEEP + "}"
    domains = tiny_domains(domains=8, size=8)
    if kind == "metrics":
        made = create_run(tmp_path / "run", {"options": {"method": "triplet"}})
        (made.path / "metrics.jsonl").write_text(deep + '\n{"step": 1}\n')
        assert made.metrics() == [{"step": 1}]
        return
    if kind == "trials":
        (tmp_path / "trials.jsonl").write_text(deep + "\n")
        assert read_trials(tmp_path / "trials.jsonl") == []
        return
    path = tmp_path / "file.safetensors"
    source = files / ("gallery.safetensors" if kind == "gallery" else "run/embedder.safetensors")
    if kind in ("weights", "gallery"):
        with_header(source, path, "metasiam" if kind == "weights" else "metasiam_gallery", deep)
    (tmp_path / "config.json").write_text(deep)
    calls: dict[str, Callable[[], Any]] = {
        "weights": lambda: ms.load_embedder(path),
        "gallery": lambda: ms.load_gallery(path),
        "config": lambda: ms.open_run(tmp_path),
        "split": lambda: ms.split_domains(domains, split=tmp_path / "config.json"),
        "symbols": lambda: read_symbol_file(deep),
    }
    with pytest.raises(ms.MetaSiamError, match=r"nested too deep|not JSON"):
        calls[kind]()


def test_weights_of_a_thousand_million_channels_are_refused_before_anything_is_built(files, tmp_path, monkeypatch):
    source = files / "run" / "embedder.safetensors"
    about = header(source, "metasiam")
    path = with_header(source, tmp_path / "w.safetensors", "metasiam", json.dumps({**about, "channels": 10**9}))
    with pytest.raises(ms.MetaSiamError, match="channels is 1000000000, not a whole number from 1 to 1024"):
        ms.load_embedder(path)
    # Within bounds, but not what the file's tensors are: 4 GB, were it built.
    koch = {**about, "arch": "koch", "image_size": [2048, 2048]}
    path = with_header(source, tmp_path / "w.safetensors", "metasiam", json.dumps(koch))
    with pytest.raises(ms.MetaSiamError, match="is not a koch"):
        ms.load_embedder(path)


def test_an_array_larger_than_memory_is_refused_by_its_header(tmp_path):
    whole = io.BytesIO()
    np.savez(whole, train_labels=np.zeros(1, np.int64))
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 64, 64)})
    with zipfile.ZipFile(whole, "a") as packed:
        packed.writestr("train_images.npy", head.getvalue())
    (tmp_path / "a.npz").write_bytes(whole.getvalue())
    with pytest.raises(ms.MetaSiamError, match=r"holds arrays of 4.1e\+03 GB and .* GB of memory are free"):
        ms.load_domains(f"npz:{tmp_path / 'a.npz'}")


def test_pictures_of_no_pixels_are_refused(tmp_path):
    images, labels = np.zeros((4, 0, 0), np.uint8), np.array([0, 0, 1, 1])
    path = tmp_path / "a.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    with pytest.raises(ms.MetaSiamError, match=r"train_images are uint8 \[4, 0, 0, 1\]"):
        ms.load_domains(f"npz:{path}")


def test_a_null_byte_in_a_list_of_pairs_is_told_with_its_line(tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("path_a,path_b,same\na\0.png,b.png,1\n")
    with pytest.raises(ms.MetaSiamError, match=r"line 2 has a byte that no path can have|NUL"):
        ms.load_pairs(f"pairs:{file}")


def test_a_coordinate_of_400_digits_is_no_point():
    with pytest.raises(ms.MetaSiamError, match="the pad has a point that is not two numbers"):
        read_drawing(json.loads('{"strokes": [[[1, ' + "9" * 400 + "]]]}"), "the pad")


def test_a_gallery_of_another_width_is_one_line(files, tmp_path):
    gallery = ms.load_gallery(files / "gallery.safetensors")
    with pytest.raises(ms.MetaSiamError, match=r"the embeddings are \[1, 32\] and the gallery's 64 wide"):
        ms.identify(gallery, torch.ones(1, 32))


def test_a_tensor_of_another_shape_does_not_slip_into_the_weights(files, tmp_path, tiny_domains):
    path = copied_run(files, tmp_path)
    state = load_checkpoint(path / "checkpoint.pt")
    state.pop("schema")
    weights = next(value for value in state["learner"].values() if isinstance(value, list) and value)
    weights[0] = torch.zeros(1)  # would be spread over the whole weight
    save_checkpoint(path / "checkpoint.pt", state)
    domains = tiny_domains(domains=8, size=8)
    with pytest.raises(ms.MetaSiamError, match="does not fit this run"):
        train("triplet", domains, ms.split_domains(domains, held_out=3), resume=path)


def test_what_a_config_does_not_say_names_the_file(files, tmp_path, capsys):
    path = copied_run(files, tmp_path)
    config = json.loads((path / "config.json").read_text())
    config["data"].pop("options")
    (path / "config.json").write_text(json.dumps(config))
    assert run(["triplet", "--resume", str(path)]) == 2
    assert f"{path / 'config.json'} is damaged: it has no options" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["self", "self/run", "nowhere/run", "nowhere"])
def test_a_link_that_leads_nowhere_is_no_folder_to_write_into(files, tmp_path, monkeypatch, capsys, out):
    monkeypatch.chdir(tmp_path)
    Path("self").symlink_to("self")
    Path("nowhere").symlink_to("gone")
    Path("empty").mkdir()
    options = ["--arch", "resnet8", "--iterations", "1", "--compile", "off"]
    for command in (
        ["triplet", *options],
        ["sweep"],
        ["compare", str(files / "run")],
        ["evaluate", str(files / "run")],
    ):
        assert run([*command, "--data", "folder:empty", "--out", out]) == 2
        error = capsys.readouterr().err
        assert f"--out {out} cannot be written (" in error
        assert error.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["empty", "nowhere", "self"]


def test_a_domain_with_a_new_line_in_its_name_is_shown_in_the_grid(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a\nb", "c"):
        Path("pictures", name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8), (60 * number, 99, 0)).save(Path("pictures", name, f"{number}.png"))
    assert run(["data", "show", "folder:pictures", "--out", "grid.png"]) == 0
    with Image.open("grid.png") as grid:
        assert grid.height > 16
