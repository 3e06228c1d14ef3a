"""Siamese training on labelled pairs: two images through one embedder, a head says whether they show the same.

Source: Koch, Zemel, Salakhutdinov, "Siamese Neural Networks for One-shot Image Recognition" (2015), with the
options of the published systems; contrastive loss as in Hadsell, Chopra, LeCun (2006).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from metasiam.data.augment import Augmentation
from metasiam.data.pairs import PairSet
from metasiam.learners.pair_model import PairModel, balanced_share
from metasiam.losses import contrastive, pair_bce
from metasiam.options.pairs import SiameseOptions
from metasiam.own_parts import OwnParts
from metasiam.progress import SILENT, Listener
from metasiam.training.learner import StopRequested
from metasiam.training.machine import derive_seed, generator_for
from metasiam.training.schedules import epoch_rate
from metasiam.training.state import (
    check_fits,
    counters,
    prime,
    restore_,
    running_statistics,
    snapshot,
    take_up_,
    trainable,
)
from metasiam.training.stopping import EarlyStopping

#: Koch et al.'s distortions on 105 × 105 images: degrees, pixels a pixel, factor, pixels.
PAPER_AFFINE = {"rotation": 10.0, "shear": 0.3, "scale": 0.2, "translation": 2.0}


class Siamese:
    """Gradient steps on batches of training pairs, each pair once an epoch; validation after every epoch.

    ``total`` shrinks when early stopping decides that an epoch was the last one.

    Args:
        config: the method's options.
        pairs: on the model's device, with the parts train and validation.
        model: trained in place.
        listener: told what every epoch found (``step`` is the iterations done).
    """

    def __init__(
        self,
        config: SiameseOptions,
        pairs: PairSet,
        model: PairModel,
        listener: Listener = SILENT,
    ) -> None:
        self.config = config
        self.pairs = pairs
        self.model = model
        self.listener = listener
        self.rows = pairs.rows("train")
        self.batches = math.ceil(len(self.rows) / config.batch_size)
        self.total = config.epochs * self.batches
        self.images_per_iteration = 2 * config.batch_size
        strengths = {name: value * config.affine for name, value in PAPER_AFFINE.items()}
        strengths |= {"crop": config.random_crop, "jitter": config.jitter, "erase": config.erase}
        own = OwnParts().augmentation(config.augment)
        self.augmentation = Augmentation(flip=bool(config.flip), shift=config.shift, reflect=True, own=own, **strengths)
        self.stopping = EarlyStopping(config.patience, config.min_delta, higher_is_better=config.stop_on == "accuracy")
        self.embeddings = model.embed(pairs.images) if config.freeze else None
        modules = (model.head,) if config.freeze else (model.embedder, model.head)
        model.embedder.requires_grad_(not config.freeze)
        weights = [weight for weight in trainable(modules) if weight.requires_grad]
        self.optimizer = _optimizer(config, modules) if weights else None
        self._tensors = {
            "weights": weights,
            "statistics": running_statistics(modules),
            "counters": counters(modules),
            "momenta": prime(self.optimizer) if self.optimizer is not None else [],
        }
        self._best: dict[str, list[Tensor]] = {}
        same = pairs.same[self.rows]
        counts = int(same.sum()), int((~same).sum())
        # Log-odds are learned with the odds of the training pairs: even odds of being same are here in them.
        self.even = math.log(counts[0] / counts[1]) if config.loss == "bce" else 0.0
        self._weights = 0.5 / counts[0], 0.5 / counts[1]  # of a same and of a different pair in the accuracy
        self._sums = torch.zeros(2, device=pairs.images.device)  # this epoch's loss and balanced accuracy so far

    def iterate(self, iteration: int, stop: Callable[[], bool]) -> Tensor:
        """Make one gradient step; after an epoch's last, measure on the validation part."""
        if stop():
            raise StopRequested
        epoch, place = divmod(iteration, self.batches)
        device = self.pairs.images.device
        order = torch.randperm(len(self.rows), generator=self._generator("epoch", epoch), device=device)
        batch = self.rows[order[place * self.config.batch_size : (place + 1) * self.config.batch_size]]
        if place == 0:
            self._sums.zero_()
        loss, logits = self._step(batch, iteration, epoch)
        same = self.pairs.same[batch]
        right = ((logits > self.even) == same) * torch.where(same, *self._weights)
        self._sums += torch.stack((loss * len(batch), right.sum()))
        if place == self.batches - 1:
            self._finish_epoch(iteration + 1)
        return loss

    def _step(self, batch: Tensor, iteration: int, epoch: int) -> tuple[Tensor, Tensor]:
        """Return the loss and the logits [B] of one step on the pairs ``batch``, int64 [B]."""
        pairs, same = self.pairs, self.pairs.same[batch]
        self.model.train(not self.config.freeze)
        images = torch.cat((pairs.first[batch], pairs.second[batch]))
        if self.embeddings is not None:
            embeddings = self.embeddings[images]
        else:
            generator = self._generator("step", iteration)
            parameters = self.augmentation.draw((len(images),), generator)
            # Dropout draws from the global generator: name its state, so that a resumed run draws the same.
            with torch.random.fork_rng(devices=[pairs.images.device] if pairs.images.is_cuda else []):
                torch.manual_seed(derive_seed(self.config.seed, "dropout", iteration))
                embeddings = self.model.embed_training(pairs.images[images], self.augmentation, parameters)
        first, second = embeddings.chunk(2)
        logits = self.model.head(first, second)
        if self.config.loss == "contrastive":
            loss = contrastive(first, second, same, self.model.margin)
        else:
            loss = pair_bce(logits, same)
        if self.optimizer is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self._epoch_rate(epoch)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return loss.detach(), logits.detach()

    def _finish_epoch(self, done: int) -> None:
        """Measure, remember the best weights, and end the training when patience is exhausted."""
        rows = self.pairs.rows("validation")
        logits, loss = self.measure(rows)
        same = self.pairs.same[rows]
        row = {
            "step": done,
            "epoch": done // self.batches,
            "train_loss": float(self._sums[0]) / len(self.rows),
            "train_accuracy": 100 * float(self._sums[1]),
            "validation_loss": loss,
            "validation_accuracy": 100 * balanced_share((logits > self.even) == same, same),
        }
        watched = row["validation_accuracy"] / 100 if self.config.stop_on == "accuracy" else loss
        if self.stopping.update(watched) and self.config.patience is not None:
            self._best = {name: snapshot(self._tensors[name]) for name in ("weights", "statistics", "counters")}
        if self.stopping.exhausted:
            self.total = done
        self.listener.measured(row)

    @torch.no_grad()
    def measure(self, rows: Tensor) -> tuple[Tensor, float]:
        """Return the logits [n] of the pairs ``rows`` and their mean loss, in evaluation mode."""
        if self.embeddings is not None:
            embeddings, first, second = self.embeddings, self.pairs.first[rows], self.pairs.second[rows]
        else:
            used, place = torch.unique(
                torch.cat((self.pairs.first[rows], self.pairs.second[rows])), return_inverse=True
            )
            embeddings = self.model.embed(self.pairs.images[used])
            first, second = place.chunk(2)
        logits = self.model.compare(embeddings, first, second)
        same = self.pairs.same[rows]
        if self.config.loss == "contrastive":
            return logits, float(contrastive(embeddings[first], embeddings[second], same, self.model.margin))
        return logits, float(pair_bce(logits, same))

    def validation_scores(self) -> tuple[Tensor, Tensor]:
        """Return scores [n] and truth [n] of the validation pairs, on the CPU."""
        rows = self.pairs.rows("validation")
        return self.measure(rows)[0].cpu(), self.pairs.same[rows].cpu()

    def _generator(self, *stream: int | str) -> torch.Generator:
        return generator_for(self.pairs.images.device, self.config.seed, *stream)

    def _epoch_rate(self, epoch: int) -> float:
        config = self.config
        return epoch_rate(
            config.schedule,
            config.lr,
            epoch,
            epochs=config.epochs,
            step_size=config.step_size,
            milestones=config.numbers("milestones", config.milestones),
            gamma=config.gamma,
        )

    def rate(self, iteration: int) -> float:
        """Return the learning rate of a step."""
        return self._epoch_rate(iteration // self.batches)

    def state(self) -> dict[str, Any]:
        """Return weights, statistics, momenta, the best weights so far and how far early stopping is."""
        return {
            "tensors": {name: snapshot(tensors) for name, tensors in self._tensors.items()},
            "best": self._best,
            "stopping": self.stopping.state(),
            "sums": self._sums.clone(),
            "total": self.total,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state that ``state`` returned."""
        for name, tensors in self._tensors.items():
            take_up_([tensor.detach() for tensor in tensors], state["tensors"][name])
        for name, best in state["best"].items():
            check_fits(self._tensors[name], best)
        self._best = state["best"]
        self.stopping.load(state["stopping"])
        self._sums.copy_(state["sums"])
        self.total = int(state["total"])
        if float(self._sums[1]) > 1.5:  # saved as a count of right answers, before same and different counted alike
            self._sums[1] /= len(self.rows)

    def finish(self) -> None:
        """Bring back the best weights if early stopping was asked for; leave the model in evaluation mode."""
        for name, tensors in self._best.items():
            restore_([tensor.detach() for tensor in self._tensors[name]], tensors)
        self.model.eval()


def _optimizer(config: SiameseOptions, modules: tuple[nn.Module, ...]) -> torch.optim.Optimizer:
    """Return Adam or SGD over the weights that learn, with an L2 penalty of its own for each layer when asked."""
    groups: list[dict[str, Any]] = []
    penalised: set[int] = set()
    if config.layer_l2 is not None:
        strengths = config.numbers("layer_l2", config.layer_l2)
        layers = [module for part in modules for module in part.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
        for place, layer in enumerate(layers):
            groups.append({"params": [layer.weight], "weight_decay": strengths[min(place, len(strengths) - 1)]})
            penalised.add(id(layer.weight))
    others = [
        weight
        for part in modules
        for weight in part.parameters()
        if weight.requires_grad and id(weight) not in penalised
    ]
    groups.append({"params": others, "weight_decay": 0.0 if penalised else config.weight_decay})
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, foreach=True)
    return torch.optim.Adam(groups, lr=config.lr, fused=groups[0]["params"][0].device.type in ("cpu", "cuda"))
