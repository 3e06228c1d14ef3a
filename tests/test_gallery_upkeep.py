"""A gallery and the pictures on the disk: moved, missing, copied, and taken out one by one."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from metasiam import EmbedderInfo, save_embedder
from metasiam.cli import run
from metasiam.gallery import load_gallery
from metasiam.gallery.upkeep import content_of, missing
from metasiam.models import build_embedder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_embedder(path, build_embedder("resnet8"), EmbedderInfo("resnet8", image_size=(12, 12)))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("ann", "bob"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(3):
            picture = Image.fromarray(generator.integers(0, 255, (12, 12, 3), dtype=np.uint8))
            picture.save(tmp_path / "photos" / name / f"{name}{index}.png")
    return tmp_path / "photos"


class Enrolled:
    """A gallery, and enroll on it."""

    def __init__(self, path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self.weights, self.capsys = path, weights, capsys

    def __call__(self, *arguments: object, code: int = 0) -> str:
        """Run enroll and return its notes."""
        start = [] if self.path.exists() else ["--weights", str(self.weights)]
        self.capsys.readouterr()
        assert run(["enroll", *map(str, arguments), *start, "--gallery", str(self.path)]) == code
        lines = self.capsys.readouterr().err.splitlines()
        return "\n".join(line for line in lines if line.startswith(("note: ", "metasiam: ")))

    @property
    def counts(self) -> dict[str, int]:
        return load_gallery(self.path).counts()

    @property
    def files(self) -> set[str]:
        return {Path(file).name for file in load_gallery(self.path).files}


@pytest.fixture
def enroll(photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Enrolled:
    made = Enrolled(tmp_path / "g.safetensors", weights, capsys)
    assert made(photos).startswith("note: no background pictures: thresholds come from your own pictures alone")
    assert made.counts == {"ann": 3, "bob": 3}
    return made


def as_before_hashes(path: Path) -> None:
    """Make a gallery what it was before it said its pictures' contents."""
    with safe_open(str(path), framework="pt") as file:
        about = json.loads(file.metadata()["metasiam_gallery"])
    del about["hashes"]
    save_file(load_file(path), path, metadata={"metasiam_gallery": json.dumps(about)})
    assert load_gallery(path).hashes == ()


@pytest.mark.parametrize("old", [False, True], ids=["", "gallery of before"])
def test_a_copied_folder_does_not_count_twice(enroll, photos, tmp_path, old):
    if old:
        as_before_hashes(enroll.path)
    embeddings = load_gallery(enroll.path).embeddings
    shutil.copytree(photos, tmp_path / "copy")
    said = enroll(tmp_path / "copy")
    first = tmp_path / "copy" / "ann" / "ann0.png"
    assert said == (
        f"note: 6 pictures as there already under the same name, e.g. {first} is a copy of "
        f"{photos / 'ann' / 'ann0.png'}: counted once"
    )
    found = load_gallery(enroll.path)
    assert found.counts() == {"ann": 3, "bob": 3}
    assert torch.equal(found.embeddings, embeddings)
    assert all(str(photos) in file for file in found.files)
    assert all(content == content_of(file) for content, file in zip(found.hashes, found.files, strict=True))
    # Both at once, the copy first: the gallery's own picture stays, once.
    assert "6 pictures as there already" in enroll(tmp_path / "copy", photos)
    assert enroll.counts == {"ann": 3, "bob": 3}


def test_copies_within_a_folder_count_once(enroll, photos):
    shutil.copy(photos / "ann" / "ann0.png", photos / "ann" / "ann0 (copy).png")
    assert "1 picture as there already under the same name" in enroll(photos)
    assert enroll.counts == {"ann": 3, "bob": 3}


