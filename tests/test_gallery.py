"""Galleries: names from a few pictures, thresholds that say unknown, and a file that tells its own embedder."""

from __future__ import annotations

import errno
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from metasiam.errors import MetaSiamError
from metasiam.gallery import EmbedderKey, Gallery, calibrated, compare, identify, load_gallery, open_embedder
from metasiam.gallery.answers import as_csv, as_json
from metasiam.gallery.calibrate import Background, calibrate
from metasiam.gallery.enrolled import check_name
from metasiam.gallery.pictures import embed_pixels
from metasiam.gallery.recognise import answer_from, suitability, thresholds_moved, unlikeness
from metasiam.gallery.scoring import NameScorer, centroids
from metasiam.gallery.store import check_writable
from metasiam.models import build_embedder
from metasiam.models.files import EmbedderInfo, save_embedder
from metasiam.runs import write_text
from metasiam.wording import printable

INFO = EmbedderInfo("resnet8", trained_on="tiny blobs")
KEY = EmbedderKey("weights", "abc", INFO)


def clouds(domains: int, images: int, *, seed: int = 0, spread: float = 0.35, size: int = 16) -> tuple[Tensor, Tensor]:
    """Embeddings of length 1 around one random direction a domain, all of them leaning to one side."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.randn(domains, 1, size, generator=generator) + 0.7
    rows = middle + spread * torch.randn(domains, images, size, generator=generator) * size**0.5 / 2
    labels = torch.arange(domains).repeat_interleave(images)
    return torch.nn.functional.normalize(rows.flatten(0, 1), dim=1), labels


def background(domains: int = 40, images: int = 12) -> Background:
    rows, labels = clouds(domains, images, seed=7)
    return Background(rows, labels, torch.full((len(rows), 6), 0.5), "blobs")


def gallery(
    names: int = 3, shots: int = 4, *, with_background: bool = True, compared: Background | None = None
) -> Gallery:
    rows, labels = clouds(names, shots + 20, seed=1)
    made = Gallery(KEY, mirror=False, background=(compared or background()) if with_background else None)
    for name in range(names):
        own = rows[labels == name][:shots]
        made = made.with_pictures(f"name {name}", [f"{name}/{i}.png" for i in range(shots)], own, torch.zeros(shots, 6))
    return calibrated(made)


def queries(names: int = 3, shots: int = 4) -> tuple[Tensor, Tensor]:
    rows, labels = clouds(names, shots + 20, seed=1)
    later = (torch.arange(shots + 20) >= shots).repeat(names)
    return rows[later], labels[later]


def strangers() -> Tensor:
    return clouds(15, 4, seed=99)[0]


def test_own_pictures_are_recognised_and_strangers_are_mostly_unknown():
    made = gallery()
    own, truth = queries()
    right = [answer.name == f"name {name}" for answer, name in zip(identify(made, own), truth.tolist(), strict=True)]
    refused = [answer.name == "unknown" for answer in identify(made, strangers())]
    assert sum(right) / len(right) > 0.8
    assert sum(refused) / len(refused) > 0.7


@pytest.mark.parametrize(
    ("shots", "domains", "images"),
    [(12, 40, 12), (30, 40, 12), (4, 9, 12), (4, 40, 4)],
    ids=["as many pictures", "more pictures", "few domains", "few images"],
)
def test_strangers_are_unknown_whatever_the_background_is_too_small_for(shots: int, domains: int, images: int) -> None:
    made = gallery(shots=shots, compared=background(domains, images))
    own, truth = queries(shots=shots)
    right = [answer.name == f"name {name}" for answer, name in zip(identify(made, own), truth.tolist(), strict=True)]
    refused = [answer.name == "unknown" for answer in identify(made, strangers())]
    assert sum(right) / len(right) > 0.6
    assert sum(refused) / len(refused) > 0.5


def test_probabilities_of_all_names_and_unknown_add_up_to_one_and_the_likeliest_is_the_answer():
    made = gallery()
    for answer in identify(made, torch.cat((queries()[0], strangers()))):
        best = answer.guesses[0]
        assert sum(guess.probability for guess in answer.guesses) + answer.unknown == pytest.approx(1)
        assert answer.probability == pytest.approx(max(best.probability, answer.unknown))
        assert (best.score > best.threshold) == (answer.name != "unknown") == (best.probability > answer.unknown)
        assert answer.name in (best.name, "unknown")
        assert [g.probability for g in answer.guesses] == sorted((g.probability for g in answer.guesses), reverse=True)
        assert {g.name for g in answer.guesses} == set(made.names)


def test_one_picture_a_name_is_enough():
    made = gallery(shots=1)
    own, truth = queries(shots=1)
    right = [
        answer.guesses[0].name == f"name {n}" for answer, n in zip(identify(made, own), truth.tolist(), strict=True)
    ]
    assert sum(right) / len(right) > 0.7


def test_without_a_background_the_names_own_pictures_make_the_thresholds():
    made = gallery(with_background=False)
    assert made.rules is not None
    assert "own pictures" in made.rules.learned_on
    own, truth = queries()
    names = [answer.name for answer in identify(made, own)]
    assert sum(name == f"name {n}" for name, n in zip(names, truth.tolist(), strict=True)) / len(names) > 0.7


def test_scores_equal_a_naive_loop():
    rows, labels = clouds(3, 4, seed=2)
    asked = clouds(2, 3, seed=3)[0]
    cohort = clouds(10, 1, seed=4)[0]
    found = NameScorer.of(rows, labels, 3, "cosine", cohort).scores(asked)
    for q, query in enumerate(asked):
        usual = torch.stack([torch.cosine_similarity(query, other, 0) for other in cohort])
        for name in range(3):
            mean = torch.stack([row / row.norm() for row in rows[labels == name]]).mean(0)
            raw = torch.cosine_similarity(query, mean, 0)
            assert float(found[q, name]) == pytest.approx(float((raw - usual.mean()) / usual.std()), abs=1e-4)


def test_a_cohort_that_is_too_small_is_not_used():
    rows, labels = clouds(3, 4, seed=2)
    few = clouds(3, 1, seed=4)[0]
    scores = NameScorer.of(rows, labels, 3, "cosine", few).scores(rows)
    assert torch.equal(scores, NameScorer.of(rows, labels, 3, "cosine", None).scores(rows))


@pytest.mark.parametrize("distance", ["cosine", "squared_euclidean"])
def test_leave_one_out_scores_never_compare_a_picture_with_itself(distance: str):
    rows, labels = clouds(2, 3, seed=5)
    rows, labels = torch.cat((rows, rows[:1])) * 2, torch.cat((labels, torch.tensor([2])))
    found = NameScorer.of(rows, labels, 3, distance, None).leave_one_out(rows, labels)
    for place in range(6):
        others = torch.stack([rows[i] for i in range(6) if i != place and labels[i] == labels[place]]).mean(0)
        alone = torch.cosine_similarity(rows[place], others, 0)
        expected = alone if distance == "cosine" else -(rows[place] - others).square().sum()
        assert float(found[place]) == pytest.approx(float(expected), abs=1e-4)
    assert torch.isnan(found[6])


def test_centroids_are_means_for_squared_distances():
    rows, labels = clouds(2, 3, seed=5)
    assert torch.allclose(centroids(rows, labels, 2, "squared_euclidean")[1], rows[3:].mean(0))


def test_pairs_are_compared_at_a_threshold_learned_on_the_background():
    rules = calibrate(torch.empty(0, 16), torch.empty(0, dtype=torch.int64), 0, INFO, background())
    rows, labels = clouds(10, 4, seed=11)
    right = [
        compare(rows[i], rows[j], rules, "cosine").same == bool(labels[i] == labels[j])
        for i in range(len(rows))
        for j in range(i)
    ]
    assert sum(right) / len(right) > 0.8


def test_adding_keeps_what_was_there_and_a_file_given_again_replaces_its_picture():
    made = gallery(names=2, shots=2)
    again = made.with_pictures("name 0", ["0/1.png", "0/9.png"], torch.ones(2, 16), torch.zeros(2, 6))
    assert again.counts() == {"name 0": 3, "name 1": 2}
    assert again.rules is None
    place = again.files.index("0/1.png")
    assert torch.equal(again.embeddings[place], torch.ones(16))


def test_removing_takes_a_name_out_and_an_unknown_one_is_named():
    made = gallery(names=3, shots=2).without("name 1")
    assert made.names == ("name 0", "name 2")
    assert len(made.files) == len(made.embeddings) == 4
    with pytest.raises(MetaSiamError, match="no 'name 1'"):
        made.without("name 1")


def test_a_saved_gallery_comes_back_the_same_and_leaves_nothing_else_behind(tmp_path: Path):
    made = gallery()
    made.save(tmp_path / "g.safetensors")
    back = load_gallery(tmp_path / "g.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["g.safetensors"]
    assert back.rules == made.rules
    assert (back.embedder, back.names, back.files) == (made.embedder, made.names, made.files)
    own = queries()[0]
    assert identify(back, own) == identify(made, own)


@pytest.mark.parametrize("damage", ["half", "text", "foreign", "schema", "labels", "rules"])
def test_a_damaged_gallery_is_refused_with_one_line(tmp_path: Path, damage: str):
    path = tmp_path / "g.safetensors"
    made = gallery()
    made.save(path)
    if damage == "half":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "text":
        path.write_text("this is not a gallery")
    elif damage == "foreign":
        save_file({"x": torch.ones(2)}, path)
    else:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["metasiam_gallery"])
        tensors = load_file(path)
        if damage == "schema":
            about["schema"] = 99
        elif damage == "labels":
            tensors["labels"] = tensors["labels"] + 5
        else:
            about["rules"]["thresholds"] = ["high"] * 3
        save_file(tensors, path, metadata={"metasiam_gallery": json.dumps(about)})
    with pytest.raises(MetaSiamError) as error:
        load_gallery(path)
    assert "g.safetensors" in str(error.value)


@pytest.mark.parametrize("name", ["", " cat", "unknown", "a\nb", "x" * 300])
def test_names_that_cannot_be_names_are_refused(name: str):
    with pytest.raises(MetaSiamError):
        check_name(name)


def test_pictures_unlike_the_background_are_called_so():
    made = gallery()
    alike, unlike = torch.full((5, 6), 0.51), torch.full((5, 6), 0.9)
    assert "unlike" not in suitability(INFO, unlikeness(alike, made))
    assert "unlike" in suitability(INFO, unlikeness(unlike, made))
    assert "tiny blobs" in suitability(INFO, None)
    assert unlikeness(alike, replace(made, background=None)) is None


def test_an_embedder_without_parameters_compares_pictures() -> None:
    """Fisher vectors keep what they learned in buffers alone."""
    info = EmbedderInfo("fisher", channels=1, image_size=(4, 4), mean=(0.5,), std=(0.25,))
    pixels = torch.randint(0, 256, (3, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    rows = embed_pixels(torch.nn.Flatten(), info, pixels)
    expected = torch.nn.functional.normalize(((pixels.float() / 255 - 0.5) / 0.25).flatten(1), dim=1)
    torch.testing.assert_close(rows, expected)


def test_the_likeliest_name_comes_first_also_where_both_are_certain() -> None:
    rules = gallery(2).rules
    assert rules is not None
    steep = replace(rules, thresholds=(0.0, 0.0), slope=40.0, share=0.0)
    answer = answer_from(("good", "better"), steep, torch.tensor([3.6, 9.0]))
    assert answer.name == "better"
    nobody = answer_from(("far", "near"), steep, torch.tensor([-900.0, -80.0]))
    assert (nobody.name, nobody.guesses[0].name) == ("unknown", "near")


def test_many_names_at_once_are_added_as_one_after_the_other_would_be() -> None:
    start = gallery(2, 2)
    rows = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    names = ["zoe", "name 1", "zoe", "anna", "name 1", "zoe"]
    files = ["z/0", "1/0.png", "z/1", "a/0", "1/7.png", "z/0"]  # one replaces an old picture, one comes twice
    at_once = start.with_named(names, files, rows, torch.zeros(6, 6))
    one_by_one = start
    for name, file, row in zip(names, files, rows, strict=True):
        one_by_one = one_by_one.with_pictures(name, [file], row.unsqueeze(0), torch.zeros(1, 6))
    assert at_once.counts() == {"anna": 1, "name 0": 2, "name 1": 3, "zoe": 2}
    assert (at_once.names, at_once.files) == (one_by_one.names, one_by_one.files)
    assert torch.equal(at_once.embeddings, one_by_one.embeddings)
    assert torch.equal(at_once.labels, one_by_one.labels)
    with pytest.raises(MetaSiamError, match="Use another name"):
        start.with_named(["fine", "unknown"], ["a", "b"], rows[:2], torch.zeros(2, 6))


def test_files_whose_names_are_not_utf_8_are_kept(tmp_path: Path) -> None:
    odd = "caf\udce9.png"
    made = gallery(1, 2).with_pictures("né", [odd], torch.ones(1, 16), torch.zeros(1, 6))
    made.save(tmp_path / "g.safetensors")
    back = load_gallery(tmp_path / "g.safetensors")
    assert odd in back.files
    assert back.names == ("name 0", "né")


def test_weights_of_a_training_that_diverged_are_refused_by_name(tmp_path: Path) -> None:
    embedder = build_embedder("resnet8")
    next(embedder.parameters()).data[0] = float("nan")
    save_embedder(tmp_path / "w.safetensors", embedder, EmbedderInfo("resnet8"))
    with pytest.raises(MetaSiamError, match=r"w\.safetensors contains NaN or infinite weights"):
        open_embedder(tmp_path / "w.safetensors")


@pytest.fixture
def embedders(tmp_path: Path) -> tuple[Path, Path, EmbedderKey]:
    """Two weights files of other seeds and architectures, and the key of a gallery made with the first."""
    for name, arch in (("mine", "resnet8"), ("other", "resnet14")):
        save_embedder(tmp_path / f"{name}.safetensors", build_embedder(arch), EmbedderInfo(arch))
    mine = tmp_path / "mine.safetensors"
    return mine, tmp_path / "other.safetensors", open_embedder(mine)[1]


def test_another_embedder_s_weights_are_called_so_and_left_out_it_works(embedders: tuple[Path, Path, EmbedderKey]):
    mine, other, key = embedders
    with pytest.raises(MetaSiamError, match="is another embedder than the gallery was made with.*Omit --weights"):
        open_embedder(other, key=key)
    assert open_embedder(None, key=key)[1] == key
    torch.save(build_embedder("resnet14").state_dict(), other.with_suffix(".pt"))  # does not say its architecture
    with pytest.raises(MetaSiamError, match="is another embedder than the gallery was made with.*Omit --weights"):
        open_embedder(other.with_suffix(".pt"), key=key)
    with pytest.raises(MetaSiamError, match="made with a resnet8, not with resnet14. Omit --arch"):
        open_embedder(mine, arch="resnet14", key=key)


def test_an_embedder_that_was_moved_is_found_by_its_new_place_which_is_kept(embedders: tuple[Path, Path, EmbedderKey]):
    mine, other, key = embedders
    made = Gallery(key, mirror=False).with_named(["a"], ["a.png"], torch.ones(1, 16), torch.zeros(1, 6))
    new = mine.rename(mine.with_name("elsewhere.safetensors"))
    with pytest.raises(MetaSiamError, match="no longer in .*mine.safetensors. Say where it is now with --weights"):
        open_embedder(None, key=made.embedder)
    with pytest.raises(MetaSiamError, match="which was in .*mine.safetensors. Say where that is now with --weights"):
        open_embedder(other, key=made.embedder)
    found = open_embedder(new, key=made.embedder)[1]
    made = made.with_named(["b"], ["b.png"], torch.ones(1, 16), torch.zeros(1, 6), embedder=found)
    assert made.embedder == replace(key, path=str(new))
    assert open_embedder(None, key=made.embedder)[1] == found
    with pytest.raises(ValueError, match="another embedder"):
        made.with_named(["b"], ["c.png"], torch.ones(1, 16), torch.zeros(1, 6), embedder=KEY)


def test_weights_trained_anew_in_place_are_known_not_to_be_the_gallery_s(embedders: tuple[Path, Path, EmbedderKey]):
    mine, _, key = embedders
    copy = Path(shutil.copy(mine, mine.with_name("copy.safetensors")))
    save_embedder(mine, build_embedder("resnet8"), EmbedderInfo("resnet8"))
    for weights in (None, mine):
        with pytest.raises(MetaSiamError, match="changed since. Pass a copy of the old ones with --weights, or enroll"):
            open_embedder(weights, key=key)
    assert open_embedder(copy, key=key)[1].fingerprint == key.fingerprint
    assert open_embedder(mine)[1].fingerprint != key.fingerprint  # a new gallery takes it


def test_a_place_that_takes_no_gallery_is_found_before_anything_is_embedded(tmp_path: Path, monkeypatch):
    for fine in (tmp_path / "g.safetensors", tmp_path / "new" / "deep" / "g.safetensors"):
        check_writable(fine)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MetaSiamError, match="is a folder, not a gallery file"):
        check_writable(tmp_path)

    def refuses(**options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuses)
    words = r"g.safetensors cannot be written: the disk is read-only. Write the gallery elsewhere with --out FILE\."
    with pytest.raises(MetaSiamError, match=words):
        check_writable(tmp_path / "g.safetensors")


def test_a_gallery_that_cannot_be_saved_says_which_file_why_and_what_to_do(tmp_path: Path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    made = gallery()
    made.save(tmp_path / "g.safetensors")
    before = (tmp_path / "g.safetensors").read_bytes()
    monkeypatch.setattr("metasiam.gallery.store.save_file", full)
    words = (
        "g.safetensors cannot be written: the disk is full. Free some space, or write the gallery elsewhere with --out"
    )
    with pytest.raises(MetaSiamError, match=words):
        made.save(tmp_path / "g.safetensors")
    assert (tmp_path / "g.safetensors").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_the_names_whose_thresholds_a_new_name_moved_are_counted() -> None:
    before = gallery(3, 4)
    rows = clouds(1, 4, seed=42)[0]
    after = calibrated(before.with_pictures("new", list("abcd"), rows, torch.zeros(4, 6)))
    assert before.rules is not None
    assert after.rules is not None
    old, new = (dict(zip(made.names, made.rules.thresholds, strict=True)) for made in (before, after) if made.rules)
    assert thresholds_moved(before, after) == sum(old[name] != pytest.approx(new[name], abs=1e-6) for name in old) > 0
    assert thresholds_moved(before, calibrated(before)) == 0
    assert thresholds_moved(before, replace(before, rules=None)) == 0


@pytest.mark.parametrize(
    ("names", "shots", "compared", "words"),
    [
        (
            1,
            4,
            None,
            "nothing, it is a fixed one: with one name there are no others to tell it from, and there is",
        ),
        (3, 1, None, "the names' own pictures"),
        (1, 4, background(6, 3), "pairs of pictures of blobs alone: with one name there are no others to tell it from"),
        (2, 4, background(6, 3), r"the names' own pictures \(the background, blobs, is too small to learn on\)"),
    ],
)
def test_what_thresholds_were_learned_on_is_said_as_it_is(names, shots, compared, words) -> None:
    rules = gallery(names, shots, with_background=compared is not None, compared=compared).rules
    assert rules is not None
    assert re.match(words, rules.learned_on)
    if "nothing" in words:
        assert rules.thresholds == pytest.approx((0.2,) * names)


def test_answers_about_files_whose_names_are_not_utf_8_can_be_written_and_read_back(tmp_path: Path) -> None:
    odd = Path("caf\udce9 ü.png")
    answers = [(odd, answer) for answer in identify(gallery(), queries()[0][:1])]
    for text in (as_json(answers), as_csv(answers), as_json(answers, ascii_only=True)):
        assert write_text(tmp_path / "answers", text).read_text(encoding="utf-8") == text
    for ascii_only in (False, True):
        assert json.loads(as_json(answers, ascii_only=ascii_only))["picture"] == str(odd)
    assert as_json(answers, ascii_only=True).isascii()
    assert r"caf\udce9 ü.png" in as_csv(answers)
    assert printable("ü", "ascii") == r"\xfc"
