"""enroll, identify and match on picture files, as typed at a prompt."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TinyDomains
from PIL import Image

from metasiam.cli import run
from metasiam.data.sources import load_domains
from metasiam.errors import MetaSiamError
from metasiam.gallery import load_gallery
from metasiam.gallery.answers import as_json
from metasiam.gallery.background import BackgroundChoice, load_background, of_run
from metasiam.models import build_embedder
from metasiam.models.files import EmbedderInfo, load_embedder, save_embedder
from metasiam.options.gallery import EnrollOptions, GalleryOptions
from metasiam.progress import Listener
from metasiam.runs.locks import file_held
from metasiam.workflows.enroll import enroll_pictures
from metasiam.workflows.identify import identify_pictures

SIZE = 16


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained embedder that sees little but colour, which is what the tiny domains differ in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        embedder = build_embedder("resnet8")
    path = tmp_path_factory.mktemp("weights") / "blobs.safetensors"
    info = EmbedderInfo("resnet8", 3, (SIZE, SIZE), (0.1,) * 3, (0.2,) * 3, trained_on="blobs")
    save_embedder(path, embedder, info)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, tiny_domains: TinyDomains) -> Path:
    """photos/<name>/*.png with four pictures, new/<name>-*.png with two, other/<domain>/*.png for a background."""
    root = tmp_path_factory.mktemp("photos")
    domains = tiny_domains(domains=16, images=6, size=24, seed=3)
    for index, (image, label) in enumerate(zip(domains.images, domains.labels.tolist(), strict=True)):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        name, place = f"pet{label}", index % 6
        if label >= 3:
            path = root / "other" / name / f"{place}.png"
        else:
            path = root / ("photos" if place < 4 else "new") / (name if place < 4 else "") / f"{name}-{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    return root


@pytest.fixture
def enrolled(weights: Path, photos: Path, tmp_path: Path) -> Path:
    gallery = tmp_path / "pets.safetensors"
    assert run(["enroll", str(photos / "photos"), "--weights", str(weights), "--gallery", str(gallery)]) == 0
    return gallery


def test_from_a_folder_of_photographs_to_names_in_two_commands(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    gallery = str(tmp_path / "my pets.safetensors")
    assert run(["enroll", str(photos / "photos"), "--weights", str(weights), "--gallery", gallery]) == 0
    shown = capsys.readouterr()
    assert f"next: metasiam identify PICTURES --gallery '{gallery}'" in shown.out
    assert "3 names, 12 pictures" in shown.out
    assert "trained on blobs" in shown.err
    assert run(["identify", str(photos / "new"), "--gallery", gallery, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 6
    for row in rows:
        assert row["guesses"][0]["name"] in Path(row["picture"]).name
        assert {guess["name"] for guess in row["guesses"]} == {"pet0", "pet1", "pet2"}
        everything = sum(guess["probability"] for guess in row["guesses"]) + row["unknown_probability"]
        assert everything == pytest.approx(1, abs=0.001)
        assert row["unknown_prior"] == 0.5
        assert list(row)[:3] == ["picture", "name", "probability"]


def test_the_table_and_the_csv_say_the_same(enrolled: Path, photos: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert run(["identify", str(photos / "new"), "--gallery", str(enrolled)]) == 0
    table = capsys.readouterr().out
    assert run(["identify", str(photos / "new"), "--gallery", str(enrolled), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert "6 pictures" in table
    assert list(rows[0]) == ["picture", "name", "probability", "runner_up", "runner_up_probability", "error"]
    for row in rows:
        assert row["name"] in table
        assert row["runner_up"] in table


def test_answers_go_to_a_file_too_and_never_over_one(
    enrolled: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    asked = ["identify", str(photos / "new"), "--gallery", str(enrolled)]
    for ending, option in (("csv", "--csv"), ("jsonl", "--json")):
        out = tmp_path / f"answers.{ending}"
        capsys.readouterr()
        assert run([*asked, option, "--out", str(out)]) == 0
        assert out.read_text(encoding="utf-8") == capsys.readouterr().out
        out.write_text("mine")
        assert run([*asked, "--out", str(out)]) == 2
        assert "--overwrite" in capsys.readouterr().err
        assert out.read_text() == "mine"
        assert run([*asked, "--out", str(out), "--overwrite"]) == 0
        assert out.read_text() != "mine"
    for out, complaint in (("answers.txt", "end in .csv or .jsonl"), ("none/answers.csv", "none is not a folder")):
        capsys.readouterr()
        assert run([*asked, "--out", str(tmp_path / out)]) == 2
        assert complaint in " ".join(capsys.readouterr().err.split())


def test_another_out_leaves_the_gallery_as_it_is(
    enrolled: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = enrolled.read_bytes()
    more = ["enroll", str(photos / "other" / "pet3"), "--name", "pet3", "--gallery", str(enrolled)]
    assert run([*more, "--out", str(tmp_path / "more.safetensors")]) == 0
    assert "4 names, 18 pictures" in capsys.readouterr().out
    assert enrolled.read_bytes() == before
    made = (tmp_path / "more.safetensors").read_bytes()
    assert run(["enroll", "--gallery", str(enrolled), "--out", str(tmp_path / "same.safetensors")]) == 2
    assert "nothing changes here" in capsys.readouterr().err
    assert run([*more, "--out", str(tmp_path / "more.safetensors")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "more.safetensors").read_bytes() == made


def test_the_seed_draws_from_the_background(weights: Path, photos: Path, tmp_path: Path):
    made = []
    for place, seed in enumerate((0, 0, 1)):
        gallery = tmp_path / f"{place}.safetensors"
        arguments = ["enroll", str(photos / "photos"), "--weights", str(weights), "--gallery", str(gallery)]
        background = ["--background", f"folder:{photos / 'other'}", "--seed", str(seed)]
        assert run([*arguments, *background]) == 0
        rules = load_gallery(gallery).rules
        assert rules is not None
        made.append((rules.general_threshold, rules.slope))
    assert made[0] == made[1] != made[2]


def test_a_background_folder_teaches_what_unknown_is(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("METASIAM_DATA", str(tmp_path / "cache"))
    gallery = str(tmp_path / "g.safetensors")
    other = f"folder:{photos / 'other'}"
    arguments = ["enroll", str(photos / "photos"), "--weights", str(weights), "--gallery", gallery]
    assert run([*arguments, "--background", other]) == 0
    assert "domains of folder:" in " ".join(capsys.readouterr().out.split())
    assert run([*arguments, "--background", other]) == 2
    assert "belong to a new gallery" in capsys.readouterr().err


def test_grey_weights_without_a_normalisation_beside_another_program_s_config_enroll(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    torch.save(build_embedder("resnet8", channels=1).state_dict(), tmp_path / "grey.pt")
    (tmp_path / "config.json").write_text('{"model_type": "resnet", "num_channels": 1}')
    made = ["--weights", str(tmp_path / "grey.pt"), "--arch", "resnet8", "--gallery", str(tmp_path / "g.safetensors")]
    assert run(["enroll", str(photos / "photos"), *made]) == 0
    assert "no background pictures: thresholds come from your own pictures alone" in capsys.readouterr().err


def test_only_a_run_s_config_beside_weights_is_a_run(tmp_path: Path):
    weights = tmp_path / "w.safetensors"
    assert of_run(weights) is None
    for foreign in ('{"architectures": ["ResNet"]}', "[1, 2]", '{"options": {"method": 3}}', '{"options": []}'):
        (tmp_path / "config.json").write_text(foreign)
        assert of_run(weights) is None
    (tmp_path / "config.json").write_text('{"options": {"method": "triplet"}, "data": {"options": {"data": "glyphs"}}}')
    assert of_run(weights) == BackgroundChoice("glyphs", {})
    said = {
        "options": {"method": "siamese"},
        "data": {"options": {"data": "lfw", "data_dir": "/d"}, "fingerprint": "pairs"},
    }
    (tmp_path / "config.json").write_text(json.dumps(said))  # the people of the pairs, whose pictures are others
    assert of_run(weights) == BackgroundChoice("lfw", {"data_dir": "/d"})
    for pairs in ("pairs:mine.csv", "lfw:10-folds"):  # no domains to learn what unknown is from
        said = {"options": {"method": "siamese"}, "data": {"options": {"data": pairs}}}
        (tmp_path / "config.json").write_text(json.dumps(said))
        assert of_run(weights) is None
    (tmp_path / "config.json").write_text('{"options": {"meth')
    with pytest.raises(MetaSiamError, match="is damaged"):
        of_run(weights)


def test_pictures_that_cannot_be_read_are_named_skipped_and_counted(
    enrolled: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    capsys.readouterr()
    assert run(["identify", str(broken), str(photos / "new"), "--gallery", str(enrolled)]) == 1
    shown = capsys.readouterr()
    assert f"{broken} cannot be read" in shown.err
    assert "7 pictures: " in shown.out
    assert " unknown, 1 not read" in shown.out
    assert run(["identify", str(broken), "--gallery", str(enrolled)]) == 2
    error = capsys.readouterr().err
    assert error == f"metasiam: {broken} cannot be read (not an image, or a damaged one). Use another picture.\n"


def test_answers_for_programs_have_a_row_for_each_picture_that_cannot_be_read(
    enrolled: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    mixed = tmp_path / "mixed"
    (mixed / "deep" / "deeper").mkdir(parents=True)
    (mixed / "deep" / "linked").symlink_to(photos / "new", target_is_directory=True)
    (mixed / "deep" / "loop").symlink_to(mixed, target_is_directory=True)
    (mixed / "deep" / "notes.txt").write_text("no picture")
    for i in range(7):
        (mixed / "deep" / "deeper" / f"{i}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    capsys.readouterr()
    assert run(["identify", str(mixed), "--gallery", str(enrolled), "--json"]) == 1
    shown = capsys.readouterr()
    rows = [json.loads(line) for line in shown.out.splitlines()]
    assert [Path(row["picture"]).name for row in rows[:7]] == [f"{i}.HEIC" for i in range(7)]
    for row in rows[:7]:
        assert (row["name"], row["probability"], row["guesses"]) == (None, None, [])
        assert "save it as JPEG" in row["error"]
    assert all(row["name"] and "error" not in row for row in rows[7:])
    assert len(rows) == 13
    assert shown.err.count("cannot be read") == 5, "some are named, all are counted"
    assert "7 of 13 pictures could not be read" in shown.err
    assert run(["identify", str(mixed), "--gallery", str(enrolled), "--csv"]) == 1
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [bool(row["error"]) for row in table] == [True] * 7 + [False] * 6
    assert [bool(row["name"]) for row in table] == [False] * 7 + [True] * 6


def test_of_train_and_test_folders_the_names_come_from_train(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    whole = tmp_path / "whole"
    (whole / "Test").mkdir(parents=True)
    (whole / "train").symlink_to(photos / "photos", target_is_directory=True)
    (whole / "Test" / "pet0").symlink_to(photos / "other" / "pet3", target_is_directory=True)
    gallery = tmp_path / "g.safetensors"
    asked = ["enroll", str(whole), "--weights", str(weights), "--gallery", str(gallery)]
    assert run(asked) == 0
    assert f"The 6 pictures of Test/ can show how well they are recognised: metasiam identify {whole}/Test" in " ".join(
        capsys.readouterr().err.split()
    )
    assert load_gallery(gallery).counts() == {"pet0": 4, "pet1": 4, "pet2": 4}
    (whole / "train").unlink()
    assert run(asked) == 2
    assert f"Pass {whole}/Test to enroll" in capsys.readouterr().err


def test_names_without_a_picture_that_is_read_and_loose_pictures_are_said(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    mine = tmp_path / "mine"
    (mine / "heic").mkdir(parents=True)
    (mine / "heic" / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (mine / "empty").mkdir()
    (mine / "pet0").symlink_to(photos / "photos" / "pet0", target_is_directory=True)
    Image.new("RGB", (9, 9)).save(mine / "loose.png")
    gallery = tmp_path / "g.safetensors"
    assert run(["enroll", str(mine), "--weights", str(weights), "--gallery", str(gallery)]) == 1
    said = capsys.readouterr().err
    assert f"1 picture outside the domains' folders, e.g. {mine}/loose.png" in said
    assert "'heic' has no usable picture: left out" in said
    assert f"{mine}/empty has no pictures in it: left out" in said
    assert load_gallery(gallery).names == ("pet0",)


def test_names_are_added_and_removed_one_at_a_time(enrolled: Path, photos: Path, capsys: pytest.CaptureFixture[str]):
    files = [str(path) for path in sorted((photos / "other" / "pet5").glob("*.png"))[:2]]
    assert run(["enroll", "--name", "fifth", *files, "--gallery", str(enrolled)]) == 0
    assert "4 names, 14 pictures" in capsys.readouterr().out
    assert run(["enroll", "--remove", "pet0", "--remove", "pet1", "--gallery", str(enrolled)]) == 0
    assert "2 names, 6 pictures" in capsys.readouterr().out
    before = enrolled.read_bytes()
    assert run(["enroll", "--remove", "pet0", "--gallery", str(enrolled)]) == 2
    assert "no 'pet0'" in capsys.readouterr().err
    assert run(["enroll", "--gallery", str(enrolled)]) == 0
    assert "fifth" in capsys.readouterr().out
    assert enrolled.read_bytes() == before


def test_a_picture_is_known_by_its_place_and_not_by_what_it_is_called(
    enrolled: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for day in (5, 6):
        (tmp_path / f"day{day}").mkdir()
        Image.open(photos / "other" / f"pet{day}" / "0.png").save(tmp_path / f"day{day}" / "a.png")
        monkeypatch.chdir(tmp_path / f"day{day}")
        assert run(["enroll", "--name", "rex", "a.png", "--gallery", str(enrolled)]) == 0
    assert load_gallery(enrolled).counts()["rex"] == 2
    assert run(["enroll", "--name", "rex", str(tmp_path / "day6" / "a.png"), "--gallery", str(enrolled)]) == 0
    assert load_gallery(enrolled).counts()["rex"] == 2


def test_another_embedder_than_the_gallery_s_is_refused(
    enrolled: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        other = build_embedder("resnet8")
    path = tmp_path / "other.safetensors"
    save_embedder(path, other, EmbedderInfo("resnet8", 3, (SIZE, SIZE)))
    new = str(photos / "new")
    assert run(["identify", new, "--gallery", str(enrolled), "--weights", str(path)]) == 2
    assert "another embedder" in capsys.readouterr().err


def test_torchvision_s_network_is_taken_from_its_cache_and_says_what_it_was_trained_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from torchvision.models import ResNet18_Weights, resnet18

    # A stand-in for the download: the file that torchvision would put there, with weights of ours.
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(resnet18().state_dict(), cache / ResNet18_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    gallery = str(tmp_path / "pets.safetensors")
    assert run(["enroll", str(photos / "photos"), "--arch", "resnet18-imagenet", "--gallery", gallery]) == 0
    assert "trained on ImageNet photographs (torchvision), at 224×224 pixels" in capsys.readouterr().err
    assert run(["identify", str(photos / "new"), "--gallery", gallery, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(row["guesses"][0]["name"] in Path(row["picture"]).name for row in rows)


def test_match_answers_by_word_and_exit_code(
    enrolled: Path, photos: Path, weights: Path, capsys: pytest.CaptureFixture[str]
):
    first, second = (str(photos / "photos" / "pet0" / f"pet0-{i}.png") for i in (0, 1))
    capsys.readouterr()
    assert run(["match", first, first, "--gallery", str(enrolled)]) == 0
    assert capsys.readouterr().out.startswith("same (")
    code = run(["match", first, second, "--gallery", str(enrolled), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code == (0 if answer["same"] else 1)
    assert answer["same"] == (answer["similarity"] > answer["threshold"]) == (answer["probability_same"] > 0.5)
    assert run(["match", first, second, "--weights", str(weights)]) in (0, 1)
    assert "not calibrated" in capsys.readouterr().err
    assert run(["match", first, str(photos), "--weights", str(weights)]) == 2
    capsys.readouterr()
    assert run(["match", __file__, __file__, "--weights", str(weights)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_galleries_with_spaces_are_quoted_in_what_to_type_next(
    enrolled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    mine = tmp_path / "my pets.safetensors"
    assert run(["identify", str(mine), "--gallery", str(mine)]) == 2
    assert f"enroll DIR --weights RUN --gallery '{mine}'" in capsys.readouterr().err
    enrolled.rename(mine)
    assert run(["enroll", "--gallery", str(tmp_path / "new"), "--out", str(mine)]) == 2
    assert f"Use --gallery '{mine}' to add to it" in capsys.readouterr().err
    assert run(["enroll", *(word for i in range(3) for word in ("--remove", f"pet{i}")), "--gallery", str(mine)]) == 0
    capsys.readouterr()
    assert run(["identify", str(mine), "--gallery", str(mine)]) == 2
    assert f"metasiam enroll DIR --gallery '{mine}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["identify", "nowhere.jpg", "--gallery", "none.safetensors"], "does not exist"),
        (["enroll", "--gallery", "none.safetensors"], "does not exist yet"),
        (["enroll", "PHOTOS", "--gallery", "none.safetensors"], "no embedder yet"),
        (["enroll", "EMPTY", "--weights", "WEIGHTS", "--gallery", "none.safetensors"], "no folders with pictures"),
        (["enroll", "PHOTOS", "--name", "unknown", "--weights", "WEIGHTS"], "Use another name"),
        (["enroll", "HOLLOW", "--weights", "WEIGHTS", "--gallery", "none.safetensors"], "no folders with pictures"),
        (["enroll", "PHOTOS", "--weights", "WEIGHTS", "--gallery", "EMPTY"], "is a folder, not a gallery file"),
        (["match", "a.jpg", "b.jpg", "--weights", "WEIGHTS"], "not a file"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(
    arguments: list[str],
    words: str,
    photos: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "rex").mkdir(parents=True)
    places = {"PHOTOS": str(photos / "photos"), "EMPTY": str(tmp_path / "empty"), "WEIGHTS": str(weights)}
    places["HOLLOW"] = str(tmp_path / "hollow")
    assert run([places.get(argument, argument) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("metasiam: ")
    assert words in error
    assert list(tmp_path.glob("*.safetensors")) == []


def test_two_that_enroll_at_once_lose_nothing(weights, photos, tmp_path):
    gallery = tmp_path / "pets.safetensors"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "metasiam", "enroll", str(photos / "photos" / name), "--name", name,
             "--weights", str(weights), "--gallery", str(gallery)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name in ("pet0", "pet1")
    ]  # fmt: skip
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert load_gallery(gallery).counts() == {"pet0": 4, "pet1": 4}


def test_an_enroll_waits_for_another_and_says_so(weights, photos, tmp_path, capsys):
    gallery = tmp_path / "pets.safetensors"
    words = ["enroll", str(photos / "photos"), "--weights", str(weights), "--gallery", str(gallery)]
    with file_held(gallery):
        waiting = threading.Thread(target=run, args=(words,))
        waiting.start()
        waiting.join(timeout=3)
        assert waiting.is_alive()
        assert not gallery.exists()
    waiting.join(timeout=60)
    assert f"waiting for another process that changes {gallery}" in capsys.readouterr().err.replace("\n", "")
    assert gallery.exists()


def test_a_background_must_be_the_pictures_that_the_run_knows(photos, tmp_path, weights, capsys):
    """Domains are known by their place: in another folder of the same path they would be other things."""
    embedder, info = load_embedder(weights)
    data = load_domains(f"folder:{photos / 'other'}", image_size=SIZE)
    choice = BackgroundChoice(f"folder:{photos / 'other'}", {"image_size": SIZE}, None, data.fingerprint)
    assert len(load_background(choice, embedder, info, mirror=False, listener=None).embeddings) > 0
    with pytest.raises(MetaSiamError, match="holds other pictures than were trained on"):
        load_background(replace(choice, fingerprint="0" * 64), embedder, info, mirror=False, listener=None)


def test_what_is_enrolled_is_no_background(weights, photos, tmp_path, capsys):
    """A name that the background knows as something unknown would never be recognised."""
    gallery = tmp_path / "pets.safetensors"
    other = f"folder:{photos / 'other'}"
    words = ["enroll", str(photos / "other" / "pet5"), "--name", "Pet5", "--weights", str(weights)]
    assert run([*words, "--gallery", str(gallery), "--background", other]) == 0
    assert "domain 'pet5' is also a name to enroll: left out of the background" in capsys.readouterr().err
    background = load_gallery(gallery).background
    assert background is not None
    assert len(background.labels.unique()) == 12  # of 13
    own = load_gallery(gallery).embeddings
    assert torch.cdist(own, background.embeddings).min() > 1e-3


def test_a_gallery_that_cannot_be_written_is_said_before_pictures_are_embedded(
    weights, photos, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").write_text("no folder")
    gallery = tmp_path / "file" / "pets.safetensors"
    monkeypatch.setattr("metasiam.gallery.pictures.embed_pictures", lambda *_, **__: pytest.fail("embedded already"))
    assert run(["enroll", str(photos / "photos"), "--weights", str(weights), "--gallery", str(gallery)]) == 2
    assert f"{gallery} cannot be written" in capsys.readouterr().err


def test_another_name_moves_the_others_thresholds_and_says_so(enrolled, photos, capsys):
    capsys.readouterr()
    assert run(["enroll", str(photos / "other" / "pet5"), "--name", "pet5", "--gallery", str(enrolled)]) == 0
    captured = capsys.readouterr()
    assert "thresholds are learned from all names together: 3 earlier names got a new one" in " ".join(
        captured.err.split()
    )
    assert "4 names, 18 pictures" in captured.out


def test_enroll_acts_the_names_own_pictures_out_and_says_where_they_are_confused(enrolled, photos, tmp_path, capsys):
    capsys.readouterr()
    assert run(["enroll", "--gallery", str(enrolled)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"of your 12 pictures, each left out in turn, \d+ would be recognised, \d+ misnamed, \d+ ", said)
    assert "hardly" not in said
    # The same pictures under two more names: nothing can tell them apart.
    twins = tmp_path / "twins"
    for copy in ("a", "b"):
        (twins / copy).mkdir(parents=True)
        for place in range(4):
            whole = Image.open(photos / "photos" / "pet0" / f"pet0-{place}.png")
            whole.crop((0, 0, 24, 23 if copy == "a" else 24)).save(twins / copy / f"{place}.png")
    both = str(tmp_path / "both.safetensors")
    weights = load_gallery(enrolled).embedder.path
    assert run(["enroll", str(twins), "--weights", weights, "--gallery", both]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Confused: a and b (" in said
    assert "this embedder can hardly tell these names apart (its best guess is right for" in said
    assert "Weights trained on such pictures would help most (--weights)" in said
    assert load_gallery(enrolled).counts() == {"pet0": 4, "pet1": 4, "pet2": 4}


def test_what_enroll_and_identify_do_is_done_from_python_without_printing(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    told: list[str] = []

    class Notes(Listener):
        def note(self, text: str) -> None:
            told.append(text)

    where = GalleryOptions(gallery=tmp_path / "pets.safetensors", weights=str(weights))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = enroll_pictures([photos / "photos"], EnrollOptions(), where, Notes())
    assert (done.path, done.left_out, done.moved) == (where.gallery, 0, 0)
    assert done.gallery.counts() == {"pet0": 4, "pet1": 4, "pet2": 4}
    assert load_gallery(where.gallery).counts() == done.gallery.counts()
    assert told == ["no background pictures: thresholds come from your own pictures alone (see --background)"]
    assert "trained on blobs" in done.fit
    found = identify_pictures([photos / "new", tmp_path / "broken.png"], where, Notes())
    assert told[1:] == [f"{tmp_path / 'broken.png'} cannot be read (not an image, or a damaged one): left out"]
    assert not found.complete
    rows = [json.loads(line) for line in as_json(found.rows).splitlines()]
    assert [Path(row["picture"]).name for row in rows[:2]] == ["pet0-4.png", "pet0-5.png"]
    assert [row["guesses"][0]["name"] for row in rows[:2]] == ["pet0", "pet0"]
    assert rows[-1]["name"] is None
    assert capsys.readouterr() == ("", "")
