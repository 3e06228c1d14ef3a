"""Pictures with nothing on them have no answer, and what is drawn in the colour of the ground does not vanish."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from metasiam.cli import run
from metasiam.data.preparation import USUAL
from metasiam.data.sources.pictures import decode_picture
from metasiam.gallery import load_gallery
from metasiam.models import build_embedder
from metasiam.models.files import EmbedderInfo, save_embedder

SIZE = 16


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        embedder = build_embedder("resnet8")
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_embedder(path, embedder, EmbedderInfo("resnet8", 3, (SIZE, SIZE), (0.5,) * 3, (0.3,) * 3))
    return path


def shape(path: Path, kind: str, ink=(255, 255, 255, 255), ground=(0, 0, 0, 0)) -> Path:
    picture = Image.new("RGBA", (48, 48), ground)
    draw = ImageDraw.Draw(picture)
    if kind == "circle":
        draw.ellipse((8, 8, 40, 40), outline=ink, width=6)
    elif kind == "cross":
        draw.line((8, 8, 40, 40), fill=ink, width=6)
        draw.line((8, 40, 40, 8), fill=ink, width=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


@pytest.fixture
def black(tmp_path: Path) -> Path:
    path = tmp_path / "black.jpg"
    Image.new("RGB", (40, 30), (0, 0, 0)).save(path)
    return path


@pytest.fixture
def gallery(weights: Path, tmp_path: Path) -> Path:
    for kind in ("circle", "cross"):
        for ink in (0, 60):
            shape(tmp_path / "shapes" / kind / f"{ink}.png", kind, (ink, ink, ink, 255), (200, 200, 200, 255))
    path = tmp_path / "g.safetensors"
    assert run(["enroll", str(tmp_path / "shapes"), "--weights", str(weights), "--gallery", str(path)]) == 0
    return path


def pixels(path: Path) -> np.ndarray:
    return decode_picture(path, USUAL, (48, 48)).pixels  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_white_on_transparent_is_laid_on_black_and_all_else_on_white(tmp_path, mode):
    def saved(name: str, ink: int) -> Path:
        path = shape(tmp_path / name, "circle", (ink, ink, ink, 255))
        picture = Image.open(path)
        (picture.convert("RGBA").quantize() if mode == "P" else picture.convert(mode)).save(path)
        return path

    alpha = np.asarray(Image.open(shape(tmp_path / "alpha.png", "circle")))[..., 3:]
    assert np.array_equal(pixels(saved("white.png", 255)), alpha)
    assert np.array_equal(pixels(saved("black.png", 0)), 255 - alpha)
    assert pixels(saved("grey.png", 128)).max() == 255  # what is seen on white stays there
    assert pixels(saved("nearly white.png", 250)).min() == 0
    assert (pixels(shape(tmp_path / "clear.png", "")) == 255).all()


def test_white_shapes_on_transparent_are_compared_by_their_shape(weights, tmp_path, capsys):
    circle, cross = (shape(tmp_path / f"{kind}.png", kind) for kind in ("circle", "cross"))
    assert run(["match", str(circle), str(cross), "--weights", str(weights), "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["similarity"] < 0.999
    assert run(["match", str(circle), str(circle), "--weights", str(weights), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["similarity"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (12, 150, 77)])
def test_match_refuses_a_picture_of_one_colour(gallery, tmp_path, capsys, ending, colour):
    Image.new("RGB", (50, 37), colour).save(tmp_path / f"plain.{ending}")
    plain, other = str(tmp_path / f"plain.{ending}"), str(tmp_path / "shapes" / "circle" / "0.png")
    for pair in ((plain, other), (other, plain), (plain, plain)):
        capsys.readouterr()
        assert run(["match", *pair, "--gallery", str(gallery)]) == 2
        shown = capsys.readouterr()
        assert shown.err == f"metasiam: {plain} has nothing on it (one colour). Use another picture.\n"
        assert shown.out == ""


def test_identify_has_a_row_for_it_and_no_name(gallery, tmp_path, black, capsys):
    known = str(tmp_path / "shapes" / "cross" / "0.png")
    asked = ["identify", known, str(black), "--gallery", str(gallery)]
    capsys.readouterr()
    assert run([*asked, "--json"]) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["name"]
    assert "error" not in first
    assert second == {
        "picture": str(black),
        "name": None,
        "probability": None,
        "guesses": [],
        "error": "nothing on it (one colour)",
    }
    assert run([*asked, "--csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert (rows[1]["name"], rows[1]["error"]) == ("", "nothing on it (one colour)")
    assert run(asked) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "no answer" in shown
    assert "2 pictures: " in shown
    assert " unknown, 1 with nothing on it" in shown
    assert run(["identify", str(black), "--gallery", str(gallery), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "nothing on it (one colour)"


def test_enroll_takes_no_such_picture_for_a_name(gallery, weights, tmp_path, black, capsys):
    before = gallery.read_bytes()
    capsys.readouterr()
    assert run(["enroll", str(black), "--name", "whale", "--gallery", str(gallery)]) == 2
    assert capsys.readouterr().err == f"metasiam: {black} has nothing on it (one colour). Use another picture.\n"
    assert gallery.read_bytes() == before
    for name in ("circle", "whale"):
        for index in range(2):
            path = tmp_path / "more" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (20, 20), 255 * index).save(path)
    shape(tmp_path / "more" / "circle" / "third.png", "circle", (0, 0, 0, 255), (90, 90, 90, 255))
    assert run(["enroll", str(tmp_path / "more"), "--gallery", str(gallery)]) == 1
    error = capsys.readouterr().err
    first = tmp_path / "more" / "circle" / "0.png"
    assert f"note: 4 pictures have nothing on them (one colour), e.g. {first}: left out\n" in error
    assert error.count("nothing on") == 1
    assert "'whale' has no usable picture: left out" in error
    assert load_gallery(gallery).counts() == {"circle": 3, "cross": 2}


def test_a_faint_picture_is_no_picture_of_one_colour(weights, tmp_path, capsys):
    faint = shape(tmp_path / "faint.png", "cross", (100, 100, 100, 255), (106, 106, 106, 255))
    assert run(["match", str(faint), str(faint), "--weights", str(weights)]) == 0
