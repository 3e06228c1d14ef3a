"""Embedders and losses of other packages by name: how they are fed, and that no file makes us import one."""

import sys

import numpy as np
import pytest
import torch
from foreign import install
from PIL import Image

import metasiam as ms
from metasiam import catalogue
from metasiam.cli import run as command
from metasiam.data.preparation import Preparation
from metasiam.errors import UnknownArchitectureError
from metasiam.models import architecture, build, size_of
from metasiam.models.files import usual_feeding
from metasiam.options.pairs import SiameseOptions
from metasiam.options.reptile import ReptileOptions
from metasiam.options.triplet import TripletOptions

QUICK = {"episodes": 20, "pairs": 40, "triplets": 40, "support_draws": 2, "bootstrap": 200, "seen": False}
SMALL = {"batch_size": 4, "device": "cpu", "precision": "fp32", "compile": "off"}
PLACE, LOSS = "foreignkit.networks:build", "foreignkit.losses:Centres"


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """Somebody's package is on the path, nobody has named anything of it, and it is forgotten afterwards."""
    install(tmp_path / "site")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    monkeypatch.setattr(catalogue, "_GIVEN", set())
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "foreignkit"]:
        del sys.modules[name]


@pytest.fixture
def data(tiny_domains):
    domains = tiny_domains(domains=8, images=12, size=8)
    return domains, ms.split_domains(domains, held_out=3, validation=2)


@pytest.fixture
def pictures(tmp_path):
    """A folder with one folder of small pictures for each of six names."""
    for place in range(48):
        folder = tmp_path / "pictures" / f"name{place % 6}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(place).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{place}.png")
    return tmp_path / "pictures"


def as_if_new(monkeypatch):
    """Make this process one to which nobody gave a name, and that has imported nothing."""
    monkeypatch.setattr(catalogue, "_GIVEN", set())
    for name in [name for name in sys.modules if name.partition(".")[0] == "foreignkit"]:
        del sys.modules[name]


# --- timm and torchvision ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 6])
def test_a_network_of_timm_is_trained_saved_and_measured_by_its_name(tmp_path, tiny_domains, channels):
    pytest.importorskip("timm")
    domains = tiny_domains(domains=6, images=8, size=32, channels=channels)
    split = ms.split_domains(domains, held_out=3)
    run = ms.train("triplet", domains, split, arch="timm:test_resnet", iterations=2, out=tmp_path / "run", **SMALL)
    embedder, info = ms.load_embedder(run.path)
    assert (info.arch, info.channels, embedder.embedding_size) == ("timm:test_resnet", channels, 96)
    assert ms.evaluate(run, domains, split, shots=(0,), **QUICK).data["held_out"]["closed"]["0"]


def test_size_crop_mean_and_std_come_with_a_name_of_timm():
    pytest.importorskip("timm")
    fed = usual_feeding("timm:test_vit.r160_in1k", 3)
    assert fed == {
        "image_size": (160, 160),
        "preparation": Preparation(crop=160, crop_of=168),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    assert size_of("timm:test_vit.r160_in1k") == (160, 160)
    assert size_of("timm:test_vit") == (160, 160)  # it takes no other
    assert size_of("timm:test_resnet") is None


def test_timms_pretrained_weights_are_those_that_timm_would_load(monkeypatch, tmp_path):
    """The hub is played by a file: what timm loads for the name must be in the embedder, also shown larger images."""
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        theirs = timm.create_model("test_resnet", num_classes=0).eval()
    create = timm.create_model

    def from_hub(name, pretrained=False, **more):
        made = create(name.partition(".")[0], **more)
        if pretrained:
            assert name == "test_resnet.r160_in1k"
            made.load_state_dict(theirs.state_dict())
        return made

    monkeypatch.setattr(timm, "create_model", from_hub)
    embedder = ms.build_embedder("timm:test_resnet.r160_in1k", image_size=(160, 160)).eval()
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    assert torch.equal(embedder(images), theirs(images))
    small = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    larger = torch.nn.functional.interpolate(small, size=160, mode="bilinear", antialias=True, align_corners=False)
    assert torch.equal(embedder(small), theirs(larger))


def test_weights_that_cannot_be_downloaded_are_told_in_one_line(monkeypatch):
    timm = pytest.importorskip("timm")
    create = timm.create_model

    def offline(name, pretrained=False, **more):
        if pretrained:
            raise ConnectionError("no route to huggingface.co\nsecond line")
        return create(name, **more)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ms.MetaSiamError, match=r"timm:test_resnet.r160_in1k are not in the cache .*--init\.$") as told:
        ms.build_embedder("timm:test_resnet.r160_in1k")
    assert "second line" not in str(told.value)


