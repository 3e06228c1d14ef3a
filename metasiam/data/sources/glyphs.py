"""``glyphs``: characters of eight scripts rendered from matplotlib's fonts. The default: nothing to download."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL import __version__ as pillow_version
from torch import Tensor
from torch.nn import functional

from metasiam.data.cache import cached, digest
from metasiam.data.domains import DomainSet
from metasiam.data.sources.source import Request, Source, resized
from metasiam.progress import Listener

#: Raise it when anything below changes what is drawn; it also seeds the drawing.
GLYPHS_VERSION = 3

TRAIN_IMAGES, TEST_IMAGES = 100, 40  # of each domain
_SIZE = 32  # pixels of the finished images
_CANVAS = 64  # pixels that templates are drawn and distorted on
_EXTENT = 40  # pixels of the canvas that a template's longer side has
_BATCH = 500

# Chosen so that no two look alike, not across scripts either (A, Α and А are one shape, so at most one of them
# could be here); a test compares the renderings.
_SCRIPTS = (
    "KVdhMUWXkBLPSTaENRZGQ",  # Latin
    "ΓΛΞΦαγζηλμωβπ",  # Greek
    "ЖЧШеъюДцлИЫ",  # Cyrillic
    "ԴԷԿՀՊՋյևԸԽ",  # Armenian
    "ალორუჭდბეი",  # Georgian
    "אבגדהוט",  # Hebrew
    "بتجدرسش",  # Arabic
    "246%?∞♪&§♣☺",  # digits and signs
)
# The last ten are what --held-out 10 never trains on: of all scripts, and with near neighbours among them.
_LAST = "ΨЯკשطլf3щ€"

# DejaVu's sloped faces keep the upright shapes. The true italics have other shapes for many Cyrillic
# letters, and Knuth's fonts have ASCII only (his cmti10.ttf came only with matplotlib 3.11, and so is not here).
_UPRIGHT = (
    *(f"DejaVuSans{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}.ttf" for style in ("", "-Bold")),
    *("STIXGeneral.ttf", "STIXGeneralBol.ttf"),
)
_LATIN_ONLY = (
    *("DejaVuSerif-Italic.ttf", "DejaVuSerif-BoldItalic.ttf", "STIXGeneralItalic.ttf", "STIXGeneralBolIta.ttf"),
    *("cmr10.ttf", "cmss10.ttf", "cmtt10.ttf", "cmb10.ttf"),
)


def characters() -> str:
    """Return the domains' characters, in order: the scripts by turns, then the ten that are held out."""
    turns = "".join("".join(letters) for letters in zip_longest(*_SCRIPTS, fillvalue=""))
    return turns + _LAST


def load(request: Request) -> DomainSet:
    """Return the glyphs: uint8 [14000, 3, 32, 32], 100 train and 40 test images of each of 100 domains.

    Domains are named by their Unicode names. The images depend on ``GLYPHS_VERSION`` alone (and on the
    installed FreeType, whose rendering may change in details).
    """
    key = digest(GLYPHS_VERSION, TRAIN_IMAGES, TEST_IMAGES, pillow_version, _matplotlib_version())
    path = request.data_dir / "cache" / f"glyphs-{GLYPHS_VERSION}.safetensors"
    domains = cached(path, key, lambda: _draw(request.listener), source="glyphs", listener=request.listener)
    return resized(domains, request.size)


def _draw(listener: Listener) -> DomainSet:
    letters = characters()
    templates = draw_templates(letters)
    each = TRAIN_IMAGES + TEST_IMAGES
    labels = torch.arange(len(letters)).repeat_interleave(each)
    generator = torch.Generator().manual_seed(GLYPHS_VERSION)
    images = torch.empty(len(labels), 3, _SIZE, _SIZE, dtype=torch.uint8)
    listener.progress("drawing glyphs", 0, len(labels))
    for start in range(0, len(labels), _BATCH):
        block = slice(start, start + _BATCH)
        images[block] = _draw_images(templates, labels[block], generator)
        listener.progress("drawing glyphs", min(start + _BATCH, len(labels)), len(labels))
    is_test = (torch.arange(each) >= TRAIN_IMAGES).repeat(len(letters))
    return DomainSet(images, labels, tuple(unicodedata.name(letter) for letter in letters), is_test, "glyphs")


class Templates(NamedTuple):
    """Every character in every face that has it, white on black."""

    ink: Tensor  #: float32 [T, 1, 64, 64], 0 … 1
    starts: Tensor  #: int64 [characters], where each character's templates begin
    counts: Tensor  #: int64 [characters], in how many faces it is there


