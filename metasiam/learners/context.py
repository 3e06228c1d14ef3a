"""What every learner starts from: data on the device, the embedder, the objective, the step's settings."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metasiam.catalogue import OWN
from metasiam.data.augment import Augmentation, normalise
from metasiam.data.domains import DomainSet
from metasiam.data.pool import Pool
from metasiam.data.preparation import USUAL
from metasiam.data.splitting import Split
from metasiam.errors import MetaSiamError
from metasiam.losses import NormalisedSoftmax
from metasiam.models import architecture, build
from metasiam.models.files import EmbedderInfo, read_embedder, usual_feeding
from metasiam.models.own import Embedder
from metasiam.objectives import build_objective
from metasiam.options.training import TrainingOptions
from metasiam.own_parts import OwnParts
from metasiam.progress import SILENT, Listener
from metasiam.training.distributed import Processes
from metasiam.training.machine import choose_device, choose_precision, derive_seed, generator_for
from metasiam.training.norms import set_running_statistics
from metasiam.training.state import plain_values, set_plain_values
from metasiam.training.step import (
    CompileDecision,
    GraphedStep,
    Step,
    TrainingStep,
    decide_compile,
    missing_for_compiling,
)
from metasiam.wording import counted

NOTHING_OWN = OwnParts()


@dataclass
class TrainingContext:
    """Everything that a learner needs besides its own options.

    Attributes:
        config: the run's options.
        domains: images and labels, on ``device``.
        split: seen, validation and held-out domains.
        seen: training images of the seen domains.
        embedder: what is trained, on ``device``, channels last.
        objective: the loss, with its own parameters on ``device``.
        info: normalisation and distance, saved next to the weights.
        device: where training runs.
        precision: autocast type.
        compiled: whether steps are compiled; None: to be decided by ``decide``.
        listener: told what the person who waits should know.
    """

    config: TrainingOptions
    domains: DomainSet
    split: Split
    seen: Pool
    embedder: nn.Module
    objective: nn.Module
    info: EmbedderInfo
    device: torch.device
    precision: torch.dtype
    compiled: bool | None
    listener: Listener
    augment: Callable[[Tensor], Tensor] | None = None

    @property
    def augmentation(self) -> Augmentation:
        """The training augmentation that the options ask for."""
        config = self.config
        return Augmentation(
            flip=bool(config.flip),
            shift=config.shift,
            crop=config.random_crop,
            jitter=config.jitter,
            erase=config.erase,
            own=self.augment,
        )

    def generator(self, *stream: int | str) -> torch.Generator:
        """Return the generator of a named random stream, on the device."""
        return generator_for(self.device, self.config.seed, *stream)

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        steps: int,
        processes: Processes | None = None,
        *,
        batch_size: int | None = None,
        average_gradients: bool = False,
    ) -> Step:
        """Return the fastest step for this device: eager, compiled, or either as a CUDA graph.

        Args:
            optimizer: over the parameters of embedder and objective.
            steps: how many steps this process will make, which decides whether compiling pays.
            processes: those that train together; they agree on compiling.
            batch_size: triplets in a step; None takes the option's.
            average_gradients: average the gradients over the processes.
        """
        processes = processes or Processes()
        shared = average_gradients and processes.count > 1
        shape = (3, batch_size) if batch_size else self.config.batch_shape
        generator = self.generator("example")
        choice = torch.randint(len(self.seen.images), shape, generator=generator, device=self.device)
        index, parameters = self.seen.images[choice], self.augmentation.draw(shape, generator)
        # Losses of a library ask the host for sizes; gradients that wait for other processes are not captured either.
        graphs = self.device.type == "cuda" and getattr(self.objective, "capturable", True) and not shared
        graphs = graphs and self.augment is None

        def graphed(step: TrainingStep) -> Step:
            try:
                return GraphedStep(step, index, parameters) if graphs else step
            except RuntimeError as error:
                self.listener.note(f"no CUDA graph: {str(error).partition(chr(10))[0]}")
                return step

        if self.compiled is None:
            counted = plain_values(self.objective)
            timed = graphed(self._training_step(optimizer))
            decision = decide_compile(self.config.compile, timed, index, parameters, steps)
            set_plain_values(self.objective, counted)
            self.compiled = processes.any(decision.compiled)
            self.listener.note(_in_words(decision))
        elif self.compiled and self.config.compile != "off":
            self.compiled = not processes.any(self._cannot_compile())
        return graphed(self._training_step(optimizer, compiled=self.compiled, average_gradients=shared))

    def _cannot_compile(self) -> bool:
        """Tell, and note, whether an earlier start compiled what cannot be compiled here."""
        missing = missing_for_compiling(self.device)
        if missing is not None:
            self.listener.note(
                f"continues without compiling, which needs {missing}: the weights will be as good, but not "
                "bit-identical to those of the machine where the run began"
            )
        return missing is not None

    def estimate_statistics(self) -> None:
        """Set BatchNorm's running statistics to those of the seen training images, or of 10,240 drawn from more."""
        order = torch.randperm(len(self.seen.images), generator=self.generator("statistics"), device=self.device)
        chosen = self.seen.images[order[:10_240]]

        def images(some: slice) -> Tensor:
            return normalise(self.domains.gather(chosen[some]), self.info.mean, self.info.std)

        set_running_statistics(self.embedder, len(chosen), images)

    def _training_step(
        self, optimizer: torch.optim.Optimizer, *, compiled: bool = False, average_gradients: bool = False
    ) -> TrainingStep:
        return TrainingStep(
            self.embedder,
            self.objective,
            optimizer,
            self.domains,
            self.augmentation,
            self.info.mean,
            self.info.std,
            precision=self.precision,
            compiled=compiled,
            average_gradients=average_gradients,
        )


