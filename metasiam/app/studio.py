"""The drawing app's answers, without any web: same or different, which symbol, and what adaptation changes."""

from __future__ import annotations

import base64
import copy
import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from metasiam.app.drawings import Drawing, Symbol
from metasiam.app.ink import style_for
from metasiam.data.augment import Augmentation
from metasiam.errors import MetaSiamError
from metasiam.gallery.calibrate import calibrate
from metasiam.gallery.pictures import embed_pixels
from metasiam.gallery.recognise import answer_from, compare
from metasiam.gallery.scoring import NameScorer, centroids
from metasiam.losses import normalised_softmax
from metasiam.models.files import EmbedderInfo

_KEPT = 8  # adapted embedders, newest first
_STEPS, _RATE, _TEMPERATURE = 15, 1e-3, 0.1
#: Each drawing is seen a little turned, slanted and stretched in every step of adaptation.
_HAND = Augmentation(flip=False, rotation=12, shear=0.2, scale=0.15, translation=1.0)


@dataclass(frozen=True)
class PairRule:
    """How similarity becomes an answer for two drawings."""

    threshold: float
    slope: float  #: log-odds for one unit of similarity above the threshold
    learned_on: str  #: what threshold and slope come from; empty where they are fixed


class Studio:
    """An embedder with everything that the page asks of it.

    Args:
        embedder: in eval mode.
        info: what it takes; square images.
        rule: its pair calibration.
    """

    def __init__(self, embedder: nn.Module, info: EmbedderInfo, rule: PairRule) -> None:
        if info.image_size[0] != info.image_size[1]:
            raise MetaSiamError("the drawing app needs an embedder of square images. Use other --weights.")
        self.embedder = embedder
        self.info = replace(info, threshold=rule.threshold)
        self.rule = rule
        self.style = style_for(info.trained_on, inverted=info.preparation.inverted)
        self._adapted: OrderedDict[tuple[Symbol, ...], nn.Module] = OrderedDict()
        self._lock = threading.Lock()

    def about(self) -> dict[str, Any]:
        """Say what the embedder is."""
        return {
            "arch": self.info.arch,
            "trained_on": self.info.trained_on,
            "image_size": self.info.image_size[0],
            "distance": self.info.distance,
            **asdict(self.rule),
        }

    def look(self, drawing: Drawing) -> str:
        """Return what the network sees of a drawing, as a PNG data URL."""
        return _png(self._seen(drawing))

    def compare(self, first: Drawing, second: Drawing) -> dict[str, Any]:
        """Tell whether two drawings are the same."""
        pictures = [self._seen(drawing) for drawing in (first, second)]
        rows = self._embed(self.embedder, pictures)
        rules = calibrate(rows[:0], torch.empty(0, dtype=torch.int64), 0, self.info, None)
        rules = replace(rules, pair_slope=self.rule.slope)
        return {**asdict(compare(rows[0], rows[1], rules, self.info.distance)), "seen": list(map(_png, pictures))}

    def recognise(self, symbols: Sequence[Symbol], query: Drawing, *, adapted: bool = False) -> dict[str, Any]:
        """Rank the symbols for a drawing; the answer's name is empty for none of these.

        Raises:
            MetaSiamError: if there are no symbols, or adaptation was not done for just these.
        """
        if not symbols:
            raise MetaSiamError("there are no symbols yet. Draw one and name it.")
        embedder = self._adapted_to(tuple(symbols)) if adapted else self.embedder
        drawings = [drawing for symbol in symbols for drawing in symbol.drawings]
        picture = self._seen(query)
        rows = self._embed(embedder, [*map(self._seen, drawings), picture])
        labels = _labels(symbols)
        rules = calibrate(rows[:-1], labels, len(symbols), self.info, None, slope=self.rule.slope)
        scorer = NameScorer.of(rows[:-1], labels, len(symbols), self.info.distance, None)
        answer = answer_from(tuple(symbol.name for symbol in symbols), rules, scorer.scores(rows[-1:])[0])
        return {
            "name": "" if answer.name == "unknown" else answer.name,
            "probability": answer.probability,
            "guesses": [asdict(guess) for guess in answer.guesses],
            "learned_on": rules.learned_on,
            "seen": _png(picture),
        }

    def adapt(self, symbols: Sequence[Symbol]) -> dict[str, Any]:
        """Adapt a copy of the embedder to the symbols, and measure what that changes on drawings held out.

        The last drawing of every symbol that has two is held out, a copy is adapted to the others, and both
        embedders are asked about the drawings held out. Then another copy is adapted to everything, for use.

        Raises:
            MetaSiamError: with fewer than two symbols, or no second drawing of any.
        """
        if len(symbols) < 2 or all(len(symbol.drawings) < 2 for symbol in symbols):
            raise MetaSiamError("adapting needs two symbols, and a second drawing of one of them. Draw more.")
        with self._lock:
            kept_back = [(place, s.drawings[-1]) for place, s in enumerate(symbols) if len(s.drawings) > 1]
            rest = [replace(s, drawings=s.drawings[:-1] if len(s.drawings) > 1 else s.drawings) for s in symbols]
            tried = self._adapt(rest)
            result = {
                "steps": _STEPS,
                "before": self._tested(self.embedder, rest, kept_back),
                "after": self._tested(tried, rest, kept_back),
            }
            self._adapted[tuple(symbols)] = self._adapt(symbols)
            while len(self._adapted) > _KEPT:
                self._adapted.popitem(last=False)
        return result

    def _adapted_to(self, symbols: tuple[Symbol, ...]) -> nn.Module:
        found = self._adapted.get(symbols)
        if found is None:
            raise MetaSiamError("the symbols have changed since. Adapt again.")
        return found

    def _adapt(self, symbols: Sequence[Symbol]) -> nn.Module:
        """Return a copy adapted by a few softmax steps, its proxies starting at the symbols' means."""
        generator = torch.Generator().manual_seed(0)
        images = torch.stack([self._seen(d) for s in symbols for d in s.drawings])
        images = images[:, None].expand(-1, self.info.channels, -1, -1)
        labels = _labels(symbols)
        model = copy.deepcopy(self.embedder).eval()  # trained statistics: a few drawings are no batch
        start = embed_pixels(model, self.info, images)
        proxies = nn.Parameter(centroids(start, labels, len(symbols), self.info.distance).clone())
        optimizer = torch.optim.Adam([*model.parameters(), proxies], lr=_RATE)
        device = next(model.parameters()).device
        proxies.data = proxies.data.to(device)
        each = max(1, 16 // len(images))
        for _ in range(_STEPS):
            drawn = _HAND.draw((len(images) * each,), generator)
            batch = _HAND.apply(images.repeat(each, 1, 1, 1), drawn, self.info.mean, self.info.std)
            loss = normalised_softmax(
                model(batch.contiguous().to(device)), proxies, labels.repeat(each).to(device), _TEMPERATURE
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return model.requires_grad_(False)

    def _tested(
        self, embedder: nn.Module, symbols: Sequence[Symbol], kept_back: Sequence[tuple[int, Drawing]]
    ) -> dict[str, float]:
        """Return how many of the drawings held out are recognised, and by how much the right symbol leads."""
        labels = _labels(symbols)
        known = self._embed(embedder, [self._seen(d) for s in symbols for d in s.drawings])
        asked = self._embed(embedder, [self._seen(drawing) for _, drawing in kept_back])
        scores = NameScorer.of(known, labels, len(symbols), self.info.distance, None).scores(asked)
        truth = torch.tensor([place for place, _ in kept_back])
        own = scores.gather(1, truth[:, None])[:, 0]
        best_other = scores.masked_fill(F.one_hot(truth, len(symbols)).bool(), -torch.inf).amax(1)
        return {"right": int((own > best_other).sum()), "of": len(truth), "lead": float((own - best_other).mean())}

    def _seen(self, drawing: Drawing) -> Tensor:
        return drawing.seen(self.info.image_size[0], self.style)

    def _embed(self, embedder: nn.Module, pictures: Sequence[Tensor]) -> Tensor:
        pixels = torch.stack(list(pictures))[:, None].expand(-1, self.info.channels, -1, -1)
        return embed_pixels(embedder, self.info, pixels)


def _labels(symbols: Sequence[Symbol]) -> Tensor:
    return torch.tensor([place for place, symbol in enumerate(symbols) for _ in symbol.drawings])


def _png(picture: Tensor) -> str:
    file = io.BytesIO()
    Image.fromarray(picture.numpy()).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


SHIPPED = Path(__file__).parent / "strokes.safetensors"
