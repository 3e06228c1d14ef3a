"""One's own module and data: measured, compared and fed as the library's own are."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import metasiam as ms
from metasiam.data.pixels import as_image, as_images

QUICK = {"episodes": 20, "pairs": 40, "triplets": 40, "support_draws": 2, "bootstrap": 200, "seen": False}


class Foreign(nn.Module):
    """Somebody's network: no ``embedding_size``, no metadata."""

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.size = size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[-1] == self.size, "only this size fits"
        return self.body(images)


@pytest.fixture
def data(tiny_domains):
    domains = tiny_domains(domains=8, images=12, size=8)
    return domains, ms.split_domains(domains, held_out=3, validation=2)


def test_a_bare_module_is_measured_without_being_changed(data):
    domains, split = data
    torch.manual_seed(0)
    module = Foreign().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    report = ms.evaluate(module, domains, split, shots=(0, 2), **QUICK)
    assert set(report.data["held_out"]["closed"]) == {"0", "2"}
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_module_answers_what_the_same_weights_in_a_file_answer(data, tmp_path):
    domains, split = data
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = ms.build_embedder("resnet8", image_size=domains.image_size)
    mean, std = domains.channel_statistics(domains.pool(split.seen, "train"))
    info = ms.EmbedderInfo("resnet8", image_size=domains.image_size, mean=mean, std=std)
    ms.save_embedder(tmp_path / "weights.safetensors", module, info)
    here = ms.evaluate(module, domains, split, shots=(0,), **QUICK).data
    there = ms.evaluate(tmp_path / "weights.safetensors", domains, split, shots=(0,), **QUICK).data
    assert here["held_out"] == there["held_out"]


def test_a_module_without_any_weight_is_measured_too_also_mirrored(data):
    domains, split = data
    report = ms.evaluate(nn.Flatten(), domains, split, shots=(0,), inference=("mirror",), **QUICK)
    assert 0 <= report.data["held_out"]["closed"]["0"]["triplet_accuracy"]["mean"] <= 100


def test_embedder_resizes_and_normalises_as_it_says(data):
    domains, split = data
    embedder = ms.Embedder(Foreign(16), image_size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), name="theirs")
    images = torch.rand(2, 3, 8, 8)
    wanted = F.interpolate(images, size=(16, 16), mode="bilinear", antialias=True, align_corners=False)
    embedder.eval()
    assert torch.equal(embedder(images), embedder.module(wanted))
    assert ms.evaluate(embedder, domains, split, shots=(0,), **QUICK).data["held_out"]["closed"]["0"]
    embedder.measure(3, (8, 8))
    info = embedder.info(3, (8, 8), (0, 0, 0), (1, 1, 1))
    assert (embedder.embedding_size, info.arch, info.mean) == (24, "own:theirs", (0.5, 0.4, 0.3))


def test_modules_and_runs_are_compared_side_by_side(data, tmp_path):
    domains, split = data
    run = ms.train("triplet", domains, split, out=tmp_path / "run", arch="resnet8", iterations=2, batch_size=4)
    settings = ms.ProtocolSettings(shots=(0,), **QUICK)
    found = ms.compare({"mine": Foreign(), "pixels": nn.Flatten(), "run": run}, domains, split, settings)
    assert list(found.data["methods"]) == ["mine", "pixels", "run"]
    assert found.data["budget"] == {"images_by_method": {"run": run.images}}
    assert {(row["a"], row["b"]) for row in found.data["paired"]} >= {("mine", "pixels"), ("mine", "run")}


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (lambda: Foreign(16), r"Foreign does not take images \[B, 3, 8, 8\] .*Embedder\(module, image_size=…\)"),
        (lambda: nn.Identity(), r"Identity must map two images to float \[2, D\], not to \[2, 3, 8, 8\]"),
        (lambda: ms.Embedder(nn.Flatten(), mean=(0.5, 0.5), std=(0.2, 0.2)), "Flatten has a mean for 2 channels"),
    ],
)
def test_a_module_that_does_not_fit_is_told_in_one_line(data, target, text):
    with pytest.raises(ms.MetaSiamError, match=text):
        ms.evaluate(target(), *data, shots=(0,), **QUICK)


