"""What can be measured: a finished run, or one's own module."""

from __future__ import annotations

from torch import nn

from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split
from metasiam.errors import MetaSiamError
from metasiam.models.files import EmbedderInfo, load_embedder
from metasiam.models.own import own_embedder
from metasiam.runs import Run
from metasiam.wording import counted


def embedder_of(target: Run | nn.Module, domains: DomainSet, split: Split) -> tuple[nn.Module, EmbedderInfo]:
    """Return an embedder in evaluation mode, and what must be known to use it.

    A module without a normalisation of its own gets that of the seen domains' training images.

    Args:
        target: a finished run; or a module, of which a copy is used.
        domains: the images that it will be shown.
        split: says which of them are seen.

    Raises:
        MetaSiamError: if the run has no weights, or the module does not take such images.
    """
    if isinstance(target, Run):
        return load_embedder(target.path, build=None if target.own is None else target.own.arch)
    embedder = own_embedder(target)
    channels = domains.channels if embedder.mean is None else len(embedder.mean)
    shown = domains.with_channels(channels)
    if shown.channels != channels:
        raise MetaSiamError(
            f"{embedder.name} has a mean for {counted(channels, 'channel')}, {domains.source} has images of "
            f"{domains.channels}."
        )
    embedder.measure(channels, domains.image_size)
    mean, std = shown.channel_statistics(shown.pool(split.seen, "train"))
    return embedder.eval(), embedder.info(channels, domains.image_size, mean, std)
