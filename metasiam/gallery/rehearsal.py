"""Acting a gallery's own pictures out: how many would be named rightly, and which names are confused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metasiam.gallery.calibrate import own_scores
from metasiam.gallery.enrolled import Enrolled
from metasiam.gallery.posterior import some_rows
from metasiam.gallery.recognise import scorer_of
from metasiam.wording import counted

_MOST_SCORES = 1 << 22  # in one table: of a thousand names, four thousand pictures are simulated
_MOST_PAIRS = 3
#: Own pictures that say something about how well names are told apart.
_LEAST_TRIED = 5


@dataclass(frozen=True)
class Rehearsal:
    """What became of a gallery's pictures, each left out of its name.

    Attributes:
        pictures: so many were taken: all, or evenly spread ones of very many.
        tried: pictures of names that have another one. For each name: ``of``.
        right: of these, named rightly. For each name: ``named``.
        wrong: of these, given another name. The rest was ``unknown``.
        likeliest: of these, with the right name as the likeliest one.
        named: for each name, how many of its pictures were named rightly.
        of: for each name, how many of its pictures were tried.
        confused: pairs of names with how many pictures of one looked most like the other, most first.
        strangers: pictures asked as if their name were not enrolled.
        refused: of these, called ``unknown``.
        recognised: pictures that would be named rightly when asked as they are, not left out.
    """

    pictures: int
    tried: int
    right: int
    wrong: int
    likeliest: int
    named: tuple[int, ...]
    of: tuple[int, ...]
    confused: tuple[tuple[str, str, int], ...]
    strangers: int
    refused: int
    recognised: int

    def said(self) -> list[str]:
        """Say it in lines for people; none where there is nothing to say."""
        lines = []
        if self.tried:
            whose = "your" if self.tried == self.pictures else "those"
            unknown = self.tried - self.right - self.wrong
            words = f"simulated: of {whose} {counted(self.tried, 'picture')}"
            words += "" if self.tried == self.pictures else " that are not their name's only one"
            words += f", each left out in turn, {self.right} would be recognised, {self.wrong} misnamed"
            words += f", {unknown} called unknown"
            if self.confused:
                pairs = (f"{first} and {second} ({times})" for first, second, times in self.confused)
                words += f". Confused: {', '.join(pairs)}"
            lines.append(words)
        if self.strangers:
            lines.append(
                f"simulated: of {counted(self.strangers, 'picture')}, each asked as if its name were not enrolled, "
                f"{self.refused} would be called unknown"
            )
        if (trouble := self.trouble()) is not None:
            lines.append(trouble)
        return lines

    def trouble(self) -> str | None:
        """Say that the embedder can hardly tell the names apart, and what would help; None where it can."""
        if len(self.of) < 2:
            return None
        if self.tried >= _LEAST_TRIED:
            # Less than half of the way from guessing to always right.
            hardly = self.likeliest < (self.tried / len(self.of) + self.tried) / 2
            why = f"its best guess is right for {self.likeliest} of {self.tried} pictures"
        else:
            hardly = self.recognised < self.pictures / 2
            why = f"of {counted(self.pictures, 'picture')} as enrolled it would recognise {self.recognised}"
        if not hardly:
            return None
        return (
            f"this embedder can hardly tell these names apart ({why}). Weights trained on such pictures would help "
            "most (--weights), then more pictures of each name, and a --background of the same kind of pictures"
        )


def rehearse(gallery: Enrolled) -> Rehearsal | None:
    """Act a gallery's pictures out (evenly spread ones of very many); None for one without names.

    Args:
        gallery: with rules.
    """
    rules, count = gallery.rules, len(gallery.names)
    if rules is None or count == 0:
        return None
    scorer = scorer_of(gallery)
    scores, own = own_scores(scorer, gallery.embeddings, gallery.labels, most=_MOST_SCORES)
    mine = F.one_hot(own, count).bool()
    several = ~scores[mine].isnan()
    asked, truth = scores[several], own[several]
    best, name = rules.log_odds(asked).max(1) if len(truth) else (asked.new_empty(0), truth)
    right = (name == truth) & (best > 0)
    refused = strangers = 0
    if count > 1:
        apart = (scores - rules.levels())[~mine].view(len(own), count - 1)
        strangers, refused = len(own), int((rules.line.log_odds(apart).amax(1) <= 0).sum())
    rows = some_rows(gallery.labels, count, _MOST_SCORES)
    best_whole, whole = rules.log_odds(scorer.scores(gallery.embeddings[rows])).max(1)
    return Rehearsal(
        pictures=len(own),
        tried=len(truth),
        right=int(right.sum()),
        wrong=int(((name != truth) & (best > 0)).sum()),
        likeliest=int((name == truth).sum()),
        named=tuple(torch.bincount(truth[right], minlength=count).tolist()),
        of=tuple(torch.bincount(truth, minlength=count).tolist()),
        confused=_confused(gallery.names, truth[name != truth], name[name != truth]),
        strangers=strangers,
        refused=refused,
        recognised=int(((whole == own) & (best_whole > 0)).sum()),
    )


def _confused(names: tuple[str, ...], truth: Tensor, taken_for: Tensor) -> tuple[tuple[str, str, int], ...]:
    """Return the pairs of names that are taken for each other, most often first."""
    pairs = Counter(tuple(sorted(pair)) for pair in zip(truth.tolist(), taken_for.tolist(), strict=True))
    return tuple((names[a], names[b], times) for (a, b), times in pairs.most_common(_MOST_PAIRS))
