"""Do two pictures show the same? By a gallery, by a trained pair head, or by an embedder's threshold."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from metasiam.errors import MetaSiamError
from metasiam.gallery.adding import prepared_rows
from metasiam.gallery.embedders import EmbedderLike, embedder_from
from metasiam.gallery.enrolled import EMBEDDINGS, Enrolled
from metasiam.gallery.given import Picture, Pictures, as_embeddings, as_pictures
from metasiam.gallery.pictures import BLANK, Embedded, embed_each, embed_pixels
from metasiam.gallery.recognise import Verdict, compare, pair_rules
from metasiam.learners.trained_head import TrainedHead, has_head, load_pair_model
from metasiam.models.files import EmbedderInfo
from metasiam.progress import SHOWN_OR_WARNED, Listener
from metasiam.runs import Run
from metasiam.training.machine import choose_device

STORED = "the threshold is the one stored with the weights, not calibrated for these pictures: see --gallery"
FIXED = "the threshold is fixed, not calibrated: see --gallery"


@dataclass(frozen=True, eq=False)
class Judge:
    """Compares pictures, two at a time.

    Attributes:
        info: how pictures are prepared.
        embed: from prepared pixels, uint8 [B, C, H, W], to embeddings, float32 [B, D] on the CPU.
        decide: from two embeddings, float [D] each, to the verdict.
        learned_on: what the threshold was learned on, as a sentence.
    """

    info: EmbedderInfo
    embed: Callable[[Tensor], Tensor]
    decide: Callable[[Tensor, Tensor], Verdict]
    learned_on: str

    def verdict(self, first: Pictures, second: Pictures, *, listener: Listener = SHOWN_OR_WARNED) -> Verdict:
        """Compare two pictures.

        Args:
            first: a file, image or array.
            second: another one.
            listener: told what people should know of how they were prepared.

        Raises:
            MetaSiamError: if one cannot be read, shows nothing, or is several.
        """
        given = [as_pictures(one) for one in (first, second)]
        for place, one in enumerate(given, 1):
            if len(one) != 1:
                raise MetaSiamError(f"match compares two pictures, and number {place} is {len(one)}. Pass one.")
        found = embed_each(self.embed, self.info, [*given[0], *given[1]], None)
        for text in found.notes:
            listener.note(text)
        for one in given:
            _check_used(one[0], found)
        return self.decide(*found.embeddings)


def _check_used(picture: Picture, found: Embedded) -> None:
    """Raise unless a picture could be read and shows something.

    Raises:
        MetaSiamError: saying why not.
    """
    for other, reason in found.unreadable:
        if other is picture:
            raise MetaSiamError(f"{picture} cannot be read ({reason}). Use another picture.")
    if any(other is picture for other in found.blank):
        raise MetaSiamError(f"{picture} has {BLANK}. Use another picture.")


def judge_by_rules(module: nn.Module, info: EmbedderInfo, *, mirror: bool, gallery: Enrolled | None = None) -> Judge:
    """Return a judge by similarity: at a gallery's calibrated threshold, else at the embedder's stored or a fixed one.

    Args:
        module: the embedder, in evaluation mode on its device.
        info: how it is fed.
        mirror: whether embeddings are averaged with the mirrored picture's.
        gallery: whose embedder it is, if there is one.
    """
    rules = pair_rules(info, gallery)
    fixed = STORED if info.threshold is not None else FIXED
    return Judge(
        info,
        lambda pixels: embed_pixels(module, info, pixels, mirror=mirror),
        lambda first, second: compare(first, second, rules, info.distance),
        fixed if gallery is None else f"the threshold was learned on {rules.learned_on}",
    )


def judge_by_head(folder: Path, device: torch.device) -> Judge:
    """Return a judge by what ``metasiam siamese`` trained: its head's calibrated log-odds and the run's threshold.

    Raises:
        MetaSiamError: if the run has no embedder or head, or they are damaged.
    """
    model, head = load_pair_model(folder, device)

    def decide(first: Tensor, second: Tensor) -> Verdict:
        return by_head(head, first.unsqueeze(0).to(device), second.unsqueeze(0).to(device))

    said = f"the pair head of {folder} decides, at the threshold that was best on its validation pairs"
    return Judge(model.info, lambda pixels: model.embed(pixels).cpu(), decide, said)


def by_head(head: TrainedHead, first: Tensor, second: Tensor) -> Verdict:
    """Return the verdict of a pair head on two embeddings, float [1, D] each; the similarity is its log-odds."""
    score = head(first, second)
    return Verdict(float(score) > head.threshold, float(score), head.threshold, float(head.calibrated(score)))


def judge_of(embedder: EmbedderLike, *, device: str = "auto", listener: Listener = SHOWN_OR_WARNED) -> Judge:
    """Return the judge that an embedder is best used with: its pair head where it is a run that trained one.

    Raises:
        MetaSiamError: if there is no such embedder.
    """
    place = choose_device(device)
    folder = embedder.path if isinstance(embedder, Run) else embedder
    if isinstance(folder, str | os.PathLike) and has_head(Path(folder)):
        return judge_by_head(Path(folder), place)
    module, key = embedder_from(embedder, listener=listener)
    return judge_by_rules(module.to(place), key.info, mirror=key.info.mirrored)


def match(
    first: Pictures,
    second: Pictures,
    embedder: EmbedderLike | None = None,
    *,
    distance: str = "cosine",
    device: str = "auto",
) -> Verdict:
    """Tell whether two pictures show the same: yes or no, similarity, threshold and probability.

    A gallery's calibrated threshold is better, where there is one: ``gallery.match(first, second)``.

    Args:
        first: a file, image or array; without an embedder, an embedding [D].
        second: another one.
        embedder: as for ``enroll``. Of a run that trained a pair head (``metasiam siamese``) the head decides, at the
            run's threshold, and the similarity is its log-odds. Else the threshold is the one stored with the weights,
            or a fixed one.
        distance: of embeddings: ``cosine`` or ``squared_euclidean``.
        device: where to compute.

    Raises:
        MetaSiamError: if a picture cannot be read, shows nothing, or is several; or there is no such embedder.

    Example:
        >>> match(torch.tensor([1.0, 0.0]), torch.tensor([0.9, 0.1])).same
        True
    """
    if embedder is not None:
        return judge_of(embedder, device=device).verdict(first, second)
    if distance not in ("cosine", "squared_euclidean"):
        raise MetaSiamError(f"distance {distance!r} is unknown. Use cosine or squared_euclidean.")
    info = EmbedderInfo(EMBEDDINGS, distance=distance)
    return match_embeddings(first, second, info)


def match_embeddings(first: object, second: object, info: EmbedderInfo, gallery: Enrolled | None = None) -> Verdict:
    """Compare two embeddings [D], by a gallery's calibrated threshold or the fixed one of the distance.

    Raises:
        MetaSiamError: unless they are two of one width.
    """
    rows = [prepared_rows(as_embeddings(one), info) for one in (first, second)]
    if [len(row) for row in rows] != [1, 1] or rows[0].shape != rows[1].shape:
        raise MetaSiamError(
            f"match compares two embeddings [D], not {list(rows[0].shape)} and {list(rows[1].shape)}. Pictures need an "
            "embedder: match(first, second, embedder)."
        )
    return compare(rows[0][0], rows[1][0], pair_rules(info, gallery), info.distance)