@pytest.mark.parametrize("form", ["NHWC", "NCHW", "grey", "floats", "torch", "list"])
def test_arrays_of_every_usual_form_are_the_same_pictures(form):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 9, 7, 1 if form == "grey" else 3), dtype=np.uint8)
    labels = np.arange(30) % 3
    given = {
        "NHWC": pixels,
        "NCHW": pixels.transpose(0, 3, 1, 2),
        "grey": pixels[..., 0],
        "floats": pixels / 255,
        "torch": torch.from_numpy(pixels),
        "list": list(pixels),
    }[form]
    domains = ms.DomainSet.from_arrays(given, labels, names=["a", "b", "c"])
    assert torch.equal(domains.images, torch.from_numpy(pixels.transpose(0, 3, 1, 2)))
    assert domains.labels.tolist() == labels.tolist()
    assert domains.counts("test").tolist() == [2, 2, 2]  # a fifth of ten
    assert domains.is_test[-6:].all()


def test_labels_may_be_names_and_test_images_may_be_said():
    labels = ["cat", "ant", "cat", "ant"]
    said = ms.DomainSet.from_arrays(np.zeros((4, 5, 5), np.uint8), labels, is_test=[False, False, True, True])
    assert said.names == ("ant", "cat")
    assert (said.labels.tolist(), said.is_test.tolist()) == ([1, 0, 1, 0], [False, False, True, True])


