"""CIFAR-100, MNIST and Omniglot: read when they are there, downloaded from a stand-in on this machine when not."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from listeners import Heard
from PIL import Image
from torchvision.datasets import CIFAR100, MNIST, Omniglot

from metasiam.data.sources import fetch, load_domains, source_of
from metasiam.data.sources.omniglot import BACKGROUND_DOMAINS
from metasiam.errors import MetaSiamError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(handler: Callable[..., SimpleHTTPRequestHandler]) -> Iterator[str]:
    """Serve on this machine; the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address that serves it."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    with served(partial(Quiet, directory=str(folder))) as url:
        yield folder, url


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


DIGITS = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
DIGIT_LABELS = np.arange(30, dtype=np.uint8) % 10


def mnist_files() -> list[bytes]:
    return [idx(DIGITS[:20]), idx(DIGIT_LABELS[:20]), idx(DIGITS[20:]), idx(DIGIT_LABELS[20:])]


def serve_mnist(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = []
    for (name, _), content in zip(MNIST.resources, mnist_files(), strict=True):
        packed = gzip.compress(content)
        (folder / name).write_bytes(packed)
        resources.append((name, md5(packed)))
    monkeypatch.setattr(MNIST, "resources", resources)
    monkeypatch.setattr(MNIST, "mirrors", [f"{url}/gone/", f"{url}/"])


def serve_cifar100(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One 32x32 image of each class for train and test; the class's number is the red of every pixel."""
    buffer = io.BytesIO()
    sums = {}
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        data = np.zeros((100, 3, 1024), np.uint8)
        data[:, 0] = np.arange(100)[:, None]
        part = {"data": data.reshape(100, -1), "fine_labels": list(range(100))}
        names = {"fine_label_names": [f"class {index:02d}" for index in range(100)]}
        for name, content in (("train", part), ("test", part), ("meta", names)):
            raw = pickle.dumps(content)
            sums[name] = md5(raw)
            about = tarfile.TarInfo(f"{CIFAR100.base_folder}/{name}")
            about.size = len(raw)
            tar.addfile(about, io.BytesIO(raw))
    (folder / CIFAR100.filename).write_bytes(buffer.getvalue())
    monkeypatch.setattr(CIFAR100, "url", f"{url}/{CIFAR100.filename}")
    monkeypatch.setattr(CIFAR100, "tgz_md5", md5(buffer.getvalue()))
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": sums["meta"]})


ALPHABETS = {"images_background": ("Greek", "Latin"), "images_evaluation": ("Aurek",)}


def drawing(number: int) -> Image.Image:
    """Black ink on white: a bar as wide as its number."""
    image = Image.new("1", (105, 105), 1)
    image.paste(0, (20, 20, 40 + number, 60))
    return image


def omniglot_tree(root: Path) -> None:
    for half, alphabets in ALPHABETS.items():
        for alphabet in alphabets:
            for character in (1, 2):
                folder = root / half / alphabet / f"character{character:02d}"
                folder.mkdir(parents=True)
                for drawer in range(1, 21):
                    drawing(drawer).save(folder / f"{character:04d}_{drawer:02d}.png")


def serve_omniglot(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    omniglot_tree(folder / "tree")
    sums = {}
    for half in ALPHABETS:
        with zipfile.ZipFile(folder / f"{half}.zip", "w") as packed:
            for path in sorted((folder / "tree" / half).rglob("*.png")):
                packed.write(path, path.relative_to(folder / "tree"))
        sums[half] = md5((folder / f"{half}.zip").read_bytes())
    monkeypatch.setattr(Omniglot, "download_url_prefix", url)
    monkeypatch.setattr(Omniglot, "zips_md5", sums)


SERVE: dict[str, Callable[[Path, str, pytest.MonkeyPatch], None]] = {
    "cifar100": serve_cifar100,
    "mnist": serve_mnist,
    "omniglot": serve_omniglot,
}


@pytest.mark.parametrize("name", sorted(SERVE))
def test_missing_data_are_downloaded_once(
    name: str, mirror: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SERVE[name](*mirror, monkeypatch)
    data_dir = tmp_path / "data"
    is_present = source_of(name)[0].is_present
    assert is_present is not None
    assert not is_present(data_dir)
    heard = Heard()
    assert fetch(name, data_dir, listener=heard) == data_dir
    assert is_present(data_dir)
    assert heard.steps[-1][0].startswith("downloading")
    assert heard.steps[-1][1] == heard.steps[-1][2] > 0
    assert not list(data_dir.rglob("*.partial"))
    for path in mirror[0].glob("*.*z*"):
        path.unlink()  # from here on, nothing can be downloaded
    assert len(load_domains(name, data_dir=data_dir).images) > 0
    fetch(name, data_dir)


@pytest.mark.parametrize("name", sorted(SERVE))
def test_without_a_network_the_error_says_what_to_do(
    name: str, mirror: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SERVE[name](mirror[0], "http://127.0.0.1:1", monkeypatch)
    with pytest.raises(MetaSiamError) as caught:
        load_domains(name, data_dir=tmp_path / "data")
    assert str(caught.value) == (
        f"{name} is not in {tmp_path / 'data'} and there is no network. "
        "Use --data folder:PATH, --data-dir, or --data glyphs."
    )


def test_a_download_with_another_checksum_is_refused_and_not_kept(
    mirror: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_cifar100(*mirror, monkeypatch)
    monkeypatch.setattr(CIFAR100, "tgz_md5", "0" * 32)
    with pytest.raises(MetaSiamError, match="is not the file"):
        load_domains("cifar100", data_dir=tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


class Stops(Quiet):
    def do_GET(self) -> None:
        """Send ten bytes of a thousand."""
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(bytes(10))


def test_a_download_that_breaks_off_is_said_and_nothing_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metasiam.data.sources.download._BLOCK", 1)
    with served(Stops) as url:
        monkeypatch.setattr(CIFAR100, "url", f"{url}/file")
        with pytest.raises(MetaSiamError, match=r"/file failed \(.*10 bytes read, 990 more expected"):
            load_domains("cifar100", data_dir=tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_server_that_does_not_have_it_is_named(
    mirror: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_cifar100(*mirror, monkeypatch)
    monkeypatch.setattr(CIFAR100, "url", f"{mirror[1]}/gone.tar.gz")
    with pytest.raises(MetaSiamError, match=r"gone\.tar\.gz answers 404"):
        load_domains("cifar100", data_dir=tmp_path / "data")


def test_a_data_dir_that_cannot_be_written_is_named(
    mirror: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_cifar100(*mirror, monkeypatch)
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(MetaSiamError, match=r"cannot be written .*another --data-dir"):
        load_domains("cifar100", data_dir=tmp_path / "data")


def test_cifar100_arrives_with_its_labels(
    mirror: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_cifar100(*mirror, monkeypatch)
    domains = load_domains("cifar100", data_dir=tmp_path / "data")
    assert domains.images.shape == (200, 3, 32, 32)
    assert domains.names[7] == "class 07"
    assert domains.images[:, 0, 0, 0].tolist() == domains.labels.tolist()
    assert not bool(domains.images[:, 1:].any())
    assert domains.counts("test").tolist() == [1] * 100


def test_mnist_files_are_read_without_a_download(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for (name, _), content in zip(MNIST.resources, mnist_files(), strict=True):
        (raw / name.removesuffix(".gz")).write_bytes(content)
    domains = load_domains("mnist", data_dir=tmp_path)
    assert np.array_equal(domains.images[:, 0].numpy(), DIGITS)
    assert domains.labels.tolist() == DIGIT_LABELS.tolist()
    assert domains.is_test.tolist() == [False] * 20 + [True] * 10
    assert load_domains("mnist", data_dir=tmp_path, image_size=32).images.shape == (30, 1, 32, 32)
    (raw / "train-images-idx3-ubyte").write_bytes(b"\x00\x00")
    with pytest.raises(MetaSiamError, match=r"damaged .* Remove them"):
        load_domains("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("folder", [".", "omniglot-py"])
def test_omniglot_trees_are_read_background_first(tmp_path: Path, folder: str) -> None:
    omniglot_tree(tmp_path / folder)
    domains = load_domains("omniglot", data_dir=tmp_path)
    assert domains.names == tuple(
        f"{alphabet}/character{number:02d}" for alphabet in ("Greek", "Latin", "Aurek") for number in (1, 2)
    )
    assert domains.images.shape == (120, 1, 28, 28)
    assert domains.is_test.tolist() == ([False] * 10 + [True] * 10) * 6, "the last ten drawers are test"
    first = domains.images[0, 0]
    assert int(first[0, 0]) == 0, "paper is black"
    assert int(first[10, 7]) == 255, "ink is white"
    ink = domains.images[:20].float().sum((1, 2, 3))
    assert bool((ink[1:] > ink[:-1]).all()), "drawings are in the drawers' order"


def test_omniglot_takes_another_image_size(tmp_path: Path) -> None:
    omniglot_tree(tmp_path)
    domains = load_domains("omniglot", data_dir=tmp_path, image_size=105)
    expected = 255 - np.asarray(drawing(3).convert("L"))
    assert np.array_equal(domains.images[2, 0].numpy(), expected)


def test_rotated_omniglot_has_every_character_four_times(tmp_path: Path) -> None:
    omniglot_tree(tmp_path)
    upright = load_domains("omniglot", data_dir=tmp_path)
    domains = load_domains("omniglot-rotated", data_dir=tmp_path)
    assert domains.names[:6] == upright.names
    assert domains.names[6 + 1] == f"{upright.names[1]} rotated 90"
    assert domains.names[-1] == f"{upright.names[-1]} rotated 270"
    assert torch.equal(domains.images[120:240], torch.rot90(upright.images, 1, (2, 3)))
    assert domains.labels[-1] == 23
    assert torch.equal(domains.counts("test"), torch.full((24,), 10))


@pytest.mark.slow
def test_the_real_omniglot_and_mnist_load(real_data: Callable[[str], Path]) -> None:
    characters = load_domains("omniglot", data_dir=real_data("omniglot"))
    assert len(characters.names) == 1623
    assert torch.equal(characters.counts("train"), characters.counts("test"))
    assert characters.names[BACKGROUND_DOMAINS - 1].startswith("Tifinagh/")
    assert characters.names[BACKGROUND_DOMAINS].startswith("Angelic/")
    digits = load_domains("mnist", data_dir=real_data("mnist"))
    assert len(digits.images) == 70000
    assert int(digits.counts("test").sum()) == 10000
