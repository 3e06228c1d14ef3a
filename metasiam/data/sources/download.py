"""Downloads that report progress, are checked, and appear whole or not at all: by pooch."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metasiam.data.sources.source import shown
from metasiam.errors import MetaSiamError
from metasiam.progress import Listener

if TYPE_CHECKING:
    import requests

_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 18


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
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")  # the listener is told instead
    reasons = []
    for url in urls:
        coming = _Bytes(f"downloading {target.name}", listener)
        # As it is: a server that packs an archive once more would change its checksum.
        headers = {"User-Agent": "metasiam", "Accept-Encoding": "identity"}
        get = pooch.HTTPDownloader(coming, _BLOCK, timeout=_TIMEOUT, headers=headers)
        try:
            pooch.retrieve(url, f"md5:{md5}", target.name, target.parent, downloader=get)
            return
        except requests.RequestException as error:
            reasons.append(_reason(url, error, coming.done > 0))
        except ValueError:
            reasons.append(f"what {url} sent is not the file (its checksum differs)")
        except OSError as error:
            raise MetaSiamError(
                f"{name} cannot be written to {shown(data_dir)} ({error.strerror or error}). Use another --data-dir."
            ) from error
    raise not_here(name, data_dir, reasons[-1])


class _Bytes:
    """What pooch takes for a progress bar; it tells a listener."""

    def __init__(self, what: str, listener: Listener) -> None:
        self.what, self.listener = what, listener
        self.done, self.total = 0, 0  # pooch sets the total; 0 where the server does not say it

    def update(self, more: int) -> None:
        self.done = min(self.done + more, self.total) if self.total else self.done + more
        self.listener.progress(self.what, self.done, self.total or self.done)

    def reset(self) -> None:
        """Start again: pooch does at the end, to tell all of it once."""
        self.done = 0 if self.total else self.done

    def close(self) -> None:
        """Nothing is open."""


def _reason(url: str, error: requests.RequestException, begun: bool) -> str:
    """Say in words why a url did not help; ``begun``: after some bytes had come."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{url} answers {error.response.status_code}"
    unanswered = isinstance(error, requests.ConnectionError) and not isinstance(error, requests.exceptions.SSLError)
    return "there is no network" if unanswered and not begun else f"{url} failed ({error})"


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
