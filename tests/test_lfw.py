"""Labelled pairs: LFW's files, lists of one's own, and parts that share nobody."""

from __future__ import annotations

import urllib.error
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pair_samples import TEST, TRAIN, write_lfw, write_list
from PIL import Image

from metasiam.cli import run as metasiam_command
from metasiam.data.pairs import PairSet, fold_people, groups_of, keep_validation, shared_people
from metasiam.data.sources import load_domains, load_pairs
from metasiam.data.splitting import split_domains
from metasiam.errors import MetaSiamError
from metasiam.evaluation.draws import draw_protocol
from metasiam.options.evaluation import ProtocolSettings


@pytest.fixture(scope="module")
def lfw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lfw(tmp_path_factory.mktemp("lfw"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("subset", ["train", "test"])
def test_pairs_are_those_that_scikit_learn_reads(lfw: Path, subset: str) -> None:
    from sklearn.datasets import fetch_lfw_pairs

    theirs = fetch_lfw_pairs(
        subset=subset, data_home=lfw, slice_=(slice(0, 40), slice(0, 40)), resize=None, download_if_missing=False
    )
    ours = load_pairs("lfw", data_dir=lfw)
    rows = ours.rows(subset)
    assert ours.same[rows].tolist() == (theirs.target == 1).tolist()
    for side, chosen in enumerate((ours.first, ours.second)):
        pixels = ours.images[chosen[rows], 0].double() / 255
        expected = torch.from_numpy(np.asarray(theirs.pairs[:, side], dtype=np.float64))
        assert torch.allclose(pixels, expected, atol=2 / 255)


def test_parts_are_the_authors_own_and_share_nobody(lfw: Path) -> None:
    pairs = load_pairs("lfw", data_dir=lfw)
    assert pairs.counts("train") == {"pairs": 60, "same": 30, "different": 30, "images": 90, "people": 30}
    assert pairs.counts("test") == {"pairs": 20, "same": 10, "different": 10, "images": 30, "people": 10}
    assert shared_people(pairs, "train", "test") == set()
    assert pairs.channels == 1
    names = {pairs.people[image] for image in pairs.first[pairs.rows("test")].tolist()}
    assert names <= set(TEST)


def test_same_pairs_show_one_person_and_different_pairs_two(lfw: Path) -> None:
    pairs = load_pairs("lfw", data_dir=lfw)
    for a, b, same in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist(), strict=True):
        assert (pairs.people[a] == pairs.people[b]) == same


def test_a_validation_part_shares_nobody_and_has_both_kinds(lfw: Path) -> None:
    pairs = keep_validation(load_pairs("lfw", data_dir=lfw), 0.2, generator())
    counts = pairs.counts("validation")
    assert counts["pairs"] == 12
    assert counts["same"] == counts["different"] == 6
    assert shared_people(pairs, "train", "validation") == set()
    assert shared_people(pairs, "validation", "test") == set()
    assert len(pairs.rows("train")) + counts["pairs"] == 60


def test_folds_share_nobody_and_are_even(lfw: Path) -> None:
    pairs = load_pairs("lfw", data_dir=lfw)
    rows = pairs.rows("train")
    fold = fold_people(pairs, rows, 5, generator())
    people = []
    for number in range(5):
        own = rows[fold == number]
        assert len(own) == 12
        assert int(pairs.same[own].sum()) == 6
        people.append({pairs.people[i] for i in torch.cat((pairs.first[own], pairs.second[own])).tolist()})
    assert sum(len(own) for own in people) == len(set().union(*people)) == len(TRAIN)
    assert torch.equal(fold, fold_people(pairs, rows, 5, generator()))


def test_groups_are_chains_of_people_in_common(lfw: Path) -> None:
    pairs = load_pairs("lfw", data_dir=lfw)
    rows = pairs.rows("train")
    group = groups_of(pairs, rows)
    together = [TRAIN.index(pairs.people[i]) // 2 for i in pairs.first[rows].tolist()]
    for i in range(len(rows)):
        for j in range(len(rows)):
            assert (group[i] == group[j]) == (together[i] == together[j])


def test_ten_folds_come_with_their_fold(lfw: Path) -> None:
    pairs = load_pairs("lfw:10-folds", data_dir=lfw)
    assert pairs.fold.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert pairs.same.tolist() == ([True] * 10 + [False] * 10) * 3


def test_images_are_cut_resized_and_cached_once(lfw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = load_pairs("lfw", data_dir=lfw, crop=20, image_size=10)
    assert pairs.image_size == (10, 10)
    name = pairs.names[0]
    with Image.open(name) as image:
        expected = image.convert("L").crop((10, 10, 30, 30)).resize((10, 10), Image.Resampling.BILINEAR)
        assert np.array_equal(pairs.images[0, 0].numpy(), np.asarray(expected))

    def not_again(*args: object, **kwargs: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("metasiam.data.sources.pair_images.decode_pictures", not_again)
    assert load_pairs("lfw", data_dir=lfw, crop=20, image_size=10).fingerprint == pairs.fingerprint


def test_lfw_is_also_a_domain_set_of_the_people_with_ten_images(tmp_path: Path) -> None:
    data_dir = write_lfw(tmp_path, images=10)
    (data_dir / "lfw_home" / "lfw_funneled" / TEST[0] / f"{TEST[0]}_0010.jpg").unlink()
    domains = load_domains("lfw", data_dir=data_dir)
    assert domains.names == tuple(sorted({*TRAIN, *TEST} - {TEST[0]}))
    assert domains.counts("test").tolist() == [2] * len(domains.names)
    draws = draw_protocol(domains, split_domains(domains), ProtocolSettings(pairs=10, triplets=10, shots=(0,)))
    assert len(draws.tasks) == len(domains.names) + 10


def test_lfw_without_anybody_of_ten_images_is_no_domain_set(lfw: Path) -> None:
    with pytest.raises(MetaSiamError, match="has nobody with 10 images"):
        load_domains("lfw", data_dir=lfw)


def test_without_a_network_one_line_says_where_files_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(**options: Any) -> None:
        warnings.warn("Retry downloading from url: https://…", stacklevel=1)  # as scikit-learn does; here an error
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_lfw_pairs", no_network)
    with pytest.raises(MetaSiamError, match=r"cannot be downloaded \(no network\)\. Put lfw_home/lfw_funneled"):
        load_pairs("lfw", data_dir=tmp_path)


def test_a_pair_that_names_a_missing_image_is_told_by_name(tmp_path: Path) -> None:
    data_dir = write_lfw(tmp_path)
    missing = data_dir / "lfw_home" / "lfw_funneled" / "Train_03" / "Train_03_0002.jpg"
    missing.unlink()
    with pytest.raises(MetaSiamError, match=r"Train_03_0002\.jpg, which does not exist"):
        load_pairs("lfw", data_dir=data_dir)


def test_a_damaged_pair_file_is_refused(tmp_path: Path) -> None:
    data_dir = write_lfw(tmp_path)
    file = data_dir / "lfw_home" / "pairsDevTrain.txt"
    file.write_text("\n".join(file.read_text().splitlines()[:-3]) + "\n")
    with pytest.raises(MetaSiamError, match="has 57 pairs, not 60"):
        load_pairs("lfw", data_dir=data_dir)


def test_a_list_of_pairs_splits_into_parts_that_share_no_image(tmp_path: Path) -> None:
    pairs = load_pairs(f"pairs:{write_list(tmp_path)}", data_dir=tmp_path)
    assert pairs.channels == 3
    assert len(pairs.part) == 36
    assert len(pairs.rows("test")) > 0
    assert shared_people(pairs, "train", "test") == set()
    parted = keep_validation(pairs, 0.25, generator())
    assert shared_people(parted, "train", "validation") == set()


def test_a_list_may_say_its_parts(tmp_path: Path) -> None:
    rows = "0-0.png,0-1.png,same,train\n0-0.png,1-0.png,different,train\n2-0.png,2-1.png,1,test\n2-0.png,3-0.png,0,test"
    file = write_list(tmp_path, rows=rows, header="path_a,path_b,same,part")
    pairs = load_pairs(f"pairs:{file}", data_dir=tmp_path)
    assert [pairs.counts(part)["pairs"] for part in ("train", "validation", "test")] == [2, 0, 2]
    assert pairs.same.tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("path_a,path_b", "0-0.png,0-1.png", "no column 'same'"),
        ("path_a,path_b,same", "0-0.png,0-9.png,1", r"0-9\.png, which does not exist"),
        ("path_a,path_b,same", "0-0.png,0-1.png,maybe", "line 2: same is 'maybe'"),
        ("path_a,path_b,same", "0-0.png,,1", "line 2: a path is missing"),
        ("path_a,path_b,same,part", "0-0.png,0-1.png,1,exam", "line 2: part is 'exam'"),
        ("path_a,path_b,same", "0-0.png,0-0.png,1", "with itself"),
    ],
)
def test_bad_lists_are_refused_in_one_line(tmp_path: Path, header: str, rows: str, message: str) -> None:
    file = write_list(tmp_path, rows=rows, header=header)
    with pytest.raises(MetaSiamError, match=message):
        load_pairs(f"pairs:{file}", data_dir=tmp_path)


def test_a_list_in_another_encoding_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_list(tmp_path)
    file.write_bytes(file.read_text(encoding="utf-8").encode("utf-16"))  # what Excel calls Unicode text
    assert metasiam_command(["siamese", "--data", f"pairs:{file}", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip()
    assert "pairs.csv is not a CSV file in UTF-8" in error
    assert "\n" not in error


def test_an_image_smaller_than_the_crop_is_told_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_list(tmp_path)
    arguments = ["siamese", "--data", f"pairs:{file}", "--data-dir", str(tmp_path), "--out", str(tmp_path / "run")]
    assert metasiam_command([*arguments, "--crop", "20"]) == 2
    error = capsys.readouterr().err.strip()
    assert f"{tmp_path / '0-0.png'} is 16x16 pixels, too small for --crop 20. Lower --crop." in error
    assert "\n" not in error


def test_an_unreadable_image_of_a_list_is_told_with_what_siamese_can_do(tmp_path: Path) -> None:
    file = write_list(tmp_path)
    (tmp_path / "0-0.png").write_bytes(b"no picture")
    with pytest.raises(MetaSiamError, match=r"0-0\.png cannot be read \(.+\)\. Restore it, or take its pairs out of"):
        load_pairs(f"pairs:{file}", data_dir=tmp_path)


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetaSiamError, match="is a folder. Pass --data pairs:FILE"):
        load_pairs(f"pairs:{tmp_path}")
    with pytest.raises(MetaSiamError, match=r"none\.csv does not exist"):
        load_pairs(f"pairs:{tmp_path / 'none.csv'}", data_dir=tmp_path)


def test_grey_among_coloured_images_is_refused_unless_all_become_grey(tmp_path: Path) -> None:
    file = write_list(tmp_path)
    Image.new("L", (16, 16), 90).save(tmp_path / "3-1.png")
    with pytest.raises(MetaSiamError, match=r"3-1\.png is grey but .* is coloured\. Pass --grey"):
        load_pairs(f"pairs:{file}", data_dir=tmp_path)
    assert load_pairs(f"pairs:{file}", data_dir=tmp_path, grey=True).channels == 1


def test_a_list_with_one_kind_only_is_refused(tmp_path: Path) -> None:
    pairs = load_pairs(f"pairs:{write_list(tmp_path)}", data_dir=tmp_path)
    all_same = replace(pairs, same=torch.ones_like(pairs.same))
    with pytest.raises(MetaSiamError, match="has only same pairs. Add different pairs"):
        keep_validation(all_same, 0.2, generator())


def test_a_source_without_pairs_is_refused() -> None:
    with pytest.raises(MetaSiamError, match="--data cifar100 has no labelled pairs"):
        load_pairs("cifar100")


def test_data_show_counts_images_people_and_pairs(lfw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert metasiam_command(["data", "show", "lfw", "--data-dir", str(lfw)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["part", "images", "people", "pairs", "same", "different"] in rows
    assert ["train", "90", "30", "60", "30", "30"] in rows
    assert ["test", "30", "10", "20", "10", "10"] in rows


@pytest.mark.slow
def test_the_real_lfw_has_its_published_counts(real_data: Callable[[str], Path]) -> None:
    pairs: PairSet = load_pairs("lfw", data_dir=real_data("lfw"), crop=100, image_size=16)
    assert pairs.counts("train") == {"pairs": 2200, "same": 1100, "different": 1100, "images": 3443, "people": 2132}
    assert pairs.counts("test") == {"pairs": 1000, "same": 500, "different": 500, "images": 1549, "people": 963}
    assert shared_people(pairs, "train", "test") == set()


def test_a_person_named_once_is_known_in_every_pair_of_the_image(tmp_path: Path) -> None:
    header = "path_a,path_b,same,part,person_a,person_b"
    rows = "0-0.png,0-1.png,1,train,,\n2-0.png,0-0.png,0,train,Eve,Ada\n0-0.png,2-1.png,0,train,Ada,"
    pairs = load_pairs(f"pairs:{write_list(tmp_path, rows=rows, header=header)}", data_dir=tmp_path)
    named = {Path(name).name: person for name, person in zip(pairs.names, pairs.people, strict=True)}
    assert named == {"0-0.png": "Ada", "0-1.png": "", "2-0.png": "Eve", "2-1.png": ""}
    file = write_list(tmp_path, rows="0-0.png,0-1.png,1,train,Ada,Ada\n0-0.png,2-1.png,0,train,Eve,", header=header)
    with pytest.raises(MetaSiamError, match=r"names both 'Ada' and 'Eve' on .*0-0\.png"):
        load_pairs(f"pairs:{file}", data_dir=tmp_path)
