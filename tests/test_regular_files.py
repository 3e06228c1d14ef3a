"""Nothing that is not a regular file is opened to be read: a pipe would wait for ever."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pair_samples import write_list
from PIL import Image

from metasiam.cli import run
from metasiam.data.sources import load_domains, load_pairs
from metasiam.errors import MetaSiamError
from metasiam.gallery import load_gallery
from metasiam.models.files import load_embedder
from metasiam.runs.reading import open_regular, read_text, why_no_file

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


_PATIENCE = 20.0  # seconds
# Gives whoever waits for a pipe below a folder its end; another process, as the one that waits may hold Python's lock.
_END = """
import os, stat, sys, time
time.sleep(float(sys.argv[2]))
while True:
    for folder, _, names in os.walk(sys.argv[1]):
        for path in (os.path.join(folder, name) for name in names):
            try:
                if stat.S_ISFIFO(os.stat(path).st_mode):
                    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # nobody reads this one
                pass
    time.sleep(0.05)
"""


@contextlib.contextmanager
def no_wait(folder: Path, seconds: float = _PATIENCE) -> Iterator[None]:
    """Fail instead of waiting for ever for a pipe below a folder; at worst the whole test run ends."""
    began = time.monotonic()
    faulthandler.dump_traceback_later(3 * seconds, exit=True, file=sys.__stderr__)
    with subprocess.Popen([sys.executable, "-c", _END, str(folder), str(seconds)]) as ending:
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            ending.kill()
            assert time.monotonic() - began < seconds, "it waited for a pipe"


@pytest.fixture
def pipe(tmp_path: Path) -> Callable[[str | Path], Path]:
    def made(name: str | Path) -> Path:
        path = tmp_path / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        return path

    return made


def _pictures(folder: Path, domains: int = 2, each: int = 4) -> Path:
    random = np.random.default_rng(0)
    for domain in range(domains):
        (folder / str(domain)).mkdir(parents=True)
        for number in range(each):
            pixels = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / str(domain) / f"{number}.png")
    return folder


def test_what_is_no_regular_file_is_named_for_what_it_is(tmp_path: Path, pipe: Callable[[str], Path]) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s"))
    (tmp_path / "link").symlink_to(pipe("p"))
    kinds = [("p", "a pipe"), ("link", "a pipe"), ("s", "a socket"), (os.devnull, "a device"), ("", "a folder")]
    with contextlib.closing(listening), no_wait(tmp_path):
        for name, kind in kinds:
            assert why_no_file(tmp_path / name) == f"is {kind}"
            with pytest.raises(OSError, match=f"it is {kind}, not a file"):
                open_regular(tmp_path / name)
    assert why_no_file(tmp_path / "none") == "does not exist"
    (tmp_path / "text").write_bytes("é\r\n".encode())
    assert read_text(tmp_path / "text") == "é\n"


def test_a_pipe_among_pictures_is_an_unreadable_one(tmp_path: Path, pipe: Callable[[str], Path]) -> None:
    photos = _pictures(tmp_path / "photos")
    pipe("photos/1/4.jpg")
    with no_wait(tmp_path):
        with pytest.raises(MetaSiamError, match=r"4\.jpg cannot be read \(it is a pipe, not a file\)"):
            load_domains(f"folder:{photos}", data_dir=tmp_path / "data", listener=None)
        found = load_domains(f"folder:{photos}", data_dir=tmp_path / "data", skip_unreadable=True, listener=None)
    assert len(found.images) == 8


def test_a_pipe_in_a_list_of_pairs_or_as_the_list_is_named(tmp_path: Path, pipe: Callable[[str], Path]) -> None:
    write_list(tmp_path)
    pipe("0-0.png")
    with no_wait(tmp_path):
        with pytest.raises(MetaSiamError, match=r"0-0\.png cannot be read \(it is a pipe, not a file\)"):
            load_pairs(f"pairs:{tmp_path / 'pairs.csv'}", data_dir=tmp_path / "data")
        with pytest.raises(MetaSiamError, match=r"list\.csv is a pipe"):
            load_pairs(f"pairs:{pipe('list.csv')}", data_dir=tmp_path / "data")


def test_a_pipe_in_place_of_a_cache_file_is_only_a_cache_that_is_not_there(
    tmp_path: Path, pipe: Callable[[Path], Path]
) -> None:
    photos, data = _pictures(tmp_path / "photos"), tmp_path / "data"
    write_list(tmp_path)
    loads = (
        lambda: load_domains(f"folder:{photos}", data_dir=data, listener=None).fingerprint,
        lambda: load_pairs(f"pairs:{tmp_path / 'pairs.csv'}", data_dir=data).fingerprint,
    )
    first = [load() for load in loads]
    files = sorted((data / "cache").glob("*.safetensors"))
    assert len(files) == 2
    for file in files:
        pipe(file)
    with no_wait(tmp_path):
        assert [load() for load in loads] == first


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (load_embedder, "weights.pt"),
        (load_embedder, "weights.safetensors"),
        (load_gallery, "gallery.safetensors"),
        (lambda path: load_domains(f"npz:{path}"), "arrays.npz"),
    ],
)
def test_a_pipe_as_weights_gallery_or_arrays_is_refused(
    tmp_path: Path, pipe: Callable[[str], Path], read: Callable[[Path], object], name: str
) -> None:
    with no_wait(tmp_path), pytest.raises(MetaSiamError, match=r"is a pipe"):
        read(pipe(name))


@pytest.mark.parametrize(
    "words",
    [
        ["data", "show", "folder:PHOTOS", "--split", "PIPE"],
        ["match", "PIPE", "PIPE", "--weights", "WEIGHTS"],
        ["compare", "--resume", "FOLDER"],
    ],
)
def test_commands_end_with_one_line_where_a_pipe_is_given(
    tmp_path: Path, pipe: Callable[[str], Path], capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    from metasiam.models import build_embedder
    from metasiam.models.files import EmbedderInfo, save_embedder

    photos = _pictures(tmp_path / "photos")
    (tmp_path / "runs").mkdir()
    pipe("runs/comparison.json")
    save_embedder(tmp_path / "w.safetensors", build_embedder("resnet8"), EmbedderInfo("resnet8", 3, (8, 8)))
    places = {
        "PHOTOS": photos, "PIPE": pipe("pipe.json"), "WEIGHTS": tmp_path / "w.safetensors", "FOLDER": tmp_path / "runs"
    }  # fmt: skip
    for name, path in places.items():
        words = [word.replace(name, str(path)) for word in words]
    with no_wait(tmp_path):
        assert run(words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("metasiam: "), error
    assert "\n" not in error
