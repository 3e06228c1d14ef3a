"""Embedder weights on disk: safetensors with metadata, and plain state dicts trained elsewhere."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from metasiam import catalogue
from metasiam.arguments import checked
from metasiam.data.preparation import UNSAID, USUAL, Preparation
from metasiam.errors import MetaSiamError, OtherArchitectureError, UnknownArchitectureError
from metasiam.models import architecture, feeding_of
from metasiam.models import build as _build
from metasiam.models.architecture import Architecture
from metasiam.models.own import Embedder, own_embedder
from metasiam.models.state_dicts import Match, fitting_architectures, match, unwrapped
from metasiam.options.paths import check_weights
from metasiam.progress import SHOWN_OR_WARNED, SILENT, Listener, heard
from metasiam.runs.atomic import atomically
from metasiam.runs.places import EMBEDDER_FILE
from metasiam.runs.reading import check_regular
from metasiam.runs.safe_load import UnsafeOrDamaged, load_plain
from metasiam.shapes import EMBEDDER, check, parse_json
from metasiam.wording import counted, listed

#: CIFAR-10's statistics, as the published systems use them: for weights that do not say their normalisation.
PUBLISHED_MEAN, PUBLISHED_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's parameters are; its buffers, where it has none (Fisher vectors); else the CPU."""
    tensor = next(itertools.chain(module.parameters(), module.buffers()), None)
    return tensor.device if tensor is not None else torch.device("cpu")


@dataclass(frozen=True)
class EmbedderInfo:
    """What must be known to use trained weights.

    Attributes:
        arch: name of the embedder (``metasiam.catalogue``), or of somebody's own.
        channels: image channels.
        image_size: height and width in pixels that images are brought to.
        mean: per channel, as fractions of 255.
        std: per channel, as fractions of 255.
        distance: ``cosine`` or ``squared_euclidean``: how two embeddings are compared.
        threshold: calibrated similarity from which two images count as same, if known.
        mirrored: whether training mirrored images at random, so that a mirrored image means the same.
        trained_on: the source of the training images, for people to read.
        preparation: what was done to the training pictures on their way to ``image_size`` and ``channels``; it is done
            to every picture that is shown to the embedder later.
    """

    arch: str
    channels: int = 3
    image_size: tuple[int, int] = (32, 32)
    mean: tuple[float, ...] = PUBLISHED_MEAN
    std: tuple[float, ...] = PUBLISHED_STD
    distance: str = "cosine"
    threshold: float | None = None
    mirrored: bool = True
    trained_on: str = ""
    preparation: Preparation = USUAL