def test_copies_that_a_gallery_of_before_counted_twice_count_once(enroll, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "copy")
    made = load_gallery(enroll.path)
    twice = [file.replace("photos", "copy") for file in made.files]
    names = [made.names[label] for label in made.labels.tolist()]
    both = made.with_named(names, twice, made.embeddings, made.statistics)
    assert both.counts() == {"ann": 6, "bob": 6}
    replace(both, hashes=()).save(enroll.path)
    assert "6 pictures as there already" in enroll(photos)
    assert enroll.counts == {"ann": 3, "bob": 3}


def test_a_picture_that_moved_to_another_name_stands_under_that_one_alone(enroll, photos):
    (photos / "ann" / "ann0.png").rename(photos / "bob" / "ann0.png")
    said = enroll(photos)
    assert said == (
        f"note: 1 picture moved, e.g. {photos / 'ann' / 'ann0.png'} is now {photos / 'bob' / 'ann0.png'}: "
        "the gallery follows"
    )
    assert enroll.counts == {"ann": 2, "bob": 4}


def test_a_folder_that_moved_is_followed_and_a_name_that_went_is_told(enroll, photos, tmp_path):
    photos.rename(tmp_path / "elsewhere")
    assert "6 pictures moved" in enroll(tmp_path / "elsewhere")
    assert enroll.counts == {"ann": 3, "bob": 3}
    assert not missing(load_gallery(enroll.path))
    (tmp_path / "elsewhere" / "ann").rename(tmp_path / "elsewhere" / "anna")
    said = enroll(tmp_path / "elsewhere")
    assert "3 pictures moved" in said
    assert "note: 'ann' has no picture left and was removed" in said
    assert enroll.counts == {"anna": 3, "bob": 3}


def test_a_picture_under_two_names_is_told_and_kept(enroll, photos):
    shutil.copy(photos / "ann" / "ann0.png", photos / "bob" / "too.png")
    said = enroll(photos)
    assert said.startswith("note: 1 picture under two names, e.g. ")
    assert f"{photos / 'bob' / 'too.png'} as 'bob'" in said
    assert f"{photos / 'ann' / 'ann0.png'} as 'ann'" in said
    assert enroll.counts == {"ann": 3, "bob": 4}


def test_missing_pictures_are_told_and_forgotten_when_asked(enroll, photos):
    for name in ("ann1.png", "ann2.png"):
        (photos / "ann" / name).unlink()
    wanted = (
        f"note: 2 pictures of the gallery are no longer there, e.g. {photos / 'ann' / 'ann1.png'}: counted as before, "
        "--forget-missing takes them out"
    )
    assert enroll() == wanted
    assert enroll(photos) == wanted
    assert enroll.counts == {"ann": 3, "bob": 3}
    assert enroll("--forget-missing") == "note: 2 missing pictures removed"
    assert enroll.counts == {"ann": 1, "bob": 3}
    assert enroll("--forget-missing") == "note: no picture is missing"
    shutil.rmtree(photos / "ann")
    assert "'ann' has no picture left and was removed" in enroll("--forget-missing")
    assert enroll.counts == {"bob": 3}


def test_a_disk_that_is_not_there_loses_nothing(enroll, photos, tmp_path):
    photos.rename(tmp_path / "unplugged")
    before = enroll.path.read_bytes()
    assert "all 6 pictures of the gallery are missing" in enroll("--forget-missing", code=2)
    assert enroll.path.read_bytes() == before


def test_one_picture_is_taken_out(enroll, photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    enroll("--remove", photos / "ann" / "ann0.png", "--remove", os.path.join("photos", "ann", "ann1.png"))
    assert enroll.files == {"ann2.png", "bob0.png", "bob1.png", "bob2.png"}
    (photos / "bob" / "bob0.png").unlink()  # it need not be there any more
    enroll("--remove", photos / "bob" / "bob0.png")
    assert enroll.counts == {"ann": 1, "bob": 2}
    assert "'ann' has no picture left and was removed" in enroll("--remove", photos / "ann" / "ann2.png")
    before = enroll.path.read_bytes()
    assert "the gallery has no 'nowhere.png'" in enroll("--remove", "nowhere.png", code=2)
    assert enroll.path.read_bytes() == before
