"""Galleries from Python: from files, arrays, folders and embeddings, with any embedder, and as the command line."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TinyDomains
from PIL import Image
from torch import Tensor, nn

import metasiam as ms
from metasiam.cli import run
from metasiam.data.domains import DomainSet
from metasiam.gallery.given import as_pictures, named_pictures
from metasiam.models.files import EmbedderInfo

SIZE = 16


@pytest.fixture(scope="module")
def domains(tiny_domains: TinyDomains) -> DomainSet:
    return tiny_domains(domains=12, images=6, size=24, seed=3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, domains: DomainSet) -> Path:
    """known/<name>/*.png with four pictures of three names, new/<name>.png with another, other/<name>/ for the rest."""
    root = tmp_path_factory.mktemp("photos")
    for index, (image, label) in enumerate(zip(domains.images, domains.labels.tolist(), strict=True)):
        name, place = f"pet{label}", index % 6
        if label >= 3:
            path = root / "other" / name / f"{place}.png"
        else:
            path = root / "known" / name / f"{place}.png" if place < 4 else root / "new" / f"{name}-{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        embedder = ms.build_embedder("resnet8")
    path = tmp_path_factory.mktemp("weights") / "blobs.safetensors"
    info = EmbedderInfo("resnet8", 3, (SIZE, SIZE), (0.1,) * 3, (0.2,) * 3, trained_on="blobs")
    ms.save_embedder(path, embedder, info)
    return path


class Colours(nn.Module):
    """Mean colour and its square: without any weights."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean((2, 3))
        return torch.cat((means, means.square()), 1)


def picture(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.copy()


def array(path: Path) -> np.ndarray:
    return np.asarray(picture(path))


def names_of(gallery: ms.Gallery, folder: Path) -> dict[str, tuple[str, float]]:
    return {Path(a.picture).name: (a.name, a.probability) for a in gallery.identify(folder)}


def test_five_lines_give_the_command_line_s_numbers(photos, weights, tmp_path, capsys):
    gallery = ms.enroll(photos / "known", weights, background=f"folder:{photos / 'other'}")
    answers = gallery.identify(photos / "new")
    verdict = gallery.match(photos / "new" / "pet0-4.png", photos / "new" / "pet1-4.png")
    path = tmp_path / "typed.safetensors"
    words = ["enroll", str(photos / "known"), "--weights", str(weights), "--gallery", str(path)]
    assert run([*words, "--background", f"folder:{photos / 'other'}"]) == 0
    capsys.readouterr()
    assert run(["identify", str(photos / "new"), "--gallery", str(path), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [a.picture for a in answers] == [row["picture"] for row in rows]
    assert [a.name for a in answers] == [row["name"] for row in rows]
    assert [round(a.probability, 4) for a in answers] == [row["probability"] for row in rows]
    assert [round(a.unknown, 4) for a in answers] == [row["unknown_probability"] for row in rows]
    assert [a.nearest for a in answers] == [row["guesses"][0]["name"] for row in rows]
    pair = [str(photos / "new" / name) for name in ("pet0-4.png", "pet1-4.png")]
    run(["match", *pair, "--gallery", str(path), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["same"] == verdict.same
    assert said["probability_same"] == round(verdict.probability, 4)
    assert said["threshold"] == round(verdict.threshold, 4)
    typed = ms.load_gallery(path)
    assert typed.rules == gallery.rules
    assert torch.equal(typed.embeddings, gallery.embeddings)
    assert typed.files == gallery.files


def test_arrays_images_and_files_are_one_picture(photos, weights):
    files = {name: sorted((photos / "known" / name).glob("*.png")) for name in ("pet0", "pet1", "pet2")}
    from_files = ms.enroll(files, weights)
    arrays = {name: np.stack([array(path) for path in paths]) for name, paths in files.items()}
    tensors = {name: torch.from_numpy(block).permute(0, 3, 1, 2) for name, block in arrays.items()}
    images = {name: [picture(path) for path in paths] for name, paths in files.items()}
    flat = ([array(p) for paths in files.values() for p in paths], [n for n, paths in files.items() for _ in paths])
    for given in (arrays, tensors, images, flat):
        gallery = ms.enroll(given, weights)
        assert gallery.counts() == {"pet0": 4, "pet1": 4, "pet2": 4}
        assert gallery.embeddings.sort(0).values == pytest.approx(from_files.embeddings.sort(0).values, abs=1e-6)
        asked = sorted((photos / "new").glob("*.png"))
        answers = gallery.identify([array(path) for path in asked])
        expected = from_files.identify(asked)
        assert [a.name for a in answers] == [e.name for e in expected]
        assert [a.probability for a in answers] == pytest.approx([e.probability for e in expected], abs=1e-4)
        assert answers[0].picture == "picture 0"


def test_a_gallery_of_any_module_is_saved_and_opened_with_it(photos, tmp_path):
    module = ms.Embedder(Colours(), image_size=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    gallery = ms.enroll(photos / "known", module)
    right = [a.nearest for a in gallery.identify(photos / "new")]
    assert right == ["pet0", "pet0", "pet1", "pet1", "pet2", "pet2"]
    gallery.save(tmp_path / "mine.safetensors")
    again = ms.load_gallery(tmp_path / "mine.safetensors", embedder=module)
    assert names_of(again, photos / "new") == names_of(gallery, photos / "new")
    closed = ms.load_gallery(tmp_path / "mine.safetensors")
    with pytest.raises(ms.MetaSiamError, match=r"made with a custom module, Colours.*load_gallery\(path, embedder"):
        closed.identify(photos / "new")
    assert run(["identify", str(photos / "new"), "--gallery", str(tmp_path / "mine.safetensors")]) == 2


def test_another_module_than_the_gallery_s_is_refused(photos, tmp_path):
    def linear() -> ms.Embedder:
        return ms.Embedder(
            nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), image_size=8, mean=(0.5,) * 3, std=(1.0,) * 3
        )

    ms.enroll(photos / "known", linear()).save(tmp_path / "mine.safetensors")
    with pytest.raises(ms.MetaSiamError, match="other weights than the embedder that the gallery was made with"):
        ms.load_gallery(tmp_path / "mine.safetensors", embedder=linear())


def test_a_bare_module_takes_arrays_as_they_are_with_their_own_normalisation(photos):
    images = [array(path) for path in sorted((photos / "known").rglob("*.png"))]
    names = [path.parent.name for path in sorted((photos / "known").rglob("*.png"))]
    gallery = ms.enroll((images, names), Colours())
    info = gallery.embedder.info
    assert info.image_size == (24, 24)
    assert info.mean == pytest.approx(np.stack(images).mean((0, 1, 2)) / 255, abs=1e-4)
    assert not gallery.mirror
    with pytest.raises(ms.MetaSiamError, match="does not say which size of pictures it takes"):
        ms.enroll(photos / "known", Colours())


def test_embeddings_of_anybody_are_recognised_and_strangers_are_unknown():
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(30, 16, generator=generator)

    def around(name: int, count: int) -> np.ndarray:
        return (middles[name] + 0.3 * torch.randn(count, 16, generator=generator)).numpy()

    others = {f"other {name}": around(name, 8) for name in range(5, 30)}
    gallery = ms.enroll({f"name {name}": around(name, 4) for name in range(3)}, background=others)
    assert gallery.of_embeddings
    own = [gallery.identify(around(name, 1))[0].name for name in range(3)]
    assert own == ["name 0", "name 1", "name 2"]
    strangers = gallery.identify(around(4, 10))
    assert sum(answer.name == "unknown" for answer in strangers) >= 8
    assert gallery.match(around(0, 1)[0], around(0, 1)[0]).same
    assert not gallery.match(around(0, 1)[0], around(1, 1)[0]).same
    more = gallery.add((around(4, 4), [4] * 4))
    assert more.identify(around(4, 1))[0].name == "4"
    assert gallery.names == ("name 0", "name 1", "name 2")
    assert ms.match(around(0, 1)[0], around(0, 1)[0]).same
    with pytest.raises(ms.MetaSiamError, match="16 wide"):
        gallery.identify(np.ones((1, 7)))


def test_embeddings_survive_the_file(tmp_path):
    rows = np.eye(3, dtype=np.float64).repeat(3, 0) + np.arange(9)[:, None] / 40
    gallery = ms.enroll((rows, list("aaabbbccc")), distance="squared_euclidean")
    gallery.save(tmp_path / "e.safetensors")
    again = ms.load_gallery(tmp_path / "e.safetensors")
    assert again.of_embeddings
    assert again.identify(rows)[4] == gallery.identify(rows)[4]
    with pytest.raises(ms.MetaSiamError, match="made of embeddings"):
        again.opened()


def test_names_and_pictures_come_and_go(photos, weights):
    gallery = ms.enroll(photos / "known", weights)
    more = gallery.add({"pet5": photos / "other" / "pet5", "pet0": photos / "new" / "pet0-4.png"})
    assert more.counts() == {"pet0": 5, "pet1": 4, "pet2": 4, "pet5": 6}
    assert more.remove("pet1").names == ("pet0", "pet2", "pet5")
    assert more.remove(photos / "new" / "pet0-4.png").counts()["pet0"] == 4
    with pytest.raises(ms.MetaSiamError, match="has no 'rex'"):
        more.remove("rex")
    path = photos / "known" / "pet0" / "0.png"
    again = gallery.add({"mine": array(path)})
    assert again.add({"mine": array(path)}).counts() == again.counts()
    with pytest.warns(UserWarning, match="1 picture under two names"):
        assert again.add({"other": array(path)}).counts()["other"] == 1


def test_what_cannot_be_read_is_an_error_unless_it_may_be_skipped(photos, weights, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    gallery = ms.enroll(photos / "known", weights)
    new = photos / "new" / "pet0-4.png"
    with pytest.raises(ms.MetaSiamError, match=r"broken.jpg cannot be read.*pass --skip-unreadable"):
        gallery.identify([broken, new])
    with pytest.warns(UserWarning, match="broken.jpg cannot be read"):
        answers = gallery.identify([broken, new], skip_unreadable=True)
    assert [a.picture for a in answers] == [str(new)]
    with pytest.raises(ms.MetaSiamError, match="picture 0 has nothing on it"):
        gallery.identify(np.zeros((20, 20, 3), np.uint8))


def test_match_takes_weights_modules_and_pictures_of_any_kind(photos, weights):
    first, second = photos / "new" / "pet0-4.png", photos / "new" / "pet1-4.png"
    same = ms.match(first, array(first), weights)
    assert same.same
    assert same.similarity == pytest.approx(1.0, abs=1e-5)
    colours = ms.Embedder(Colours(), image_size=8, mean=(0.0,) * 3, std=(1.0,) * 3, threshold=0.999)
    assert ms.match(first, photos / "new" / "pet0-5.png", colours).threshold == 0.999
    assert ms.match(first, second, colours).similarity < ms.match(first, first, colours).similarity
    with pytest.raises(ms.MetaSiamError, match="number 2 is 6"):
        ms.match(first, photos / "new", weights)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no name to enroll"),
        ({"a": []}, "no picture of 'a'"),
        ({"unknown": "x"}, "'unknown' is what identify answers"),
        ({"a": 7}, "a int of 'a' is not a picture"),
        ({"a": "nowhere.png"}, "nowhere.png does not exist"),
        ((np.zeros((2, 8, 8), np.uint8), ["a"]), "2 pictures and 1 name"),
        (3, "pass a dict of names"),
        ({"a": np.full((8, 8, 3), 200.0)}, "has values from 200 to 200"),
    ],
)
def test_bad_input_is_one_clear_line(given, words, weights):
    with pytest.raises(ms.MetaSiamError, match=words) as caught:
        ms.enroll(given, weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("photos", "pass the embedder too"),
        ({"a": np.zeros((2, 3)), "b": np.zeros((2, 4))}, "of one width"),
        ({"a": np.full((2, 3), np.nan)}, "finite"),
        ({"a": "rex.png"}, "pictures with the embedder"),
        ({}, "of one width"),
    ],
)
def test_bad_embeddings_are_one_clear_line(given, words):
    with pytest.raises(ms.MetaSiamError, match=words):
        ms.enroll(given)


def test_arrays_are_one_picture_or_many_by_their_shape():
    rng = np.random.default_rng(0)
    counts = {
        (8, 8): 1, (8, 8, 3): 1, (8, 8, 1): 1, (5, 8, 8): 5, (5, 8, 8, 3): 5, (5, 3, 8, 8): 5,
    }  # fmt: skip
    for shape, count in counts.items():
        assert len(as_pictures(rng.integers(0, 256, shape, dtype=np.uint8))) == count
    assert len(as_pictures(torch.zeros(3, 8, 8, dtype=torch.uint8))) == 1
    assert len(as_pictures([rng.random((8, 8)), Image.new("RGB", (4, 4))])) == 2
    named = named_pictures((rng.integers(0, 256, (4, 8, 8), dtype=np.uint8), np.array([1, 0, 1, 0])))
    assert {name: len(own) for name, own in named.items()} == {"1": 2, "0": 2}


def test_the_example_runs(capsys):
    runpy.run_path(str(Path(__file__).parents[1] / "examples" / "own_gallery.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert shown.startswith("Gallery(5 names, 40 pictures, own:Sequential, thresholds learned on 1,200 images")
    assert shown.rstrip().endswith("b")
