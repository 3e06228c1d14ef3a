"""One's own pictures: name domains from a few of them, then recognise those names, or say "unknown"."""

from __future__ import annotations

from metasiam.gallery.embedders import open_embedder
from metasiam.gallery.enrolled import EmbedderKey
from metasiam.gallery.enrolling import enroll
from metasiam.gallery.gallery import Gallery, load_gallery
from metasiam.gallery.matching import match
from metasiam.gallery.recognise import Answer, Guess, Verdict, calibrated, compare, identify

__all__ = [
    "Answer",
    "EmbedderKey",
    "Gallery",
    "Guess",
    "Verdict",
    "calibrated",
    "compare",
    "enroll",
    "identify",
    "load_gallery",
    "match",
    "open_embedder",
]
