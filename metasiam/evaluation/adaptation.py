"""Adaptation: teach a copy of an embedder one new domain from k labelled images."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from metasiam.data.augment import Augmentation
from metasiam.data.domains import DomainSet
from metasiam.evaluation.embedding import embed_images
from metasiam.evaluation.solved import learn_background, solve_head
from metasiam.losses import TripletCosine, TripletSquaredEuclidean
from metasiam.models.files import EmbedderInfo, device_of
from metasiam.options.evaluation import TrainedPart
from metasiam.training.machine import choose_precision
from metasiam.training.step import TrainingStep

#: Seen-domain images that a solved head learns its background from; of 64-d embeddings this is plenty.
BACKGROUND_IMAGES = 1000


@dataclass(frozen=True)
class AdaptationPlan:
    """How to adapt: by gradient steps, or by a head solved in closed form.

    The defaults are the published ones: 30 inner epochs of Adam at 0.001 on batches of 128.

    Attributes:
        steps: optimizer steps (inner epochs); 0 leaves the weights as they are.
        rate: Adam's learning rate.
        part: which weights move: ``all``, the ``last_block`` of the network, the ``batchnorm`` scales and shifts
            only, or a linear ``head`` on the frozen embedding that starts as the identity.
        average: how far to go from the start (0) to the adapted weights (1): below 1 is weight averaging towards
            the start (WiSE-FT: Wortsman et al., 2022).
        batch: triplets a step.
        flip: mirror each image at random, where training did too.
        freeze_batchnorm: normalise with the trained statistics and leave them alone. Batch statistics of a batch
            that is two thirds one domain would be far off.
        stretch: instead of steps, a head on the frozen embedding that is this much longer along the domain's
            discriminant direction (``solved``); 0 for none.
    """

    steps: int = 30
    rate: float = 1e-3
    part: TrainedPart = "all"
    average: float = 1.0
    batch: int = 128
    flip: bool = True
    freeze_batchnorm: bool = True
    stretch: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch < 1 or self.rate <= 0 or not 0 <= self.average <= 1 or self.stretch < 0:
            raise ValueError(f"not a plan: {self}")
        if self.stretch and self.trains:
            raise ValueError("a plan either takes steps or stretches, not both")

    @property
    def trains(self) -> bool:
        """Whether weights of the embedder move."""
        return self.steps > 0 and self.average > 0

    @property
    def leaves_unadapted(self) -> bool:
        """Whether the result is the embedder as it was."""
        return not self.trains and self.stretch == 0


class HeadedEmbedder(nn.Module):
    """An embedder followed by a square linear map.

    Args:
        embedder: frozen features, with ``embedding_size``.
        weight: float [D, D] of the map; None starts as the identity.
    """

    def __init__(self, embedder: nn.Module, weight: Tensor | None = None) -> None:
        super().__init__()
        self.embedder = embedder
        self.embedding_size = int(embedder.embedding_size)  # type: ignore[arg-type]
        self.head = nn.Linear(self.embedding_size, self.embedding_size, bias=False)
        self.head.to(device_of(embedder))
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(self.embedding_size) if weight is None else weight)

    def forward(self, images: Tensor) -> Tensor:
        """Map float [B, C, H, W] to float [B, embedding_size]."""
        embeddings: Tensor = self.head(self.embedder(images))
        return embeddings


def adapt(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    images: Tensor,
    negatives: Tensor,
    plan: AdaptationPlan,
    generator: torch.Generator,
) -> nn.Module:
    """Return a copy of ``embedder`` adapted to one domain, in eval mode; ``embedder`` itself is untouched.

    Args:
        embedder: on any device; the copy is there too.
        info: normalisation and distance; the objective is the triplet loss of the distance with the published margin.
        domains: where the images are.
        images: int64 [k], the domain's labelled training images. With k = 1 no pair of different images exists;
            the positive is then the image itself, mirrored at random.
        negatives: int64 [n], seen-domain training images.
        plan: how many steps of what.
        generator: on the CPU; draws batches and flips.

    Returns:
        An embedder; with ``plan.part == "head"`` or a ``plan.stretch`` a ``HeadedEmbedder``.
    """
    if plan.stretch:
        return _with_solved_head(embedder, info, domains, images, negatives, plan.stretch)
    path = adaptation_path(embedder, info, domains, images, negatives, plan, generator, at=[plan.steps])
    return averaged(embedder, next(adapted for _, adapted in path), plan.average)


def _with_solved_head(
    embedder: nn.Module, info: EmbedderInfo, domains: DomainSet, images: Tensor, negatives: Tensor, stretch: float
) -> nn.Module:
    shown = negatives[:: max(len(negatives) // BACKGROUND_IMAGES, 1)].cpu()
    rows = embed_images(embedder, info, domains, torch.cat((images.cpu(), shown))).cpu()
    owners = domains.labels.cpu()[shown]
    background = learn_background(rows[len(images) :], owners, info.distance)
    head = solve_head(rows[: len(images)], background, stretch, info.distance)
    return HeadedEmbedder(copy.deepcopy(embedder), head.float()).eval()


def adaptation_path(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    images: Tensor,
    negatives: Tensor,
    plan: AdaptationPlan,
    generator: torch.Generator,
    *,
    at: Iterable[int],
) -> Iterator[tuple[int, nn.Module]]:
    """Adapt as ``adapt`` does, and yield ``(steps, embedder)`` at each of the step counts ``at``, in order.

    Each is a copy of its own, in eval mode, and stays as it is when the path continues. ``plan.steps`` and
    ``plan.average`` are the caller's business here (see ``averaged``).
    """
    device = device_of(embedder)
    domains = domains.to(device)
    model = copy.deepcopy(embedder)
    model = HeadedEmbedder(model) if plan.part == "head" else model
    model.train(not plan.freeze_batchnorm)
    moving = _moving_parameters(model, plan.part)
    augmentation = Augmentation(flip=plan.flip and info.mirrored)
    take_step = TrainingStep(
        model,
        _objective(info),
        torch.optim.Adam(moving, lr=plan.rate),
        domains,
        augmentation,
        info.mean,
        info.std,
        precision=choose_precision("auto", device),
    )
    wanted = sorted(set(at))
    batches = draw_adaptation_batches(images, negatives, (wanted[-1], plan.batch), generator).transpose(0, 1)
    # Moved at once: a copy from the host before each step would wait for the step before.
    mirrored = augmentation.draw(batches.shape, generator).to(device)
    batches = batches.to(device)
    for step in range(wanted[-1] + 1):
        if step in wanted:
            yield step, copy.deepcopy(model).eval().requires_grad_(True)
        if step < wanted[-1]:
            take_step(batches[step], mirrored[step])


@torch.no_grad()
def averaged(start: nn.Module, adapted: nn.Module, share: float) -> nn.Module:
    """Return a copy of ``adapted`` with its weights this share of the way from the start to the adapted ones.

    Args:
        start: the embedder before adaptation.
        adapted: from ``adaptation_path``.
        share: 1 keeps the adapted weights, 0 returns to the start.
    """
    if share == 1:
        return adapted
    result = copy.deepcopy(adapted)
    first = HeadedEmbedder(start) if isinstance(adapted, HeadedEmbedder) else start
    for parameter, origin in zip(result.parameters(), first.parameters(), strict=True):
        parameter.copy_(torch.lerp(origin, parameter, share))
    return result


def draw_adaptation_batches(
    images: Tensor, negatives: Tensor, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Draw the triplets to adapt on: anchor and positive from the k images, different where k > 1.

    Args:
        images: int64 [k].
        negatives: int64 [n].
        shape: of the draw, e.g. (steps, batch).
        generator: on the CPU.

    Returns:
        int64 [3, *shape] on the CPU; anchor and positive are one image where k = 1.
    """
    if len(images) == 0 or len(negatives) == 0:
        raise ValueError("adaptation needs at least one image and one negative")
    own, others = images.cpu(), negatives.cpu()
    count = len(own)
    anchor = torch.randint(count, shape, generator=generator)
    positive = anchor
    if count > 1:
        positive = torch.randint(count - 1, shape, generator=generator)
        positive = positive + (positive >= anchor)
    negative = torch.randint(len(others), shape, generator=generator)
    return torch.stack((own[anchor], own[positive], others[negative]))


