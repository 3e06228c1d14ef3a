"""Sources of images: folders of files, npz files and glyphs, and the packed cache."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from listeners import Heard
from PIL import Image

from metasiam.data.domains import DomainSet
from metasiam.data.sources import Request, default_data_dir, fetch, files, load_domains, memory
from metasiam.data.sources import glyphs as glyphs_module
from metasiam.data.sources import pictures as pictures_module
from metasiam.data.sources.files import find
from metasiam.data.sources.folder import packed_pictures
from metasiam.data.sources.tree import Picture, arrange
from metasiam.data.splitting import split_domains
from metasiam.errors import MetaSiamError
from metasiam.evaluation.draws import draw_protocol
from metasiam.gallery.given import find_pictures
from metasiam.options.evaluation import ProtocolSettings

Pixels = np.ndarray


def pixels(seed: int, height: int = 6, width: int = 5) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, image: Pixels | Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """PATH/<domain>/<image> with two domains of ten images."""
    root = tmp_path / "photos"
    for d, domain in enumerate(("cat", "dog")):
        for i in range(10):
            save(root / domain / f"{i}.png", pixels(10 * d + i))
    return root


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def load(root: Path, data_dir: Path, **options: object) -> DomainSet:
    told: dict[str, object] = {"listener": None} | options
    return load_domains(f"folder:{root}", data_dir=data_dir, **told)  # type: ignore[arg-type]


def notes(root: Path, data_dir: Path, **options: object) -> list[str]:
    """What loading says to be read."""
    heard = Heard()
    load(root, data_dir, listener=heard, **options)
    return heard.notes


def same(a: DomainSet, b: DomainSet) -> bool:
    return a.fingerprint == b.fingerprint


# --- folder: layouts -------------------------------------------------------------------------------------------


def test_every_pixel_of_every_file_arrives_in_order(photos: Path, data_dir: Path) -> None:
    domains = load(photos, data_dir)
    assert domains.names == ("cat", "dog")
    assert domains.source == f"folder:{photos}"
    assert domains.labels.tolist() == [0] * 10 + [1] * 10
    for index, image in enumerate(domains.images):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels(index))


def test_a_fixed_fifth_of_each_domain_is_test(photos: Path, data_dir: Path) -> None:
    domains = load(photos, data_dir)
    assert domains.counts("test").tolist() == [2, 2]
    assert torch.equal(domains.is_test[:10], domains.is_test[10:]), "equal names are chosen equally"
    assert load(photos, data_dir, test_fraction=0.5).counts("test").tolist() == [5, 5]
    assert load(photos, data_dir, test_fraction=0.01).counts("test").tolist() == [2, 2]
    assert load(photos, data_dir, test_fraction=0.99).counts("train").tolist() == [2, 2]
    assert load(photos, data_dir, test_fraction=0).counts("test").tolist() == [0, 0]


def test_domains_of_four_keep_a_pair_for_the_test_and_a_pair_for_training(tmp_path: Path, data_dir: Path) -> None:
    sizes = [2, 3, 4, 5, 7, 8, 13]
    for domain, size in enumerate(sizes):
        for i in range(size):
            save(tmp_path / "photos" / f"{domain}" / f"{i}.png", pixels(20 * domain + i))
    domains = load(tmp_path / "photos", data_dir)
    assert domains.counts("test").tolist() == [1, 1, 2, 2, 2, 2, 3]
    assert domains.counts("train").tolist() == [1, 2, 2, 3, 5, 6, 10]


def test_four_images_of_each_domain_are_enough_for_every_pair_of_a_run(tmp_path: Path, data_dir: Path) -> None:
    for seed in range(20):
        save(tmp_path / "photos" / f"{seed // 4}" / f"{seed}.png", pixels(seed))
    domains = load(tmp_path / "photos", data_dir)
    drawn = draw_protocol(domains, split_domains(domains, held_out=2), ProtocolSettings(shots=(0, 1, "all")))
    assert [task.domain for task in drawn.tasks if task.regime == "antidomain"] == [3, 4]
    assert all(int(task.pairs.same.sum()) > 0 for task in drawn.tasks)
    assert all(len(images) == 2 for images in drawn.calibration.values())


def test_every_domain_without_a_test_pair_is_named_at_once(tmp_path: Path, data_dir: Path) -> None:
    for domain, size in enumerate((4, 4, 3, 4, 2)):
        for i in range(size):
            save(tmp_path / "photos" / f"{domain}" / f"{i}.png", pixels(20 * domain + i))
    domains = load(tmp_path / "photos", data_dir)
    with pytest.raises(MetaSiamError, match="domains '2', '4' have a single test image .* Remove them, or add images"):
        draw_protocol(domains, split_domains(domains, held_out=3), ProtocolSettings(shots=(0,)))


def test_train_and_test_folders_are_kept(tmp_path: Path, data_dir: Path) -> None:
    root = tmp_path / "parts"
    for seed, (part, domain) in enumerate((p, d) for p in ("train", "test") for d in ("train", "ámbar", "北")):
        for i in range(2):
            save(root / part / domain / f"{i}.png", pixels(10 * seed + i))
    domains = load(root, data_dir)
    assert domains.names == ("train", "ámbar", "北")
    assert domains.is_test.tolist() == [False, False, True, True] * 3
    assert np.array_equal(domains.images[2].permute(1, 2, 0).numpy(), pixels(30))


def test_a_domain_may_be_called_train(photos: Path, data_dir: Path) -> None:
    (photos / "cat").rename(photos / "train")
    (photos / "dog").rename(photos / "test")
    assert load(photos, data_dir).names == ("test", "train")


def test_what_is_no_image_is_ignored(photos: Path, data_dir: Path) -> None:
    before = load(photos, data_dir)
    save(photos / ".thumbnails" / "0.png", pixels(0))
    save(photos / "cat" / ".hidden.png", pixels(0))
    (photos / "cat" / "notes.txt").write_text("cats")
    (photos / "Thumbs.db").write_text("x")
    (photos / "empty").mkdir()
    (photos / "cat" / "folder.png").mkdir()
    (photos / "loop").symlink_to(photos, target_is_directory=True)
    (photos / "cat" / "loop").symlink_to(photos / "cat", target_is_directory=True)
    (photos / "self").symlink_to(photos / "self")
    assert same(load(photos, data_dir), before)
    assert notes(photos, data_dir) == []


# --- folder: what is found where, and what is said of the rest -------------------------------------------------


def test_pictures_deeper_in_a_domain_s_folder_and_behind_links_are_its_own(tmp_path: Path, data_dir: Path) -> None:
    root = tmp_path / "photos"
    save(root / "cat" / "0.png", pixels(0))
    save(root / "cat" / "indoors" / "tabby" / "1.png", pixels(1))
    save(tmp_path / "elsewhere" / "2.png", pixels(2))
    save(tmp_path / "elsewhere" / "3.png", pixels(3))
    (root / "dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    domains = load(root, data_dir)
    assert domains.names == ("cat", "dog")
    assert domains.labels.tolist() == [0, 0, 1, 1]
    assert [Path(found.path).name for found in find(root)] == ["0.png", "1.png", "2.png", "3.png"]
    assert find_pictures([root]) == [Path(found.path) for found in find(root)]


def test_a_folder_too_high_up_gets_the_advice_to_go_down(tmp_path: Path, data_dir: Path) -> None:
    for i in range(2):
        save(tmp_path / "up" / "photos" / "cat" / f"{i}.png", pixels(i))
    (said,) = notes(tmp_path / "up", data_dir)
    assert said.startswith("'photos' is the only domain: ")
    assert said.endswith(f"--data folder:{tmp_path}/up/photos")
    assert notes(tmp_path / "up" / "photos", data_dir) == []


def test_a_picture_is_known_by_its_first_bytes_where_its_ending_is_not_known(photos: Path) -> None:
    whole = (photos / "cat" / "0.png").read_bytes()
    for name in ("IMG_0001", "a.png_large", "a.png~", "a.png.bak", "a.txt"):
        (photos / "cat" / name).write_bytes(whole)
    (photos / "cat" / "LICENSE").write_text("text")
    if hasattr(os, "mkfifo"):
        os.mkfifo(photos / "cat" / "pipe")  # opening it would wait for ever
    more = {Path(found.path).name for found in find(photos)} - {f"{i}.png" for i in range(10)}
    assert more == {"IMG_0001", "a.png_large"}


def test_formats_that_are_not_read_are_counted_and_a_domain_of_them_is_never_lost_silently(
    photos: Path, data_dir: Path
) -> None:
    before = load(photos, data_dir)
    (photos / "cat" / "a.HEIC").write_bytes(b"heic")
    (photos / "dog" / "b.heic").write_bytes(b"heic")
    (photos / "dog" / "raw").mkdir()
    (photos / "dog" / "raw" / "c.CR2").write_bytes(b"II*\0")
    (said,) = notes(photos, data_dir)
    assert said == (
        "left out: 3 pictures are of formats that are not read here (2 .heic, 1 .cr2), e.g. "
        f"{photos}/cat/a.HEIC: save as JPEG or PNG to use them"
    )
    with pytest.warns(UserWarning, match="3 pictures are of formats"):
        load_domains(f"folder:{photos}", data_dir=data_dir)
    (photos / "owl").mkdir()
    (photos / "owl" / "d.heic").write_bytes(b"heic")
    with pytest.raises(
        MetaSiamError, match=r"domain 'owl' of .* would be lost: 1 picture is .*owl/d\.heic\. Save those"
    ):
        load(photos, data_dir)
    assert (
        notes(photos, data_dir, skip_unreadable=True)[-1] == "left out domain 'owl': all pictures are of such formats"
    )
    assert same(load(photos, data_dir, skip_unreadable=True), before)


def test_a_folder_of_formats_that_are_not_read_says_so(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "a.jxl").write_bytes(b"")
    with pytest.raises(MetaSiamError, match=r"not read here \(1 \.jxl\), .*cat/a\.jxl\. Save as JPEG or PNG"):
        load(tmp_path / "photos", data_dir)


def test_formats_that_this_pillow_was_built_without_are_counted(
    photos: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(2):
        save(photos / "owl" / f"{i}.webp", pixels(30 + i), lossless=True)
    assert load(photos, data_dir).names == ("cat", "dog", "owl")
    monkeypatch.setattr(files, "image_suffixes", lambda: frozenset({".png"}))
    with pytest.raises(MetaSiamError, match=r"'owl' .* \(2 \.webp\)"):
        load(photos, data_dir)


def test_a_domain_none_of_whose_pictures_can_be_read_is_named(photos: Path, data_dir: Path) -> None:
    for name in "ab":
        save(photos / "owl" / f"{name}.png", pixels(0)).write_text("no picture")
    assert notes(photos, data_dir, skip_unreadable=True)[-1] == "left out domain 'owl': no picture can be read"


def test_loose_pictures_are_counted(photos: Path, data_dir: Path) -> None:
    save(photos / "a.png", pixels(0))
    save(photos / "b.png", pixels(0))
    (said,) = notes(photos, data_dir)
    assert said == (
        f"left out: 2 pictures outside the domains' folders, e.g. {photos}/a.png: move to {photos}/<domain>/ to use "
        "them"
    )


def parted(root: Path, *names: str) -> Path:
    for part, name in enumerate(names):
        for domain in range(2):
            for i in range(2):
                save(root / name / f"{domain}" / f"{i}.png", pixels(100 * part + 10 * domain + i))
    return root


def test_a_folder_for_validation_and_loose_pictures_beside_train_and_test_are_counted(
    tmp_path: Path, data_dir: Path
) -> None:
    before = load(parted(tmp_path / "photos", "train", "test"), data_dir)
    root = parted(tmp_path / "photos", "train", "test", "valid")
    save(root / "train" / "loose.png", pixels(0))
    loose, validation = notes(root, data_dir)
    assert loose.startswith(f"left out: 1 picture outside the domains' folders, e.g. {root}/train/loose.png: ")
    assert validation.startswith("left out: 4 pictures of valid/: move into train/ to use them")
    assert same(load(root, data_dir), before)


def test_parts_are_known_in_the_other_words_and_letters_that_people_use(tmp_path: Path, data_dir: Path) -> None:
    domains = load(parted(tmp_path / "photos", "Training", "TEST"), data_dir)
    assert domains.names == ("0", "1")
    assert domains.is_test.tolist() == [False, False, True, True] * 2


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (("train", "val"), "has train/ and val/ but no test/ with domains in it. Rename val/ to test/"),
        (("val",), "has val/ but no train/ and test/"),
        (("test",), "has test/ but no train/ with domains"),
    ],
)
def test_folders_with_one_part_alone_are_refused(
    tmp_path: Path, data_dir: Path, names: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(MetaSiamError, match=complaint):
        load(parted(tmp_path / "photos", *names), data_dir)


def test_train_beside_pictures_to_be_named_is_no_domain(tmp_path: Path, data_dir: Path) -> None:
    root = parted(tmp_path / "photos", "train")
    save(root / "test" / "0.png", pixels(0))
    with pytest.raises(MetaSiamError, match="has train/ but no test/ with domains in it"):
        load(root, data_dir)


def test_the_same_picture_in_two_domains_or_parts_is_said_once(photos: Path, data_dir: Path) -> None:
    save(photos / "dog" / "copy.png", pixels(0))
    (said,) = notes(photos, data_dir, image_size=5)
    assert said.startswith("1 picture is in more than one domain, e.g. ")
    assert f"{photos}/cat/0.png and {photos}/dog/copy.png" in said
    assert notes(photos, data_dir, image_size=5) == [], "the second time they come from the cache"


def test_the_same_picture_in_train_and_test_is_said(tmp_path: Path, data_dir: Path) -> None:
    root = parted(tmp_path / "photos", "train", "test")
    for i in range(2):
        save(root / "test" / "1" / f"again{i}.png", pixels(10 + i))
    (said,) = notes(root, data_dir)
    assert said.startswith("2 pictures are in both train and test, e.g. ")


# --- folder: formats -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tiff", "gif", "PNG"])
def test_lossless_formats_arrive_unchanged(tmp_path: Path, data_dir: Path, suffix: str) -> None:
    image = pixels(3)
    if suffix == "gif":  # 256 colours are enough for 30 pixels
        saved: Pixels | Image.Image = Image.fromarray(image).quantize(64)
        image = np.asarray(saved.convert("RGB"))  # type: ignore[union-attr]
    else:
        saved = image
    options = {"lossless": True} if suffix == "webp" else {}
    for name in "ab":
        save(tmp_path / "x" / f"{name}.{suffix}", saved, **options)
    assert np.array_equal(load(tmp_path, data_dir).images[0].permute(1, 2, 0).numpy(), image)


def as_mode(mode: str) -> tuple[Image.Image, Pixels]:
    """An image of this mode, and what it should be read as: [H, W] or [H, W, 3]."""
    colour = pixels(1)
    grey = colour[..., 0]
    alpha = np.where(np.arange(5) < 2, 255, 0).astype(np.uint8) * np.ones((6, 1), np.uint8)
    on_white = np.where(alpha[..., None] > 0, colour, 255).astype(np.uint8)
    if mode == "RGBA":
        return Image.fromarray(np.dstack((colour, alpha))), on_white
    if mode == "LA":
        return Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha))), np.where(alpha > 0, grey, 255)
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257), grey
    if mode == "1":
        return Image.fromarray(grey > 127), (grey > 127) * np.uint8(255)
    if mode == "L":
        return Image.fromarray(grey), grey
    if mode == "P":
        image = Image.fromarray(colour).quantize(16)
        return image, np.asarray(image.convert("RGB"))
    assert mode == "CMYK"
    return Image.fromarray(colour).convert("CMYK"), colour


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "1", "L", "P", "CMYK"])
def test_other_pixel_formats_become_grey_or_colour(tmp_path: Path, data_dir: Path, mode: str) -> None:
    image, expected = as_mode(mode)
    suffix = "tiff" if mode == "CMYK" else "png"
    for name in "ab":
        save(tmp_path / "x" / f"{name}.{suffix}", image)
    domains = load(tmp_path, data_dir)
    assert domains.channels == (1 if expected.ndim == 2 else 3)
    got = domains.images[0].permute(1, 2, 0).numpy()
    assert np.abs(got.astype(int) - expected.reshape(got.shape)).max() <= (1 if mode == "CMYK" else 0)


def test_one_colour_image_among_grey_ones_makes_all_rgb(tmp_path: Path, data_dir: Path) -> None:
    save(tmp_path / "x" / "grey.png", pixels(0)[..., 0])
    save(tmp_path / "x" / "colour.png", pixels(1))
    domains = load(tmp_path, data_dir)
    assert domains.channels == 3
    assert np.array_equal(domains.images[1].numpy(), np.stack([pixels(0)[..., 0]] * 3))


def test_orientation_tags_are_followed(tmp_path: Path, data_dir: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was turned: show it turned by 90° clockwise
    for name in "ab":
        save(tmp_path / "x" / f"{name}.png", pixels(1), exif=turned)
    domains = load(tmp_path, data_dir)
    assert np.array_equal(domains.images[0].permute(1, 2, 0).numpy(), np.rot90(pixels(1), -1))


# --- folder: sizes and bad files -------------------------------------------------------------------------------


def test_mixed_sizes_are_refused_by_name_and_resized_only_when_asked(photos: Path, data_dir: Path) -> None:
    save(photos / "dog" / "wide.png", pixels(1, height=6, width=12))
    with pytest.raises(MetaSiamError, match=r"wide\.png is 12x6 but .*0\.png is 5x6 .*--image-size"):
        load(photos, data_dir)
    domains = load(photos, data_dir, image_size=6)
    assert domains.image_size == (6, 6)
    # The shorter side already fits: the middle square is cut out as it is.
    assert np.array_equal(domains.images[-1].permute(1, 2, 0).numpy(), pixels(1, height=6, width=12)[:, 3:9])


def test_unreadable_images_are_named_or_skipped(photos: Path, data_dir: Path) -> None:
    damaged = photos / "cat" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    (photos / "dog" / "broken.png").symlink_to(photos / "nowhere.png")
    both = r"cat/3\.png cannot be read \(.+\), nor can 1 other\. Remove them, or pass --skip-unreadable"
    with pytest.raises(MetaSiamError, match=both):
        load(photos, data_dir)
    (said,) = notes(photos, data_dir, skip_unreadable=True)
    assert said.startswith(f"left out 2 unreadable pictures, e.g. {damaged} (")
    assert notes(photos, data_dir, skip_unreadable=True) == [
        "left out 2 unreadable pictures of domains 'cat', 'dog'"
    ], "also when nothing is decoded anew"
    (photos / "dog" / "broken.png").unlink()
    with pytest.raises(MetaSiamError, match=r"cat/3\.png cannot be read \(.+\)\. Remove it, or pass --skip-unreadable"):
        load(photos, data_dir)
    (photos / "dog" / "broken.png").symlink_to(photos / "nowhere.png")
    domains = load(photos, data_dir, skip_unreadable=True)
    assert (domains.counts("train") + domains.counts("test")).tolist() == [9, 10]
    assert np.array_equal(domains.images[3].permute(1, 2, 0).numpy(), pixels(4))


def test_truncated_jpegs_and_files_that_only_pretend_are_unreadable(tmp_path: Path, data_dir: Path) -> None:
    for name in "ab":
        save(tmp_path / "x" / f"{name}.jpg", pixels(1, 64, 64), quality=95)
    path = tmp_path / "x" / "b.jpg"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(MetaSiamError, match=r"b\.jpg cannot be read \(.*truncated"):
        load(tmp_path, data_dir)
    path.write_text("not an image")
    with pytest.raises(MetaSiamError, match="not an image, or a damaged one"):
        load(tmp_path, data_dir)


def test_pictures_that_memory_cannot_hold_are_refused_before_they_are_decoded(
    photos: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 2 * 20 * 3 * 6 * 5
    monkeypatch.setattr(memory, "free_memory", lambda: needed)
    assert len(load(photos, data_dir).images) == 20
    save(photos / "dog" / "more.png", pixels(50))
    with pytest.raises(
        MetaSiamError, match=r"21 pictures of 5x6 pixels take .* GB .* Pass --image-size to shrink them"
    ):
        load(photos, data_dir)
    assert load(photos, data_dir, image_size=4).image_size == (4, 4)
    with pytest.raises(MetaSiamError, match=r"21 pictures of 8x8 pixels .* Lower --image-size 8\."):
        load(photos, data_dir, image_size=8)


def test_free_memory_is_some_of_the_machine_s() -> None:
    free = memory.free_memory()
    assert free is not None
    assert 10_000_000 < free < 10**14


def test_free_memory_heeds_a_container_s_limit_less_what_it_can_give_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CONTAINER_LIMITS", ((str(tmp_path), "max", "current"),))
    (tmp_path / "max").write_text("9000\n")
    (tmp_path / "current").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("anon 3000\nactive_file 300\ninactive_file 1000\n")
    assert memory.free_memory() == 9000 - 5000 + 1300
    (tmp_path / "max").write_text("max\n")
    assert (memory.free_memory() or 0) > 9000


def test_large_pictures_get_the_advice_to_shrink_them(tmp_path: Path, data_dir: Path) -> None:
    for i in range(2):
        save(tmp_path / "photos" / "cat" / f"{i}.png", np.full((520, 530, 3), i, np.uint8))
    (said,) = notes(tmp_path / "photos", data_dir)
    assert said == "pictures of 530x520 pixels take much memory and time: --image-size 84 or 224 is usual"
    assert notes(tmp_path / "photos", data_dir, image_size=8) == []


def test_more_pictures_than_are_decoded_ahead_arrive_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures_module, "_CHUNK", 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    paths = [save(tmp_path / f"{i:02}.png", pixels(i)) for i in range(31)]
    heard = Heard()
    decoded = pictures_module.decode_pictures(paths, size=None, skip_unreadable=False, listener=heard)
    assert all(np.array_equal(decoded.images[i].permute(1, 2, 0).numpy(), pixels(i)) for i in range(31))
    assert [step[1:] for step in heard.steps] == [*((done, 31) for done in range(0, 31, 2)), (31, 31)]


def test_a_picture_that_claims_to_be_enormous_is_refused_in_our_words(
    photos: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    save(photos / "cat" / "4.png", pixels(1, 9, 9))
    with pytest.raises(
        MetaSiamError, match=r"4\.png cannot be read \(it claims to have more than the 30 pixels that are"
    ):
        load(photos, data_dir)


def test_decompression_bombs_are_refused(photos: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    assert len(load(photos, data_dir).images) == 20
    save(photos / "cat" / "4.png", pixels(1, 9, 5))
    with pytest.raises(MetaSiamError, match=r"4\.png cannot be read \(.*more than the 30"):
        load(photos, data_dir)


def test_a_domain_with_one_image_is_refused(photos: Path, data_dir: Path) -> None:
    save(photos / "owl" / "0.png", pixels(0))
    with pytest.raises(MetaSiamError, match=r"'owl' .* fewer than two images"):
        load(photos, data_dir)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda root: None, "is not a folder"),
        (lambda root: root.write_text(""), "is not a folder"),
        (lambda root: root.mkdir(), "has no images"),
        (lambda root: save(root / "train" / "cat" / "0.png", pixels(0)), "train/ but no test/"),
        (lambda root: save(root / "0.png", pixels(0)), "has no images"),
    ],
)
def test_folders_without_domains_are_refused(tmp_path: Path, data_dir: Path, make: object, complaint: str) -> None:
    root = tmp_path / "root"
    make(root)  # type: ignore[operator]
    with pytest.raises(MetaSiamError, match=complaint):
        load(root, data_dir)


# --- the packed cache ------------------------------------------------------------------------------------------


def packed(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "cache").iterdir())


def loads_without_decoding(root: Path, data_dir: Path) -> bool:
    heard = Heard()
    load(root, data_dir, listener=heard)
    return "decoding images" not in [step[0] for step in heard.steps]


@pytest.mark.parametrize("which", [".", "cat"])
def test_a_folder_that_may_not_be_read_is_named(
    photos: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    closed, scandir = photos / which, os.scandir

    def guarded(folder: Path) -> object:
        if folder == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(MetaSiamError, match=rf"{re.escape(str(closed))} cannot be read \(permission denied\)"):
        load_domains(f"folder:{photos}", data_dir=data_dir)


def test_a_folder_below_one_that_may_not_be_entered_is_named(
    photos: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def guarded(path: object, **options: bool) -> os.stat_result:
        if str(path) == str(photos):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "stat", guarded)
    with pytest.raises(MetaSiamError, match=rf"{re.escape(str(photos))} is not a folder that can be read"):
        load_domains(f"folder:{photos}", data_dir=data_dir)


def test_the_second_load_comes_from_the_cache_and_equals_the_first(photos: Path, data_dir: Path) -> None:
    first = load(photos, data_dir)
    assert loads_without_decoding(photos, data_dir)
    second = load(photos, data_dir)
    assert same(first, second)
    assert second.names == first.names
    assert second.source == first.source
    index = torch.tensor([3, 17])
    assert torch.equal(second.gather(index), first.images[index])
    assert len(packed(data_dir)) == 1, "one file, nothing left over"


def test_a_changed_file_makes_the_cache_stale(photos: Path, data_dir: Path) -> None:
    load(photos, data_dir)
    changed = save(photos / "cat" / "0.png", pixels(99))
    os.utime(changed, ns=(1, 1))
    assert np.array_equal(load(photos, data_dir).images[0].permute(1, 2, 0).numpy(), pixels(99))
    (photos / "cat" / "1.png").unlink()
    assert len(load(photos, data_dir).images) == 19
    assert len(packed(data_dir)) == 1, "the stale file is replaced"


def test_a_cache_with_another_choice_of_test_images_is_not_used(tmp_path: Path, data_dir: Path) -> None:
    for i in range(4):
        save(tmp_path / "photos" / "cat" / f"{i}.png", pixels(i))
    root, request = tmp_path / "photos", Request(data_dir, str(tmp_path / "photos"))

    def only_the_first(pictures: Sequence[Picture]) -> list[bool]:
        return [index == 0 for index in range(len(pictures))]

    found = arrange(root).pictures
    earlier = packed_pictures(f"folder:{root}", root, found, request, is_test=only_the_first)  # as versions before
    assert earlier.counts("test").tolist() == [1]
    assert load(root, data_dir).counts("test").tolist() == [2]


@pytest.mark.parametrize("damage", ["truncated", "flipped bit", "foreign", "empty"])
def test_a_damaged_cache_is_built_anew(photos: Path, data_dir: Path, damage: str) -> None:
    expected = load(photos, data_dir)
    (path,) = packed(data_dir)
    raw = bytearray(path.read_bytes())
    raw[-40] ^= 1
    path.write_bytes(
        {"truncated": raw[:-100], "flipped bit": raw, "foreign": b"PK\x03\x04 not mine" * 9, "empty": b""}[damage]
    )
    assert not loads_without_decoding(photos, data_dir)
    assert same(load(photos, data_dir), expected)
    assert loads_without_decoding(photos, data_dir)


def test_a_cache_that_cannot_be_written_is_no_error(photos: Path, data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "cache").write_text("a file in the way")
    heard = Heard()
    domains = load(photos, data_dir, listener=heard)
    assert len(domains.images) == 20
    assert any("decoded images are not kept" in note for note in heard.notes)


def test_progress_is_reported_up_to_the_end(photos: Path, data_dir: Path) -> None:
    heard = Heard()
    load(photos, data_dir, listener=heard)
    assert heard.steps[0] == ("decoding images", 0, 20)
    assert heard.steps[-1] == ("decoding images", 20, 20)


# --- npz -------------------------------------------------------------------------------------------------------


def arrays(**changes: object) -> dict[str, object]:
    generator = np.random.default_rng(0)
    whole: dict[str, object] = {
        "train_images": generator.integers(0, 256, (8, 4, 5, 3), dtype=np.uint8),
        "train_labels": np.array([[0], [1], [5], [0], [1], [5], [0], [1]], dtype=np.uint8),
        "test_images": generator.integers(0, 256, (3, 4, 5, 3), dtype=np.uint8),
        "test_labels": np.array([[5], [1], [0]], dtype=np.uint8),
    }
    whole.update(changes)
    return {name: value for name, value in whole.items() if value is not None}


def test_medmnist_files_are_read(tmp_path: Path) -> None:
    content = arrays()
    np.savez(tmp_path / "x.npz", **content)  # type: ignore[arg-type]
    domains = load_domains(f"npz:{tmp_path / 'x.npz'}")
    assert domains.names == ("0", "1", "5")
    assert domains.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 1, 0]
    assert domains.is_test.tolist() == [False] * 8 + [True] * 3
    assert np.array_equal(domains.images[9].permute(1, 2, 0).numpy(), content["test_images"][1])  # type: ignore[index]


def test_flat_labels_grey_images_and_class_names_are_read(tmp_path: Path) -> None:
    content = arrays(
        train_images=np.zeros((4, 4, 4), np.uint8),
        train_labels=np.array([0, 1, 0, 1]),
        test_images=np.zeros((2, 4, 4), np.uint8),
        test_labels=np.array([0, 1]),
        class_names=np.array(["cat", "dog"]),
    )
    np.savez(tmp_path / "x.npz", **content)  # type: ignore[arg-type]
    domains = load_domains(f"npz:{tmp_path / 'x.npz'}", image_size=8)
    assert domains.names == ("cat", "dog")
    assert domains.images.shape == (6, 1, 8, 8)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"test_labels": None}, "has no array test_labels"),
        ({"train_images": np.zeros((8, 4, 5, 3))}, "train_images are float64"),
        ({"train_images": np.zeros((8, 4, 5, 2), np.uint8)}, r"train_images are uint8 \[8, 4, 5, 2\]"),
        ({"train_labels": np.zeros((8, 3), np.uint8)}, "several labels"),
        ({"train_labels": np.zeros(8)}, "must be integers"),
        ({"train_labels": np.zeros(7, np.uint8)}, "for 8 images"),
        ({"test_images": np.zeros((3, 4, 4, 3), np.uint8)}, "Bring all to one size"),
        ({"class_names": np.array(["a", "b"])}, "has the label 5"),
        ({"class_names": np.array(["a", None])}, "pickled objects, which are never run"),
    ],
)
def test_npz_files_of_another_layout_are_refused(tmp_path: Path, changes: dict[str, object], complaint: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays(**changes))  # type: ignore[arg-type]
    with pytest.raises(MetaSiamError, match=complaint):
        load_domains(f"npz:{tmp_path / 'x.npz'}")


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    for name, complaint in (("one.npy", "single array"), ("text.npz", "cannot be read"), ("no.npz", "does not exist")):
        with pytest.raises(MetaSiamError, match=complaint):
            load_domains(f"npz:{tmp_path / name}")


def test_damaged_compressed_arrays_are_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    np.savez_compressed(file, **arrays())  # type: ignore[arg-type]
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            load_domains(f"npz:{file}")
        except MetaSiamError as error:
            assert "\n" not in str(error)  # noqa: PT017 (some places do not matter)


# --- glyphs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def glyph_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("glyphs")


@pytest.fixture(scope="module")
def glyphs(glyph_dir: Path) -> DomainSet:
    return load_domains("glyphs", data_dir=glyph_dir)


def test_glyphs_are_a_hundred_domains_of_colour_images(glyphs: DomainSet) -> None:
    assert glyphs.images.shape == (14000, 3, 32, 32)
    assert glyphs.counts("train").tolist() == [100] * 100
    assert glyphs.counts("test").tolist() == [40] * 100
    assert len(set(glyphs.names)) == 100
    assert glyphs.names[90] == "GREEK CAPITAL LETTER PSI"
    scripts = {name.split()[0] for name in glyphs.names[-10:]}
    assert {"GREEK", "CYRILLIC", "GEORGIAN", "HEBREW", "ARABIC", "ARMENIAN", "LATIN"} <= scripts


def test_glyphs_are_bitwise_equal_in_another_process(glyphs: DomainSet) -> None:
    """The first batch stands for all: the second starts from the same generator's next state."""
    code = """
import hashlib, torch
from metasiam.data.sources import glyphs as g
labels = torch.arange(100).repeat_interleave(140)[:500]
drawn = g._draw_images(g.draw_templates(g.characters()), labels, torch.Generator().manual_seed(g.GLYPHS_VERSION))
print(hashlib.md5(drawn.numpy()).hexdigest())
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == hashlib.md5(glyphs.images[:500].numpy()).hexdigest()


def test_no_two_glyphs_look_alike() -> None:
    letters = glyphs_module.characters()
    templates = glyphs_module.draw_templates(letters)
    assert len(set(letters)) == len(letters) == 100
    assert int(templates.counts.min()) >= 4, "every character is there in at least four faces"
    ink = torch.nn.functional.avg_pool2d(templates.ink, 2).flatten(1)
    assert float(ink.sum(1).min()) > 20, "no face draws nothing"
    ink = ink - ink.mean(1, keepdim=True)
    ink = torch.nn.functional.normalize(ink, dim=1)
    owner = torch.repeat_interleave(torch.arange(100), templates.counts)
    alike = (ink @ ink.t()).masked_fill(owner[:, None] == owner[None, :], -1)
    worst = int(alike.argmax())
    pair = letters[owner[worst // len(owner)]] + letters[owner[worst % len(owner)]]
    assert float(alike.max()) < 0.95, f"{pair} correlate by {float(alike.max()):.3f}"


def test_a_character_that_a_face_lacks_is_not_drawn_as_a_box() -> None:
    templates = glyphs_module.draw_templates("KאK")
    assert templates.counts.tolist() == [20, 4, 20], "Hebrew is in DejaVu Sans only"
    assert torch.equal(templates.ink[:20], templates.ink[24:])


# --- names and folders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("cifar10", "'cifar10' is not known. Use one of glyphs, cifar100"),
        ("folder", "should be folder:PATH"),
        ("npz:", "should be npz:PATH"),
        ("mnist:here", "should be mnist"),
    ],
)
def test_unknown_names_say_what_there_is(name: str, complaint: str) -> None:
    with pytest.raises(MetaSiamError, match=complaint):
        load_domains(name)


def test_folders_with_spaces_are_quoted_in_what_to_type_next(tmp_path: Path, data_dir: Path) -> None:
    root = tmp_path / "my photos"
    save(root / "train" / "cat" / "0.png", pixels(0))
    with pytest.raises(MetaSiamError, match=f"use --data 'folder:{root}/train' and let"):
        load(root, data_dir)
    with pytest.raises(MetaSiamError, match=f"Use 'folder:{root}', one of"):
        load_domains(str(root))
    with pytest.raises(MetaSiamError, match=f"metasiam data show 'folder:{root}'$"):
        fetch(f"folder:{root}", data_dir)


def test_the_data_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METASIAM_DATA", "/somewhere")
    assert default_data_dir() == Path("/somewhere")
    monkeypatch.delenv("METASIAM_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_data_dir() == Path("/caches/metasiam")


def test_the_data_dir_of_before_is_used_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On systems whose cache folder is another than Linux's."""
    for name in ("METASIAM_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, **_: tmp_path / "Library" / "Caches" / name)
    assert default_data_dir() == tmp_path / "Library" / "Caches" / "metasiam"
    (tmp_path / ".cache" / "metasiam").mkdir(parents=True)
    assert default_data_dir() == tmp_path / ".cache" / "metasiam"


@pytest.mark.slow
def test_the_second_load_of_the_real_cifar100_takes_less_than_two_seconds(
    cifar100: DomainSet, kept_between_workers: Path
) -> None:
    seconds = []
    for _ in range(3):  # the best of three, in case the machine has other work
        start = time.perf_counter()
        again = load_domains(cifar100.source, data_dir=kept_between_workers)
        seconds.append(time.perf_counter() - start)
        assert same(again, cifar100)
    assert min(seconds) < 2
