"""State dicts of other programs, matched to an embedder's names.

The same network is saved under many names: by ``DataParallel``, ``torch.compile``, Lightning or an averaged model, with
or without BatchNorm's counters and the classifier that it was trained with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metasiam import catalogue
from metasiam.models import architecture, build
from metasiam.wording import counted, listed

#: Under which key a file keeps its state dict next to other things, the likeliest first.
_WRAPPINGS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "embedder",
    "encoder",
    "backbone",
    "module",
    "weights",
)
#: What a network is called inside of another module.
_OUTER = {
    *("module", "model", "base_model", "backbone", "encoder", "net", "network", "trunk"),
    *("embedder", "embedding_net", "feature_extractor"),
}
#: What wrappers put anywhere into a name.
_WRAPPERS = {"_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
#: What is left of a training behind or next to the embedder: classifiers, projections and losses.
_HEADS = {
    *("fc", "linear", "last_linear", "classifier", "head", "heads", "logits", "output"),
    *("projection", "projector", "projection_head", "predictor", "prototypes"),
    *("criterion", "loss", "loss_fn", "objective"),
}
_COUNTER = "num_batches_tracked"  # only used by BatchNorm without momentum, and absent before PyTorch 0.4.1
_AVERAGED = "n_averaged"  # of torch.optim.swa_utils.AveragedModel
_NAMED = 3  # tensors named of each kind that differs


def unwrapped(loaded: Any) -> Any:
    """Return what a file keeps under ``state_dict`` and the like, in any nesting; else the same."""
    while isinstance(loaded, dict) and (key := next((k for k in _WRAPPINGS if isinstance(loaded.get(k), dict)), None)):
        loaded = loaded[key]
    return loaded


@dataclass(frozen=True)
class Match:
    """A state dict in a module's own names, and what of it differs.

    Attributes:
        state: the tensors that the module has, under its names.
        missing: names of the module's that are not in the file; its counters may be.
        unexpected: names in the file that the module does not have.
        misshapen: ``name is [shape], not [shape]`` for those of other shapes.
        twice: pairs of names in the file that are the same name here, with different values.
        heads: first parts of the names of classifiers and the like, which are left out.
    """

    state: dict[str, Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    twice: tuple[str, ...]
    heads: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.unexpected or self.misshapen or self.twice)

    def difference(self) -> str:
        """Say what differs, with a few names."""
        kinds = (
            (self.missing, "missing"),
            (self.unexpected, "unexpected"),
            (self.misshapen, "of another shape"),
            (self.twice, "there twice"),
        )
        return "; ".join(
            f"{counted(len(names), 'tensor')} {what} ({listed(names, _NAMED)})" for names, what in kinds if names
        )


def match(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Match:
    """Find a module's tensors in a state dict of whatever origin.

    Args:
        state: the file's tensors.
        wanted: the module's own ``state_dict()``.
    """
    found, twice = _by_plain_name(state, wanted)
    places = {_plain(name): name for name in wanted}
    if len(places) < len(wanted) or wanted.keys() <= state.keys():
        places = {name: name for name in wanted}
        found, twice = {name: (name, value) for name, value in state.items()}, []
    rest = [name for plain, (name, _) in found.items() if plain not in places and not _is_counter(plain)]
    heads = [name for name in rest if _head(name)]
    return Match(
        state={places[plain]: value for plain, (_, value) in found.items() if plain in places},
        missing=tuple(name for plain, name in places.items() if plain not in found and not _is_counter(plain)),
        unexpected=tuple(name for name in rest if not _head(name)),
        misshapen=tuple(
            f"{name} is {list(value.shape)}, not {list(wanted[places[plain]].shape)}"
            for plain, (name, value) in found.items()
            if plain in places and value.shape != wanted[places[plain]].shape
        ),
        twice=tuple(twice),
        heads=tuple(dict.fromkeys(_head(name) for name in heads)),
    )


def fitting_architectures(state: Mapping[str, Tensor], channels: int, image_size: tuple[int, int]) -> list[str]:
    """Return the embedders that a state dict fits; nothing is computed or downloaded."""
    names = []
    for arch in catalogue.embedders(with_weights=True):
        with contextlib.suppress(Exception), torch.device("meta"):  # builders are others' code too
            named = architecture(arch)
            if named.pretrain is not None:  # the same network as another, downloaded
                continue
            module = build(arch, named, channels, image_size, pretrained=False)
            if match(state, module.state_dict()).fits:
                names.append(arch)
    return names


def _by_plain_name(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, tuple[str, Tensor]], list[str]]:
    """Return name in the file and tensor by plain name, and the pairs of names that are the same one."""
    found: dict[str, tuple[str, Tensor]] = {}
    twice = []
    plain_wanted = {_plain(name) for name in wanted}
    for name, value in state.items():
        plain = _plain(name)
        other, earlier = found.setdefault(plain, (name, value))
        if other != name and plain in plain_wanted and not _same(earlier, value) and not _is_counter(plain):
            twice.append(f"{other} and {name}")
    return found, twice


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and bool(torch.equal(first, second))


def _plain(name: str) -> str:
    """Return a name without what wrappers and outer modules put before or into it."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while len(parts) > 1 and parts[0] in _OUTER:
        parts = parts[1:]
    return ".".join(parts)


def _is_counter(plain: str) -> bool:
    return plain.rpartition(".")[2] == _COUNTER or plain == _AVERAGED


def _head(name: str) -> str:
    """Return the first part of a head's plain name; empty for other names."""
    first = _plain(name).partition(".")[0]
    return first if first in _HEADS else ""
