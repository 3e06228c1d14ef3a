"""``metasiam data``: list, fetch and show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pair_samples import write_list
from PIL import Image
from typer.testing import CliRunner, Result

from metasiam.cli.data import app
from metasiam.errors import MetaSiamError


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for domain in ("ant", "bee [x]", "cat", "dog"):
        folder = tmp_path / "photos" / domain
        folder.mkdir(parents=True)
        for index in range(5):
            Image.fromarray(generator.integers(0, 256, (8, 6, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "photos"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeeded(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def test_list_names_every_source_and_says_which_are_here(tmp_path: Path) -> None:
    output = succeeded(run("list", "--data-dir", tmp_path))
    for name in ("glyphs", "cifar100", "mnist", "omniglot", "folder:PATH", "npz:PATH"):
        assert name in output
    assert not any(line.rstrip().endswith("yes") for line in output.splitlines())
    for half in ("images_background", "images_evaluation"):
        (tmp_path / half).mkdir()
    lines = succeeded(run("list", "--data-dir", tmp_path)).splitlines()
    here = [line for line in lines if line.rstrip().endswith("yes")]
    assert [line.split()[0] for line in here] == ["omniglot", "omniglot-rotated"]


def test_show_counts_each_domain_and_names_the_split(photos: Path, tmp_path: Path) -> None:
    output = succeeded(run("show", f"folder:{photos}", "--data-dir", tmp_path, "--held-out", 1, "--validation", 1))
    lines = [line.split() for line in output.splitlines()]
    assert ["0", "ant", "3", "2", "seen"] in lines
    assert ["1", "bee", "[x]", "3", "2", "validation"] in lines
    assert ["3", "dog", "3", "2", "held", "out"] in lines
    assert "4 domains, 12 train and 8 test images, 6 x 8 pixels, colour, fingerprint" in output
    assert "split held-out 1: 2 seen, 1 validation, 1 held out" in output


def test_show_writes_a_grid_of_pictures_and_never_over_a_file(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    arguments = ("show", f"folder:{photos}", "--data-dir", tmp_path, "--out", out, "--rows", 2, "--columns", 3)
    assert f"wrote {out}" in succeeded(run(*arguments))
    with Image.open(out) as grid:
        tiles = np.asarray(grid)[:, 180:]
    source = np.asarray(Image.open(photos / "cat" / "0.png"))
    shown = {
        bytes(tiles[50 * row + 3 : 50 * row + 48 : 6, 38 * column + 3 : 38 * column + 36 : 6])
        for row in range(2)
        for column in range(3)
    }
    assert source.tobytes() in shown
    before = out.read_bytes()
    refused = run(*arguments)
    assert isinstance(refused.exception, MetaSiamError)
    assert "--overwrite" in str(refused.exception)
    assert out.read_bytes() == before
    succeeded(run(*arguments, "--overwrite"))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Pictures lying and standing, one of them by its orientation tag, each with a red middle."""
    lying = Image.new("RGB", (48, 36), "blue")
    lying.paste("red", (12, 6, 36, 30))
    for domain in ("ant", "bee"):
        folder = tmp_path / "mixed" / domain
        folder.mkdir(parents=True)
        for index in range(4):
            standing = index > 1
            (lying.transpose(Image.Transpose.ROTATE_90) if standing else lying).save(folder / f"{index}.png")
        lying.getexif()[0x0112] = 6
        lying.save(folder / "4.jpg", exif=lying.getexif())
    (tmp_path / "mixed" / "ant" / "5.heic").write_bytes(b"")
    return tmp_path / "mixed"


def test_pictures_of_several_sizes_are_shown_with_the_size_to_train_at(mixed: Path, tmp_path: Path) -> None:
    words = ("show", f"folder:{mixed}", "--data-dir", tmp_path)
    grid = tmp_path / "grid.png"
    output = succeeded(run(*words, "--out", grid, "--columns", 5))
    lines = [line for line in output.splitlines() if line.startswith("pictures of")]
    assert lines == [
        "pictures of 2 sizes: 6 of 36x48, 4 of 48x36 pixels (width x height); shown here as the middle square of each "
        "at 32x32: pass --image-size 32 to train on them like this"
    ]
    assert output.count("heic") == 2  # one note, which names the format and the file
    rows = [line.split() for line in output.splitlines()]
    assert ["0", "ant", "3", "2"] in rows
    assert ["1", "bee", "3", "2"] in rows
    assert "2 domains, 6 train and 4 test images, 32 x 32 pixels, colour" in output
    sheet = np.asarray(Image.open(grid).convert("RGB"))[:, 180:]
    for column in range(5):
        middle = sheet[16, column * 34 + 16]
        assert middle[0] > 200, column
        assert middle[2] < 60, column
    assert "--image-size 32 to train" not in succeeded(run(*words, "--image-size", 24))


