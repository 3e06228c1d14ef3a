"""How pictures are prepared: the same file gives the same embedding by every road."""

from __future__ import annotations

import base64
import csv
import io
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import metasiam as ms
from metasiam.app.drawings import Drawing
from metasiam.app.studio import PairRule, Studio
from metasiam.cli import run as metasiam_command
from metasiam.data.preparation import UNSAID, Preparation, common_stretch, eight_bits, span_of
from metasiam.evaluation.embedding import embed_batch
from metasiam.gallery import load_gallery
from metasiam.gallery.background import BackgroundChoice, load_background
from metasiam.gallery.pictures import embed_pictures
from metasiam.learners.context import prepare
from metasiam.learners.pair_model import build_pair_model
from metasiam.models.files import EmbedderInfo, load_embedder, save_embedder
from metasiam.options.data import DataOptions, saved
from metasiam.options.pairs import SiameseOptions
from metasiam.options.triplet import TripletOptions
from metasiam.workflows.data import from_stored, load, load_pairs, pairs_stored_in


class Pixels(nn.Module):
    """An embedder that hides nothing: its embedding is the picture."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def colours(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """A picture of large and small patches."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    large = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(large + generator.integers(-40, 41, (height, width, 3)), 0, 255).astype(np.uint8)


def save(path: Path, pixels: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_folder(root: Path, sizes: Sequence[tuple[int, int]], *, suffix: str = "png") -> list[Path]:
    """Write root/{train,test}/<domain>/*: three domains of four pictures; return the files in a domain set's order."""
    files, seed = [], 0
    for domain in "abc":
        for part in ("train", "train", "test", "test"):
            path = root / part / domain / f"{seed:02}.{suffix}"
            files.append(save(path, colours(seed, *sizes[seed % len(sizes)])))
            seed += 1
    return files


def write_pairs(root: Path, sizes: Sequence[tuple[int, int]], *, suffix: str = "png") -> Path:
    """Write eight pictures and a list of pairs of them."""
    for number in range(8):
        save(root / f"{number}.{suffix}", colours(number, *sizes[number % len(sizes)]))
    return listed(root, suffix)


def listed(root: Path, suffix: str = "png") -> Path:
    rows = [(0, 1, 1, "train"), (2, 3, 1, "train"), (0, 2, 0, "train"), (1, 3, 0, "train")]
    rows += [(4, 5, 1, "test"), (4, 6, 0, "test"), (6, 7, 1, "validation"), (5, 7, 0, "validation")]
    with open(root / "pairs.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path_a", "path_b", "same", "part"])
        writer.writerows([f"{a}.{suffix}", f"{b}.{suffix}", same, part] for a, b, same, part in rows)
    return root / "pairs.csv"


def stored(info: EmbedderInfo, embedder: nn.Module, folder: Path) -> EmbedderInfo:
    """What weights say after they were saved and read again."""
    save_embedder(folder / "weights.safetensors", embedder, info)
    return load_embedder(folder / "weights.safetensors")[1]


def trained_on(domains: ms.DomainSet, folder: Path) -> EmbedderInfo:
    """What weights say that were trained on domains."""
    config = TripletOptions(arch="resnet8", device="cpu")
    context = prepare(config, domains, ms.split_domains(domains, held_out=1))
    return stored(context.info, context.embedder, folder)


def trained_on_pairs(pairs: ms.PairSet, folder: Path) -> EmbedderInfo:
    """What weights say that were trained on pairs."""
    model = build_pair_model(SiameseOptions(arch="resnet8", head="cosine", device="cpu"), pairs)
    return stored(model.info, model.embedder, folder)


def by_training(images: Tensor, info: EmbedderInfo) -> Tensor:
    return embed_batch(Pixels(), info, images)


def by_gallery(files: Sequence[Path | str], info: EmbedderInfo) -> Tensor:
    found = embed_pictures(Pixels(), info, [Path(file) for file in files], mirror=False)
    assert not found.unreadable
    return found.embeddings


