"""What the name of a loss, or somebody's own object, becomes: a module called as ``objective(embeddings, labels)``."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from metasiam import catalogue
from metasiam.errors import MetaSiamError
from metasiam.wording import listed

#: What may be said of a loss in ``config.json``: ``margin=0.1``.
Options = Mapping[str, Any]


class OwnLoss(nn.Module):
    """Somebody's loss, called as ``loss(embeddings, labels)``: pytorch-metric-learning's contract.

    Args:
        loss: takes float [B, D] embeddings and int64 [B] labels and returns a scalar. A module's parameters are trained
            with the embedder's. Its attribute ``distance`` (else ``cosine``) says how embeddings are compared later.
        name: what complaints call it.
        domains: int64 [D], the labels that are trained on: the loss gets their rows, 0 … D − 1. None: it gets the
            labels as they are, the places of the domains in the domain set's names.
    """

    #: Nobody knows what it asks the host for.
    capturable = False
    row_of: Tensor | None

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], name: str, domains: Tensor | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.name = name
        self.distance = _distance_of(getattr(loss, "distance", None))
        rows = None
        if domains is not None:
            rows = torch.zeros(int(domains.max()) + 1, dtype=torch.int64)
            rows[domains.cpu()] = torch.arange(len(domains))
        self.register_buffer("row_of", rows, persistent=False)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of float [B, D] embeddings with int64 [B] labels."""
        try:
            found = self.loss(embeddings, labels if self.row_of is None else self.row_of[labels])
        except (ValueError, TypeError, AssertionError, IndexError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise MetaSiamError(f"the loss {self.name} does not take these batches: {reason}.") from error
        if not isinstance(found, Tensor) or found.ndim:
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise MetaSiamError(f"the loss {self.name} must return a scalar tensor, not {shape}.")
        return found


class _Mined(nn.Module):
    """A loss of pytorch-metric-learning on what a miner of theirs picks from each batch."""

    def __init__(self, loss: nn.Module, miner: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner
        self.distance = getattr(loss, "distance", None)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of float [B, D] embeddings with int64 [B] labels."""
        return cast(Tensor, self.loss(embeddings, labels, self.miner(embeddings, labels)))


def build_objective(
    name: str,
    *,
    episode: tuple[int, int] | None = None,
    margin: float | None = None,
    temperature: float = 0.05,
    options: Options | None = None,
    domains: Tensor,
    embedding_size: int,
    generator: torch.Generator,
) -> nn.Module:
    """Build an objective by name: a module called as ``objective(embeddings [B, D], labels [B])``.

    Args:
        name: of ``metasiam.catalogue.LOSSES``; with ``episode``, of ``EPISODE_LOSSES`` first; ``pml:NAME``; or
            ``package.module:attribute`` that was given to this process.
        episode: ways and shots of a batch that is an episode.
        margin: in the loss's own units; None takes the source's (0.3 cosine, 1.0 squared Euclidean).
        temperature: of the normalised softmax and of ``supcon``.
        options: further parameters of the loss, by name.
        domains: int64 [D], the labels that are trained on, each once.
        embedding_size: dimensions of an embedding.
        generator: draws the objective's own first parameters, if it has any.

    Raises:
        MetaSiamError: for an unknown name, or parameters that the loss does not take.
    """
    options = options or {}
    if name.startswith("pml:"):
        return OwnLoss(_metric_learning_loss(name, options, len(domains), embedding_size), name, domains)
    rows = catalogue.LOSSES if episode is None else catalogue.EPISODE_LOSSES | catalogue.LOSSES
    entry = catalogue.entry("losses", name, rows)
    if entry is None:
        raise MetaSiamError(catalogue.unknown("--loss", name, catalogue.losses()))
    made = entry.load()
    if name not in rows:
        return own_objective(made, name, options, domains, embedding_size)
    known: dict[str, Any] = {"domains": domains, "embedding_size": embedding_size, "generator": generator}
    if episode is not None:
        known["ways"], known["shots"] = episode
    usual = {"temperature": temperature} | ({} if margin is None else {"margin": margin})
    takes = _parameters(made)
    _check_options(name, options, [one for one in takes if one not in known])
    values = {**usual, **known, **options}
    objective: nn.Module = made(**{key: value for key, value in values.items() if key in takes})
    return objective


def own_objective(given: Any, name: str, options: Options, domains: Tensor, embedding_size: int) -> OwnLoss:
    """Return somebody's loss, or what somebody's class or factory of losses makes.

    Args:
        given: a module, of which a copy is used; a function of ``(embeddings, labels)``; or a class or function that
            makes one of either. Of ``num_classes`` and ``embedding_size`` it gets what it takes.
        name: what complaints call it.
        options: further parameters, by name.
        domains: int64 [D], the labels that are trained on.
        embedding_size: dimensions of an embedding.

    Raises:
        MetaSiamError: for parameters that it does not take.
    """
    if isinstance(given, nn.Module):
        _check_options(name, options, [])
        return OwnLoss(copy.deepcopy(given), name)
    takes = _parameters(given)
    known = {"num_classes": len(domains), "embedding_size": embedding_size}
    if not inspect.isclass(given) and _needed(given) - known.keys():  # a loss itself: it cannot do without a batch
        _check_options(name, options, takes[2:])
        return OwnLoss(_with(given, options) if options else given, name)
    _check_options(name, options, [one for one in takes if one not in known])
    made = given(**{key: value for key, value in known.items() if key in takes}, **options)
    return OwnLoss(made, name, domains if "num_classes" in takes else None)


def _with(loss: Callable[..., Tensor], options: Options) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda embeddings, labels: loss(embeddings, labels, **options)


def _needed(function: Any) -> set[str]:
    return {p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty}


def _parameters(made: Any) -> list[str]:
    """Return what a function takes by name; of a class also what its bases take, where it hands on more."""
    found: dict[str, None] = {}
    for part in inspect.getmro(made) if inspect.isclass(made) else (made,):
        call = part.__dict__.get("__init__") if inspect.isclass(made) else part
        if call is None or part in (nn.Module, object):
            continue
        parameters = inspect.signature(call).parameters.values()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        found |= dict.fromkeys(p.name for p in parameters if p.kind in named and p.name != "self")
        if inspect.isclass(made) and all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return list(found)


def _check_options(name: str, options: Options, takes: list[str]) -> None:
    unknown = [option for option in options if option.partition(".")[0] not in takes]
    if unknown:
        has = f"It has: {listed(sorted(takes), 30)}" if takes else "It has none"
        raise MetaSiamError(f"the loss {name} has no parameter '{unknown[0]}'. {has}.")


# --- pytorch-metric-learning ------------------------------------------------------------------------------------

#: Parameters that are objects of theirs, named by a text, and the module that holds them.
_PARTS = {
    "loss": "losses",
    "miner": "miners",
    "distance": "distances",
    "reducer": "reducers",
    "embedding_regularizer": "regularizers",
    "weight_regularizer": "regularizers",
}
#: What they call how many dimensions an embedding has, and how many domains there are.
_SIZES, _CLASSES = ("embedding_size", "descriptors_dim", "l"), "num_classes"
#: Losses of two views of each image, of no labels, and of several losses: not of one batch and its labels.
_OTHER_CALLS = ("SelfSupervisedLoss", "VICRegLoss", "ManifoldLoss", "MultipleLosses")


def metric_learning(loss: str) -> Any:
    """Return pytorch-metric-learning.

    Raises:
        MetaSiamError: if it is not installed.
    """
    try:
        import pytorch_metric_learning
        from pytorch_metric_learning import distances, losses, miners, reducers, regularizers  # noqa: F401, its parts
    except ImportError as error:
        raise MetaSiamError(
            f"--loss {loss} needs pytorch-metric-learning. Install it with: pip install pytorch-metric-learning"
        ) from error
    return pytorch_metric_learning


def _metric_learning_loss(name: str, options: Options, classes: int, size: int) -> nn.Module:
    """Return a loss of theirs by name, with its miner if the options name one."""
    library = metric_learning(name)
    kind = name.removeprefix("pml:")
    if kind in _OTHER_CALLS:
        raise MetaSiamError(f"{name} is not called with a batch and its labels. From Python, hand over loss=….")
    given = dict(options)
    takes_miner = "miner" in _parameters(_theirs(library, "losses", kind))
    mined = {} if takes_miner else {one: given.pop(one) for one in options if one.partition(".")[0] == "miner"}
    loss = _built(library, "losses", kind, given, classes, size)
    if not mined:
        return loss
    if "miner" not in mined:
        raise MetaSiamError(f"{name} has miner options and no miner. Add e.g. miner=MultiSimilarityMiner.")
    inner = {one.partition(".")[2]: value for one, value in mined.items() if "." in one}
    return _Mined(loss, _built(library, "miners", str(mined["miner"]), inner, classes, size))


def _theirs(library: Any, module: str, name: str) -> Any:
    found = getattr(getattr(library, module), name, None)
    if not inspect.isclass(found):
        known = [one for one, it in vars(getattr(library, module)).items() if inspect.isclass(it)]
        public = sorted(one for one in known if not one.startswith(("Base", "_")) and one not in _OTHER_CALLS)
        raise MetaSiamError(f"pytorch-metric-learning's {module} have no '{name}'. They are: {', '.join(public)}.")
    return found


def _built(library: Any, module: str, name: str, options: Options, classes: int, size: int) -> nn.Module:
    """Make an object of theirs; texts that name parts of it become those, with the options behind their dots."""
    kind = _theirs(library, module, name)
    takes = _parameters(kind)
    found = {one: size for one in _SIZES if one in takes} | ({_CLASSES: classes} if _CLASSES in takes else {})
    _check_options(f"pml:{name}", options, [one for one in takes if one not in found])
    values: dict[str, Any] = {}
    for option, value in options.items():
        part, dot, _ = option.partition(".")
        if dot:
            if part not in options:
                raise MetaSiamError(f"pml:{name} has the option {option} and no {part}. Add {part}=NAME.")
            continue
        if part in _PARTS and isinstance(value, str):
            inner = {one.partition(".")[2]: more for one, more in options.items() if one.startswith(f"{part}.")}
            value = _built(library, _PARTS[part], value, inner, classes, size)
        values[option] = value
    try:
        return cast(nn.Module, kind(**found, **values))
    except (TypeError, ValueError, AssertionError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise MetaSiamError(f"pml:{name} cannot be made so: {reason}. Set its parameters: --set loss.NAME=…") from error


def _distance_of(said: Any) -> str:
    """Return how embeddings are compared later: as the loss says, by a word or by a distance of theirs."""
    if said in ("cosine", "squared_euclidean"):
        return str(said)
    if type(said).__name__ in ("LpDistance", "SNRDistance") and not getattr(said, "normalize_embeddings", True):
        return "squared_euclidean"  # of embeddings of length 1, both rank alike
    return "cosine"
