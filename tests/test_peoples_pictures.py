"""Pictures as phones, network disks and browsers leave them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metasiam.data.preparation import USUAL
from metasiam.data.sources import load_domains
from metasiam.data.sources.files import find
from metasiam.data.sources.pictures import Read, Unreadable, decode_picture
from metasiam.errors import MetaSiamError
from metasiam.gallery.folders import pictures_by_folder


def _photos(root: Path) -> Path:
    random = np.random.default_rng(0)
    for name in ("Ada", "Eve"):
        (root / name).mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    "system", ["@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", ".ipynb_checkpoints", "System Volume Information"]
)
def test_folders_of_the_system_are_nobody_s_pictures(
    tmp_path: Path, system: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _photos(tmp_path / "photos")
    for place in (root / system, root / "Ada" / system / "deeper"):
        place.mkdir(parents=True)
        (place / "SYNOPHOTO_THUMB_M.jpg").write_bytes((root / "Ada" / "0.png").read_bytes())
    assert load_domains(f"folder:{root}", data_dir=tmp_path, listener=None).names == ("Ada", "Eve")
    assert {name: len(files) for name, files in pictures_by_folder([root]).items()} == {"Ada": 3, "Eve": 3}
    assert "left out" not in capsys.readouterr().err
    assert len(find(root / system)) == 1  # who names it means it


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is a HEIC picture whatever its name: save it as JPEG or PNG"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "it is a web page, not a picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "it only points to a picture in Git LFS"),
        (b"%PDF-1.7\n", "it is a PDF file"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "it is a video"),
        (b"", "it is empty"),
        (b"hello", "not an image, or a damaged one"),
    ],
)
def test_what_is_only_called_jpg_is_named_for_what_it_is(tmp_path: Path, first: bytes, said: str) -> None:
    root = _photos(tmp_path / "photos")
    (root / "Ada" / "x.jpg").write_bytes(first)
    with pytest.raises(MetaSiamError, match=rf"x\.jpg cannot be read \({said}"):
        load_domains(f"folder:{root}", data_dir=tmp_path, listener=None)


def _jpeg(path: Path, width: int, height: int, **options: object) -> Path:
    ramp = np.tile(np.linspace(0, 255, width, dtype=np.uint8), (height, 1))
    Image.fromarray(ramp).save(path, "JPEG", **options)
    return path


def test_a_jpeg_too_large_to_be_decoded_whole_is_decoded_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = decode_picture(_jpeg(tmp_path / "a.jpg", 640, 640), USUAL, (16, 16))
    assert isinstance(small, Read)
    Image.new("L", (300, 600)).save(tmp_path / "c.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 640 * 640 // 3)  # as 89 million are to a phone's 200
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode_picture(tmp_path / "a.jpg", USUAL, (16, 16))
        whole = decode_picture(tmp_path / "a.jpg", USUAL, None)
        larger = decode_picture(_jpeg(tmp_path / "b.jpg", 1280, 640), USUAL, (16, 16))
        other = decode_picture(tmp_path / "c.png", USUAL, (16, 16))
    assert isinstance(found, Read)
    assert np.array_equal(found.pixels, small.pixels)
    assert found.shorter == 640
    assert isinstance(whole, Unreadable)
    assert whole.reason == "640x640 pixels, more than the 136,533 that are safe: --image-size reads it smaller"
    assert isinstance(larger, Unreadable)  # beyond what any phone makes
    assert isinstance(other, Unreadable)
    assert other.reason == "300x600 pixels, more than the 136,533 that are safe"


@pytest.mark.slow
def test_200_megapixels_of_a_phone_are_read_without_a_warning(tmp_path: Path) -> None:
    path = _jpeg(tmp_path / "a.jpg", 16320, 12240)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode_picture(path, USUAL, (32, 32))
    assert isinstance(found, Read)
    assert found.pixels.shape == (32, 32, 1)
