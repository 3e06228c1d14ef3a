"""Embedders: sizes, names of the weights, and files that are whole, foreign, damaged or dangerous."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from metasiam import EmbedderInfo, MetaSiamError, build_embedder, load_embedder, save_embedder
from metasiam.catalogue import EMBEDDERS
from metasiam.models.files import stored_image_size

OWN_SIZES = ("koch", "fisher")  # have tests of their own, at their own sizes
SMALL = [
    name
    for name in EMBEDDERS
    if not name.startswith(OWN_SIZES) and not name.endswith("imagenet") and name not in ("resnet56", "resnet110")
]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "size"), [(3, (32, 32)), (1, (28, 28))])
def test_every_embedder_maps_images_to_rows_of_its_embedding_size(name, channels, size):
    embedder = build_embedder(name, channels=channels, image_size=size).eval()
    with torch.inference_mode():
        rows = embedder(torch.randn(2, channels, *size))
    assert rows.shape == (2, embedder.embedding_size)
    assert torch.isfinite(rows).all()


@pytest.mark.parametrize(
    ("depth", "parameters"),
    # He et al. (2016), table 6, give 0.27, 0.46, 0.66, 0.85 and 1.7 million with the 10-way classifier's 650.
    [(20, 0.27e6), (32, 0.46e6), (44, 0.66e6), (56, 0.85e6), (110, 1.7e6)],
)
def test_cifar_resnets_have_the_published_number_of_parameters(depth, parameters):
    count = sum(p.numel() for p in build_embedder(f"resnet{depth}").parameters()) + 650
    assert count == pytest.approx(parameters, rel=0.02)


def test_option_a_shortcuts_have_no_weights_and_keep_the_first_channels_in_the_middle():
    block = build_embedder("resnet8").layer2[0].eval()
    assert not any("shortcut" in name for name in block.state_dict())
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        image = torch.rand(1, 16, 4, 4)
        out = block(image)
    assert torch.equal(out[:, 8:24], image[:, :, ::2, ::2])
    assert float(out[:, :8].abs().sum() + out[:, 24:].abs().sum()) == 0


def test_the_field_backbones_have_the_field_sizes():
    assert build_embedder("conv4", image_size=(84, 84)).embedding_size == 1600
    assert build_embedder("resnet12").embedding_size == 640
    # MetaOptNet's ResNet-12 without its classifier: 12.42 million.
    assert sum(p.numel() for p in build_embedder("resnet12").parameters()) == pytest.approx(12.42e6, rel=0.01)


def test_three_scales_compare_as_the_mean_of_three_networks_each_on_its_own_size():
    embedder = build_embedder("conv4-scales", channels=1, image_size=(48, 48)).eval()
    images = torch.rand(5, 1, 48, 48)
    with torch.no_grad():
        rows = embedder(images)
        expected = torch.zeros(5, 5)
        for part, size in zip(embedder.parts, (48, 40, 32), strict=True):
            own = part(functional.interpolate(images, (size, size), mode="bilinear", antialias=True))
            expected += functional.cosine_similarity(own[:, None], own[None], dim=2) / 3
        assert rows.shape == (5, embedder.embedding_size) == (5, 64 * (9 + 4 + 4))
        assert torch.allclose(functional.cosine_similarity(rows[:, None], rows[None], dim=2), expected, atol=1e-5)
    with pytest.raises(MetaSiamError, match="at least 16 pixels"):
        build_embedder("conv4-scales", image_size=(16, 16))


def test_images_too_small_for_an_embedder_are_refused_in_words():
    with pytest.raises(MetaSiamError, match="at least 16 pixels"):
        build_embedder("conv4", image_size=(8, 8))
    with pytest.raises(MetaSiamError, match=r"--arch vgg is unknown"):
        build_embedder("vgg")


def test_a_saved_embedder_comes_back_with_its_weights_and_its_info(tmp_path):
    embedder = build_embedder("resnet8", channels=1, image_size=(28, 28)).eval()
    info = EmbedderInfo("resnet8", 1, (28, 28), (0.1,), (0.3,), "squared_euclidean", -0.25, trained_on="mnist")
    save_embedder(tmp_path / "embedder.safetensors", embedder, info)
    for path in (tmp_path, tmp_path / "embedder.safetensors"):
        again, read = load_embedder(path)
        assert read == info
        assert all(
            torch.equal(a, b) for a, b in zip(again.state_dict().values(), embedder.state_dict().values(), strict=True)
        )
        assert not again.training


def test_a_plain_state_dict_needs_its_architecture_named_and_takes_the_seeds_normalisation(tmp_path):
    embedder = build_embedder("resnet8")
    torch.save({f"module.{k}": v for k, v in embedder.state_dict().items()}, tmp_path / "w.pt")
    with pytest.raises(MetaSiamError, match="Add --arch"):
        load_embedder(tmp_path / "w.pt")
    again, info = load_embedder(tmp_path / "w.pt", arch="resnet8")
    assert torch.equal(again.conv1.weight, embedder.conv1.weight)
    assert info.mean == (0.4914, 0.4822, 0.4465)


def test_grey_weights_without_a_normalisation_take_the_seeds_mean_over_the_colours(tmp_path):
    torch.save(build_embedder("resnet8", channels=1).state_dict(), tmp_path / "w.pt")
    _, info = load_embedder(tmp_path / "w.pt", arch="resnet8")
    assert (info.channels, info.mean, info.std) == (1, (0.4734,), (0.2009,))
    _, info = load_embedder(tmp_path / "w.pt", arch="resnet8", mean=(0.5,))
    assert (info.mean, info.std) == ((0.5,), (0.2009,))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"mean": (0.5,)}, r"images of 3 channels, but its mean is for 1\. Pass --mean one number for each"),
        ({"std": (0.2, 0.2)}, "but its std is for 2"),
        ({"std": (0.2, 0.0, 0.2)}, "--std must be positive numbers, not 0.2,0,0.2"),
        ({"std": (0.2, float("nan"), 0.2)}, "std, number 2 is nan, not a finite number"),
        ({"mean": (0.2, float("inf"), 0.2)}, "mean, number 2 is inf, not a finite number"),
    ],
)
def test_a_normalisation_that_does_not_fit_the_weights_is_refused(tmp_path, given, text):
    torch.save(build_embedder("resnet8").state_dict(), tmp_path / "w.pt")
    with pytest.raises(MetaSiamError, match=text):
        load_embedder(tmp_path / "w.pt", arch="resnet8", **given)


def test_weights_say_their_image_size_or_that_they_do_not(tmp_path):
    embedder = build_embedder("resnet8")
    torch.save(embedder.state_dict(), tmp_path / "w.pt")
    assert stored_image_size(tmp_path / "w.pt") is None
    save_file(embedder.state_dict(), tmp_path / "foreign.safetensors")
    assert stored_image_size(tmp_path / "foreign.safetensors") is None
    save_embedder(tmp_path / "embedder.safetensors", embedder, EmbedderInfo("resnet8", image_size=(24, 16)))
    assert stored_image_size(tmp_path) == (24, 16)


def test_weights_of_another_architecture_are_refused_with_a_key_named(tmp_path):
    torch.save(build_embedder("resnet14").state_dict(), tmp_path / "w.pt")
    with pytest.raises(MetaSiamError, match=r"is not a resnet8: 30 tensors unexpected \(layer1\.1\.conv1\.weight, "):
        load_embedder(tmp_path / "w.pt", arch="resnet8")


def test_truncated_and_foreign_files_are_refused_in_one_line(tmp_path):
    good = tmp_path / "good.pt"
    torch.save(build_embedder("resnet8").state_dict(), good)
    (tmp_path / "cut.pt").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "text.pt").write_text("not weights")
    (tmp_path / "cut.safetensors").write_bytes(b"\x00\x01")
    torch.save([1, 2, 3], tmp_path / "list.pt")
    save_file({"x": torch.ones(1)}, tmp_path / "foreign.safetensors")
    for name in ("cut.pt", "text.pt", "cut.safetensors", "list.pt", "foreign.safetensors", "absent.pt"):
        with pytest.raises(MetaSiamError) as caught:
            load_embedder(tmp_path / name, arch="resnet8")
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["hello world", "# Read me", "{}", "abc", ""])
def test_files_that_are_no_weights_at_all_are_called_so(tmp_path, text):
    (tmp_path / "notes.txt").write_text(text)
    with pytest.raises(MetaSiamError) as caught:
        load_embedder(tmp_path / "notes.txt")
    assert str(caught.value) == (
        f"{tmp_path / 'notes.txt'} is not a readable weights file (not a PyTorch file). Pass a .safetensors file, or "
        "one saved by torch.save(model.state_dict(), …)."
    )


def test_a_pickle_with_code_in_it_is_never_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"conv1.weight": Attack()}, tmp_path / "attack.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Attack()))
    for name in ("attack.pt", "raw.pt"):
        with pytest.raises(MetaSiamError, match="code in it, which is never run"):
            load_embedder(tmp_path / name, arch="resnet8")
    assert not (tmp_path / "ran").exists()


def test_pretrained_weights_without_a_network_say_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_arguments, **_more):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(
        MetaSiamError, match=r"resnet18's ImageNet weights are not in the cache.*resnet18-f37072fd\.pth"
    ):
        build_embedder("resnet18-imagenet")


def test_pretrained_weights_in_the_cache_are_loaded(tmp_path, monkeypatch):
    from torchvision.models import ResNet18_Weights, resnet18

    weights = resnet18().state_dict()
    name = ResNet18_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(weights, tmp_path / "hub" / "checkpoints" / name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    embedder = build_embedder("resnet18-imagenet")
    assert torch.equal(embedder.backbone.conv1.weight, weights["conv1.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classic-90-10.pt", "classic-50-50.pt"])
def test_the_published_weights_load_with_every_key_matched(shared_data, name):
    embedder, info = load_embedder(shared_data / "data" / "reference" / name, arch="resnet56")
    assert info.arch == "resnet56"
    assert sum(p.numel() for p in embedder.parameters()) > 800_000


def test_a_safetensors_file_says_its_metadata_as_json(tmp_path):
    from safetensors import safe_open

    save_embedder(tmp_path / "e.safetensors", build_embedder("resnet8"), EmbedderInfo("resnet8", trained_on="glyphs"))
    with safe_open(tmp_path / "e.safetensors", framework="pt") as file:
        stored = json.loads(file.metadata()["metasiam"])
    assert {"arch", "image_size", "mean", "std", "distance", "threshold"} <= stored.keys()
