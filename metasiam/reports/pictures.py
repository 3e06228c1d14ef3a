"""Pairs of pictures as HTML: what each method was most sure of, and right or wrong about."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metasiam.reports.inputs import PictureExample
from metasiam.reports.numbers import clean, method_name

#: An answer is sure from this probability on.
SURE = 0.9
#: Pictures with a longer side than this are made smaller, to keep the page light.
LONGEST_SIDE = 160


def picture_groups(examples: Sequence[PictureExample], *, most: int = 8) -> str:
    """Return the pairs as HTML, by method, wrong before right, the most confident first.

    Where a method was sure of some answers, only those are shown; else it is said that it never was.

    Args:
        examples: pairs of any methods.
        most: pairs shown in each group.
    """
    parts = []
    for method in dict.fromkeys(example.method for example in examples):
        own = sorted((e for e in examples if e.method == method), key=confidence, reverse=True)
        for right, words in ((False, "wrong"), (True, "right")):
            group = [example for example in own if example.right == right]
            if group:
                group = [example for example in group if confidence(example) >= SURE] or group
                cards = "".join(_card(example) for example in group[:most])
                heading = f"<h3>{html.escape(method_name(method, 60))}: {_how_sure(group[0], words)}</h3>"
                parts.append(f'{heading}<ul class="pairs {"right" if right else "wrong"}">{cards}</ul>')
    return "".join(parts)


def _how_sure(surest: PictureExample, words: str) -> str:
    """Word a heading over answers, by the surest of them."""
    if surest.probability is None:
        return words
    share = confidence(surest)
    return f"sure and {words}" if share >= SURE else f"{words}, but never sure (at most {_percent(share)})"


def confidence(example: PictureExample) -> float:
    """Return the probability, 0 to 1, that the method gave to its own answer; 0 where it gave none."""
    if example.probability is None:
        return 0.0
    return example.probability if example.answered_same else 1 - example.probability


def data_uri(picture: NDArray[np.uint8]) -> str:
    """Return a picture, uint8 [C, H, W] or [H, W], as a PNG in a ``data:`` address.

    Raises:
        ValueError: if the array is no picture.
    """
    array = np.asarray(picture)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    elif array.ndim == 3 and array.shape[0] == 3:
        array = np.moveaxis(array, 0, -1)
    elif array.ndim == 3:  # more than eyes see
        array = np.moveaxis(array[:3], 0, -1) if len(array) > 3 else array[0]
    elif array.ndim != 2:
        raise ValueError(f"a picture is uint8 [C, H, W] or [H, W], not {array.dtype} {list(array.shape)}")
    if array.dtype != np.uint8:
        raise ValueError(f"a picture is uint8, not {array.dtype}")
    image = Image.fromarray(np.ascontiguousarray(array))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _card(example: PictureExample) -> str:
    first, second = (clean(name, 60) for name in (example.first_name, example.second_name))
    answer = "same" if example.answered_same else "different"
    sure = (
        f"similarity {example.similarity:.2f}".replace("-", "−")
        if example.probability is None
        else f"{_percent(confidence(example))} sure"
    )
    if not first and not second:
        truth = "truly the same" if example.same else "truly different"
    else:
        truth = f"both {first or second}" if example.same else f"{first} and {second}"
    size = ' class="tiny"' if max(np.shape(example.first)[-2:]) <= 64 else ""
    images = "".join(
        f'<img{size} src="{data_uri(picture)}" alt="{html.escape(name or "picture")}">'
        for picture, name in ((example.first, first), (example.second, second))
    )
    mark = "✓" if example.right else "✗"
    return (
        f'<li><div class="pair">{images}</div><p><span class="mark" aria-hidden="true">{mark}</span> '
        f'“{answer}”, {sure}</p><p class="truth">{html.escape(truth)}</p></li>'
    )


def _percent(share: float) -> str:
    """Word a probability; never as a certainty."""
    percent = 100 * share
    return "over 99.9\u00a0%" if percent > 99.9 else f"{percent:.{int(percent > 99)}f}\u00a0%"