def test_pairs_of_several_sizes_are_shown_with_the_size_to_train_at(tmp_path: Path) -> None:
    write_list(tmp_path)
    file = tmp_path / "0-0.png"
    with Image.open(file) as picture:
        side = picture.width
        picture.resize((side, 2 * side)).save(file)
    output = succeeded(run("show", f"pairs:{tmp_path / 'pairs.csv'}", "--data-dir", tmp_path / "data"))
    assert f"1 of {side}x{2 * side} pixels (width x height)" in output
    size = int(output.rpartition("pass --image-size ")[2].split()[0])
    assert 4 <= size <= side
    assert f"--image-size {size}\n" in output


def test_show_shortens_long_lists_unless_all_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "many.npz"
    labels = np.repeat(np.arange(50), 2)
    images = np.zeros((100, 4, 4), np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    short, long = (succeeded(run("show", f"npz:{path}", *more)) for more in ([], ["--all"]))
    assert "20 more (--all lists them)" in short
    assert len(long.splitlines()) - len(short.splitlines()) == 19


def test_show_names_the_domains_that_are_too_small_to_evaluate_on(photos: Path, tmp_path: Path) -> None:
    asked = ("show", f"folder:{photos}", "--data-dir", tmp_path)
    assert "too few" not in succeeded(run(*asked))
    for name in ("0", "1"):
        (photos / "cat" / f"{name}.png").unlink()
        (photos / "dog" / f"{name}.png").unlink()
    output = succeeded(run(*asked))
    assert "note: domains 'cat', 'dog' have fewer than two train or two test images" in output


def test_show_says_what_is_left_out(photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "0.heic").write_bytes(b"heic")
    output = succeeded(run("show", f"folder:{photos}", "--data-dir", tmp_path))
    assert "note: left out: 1 picture is of formats that are not read here (1 .heic)" in output


def test_a_grid_that_cannot_be_written_is_an_error(photos: Path, tmp_path: Path) -> None:
    result = run("show", f"folder:{photos}", "--data-dir", tmp_path, "--out", tmp_path / "nowhere" / "grid.png")
    assert isinstance(result.exception, MetaSiamError)
    assert "nowhere is not a folder. Create it" in str(result.exception)


def test_the_next_command_finds_the_pairs_where_they_were_found(tmp_path: Path) -> None:
    place = tmp_path / "my lists"
    place.mkdir()
    output = succeeded(run("show", f"pairs:{write_list(place)}", "--data-dir", place))
    assert f"next: metasiam siamese --data 'pairs:{place}/" in output
    assert output.rstrip().endswith(f"--data-dir '{place}'")


def test_a_grid_of_pairs_is_refused(tmp_path: Path) -> None:
    result = run("show", "lfw", "--data-dir", tmp_path, "--out", tmp_path / "grid.png")
    assert isinstance(result.exception, MetaSiamError)
    assert "it has no domains to make a grid of" in str(result.exception)


@pytest.mark.parametrize("name", ["glyphs", "folder:somewhere"])
def test_fetching_what_needs_no_download_says_so(name: str, tmp_path: Path) -> None:
    result = run("fetch", name, "--data-dir", tmp_path)
    assert isinstance(result.exception, MetaSiamError)
    assert f"metasiam data show {name}" in str(result.exception)


def test_fetching_what_is_here_says_where(tmp_path: Path) -> None:
    for half in ("images_background", "images_evaluation"):
        (tmp_path / half).mkdir()
    assert f"omniglot is in {tmp_path}" in succeeded(run("fetch", "omniglot", "--data-dir", tmp_path))


@pytest.mark.parametrize("command", ["list", "fetch", "show"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert f"metasiam data {command}" in succeeded(run(command, "--help"))