def info_fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``EmbedderInfo`` from the JSON object that ``dataclasses.asdict`` made of one.

    What a newer version added is left out; weights that say a size but not how pictures get to it are older.

    Raises:
        ValueError: if the preparation is not one.
    """
    known = EmbedderInfo.__dataclass_fields__
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
    fields = {name: value for name, value in fields.items() if name in known}
    if "preparation" in fields:
        fields["preparation"] = Preparation.from_dict(fields["preparation"])
    elif "image_size" in fields:
        fields["preparation"] = UNSAID
    return fields


@checked
def save_embedder(path: str | Path, embedder: nn.Module, info: EmbedderInfo) -> None:
    """Write weights and ``info`` to a safetensors file, atomically.

    An ``arch`` that nothing is known by is kept as that of a custom module, ``own:NAME``: ``load_embedder`` takes the
    module, or what makes it, as ``build``.

    Raises:
        MetaSiamError: if its folder does not exist.
    """
    if not Path(path).absolute().parent.is_dir():
        raise MetaSiamError(f"{path} cannot be written: its folder does not exist. Make the folder first.")
    state = _own_module(embedder).state_dict()
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    kept = replace(info, arch=_kept_name(info.arch))
    with atomically(Path(path)) as partial:
        save_file(tensors, partial, metadata={"metasiam": json.dumps(asdict(kept))})


def _kept_name(arch: str) -> str:
    """Return a name that an embedder can be made by, or that says that its module must be handed over."""
    try:
        catalogue.check_embedder("arch", arch, with_weights=False)
    except MetaSiamError:
        return catalogue.OWN + arch
    return arch


@checked
@heard
def load_embedder(
    path: str | Path,
    *,
    arch: str | None = None,
    build: nn.Module | Callable[[], nn.Module] | None = None,
    listener: Listener | None = SHOWN_OR_WARNED,
    **overrides: Any,
) -> tuple[nn.Module, EmbedderInfo]:
    """Read an embedder from a run folder, a safetensors file or a plain PyTorch state dict.

    Nothing that could run code is ever unpickled (``weights_only=True``).

    State dicts of other programs may lack BatchNorm's counters, carry the prefixes of ``DataParallel``,
    ``torch.compile``, Lightning and averaged models, and hold a classifier, which is left out.

    Weights that do not say their normalisation get the published systems' (for images of other
    than three channels, its mean over the colours); as ``resnet18-imagenet`` they get torchvision's and its image
    size.

    Args:
        path: run folder, ``.safetensors`` file, or state dict saved by ``torch.save``.
        arch: embedder name; needed for a state dict, which does not say.
        build: one's own module (a copy is used), or what makes it, for weights that were trained of it.
        listener: told what of the file is left out; by default shown in a terminal or a notebook, and a ``UserWarning``
            elsewhere; None is silent.
        overrides: fields of ``EmbedderInfo`` that replace the stored ones.

    Returns:
        The embedder on the CPU in eval mode, and its info.

    Raises:
        UnknownArchitectureError: if neither the file nor ``arch`` says the architecture.
        OtherArchitectureError: if it is of another one; the text names tensors that differ.
        MetaSiamError: if the file is missing, damaged, holds anything but tensors, or has weights that are not finite,
            or its normalisation does not fit its channels.
    """
    catalogue.give(arch)
    return read_embedder(path, arch=arch, build=build, listener=listener or SILENT, **overrides)


def read_embedder(
    path: str | Path,
    *,
    arch: str | None = None,
    build: nn.Module | Callable[[], nn.Module] | None = None,
    listener: Listener = SHOWN_OR_WARNED,
    **overrides: Any,
) -> tuple[nn.Module, EmbedderInfo]:
    """Read an embedder as ``load_embedder`` does, where ``arch`` may be a file's word: nothing is imported for it."""
    path = _weights_file(Path(path))
    state, stored = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_state_dict(path), {})
    if arch is not None and catalogue.is_place(arch) and str(stored.get("arch")).startswith(catalogue.OWN):
        stored["arch"] = arch  # handed over from Python in training, named now
    if build is not None and "arch" in stored:
        stored["arch"] = _kept_name(str(stored["arch"]))
    if arch is not None and stored.get("arch", arch) != arch:
        raise OtherArchitectureError(f"{path} holds a {stored['arch']}, not the {arch} asked for. Omit --arch.")
    if "channels" not in stored and (first := next((v for v in state.values() if v.ndim == 4), None)) is not None:
        stored["channels"] = int(first.shape[1])
    _check_overrides(overrides)
    known = {**stored, **overrides}
    if build is not None and arch is None:
        arch = str(stored.get("arch", catalogue.OWN))
    if arch is None and "arch" not in stored:
        advice = _advice(state, EmbedderInfo("", **known)) or "Add --arch, e.g. --arch resnet56."
        raise UnknownArchitectureError(f"{path} does not say its architecture. {advice}")
    known = usual_feeding(str(arch or stored["arch"]), known.get("channels", 3)) | known
    info = replace(EmbedderInfo(arch=str(arch or stored["arch"])), **known)
    embedder = _built(path, info, state, build)
    state = _fitted(_own_module(embedder), state, path, info, listener)
    if not all(bool(value.isfinite().all()) for value in state.values() if value.is_floating_point()):
        raise MetaSiamError(
            f"{path} contains NaN or infinite weights (training diverged). Use other weights, or retrain with a lower "
            "--lr."
        )
    _check_normalisation(info, path)
    return embedder.eval(), info


def _own_module(embedder: nn.Module) -> nn.Module:
    """Return the module whose weights are kept: of an ``Embedder`` the one within, as its owner knows it."""
    return embedder.module if isinstance(embedder, Embedder) else embedder


def _built(
    path: Path, info: EmbedderInfo, state: dict[str, Tensor], build: nn.Module | Callable[[], nn.Module] | None
) -> nn.Module:
    """Return an embedder that the weights will be loaded into, by name or by what the caller handed over."""
    if build is None:
        if info.arch.startswith(catalogue.OWN):
            raise UnknownArchitectureError(
                f"{path} holds weights of a custom module, {info.arch.removeprefix(catalogue.OWN)}. Load it from "
                "Python: load_embedder takes build=… and evaluate takes arch=…, the module or a function that makes it."
            )
        named = architecture(info.arch)
        with suppress(NotImplementedError), torch.device("meta"):  # some libraries' cannot be built without values
            _check_fit(_module_of(named, info), state, path, info)  # takes no memory: what does not fit is never built
        return _module_of(named, info)
    embedder = own_embedder(build)
    embedder.measure(info.channels, info.image_size)
    return embedder


def _module_of(named: Architecture, info: EmbedderInfo) -> nn.Module:
    return _build(info.arch, named, info.channels, info.image_size, pretrained=False)