def cosine(first: Tensor, second: Tensor) -> float:
    """The smallest cosine of two pictures' deviation from the average."""
    return float(nn.functional.cosine_similarity(first, second).min())


# --- the same file by two roads -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "image_size"),
    [([(24, 40)], None), ([(40, 24)], None), ([(24, 40)], 16), ([(24, 40), (50, 31), (16, 16)], 16), ([(20, 20)], 32)],
    ids=["wide", "tall", "wide to square", "of many sizes", "enlarged"],
)
def test_a_folder_s_picture_has_one_embedding(
    tmp_path: Path, sizes: list[tuple[int, int]], image_size: int | None
) -> None:
    files = write_folder(tmp_path / "photos", sizes)
    domains = ms.load_domains(f"folder:{tmp_path / 'photos'}", data_dir=tmp_path, image_size=image_size)
    again = ms.load_domains(f"folder:{tmp_path / 'photos'}", data_dir=tmp_path, image_size=image_size)
    assert again.preparation == domains.preparation, "from the cache"
    info = trained_on(domains, tmp_path)
    assert torch.equal(by_gallery(files, info), by_training(domains.images, info))


def test_a_wide_picture_of_another_size_is_cut_to_the_shape_and_not_squeezed(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", [(24, 40)])
    info = trained_on(ms.load_domains(f"folder:{tmp_path / 'photos'}", data_dir=tmp_path), tmp_path)
    middle = colours(50, 48, 80)
    square = np.zeros((80, 80, 3), np.uint8)
    square[16:64] = middle
    squeezed = np.asarray(Image.fromarray(square).resize((40, 24)))
    files = [("wide", middle), ("square", square), ("squeezed", squeezed)]
    shown = by_gallery([save(tmp_path / f"{name}.png", picture) for name, picture in files], info)
    assert cosine(shown[1:2], shown[:1]) > 0.99
    assert cosine(shown[2:], shown[:1]) < 0.9


@pytest.mark.parametrize(
    ("sizes", "crop", "image_size", "grey"),
    [
        ([(64, 64)], 32, 32, False),
        ([(64, 64)], 30, 16, True),
        ([(64, 64)], 32, None, False),
        ([(40, 60), (64, 64), (32, 70)], 32, 24, False),
        ([(24, 40)], None, 16, False),
        ([(24, 40)], None, None, True),
    ],
    ids=["crop", "crop of grey", "crop alone", "crop of many sizes", "wide to square", "wide and grey"],
)
def test_a_picture_of_pairs_has_one_embedding(
    tmp_path: Path, sizes: list[tuple[int, int]], crop: int | None, image_size: int | None, *, grey: bool
) -> None:
    file = write_pairs(tmp_path, sizes)
    options = {"data_dir": tmp_path, "crop": crop, "image_size": image_size, "grey": grey}
    pairs = ms.load_pairs(f"pairs:{file}", **options)  # type: ignore[arg-type]
    again = ms.load_pairs(f"pairs:{file}", **options)  # type: ignore[arg-type]
    assert again.preparation == pairs.preparation, "from the cache"
    info = trained_on_pairs(pairs, tmp_path)
    assert info.channels == (1 if grey else 3)
    assert torch.equal(by_gallery(pairs.names, info), by_training(pairs.images, info))


def test_a_folder_and_a_list_of_pairs_bring_pictures_to_a_size_alike(tmp_path: Path) -> None:
    pairs = ms.load_pairs(f"pairs:{write_pairs(tmp_path, [(24, 40)])}", data_dir=tmp_path, image_size=16)
    for number in range(8):
        part, domain = ("test" if number % 4 > 1 else "train"), number // 4
        save(tmp_path / "photos" / part / str(domain) / f"{number}.png", colours(number, 24, 40))
    domains = ms.load_domains(f"folder:{tmp_path / 'photos'}", data_dir=tmp_path, image_size=16)
    assert torch.equal(domains.images, pairs.images)


@pytest.mark.parametrize(("height", "width", "exact"), [(24, 40, True), (40, 24, True), (12, 12, False)])
def test_an_image_of_an_npz_file_has_the_embedding_of_its_picture(
    tmp_path: Path, height: int, width: int, *, exact: bool
) -> None:
    images = np.stack([colours(number, height, width) for number in range(12)])
    labels = np.arange(3).repeat(2)
    file = tmp_path / "a.npz"
    np.savez(file, train_images=images[:6], train_labels=labels, test_images=images[6:], test_labels=labels)
    domains = ms.load_domains(f"npz:{file}", data_dir=tmp_path, image_size=16)
    info = trained_on(domains, tmp_path)
    files = [save(tmp_path / f"{number:02}.png", image) for number, image in enumerate(images)]
    found, wanted = by_gallery(files, info), by_training(domains.images, info)
    assert torch.equal(found, wanted) if exact else cosine(found, wanted) > 0.9999


def test_a_jpeg_that_is_decoded_at_a_fraction_of_its_size_has_one_embedding(tmp_path: Path) -> None:
    files = write_folder(tmp_path / "photos", [(200, 300)], suffix="jpg")
    domains = ms.load_domains(f"folder:{tmp_path / 'photos'}", data_dir=tmp_path, image_size=16)
    info = trained_on(domains, tmp_path)
    assert torch.equal(by_gallery(files, info), by_training(domains.images, info))
    pairs = ms.load_pairs(
        f"pairs:{write_pairs(tmp_path, [(200, 300)], suffix='jpg')}", data_dir=tmp_path, crop=150, image_size=16
    )
    info = trained_on_pairs(pairs, tmp_path)
    assert torch.equal(by_gallery(pairs.names, info), by_training(pairs.images, info))


def test_a_file_of_omniglot_is_inverted_for_the_gallery_too(tmp_path: Path) -> None:
    files = []
    for half in ("images_background", "images_evaluation"):
        for number in range(4):
            ink = np.random.default_rng(number).integers(0, 2, (35, 35)) > 0
            files.append(save(tmp_path / half / f"{half[7:9]}abet" / "character01" / f"{number}.png", ink))
    domains = ms.load_domains("omniglot", data_dir=tmp_path)
    turned = ms.load_domains("omniglot-rotated", data_dir=tmp_path)
    info = trained_on(turned, tmp_path)
    assert torch.equal(by_gallery(files, info), by_training(domains.images, info))


def test_a_larger_or_smaller_picture_is_cut_in_proportion(tmp_path: Path) -> None:
    pairs = ms.load_pairs(f"pairs:{write_pairs(tmp_path, [(50, 50)])}", data_dir=tmp_path, crop=30, image_size=15)
    info = trained_on_pairs(pairs, tmp_path)
    same, files = colours(0, 50, 50), []
    for side in (50, 150, 400):
        enlarged = Image.fromarray(same).resize((side, side), Image.Resampling.NEAREST)
        enlarged.save(tmp_path / f"{side}.png")
        files.append(tmp_path / f"{side}.png")
    Image.fromarray(same).resize((400, 400), Image.Resampling.NEAREST).save(tmp_path / "400.jpg", quality=95)
    found = by_gallery([*files, tmp_path / "400.jpg"], info)
    assert cosine(found[1:], found[:1]) > 0.99
    assert cosine(by_gallery([save(tmp_path / "middle.png", same[10:40, 10:40])], info), found[:1]) < 0.9, "of 30: 18"


# --- the commands -------------------------------------------------------------------------------------------------


def in_a_frame(seed: int, kind: int) -> NDArray[np.uint8]:
    """What counts is the middle of a frame that says nothing: a red or a blue square with a white bar."""
    picture = colours(seed, 64, 64)
    picture[16:48, 16:48] = (200, 30, 30) if kind else (30, 30, 200)
    picture[28:36, 20:44] = 255
    return picture


def test_match_and_enroll_see_what_siamese_was_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(8):
        save(tmp_path / f"{number}.png", in_a_frame(number, number in (0, 1, 4, 5)))
    arguments = ["siamese", "--data", f"pairs:{listed(tmp_path)}", "--data-dir", str(tmp_path), "--arch", "resnet8"]
    arguments += ["--crop", "32", "--image-size", "32", "--head", "cosine", "--epochs", "1", "--batch-size", "2"]
    run = tmp_path / "run"
    assert metasiam_command([*arguments, "--device", "cpu", "--out", str(run)]) == 0
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["preparation"]["crop"] == 32
    capsys.readouterr()
    similar = []  # by the run's head: its log-odds, the highest for a picture and itself
    for other in (0, 5, 2):
        pair = [str(tmp_path / f"{number}.png") for number in (0, other)]
        metasiam_command(["match", *pair, "--weights", str(run), "--json"])
        similar.append(json.loads(capsys.readouterr().out)["similarity"])
    assert similar[1] == pytest.approx(similar[0], abs=1e-3), "the middles are equal"
    assert similar[2] < similar[1]
    gallery = tmp_path / "gallery.safetensors"
    for name, number in (("red", 0), ("blue", 2)):
        arguments = ["enroll", str(tmp_path / f"{number}.png"), "--name", name, "--gallery", str(gallery)]
        assert metasiam_command([*arguments, *(["--weights", str(run)] if name == "red" else [])]) == 0
        assert "at 32×32 pixels (the middle 32x32 of 64)" in capsys.readouterr().err
    assert load_gallery(gallery).embedder.info.preparation == Preparation(crop=32, crop_of=64)
    capsys.readouterr()
    metasiam_command(["identify", *(str(tmp_path / f"{n}.png") for n in (5, 7)), "--gallery", str(gallery), "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["guesses"][0]["name"] for row in rows] == ["red", "blue"]
    small = str(save(tmp_path / "small.png", colours(1, 6, 4)))
    assert metasiam_command(["match", small, str(tmp_path / "5.png"), "--weights", str(run)]) in (0, 1), "in proportion"


def test_a_picture_that_is_too_small_to_be_cut_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "weights.safetensors"
    info = EmbedderInfo("resnet8", image_size=(16, 16), preparation=Preparation(crop=20))
    save_embedder(weights, ms.build_embedder("resnet8"), info)
    small, large = save(tmp_path / "small.png", colours(0, 19, 30)), save(tmp_path / "large.png", colours(0, 20, 30))
    assert metasiam_command(["match", str(large), str(small), "--weights", str(weights)]) == 2
    error = capsys.readouterr().err
    assert f"{small} cannot be read (it is smaller than the 20x20 pixels that the embedder was shown" in error


def test_evaluate_shows_weights_what_they_were_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, path in enumerate(write_folder(tmp_path / "photos", [(64, 64)])):
        save(path, in_a_frame(seed, seed % 2))
    data, how = f"folder:{tmp_path / 'photos'}", Preparation(crop=32, crop_of=64)
    cut = ms.load_domains(data, data_dir=tmp_path, image_size=32, preparation=how, listener=None)
    assert len(torch.unique(cut.images.flatten(1), dim=0)) == 2, "the frames are cut off"
    weights = tmp_path / "weights.safetensors"
    save_embedder(weights, ms.build_embedder("resnet8"), EmbedderInfo("resnet8", preparation=how))
    whole = ms.load_domains(data, data_dir=tmp_path, image_size=32)
    split = ms.split_domains(whole, held_out=1)
    settings = {"shots": (0,), "pairs": 4, "triplets": 4, "device": "cpu"}
    with pytest.raises(
        ms.MetaSiamError, match=r"trained on the middle 32x32 of 64, .* with all of each picture\. Load"
    ):
        ms.evaluate(weights, whole, split, **settings)  # type: ignore[arg-type]
    ms.evaluate(weights, cut, split, **settings)  # type: ignore[arg-type]
    arguments = ["evaluate", str(weights), "--data", data, "--data-dir", str(tmp_path), "--held-out", "1"]
    arguments += ["--pairs", "4", "--adapt-shots", "0", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert metasiam_command(arguments) == 0
    assert "was trained on the middle 32x32 of 64" in capsys.readouterr().out
    options = DataOptions(data, tmp_path, held_out=1, validation=0, image_size=(32, 32))
    loaded, _ = load(options, None, EmbedderInfo("resnet8", preparation=how))
    assert torch.equal(loaded.images, cut.images)


def test_a_background_is_prepared_as_the_pictures_are(tmp_path: Path) -> None:
    for domain in range(4):
        for number in range(4):
            save(tmp_path / "photos" / str(domain) / f"{number}.png", in_a_frame(4 * domain + number, domain % 2))
    info = EmbedderInfo("resnet8", image_size=(24, 32), preparation=Preparation(crop=32, crop_of=64))
    choice = BackgroundChoice(f"folder:{tmp_path / 'photos'}", {"data_dir": tmp_path})
    found = load_background(choice, Pixels(), info, mirror=False, listener=None)
    assert found.embeddings.shape == (16, 3 * 24 * 32)
    assert len(torch.unique(found.embeddings, dim=0)) == 2


@pytest.mark.parametrize(
    ("trained_on", "inverted", "light"),
    [("folder:signs", False, False), ("folder:signs", True, True), ("omniglot", True, True),
     ("omniglot-rotated", True, True), ("omniglot-rotated", False, True)],
)  # fmt: skip
def test_the_app_draws_light_on_dark_where_the_training_pictures_were_so(
    trained_on: str, *, inverted: bool, light: bool
) -> None:
    info = EmbedderInfo("resnet8", trained_on=trained_on, preparation=Preparation(inverted=inverted))
    shown = Studio(Pixels(), info, PairRule(0.5, 8.0, "")).look(Drawing(strokes=(((0, 0), (5, 9), (9, 1)),)))
    with Image.open(io.BytesIO(base64.b64decode(shown.partition(",")[2]))) as picture:
        assert (np.asarray(picture)[0, 0] < 128) == light


# --- more than 8 bits ---------------------------------------------------------------------------------------------


def deep(seed: int, low: int, high: int, *, size: int = 24) -> NDArray[np.int64]:
    """A picture of ``low`` to ``high``, both of which are in it often enough."""
    fractions = colours(seed, size, size)[..., 0] / 255
    levels = (low + fractions * (high - low)).round().astype(np.int64)
    levels[0, :4], levels[1, :4] = low, high
    return levels


def as_stored(levels: NDArray[np.int64]) -> NDArray[np.generic]:
    """16 bits without a sign where that does, else 32 with one."""
    return levels.astype(np.uint16) if levels.min() >= 0 and levels.max() < 65536 else levels.astype(np.int32)


@pytest.mark.parametrize(
    ("low", "high", "span"),
    [(140, 380, (140, 380)), (0, 4095, (0, 4095)), (-2000, 1500, (-2000, 1500)), (0, 100_000, (0, 100_000))],
    ids=["small", "12 bits", "signed", "beyond 16 bits"],
)
@pytest.mark.parametrize("kind", ["folder", "pairs"])
def test_deep_pictures_get_one_stretch_that_the_gallery_uses_too(
    tmp_path: Path, kind: str, low: int, high: int, span: tuple[int, int]
) -> None:
    everything = [deep(number, low, high) for number in range(8)]
    everything[3] = deep(3, low, (low + high) // 2)  # a dark one stays dark
    if kind == "folder":
        files = []
        for number, levels in enumerate(everything):
            part = "test" if number % 4 > 1 else "train"
            files.append(save(tmp_path / "photos" / part / str(number // 4) / f"{number}.tiff", as_stored(levels)))
        with pytest.warns(
            UserWarning, match=rf"8 pictures of more than 8 bits: levels {low} to {high} become 0 to 255"
        ):
            domains = ms.load_domains(f"folder:{tmp_path / 'photos'}", data_dir=tmp_path)
        images, info = domains.images, replace(trained_info(domains), image_size=(24, 24))
        again = ms.load_domains(f"folder:{tmp_path / 'photos'}", data_dir=tmp_path)
        assert again.preparation == domains.preparation
    else:
        for number, levels in enumerate(everything):
            save(tmp_path / f"{number}.tiff", as_stored(levels))
        pairs = ms.load_pairs(f"pairs:{listed(tmp_path, 'tiff')}", data_dir=tmp_path)
        images, files, info = pairs.images, [Path(name) for name in pairs.names], trained_on_pairs(pairs, tmp_path)
    assert info.preparation.levels == span
    assert images.shape[1] == 1
    wanted = [np.rint((levels - low) * 255 / (high - low)) for levels in everything]
    for image, right in zip(images, wanted, strict=True):
        assert int(np.abs(image[0].numpy().astype(int) - right).max()) <= 1
    assert torch.equal(by_gallery(files, info), by_training(images, info))


def trained_info(domains: ms.DomainSet) -> EmbedderInfo:
    mean, std = domains.channel_statistics(domains.pool(range(len(domains.names)), "train"))
    assert domains.preparation is not None
    return EmbedderInfo("resnet8", domains.channels, domains.image_size, mean, std, preparation=domains.preparation)


def test_a_hot_and_a_dead_pixel_do_not_decide_on_the_stretch() -> None:
    levels = deep(0, 140, 380, size=40)
    levels[20, 20], levels[30, 30] = 65535, 0
    assert span_of(levels) == (140, 380)
    assert eight_bits(np.array([0, 140, 260, 380, 65535]), (140, 380)).tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(
    ("spans", "stretch"),
    [
        ([(0, 65535)], None),
        ([(300, 30_000), (2_000, 40_000)], None),
        ([(300, 30_000), (2_000, 20_000)], (300, 30_000)),
        ([(7, 7)], None),
        ([(-5, 40_000)], (-5, 40_000)),
    ],
)
def test_levels_that_use_half_of_16_bits_stay_as_they_are(
    spans: list[tuple[int, int]], stretch: tuple[int, int] | None
) -> None:
    assert common_stretch(spans) == stretch


def test_pictures_that_keep_few_levels_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "weights.safetensors"
    save_embedder(weights, ms.build_embedder("resnet8"), EmbedderInfo("resnet8"))
    files = [str(save(tmp_path / f"{n}.tiff", as_stored(deep(n, 140, 380)))) for n in range(2)]
    metasiam_command(["match", *files, "--weights", str(weights)])
    said = capsys.readouterr().err
    assert "note: 2 pictures of more than 8 bits: of the levels 0 to 65535 that the embedder was trained on" in said
    assert "has 140 to 380, which leaves 1 of 256" in said


def png_of_16_bits(path: Path, levels: NDArray[np.int64]) -> Path:
    """Write uint16 [H, W, 3], which Pillow can read but not write."""
    height, width, _ = levels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    packed = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return path


def test_colour_of_16_bits_is_refused_where_nothing_would_be_left_of_it(tmp_path: Path) -> None:
    ordinary = png_of_16_bits(tmp_path / "ordinary.png", colours(0, 16, 16).astype(np.int64) * 257)
    small = png_of_16_bits(tmp_path / "small.png", colours(0, 16, 16).astype(np.int64) + 100)
    found = embed_pictures(Pixels(), EmbedderInfo("resnet8", image_size=(16, 16)), [ordinary, small], mirror=False)
    assert found.pictures == (ordinary,)
    ((path, reason),) = found.unreadable
    assert path == small
    assert "16 bits a channel, of which the upper 8 are read, and they have 2 of 256 levels" in reason


# --- files of before ----------------------------------------------------------------------------------------------


def without_preparation(path: Path) -> None:
    """Make weights say what they said before they stored how pictures are prepared."""
    with safe_open(str(path), framework="pt") as file:
        about = json.loads((file.metadata() or {})["metasiam"])
    del about["preparation"]
    save_file(load_file(path), path, metadata={"metasiam": json.dumps(about)})


def test_weights_that_do_not_say_get_the_middle_square_as_ever(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save_embedder(weights, ms.build_embedder("resnet8"), EmbedderInfo("resnet8", image_size=(24, 40)))
    without_preparation(weights)
    info = load_embedder(weights)[1]
    assert info.preparation == UNSAID
    wide = save(tmp_path / "wide.png", colours(0, 24, 40))
    middle = save(tmp_path / "middle.png", colours(0, 24, 40)[:, 8:32])
    assert cosine(by_gallery([wide], info), by_gallery([middle], info)) > 0.995
    assert cosine(by_gallery([wide], info), by_gallery([wide], replace(info, preparation=Preparation()))) < 0.9
    square = replace(info, image_size=(24, 24))
    assert torch.equal(by_gallery([wide], square), by_gallery([wide], replace(square, preparation=Preparation())))


def test_a_gallery_of_before_opens(tmp_path: Path) -> None:
    weights, path = tmp_path / "weights.safetensors", tmp_path / "gallery.safetensors"
    save_embedder(weights, ms.build_embedder("resnet8"), EmbedderInfo("resnet8", image_size=(16, 16)))
    picture = save(tmp_path / "a.png", colours(0, 20, 20))
    arguments = ["enroll", str(picture), "--name", "a", "--background", "none", "--gallery", str(path)]
    assert metasiam_command([*arguments, "--weights", str(weights)]) == 0
    with safe_open(str(path), framework="pt") as file:
        about = json.loads((file.metadata() or {})["metasiam_gallery"])
    assert about["embedder"]["info"].pop("preparation") == Preparation().as_dict()
    save_file(load_file(path), path, metadata={"metasiam_gallery": json.dumps(about)})
    assert load_gallery(path).embedder.info.preparation == UNSAID
    assert metasiam_command(["identify", str(picture), "--gallery", str(path)]) == 0


def test_runs_of_before_load_their_data_as_they_were_trained(tmp_path: Path) -> None:
    images = np.stack([colours(number, 24, 40) for number in range(4)])
    labels, file = np.array([0, 0]), tmp_path / "a.npz"
    np.savez(file, train_images=images[:2], train_labels=labels, test_images=images[2:], test_labels=labels)
    options = {"data": f"npz:{file}", "image_size": 24, "data_dir": str(tmp_path), "held_out": 0, "validation": 0}
    assert from_stored(options).squeeze
    assert not from_stored(options | {"data": "folder:x"}).squeeze
    assert not from_stored(saved(DataOptions(f"npz:{file}"))).squeeze
    squeezed = ms.load_domains(f"npz:{file}", image_size=24, preparation=Preparation(fit="squeeze")).images
    by_torch = nn.functional.interpolate(
        torch.from_numpy(images).permute(0, 3, 1, 2).float(), (24, 24), mode="bilinear", antialias=True
    )
    assert torch.equal(squeezed, by_torch.round().to(torch.uint8))
    config = {"data": {"options": {"data": f"pairs:{write_pairs(tmp_path, [(24, 40)])}", "image_size": 16}}}
    earlier = pairs_stored_in(tmp_path, config)
    assert earlier.squeeze
    pairs = load_pairs(replace(earlier, data_dir=tmp_path), None)
    with Image.open(pairs.names[0]) as picture:
        right = np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR))
    assert np.array_equal(pairs.images[0].permute(1, 2, 0).numpy(), right)


@pytest.mark.parametrize(
    "wrong",
    [[], {"crop": "3"}, {"crop": 0}, {"fit": "stretch"}, {"levels": [3]}, {"levels": [3, 3]}, {"levels": 3},
     {"inverted": 1}, {"levels": [0, None]}, {"crop": True}, {"crop_of": 2.5}],
)  # fmt: skip
def test_a_damaged_preparation_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="is|are"):
        Preparation.from_dict(wrong)


def test_what_a_newer_version_added_is_left_out() -> None:
    how = Preparation(crop=3, crop_of=5, levels=(1, 9), inverted=True)
    stored = json.loads(json.dumps(how.as_dict() | {"hue": 3}))
    assert Preparation.from_dict(stored) == how
