"""One's own module and loss in a training: objects in the caller's hands, names in what is saved."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from metasiam import catalogue
from metasiam.catalogue import OWN
from metasiam.errors import MetaSiamError
from metasiam.models.own import Embedder, own_embedder
from metasiam.objectives import Options, OwnLoss, own_objective

#: Makes a module: a class that needs no argument, or a function.
Factory = Callable[[], nn.Module]


@dataclass(frozen=True, eq=False)
class OwnParts:
    """What the names that begin with ``own:`` in a run's options stand for.

    Attributes:
        augment: takes and returns uint8 [B, C, H, W]; None where there is none.
        arch: a module or what makes one; None where the embedder is one of the library's.
        loss: called as ``loss(embeddings, labels)``, or what makes it; None where it is one of the library's.
    """

    arch: nn.Module | Factory | None = None
    loss: Callable[..., Any] | None = None
    augment: Callable[[Tensor], Tensor] | None = None

    def embedder(self, name: str) -> Embedder:
        """Return a fresh copy of the embedder, untrained as it was handed over.

        Raises:
            MetaSiamError: if none was handed over.
        """
        if self.arch is None:
            raise MetaSiamError(
                f"{name.removeprefix(OWN)} is a custom module. Pass it from Python: arch=… takes the module or a "
                "function that makes it."
            )
        return own_embedder(self.arch)

    def objective(self, name: str, options: Options, domains: Tensor, embedding_size: int) -> OwnLoss:
        """Return the loss; a module's parameters are copied, so that each training starts with the same.

        Raises:
            MetaSiamError: if none was handed over.
        """
        if self.loss is None:
            raise MetaSiamError(
                f"{name.removeprefix(OWN)} is a custom loss. Pass it from Python: loss=… takes anything that can be "
                "called as loss(embeddings, labels)."
            )
        return own_objective(self.loss, name.removeprefix(OWN), options, domains, embedding_size)

    def augmentation(self, name: str | None) -> Callable[[Tensor], Tensor] | None:
        """Return somebody's function of uint8 batches, handed over or by its place; None for no name.

        Raises:
            MetaSiamError: if none was handed over.
        """
        if name is None:
            return None
        if not name.startswith(OWN):
            found: Callable[[Tensor], Tensor] = catalogue.given(name, "--augment")
            return found
        if self.augment is None:
            raise MetaSiamError(
                f"{name.removeprefix(OWN)} is a custom augmentation. Pass it from Python: augment=… takes a function "
                "of uint8 batches."
            )
        return self.augment


def taken_apart(options: Mapping[str, Any]) -> tuple[dict[str, Any], OwnParts]:
    """Return options in which objects are replaced by their names, and the objects.

    Raises:
        MetaSiamError: for an object that cannot be called.
    """
    named, parts = dict(options), OwnParts()
    for option in ("arch", "loss", "augment"):
        given = options.get(option)
        catalogue.give(given)
        if given is None or isinstance(given, str):
            continue
        if not callable(given):
            kinds = "text, a torch.nn.Module or what makes one" if option == "arch" else "text or a function"
            raise MetaSiamError(f"{option} must be {kinds}, not {given!r}.")
        named[option] = OWN + _name(given)
        parts = replace(parts, **{option: given})
    return named, parts


def _name(given: Any) -> str:
    if isinstance(given, Embedder):
        return given.name
    return given.__name__ if inspect.isclass(given) or inspect.isroutine(given) else type(given).__name__