def _moving_parameters(model: nn.Module, part: TrainedPart) -> list[nn.Parameter]:
    """Freeze everything but the part, and return the part's parameters."""
    if part == "head":
        assert isinstance(model, HeadedEmbedder)
        modules: list[nn.Module] = [model.head]
    elif part == "batchnorm":
        modules = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    elif part == "last_block":
        modules = [last_block(model)]
    else:
        modules = [model]
    moving = [parameter for module in modules for parameter in module.parameters()]
    if not moving:
        raise ValueError(f"this embedder has no {part} weights to adapt")
    model.requires_grad_(False)
    for parameter in moving:
        parameter.requires_grad_(True)
    return moving


def last_block(model: nn.Module) -> nn.Module:
    """Return the last building block with weights: the last child, and the last element where that is a sequence.

    An embedder around another one (``InferenceEmbedder``) has no block of its own.
    """
    weighty = [child for child in model.children() if next(child.parameters(), None) is not None]
    if not weighty:
        return model
    whole = isinstance(weighty[-1], nn.Sequential) or weighty[-1] is getattr(model, "embedder", None)
    return last_block(weighty[-1]) if whole else weighty[-1]


def _objective(info: EmbedderInfo) -> nn.Module:
    return TripletCosine() if info.distance == "cosine" else TripletSquaredEuclidean()