def draw_templates(letters: str) -> Templates:
    """Draw each character in each face whose character map has it, centred and of one extent."""
    faces = list(_faces())
    ink: list[Tensor] = []
    counts = []
    for letter in letters:
        latin = letter.isascii() and letter.isalnum()
        here = [font for font, known, only_latin in faces if ord(letter) in known and (latin or not only_latin)]
        ink += [_template(font, letter) for font in here]
        counts.append(len(here))
    sizes = torch.tensor(counts)
    return Templates(torch.stack(ink).unsqueeze(1), torch.cumsum(sizes, 0) - sizes, sizes)


def _faces() -> Iterator[tuple[ImageFont.FreeTypeFont, frozenset[int], bool]]:
    import matplotlib
    from matplotlib.ft2font import FT2Font

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in (*_UPRIGHT, *_LATIN_ONLY):
        path = str(folder / name)
        font = ImageFont.truetype(path, 2 * _EXTENT, layout_engine=ImageFont.Layout.BASIC)
        yield font, frozenset(FT2Font(path).get_charmap()), name in _LATIN_ONLY


def _matplotlib_version() -> str:
    import matplotlib

    return str(matplotlib.__version__)


def _template(font: ImageFont.FreeTypeFont, letter: str) -> Tensor:
    left, top, right, bottom = (int(edge) for edge in font.getbbox(letter))
    page = Image.new("L", (right - left + 8, bottom - top + 8))
    ImageDraw.Draw(page).text((4 - left, 4 - top), letter, font=font, fill=255)
    page = page.crop(page.getbbox())
    scale = _EXTENT / max(page.size)
    width, height = max(round(page.width * scale), 1), max(round(page.height * scale), 1)
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    small = page.resize((width, height), Image.Resampling.BILINEAR)
    canvas.paste(small, ((_CANVAS - width) // 2, (_CANVAS - height) // 2))
    return torch.from_numpy(np.array(canvas, dtype=np.float32) / 255)


def _draw_images(templates: Templates, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one image for each label: uint8 [B, 3, 32, 32]."""
    count = len(labels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    face = (torch.rand(count, generator=generator) * templates.counts[labels]).long()
    ink = _sample(templates.ink[templates.starts[labels] + face], _sampling_grid(uniform))

    # Dark ink on light ground, at least 0.3 apart in brightness; their colours and the ground's slopes are free.
    ground = uniform(0.65, 0.95, 1, 1, 1) + _smooth(uniform(-0.08, 0.08, 3, 1, 1) + uniform(-0.1, 0.1, 3, 4, 4), _SIZE)
    colour = uniform(0.05, 0.35, 1, 1, 1) + uniform(-0.15, 0.15, 3, 1, 1)
    image = ground + (colour - ground) * ink
    grain = torch.randn(image.shape, generator=generator) * uniform(0.01, 0.04, 1, 1, 1)
    return (image + grain).mul(255).round().clamp(0, 255).to(torch.uint8)


def _smooth(coarse: Tensor, size: int) -> Tensor:
    return functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)


def _sample(templates: Tensor, grid: Tensor) -> Tensor:
    fine = functional.grid_sample(templates, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return functional.avg_pool2d(fine, _CANVAS // _SIZE)


def _sampling_grid(uniform: Callable[..., Tensor]) -> Tensor:
    """Draw where each pixel of the distorted canvas comes from: float32 [B, 64, 64, 2], in -1 … 1.

    Rotation up to 20°, scale 0.75 … 1.25 in each direction, shear up to 0.25, a shift of up to 4 pixels,
    and an elastic field of up to 2 pixels that changes slowly over the image.
    """
    angle = uniform(-20, 20) * torch.pi / 180
    shear = uniform(-0.25, 0.25)
    wide, high = 1 / uniform(0.75, 1.25), 1 / uniform(0.75, 1.25)
    cosine, sine = angle.cos(), angle.sin()
    across, down = uniform(-0.25, 0.25), uniform(-0.25, 0.25)
    rows = (
        torch.stack((wide * cosine, wide * (shear * cosine - sine), across), dim=1),
        torch.stack((high * sine, high * (shear * sine + cosine), down), dim=1),
    )
    matrix = torch.stack(rows, dim=1)
    grid = functional.affine_grid(matrix, [len(matrix), 1, _CANVAS, _CANVAS], align_corners=False)
    return grid + _smooth(uniform(-0.13, 0.13, 2, 5, 5), _CANVAS).permute(0, 2, 3, 1)


SOURCE = Source(load)
