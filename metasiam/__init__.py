"""MetaSiam: is this the same kind of thing? Meta-learned and classic Siamese embedders, compared honestly.

The public names below are imported when first used, so that ``import metasiam`` and ``metasiam --help`` stay fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from metasiam.data.domains import DomainSet
    from metasiam.data.pairs import PairSet
    from metasiam.data.pool import Pool
    from metasiam.data.preparation import Preparation
    from metasiam.data.sources import load_domains, load_pairs
    from metasiam.data.splitting import Split, split_domains
    from metasiam.data.tasks import draw_episodes, draw_pairs, draw_triplets
    from metasiam.errors import MetaSiamError
    from metasiam.evaluation.calibration import ProbabilityCalibrator, ThresholdCalibrator
    from metasiam.evaluation.embedding import embed_images
    from metasiam.evaluation.result import Evaluation
    from metasiam.gallery import Answer, Gallery, Verdict, enroll, identify, load_gallery, match
    from metasiam.methods import Method
    from metasiam.models import build_embedder
    from metasiam.models.files import EmbedderInfo, load_embedder, save_embedder
    from metasiam.models.own import Embedder
    from metasiam.options.evaluation import ProtocolSettings
    from metasiam.pair_session import train_pairs
    from metasiam.progress import Listener, Progress, Relay
    from metasiam.runs import Run, open_run
    from metasiam.session import TrainingStopped, evaluate, train
    from metasiam.workflows.compare import Comparison, compare
    from metasiam.workflows.sweep import sweep
    from metasiam.workflows.tune import tune

_HOMES = {
    "Answer": "metasiam.gallery",
    "Comparison": "metasiam.workflows.compare",
    "DomainSet": "metasiam.data.domains",
    "Embedder": "metasiam.models.own",
    "EmbedderInfo": "metasiam.models.files",
    "Evaluation": "metasiam.evaluation.result",
    "Gallery": "metasiam.gallery",
    "Method": "metasiam.methods",
    "Listener": "metasiam.progress",
    "MetaSiamError": "metasiam.errors",
    "PairSet": "metasiam.data.pairs",
    "Pool": "metasiam.data.pool",
    "Progress": "metasiam.progress",
    "Preparation": "metasiam.data.preparation",
    "ProbabilityCalibrator": "metasiam.evaluation.calibration",
    "ProtocolSettings": "metasiam.options.evaluation",
    "Relay": "metasiam.progress",
    "Run": "metasiam.runs",
    "Split": "metasiam.data.splitting",
    "ThresholdCalibrator": "metasiam.evaluation.calibration",
    "TrainingStopped": "metasiam.session",
    "Verdict": "metasiam.gallery",
    "build_embedder": "metasiam.models",
    "compare": "metasiam.workflows.compare",
    "draw_episodes": "metasiam.data.tasks",
    "draw_pairs": "metasiam.data.tasks",
    "draw_triplets": "metasiam.data.tasks",
    "embed_images": "metasiam.evaluation.embedding",
    "enroll": "metasiam.gallery",
    "evaluate": "metasiam.session",
    "identify": "metasiam.gallery",
    "load_domains": "metasiam.data.sources",
    "load_embedder": "metasiam.models.files",
    "load_pairs": "metasiam.data.sources",
    "load_gallery": "metasiam.gallery",
    "match": "metasiam.gallery",
    "open_run": "metasiam.runs",
    "save_embedder": "metasiam.models.files",
    "split_domains": "metasiam.data.splitting",
    "sweep": "metasiam.workflows.sweep",
    "train": "metasiam.session",
    "train_pairs": "metasiam.pair_session",
    "tune": "metasiam.workflows.tune",
}

__all__ = [
    "Answer",
    "Comparison",
    "DomainSet",
    "Embedder",
    "EmbedderInfo",
    "Evaluation",
    "Gallery",
    "Listener",
    "MetaSiamError",
    "Method",
    "PairSet",
    "Pool",
    "Preparation",
    "ProbabilityCalibrator",
    "Progress",
    "ProtocolSettings",
    "Relay",
    "Run",
    "Split",
    "ThresholdCalibrator",
    "TrainingStopped",
    "Verdict",
    "__version__",
    "build_embedder",
    "compare",
    "draw_episodes",
    "draw_pairs",
    "draw_triplets",
    "embed_images",
    "enroll",
    "evaluate",
    "identify",
    "load_domains",
    "load_embedder",
    "load_gallery",
    "load_pairs",
    "match",
    "open_run",
    "save_embedder",
    "split_domains",
    "sweep",
    "train",
    "train_pairs",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'metasiam' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
