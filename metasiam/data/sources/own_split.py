"""Data whose parts train, validation and test have different domains: these parts are the split."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from metasiam.data.splitting import Split

#: Seen, validation and held-out domains.
PARTS = ("train", "validation", "test")
Domain = TypeVar("Domain", bound=Hashable)


def parts_of(found: Iterable[tuple[Domain, str]]) -> dict[Domain, str]:
    """Return the part of each domain where train and test have different ones; empty where they share some.

    Validation counts as a part where its domains are others again.

    Args:
        found: domains with the part that they, or some of their images, lie in.
    """
    domains: dict[str, set[Domain]] = {part: set() for part in PARTS}
    for domain, part in found:
        domains[part].add(domain)
    if not domains["train"] or not domains["test"] or domains["train"] & domains["test"]:
        return {}
    if domains["validation"] & (domains["train"] | domains["test"]):
        del domains["validation"]
    return {domain: part for part, names in domains.items() for domain in names}


def split_of(parts: Sequence[str], name: str) -> Split:
    """Return the split by the part of each domain."""
    seen, kept, held_out = (tuple(index for index, part in enumerate(parts) if part == wanted) for wanted in PARTS)
    return Split(seen, kept, held_out, name)


def split_words(split: Split, called: str, test_fraction: float) -> str:
    """Say that the parts, called so, are the split."""
    numbers = f"{len(split.seen)} seen, {len(split.validation)} validation, {len(split.held_out)} held out"
    return (
        f"{called} have different domains: that is the split ({numbers}), unless --held-out or --split says another; "
        f"{test_fraction:.0%} of each domain's pictures are its test part"
    )


def test_count(images: int, test_fraction: float) -> int:
    """Return how many of a domain's images become test: above a fraction of 0, a pair on either side where it can."""
    count = round(images * test_fraction)
    if test_fraction > 0:
        fewest = min(images // 2, 2)  # on either side: a pair, where there are four
        count = min(max(count, fewest), images - fewest)
    return count
