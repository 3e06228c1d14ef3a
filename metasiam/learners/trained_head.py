"""A trained pair head on disk: its weights, its threshold, and what its log-odds are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from metasiam.errors import MetaSiamError
from metasiam.learners.pair_model import PairModel
from metasiam.models.files import load_embedder, load_state
from metasiam.models.pair_heads import PAIR_HEADS, Features, MarginDistance, build_pair_head
from metasiam.runs import EMBEDDER_FILE
from metasiam.runs.atomic import atomically
from metasiam.runs.reading import check_regular

HEAD_FILE = "head.safetensors"
_CONTRASTIVE = "contrastive"


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """What decides whether two embeddings show the same: a head as ``metasiam siamese`` trained it.

    Attributes:
        module: from embeddings, float [P, D] twice, to log-odds of "same", float [P]; in evaluation mode.
        kind: its name in ``metasiam.models.pair_heads.PAIR_HEADS``, or ``contrastive``.
        threshold: log-odds above which a pair is called same, chosen on validation pairs.
        slope: of the calibrated log-odds over the head's own; 1 in runs of before, which do not say it.
        intercept: calibrated log-odds where the head's own are 0; minus the threshold in runs of before.
        mirror: whether embeddings were averaged with the mirrored image's when it was measured.
    """

    module: nn.Module
    kind: str
    threshold: float
    slope: float
    intercept: float
    mirror: bool = False

    @torch.no_grad()
    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the log-odds of "same": float [P, D] twice to [P]."""
        found: Tensor = self.module(first, second)
        return found

    def same(self, first: Tensor, second: Tensor) -> Tensor:
        """Tell which pairs show the same, at the threshold: float [P, D] twice to bool [P]."""
        return self(first, second) > self.threshold

    def probability(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the calibrated probability of "same", at even odds: float [P, D] twice to float64 [P]."""
        return self.calibrated(self(first, second))

    def calibrated(self, scores: Tensor) -> Tensor:
        """Return the probability of "same" behind log-odds of the head's, float [P]: float64 [P]."""
        return torch.sigmoid(scores.double() * self.slope + self.intercept)


def save_head(path: Path, head: TrainedHead) -> None:
    """Write a head to a safetensors file, atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in head.module.state_dict().items()}
    about: dict[str, object] = {
        "head": head.kind,
        "threshold": head.threshold,
        "slope": head.slope,
        "intercept": head.intercept,
        "mirror": head.mirror,
    }
    if isinstance(head.module, MarginDistance):
        about["margin"] = head.module.margin
    if isinstance(head.module, Features):
        about["difference_weight"] = head.module.difference_weight
    with atomically(path) as partial:
        save_file(tensors, partial, metadata={name: str(value) for name, value in about.items()})


def load_head(folder: Path, embedding_size: int) -> TrainedHead:
    """Read the head of a run folder.

    Args:
        folder: of a finished run of ``metasiam siamese``.
        embedding_size: D, of its embedder.

    Raises:
        MetaSiamError: if the run has none, or its file is damaged.
    """
    path = folder / HEAD_FILE
    if not path.is_file():
        raise MetaSiamError(
            f"{folder} has no {HEAD_FILE}: only metasiam siamese trains a head, and keeps it when done."
        )
    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        threshold = _number(about["threshold"])
        slope, intercept = _number(about.get("slope", "1")), _number(about.get("intercept", str(-threshold)))
        module = _built(about, embedding_size)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise MetaSiamError(f"{path} is a damaged head ({reason}). Train again, or restore the file.") from error
    load_state(module, state, path)
    return TrainedHead(module.eval(), about["head"], threshold, slope, intercept, about.get("mirror") == "True")


def _built(about: dict[str, str], embedding_size: int) -> nn.Module:
    kind = about["head"]
    if kind == _CONTRASTIVE:
        return MarginDistance(_number(about.get("margin", "1")))
    if kind not in PAIR_HEADS:
        raise ValueError(f"its head is {kind!r} and not one of {', '.join(PAIR_HEADS)}")
    module = build_pair_head(kind, embedding_size)
    if isinstance(module, Features):
        module.difference_weight = _number(about.get("difference_weight", str(Features.difference_weight)))
    return module


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def has_head(weights: Path) -> bool:
    """Tell whether weights are a run's that trained a head; of a weights file in it, the embedder alone is meant."""
    return (weights / HEAD_FILE).is_file() and (weights / EMBEDDER_FILE).is_file()


def load_pair_model(folder: Path, device: torch.device) -> tuple[PairModel, TrainedHead]:
    """Open what ``metasiam siamese`` left in a run folder: embedder and head together, and what the head is worth.

    Raises:
        MetaSiamError: if either is missing or damaged.
    """
    embedder, info = load_embedder(folder)
    head = load_head(folder, int(embedder.embedding_size))  # type: ignore[arg-type]
    placed = embedder.to(device).to(memory_format=torch.channels_last)
    return PairModel(placed, head.module.to(device), info, device, torch.float32, head.mirror), head