def _in_words(decision: CompileDecision) -> str:
    return f"{'compiled' if decision.compiled else 'not compiled'}: {decision.reason}"


def prepare(
    config: TrainingOptions,
    domains: DomainSet,
    split: Split,
    *,
    resolved: dict[str, Any] | None = None,
    listener: Listener = SILENT,
    own: OwnParts = NOTHING_OWN,
) -> TrainingContext:
    """Build embedder and objective, and bring the data to the device.

    Args:
        config: the run's options.
        domains: the data.
        split: which domains are trained on.
        resolved: what an earlier start of the same run decided (``TrainingContext`` fields ``precision`` and
            ``compiled``), so that a resumed run computes the same bits.
        listener: told what the person who waits should know.
        own: the objects behind options that name somebody's own module or loss.

    Raises:
        MetaSiamError: for options that do not fit this machine, the data or the initial weights.
    """
    device = choose_device(config.device)
    precision = choose_precision((resolved or {}).get("precision", config.precision), device)
    if config.init is not None:
        stored = read_embedder(config.init, arch=config.arch, build=own.arch, listener=listener)[1]
        if domains.channels > stored.channels:
            listener.note(f"{config.init} takes grey images only: colour images are converted to grey")
        domains = domains.with_channels(stored.channels)
        if domains.channels != stored.channels:
            raise MetaSiamError(
                f"{config.init} takes images of {counted(stored.channels, 'channel')}, {domains.source} has "
                f"{domains.channels}. Start from weights of such images, or omit --init."
            )
    seen = domains.pool(split.seen, "train")
    lonely = [domains.names[d] for d, n in zip(seen.domains.tolist(), seen.counts.tolist(), strict=True) if n < 2]
    if lonely:
        raise MetaSiamError(
            f"domain '{lonely[0]}' of {domains.source} has a single training image, and a positive needs another. "
            "Add images to it or remove it."
        )
    mean, std = domains.channel_statistics(seen)
    # torch.nn.init draws from the global generator; forking it keeps the caller's own randomness untouched.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(config.seed, "weights"))
        embedder = _untrained(config, domains, own, pretrained=config.init is None)
        _check_batch(embedder, config, domains)
    if config.init is not None:
        embedder, stored = read_embedder(
            config.init,
            arch=config.arch,
            build=own.arch,
            listener=SILENT,  # said already
            channels=domains.channels,
            image_size=domains.image_size,
        )
        mean, std = stored.mean, stored.std
    elif isinstance(embedder, Embedder):
        mean, std = embedder.mean or mean, embedder.std or std
    elif not config.arch.startswith(OWN) and architecture(config.arch).pretrain is not None:
        fed = usual_feeding(config.arch, domains.channels)
        mean, std = fed["mean"], fed["std"]
    objective = _objective(config, embedder, seen, own)
    info = EmbedderInfo(
        arch=config.arch,
        channels=domains.channels,
        image_size=domains.image_size,
        mean=mean,
        std=std,
        distance=str(objective.distance),
        mirrored=bool(config.flip),
        trained_on=domains.source,
        preparation=domains.preparation or USUAL,
    )
    domains = domains.to(device)
    embedder, objective = embedder.to(device).to(memory_format=torch.channels_last), objective.to(device)
    if config.init is not None and isinstance(objective, NormalisedSoftmax):
        objective.start_at(_mean_embeddings(embedder, info, domains, seen))
    return TrainingContext(
        config=config,
        domains=domains,
        split=split,
        seen=domains.pool(split.seen, "train"),
        embedder=embedder,
        objective=objective,
        info=info,
        device=device,
        precision=precision,
        compiled=(resolved or {}).get("compiled"),
        listener=listener,
        augment=own.augmentation(config.augment),
    )


