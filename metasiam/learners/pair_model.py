"""An embedder and a pair head together: from two images to the log-odds that they show the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metasiam.data.augment import Augmentation, normalise
from metasiam.data.pairs import PairSet
from metasiam.data.preparation import USUAL
from metasiam.errors import MetaSiamError
from metasiam.models import architecture, build
from metasiam.models.files import EmbedderInfo, read_embedder, usual_feeding
from metasiam.models.koch import KochNetwork, initialise_as_in_paper
from metasiam.models.pair_heads import Features, MarginDistance, build_pair_head
from metasiam.options.pairs import SiameseOptions
from metasiam.progress import SILENT, Listener
from metasiam.training.machine import choose_device, choose_precision, derive_seed, generator_for


@dataclass
class PairModel:
    """What ``metasiam siamese`` trains.

    Attributes:
        embedder: on ``device``.
        head: called with the embeddings of both images; returns log-odds of "same".
        info: normalisation and size of the images.
        device: where it runs.
        precision: autocast type of the embedder.
        mirror: whether ``embed`` averages with the mirrored image's embedding.
    """

    embedder: nn.Module
    head: nn.Module
    info: EmbedderInfo
    device: torch.device
    precision: torch.dtype
    mirror: bool = False

    @property
    def margin(self) -> float:
        """The contrastive loss's margin."""
        return float(self.head.margin) if isinstance(self.head, MarginDistance) else 1.0

    def train(self, mode: bool = True) -> None:
        """Put embedder and head into training mode."""
        self.embedder.train(mode)
        self.head.train(mode)

    def eval(self) -> None:
        """Put embedder and head into evaluation mode."""
        self.train(False)

    def embed_training(self, images: Tensor, augmentation: Augmentation, parameters: Tensor) -> Tensor:
        """Augment and embed uint8 [B, C, H, W] with gradients: float32 [B, D]."""
        inputs = augmentation.apply(images, parameters, self.info.mean, self.info.std, self.precision)
        return self._embed(inputs)

    @torch.no_grad()
    def embed(self, images: Tensor, *, batch: int = 64, listener: Listener = SILENT) -> Tensor:
        """Embed uint8 [N, C, H, W] in evaluation mode: float32 [N, D] on the device."""
        self.eval()
        blocks: list[Tensor] = []
        for start in range(0, len(images), batch):
            block = images[start : start + batch]
            inputs = normalise(block.to(self.device), self.info.mean, self.info.std)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            embeddings = self._embed(inputs)
            blocks.append((embeddings + self._embed(inputs.flip(-1))) / 2 if self.mirror else embeddings)
            listener.progress("embedding images", min(len(blocks) * batch, len(images)), len(images))
        return torch.cat(blocks)

    def _embed(self, inputs: Tensor) -> Tensor:
        with torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32):
            embeddings: Tensor = self.embedder(inputs)
        return embeddings.float()

    @torch.no_grad()
    def compare(self, embeddings: Tensor, first: Tensor, second: Tensor, *, block: int = 512) -> Tensor:
        """Return the log-odds [P] of the pairs of rows int64 [P] of float [N, D], in evaluation mode."""
        self.eval()
        parts = zip(torch.split(first, block), torch.split(second, block), strict=True)
        return torch.cat([self.head(embeddings[a], embeddings[b]) for a, b in parts])


def balanced_share(right: Tensor, same: Tensor) -> float:
    """Return the share of right answers, bool [P], in which same and different pairs (bool [P]) count alike."""
    shares = [float(right[kind].float().mean()) for kind in (same, ~same) if bool(kind.any())]
    return sum(shares) / len(shares)


def build_pair_model(
    config: SiameseOptions, pairs: PairSet, precision: str | None = None, *, listener: Listener = SILENT
) -> PairModel:
    """Build the embedder and head that the options ask for, with their first weights.

    Args:
        config: the method's options.
        pairs: with the parts train and validation; normalisation is measured on the training part.
        precision: what an earlier start of the same run decided.
        listener: told what of the initial weights is left out.

    Raises:
        MetaSiamError: for options that do not fit this machine, the data or the initial weights.
    """
    device = choose_device(config.device)
    # torch.nn.init draws from the global generator; forking it keeps the caller's own randomness untouched.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(config.seed, "weights"))
        named, begins = architecture(config.arch), config.init is None
        embedder = build(config.arch, named, pairs.channels, pairs.image_size, pretrained=begins)
        size = int(embedder.embedding_size)  # type: ignore[arg-type]
        if config.loss == "contrastive":
            head: nn.Module = MarginDistance(1.0 if config.margin is None else config.margin)
        else:
            head = build_pair_head(config.head, size)
        if isinstance(head, Features):
            head.difference_weight = config.difference_weight
    mean, std = _statistics(pairs)
    if named.pretrain is not None:
        fed = usual_feeding(config.arch, pairs.channels)
        mean, std = fed["mean"], fed["std"]
    if config.initial == "paper":
        generator = generator_for("cpu", config.seed, "paper")
        initialise_as_in_paper(embedder, generator)
        initialise_as_in_paper(head, generator)
    if config.init is not None:
        _, stored = read_embedder(config.init, arch=config.arch, image_size=pairs.image_size, listener=listener)
        if stored.channels != pairs.channels:
            raise _other_channels(config.init, stored.channels, pairs)
        embedder, stored = read_embedder(
            config.init,
            arch=config.arch,
            listener=SILENT,  # said already
            channels=pairs.channels,
            image_size=pairs.image_size,
        )
        mean, std = stored.mean, stored.std
    if isinstance(embedder, KochNetwork):
        embedder.dropout = config.dropout
    info = EmbedderInfo(
        arch=config.arch,
        channels=pairs.channels,
        image_size=pairs.image_size,
        mean=mean,
        std=std,
        distance="cosine" if config.head in ("cosine", "features") and config.loss == "bce" else "squared_euclidean",
        mirrored=config.mirror,
        trained_on=pairs.source,
        preparation=pairs.preparation or USUAL,
    )
    return PairModel(
        embedder.to(device).to(memory_format=torch.channels_last),
        head.to(device),
        info,
        device,
        choose_precision(precision or config.precision, device),
        config.mirror,
    )


def _other_channels(init: str, channels: int, pairs: PairSet) -> MetaSiamError:
    kind = "grey" if channels == 1 else "colour"
    own = "colour" if channels == 1 else "grey"
    remedy = "Add --grey, or start" if channels == 1 else "Start"
    return MetaSiamError(
        f"--init {init} knows pictures in {kind}, {pairs.source} has them in {own}. {remedy} from weights trained on "
        f"{own}."
    )


def _statistics(pairs: PairSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, as fractions of 255, of the training pairs' images."""
    rows = pairs.rows("train")
    used = torch.unique(torch.cat((pairs.first[rows], pairs.second[rows])))
    sums = torch.zeros(2, pairs.channels, dtype=torch.float64)
    pixels = 0
    for block in torch.split(used, 512):
        values = pairs.images[block].double().cpu() / 255
        sums += torch.stack((values.sum((0, 2, 3)), values.square().sum((0, 2, 3))))
        pixels += values[:, 0].numel()
    mean, square = sums / pixels
    std = (square - mean**2).clamp(min=1e-6).sqrt()
    return tuple(round(m, 4) for m in mean.tolist()), tuple(round(s, 4) for s in std.tolist())
