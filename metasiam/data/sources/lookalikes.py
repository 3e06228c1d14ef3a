"""What a file is that has a picture's name and is none that is read here: said by its first bytes."""

from __future__ import annotations

from pathlib import Path

from metasiam.runs.reading import open_regular

#: What follows ``ftyp`` in the files of phones and cameras.
_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"mif1": "HEIC",
    b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF", b"crx ": "CR3",
}  # fmt: skip
_PICTURES = (
    (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL \r\n", "JPEG XL"), (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
    (b"8BPS", "Photoshop"), (b"<svg", "SVG"),
)  # fmt: skip
_OTHERS = (
    (b"<!doctype html", "a web page"), (b"<html", "a web page"), (b"<head", "a web page"), (b"<?xml", "an XML file"),
    (b"%pdf", "a PDF file"), (b"pk\x03\x04", "a ZIP archive"), (b"\x1f\x8b", "a packed file"), (b"{", "a JSON file"),
    (b"\x1aE\xdf\xa3".lower(), "a video"),
)  # fmt: skip


def what_it_is(path: Path) -> str | None:
    """Say what an unreadable picture file really is and what to do about it; None where that cannot be told.

    It never raises: a file that cannot be opened tells nothing.
    """
    try:
        with open_regular(path) as file:
            first = file.read(512)
    except OSError:
        return None
    if not first:
        return "it is empty"
    text = first.lstrip(b"\xef\xbb\xbf \t\r\n")
    kind = _BRANDS.get(first[8:12]) if first[4:8] == b"ftyp" else None
    kind = kind or next((name for start, name in _PICTURES if text.startswith(start)), None)
    if kind is not None:
        return f"it is a{'n' if kind[0] in 'AS' else ''} {kind} picture whatever its name: save it as JPEG or PNG"
    if text.startswith(b"version https://git-lfs"):
        return "it only points to a picture in Git LFS: fetch it with git lfs pull"
    if first[4:8] == b"ftyp" or (first[:4] == b"RIFF" and first[8:12] == b"AVI "):
        return "it is a video"
    return next((f"it is {what}, not a picture" for start, what in _OTHERS if text.lower().startswith(start)), None)