def test_a_given_file_is_loaded_instead_of_the_weights_that_the_name_names(tmp_path, data, monkeypatch):
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        theirs = timm.create_model("test_resnet")
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    create = timm.create_model

    def refuse(name, pretrained=False, **more):
        assert not pretrained, "nothing is downloaded where a file is given"
        return create(name, **more)

    monkeypatch.setattr(timm, "create_model", refuse)
    options = {"arch": "timm:test_resnet.r160_in1k", "init": str(tmp_path / "theirs.pth"), "lr": 1e-12}
    run = ms.train("triplet", *data, out=tmp_path / "run", iterations=1, **options, **SMALL)
    embedder, info = ms.load_embedder(run.path)
    assert info.mean == (0.5, 0.5, 0.5)
    torch.testing.assert_close(embedder.backbone.conv1[0].weight, theirs.conv1[0].weight, rtol=0, atol=1e-6)


def test_a_weights_file_of_torchvisions_own_is_loaded_and_fed_as_torchvision_says(tmp_path):
    from torchvision.models import mobilenet_v3_small

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = mobilenet_v3_small().eval()
    torch.save(theirs.state_dict(), tmp_path / "mobilenet_v3_small.pth")
    weights, arch = tmp_path / "mobilenet_v3_small.pth", "torchvision:mobilenet_v3_small"
    embedder, info = ms.load_embedder(weights, arch=arch, listener=None)
    assert (info.image_size, info.preparation) == ((224, 224), Preparation(crop=224, crop_of=256))
    assert (info.mean, info.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    images = torch.rand(2, 3, 64, 64)
    theirs.classifier[-1] = torch.nn.Identity()
    assert torch.equal(embedder(images), theirs(images))


@pytest.mark.parametrize(
    ("name", "width"),
    [("squeezenet1_1", 512), ("densenet121", 1024), ("googlenet", 1024), ("vit_b_32", 768), ("swin_t", 768)],
)
def test_torchvisions_networks_lose_their_classifier_whatever_it_is_called(name, width):
    with torch.device("meta"):
        module = build(f"torchvision:{name}", architecture(f"torchvision:{name}"), 3, (64, 64), pretrained=False)
    assert module.embedding_size == width


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("timm:resnt18", r"timm has no network 'resnt18'\. Did you mean .*resnet18"),
        ("timm:hf-hub:somebody/model", r"timm has no network 'hf-hub:somebody/model'"),
        ("timm:resnet18.nobody", r"timm's resnet18 has no weights 'nobody'\. It has: a1_in1k"),
        ("torchvision:resnet17", r"torchvision has no network 'resnet17'\. Did you mean resnet1"),
        ("torchvision:resnet18.V9", r"torchvision's resnet18 has no weights 'V9'\. It has: IMAGENET1K_V1, DEFAULT"),
        ("nowhere.at_all:net", r"nowhere.at_all:net cannot be imported: No module named 'nowhere'"),
        ("json:nothing", r"json:nothing cannot be imported: json has no nothing"),
        ("resnet9", r"--arch resnet9 is unknown\. Use one of: resnet8, "),
    ],
)
def test_a_name_that_nobody_has_is_told_in_one_line(name, text):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(ms.MetaSiamError, match=text):
        ms.build_embedder(name)


def test_without_timm_its_names_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ms.MetaSiamError, match=r"needs timm\. Install it with: pip install timm$"):
        ms.build_embedder("timm:resnet18")


