"""Items of other libraries' data sets: pairs, dicts, tasks; and what their classes are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metasiam.errors import MetaSiamError

_IMAGES, _LABELS = ("image", "img", "pixel_values"), ("label", "labels", "fine_label")
Keys = tuple[str, str]


def parts_of(dataset: Any) -> dict[str, Any]:
    """Return the data sets that somebody's object holds: those of a dict by name, else the only one.

    Raises:
        MetaSiamError: for a dict without ``train`` and ``test``.
    """
    if isinstance(dataset, Mapping):
        parts = {part: parts_of(dataset[part])[""] for part in ("train", "test") if part in dataset}
        if not parts:
            raise MetaSiamError(
                f"a dict of data sets needs train or test; it has {', '.join(map(str, dataset))}. Pass one of them."
            )
        return parts if len(parts) > 1 else {"": next(iter(parts.values()))}
    while hasattr(dataset, "task_transforms") and hasattr(dataset, "dataset"):  # learn2learn's: tasks are drawn from it
        dataset = dataset.dataset
    return {"": dataset}


def items_of(dataset: Any, name: str) -> Iterable[Any]:
    """Return a data set's items, by their places where it has a length.

    Raises:
        MetaSiamError: if it has neither places nor an order.
    """
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        return (dataset[place] for place in range(len(dataset)))
    if not isinstance(dataset, Iterable):
        raise MetaSiamError(f"{name} is no data set: it has no items. Pass one, or images and labels to from_arrays.")
    return dataset


def image_and_label(item: Any, name: str, keys: Keys | None = None) -> tuple[Any, Any]:
    """Return image and label of a data set's item: a pair, or a dict as Hugging Face's.

    Raises:
        MetaSiamError: for an item of another form.
    """
    if isinstance(item, Mapping):
        image, label = keys or (_first(item, _IMAGES), _first(item, _LABELS))
        if image not in item or label not in item:
            raise MetaSiamError(
                f"items of {name} need the keys {image or 'image'} and {label or 'label'}; they have "
                f"{', '.join(map(str, item))}. Say which with keys=(image, label)."
            )
        return item[image], _plain(item[label])
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise MetaSiamError(f"items of {name} must be (image, label), not a {type(item).__name__}.")
    return item[0], _plain(item[1])


def class_names(dataset: Any, keys: Keys | None = None) -> Sequence[Any] | None:
    """Return what a data set calls its classes: torchvision's ``classes``, Hugging Face's ``ClassLabel``; else None."""
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        return getattr(features.get(keys[1] if keys else _first(features, _LABELS)), "names", None)
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):  # a subset, or a wrapper
        dataset = dataset.dataset
    found = getattr(dataset, "classes", None)
    return found if isinstance(found, list | tuple) else None


def _first(item: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in item), None)


def _plain(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label
