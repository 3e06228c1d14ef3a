"""What is done to files, and what may come of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import metasiam as ms

#: What may stand anywhere in a file instead of what belongs there.
ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        10**9,
        10**23,
        1.5,
        float("nan"),
        float("inf"),
        "",
        "x",
        "\0",
        "a\nb",
        [],
        [[]],
        [None],
        {},
        {"a": 1},
    ]
)


def mutated(value: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """Return JSON with one of its values replaced, taken out, or given another name."""
    value = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one))
        places += [(one, key) for key in keys]
        waiting += [one[key] for key in keys if isinstance(one[key], dict | list)]
    if not places:
        return draw(ODD)
    inside, key = draw(st.sampled_from(places))
    what = draw(st.sampled_from(["replace", "drop", "rename"]))
    if what == "replace" or isinstance(inside, list):
        inside[key] = draw(ODD)
    else:
        kept = inside.pop(key)
        if what == "rename":
            inside[f"{key}_"] = kept
    return value


def one_line(call: Callable[[], Any]) -> None:
    """Call, and take a result or an error of one line."""
    said = "a result"
    try:
        call()
    except ms.MetaSiamError as error:
        said = str(error)
    assert said.strip()
    assert "\n" not in said


few = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def with_header(path: Path, out: Path, key: str, text: str, **tensors: torch.Tensor) -> Path:
    """Copy a safetensors file with another JSON header, and some tensors replaced."""
    with safe_open(str(path), framework="pt") as file:
        whole = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({**whole, **tensors}, out, metadata={key: text})
    return out


def header(path: Path, key: str) -> Any:
    with safe_open(str(path), framework="pt") as file:
        return json.loads(file.metadata()[key])
