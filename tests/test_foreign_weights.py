"""Weights trained by other programs: the same network under other names is the same network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from listeners import Heard
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from metasiam import MetaSiamError, build_embedder, load_embedder
from metasiam.cli import run as cli
from metasiam.errors import OtherArchitectureError, UnknownArchitectureError
from metasiam.gallery import open_embedder
from metasiam.session import arch_of


def embedder_of(arch: str = "resnet8") -> nn.Module:
    torch.manual_seed(0)
    made = build_embedder(arch)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    return made


def without_counters(state):
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def check_same(path, made, arch="resnet8", **more):
    again, info = load_embedder(path, arch=arch, **more)
    assert not again.training
    expected = without_counters(made.state_dict())
    found = without_counters(again.state_dict())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    return info


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.",
        "backbone.",
        "encoder.",
        "net.",
        "model.encoder.",
        "module.model._orig_mod.backbone.",
    ],
)
def test_what_wrappers_and_outer_modules_put_before_a_name_does_not_count(tmp_path, prefix):
    made = embedder_of()
    torch.save(prefixed(made.state_dict(), prefix), tmp_path / "w.pt")
    check_same(tmp_path / "w.pt", made)


def test_parts_that_were_compiled_apart_are_read_too(tmp_path):
    made = embedder_of()
    state = {name.replace("layer2.", "layer2._orig_mod."): value for name, value in made.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    check_same(tmp_path / "w.pt", made)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {"net": state, "acc": 91.2, "epoch": 199},
        lambda state: {"state_dict": {"model": state}},
        lambda state: {"model": {"state_dict": state}, "args": {"lr": 0.1}},
    ],
)
def test_a_state_dict_inside_of_a_checkpoint_is_found(tmp_path, wrap):
    made = embedder_of()
    torch.save(wrap(made.state_dict()), tmp_path / "w.ckpt")
    check_same(tmp_path / "w.ckpt", made)


def test_the_best_known_kind_of_file_is_read(tmp_path):
    """A ResNet for CIFAR from before BatchNorm counted, trained by DataParallel, with its classifier."""
    made = embedder_of()
    state = prefixed(without_counters(made.state_dict()), "module.")
    state |= {"module.linear.weight": torch.rand(10, 64), "module.linear.bias": torch.rand(10)}
    torch.save({"state_dict": state, "best_prec1": 91.78}, tmp_path / "w.th")
    with pytest.warns(UserWarning, match=r"w\.th has a head after the embedder \(linear\): left out"):
        check_same(tmp_path / "w.th", made)
    heard = Heard()
    check_same(tmp_path / "w.th", made, listener=heard)
    assert heard.notes == [f"{tmp_path / 'w.th'} has a head after the embedder (linear): left out"]


def test_an_averaged_model_is_read(tmp_path):
    made = embedder_of()
    averaged = AveragedModel(made)
    averaged.update_parameters(made)
    torch.save(averaged.state_dict(), tmp_path / "w.pt")
    assert "n_averaged" in averaged.state_dict()
    check_same(tmp_path / "w.pt", made)


def test_a_lightning_checkpoint_with_a_classifier_and_a_loss_is_read(tmp_path):
    made = embedder_of()
    state = prefixed(made.state_dict(), "encoder.")
    state |= {"classifier.0.weight": torch.rand(5, 64), "criterion.weight": torch.rand(5, 64)}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.4", "global_step": 7}, tmp_path / "w.ckpt")
    with pytest.warns(UserWarning, match=r"\(classifier, criterion\): left out"):
        check_same(tmp_path / "w.ckpt", made)


def test_a_module_saved_under_two_names_is_read_and_two_networks_are_refused(tmp_path):
    made = embedder_of()
    both = prefixed(made.state_dict(), "model.") | prefixed(made.state_dict(), "encoder.")
    torch.save(both, tmp_path / "same.pt")
    check_same(tmp_path / "same.pt", made)
    torch.save(both | {"encoder.conv1.weight": torch.rand(16, 3, 3, 3)}, tmp_path / "two.pt")
    with pytest.raises(
        OtherArchitectureError, match=r"there twice \(model\.conv1\.weight and encoder\.conv1\.weight\)"
    ):
        load_embedder(tmp_path / "two.pt", arch="resnet8")


def test_torchvisions_own_file_is_read_with_its_normalisation(tmp_path):
    from torchvision.models import resnet18

    theirs = resnet18()
    torch.save(theirs.state_dict(), tmp_path / "resnet18-f37072fd.pth")
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    images = torch.rand(2, 3, 32, 32)
    classifier, theirs.fc = theirs.fc, nn.Identity()
    assert classifier.out_features == 1000
    for name in ("resnet18-f37072fd.pth", "model.safetensors"):
        with pytest.warns(UserWarning, match=r"\(fc\): left out"):
            embedder, info = load_embedder(tmp_path / name, arch="resnet18")
        with torch.no_grad():
            assert torch.equal(embedder(images), theirs.eval()(images))
        assert info.image_size == (32, 32)
        with pytest.warns(UserWarning, match="left out"):
            _, info = load_embedder(tmp_path / name, arch="resnet18-imagenet")
        assert (info.mean, info.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        assert info.image_size == (224, 224)


def test_what_differs_is_named_and_what_fits_is_advised(tmp_path):
    torch.save(prefixed(without_counters(embedder_of("resnet14").state_dict()), "module."), tmp_path / "w.pt")
    with pytest.raises(OtherArchitectureError) as caught:
        load_embedder(tmp_path / "w.pt", arch="resnet8")
    assert str(caught.value) == (
        f"{tmp_path / 'w.pt'} is not a resnet8: 30 tensors unexpected (module.layer1.1.conv1.weight, "
        "module.layer1.1.bn1.weight, module.layer1.1.bn1.bias and 27 more). Add --arch resnet14, which it fits."
    )
    with pytest.raises(
        OtherArchitectureError, match=r"150 tensors missing \(layer1\.2\.conv1\.weight, .* and 147 more\)"
    ):
        load_embedder(tmp_path / "w.pt", arch="resnet44")
    odd = embedder_of().state_dict() | {"conv1.weight": torch.rand(8, 3, 3, 3)}
    torch.save(odd, tmp_path / "odd.pt")
    with pytest.raises(OtherArchitectureError) as caught:
        load_embedder(tmp_path / "odd.pt", arch="resnet8")
    assert "1 tensor of another shape (conv1.weight is [8, 3, 3, 3], not [16, 3, 3, 3])" in str(caught.value)
    assert str(caught.value).endswith("Pass the --arch that it was trained with.")


def test_what_is_not_a_head_is_never_left_out(tmp_path):
    """A network with more norms than the one asked for is another network, whatever they are called."""
    state = embedder_of().state_dict()
    torch.save(state | {"norms.0.weight": torch.rand(3)}, tmp_path / "w.pt")
    with pytest.raises(OtherArchitectureError, match=r"1 tensor unexpected \(norms\.0\.weight\)"):
        load_embedder(tmp_path / "w.pt", arch="resnet8")


def test_weights_that_do_not_say_their_architecture_say_which_one_fits(tmp_path):
    torch.save(prefixed(embedder_of().state_dict(), "model."), tmp_path / "w.pt")
    with pytest.raises(UnknownArchitectureError, match=r"does not say its architecture\. Add --arch resnet8, which"):
        load_embedder(tmp_path / "w.pt")
    with pytest.raises(UnknownArchitectureError, match=r"^--init .*w\.pt does not say its arch.*Add --arch resnet8,"):
        arch_of(tmp_path / "w.pt")
    torch.save({"what.weight": torch.rand(2, 3)}, tmp_path / "odd.pt")
    with pytest.raises(UnknownArchitectureError, match=r"Add --arch, e\.g\."):
        load_embedder(tmp_path / "odd.pt")


def test_a_gallery_tells_other_weights_by_the_kind_of_the_error(tmp_path, monkeypatch):
    """No behaviour hangs on how a message is worded."""
    torch.save(embedder_of().state_dict(), tmp_path / "mine.pt")
    torch.save(embedder_of("resnet14").state_dict(), tmp_path / "other.pt")
    key = open_embedder(tmp_path / "mine.pt", arch="resnet8")[1]
    for kind in (UnknownArchitectureError, OtherArchitectureError):
        monkeypatch.setattr(kind, "__str__", lambda self: "in other words")
    assert open_embedder(None, key=key)[1] == key
    with pytest.raises(MetaSiamError, match="is another embedder than the gallery was made with"):
        open_embedder(tmp_path / "other.pt", key=key)


def evaluated(weights, arch, folder, tiny_domains) -> int:
    domains = tiny_domains(domains=8, images=12, size=16)
    arrays = {
        f"{part}_{what}": getattr(domains, what)[rows].numpy()
        for part, rows in (("train", ~domains.is_test), ("test", domains.is_test))
        for what in ("images", "labels")
    }
    for part in ("train", "test"):
        arrays[f"{part}_images"] = arrays[f"{part}_images"].transpose(0, 2, 3, 1)
    np.savez(folder / "tiny.npz", **arrays)
    given = ["--data", f"npz:{folder / 'tiny.npz'}", "--held-out", "3", "--validation", "2", "--pairs", "20"]
    given += ["--episodes", "2x1", "--adapt-shots", "1"]
    return cli(["evaluate", str(weights), "--arch", arch, *given, "--device", "cpu", "--out", str(folder / "e")])


def test_evaluate_says_that_a_head_is_left_out(tmp_path, capsys, tiny_domains):
    state = prefixed(without_counters(embedder_of().state_dict()), "module.")
    torch.save({"state_dict": state | {"module.fc.weight": torch.rand(10, 64)}}, tmp_path / "w.th")
    assert evaluated(tmp_path / "w.th", "resnet8", tmp_path, tiny_domains) == 0
    assert "w.th has a head after the embedder (fc): left out" in capsys.readouterr().out
    assert (tmp_path / "e" / "evaluation.json").is_file()


@pytest.mark.slow
def test_the_best_known_public_weights_are_evaluated(shared_data, tmp_path, capsys, tiny_domains):
    weights = shared_data / "data" / "reference" / "resnet20-cifar10.th"
    assert evaluated(weights, "resnet20", tmp_path, tiny_domains) == 0
    assert "has a head after the embedder (linear): left out" in capsys.readouterr().out
