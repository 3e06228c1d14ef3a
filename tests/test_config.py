"""Options: every value is of its field's kind, and no architecture is offered that the method cannot use."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from metasiam import MetaSiamError, load_embedder, split_domains, train
from metasiam.catalogue import EMBEDDERS, Entry
from metasiam.cli import run
from metasiam.models import build_embedder
from metasiam.models.resnet_cifar import RESNETS_CIFAR
from metasiam.options.declare import declared
from metasiam.options.few_shot import AnilOptions, BaselineOptions, FomamlOptions, MamlOptions, ProtoNetOptions
from metasiam.options.pairs import SiameseOptions
from metasiam.options.reptile import ReptileOptions
from metasiam.options.training import options_of
from metasiam.options.triplet import TripletOptions

ALL_KINDS = [
    ReptileOptions,
    TripletOptions,
    SiameseOptions,
    BaselineOptions,
    ProtoNetOptions,
    FomamlOptions,
    MamlOptions,
    AnilOptions,
]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lr": "a"}, "--lr must be a number, not 'a'."),
        ({"lr": None}, "--lr must be a number, not None."),
        ({"lr": True}, "--lr must be a number, not True."),
        ({"lr": np.array([0.5])}, "--lr must be a number, not "),
        ({"lr": float("inf")}, "--lr must be a finite number, not inf."),
        ({"margin": float("nan")}, "--margin must be a finite number, not nan."),
        ({"iterations": 10**23}, "--iterations must be at most 1,000,000,000, not 100000000000000000000000."),
        ({"batch_size": 10**20}, "--batch-size must be at most 1,048,576, not 100000000000000000000."),
        ({"task_shots": -(10**5000)}, "--task-shots must be at most 1,000,000,000, not a number of more than 40"),
        ({"seed": 2**63}, "--seed must be at most 9,223,372,036,854,775,807, not 9223372036854775808."),
        ({"margin": "wide"}, "--margin must be a number or None, not 'wide'."),
        ({"batch_size": "x"}, "--batch-size must be a whole number, not 'x'."),
        ({"batch_size": 8.0}, "--batch-size must be a whole number, not 8.0."),
        ({"seed": False}, "--seed must be a whole number, not False."),
        ({"task_shots": [5]}, "--task-shots must be a whole number or None, not a list."),
        ({"flip": "no"}, "--flip must be True or False or None, not 'no'."),
        ({"flip": 1}, "--flip must be True or False or None, not 1."),
        ({"device": None}, "--device must be text, not None."),
        ({"init": 5}, "--init must be text or None, not 5."),
        ({"arch": None, "init": "runs/a"}, "--arch must be text, not None."),
    ],
)
def test_a_value_of_another_kind_is_refused_in_words(tmp_path, tiny_domains, options, text):
    domains = tiny_domains()
    options = {"arch": "resnet8", "iterations": 1, "inner_epochs": 1, "batch_size": 4, "compile": "off", **options}
    with pytest.raises(MetaSiamError) as caught:
        train("reptile", domains, split_domains(domains, held_out=2), out=tmp_path / "run", **options)
    assert str(caught.value).startswith(text)
    assert not (tmp_path / "run").exists()


def test_of_pairs_and_in_a_method_s_own_options_too():
    with pytest.raises(MetaSiamError, match="--freeze must be True or False, not 'yes'"):
        SiameseOptions(freeze="yes")
    with pytest.raises(MetaSiamError, match="--layer-l2 must be text or None, not 0.1"):
        SiameseOptions(layer_l2=0.1)
    with pytest.raises(MetaSiamError, match="--inner-rate must be a number, not '0.1'"):
        FomamlOptions(inner_rate="0.1")


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_saved_options_are_of_their_kinds_and_a_whole_number_is_a_number(kind):
    config = options_of(kind, {"lr": 1, "margin": 2, "flip": True, "init": Path("runs/a")})
    assert config.init == "runs/a"
    assert options_of(kind, config.as_dict()) == config


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path, tiny_domains):
    config = ReptileOptions(lr=np.float32(0.5), batch_size=np.int64(8), flip=np.bool_(True), margin=torch.tensor(0.25))
    assert config == ReptileOptions(lr=0.5, batch_size=8, flip=True, margin=0.25)
    json.dumps(config.as_dict())  # and so a run can be saved


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ALL_KINDS for name, option in declared(kind).items() if option.kind is float],
)
def test_no_number_of_any_method_may_be_infinite(kind, name):
    for value in (float("inf"), float("-inf"), float("nan")):
        with pytest.raises(MetaSiamError, match=f"^--{name.replace('_', '-')} must be a finite number, not {value}"):
            kind(**{name: value})


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ALL_KINDS for name, option in declared(kind).items() if option.kind is int],
)
def test_no_whole_number_of_any_method_may_be_larger_than_a_computer_counts(kind, name):
    with pytest.raises(MetaSiamError, match=f"^--{name.replace('_', '-')} must be at most [0-9,]+, not 1{'0' * 23}"):
        kind(**{name: 10**23})


@pytest.mark.parametrize("text", ["inf", "1,nan", "-1", "x", "1e999"])
def test_lists_of_numbers_are_finite_and_not_negative(text):
    for name in ("milestones", "layer_l2"):
        with pytest.raises(MetaSiamError, match=f"^--{name.replace('_', '-')} must be numbers separated by commas"):
            SiameseOptions(**{name: text})


# --- architectures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EMBEDDERS)
def test_an_embedder_is_offered_where_it_can_be_used(name):
    with torch.device("meta"):
        embedder = build_embedder(name, image_size=(80, 80), pretrained=False)
    assert SiameseOptions(arch=name).arch == name
    if any(p.requires_grad for p in embedder.parameters()):
        assert ReptileOptions(arch=name).arch == name
    else:
        with pytest.raises(MetaSiamError, match=f"reptile's --arch {name} is unknown"):
            ReptileOptions(arch=name)


def test_an_embedder_of_one_s_own_can_be_trained_once_it_has_a_name(tmp_path, tiny_domains, monkeypatch):
    monkeypatch.setitem(RESNETS_CIFAR, "mine", RESNETS_CIFAR["resnet8"])
    monkeypatch.setitem(EMBEDDERS, "mine", Entry("mine", "metasiam.models.resnet_cifar:RESNETS_CIFAR", "mine"))
    domains = tiny_domains()
    options = {"arch": "mine", "iterations": 1, "batch_size": 4, "compile": "off"}
    made = train("triplet", domains, split_domains(domains, held_out=2), out=tmp_path / "run", **options)
    assert load_embedder(made.path)[1].arch == "mine"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["reptile", "--arch", "foo"], "reptile's --arch foo is unknown. Use one of: resnet8, "),
        (["triplet", "--arch", "fisher"], "triplet's --arch fisher is unknown. Use one of: resnet8, "),
        (["sweep", "--arch", "foo"], "triplet's --arch foo is unknown"),
        (["compare", "--methods", "maml", "--arch", "foo"], "maml's --arch foo is unknown"),
        (["siamese", "--arch", "foo"], "siamese's --arch foo is unknown"),
        (["tune", "--try", "arch=fisher,foo"], "siamese's --arch foo is unknown"),
        (["triplet", "--loss", "hinge"], "triplet's --loss hinge is unknown. Use one of: cosine, "),
        (["siamese", "--loss", "cosine"], "siamese's --loss cosine is unknown. Use one of: bce, contrastive."),
        (["reptile", "--init", "nowhere"], "nowhere does not exist"),
    ],
)
def test_names_and_weights_are_looked_at_before_the_data(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    for place in ("empty", "empty.csv"):  # nothing in them could be loaded
        (tmp_path / place).mkdir() if place == "empty" else (tmp_path / place).touch()
    data = "pairs:empty.csv" if arguments[0] in ("siamese", "tune") else "folder:empty"
    assert run([*arguments, "--data", data]) == 2
    assert text in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "empty.csv"}
