"""One's own pictures: name domains from a few of them, then recognise those names, or say "unknown"."""

from __future__ import annotations

from metasiam.gallery.recognise import Answer, Guess, Verdict, calibrated, compare, identify, open_embedder
from metasiam.gallery.store import EmbedderKey, Gallery, load_gallery

__all__ = [
    "Answer",
    "EmbedderKey",
    "Gallery",
    "Guess",
    "Verdict",
    "calibrated",
    "compare",
    "identify",
    "load_gallery",
    "open_embedder",
]