def stored_image_size(path: str | Path) -> tuple[int, int] | None:
    """Return the height and width that weights say they take, or None where they do not say.

    Raises:
        MetaSiamError: if there are no weights, or they are damaged.
    """
    path = _weights_file(Path(path))
    size = _read_safetensors(path)[1].get("image_size") if path.suffix == ".safetensors" else None
    return None if size is None else (int(size[0]), int(size[1]))


def load_state(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load ``state`` into ``module``, every name and shape matching.

    Raises:
        OtherArchitectureError: naming a few of the tensors that are missing, unexpected or misshapen.
    """
    found = match(state, module.state_dict())
    if not found.fits or found.heads:
        raise OtherArchitectureError(f"{path} is of another architecture: {found.difference() or listed(found.heads)}.")
    module.load_state_dict(found.state, strict=False)


def _fitted(
    embedder: nn.Module, state: dict[str, Tensor], path: Path, info: EmbedderInfo, listener: Listener
) -> dict[str, Tensor]:
    """Load what an embedder has of a file's tensors and return it; what is left of a training is left out."""
    found = _check_fit(embedder, state, path, info)
    if found.heads:
        listener.note(f"{path} has a head after the embedder ({listed(found.heads)}): left out")
    embedder.load_state_dict(found.state, strict=False)  # strictly but for counters
    return found.state


def _check_fit(embedder: nn.Module, state: dict[str, Tensor], path: Path, info: EmbedderInfo) -> Match:
    found = match(state, embedder.state_dict())
    if not found.fits:
        advice = _advice(state, info) or "Pass the --arch that it was trained with."
        raise OtherArchitectureError(f"{path} is not a {info.arch}: {found.difference()}. {advice}")
    return found


def _check_overrides(overrides: Mapping[str, Any]) -> None:
    known = EmbedderInfo.__dataclass_fields__
    if unknown := [name for name in overrides if name not in known]:
        raise MetaSiamError(f"weights have no '{unknown[0]}'. They have: {', '.join(sorted(known))}.")
    try:
        check(overrides, EMBEDDER)
    except ValueError as error:
        raise MetaSiamError(f"{error}. Use another value or omit it.") from error


def _advice(state: dict[str, Tensor], info: EmbedderInfo) -> str:
    """Say which architectures would fit; empty where none does."""
    names = fitting_architectures(state, info.channels, info.image_size)
    return f"Add --arch {' or '.join(names)}, which it fits." if names else ""


def _weights_file(path: Path) -> Path:
    """Return the file that a run folder or a weights file names."""
    check_weights(path)
    return path / EMBEDDER_FILE if path.is_dir() else path


def usual_feeding(arch: str, channels: int) -> dict[str, Any]:
    """Return how pictures are shown to weights that do not say it, as fields of ``EmbedderInfo``.

    What comes with the embedder's name, else what the published systems do; for other than three channels, the mean of
    the colours.
    """
    feeding = feeding_of(arch)
    known: dict[str, Any] = {}
    if feeding is not None:
        known = {"image_size": feeding.image_size, "preparation": feeding.preparation}
    mean, std = (PUBLISHED_MEAN, PUBLISHED_STD) if feeding is None else (feeding.mean, feeding.std)
    for name, colours in (("mean", mean), ("std", std)):
        known[name] = colours if channels == len(colours) else (round(sum(colours) / len(colours), 4),) * channels
    return known


def _check_normalisation(info: EmbedderInfo, path: Path) -> None:
    for name, values in (("mean", info.mean), ("std", info.std)):
        if len(values) != info.channels:
            raise MetaSiamError(
                f"{path} takes images of {counted(info.channels, 'channel')}, but its {name} is for {len(values)}. "
                f"Pass --{name} one number for each channel, separated by commas."
            )
        if not all(math.isfinite(value) and (name == "mean" or value > 0) for value in values):
            wanted = "finite numbers" if name == "mean" else "positive numbers"
            raise MetaSiamError(f"--{name} must be {wanted}, not {','.join(f'{value:g}' for value in values)}.")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            about = parse_json((file.metadata() or {}).get("metasiam", "{}"))
            check(about, EMBEDDER)
            stored = info_fields(about)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise MetaSiamError(f"{path} is not a whole safetensors file ({error}). Use another weights file.") from error
    return state, stored


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        loaded = load_plain(path)
    except (UnsafeOrDamaged, OSError) as error:
        raise MetaSiamError(
            f"{path} is not a readable weights file ({error}). Pass a .safetensors file, or one saved by "
            "torch.save(model.state_dict(), …)."
        ) from error
    loaded = unwrapped(loaded)
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()) or not loaded:
        raise MetaSiamError(f"{path} does not contain a state dict of tensors. Save torch.save(model.state_dict(), …).")
    return {str(key): value for key, value in loaded.items()}