def test_names_are_checked_without_torch():
    """What the command line and the options read of the catalogue imports neither torch nor anybody's network."""
    import subprocess

    code = (
        "import sys; from metasiam.options.reptile import ReptileOptions as Options; "
        "Options(arch='timm:resnet18', loss='supcon'); "
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- packages of others -----------------------------------------------------------------------------------------


def test_an_installed_packages_names_are_among_ours_and_are_not_imported_to_be_checked(foreign):
    assert "foreign-net" in catalogue.embedders()
    assert "foreign-centres" in catalogue.losses()
    assert ReptileOptions(arch="foreign-net", loss="foreign-centres").arch == "foreign-net"
    assert "foreignkit" not in sys.modules
    with pytest.raises(ms.MetaSiamError, match=r"triplet's --arch nobodys-net is unknown.*foreign-net"):
        TripletOptions(arch="nobodys-net")


def test_an_installed_packages_network_may_be_named_by_a_file(foreign, data, tmp_path, monkeypatch):
    run = ms.train("triplet", *data, arch="foreign-net", iterations=1, out=tmp_path / "run", **SMALL)
    as_if_new(monkeypatch)
    again = ms.open_run(run.path)
    assert ms.load_embedder(again.path)[0].embedding_size == 20
    assert ms.evaluate(again, *data, shots=(0,), **QUICK).data["held_out"]["closed"]["0"]


def test_a_place_that_only_a_file_names_is_never_imported(foreign, data, tmp_path, monkeypatch):
    run = ms.train("triplet", *data, arch=PLACE, iterations=1, out=tmp_path / "run", **SMALL)
    assert run.config["options"]["arch"] == PLACE
    as_if_new(monkeypatch)
    for attempt in (
        lambda: ms.load_embedder(run.path),
        lambda: ms.evaluate(ms.open_run(run.path), *data, shots=(0,), **QUICK),
        lambda: ms.train("triplet", *data, resume=run.path),
        lambda: ms.train("triplet", *data, init=str(run.path), iterations=1, out=tmp_path / "next", **SMALL),
    ):
        with pytest.raises(UnknownArchitectureError, match=f"say so yourself: --arch {PLACE}"):
            attempt()
    assert "foreignkit" not in sys.modules
    assert not (tmp_path / "next").exists()
    assert ms.load_embedder(run.path, arch=PLACE)[1].arch == PLACE
    assert ms.load_embedder(run.path)[1].arch == PLACE  # once it was given, files may say it too


def test_a_place_that_only_a_file_names_is_refused_by_every_command_until_it_is_typed(
    foreign, pictures, tmp_path, monkeypatch, capsys
):
    domains = ms.load_domains(f"folder:{pictures}", data_dir=tmp_path / "d")
    split, stored = ms.split_domains(domains, held_out=3), {"data": f"folder:{pictures}", "held_out": 3}
    run = ms.train(
        "triplet", domains, split, arch=PLACE, iterations=1, out=tmp_path / "run", data_options=stored, **SMALL
    )
    folder, one = str(run.path), str(pictures / "name0" / "0.png")
    for words in (
        ["evaluate", folder],
        ["triplet", "--resume", folder],
        ["compare", folder, "--out", str(tmp_path / "c")],
        ["match", one, one, "--weights", folder],
        ["enroll", str(pictures), "--weights", folder, "--gallery", str(tmp_path / "g.safetensors")],
    ):
        as_if_new(monkeypatch)
        assert command(words) == 2
        assert f"say so yourself: --arch {PLACE}" in capsys.readouterr().err
        assert "foreignkit" not in sys.modules
    assert command(["match", one, one, "--weights", folder, "--arch", PLACE]) == 0


def test_a_comparison_to_go_on_with_does_not_make_us_import_either(foreign, tmp_path, monkeypatch, capsys):
    (tmp_path / "c").mkdir()
    plan = '{"methods": {"triplet": {"arch": "%s", "loss": "%s"}}, "data": {"data": "glyphs"}, "budget": {}}'
    (tmp_path / "c" / "comparison.json").write_text(plan % ("resnet8", LOSS))
    assert command(["compare", "--resume", str(tmp_path / "c")]) == 2
    assert f"say so yourself: --loss {LOSS}" in capsys.readouterr().err
    assert "foreignkit" not in sys.modules


def test_a_gallery_does_not_make_us_import_its_embedder(foreign, pictures, tmp_path, monkeypatch, capsys):
    gallery, one = str(tmp_path / "g.safetensors"), str(pictures / "name0" / "0.png")
    words = ["enroll", str(pictures), "--background", "none", "--gallery", gallery]
    assert command([*words, "--arch", "foreignkit.networks:fed"]) == 0
    as_if_new(monkeypatch)
    assert command(["identify", one, "--gallery", gallery]) == 2
    assert "say so yourself: --arch foreignkit.networks:fed" in capsys.readouterr().err
    assert "foreignkit" not in sys.modules
    assert command(["identify", one, "--gallery", gallery, "--arch", "foreignkit.networks:fed"]) == 0


def test_weights_of_a_module_handed_over_from_python_load_with_its_place(foreign, data, tmp_path):
    from foreignkit.networks import build as theirs

    run = ms.train("triplet", *data, arch=lambda: theirs(3, None), iterations=1, out=tmp_path / "run", **SMALL)
    assert run.config["options"]["arch"].startswith("own:")
    assert ms.load_embedder(run.path, arch=PLACE)[1].arch == PLACE


def test_siamese_takes_the_names_of_others_too(foreign):
    assert SiameseOptions(arch="foreign-net").arch == "foreign-net"
    with pytest.raises(ms.MetaSiamError, match="siamese's --arch nobody is unknown"):
        SiameseOptions(arch="nobody")
