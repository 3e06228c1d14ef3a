"""Folders whose train, val and test have different classes, as of miniImageNet: these parts are the split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from listeners import Heard
from PIL import Image
from rich.console import Console

from metasiam.cli import run
from metasiam.data.sources import load_domains
from metasiam.data.splitting import split_domains
from metasiam.errors import MetaSiamError
from metasiam.gallery.folders import pictures_by_folder
from metasiam.options.data import DataOptions, saved
from metasiam.options.presets import preset_options
from metasiam.progress_lines import lines
from metasiam.workflows.data import from_stored, load

PARTS = {"train": "ABCD", "val": "EF", "test": "GHI"}


def _write(root: Path, parts: Mapping[str, Sequence[str]], each: int = 10) -> Path:
    random = np.random.default_rng(0)
    for part, names in parts.items():
        for name in names:
            (root / part / name).mkdir(parents=True)
            for number in range(each):
                pixels = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return _write(tmp_path / "mini", PARTS)


def test_parts_with_different_domains_are_the_split(classes: Path, tmp_path: Path) -> None:
    heard = Heard()
    domains = load_domains(f"folder:{classes}", data_dir=tmp_path, listener=heard)
    split = split_domains(domains)
    names = ["".join(domains.names[d] for d in part) for part in (split.seen, split.validation, split.held_out)]
    assert names == ["ABCD", "EF", "GHI"]
    assert (domains.counts("train").tolist(), domains.counts("test").tolist()) == ([8] * 9, [2] * 9)
    assert len([text for text in heard.notes if "that is the split (4 seen, 2 validation, 3 held out)" in text]) == 1
    again = load_domains(f"folder:{classes}", data_dir=tmp_path, listener=None)  # from the cache
    assert split_domains(again) == split
    assert again.fingerprint == domains.fingerprint


def test_the_test_part_does_not_hang_on_where_a_domain_lies(classes: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for part in classes.iterdir():
        for domain in part.iterdir():
            (flat / domain.name).symlink_to(domain)
    found, expected = (load_domains(f"folder:{root}", data_dir=tmp_path, listener=None) for root in (classes, flat))
    assert found.fingerprint == expected.fingerprint
    assert expected.own_split is None


def test_what_is_asked_for_wins_and_more_validation_comes_from_the_seen(classes: Path, tmp_path: Path) -> None:
    domains = load_domains(f"folder:{classes}", data_dir=tmp_path, listener=None)
    assert split_domains(domains, held_out=2).held_out == (7, 8)
    more = split_domains(domains, validation=2)
    assert (len(more.seen), len(more.validation), more.held_out) == (2, 4, (6, 7, 8))
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"train": ["H", "I"], "validation": [], "test": ["A"]}))
    assert split_domains(domains, split=file).held_out == (0,)
    with pytest.raises(MetaSiamError, match="with --validation 3 leaves fewer than 2 domains to train on, of 4"):
        split_domains(domains, validation=3)


@pytest.mark.parametrize(
    ("parts", "own"),
    [
        ({"train": "ABC", "test": "DE"}, True),
        ({"train": "ABC", "val": "AB", "test": "DE"}, True),  # of pictures that validate, not of domains
        ({"train": "ABC", "test": "ABC"}, False),
        ({"train": "ABC", "test": "CD"}, False),
        ({"train": "ABC", "val": "DE", "test": "ABC"}, False),
    ],
)
def test_parts_that_share_domains_are_no_split(tmp_path: Path, parts: dict[str, str], own: bool) -> None:
    domains = load_domains(f"folder:{_write(tmp_path / 'x', parts)}", data_dir=tmp_path, listener=None)
    assert (domains.own_split is not None) == own
    if own:
        split = split_domains(domains)
        assert [domains.names[d] for d in split.seen] == ["A", "B", "C"]
        assert [domains.names[d] for d in split.held_out] == ["D", "E"]
        assert split.validation == ()
    else:
        assert int(domains.counts("test")[2]) == 10


def _arrays(file: Path, parts: Mapping[str, Sequence[int]], each: int = 10) -> Path:
    random = np.random.default_rng(0)
    made = {}
    for part, labels in parts.items():
        made[f"{part}_labels"] = random.permutation(np.repeat(np.array(labels), each))
        made[f"{part}_images"] = random.integers(0, 255, (len(labels) * each, 8, 8), dtype=np.uint8)
    np.savez(file, class_names=np.array(list("ABCDEFGHI")), **made)
    return file


def test_arrays_with_different_labels_are_the_split(tmp_path: Path) -> None:
    file = _arrays(tmp_path / "a.npz", {"train": [0, 1, 2, 3], "val": [4, 5], "test": [6, 7, 8]})
    heard = Heard()
    domains, again = (load_domains(f"npz:{file}", listener=heard) for _ in range(2))
    split = split_domains(domains)
    names = ["".join(domains.names[d] for d in part) for part in (split.seen, split.validation, split.held_out)]
    assert names == ["ABCD", "EF", "GHI"]
    assert (domains.counts("train").tolist(), domains.counts("test").tolist()) == ([8] * 9, [2] * 9)
    said = "train, val and test have different domains: that is the split (4 seen, 2 validation, 3 held out)"
    assert len([text for text in heard.notes if said in text]) == 2
    assert again.fingerprint == domains.fingerprint
    assert split_domains(domains, held_out=2).held_out == (7, 8)
    with np.load(file) as arrays:  # every picture kept its label
        for part in ("train", "val", "test"):
            for image, label in zip(arrays[f"{part}_images"], arrays[f"{part}_labels"], strict=True):
                (place,) = (domains.images[:, 0] == torch.from_numpy(image)).all((1, 2)).nonzero().flatten().tolist()
                assert domains.labels[place] == label


@pytest.mark.parametrize("val", [[0, 1], [6, 7]])
def test_arrays_for_validation_of_the_same_labels_are_left_alone(tmp_path: Path, val: list[int]) -> None:
    file = _arrays(tmp_path / "a.npz", {"train": [0, 1, 2], "val": val, "test": [6, 7]})
    domains = load_domains(f"npz:{file}", listener=None)
    assert len(domains.images) == 50
    assert split_domains(domains).validation == ()
    shared = load_domains(f"npz:{_arrays(tmp_path / 'b.npz', {'train': [0, 1], 'val': [2], 'test': [0, 1]})}")
    assert shared.own_split is None
    assert shared.counts("test").tolist() == [10, 10]


def test_enroll_still_takes_the_names_of_train_alone(classes: Path) -> None:
    assert sorted(pictures_by_folder([classes])) == list("ABCD")


@pytest.mark.parametrize("preset", [None, "best"])
def test_options_that_are_saved_load_the_same_split(classes: Path, tmp_path: Path, preset: str | None) -> None:
    options = DataOptions(f"folder:{classes}", tmp_path).with_defaults(preset_options(preset, "triplet")[0])
    stored = json.loads(json.dumps(saved(options), default=str))
    with lines(Console(quiet=True)) as shown:
        for one in (options, from_stored(stored)):
            split = load(one, shown)[1]
            assert (split.seen, split.validation, split.held_out) == ((0, 1, 2, 3), (4, 5), (6, 7, 8))
        asked = load(replace(options, held_out=3, validation=1), shown)[1]
    assert (len(asked.seen), len(asked.validation), asked.held_out) == (5, 1, (6, 7, 8))


def test_a_preset_keeps_domains_back_where_the_data_have_no_split(tmp_path: Path) -> None:
    names = [f"{number:02}" for number in range(24)]
    root = _write(tmp_path, {"": names}, each=4)
    options = DataOptions(f"folder:{root}", tmp_path / "data").with_defaults(preset_options("best", "triplet")[0])
    with lines(Console(quiet=True)) as shown:
        split = load(options, shown)[1]
    assert (len(split.seen), len(split.validation), len(split.held_out)) == (4, 10, 10)


@pytest.mark.slow
def test_every_command_uses_that_split_and_resumes_with_it(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--data", f"folder:{classes}", "--data-dir", str(tmp_path / "data")]
    short = ["--arch", "resnet8", "--batch-size", "4", "--device", "cpu", "--pairs", "4", "--adapt-shots", "0"]
    assert run(["data", "show", data[1], *data[2:]]) == 0
    assert "4 seen, 2 validation, 3 held out" in capsys.readouterr().out
    methods = ["--methods", "triplet,reptile", "--budget-images", "24", "--set", "reptile.inner_epochs=1", "--out", "c"]
    assert run(["compare", *data, *short, *methods]) == 0
    assert run(["triplet", "--resume", "c/triplet", "--pairs", "4", "--adapt-shots", "0"]) == 0
    assert run(["evaluate", "c/reptile", "--pairs", "4", "--adapt-shots", "0", "--overwrite"]) == 0
    wanted = {"seen": [0, 1, 2, 3], "validation": [4, 5], "held_out": [6, 7, 8]}
    for name in ("triplet", "reptile"):
        assert _split_of(Path("c", name, "config.json")) == wanted
        assert _split_of(Path("c", name, "evaluation.json")) == wanted


def _split_of(file: Path) -> dict[str, list[int]]:
    stored = json.loads(file.read_text())
    split = stored["protocol"]["split"] if "protocol" in stored else stored["split"]
    return {part: split[part] for part in ("seen", "validation", "held_out")}
