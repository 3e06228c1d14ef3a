"""A pair head fitted in closed form instead of by gradient descent: a linear SVM on the embedder's features.

Source: the diagonal metric of Simonyan et al., "Fisher Vector Faces in the Wild" (2013), section 3.2, with a · b
next to |a − b|.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sklearn.svm import SVC
from torch import Tensor, nn

from metasiam.data.pairs import PairSet, fold_people
from metasiam.errors import MetaSiamError
from metasiam.learners.pair_model import PairModel, balanced_share
from metasiam.options.pairs import SiameseOptions
from metasiam.progress import SILENT, Listener
from metasiam.training.learner import StopRequested
from metasiam.training.machine import generator_for
from metasiam.training.state import snapshot, take_up_


class SolvedHead:
    """One fold an iteration, then the head on all training pairs.

    Embeddings are computed once, when it is made. The pairs of the parts train and validation are all trained on;
    ``answered`` holds what heads that never met anybody in a pair say about it.

    Args:
        config: the method's options.
        pairs: on the model's device.
        model: its head is solved for; its embedder stays as it is.
        listener: told how far the embedding is, and what every fold found.

    Raises:
        MetaSiamError: if the head is not one linear unit, or a fold left out leaves pairs of one kind only.
    """

    def __init__(
        self,
        config: SiameseOptions,
        pairs: PairSet,
        model: PairModel,
        listener: Listener = SILENT,
    ) -> None:
        if not hasattr(model.head, "features"):
            raise MetaSiamError(f"--solver svm needs a head that is one linear unit, not {config.head}. Use features.")
        self.config = config
        self.pairs = pairs
        self.model = model
        self.listener = listener
        self.rows = torch.cat((pairs.rows("train"), pairs.rows("validation"))).sort().values
        self.total = config.folds + 1
        self.images_per_iteration = 2 * len(self.rows)
        generator = generator_for("cpu", config.seed, "folds")
        self.fold = fold_people(pairs, self.rows.cpu(), config.folds, generator)
        self.answered = torch.zeros(len(self.rows))
        same = pairs.same[self.rows].cpu()
        for fold in range(config.folds):
            if len(torch.unique(same[self.fold != fold])) < 2:
                raise MetaSiamError(
                    f"without fold {fold + 1} of {config.folds} the training pairs of {pairs.source} are all "
                    f"{'same' if bool(same[self.fold != fold].any()) else 'different'}, as pairs that share an image "
                    "or a person stay together. Add pairs of other images, or use --solver gradient."
                )
        output = model.head.output
        assert isinstance(output, nn.Linear)
        self._weights = [output.weight, output.bias]
        used, place = torch.unique(torch.cat((pairs.first[self.rows], pairs.second[self.rows])), return_inverse=True)
        first, second = place.chunk(2)
        embeddings = model.embed(pairs.images[used], listener=listener)
        with torch.no_grad():
            self._features = model.head.features(embeddings[first], embeddings[second]).cpu()  # type: ignore[operator]
            self._kernel = self._features @ self._features.T
        # C means the same for any features when they have length 1 on average.
        self._unit = float(self._kernel.diagonal().mean())

    @torch.no_grad()
    def iterate(self, iteration: int, stop: Callable[[], bool]) -> Tensor:
        """Solve with one fold left out and answer that fold; at last, solve with all pairs. Return the hinge loss."""
        if stop():
            raise StopRequested
        same = self.pairs.same[self.rows].cpu()
        left_out = self.fold == iteration  # nothing, the last time
        kept = (~left_out).nonzero().flatten()
        machine = SVC(C=self.config.penalty, kernel="precomputed")
        machine.fit((self._kernel[kept][:, kept] / self._unit).double().numpy(), same[kept].numpy())
        support = kept[torch.from_numpy(machine.support_).long()]
        factors = torch.from_numpy(machine.dual_coef_[0]).float() / self._unit
        weight = self._features[support].T @ factors
        bias = float(machine.intercept_[0])
        scores = self._features @ weight + bias
        if iteration < self.config.folds:
            self.answered[left_out] = scores[left_out]
            right = (scores > 0) == same
            self.listener.measured(
                {
                    "step": iteration + 1,
                    "fold": iteration,
                    "train_accuracy": 100 * balanced_share(right[kept], same[kept]),
                    "validation_accuracy": 100 * balanced_share(right[left_out], same[left_out]),
                }
            )
        self._weights[0].copy_(weight.view(1, -1))
        self._weights[1].fill_(bias)
        signs = torch.where(same[kept], 1.0, -1.0)
        return torch.relu(1 - signs * scores[kept]).mean()

    def validation_scores(self) -> tuple[Tensor, Tensor]:
        """Return scores [n] and truth [n] of the training pairs, each answered by a head that met nobody in it."""
        return self.answered, self.pairs.same[self.rows].cpu()

    def rate(self, iteration: int) -> float:
        """Return the penalty C."""
        return self.config.penalty

    def state(self) -> dict[str, Any]:
        """Return the head and the answers so far."""
        return {"weights": snapshot(self._weights), "answered": self.answered.clone()}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state that ``state`` returned."""
        take_up_([weight.detach() for weight in self._weights], state["weights"])
        take_up_([self.answered], [state["answered"]])

    def finish(self) -> None:
        """Leave the model in evaluation mode."""
        self.model.eval()