class Rows:
    """Hugging Face's way: items are dicts."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, place: int) -> dict[str, object]:
        return {"img": np.full((5, 5, 3), place, np.uint8), "fine_label": place % 2}


def test_data_sets_of_pairs_and_of_dicts_become_domain_sets():
    rows = ms.DomainSet.from_dataset(Rows(), test=0.34)
    assert (rows.source, rows.names, rows.labels.tolist()) == ("Rows", ("0", "1"), [0, 1, 0, 1, 0, 1])
    assert rows.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    pairs = ms.DomainSet.from_dataset(TensorDataset(torch.rand(4, 3, 6, 6), torch.tensor([0, 0, 1, 1])), test=0.5)
    assert (pairs.images.shape, pairs.is_test.tolist()) == ((4, 3, 6, 6), [False, True, False, True])


@pytest.mark.parametrize(
    ("images", "labels", "more", "text"),
    [
        (np.zeros((4, 5), np.uint8), [0, 0, 1, 1], {}, r"arrays must be \[N, H, W\], .* not \[4, 5\]"),
        (np.zeros((4, 5, 6, 5), np.uint8), [0, 0, 1, 1], {}, r"\[5, 6, 5\]: it cannot be told .*channels='first'"),
        (np.zeros((4, 5, 5), np.uint16), [0, 0, 1, 1], {}, r"values from 0 to 0\. .*levels=\(black, white\)"),
        (np.zeros((4, 5, 5)), [0, 0, 1, 1], {"levels": (3, 3)}, "levels must be a lower and a higher number"),
        (np.array([["a"]]), [0], {}, "arrays must hold numbers, not <U1"),
        (np.full((4, 5, 5), 7.0), [0, 0, 1, 1], {}, "values from 7 to 7. Pass uint8 images, floats from 0 to 1"),
        (np.zeros((4, 5, 5), np.uint8), [0, 0, 1], {}, "4 images and 3 labels"),
        (np.zeros((4, 5, 5), np.uint8), [0, 0, 1, 1], {"names": ["a"]}, r"2 labels and 1 name\."),
        (np.zeros((4, 5, 5), np.uint8), [0, 0, 1, 1], {"test": 1.5}, "test must be a share between 0 and 1"),
        (np.zeros((4, 5, 5), np.uint8), [0, 0, 1, 1], {"is_test": [True]}, "is_test speaks of 1"),
        ([np.zeros((5, 5)), np.zeros((6, 5))], [0, 0], {}, r"image 1 of arrays is \[1, 6, 5\], the first is"),
    ],
)
def test_arrays_that_do_not_fit_are_told_in_one_line(images, labels, more, text):
    with pytest.raises(ms.MetaSiamError, match=text):
        ms.DomainSet.from_arrays(images, labels, **more)


@pytest.mark.parametrize("form", ["CHW", "HWC", "said", "list of HWC", "list of tensors"])
def test_images_of_any_number_of_channels_are_taken(form):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 6, 9, 11), dtype=np.uint8)
    last = pixels.transpose(0, 2, 3, 1)
    given, more = {
        "CHW": (pixels, {}),
        "HWC": (last, {}),
        "said": (pixels.transpose(0, 2, 1, 3), {"channels": "last"}),  # 9 high, 6 wide, 11 channels
        "list of HWC": (list(last), {}),
        "list of tensors": ([torch.from_numpy(one) for one in pixels], {}),
    }[form]
    domains = ms.DomainSet.from_arrays(given, np.arange(12) % 3, **more)
    wanted = pixels.transpose(0, 3, 2, 1) if form == "said" else pixels
    assert torch.equal(domains.images, torch.from_numpy(np.ascontiguousarray(wanted)))


def test_depth_and_sixteen_bits_are_brought_to_bytes_by_levels():
    metres = np.array([0.5, 1.0, 1.5, 2.0, 4.0, 9.0]).reshape(1, 1, 6).repeat(4, 0)
    depth = ms.DomainSet.from_arrays(metres, [0, 0, 1, 1], levels=(1.0, 4.0))
    assert depth.images[0, 0, 0].tolist() == [0, 0, 42, 85, 255, 255]  # thirds of 255, rounded to even
    deep = ms.DomainSet.from_arrays(np.full((4, 3, 3), 32768, np.uint16), [0, 0, 1, 1], levels=(0, 65535))
    assert deep.images.unique().tolist() == [128]


def test_pictures_with_palettes_and_transparency_are_colours():
    from PIL import Image

    red = Image.new("RGB", (4, 3), (200, 30, 40))
    for mode in ("P", "RGBA"):
        assert as_image(red.convert(mode)).shape == (3, 3, 4)
    assert as_image(red.convert("RGBA"))[:, 0, 0].tolist() == [200, 30, 40]
    assert as_image(red.convert("LA")).shape == (1, 3, 4)


def test_images_of_six_channels_are_trained_on_measured_and_embedded(tiny_domains, tmp_path):
    domains = tiny_domains(domains=6, images=8, size=8, channels=6)
    split = ms.split_domains(domains, held_out=3)
    run = trained("triplet", (domains, split), tmp_path / "run", arch="resnet8", iterations=2, shift=1)
    embedder, info = ms.load_embedder(run.path)
    assert (info.channels, len(info.mean), embedder.conv1.weight.shape[1]) == (6, 6, 6)
    report = ms.evaluate(run, domains, split, shots=(0,), **QUICK)
    assert 0 <= report.data["held_out"]["closed"]["0"]["triplet_accuracy"]["mean"] <= 100
    colour = tiny_domains(domains=6, images=8, size=8)
    with pytest.raises(ms.MetaSiamError, match="takes images of 6 channels, tiny has 3"):
        ms.evaluate(run, colour, split, shots=(0,), **QUICK)
    with pytest.raises(ms.MetaSiamError, match="takes images of 6 channels, tiny has 3"):
        trained("triplet", (colour, split), tmp_path / "next", init=str(run.path), iterations=1)


class Features(dict):
    """Hugging Face's way of saying what labels mean."""


class Hub(Rows):
    """A data set of Hugging Face's, with names for its labels."""

    features = Features(img=None, fine_label=type("ClassLabel", (), {"names": ["apple", "pear"]})())


class Taskset:
    """learn2learn's: tasks are drawn, and the data set stands behind them, in a wrapper that knows the labels."""

    task_transforms = ()

    def __init__(self, dataset: object) -> None:
        self.dataset = dataset


