"""Snapshots, interpolation and primed optimizers, against the arithmetic written out."""

from __future__ import annotations

import copy
import errno
import io
import os
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from listeners import Heard
from torch import nn

from metasiam.learners.reptile import _meta_optimizer
from metasiam.options.reptile import ReptileOptions
from metasiam.runs.atomic import atomically, storage_error, trouble
from metasiam.runs.locks import file_held, run_held
from metasiam.training.checkpoint import is_finite, load_checkpoint, save_checkpoint
from metasiam.training.machine import derive_seed, generator_for
from metasiam.training.state import (
    add_difference_,
    counters,
    move_,
    optimizer_tensors,
    prime,
    restore_,
    running_statistics,
    snapshot,
    trainable,
)


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_weights_statistics_and_counters_are_all_of_the_state_dict(net):
    parts = [*trainable([net]), *running_statistics([net]), *counters([net])]
    assert {t.data_ptr() for t in parts} == {t.data_ptr() for t in net.state_dict().values()}
    assert [t.dtype for t in counters([net])] == [torch.int64]


def test_restoring_a_snapshot_undoes_training_in_place(net):
    tensors = [tensor.detach() for tensor in (*trainable([net]), *running_statistics([net]))]
    places = [tensor.data_ptr() for tensor in tensors]
    saved = snapshot(tensors)
    for tensor in tensors:
        tensor += 1
    restore_(tensors, saved)
    assert all(torch.equal(a, b) for a, b in zip(tensors, saved, strict=True))
    assert [tensor.data_ptr() for tensor in tensors] == places
    restore_([], [])


def test_differences_add_up_and_interpolation_moves_by_its_step():
    total, start = [torch.zeros(3)], [torch.tensor([1.0, 2.0, 3.0])]
    for end in (torch.tensor([2.0, 2.0, 2.0]), torch.tensor([0.0, 4.0, 3.0])):
        add_difference_(total, [end], start)
    assert total[0].tolist() == [0.0, 2.0, -1.0]
    move_(start, total, 0.25)
    assert start[0].tolist() == [1.0, 2.5, 2.75]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.2),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    ],
)
def test_a_primed_optimizer_steps_as_a_fresh_one(make):
    fresh, primed = (nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2))
    first, second = make([fresh]), make([primed])
    state = prime(second)
    assert state
    assert all(float(t.abs().sum()) == 0 for t in state)
    assert torch.equal(fresh, primed)
    for _ in range(3):
        for parameter, optimizer in ((fresh, first), (primed, second)):
            optimizer.zero_grad()
            (parameter**2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(primed, fresh)
    assert len(optimizer_tensors(second)) == len(state)


def test_nesterov_on_the_pseudo_gradient_is_written_out_by_hand():
    """v ← μ v + g, w ← w − ε (g + μ v), with g = −(mean change): Nesterov's step as torch.optim defines it."""
    config = ReptileOptions(meta_optimizer="nesterov", meta_momentum=0.7, meta_step=0.5)
    weights = [torch.tensor([1.0, -2.0])]
    optimizer = _meta_optimizer(config, weights)
    by_hand, velocity = weights[0].clone(), torch.zeros(2)
    for change, rate in ((torch.tensor([0.5, 1.0]), 0.5), (torch.tensor([-1.0, 0.2]), 0.4), (torch.ones(2), 0.1)):
        gradient = -change
        velocity = 0.7 * velocity + gradient
        by_hand = by_hand - rate * (gradient + 0.7 * velocity)
        for group in optimizer.param_groups:
            group["lr"] = rate
        weights[0].grad = gradient
        optimizer.step()
        torch.testing.assert_close(weights[0], by_hand)


def test_plain_interpolation_is_sgd_without_momentum():
    config = ReptileOptions(meta_optimizer="sgd", meta_step=0.25)
    weights = [torch.tensor([1.0, 5.0])]
    optimizer = _meta_optimizer(config, weights)
    weights[0].grad = -(torch.tensor([3.0, 1.0]) - weights[0])
    optimizer.step()
    assert weights[0].tolist() == [1.5, 4.0]


def test_random_streams_are_named_not_taken_in_turn():
    assert derive_seed(1, "task", 2, 3) == derive_seed(1, "task", 2, 3)
    seeds = {derive_seed(seed, "task", i, j) for seed in range(3) for i in range(5) for j in range(5)}
    assert len(seeds) == 75
    a, b = (torch.rand(4, generator=generator_for("cpu", 0, "x", 1)) for _ in range(2))
    assert torch.equal(a, b)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_snapshots_are_copies(net):
    saved = snapshot(trainable([net]))
    twin = copy.deepcopy(net)
    with torch.no_grad():
        net[0].weight.zero_()
    assert torch.equal(saved[0], twin[0].weight)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    path.write_text("old")
    with atomically(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.parent == tmp_path
        assert str(os.getpid()) in partial.name  # another process may be writing the same file
    assert path.read_text() == "new"

    def break_off() -> None:
        with atomically(path) as partial:
            partial.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert path.read_text() == "new"
    with pytest.raises(FileNotFoundError), atomically(path):
        pass  # nothing was written
    with pytest.raises(NotADirectoryError), atomically(path / "below") as partial:
        partial.write_text("x")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("taken", [0, 3_000])
def test_a_disk_that_takes_no_more_is_named_and_the_checkpoint_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, taken: int
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"iteration": 1, "seconds": 1.0, "learner": {"weights": [torch.ones(3)]}})

    class Full(io.FileIO):
        def write(self, data: object) -> int:
            if self.tell() + len(memoryview(data)) > taken:  # type: ignore[arg-type]
                raise OSError(number, os.strerror(number))
            return super().write(data)  # type: ignore[arg-type]

    monkeypatch.setattr("metasiam.training.checkpoint.open", lambda path, mode: Full(path, mode), raising=False)
    with pytest.raises(OSError, match=os.strerror(number)) as error:
        save_checkpoint(path, {"learner": {"weights": [torch.zeros(1_000)]}})
    assert error.value.filename == str(path)
    assert error.value.errno == number
    monkeypatch.undo()
    assert load_checkpoint(path)["learner"]["weights"][0].tolist() == [1.0, 1.0, 1.0]
    assert list(tmp_path.iterdir()) == [path]


def test_what_libraries_make_of_a_full_disk_is_recognised_and_other_errors_are_left_alone() -> None:
    from safetensors import SafetensorError

    full = storage_error(SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert full is not None
    assert trouble(full)[0] == "the disk is full"
    assert storage_error(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 5 vs 4")) is not None
    for other in (RuntimeError("size mismatch"), SafetensorError("header too large"), FileNotFoundError(2, "x", "y")):
        assert storage_error(other) is None


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(PermissionError) as error, atomically(tmp_path / "mine"):
        raise PermissionError(errno.EACCES, "Permission denied", "theirs")
    assert error.value.filename == "theirs"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_number_that_is_not_finite_is_found_however_deep_it_lies(value: float) -> None:
    state = {
        "slow": {"weights": [torch.ones(3)], "best": float("inf")},
        "momenta": {0: (torch.ones(2), torch.tensor(4))},
    }
    assert is_finite(state)
    assert is_finite({})
    state["momenta"][0][0][1] = value
    assert not is_finite(state)


def test_where_the_file_system_knows_no_locks_nobody_is_kept_out(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise NotImplementedError("no locks here")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    heard = Heard()
    with run_held(tmp_path), run_held(tmp_path), file_held(tmp_path / "g", heard):
        assert heard.notes == []
