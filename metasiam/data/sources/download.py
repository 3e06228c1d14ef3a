"""Downloads that report progress, are checked, and appear whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path

from metasiam.data.sources.source import shown
from metasiam.errors import MetaSiamError
from metasiam.progress import Listener
from metasiam.runs.atomic import atomically

_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 18


class _AnotherFile(Exception):
    """What came has another checksum."""


def not_here(name: str, data_dir: Path, reason: str = "there is no network") -> MetaSiamError:
    """Return the error for data that are neither here nor to be had."""
    return MetaSiamError(
        f"{name} is not in {shown(data_dir)} and {reason}. Use --data folder:PATH, --data-dir, or --data glyphs."
    )


def download(name: str, urls: Sequence[str], target: Path, md5: str, data_dir: Path, listener: Listener) -> None:
    """Make sure that ``target`` is the file with this checksum, downloading it from the first url that works.

    Args:
        name: the data set's name, for errors and progress.
        urls: where it can be had, best first.
        target: where it goes; written under another name first.
        md5: its checksum, as torchvision states it.
        data_dir: for errors.
        listener: told of the bytes.

    Raises:
        MetaSiamError: if no url answers, what came is not the file, or it cannot be written.
    """
    if target.is_file() and _md5(target) == md5:
        return
    reasons = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            try:
                with atomically(target) as partial:
                    _get(url, partial, f"downloading {target.name}", listener)
                    if _md5(partial) != md5:
                        raise _AnotherFile
                return
            except _AnotherFile:
                reasons.append(f"what {url} sent is not the file (its checksum differs)")
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                reasons.append(_reason(url, error))
    except OSError as error:
        raise MetaSiamError(
            f"{name} cannot be written to {shown(data_dir)} ({error.strerror}). Use another --data-dir."
        ) from error
    raise not_here(name, data_dir, reasons[-1])


def _get(url: str, partial: Path, what: str, listener: Listener) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "metasiam"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer, open(partial, "wb") as file:
        total = int(answer.headers.get("Content-Length") or 0)
        done = 0
        while block := answer.read(_BLOCK):
            file.write(block)
            done += len(block)
            listener.progress(what, done, max(total, done))
        if done < total:
            raise ConnectionError(f"the connection broke off after {done} of {total} bytes")


def _reason(url: str, error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{url} answers {error.code}"
    if isinstance(error, urllib.error.URLError) and not isinstance(error.reason, ssl.SSLError):
        return "there is no network"
    return f"{url} failed ({error})"


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.md5(usedforsecurity=False)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .zip or .tar.gz that has been checked into ``folder``."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        return
    with tarfile.open(archive) as tar:
        # The safe filter came with 3.10.12 and 3.11.4; later versions warn when it is not named.
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="data")
        else:
            tar.extractall(folder)