def _untrained(config: TrainingOptions, domains: DomainSet, own: OwnParts, *, pretrained: bool) -> nn.Module:
    embedder: nn.Module
    if config.arch.startswith(OWN):
        embedder = own.embedder(config.arch)
        embedder.measure(domains.channels, domains.image_size)
    else:
        named = architecture(config.arch)
        embedder = build(config.arch, named, domains.channels, domains.image_size, pretrained=pretrained)
    if not any(weight.requires_grad for weight in embedder.parameters()):
        raise MetaSiamError(f"{config.arch} has no weights to train. ms.evaluate measures it as it is.")
    return embedder


def _objective(config: TrainingOptions, embedder: nn.Module, seen: Pool, own: OwnParts) -> nn.Module:
    size = int(embedder.embedding_size)  # type: ignore[arg-type]
    # Losses of others draw their first parameters from the global generator.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(config.seed, "objective"))
        if config.loss.startswith(OWN):
            return own.objective(config.loss, config.loss_options, seen.domains, size)
        return build_objective(
            config.loss,
            episode=config.episode,
            margin=config.margin,
            temperature=config.temperature,
            options=config.loss_options,
            domains=seen.domains,
            embedding_size=size,
            generator=generator_for("cpu", config.seed, "objective"),
        )


@torch.no_grad()
def _check_batch(embedder: nn.Module, config: TrainingOptions, domains: DomainSet) -> None:
    """Raise where a batch is one image that the embedder shrinks to one pixel: BatchNorm cannot normalise by that.

    Raises:
        MetaSiamError: saying what to change.
    """
    if math.prod(config.batch_shape) > 1:
        return
    try:
        copy.deepcopy(embedder).train()(torch.zeros(config.batch_shape[-1], domains.channels, *domains.image_size))
    except ValueError as error:
        height, width = domains.image_size
        raise MetaSiamError(
            f"--batch-size {config.batch_size} does not fit {config.arch} on images of {width}x{height} pixels: a "
            "BatchNorm layer would see one value a channel, and needs two. Use --batch-size 2 or more."
        ) from error


@torch.no_grad()
def _mean_embeddings(
    embedder: nn.Module, info: EmbedderInfo, domains: DomainSet, seen: Pool, most: int = 100
) -> Tensor:
    """Return the mean unit embedding of each domain's first ``most`` images: float [D, size]."""
    embedder.eval()
    means = []
    for start, count in zip(seen.starts.tolist(), seen.counts.tolist(), strict=True):
        index = seen.images[start : start + min(count, most)].to(domains.device)
        rows = embedder(normalise(domains.gather(index), info.mean, info.std)).float()
        means.append(nn.functional.normalize(rows, dim=1).mean(0))
    return torch.stack(means)
