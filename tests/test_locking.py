"""Who holds a run or a gallery keeps others out, and nothing is left lying about."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from listeners import Heard
from pair_samples import write_lfw

import metasiam
from metasiam.data.sources import load_pairs
from metasiam.pair_session import train_pairs
from metasiam.runs import RUN, check_new
from metasiam.runs.locks import check_free, file_held, run_held
from metasiam.workflows.folds import train_folds, with_test_fold

TRIPLET = {"arch": "resnet8", "batch_size": 6, "device": "cpu", "precision": "fp32", "compile": "off", "iterations": 2}
SIAMESE = {"arch": "conv4", "head": "features", "solver": "svm", "device": "cpu", "precision": "fp32", "flip": False}
TRAINED = "is being trained by another process"


@pytest.fixture
def data(tiny_domains):
    domains = tiny_domains(domains=6, images=10)
    return domains, metasiam.split_domains(domains, held_out=2)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_is_being_trained_is_not_overwritten_nor_gone_on_with(tmp_path, data):
    """The attempts come out of the training itself, when its folder is new and has no checkpoint yet."""
    out, seen = tmp_path / "run", []

    def meddle(config):
        before = contents(out)
        for more in ({"out": out, "overwrite": True}, {"resume": out}):
            with pytest.raises(metasiam.MetaSiamError, match=TRAINED):
                metasiam.train("triplet", *data, **more, **({} if "resume" in more else TRIPLET))
        seen.append(contents(out) == before and bool(before))

    metasiam.train("triplet", *data, out=out, listener=Heard(started=meddle), **TRIPLET)
    assert seen == [True]
    check_free(out)
    metasiam.train("triplet", *data, out=out, overwrite=True, **TRIPLET)


def test_a_lock_is_held_before_anything_is_cleared(tmp_path, data, monkeypatch):
    """Even where the other process came after the first look."""
    metasiam.train("triplet", *data, out=tmp_path / "run", **TRIPLET)
    before = contents(tmp_path / "run")
    monkeypatch.setattr("metasiam.session.check_new", lambda *_, **__: None)
    with run_held(tmp_path / "run"), pytest.raises(metasiam.MetaSiamError, match=TRAINED):
        metasiam.train("triplet", *data, out=tmp_path / "run", overwrite=True, **TRIPLET)
    assert contents(tmp_path / "run") == before


def test_a_run_that_was_replaced_meanwhile_is_not_gone_on_with(tmp_path, data, monkeypatch):
    from metasiam import session

    prepare, out = session.prepare, tmp_path / "run"
    metasiam.train("triplet", *data, out=out, **TRIPLET)

    def replaced_meanwhile(*arguments, **options):
        if "resolved" in options:
            metasiam.train("triplet", *data, out=out, overwrite=True, **{**TRIPLET, "seed": 5})
        return prepare(*arguments, **options)

    monkeypatch.setattr(session, "prepare", replaced_meanwhile)
    with pytest.raises(metasiam.MetaSiamError, match="was replaced by another process meanwhile"):
        metasiam.train("triplet", *data, resume=out)


def test_trainings_on_pairs_and_their_folds_are_kept_apart_too(tmp_path):
    pairs = load_pairs("lfw:10-folds", data_dir=write_lfw(tmp_path / "lfw"), image_size=16)
    out = tmp_path / "folds"

    def meddle(progress):
        with pytest.raises(metasiam.MetaSiamError, match=TRAINED):
            train_folds(pairs, out=out, overwrite=True, **SIAMESE)
        with pytest.raises(metasiam.MetaSiamError, match=TRAINED):
            train_folds(pairs, out=out, **SIAMESE)

    train_folds(pairs, out=out, listener=Heard(training=meddle), **SIAMESE)
    before = contents(out)
    with run_held(out / "fold-2"):
        with pytest.raises(metasiam.MetaSiamError, match=f"fold-2 {TRAINED}"):
            train_folds(pairs, out=out, overwrite=True, **SIAMESE)
        with pytest.raises(metasiam.MetaSiamError, match=f"fold-2 {TRAINED}"):
            train_pairs(with_test_fold(pairs, 1), out=out / "fold-2", overwrite=True, **SIAMESE)
    assert contents(out) == before


def test_a_folder_with_a_lock_alone_is_empty(tmp_path):
    with run_held(tmp_path / "run"):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    check_new(RUN, tmp_path / "run")


def test_what_killed_processes_left_half_written_is_removed_when_a_run_goes_on(tmp_path, data):
    path = metasiam.train("triplet", *data, out=tmp_path / "run", **TRIPLET).path
    (path / "figures").mkdir()
    left = [path / ".checkpoint.pt.999.partial", path / "figures" / ".loss.svg.999.partial"]
    for file in left:
        file.write_text("half")
    (path / "mine.partial").write_text("a file of somebody's own")
    metasiam.train("triplet", *data, resume=path)
    assert not any(file.exists() for file in left)
    assert (path / "mine.partial").exists()


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_locks_of_files_do_not_pile_up(tmp_path, temporary):
    for number in range(5):
        with file_held(tmp_path / f"gallery {number}"):
            assert len(list(temporary.iterdir())) == 2
    assert len(list(temporary.iterdir())) == 1


def test_many_that_wait_for_a_file_get_it_one_at_a_time(tmp_path, temporary):
    inside, most, heard = 0, 0, Heard()

    def work(number):
        nonlocal inside, most
        for _ in range(5):
            with file_held(tmp_path / "gallery", heard):
                inside += 1
                most = max(most, inside)
                stop.wait(0.002)
                inside -= 1

    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert most == 1
    assert heard.notes


def test_a_killed_process_lets_go_of_a_file(tmp_path, temporary):
    code = (
        "import os, pathlib, tempfile\nfrom metasiam.runs.locks import file_held\n"
        f"tempfile.tempdir = {str(temporary)!r}\n"
        f"with file_held(pathlib.Path({str(tmp_path / 'gallery')!r})):\n    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    heard = Heard()
    with file_held(tmp_path / "gallery", heard):
        pass
    assert heard.notes == []
    assert len(list(temporary.iterdir())) == 1