def test_hub_data_sets_say_their_names_and_their_parts():
    assert ms.DomainSet.from_dataset(Hub(), test=0.34).names == ("apple", "pear")
    both = ms.DomainSet.from_dataset({"train": Hub(), "test": Hub()}, source="fruit")
    assert (both.is_test.tolist(), both.source) == ([False] * 6 + [True] * 6, "fruit")
    named = ms.DomainSet.from_dataset([{"pic": np.zeros((3, 3)), "kind": k} for k in "aabb"], keys=("pic", "kind"))
    assert named.names == ("a", "b")
    with pytest.raises(ms.MetaSiamError, match=r"need the keys image and label; they have pic, kind\. Say which"):
        ms.DomainSet.from_dataset([{"pic": np.zeros((3, 3)), "kind": 0}])
    with pytest.raises(ms.MetaSiamError, match="a dict of data sets needs train or test; it has extra"):
        ms.DomainSet.from_dataset({"extra": Hub()})


def test_tasks_and_torchvision_s_data_sets_are_taken():
    from torchvision.datasets import FakeData

    pairs = TensorDataset(torch.rand(4, 3, 6, 6), torch.tensor([0, 0, 1, 1]))
    assert ms.DomainSet.from_dataset(Taskset(pairs), test=0.5).counts("train").tolist() == [1, 1]
    fake = FakeData(size=30, image_size=(3, 8, 8), num_classes=2)  # PIL
    assert ms.DomainSet.from_dataset(fake).images.shape == (30, 3, 8, 8)
    with pytest.raises(ms.MetaSiamError, match="int is no data set"):
        ms.DomainSet.from_dataset(3)


def test_floats_become_the_bytes_they_came_from():
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(as_images(values.float() / 255), values)


def make_foreign() -> Foreign:
    torch.manual_seed(5)
    return Foreign()


