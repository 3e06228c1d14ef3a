"""A name is the same name however its letters are encoded, and nobody has another's."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metasiam import DomainSet, EmbedderInfo, MetaSiamError, load_domains, load_pairs, save_embedder, split_domains
from metasiam.cli import run
from metasiam.data.names import plain_name
from metasiam.gallery import EmbedderKey, Gallery, load_gallery
from metasiam.models import build_embedder

NFC = unicodedata.normalize("NFC", "José")
NFD = unicodedata.normalize("NFD", "José")
assert NFC != NFD


def pictures(folder: Path, *names: str, count: int = 2, seed: int = 0) -> None:
    generator = np.random.default_rng(seed)
    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            picture = Image.fromarray(generator.integers(0, 255, (12, 12, 3), dtype=np.uint8))
            picture.save(folder / name / f"{index}.png")


def npz(path: Path, names: list[str]) -> str:
    arrays = {"images": np.zeros((6, 8, 8, 3), np.uint8), "labels": np.array([0, 1, 2, 0, 1, 2])}
    both = {f"{part}_{what}": array for part in ("train", "test") for what, array in arrays.items()}
    np.savez(path, **both, class_names=np.array(names))
    return f"npz:{path}"


@pytest.mark.parametrize("names", [["cat", "dog", "cat"], [NFC, "dog", NFD]])
def test_class_names_with_a_name_twice_are_refused(tmp_path, names):
    data = npz(tmp_path / "a.npz", names)
    with pytest.raises(MetaSiamError, match=f"class_names has '{names[2]}' twice. Give every class a name of its own"):
        load_domains(data, data_dir=tmp_path / "c")
    data = npz(tmp_path / "b.npz", ["cat", "dog", "cow"])
    assert load_domains(data, data_dir=tmp_path / "c").names == ("cat", "dog", "cow")


def test_a_domain_set_of_ones_own_names_each_domain_once(tiny_domains):
    domains: DomainSet = tiny_domains(domains=4)
    with pytest.raises(ValueError, match="names must differ, but 'a' is there twice"):
        replace(domains, names=("a", "b", "c", "a"))


@pytest.mark.parametrize("there", [NFC, NFD, f" {NFC}\u200b", f"{NFC}\u00a0"])
@pytest.mark.parametrize("asked", [NFC, NFD, f"\ufeff{NFC} "])
def test_a_split_file_names_folders_of_either_encoding(tmp_path, there, asked):
    pictures(tmp_path / "data", there, "ann", "bob", "cid", count=4)
    domains = load_domains(f"folder:{tmp_path / 'data'}", data_dir=tmp_path / "c")
    assert there in domains.names  # as on the disk, where runs of before have it so
    split = {"train": ["ann", "bob"], "validation": [], "test": [asked, "cid"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    found = split_domains(domains, split=str(tmp_path / "split.json"), validation=0)
    assert {domains.names[domain] for domain in found.held_out} == {there, "cid"}


def test_training_and_test_folders_of_either_encoding_are_one_domain(tmp_path):
    pictures(tmp_path / "data" / "train", NFC, "ann")
    pictures(tmp_path / "data" / "test", NFD, "ann", seed=1)
    domains = load_domains(f"folder:{tmp_path / 'data'}", data_dir=tmp_path / "c")
    assert len(domains.names) == 2
    assert domains.counts("train").tolist() == domains.counts("test").tolist() == [2, 2]


def test_people_of_a_list_are_the_same_in_either_encoding(tmp_path):
    pictures(tmp_path, "a", "b")
    rows = [f"a/0.png,a/1.png,1,{NFC},{NFD}", "b/0.png,b/1.png,1,ann,ann", f"a/0.png,b/0.png,0,{NFD},ann"]
    lines = [f"{row},{part}" for row in rows for part in ("train", "test")]
    head = "path_a,path_b,same,person_a,person_b,part"
    (tmp_path / "list.csv").write_text("\n".join((head, *lines)), encoding="utf-8")
    pairs = load_pairs(f"pairs:{tmp_path / 'list.csv'}", data_dir=tmp_path / "cache")
    assert set(pairs.people) == {NFC, "ann"}


@pytest.fixture
def gallery(tmp_path) -> Path:
    save_embedder(tmp_path / "w.safetensors", build_embedder("resnet8"), EmbedderInfo("resnet8", image_size=(12, 12)))
    pictures(tmp_path / "mac", NFD, "ann")
    enroll = ["enroll", str(tmp_path / "mac"), "--weights", str(tmp_path / "w.safetensors")]
    assert run([*enroll, "--gallery", str(tmp_path / "g.safetensors")]) == 0
    return tmp_path / "g.safetensors"


def test_enroll_adds_to_and_removes_a_name_of_either_encoding(gallery, tmp_path, capsys):
    assert load_gallery(gallery).names == (NFC, "ann")
    pictures(tmp_path / "more", NFC, count=1, seed=1)
    for name in (NFC, NFD):
        path = tmp_path / "more" / NFC / "0.png"
        assert run(["enroll", str(path), "--name", name, "--gallery", str(gallery)]) == 0
        assert load_gallery(gallery).counts() == {NFC: 3, "ann": 2}
    assert run(["enroll", "--remove", NFD, "--gallery", str(gallery)]) == 0
    assert load_gallery(gallery).names == ("ann",)


def test_a_gallery_of_before_with_both_encodings_makes_one_name_of_them():
    key = EmbedderKey("", "0", EmbedderInfo("resnet8"))
    rows = torch.eye(3)
    old = Gallery(key, False, (NFD, NFC), torch.tensor([0, 1]), rows[:2], ("a.png", "b.png"), torch.zeros(2, 6))
    assert old.without(NFC).names == ()
    assert old.with_pictures("ann", ["c.png"], rows[2:], torch.zeros(1, 6)).counts() == {NFC: 2, "ann": 1}


@pytest.mark.parametrize("name", ["unknown", "Unknown", "UNKNOWN"])
def test_the_answer_unknown_is_no_name_in_capitals_either(gallery, tmp_path, capsys, name):
    before = gallery.read_bytes()
    pictures(tmp_path / "more", name, "zoe")
    capsys.readouterr()
    assert run(["enroll", str(tmp_path / "more"), "--gallery", str(gallery)]) == 2
    wanted = f"metasiam: '{name}' is what identify answers when it is none of the names. Use another name.\n"
    assert capsys.readouterr().err == wanted
    assert gallery.read_bytes() == before


ODD = (
    "New\u00a0York",
    " Mia\u200b",
    "Zo\u00ad\u00eb\u2009",
)  # a no-break space; a blank, a zero-width one; a soft hyphen
SEEN = ("New York", "Mia", "Zo\u00eb")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *zip(ODD, SEEN, strict=True),
        ("a\nb", "a b"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("\u200b", ""),
        ("\x1b[1m", ""),
    ],
)
def test_a_name_is_kept_as_it_is_seen(text, name):
    assert plain_name(text) == name


def test_folders_with_blanks_that_are_not_seen_are_enrolled_under_what_is_seen(gallery, tmp_path, capsys):
    pictures(tmp_path / "more", *ODD, "\u2060", seed=1)
    capsys.readouterr()
    assert run(["enroll", str(tmp_path / "more"), "--gallery", str(gallery)]) == 0
    errors = capsys.readouterr().err
    assert r"the folder '\u2060' has a name that cannot be displayed: left out. Rename it." in errors
    assert "no pictures in it" not in errors
    found = load_gallery(gallery)
    assert found.counts() == {"ann": 2, NFC: 2, **dict.fromkeys(SEEN, 2)}
    assert all(Path(file).is_file() for file in found.files)  # paths stay as they are
    for name in (ODD[0], "New York\u200b"):
        assert (
            run(["enroll", str(tmp_path / "more" / ODD[0] / "0.png"), "--name", name, "--gallery", str(gallery)]) == 0
        )
    assert load_gallery(gallery).counts() == found.counts()
    assert run(["enroll", "--remove", "Mia\u00a0", "--gallery", str(gallery)]) == 0
    assert set(load_gallery(gallery).names) == {"ann", NFC, "New York", "Zo\u00eb"}


def test_folders_that_differ_by_blanks_alone_are_one_domain_and_can_be_trained_on(tmp_path):
    pictures(tmp_path / "data" / "train", "ann", "bob", *ODD, count=2)
    pictures(tmp_path / "data" / "test", "ann", "bob", *SEEN, count=2, seed=1)
    domains = load_domains(f"folder:{tmp_path / 'data'}", data_dir=tmp_path / "c")
    assert len(domains.names) == 5
    assert domains.counts("test").tolist() == [2] * 5
    words = ["triplet", "--data", f"folder:{tmp_path / 'data'}", "--held-out", "2", "--data-dir", str(tmp_path / "c")]
    words += ["--arch", "resnet8", "--iterations", "1", "--batch-size", "2", "--pairs", "4", "--device", "cpu"]
    assert run([*words, "--out", str(tmp_path / "run")]) == 0
