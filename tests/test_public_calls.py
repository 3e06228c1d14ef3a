"""Wrong calls of every public name: each is one clear error, in words of Python and not of the command line."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import metasiam as ms
from metasiam.arguments import WrongArgument
from metasiam.errors import in_python, on_command_line
from metasiam.gallery import EmbedderKey


class World(NamedTuple):
    """What calls need: a small domain set, its split, a run, an embedder, pairs and a gallery."""

    folder: Path
    domains: ms.DomainSet
    split: ms.Split
    run: ms.Run
    embedder: Any
    info: ms.EmbedderInfo
    pool: ms.Pool
    pairs: ms.PairSet
    gallery: ms.Gallery
    generator: torch.Generator


OPTIONS = {"arch": "resnet8", "iterations": 1, "batch_size": 4, "compile": "off"}


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_domains) -> World:
    folder = tmp_path_factory.mktemp("calls")
    domains = tiny_domains(domains=8)
    split = ms.split_domains(domains, held_out=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = ms.train("triplet", domains, split, out=folder / "run", **OPTIONS)
    embedder, info = ms.load_embedder(run.path)
    generator = torch.Generator().manual_seed(0)
    pool = domains.pool(split.seen, "train")
    count = 24
    pairs = ms.PairSet(
        images=domains.images[:count],
        names=tuple(map(str, range(count))),
        people=tuple(map(str, range(count))),
        first=torch.arange(0, count, 2),
        second=torch.arange(1, count, 2),
        same=torch.arange(count // 2) % 2 == 0,
        part=torch.arange(count // 2) % 3,
        fold=torch.zeros(count // 2, dtype=torch.int64),
        source="tiny",
    )
    gallery = ms.Gallery(EmbedderKey(str(run.path), "", info), mirror=False)
    return World(folder, domains, split, run, embedder, info, pool, pairs, gallery, generator)


def trained(world: World, method: Any = "triplet", **more: Any) -> Any:
    return ms.train(method, world.domains, world.split, out=world.folder / "new", **{**OPTIONS, **more})


def paired(world: World, pairs: Any = None, **more: Any) -> Any:
    options = {"arch": "resnet8", "head": "cosine", "epochs": 1, "batch_size": 4}
    return ms.train_pairs(pairs or world.pairs, out=world.folder / "new", **{**options, **more})


def searched(world: World, pairs: Any = None, choices: Any = ("lr=0.01",), **more: Any) -> Any:
    return ms.tune(pairs or world.pairs, choices, out=world.folder / "new", **{"epochs": 1, "device": "cpu", **more})


def domain_set(world: World, **more: Any) -> Any:
    given = {name: getattr(world.domains, name) for name in ("images", "labels", "names", "is_test")}
    return ms.DomainSet(**{**given, **more})


def swept(world: World, methods: Any = MappingProxyType({"triplet": {}}), shares: Any = (50,)) -> Any:
    return ms.sweep(methods, world.domains, shares, world.folder / "new", print, ms.ProtocolSettings())


def embedded(world: World, index: Any, **more: Any) -> Any:
    return ms.embed_images(world.embedder, world.info, world.domains, index, **more)


def fitted(kind: Any, scores: Any, same: Any) -> Any:
    return kind().fit(scores, same)


SAME, BOTH, NAN = torch.tensor([True, True]), torch.tensor([True, False]), torch.tensor([float("nan"), 0.0])


def episodes(world: World, **more: Any) -> Any:
    given = {"ways": 2, "shots": 1, "queries": 1, "episodes": 1, "generator": world.generator, **more}
    return ms.draw_episodes(given.pop("pool", world.pool), **given)


#: What is wrong in words, and the call.
CALLS: list[tuple[str, Callable[[World], Any]]] = [
    # loading
    ("load_domains(None)", lambda w: ms.load_domains(None)),
    ("load_domains('')", lambda w: ms.load_domains("")),
    ("load_domains(7)", lambda w: ms.load_domains(7)),
    ("load_domains(Path)", lambda w: ms.load_domains(Path("folder:x"))),
    ("load_domains('imagenet')", lambda w: ms.load_domains("imagenet")),
    ("load_domains image_size='32'", lambda w: ms.load_domains("glyphs", image_size="32")),
    ("load_domains image_size=(32, 'x')", lambda w: ms.load_domains("glyphs", image_size=(32, "x"))),
    ("load_domains image_size=2", lambda w: ms.load_domains("glyphs", image_size=2)),
    ("load_domains image_size=32.5", lambda w: ms.load_domains("glyphs", image_size=32.5)),
    ("load_domains test_fraction='a'", lambda w: ms.load_domains("glyphs", test_fraction="a")),
    ("load_domains nan as fraction", lambda w: ms.load_domains("glyphs", test_fraction=float("nan"))),
    ("load_domains data_dir=5", lambda w: ms.load_domains("mnist", data_dir=5)),
    ("load_domains folder not there", lambda w: ms.load_domains("folder:/nowhere")),
    ("load_pairs(None)", lambda w: ms.load_pairs(None)),
    ("load_pairs('glyphs')", lambda w: ms.load_pairs("glyphs")),
    ("load_pairs crop='a'", lambda w: ms.load_pairs("pairs:x.csv", crop="a")),
    ("load_pairs crop=1", lambda w: ms.load_pairs("pairs:x.csv", crop=1)),
    # splitting
    ("split_domains(None)", lambda w: ms.split_domains(None)),
    ("split_domains held_out='3'", lambda w: ms.split_domains(w.domains, held_out="3")),
    ("split_domains held_out=2.5", lambda w: ms.split_domains(w.domains, held_out=2.5)),
    ("split_domains held_out=None", lambda w: ms.split_domains(w.domains, held_out=None)),
    ("split_domains held_out=-1", lambda w: ms.split_domains(w.domains, held_out=-1)),
    ("split_domains held_out=100", lambda w: ms.split_domains(w.domains, held_out=100)),
    ("split_domains validation=[1]", lambda w: ms.split_domains(w.domains, held_out=2, validation=[1])),
    ("split_domains split='nowhere'", lambda w: ms.split_domains(w.domains, split="nowhere")),
    ("split_domains split=5", lambda w: ms.split_domains(w.domains, split=5)),
    ("split_domains split=dict", lambda w: ms.split_domains(w.domains, split={"train": []})),
    # making domain and pair sets
    ("DomainSet of floats", lambda w: domain_set(w, images=w.domains.images.float())),
    ("DomainSet of numpy", lambda w: domain_set(w, images=w.domains.images.numpy())),
    ("DomainSet channels last", lambda w: domain_set(w, images=w.domains.images.permute(0, 2, 3, 1))),
    ("DomainSet labels list", lambda w: domain_set(w, labels=w.domains.labels.tolist())),
    ("DomainSet labels beyond names", lambda w: domain_set(w, names=("a", "b"))),
    ("DomainSet names None", lambda w: domain_set(w, names=None)),
    ("PairSet first None", lambda w: replace(w.pairs, first=None)),
    ("PairSet index beyond", lambda w: replace(w.pairs, first=w.pairs.first + 100)),
    ("pool of no domains", lambda w: w.domains.pool((), "train")),
    ("pool of an unknown part", lambda w: w.domains.pool((0,), "valid")),
    ("pool of domain 99", lambda w: w.domains.pool((99,), "train")),
    # drawing tasks
    ("draw_episodes ways=99", lambda w: episodes(w, ways=99)),
    ("draw_episodes ways='2'", lambda w: episodes(w, ways="2")),
    ("draw_episodes ways=0", lambda w: episodes(w, ways=0)),
    ("draw_episodes shots=-1", lambda w: episodes(w, shots=-1)),
    ("draw_episodes episodes=0.5", lambda w: episodes(w, episodes=0.5)),
    ("draw_episodes shots=99", lambda w: episodes(w, shots=99)),
    ("draw_episodes pool=domains", lambda w: episodes(w, pool=w.domains)),
    ("draw_episodes generator=0", lambda w: episodes(w, generator=0)),
    ("draw_pairs count='x'", lambda w: ms.draw_pairs(w.pool, w.pool, "x", w.generator)),
    ("draw_pairs count=-2", lambda w: ms.draw_pairs(w.pool, w.pool, -2, w.generator)),
    ("draw_pairs generator=None", lambda w: ms.draw_pairs(w.pool, w.pool, 4, None)),
    ("draw_pairs pool=domains", lambda w: ms.draw_pairs(w.domains, w.pool, 4, w.generator)),
    ("draw_pairs only domain", lambda w: ms.draw_pairs(w.pool.only([0]), w.pool.only([0]), 4, w.generator)),
    ("draw_triplets shape=8", lambda w: ms.draw_triplets(w.pool, w.pool, 8, w.generator)),
    ("draw_triplets shape=(-1,)", lambda w: ms.draw_triplets(w.pool, w.pool, (-1,), w.generator)),
    ("draw_triplets generator=5", lambda w: ms.draw_triplets(w.pool, w.pool, (8,), 5)),
    ("draw_triplets pool=None", lambda w: ms.draw_triplets(None, w.pool, (8,), w.generator)),
    # training
    ("train(None)", lambda w: trained(w, None)),
    ("train('tripplet')", lambda w: trained(w, "tripplet")),
    ("train seed='x'", lambda w: trained(w, seed="x")),
    ("train lr=-1", lambda w: trained(w, lr=-1)),
    ("train lr=inf", lambda w: trained(w, lr=float("inf"))),
    ("train batch_size=0", lambda w: trained(w, batch_size=0)),
    ("train batch_size=10**20", lambda w: trained(w, batch_size=10**20)),
    ("train weight_decay='a'", lambda w: trained(w, weight_decay="a")),
    ("train learning_rate=1", lambda w: trained(w, learning_rate=1)),
    ("train arch='vgg'", lambda w: trained(w, arch="vgg")),
    ("train domains=name", lambda w: ms.train("triplet", "glyphs", w.split, out=w.folder / "new")),
    ("train split=None", lambda w: ms.train("triplet", w.domains, None, out=w.folder / "new")),
    ("train split=10", lambda w: ms.train("triplet", w.domains, 10, out=w.folder / "new")),
    ("train out=5", lambda w: ms.train("triplet", w.domains, w.split, out=5, **OPTIONS)),
    ("train out=a run", lambda w: ms.train("triplet", w.domains, w.split, out=w.run.path, **OPTIONS)),
    ("train resume=nowhere", lambda w: ms.train("triplet", w.domains, w.split, resume="nowhere")),
    ("train checkpoint_every='a'", lambda w: trained(w, checkpoint_every="a")),
    ("train checkpoint_every=-1", lambda w: trained(w, checkpoint_every=-1)),
    ("tune(domains)", lambda w: searched(w, w.domains)),
    ("tune without choices", lambda w: searched(w, choices=[])),
    ("tune an option that there is not", lambda w: searched(w, choices=["speed=1,2"])),
    ("tune strategy='bayes'", lambda w: searched(w, strategy="bayes")),
    ("tune trials=1.5", lambda w: searched(w, trials=1.5)),
    ("tune a grid over a range", lambda w: searched(w, choices=["lr=0.1..0.2"])),
    ("train_pairs(domains)", lambda w: paired(w, w.domains)),
    ("train_pairs('lfw')", lambda w: paired(w, "lfw")),
    ("train_pairs head='x'", lambda w: paired(w, head="x")),
    ("train_pairs validation=2", lambda w: paired(w, validation=2)),
    ("train_pairs seed=1.5", lambda w: paired(w, seed=1.5)),
    # measuring
    ("evaluate(None)", lambda w: ms.evaluate(None, w.domains, w.split)),
    ("evaluate(nowhere)", lambda w: ms.evaluate("nowhere", w.domains, w.split)),
    ("evaluate domains=None", lambda w: ms.evaluate(w.run, None, w.split)),
    ("evaluate split=None", lambda w: ms.evaluate(w.run, w.domains, None)),
    ("evaluate shots=()", lambda w: ms.evaluate(w.run, w.domains, w.split, shots=())),
    ("evaluate shots=5", lambda w: ms.evaluate(w.run, w.domains, w.split, shots=5)),
    ("evaluate shots=(-1,)", lambda w: ms.evaluate(w.run, w.domains, w.split, shots=(-1,))),
    ("evaluate pairs='x'", lambda w: ms.evaluate(w.run, w.domains, w.split, pairs="x")),
    ("evaluate pears=5", lambda w: ms.evaluate(w.run, w.domains, w.split, pears=5)),
    ("evaluate device='tpu'", lambda w: ms.evaluate(w.run, w.domains, w.split, device="tpu")),
    ("evaluate device=None", lambda w: ms.evaluate(w.run, w.domains, w.split, device=None)),
    ("evaluate seed='x'", lambda w: ms.evaluate(w.run, w.domains, w.split, seed="x")),
    ("ProtocolSettings shots=()", lambda w: ms.ProtocolSettings(shots=())),
    ("ProtocolSettings shots=('few',)", lambda w: ms.ProtocolSettings(shots=("few",))),
    ("ProtocolSettings regimes=()", lambda w: ms.ProtocolSettings(regimes=(), episodes=0)),
    ("ProtocolSettings regimes=([],)", lambda w: ms.ProtocolSettings(regimes=([],))),
    ("ProtocolSettings episode_kinds=(5, 1)", lambda w: ms.ProtocolSettings(episode_kinds=(5, 1))),
    ("ProtocolSettings threshold='x'", lambda w: ms.ProtocolSettings(threshold="x")),
    ("compare({})", lambda w: ms.compare({}, w.domains, w.split)),
    ("compare(None)", lambda w: ms.compare(None, w.domains, w.split)),
    ("compare([run])", lambda w: ms.compare([w.run], w.domains, w.split)),
    ("compare paths", lambda w: ms.compare({"a": str(w.run.path)}, w.domains, w.split)),
    ("compare a: None", lambda w: ms.compare({"a": None}, w.domains, w.split)),
    ("compare a: []", lambda w: ms.compare({"a": []}, w.domains, w.split)),
    ("compare settings=dict", lambda w: ms.compare({"a": w.run}, w.domains, w.split, {"pairs": 10})),
    ("sweep methods={}", lambda w: swept(w, methods={})),
    ("sweep shares=50", lambda w: swept(w, shares=50)),
    ("sweep 0 percent", lambda w: swept(w, shares=[0])),
    ("sweep shares=[]", lambda w: swept(w, shares=[])),
    ("sweep methods=list", lambda w: swept(w, methods=["triplet"])),
    # embedders and runs
    ("build_embedder('vgg')", lambda w: ms.build_embedder("vgg")),
    ("build_embedder(None)", lambda w: ms.build_embedder(None)),
    ("build_embedder channels='3'", lambda w: ms.build_embedder("resnet8", channels="3")),
    ("build_embedder channels=0", lambda w: ms.build_embedder("resnet8", channels=0)),
    ("build_embedder channels=10**9", lambda w: ms.build_embedder("resnet8", channels=10**9)),
    ("build_embedder image_size=32", lambda w: ms.build_embedder("conv4", image_size=32)),
    ("build_embedder too small", lambda w: ms.build_embedder("conv4", image_size=(4, 4))),
    ("load_embedder(None)", lambda w: ms.load_embedder(None)),
    ("load_embedder('nowhere')", lambda w: ms.load_embedder("nowhere")),
    ("load_embedder mean='x'", lambda w: ms.load_embedder(w.run.path, mean="x")),
    ("load_embedder colour=3", lambda w: ms.load_embedder(w.run.path, colour=3)),
    ("load_embedder mean=0.5", lambda w: ms.load_embedder(w.run.path, mean=0.5)),
    ("load_embedder channels=10**9", lambda w: ms.load_embedder(w.run.path, channels=10**9)),
    ("load_embedder image_size=8", lambda w: ms.load_embedder(w.run.path, image_size=8)),
    ("save_embedder nowhere", lambda w: ms.save_embedder("/nowhere/x.safetensors", w.embedder, w.info)),
    ("save_embedder info=None", lambda w: ms.save_embedder(w.folder / "w.safetensors", w.embedder, None)),
    (
        "save_embedder embedder=state",
        lambda w: ms.save_embedder(w.folder / "w.safetensors", {}, w.info),
    ),
    ("open_run(None)", lambda w: ms.open_run(None)),
    ("open_run('nowhere')", lambda w: ms.open_run("nowhere")),
    ("embed_images index=list", lambda w: embedded(w, [0, 1])),
    ("embed_images index floats", lambda w: embedded(w, torch.zeros(2))),
    ("embed_images index beyond", lambda w: embedded(w, torch.tensor([9999]))),
    (
        "embed_images batch_size=0",
        lambda w: embedded(w, torch.tensor([0]), batch_size=0),
    ),
    ("embed_images domains=images", lambda w: ms.embed_images(w.embedder, w.info, w.domains.images, torch.tensor([0]))),
    # galleries and calibrators
    ("load_gallery(None)", lambda w: ms.load_gallery(None)),
    ("load_gallery('nowhere')", lambda w: ms.load_gallery("nowhere")),
    ("identify empty gallery", lambda w: ms.identify(w.gallery, torch.zeros(1, 64))),
    ("enroll(None)", lambda w: ms.enroll(None)),
    ("enroll of no embedder", lambda w: ms.enroll({"a": w.domains.images[:2]})),
    ("enroll device='tpu'", lambda w: ms.enroll({"a": w.domains.images[:2]}, w.run, device="tpu")),
    ("match of nothing", lambda w: ms.match(None, None, w.run)),
    ("match of files that are not there", lambda w: ms.match("a.png", "b.png", w.run)),
    ("match distance='far'", lambda w: ms.match(torch.zeros(2), torch.zeros(2), distance="far")),
    ("identify(None)", lambda w: ms.identify(None, torch.zeros(1, 64))),
    (
        "with_pictures unknown",
        lambda w: w.gallery.with_pictures("unknown", ["a"], NAN, NAN),
    ),
    ("ThresholdCalibrator('mine')", lambda w: ms.ThresholdCalibrator("mine")),
    ("ThresholdCalibrator no fit", lambda w: ms.ThresholdCalibrator().predict(torch.zeros(2))),
    ("ThresholdCalibrator one answer", lambda w: fitted(ms.ThresholdCalibrator, torch.zeros(2), SAME)),
    ("ThresholdCalibrator lists", lambda w: fitted(ms.ThresholdCalibrator, [0.1, 0.2], [True, False])),
    ("ThresholdCalibrator nothing", lambda w: fitted(ms.ThresholdCalibrator, torch.zeros(0), SAME[:0])),
    ("ThresholdCalibrator lengths", lambda w: fitted(ms.ThresholdCalibrator, torch.zeros(3), BOTH)),
    ("ThresholdCalibrator nan", lambda w: fitted(ms.ThresholdCalibrator, NAN, BOTH)),
    ("ProbabilityCalibrator('beta')", lambda w: ms.ProbabilityCalibrator("beta")),
    ("ProbabilityCalibrator no fit", lambda w: ms.ProbabilityCalibrator().predict(torch.zeros(2))),
    ("ProbabilityCalibrator one answer", lambda w: fitted(ms.ProbabilityCalibrator, torch.zeros(2), SAME)),
    ("ProbabilityCalibrator lists", lambda w: fitted(ms.ProbabilityCalibrator, [0.1, 0.2], [True, False])),
    ("ProbabilityCalibrator nan", lambda w: fitted(ms.ProbabilityCalibrator, NAN, BOTH)),
]


#: Arguments that errors speak of without their name.
SAID_OTHERWISE = {
    "ways": "way",
    "shots": "shot",
    "resume": "not a run folder",
    "regimes": "regime",
    "episode_kinds": "ways",
    "methods": "method",
    "shares": "share",
}


@pytest.fixture
def words_of_python() -> Iterator[None]:
    with on_command_line(False):
        yield


@pytest.mark.parametrize(("said", "call"), CALLS, ids=[said for said, _ in CALLS])
def test_a_wrong_call_is_one_clear_error_in_words_of_python(world, words_of_python, said, call):
    with pytest.raises(Exception) as caught:  # which one, is asked below
        call(world)
    error = caught.value
    assert type(error) in (ms.MetaSiamError, WrongArgument, ValueError)
    assert "metasiam" in Path(caught.traceback[-1].path).parts  # ours, and not what torch makes of it
    text = str(error)
    assert text
    assert "\n" not in text
    assert in_python(text) == text  # no option is left in it, but for whole commands
    named = re.search(r" (\w+)=", said)
    assert named is None or SAID_OTHERWISE.get(named[1], named[1]) in text
    assert not (world.folder / "new").exists()


def test_every_public_function_is_called_wrongly():
    functions = [name for name in ms.__all__ if callable(getattr(ms, name)) and name[0].islower()]
    called = {re.match(r"\w+", said)[0] for said, _ in CALLS}
    assert sorted(set(functions) - called) == []


def test_numbers_of_numpy_and_torch_are_taken(world, words_of_python):
    domains = ms.load_domains(f"npz:{saved(world)}", image_size=np.int64(8))
    assert domains.image_size == (8, 8)
    split = ms.split_domains(domains, held_out=torch.tensor(3), validation=np.uint8(1))
    assert (len(split.held_out), len(split.validation)) == (3, 1)
    run = trained(world, lr=np.float32(0.5), seed=np.int64(3), batch_size=torch.tensor(4), overwrite=True)
    assert ms.open_run(run.path).config["options"]["lr"] == 0.5
    pairs = ms.draw_pairs(world.pool, world.pool, np.int32(10), world.generator)
    assert len(pairs.same) == 10
    shutil.rmtree(run.path)


def saved(world: World) -> Path:
    """Return the domain set as an .npz file."""
    path, domains = world.folder / "domains.npz", world.domains
    arrays = {}
    for part, rows in (("train", ~domains.is_test), ("test", domains.is_test)):
        arrays[f"{part}_images"] = domains.images[rows].permute(0, 2, 3, 1).numpy()
        arrays[f"{part}_labels"] = domains.labels[rows].numpy()
    np.savez(path, **arrays)
    return path


# --- words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("--lr must be positive, not -1. Try --lr 0.001.", "lr must be positive, not -1. Try lr=0.001."),
        ("--image-size 5000 is not between 4 and 1024.", "image_size=5000 is not between 4 and 1024."),
        ("Add --arch, e.g. --arch resnet56.", "Add arch, e.g. arch='resnet56'."),
        ("Use --resume 'my run' to go on, or --overwrite.", "Use resume='my run' to go on, or overwrite=True."),
        ("--out /tmp/x.y is a file.", "out='/tmp/x.y' is a file."),
        ("--arch vgg is unknown.", "arch vgg is unknown."),
        ("Use metasiam compare --resume /tmp/x. Or --lr 1.", "Use metasiam compare --resume /tmp/x. Or lr=1."),
        ("a -- b --- c", "a -- b --- c"),
    ],
)
def test_options_become_arguments_and_whole_commands_stay(typed, written):
    assert in_python(typed) == written
    assert in_python(written) == written
    assert str(ms.MetaSiamError(typed)) == typed  # as the command line tells it
    with on_command_line(False):
        assert str(ms.MetaSiamError(typed)) == written