class Proxies(nn.Module):
    """Somebody's loss with weights of its own: a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(8, 24))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(embeddings @ self.rows.t(), labels)


SMALL = {"batch_size": 4, "device": "cpu", "precision": "fp32", "compile": "off"}


def trained(method, data, out, **options):
    return ms.train(method, *data, out=out, **SMALL, **options)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("triplet", {"iterations": 4}),
        ("reptile", {"iterations": 2, "inner_epochs": 2}),
        ("protonet", {"iterations": 4}),
    ],
)
def test_methods_train_ones_own_module_and_it_loads_again_with_its_maker(data, tmp_path, method, options):
    if method == "protonet":
        options = options | {"ways": 3, "shots": 1, "queries": 2}
    run = trained(method, data, tmp_path / "run", arch=make_foreign, **options)
    assert run.config["options"]["arch"] == "own:make_foreign"
    embedder, info = ms.load_embedder(run.path, build=make_foreign)
    assert info.arch == "own:make_foreign"
    start = make_foreign().state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in embedder.module.state_dict().items())
    here = ms.evaluate(run, *data, shots=(0,), **QUICK).data["held_out"]
    reopened = ms.evaluate(ms.open_run(run.path), *data, shots=(0,), arch=make_foreign, **QUICK).data["held_out"]
    assert here == reopened


def test_the_handed_over_module_is_copied_and_its_weights_are_where_training_starts(data, tmp_path):
    module = make_foreign()
    start = {name: value.clone() for name, value in module.state_dict().items()}
    run = trained("triplet", data, tmp_path / "run", arch=module, iterations=1, lr=1e-12)
    assert all(torch.equal(value, start[name]) for name, value in module.state_dict().items())
    weights = ms.load_embedder(run.path, build=module)[0].module.body[0].weight
    torch.testing.assert_close(weights, start["body.0.weight"], rtol=0, atol=1e-6)


def test_ones_own_loss_is_trained_with_its_parameters_and_resumes_to_equal_bits(data, tmp_path, monkeypatch):
    options = {"arch": make_foreign, "loss": Proxies(), "iterations": 6, "lr": 0.01}
    whole = trained("triplet", data, tmp_path / "whole", **options)
    assert whole.config["options"]["loss"] == "own:Proxies"

    from metasiam.learners.triplet import Triplet
    from metasiam.training.learner import StopRequested

    iterate = Triplet.iterate

    def stop_at_three(self, iteration, stop):
        if iteration == 3:
            raise StopRequested
        return iterate(self, iteration, stop)

    monkeypatch.setattr(Triplet, "iterate", stop_at_three)
    with pytest.raises(ms.TrainingStopped):
        trained("triplet", data, tmp_path / "parts", **options)
    monkeypatch.setattr(Triplet, "iterate", iterate)
    parts = ms.train("triplet", *data, resume=tmp_path / "parts", arch=make_foreign, loss=Proxies())
    one, other = (ms.load_embedder(run.path, build=make_foreign)[0].state_dict() for run in (whole, parts))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_loss_of_pytorch_metric_learning_is_taken_as_it_is(data, tmp_path):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    loss = losses.ProxyAnchorLoss(num_classes=8, embedding_size=24)
    run = trained("reptile", data, tmp_path / "run", arch=make_foreign, loss=loss, iterations=2, inner_epochs=2)
    assert run.config["options"]["loss"] == "own:ProxyAnchorLoss"


def test_a_plain_function_is_a_loss(data, tmp_path):
    def spread(embeddings, labels):
        return embeddings.square().mean()

    assert trained("triplet", data, tmp_path / "run", arch="resnet8", loss=spread, iterations=2).images == 24


def test_what_is_missing_or_does_not_fit_is_told_in_one_line(data, tmp_path, capsys):
    run = trained("triplet", data, tmp_path / "run", arch=make_foreign, iterations=1)
    again = ms.open_run(run.path)
    with pytest.raises(ms.MetaSiamError, match=r"weights of a custom module, make_foreign\. Load it from Python"):
        ms.evaluate(again, *data, shots=(0,), **QUICK)
    with pytest.raises(ms.MetaSiamError, match="make_foreign is a custom module. Pass it from Python"):
        ms.train("triplet", *data, resume=run.path)
    with pytest.raises(ms.MetaSiamError, match="Flatten has no weights to train"):
        trained("triplet", data, tmp_path / "none", arch=nn.Flatten(), iterations=1)
    with pytest.raises(ms.MetaSiamError, match="arch must be text, a torch.nn.Module or what makes one, not 3"):
        trained("triplet", data, tmp_path / "none", arch=3, iterations=1)
    with pytest.raises(ms.MetaSiamError, match="baseline's --loss own:spread is unknown"):
        trained("baseline", data, tmp_path / "none", loss=type("spread", (Proxies,), {})(), iterations=1)
    from metasiam.cli import run as command

    assert command(["evaluate", str(run.path), "--data", "glyphs", "--adapt-shots", "0"]) == 2
    assert "make_foreign" in capsys.readouterr().err


def test_a_name_in_a_file_never_imports_anything(data, tmp_path):
    """The name of a module that can be imported, in weights and in config.json, is a name and no more."""
    run = trained("triplet", data, tmp_path / "run", arch=make_foreign, iterations=1)
    config = run.path / "config.json"
    config.write_text(config.read_text().replace("own:make_foreign", "own:os.system"))
    with pytest.raises(ms.MetaSiamError, match="os.system is a custom module"):
        ms.train("triplet", *data, resume=run.path)


def test_a_preset_is_taken_from_python_too_and_options_given_win(data, tmp_path):
    options = {"iterations": 1, "ways": 2, "device": "cpu"}
    run = ms.train("reptile", *data, preset="quick", out=tmp_path / "run", **options)
    stored = run.config["options"]
    assert (stored["loss"], stored["ways"], stored["meta_schedule"]) == ("balanced-softmax", 2, "constant")
    with pytest.raises(ms.MetaSiamError, match="triplet has no preset scratch"):
        ms.train("triplet", *data, preset="scratch", out=tmp_path / "other")


def test_weights_saved_under_a_name_that_nobody_knows_are_loaded_with_what_makes_them(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    ms.save_embedder(tmp_path / "mine.safetensors", module, ms.EmbedderInfo("mine", image_size=(8, 8)))
    with pytest.raises(ms.MetaSiamError, match="holds weights of a custom module, mine. Load it from Python"):
        ms.load_embedder(tmp_path / "mine.safetensors")

    def make():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    loaded, info = ms.load_embedder(tmp_path / "mine.safetensors", build=make)
    images = torch.rand(2, 3, 8, 8)
    assert info.arch == "own:mine"
    assert torch.equal(loaded(images), module(images))
