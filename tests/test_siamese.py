"""Siamese training: losses, schedules, early stopping, exact resume, the solved head, and tiny runs end to end."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pair_samples import write_lfw, write_list
from PIL import Image
from safetensors.torch import load_file, save_file

import metasiam as ms
from metasiam.cli import run as metasiam_command
from metasiam.cli.signals import Terminated
from metasiam.data.pairs import PairSet, groups_of, keep_validation
from metasiam.data.sources import load_pairs
from metasiam.errors import MetaSiamError
from metasiam.evaluation.embedding import embed_batch
from metasiam.evaluation.pair_result import judge
from metasiam.learners.pair_model import build_pair_model
from metasiam.learners.siamese import Siamese
from metasiam.learners.solved_head import SolvedHead
from metasiam.learners.trained_head import HEAD_FILE, load_pair_model
from metasiam.losses import contrastive, pair_bce
from metasiam.models import build_embedder
from metasiam.models.files import EmbedderInfo, load_embedder, save_embedder
from metasiam.models.fisher import FisherFaces
from metasiam.models.koch import KOCH_NETWORKS, KochNetwork
from metasiam.options.pairs import SiameseOptions
from metasiam.pair_session import train_pairs
from metasiam.reports.pair_report import write_pair_report
from metasiam.session import TrainingStopped
from metasiam.training.schedules import epoch_rate
from metasiam.training.stopping import EarlyStopping
from metasiam.workflows import folds
from metasiam.workflows.folds import train_folds

QUICK = {"arch": "conv4", "head": "features", "lr": 0.01, "batch_size": 16, "precision": "fp32"}


@pytest.fixture(scope="module")
def lfw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lfw(tmp_path_factory.mktemp("lfw"))


@pytest.fixture(scope="module")
def pairs(lfw: Path) -> PairSet:
    return load_pairs("lfw", data_dir=lfw, image_size=16)


def learner_for(pairs: PairSet, **options: object) -> Siamese:
    config = SiameseOptions(**{**QUICK, "flip": True, **options})  # type: ignore[arg-type]
    parted = keep_validation(pairs, config.validation, torch.Generator().manual_seed(0))
    return Siamese(config, parted, build_pair_model(config, parted))


def test_losses_equal_naive_loops() -> None:
    torch.manual_seed(0)
    logits, same = torch.randn(7), torch.arange(7) % 2 == 0
    naive = sum(-math.log(1 / (1 + math.exp(-x if s else x))) for x, s in zip(logits.tolist(), same, strict=True)) / 7
    assert float(pair_bce(logits, same)) == pytest.approx(naive, rel=1e-5)
    a, b = torch.randn(7, 3), torch.randn(7, 3)
    total = 0.0
    for p in range(7):
        d = float((a[p] - b[p]).norm())
        total += d * d if same[p] else max(0.0, 2.0 - d) ** 2
    assert float(contrastive(a, b, same, 2.0)) == pytest.approx(total / 7, rel=1e-5)


@pytest.mark.parametrize("schedule", ["none", "step", "multistep", "exponential", "cosine"])
def test_schedules_are_torchs_own(schedule: str) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.3)
    lr_scheduler = torch.optim.lr_scheduler
    torchs = {
        "none": lambda: lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0),
        "step": lambda: lr_scheduler.StepLR(optimizer, 3, gamma=0.2),
        "multistep": lambda: lr_scheduler.MultiStepLR(optimizer, [2, 5, 9], gamma=0.2),
        "exponential": lambda: lr_scheduler.ExponentialLR(optimizer, gamma=0.2),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, T_max=12),
    }[schedule]()
    for epoch in range(12):
        ours = epoch_rate(schedule, 0.3, epoch, epochs=12, step_size=3, milestones=(2, 5, 9), gamma=0.2)
        assert ours == pytest.approx(torchs.get_last_lr()[0], rel=1e-6, abs=1e-12)
        optimizer.step()
        torchs.step()


def test_early_stopping_waits_for_patience_and_ignores_small_gains() -> None:
    watched = EarlyStopping(2, min_delta=0.1)
    assert [watched.update(value) for value in (1.0, 0.5, 0.45, 0.41)] == [True, True, False, False]
    assert watched.exhausted
    assert (watched.best, watched.best_epoch) == (0.5, 1)


def test_early_stopping_can_want_higher_values_and_never_takes_nan() -> None:
    watched = EarlyStopping(3, higher_is_better=True)
    assert [watched.update(value) for value in (0.5, math.nan, 0.6)] == [True, False, True]
    assert not watched.exhausted
    other = EarlyStopping(3, higher_is_better=True)
    other.load(watched.state())
    assert (other.best, other.best_epoch, other.exhausted) == (0.6, 2, False)
    assert not EarlyStopping(None).exhausted


def test_early_stopping_brings_the_best_weights_back(pairs: PairSet, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learner_for(pairs, epochs=10, patience=2)
    losses = iter([0.9, 0.3, 0.5, 0.6])
    kept = []

    def measured(rows: torch.Tensor) -> tuple[torch.Tensor, float]:
        kept.append([weight.detach().clone() for weight in learner.model.embedder.parameters()])
        return torch.zeros(len(rows)), next(losses)

    monkeypatch.setattr(learner, "measure", measured)
    iteration = 0
    while iteration < learner.total:
        learner.iterate(iteration, lambda: False)
        iteration += 1
    assert iteration == 4 * learner.batches
    learner.finish()
    now = list(learner.model.embedder.parameters())
    assert all(torch.equal(weight, best) for weight, best in zip(now, kept[1], strict=True))
    assert not all(torch.equal(weight, last) for weight, last in zip(now, kept[3], strict=True))


def test_every_training_pair_is_met_once_an_epoch(pairs: PairSet, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learner_for(pairs, batch_size=7)
    met: list[int] = []
    monkeypatch.setattr(
        learner,
        "_step",
        lambda batch, *rest: (met.extend(batch.tolist()), (torch.zeros(()), torch.zeros(len(batch))))[1],
    )
    monkeypatch.setattr(learner, "_finish_epoch", lambda done: None)
    for iteration in range(learner.batches):
        learner.iterate(iteration, lambda: False)
    assert sorted(met) == learner.rows.tolist()


def test_each_layer_has_its_own_penalty(pairs: PairSet) -> None:
    groups = learner_for(pairs, layer_l2="0.1,0.2").optimizer.param_groups  # type: ignore[union-attr]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.2, 0.2, 0.2, 0.2, 0.0]
    assert all(weight.ndim == 1 for weight in groups[-1]["params"])


@pytest.mark.parametrize("loss", ["bce", "contrastive"])
def test_a_tiny_run_learns_and_leaves_everything(lfw: Path, pairs: PairSet, tmp_path: Path, loss: str) -> None:
    trained = train_pairs(pairs, out=tmp_path / "run", epochs=4, loss=loss, **QUICK)
    written = write_pair_report(trained)
    metrics = trained.evaluation["held_out"]["closed"]["0"]
    assert metrics["auc"]["ci95"][0] < metrics["auc"]["mean"] > 0.7
    assert metrics["pair_accuracy"]["global"]["n"] == 20
    rows = [row for row in trained.run.metrics() if "epoch" in row]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert all(path.is_file() for path in written)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Test 0" in page
    assert "On 20 test pairs of LFW, conv4 is right about same/different in" in page
    assert "always giving the same answer would be right in 50" in page
    for word in ("EER (less is better)", "constant answer", "validation AUC", "The pairs"):
        assert word in page
    for word in ("held-out", "antidomain", "images known", "Calibrated (per task)", "–</td>"):  # of other pages
        assert word not in page
    assert "The threshold was chosen on" in page
    assert "validation pairs" in page
    assert "held-out class" not in page
    _, info = load_embedder(tmp_path / "run")
    assert info.threshold is not None
    assert info.image_size == (16, 16)
    assert list((tmp_path / "run" / "tensorboard").glob("*.validation"))


def test_saved_weights_give_the_same_answers(pairs: PairSet, tmp_path: Path) -> None:
    trained = train_pairs(pairs, out=tmp_path / "run", epochs=1, **QUICK)
    model, head = load_pair_model(tmp_path / "run", torch.device("cpu"))
    rows = trained.pairs.rows("test")
    embeddings = model.embed(trained.pairs.images)
    scores = model.compare(embeddings, trained.pairs.first[rows], trained.pairs.second[rows])
    assert torch.allclose(scores, trained.result.scores, atol=1e-5)
    assert torch.allclose(head.calibrated(scores), trained.result.probability, atol=1e-5)
    assert head.threshold == trained.result.threshold


@pytest.mark.parametrize(
    "options",
    [{}, {"loss": "contrastive", "margin": 2.0}, {"head": "l1", "mirror": True}],
    ids=["features", "contrastive", "l1 mirrored"],
)
def test_a_run_s_head_decides_in_match_at_the_run_s_threshold(
    lfw: Path, pairs: PairSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, object]
) -> None:
    trained = train_pairs(pairs, out=tmp_path / "run", epochs=1, **{**QUICK, **options})
    embedder, info = trained.run.embedder()
    head = trained.run.head()
    rows = trained.pairs.rows("test")[:4]
    first, second = trained.pairs.images[trained.pairs.first[rows]], trained.pairs.images[trained.pairs.second[rows]]
    assert head.threshold == trained.result.threshold
    if not options.get("mirror"):
        embedded = [embed_batch(embedder, info, images) for images in (first, second)]
        assert head(*embedded) == pytest.approx(trained.result.scores[:4], abs=1e-4)
        assert head.probability(*embedded) == pytest.approx(trained.result.probability[:4], abs=1e-4)
        assert head.same(*embedded).tolist() == (trained.result.scores[:4] > head.threshold).tolist()
    files = []
    for place in range(4):
        verdict = ms.match(first[place], second[place], trained.run)
        assert verdict.similarity == pytest.approx(float(trained.result.scores[place]), abs=1e-4)
        assert verdict.probability == pytest.approx(float(trained.result.probability[place]), abs=1e-4)
        assert verdict.same == bool(trained.result.scores[place] > trained.result.threshold)
        assert ms.match(first[place], second[place], str(trained.run.path)) == verdict
        for name, image in (("a", first[place]), ("b", second[place])):
            files.append(str(tmp_path / f"{name}{place}.png"))
            Image.fromarray(image[0].numpy()).save(files[-1])
    code = metasiam_command(["match", *files[:2], "--weights", str(trained.run.path), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["similarity"] == pytest.approx(float(trained.result.scores[0]), abs=1e-3)
    assert code == (0 if said["same"] else 1)
    metasiam_command(["match", *files[:2], "--weights", str(trained.run.path / "embedder.safetensors"), "--json"])
    assert json.loads(capsys.readouterr().out)["threshold"] == pytest.approx(info.threshold, abs=1e-4)


def test_a_head_of_before_says_what_its_threshold_says(pairs: PairSet, tmp_path: Path) -> None:
    trained = train_pairs(pairs, out=tmp_path / "run", epochs=1, **QUICK)
    path = tmp_path / "run" / HEAD_FILE
    old = {"head": "features", "threshold": "0.25", "mirror": "False", "difference_weight": "0.5"}
    save_file(load_file(path), path, metadata=old)
    head = trained.run.head()
    assert head.threshold == 0.25
    assert head.calibrated(torch.tensor([0.25, 1.25])).tolist() == pytest.approx([0.5, 0.7310586])
    save_file(load_file(path), path, metadata={**old, "head": "bilinear"})
    with pytest.raises(MetaSiamError, match=r"is a damaged head \(its head is 'bilinear'"):
        trained.run.head()
    save_file(load_file(path), path, metadata={})
    with pytest.raises(MetaSiamError, match="is a damaged head"):
        trained.run.head()
    path.unlink()
    with pytest.raises(MetaSiamError, match=r"has no head.safetensors: only metasiam siamese"):
        trained.run.head()


@pytest.mark.parametrize(
    "options", [{"patience": 2}, {"arch": "koch", "dropout": 0.5, "affine": 1.0, "batch_size": 24}]
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    lfw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    pairs = load_pairs("lfw", data_dir=lfw, image_size=16 if "arch" not in options else 65)
    monkeypatch.setitem(KOCH_NETWORKS, "koch", partial(KochNetwork, units=8))
    monkeypatch.setattr("metasiam.models.koch.CONVOLUTIONS", ((4, 10), (4, 7), (4, 4), (4, 4)))
    values = {**QUICK, "head": "l1", "epochs": 3, **options}
    whole = train_pairs(pairs, out=tmp_path / "whole", **values)
    calls, stop_at = iter(range(100)), 2
    ordinary = Siamese.iterate
    monkeypatch.setattr(
        Siamese, "iterate", lambda self, i, stop: ordinary(self, i, (lambda: True) if next(calls) == stop_at else stop)
    )
    with pytest.raises(TrainingStopped) as stopped:
        train_pairs(pairs, out=tmp_path / "parts", **values)
    assert stopped.value.iteration == stop_at
    resumed = train_pairs(pairs, resume=tmp_path / "parts")
    one, other = (run.model.embedder.state_dict() for run in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    epochs = [[row for row in run.run.metrics() if "epoch" in row] for run in (whole, resumed)]
    assert epochs[0] == epochs[1]


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (1, "knows pictures in grey, {} has them in colour. Add --grey, or start from weights trained on colour"),
        (3, "knows pictures in colour, {} has them in grey. Start from weights trained on grey"),
    ],
)
def test_weights_to_start_from_that_know_another_kind_are_refused_for_that(
    pairs: PairSet, tmp_path: Path, channels: int, said: str
) -> None:
    info = EmbedderInfo("resnet8", channels, mean=(0.5,) * channels, std=(0.2,) * channels)
    save_embedder(tmp_path / "w.safetensors", build_embedder("resnet8", channels=channels), info)
    other = replace(pairs, images=pairs.images[:, :1].repeat(1, 4 - channels, 1, 1).contiguous())
    with pytest.raises(MetaSiamError) as refused:
        learner_for(other, arch="resnet8", init=str(tmp_path / "w.safetensors"))
    assert said.format(other.source) in str(refused.value)


def test_dropout_is_refused_where_it_would_do_nothing(pairs: PairSet, tmp_path: Path) -> None:
    with pytest.raises(MetaSiamError, match=r"--dropout is of koch's networks, and conv4 has none"):
        train_pairs(pairs, out=tmp_path / "run", arch="conv4", dropout=0.5)
    assert not (tmp_path / "run").exists()


def test_a_solved_head_answers_every_training_pair_without_having_met_it(pairs: PairSet, tmp_path: Path) -> None:
    options = {"arch": "conv4", "head": "features", "solver": "svm", "precision": "fp32", "folds": 3}
    trained = train_pairs(pairs, out=tmp_path / "run", **options)
    assert trained.evaluation["validation"]["pairs"] == 60
    assert trained.evaluation["held_out"]["closed"]["0"]["auc"]["mean"] > 0.7
    rows = [row for row in trained.run.metrics() if "fold" in row]
    assert [row["fold"] for row in rows] == [0, 1, 2]
    again = train_pairs(pairs, out=tmp_path / "again", **options)
    assert torch.equal(again.result.scores, trained.result.scores)


def test_folds_that_leave_one_kind_of_answer_are_refused_with_what_to_do(pairs: PairSet, tmp_path: Path) -> None:
    rows = pairs.rows("train")
    group = groups_of(pairs, rows)
    same = pairs.same.clone()
    same[rows] = group != 0  # all different pairs share people
    options = {"arch": "conv4", "head": "features", "solver": "svm", "precision": "fp32", "folds": 3}
    with pytest.raises(MetaSiamError, match=r"without fold \d of 3 the training pairs of lfw are all same"):
        train_pairs(replace(pairs, same=same), out=tmp_path / "run", **options)


def test_a_solved_head_is_the_support_vector_machine_itself(pairs: PairSet, tmp_path: Path) -> None:
    from sklearn.svm import SVC

    trained = train_pairs(
        pairs, out=tmp_path / "run", arch="conv4", head="features", solver="svm", precision="fp32", penalty=0.5
    )
    model, rows = trained.model, trained.pairs.rows("train")
    embeddings = model.embed(trained.pairs.images)
    head = model.head

    def features(which: torch.Tensor) -> torch.Tensor:
        return head.features(embeddings[trained.pairs.first[which]], embeddings[trained.pairs.second[which]])  # type: ignore[operator]

    unit = float((features(rows) ** 2).sum(1).mean()) ** 0.5
    machine = SVC(C=0.5, kernel="linear").fit((features(rows) / unit).numpy(), trained.pairs.same[rows].numpy())
    expected = machine.decision_function((features(trained.pairs.rows("test")) / unit).numpy())
    assert trained.result.scores.tolist() == pytest.approx(expected.tolist(), abs=2e-3)


def test_a_fisher_vector_is_what_its_formula_says() -> None:
    torch.manual_seed(0)
    model = FisherFaces(1, (40, 40), components=3, stride=6, basis=4)
    images = torch.randn(6, 1, 40, 40)
    model.fit(lambda index: images[index], 6, torch.Generator().manual_seed(0))
    points, places = model.describe(images[:1])
    x = torch.cat(((points[0] - model.descriptor_mean) @ model.projection, places), 1).double()
    mean, variance, weight = model.means.double(), model.variances.double(), model.weights.double()
    vector = []
    densities = torch.stack(
        [
            weight[k] * torch.exp(-0.5 * ((x - mean[k]) ** 2 / variance[k]).sum(1)) / variance[k].prod().sqrt()
            for k in range(3)
        ],
        1,
    )
    share = densities / densities.sum(1, keepdim=True)
    for k in range(3):
        z = (x - mean[k]) / variance[k].sqrt()
        vector.append((share[:, k : k + 1] * z).sum(0) / len(x) / weight[k].sqrt())
    by_mean = torch.stack(vector)
    by_variance = torch.stack(
        [
            (share[:, k : k + 1] * ((x - mean[k]) ** 2 / variance[k] - 1)).sum(0) / len(x) / (2 * weight[k]).sqrt()
            for k in range(3)
        ]
    )
    expected = torch.cat((by_mean, by_variance), 1).flatten()
    expected = F.normalize(expected.sign() * expected.abs().sqrt(), dim=0)
    assert torch.allclose(model(images[:1])[0].double(), expected, atol=1e-3)
    assert model.embedding_size == len(expected) == 36


def test_descriptors_are_where_they_say_and_ignore_brightness() -> None:
    model = FisherFaces(1, (40, 40), components=2, stride=4)
    images = torch.zeros(1, 1, 40, 40)
    images[..., 20:, :] = 5.0
    points, places = model.describe(images)
    assert places.abs().max() < 0.5
    touched = points[0].sum(1) > 0.5
    assert bool((places[touched, 0].abs() < 0.35).all())
    brighter, _ = model.describe(images * 3 + 1)
    assert torch.allclose(points, brighter, atol=0.02)


def test_descriptors_at_a_stride_are_those_at_every_place() -> None:
    torch.manual_seed(0)
    images = torch.randn(1, 1, 41, 44)
    (dense, _), (sparse, _) = (FisherFaces(1, (41, 44), stride=stride).describe(images) for stride in (1, 3))
    first_level = dense[0, : 13 * 16].view(13, 16, 128)
    assert torch.allclose(sparse[0, : 5 * 6].view(5, 6, 128), first_level[::3, ::3], atol=1e-3)


def test_threshold_and_probability_come_from_validation_alone() -> None:
    torch.manual_seed(0)
    same = torch.arange(200) % 2 == 0
    validation = torch.randn(200) + same * 2.0
    test = torch.randn(200) + same * 2.0
    one = judge(torch.arange(200), test, same, validation, same)
    other = judge(torch.arange(200), test, ~same, validation, same)
    assert one.threshold == other.threshold
    assert torch.equal(one.probability, other.probability)
    assert float(one.right.float().mean()) == pytest.approx(1 - float(other.right.float().mean()))


def test_ten_folds_give_a_mean_and_go_on_where_they_stopped(lfw: Path, tmp_path: Path) -> None:
    pairs = load_pairs("lfw:10-folds", data_dir=lfw, image_size=16)
    options = {"arch": "conv4", "head": "features", "solver": "svm", "folds": 2, "precision": "fp32"}
    summary = train_folds(pairs, out=tmp_path / "folds", **options)
    assert len(summary["folds"]) == 3
    assert summary["mean"] == pytest.approx(sum(summary["folds"]) / 3)
    before = (tmp_path / "folds" / "fold-2" / "evaluation.json").stat().st_mtime_ns
    assert train_folds(pairs, out=tmp_path / "folds", **options) == summary
    assert (tmp_path / "folds" / "fold-2" / "evaluation.json").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "folds" / "folds.json").read_text()) == summary


FOLDS = ["--image-size", "16", "--arch", "conv4", "--head", "features", "--solver", "svm", "--folds", "2"]


def ten_folds(lfw: Path, out: Path, *more: str) -> list[str]:
    return ["siamese", "--data", "lfw:10-folds", "--data-dir", str(lfw), *FOLDS, "--out", str(out), *more]


def stopping_in_the_fifth(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the iterations that solved heads make from now on, 3 a training; Ctrl-C comes in the fifth."""
    made: list[int] = []
    ordinary = SolvedHead.iterate

    def iterate(self: SolvedHead, iteration: int, stop: Callable[[], bool]) -> torch.Tensor:
        made.append(iteration)
        return ordinary(self, iteration, (lambda: True) if len(made) == 5 else stop)

    monkeypatch.setattr(SolvedHead, "iterate", iterate)
    return made


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The iterations that solved heads make; Ctrl-C comes in the fifth."""
    return stopping_in_the_fifth(monkeypatch)


@pytest.mark.parametrize("again", ["the printed command", "the same command"])
def test_ten_folds_that_were_stopped_go_on(
    lfw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], solved: list[int], again: str
) -> None:
    out = tmp_path / "ten folds"
    assert metasiam_command(ten_folds(lfw, out)) == 130
    printed = capsys.readouterr().out.strip().splitlines()[-1].removeprefix("next: metasiam ")
    assert shlex.split(printed) == ["siamese", "--resume", str(out)]
    assert not (out / "fold-3").exists()
    first = (out / "fold-1" / "evaluation.json").stat().st_mtime_ns
    assert metasiam_command(shlex.split(printed) if again == "the printed command" else ten_folds(lfw, out)) == 0
    assert solved == [0, 1, 2, 0, 1, 1, 2, 0, 1, 2]
    assert (out / "fold-1" / "evaluation.json").stat().st_mtime_ns == first
    assert len(json.loads((out / "folds.json").read_text())["folds"]) == 3
    assert "(standard error)" in capsys.readouterr().out


@pytest.mark.parametrize(("signal", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_ctrl_c_between_two_folds_says_how_to_go_on(
    lfw: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    signal: type[KeyboardInterrupt],
    code: int,
) -> None:
    out, ordinary, begun = tmp_path / "folds", folds.train_pairs, []

    def train_pairs(*args: Any, **options: Any) -> Any:
        begun.append(options["out"].name)
        if len(begun) == 2:
            raise signal
        return ordinary(*args, **options)

    monkeypatch.setattr(folds, "train_pairs", train_pairs)
    assert metasiam_command(ten_folds(lfw, out)) == code
    said = capsys.readouterr().out.strip().splitlines()[-2:]
    assert said == [f"finished folds are kept in {out}", f"next: metasiam siamese --resume {out}"]
    assert (out / "fold-1" / "evaluation.json").is_file()


def test_one_of_ten_folds_is_finished_alone(
    lfw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], solved: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "folds"
    assert metasiam_command(ten_folds(lfw, out)) == 130
    assert metasiam_command(["siamese", "--resume", str(out / "fold-2")]) == 0
    assert solved == [0, 1, 2, 0, 1, 1, 2]
    assert "fold-2" in capsys.readouterr().out
    assert (out / "fold-2" / "evaluation.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["folds"]
    assert metasiam_command(["siamese", "--resume", str(out)]) == 0
    assert len(solved) == 10


def test_ten_folds_with_other_options_are_refused_and_lose_nothing(
    lfw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], solved: list[int]
) -> None:
    out = tmp_path / "folds"
    assert metasiam_command(ten_folds(lfw, out)) == 130
    evaluation = (out / "fold-1" / "evaluation.json").read_bytes()
    for arguments, message in (
        (ten_folds(lfw, out, "--penalty", "2"), "was started with 1.0, not 2.0"),
        (["siamese", "--resume", str(out), "--penalty", "2"], "was started with 1.0, not 2.0"),
        (ten_folds(lfw, out, "--image-size", "20"), "was started with 16, not 20"),
        (ten_folds(lfw, out, "--overwrite", "--head", "cosine"), "--solver svm needs a head"),
        (["siamese", "--data-dir", str(lfw), "--overwrite", "--out", str(out)], "holds a ten-fold training, not a run"),
    ):
        capsys.readouterr()
        assert metasiam_command(arguments) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error
    assert (out / "fold-1" / "evaluation.json").read_bytes() == evaluation
    assert metasiam_command(ten_folds(lfw, out, "--overwrite", "--penalty", "2")) == 0
    assert solved[5:] == [0, 1, 2] * 3
    options = [json.loads((out / f"fold-{fold}" / "config.json").read_text())["options"] for fold in (1, 2, 3)]
    assert [own["penalty"] for own in options] == [2.0, 2.0, 2.0]


def test_starting_ten_folds_over_takes_none_of_the_old_ones(
    lfw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "folds"
    assert metasiam_command(ten_folds(lfw, out)) == 0
    made = stopping_in_the_fifth(monkeypatch)
    assert metasiam_command(ten_folds(lfw, out, "--overwrite")) == 130
    assert not (out / "folds.json").exists()
    assert metasiam_command(ten_folds(lfw, out)) == 0
    assert made == [0, 1, 2, 0, 1, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("solver", ["gradient", "svm"])
def test_people_in_both_training_and_test_pairs_are_counted_not_denied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], solver: str
) -> None:
    file = write_list(tmp_path, people=24)
    header, *lines = file.read_text().splitlines()
    named = []
    for line in lines:
        a, b = (name.partition("-")[0] for name in line.split(",")[:2])
        parts = [("test", "train", "validation")[int(a) // 2 % 3]]
        if a == b == "0":  # person 0 is trained on, too; persons 4 and 5 give validation pairs and test pairs
            parts.append("train")
        elif a in ("4", "5"):
            parts.append("test")
        named += [f"{line},{part},person {a},person {b}" for part in parts]
    file.write_text("\n".join([f"{header},part,person_a,person_b", *named]) + "\n")
    out = tmp_path / "run"
    arguments = ["--data", f"pairs:{file}", "--data-dir", str(tmp_path), "--out", str(out), "--arch", "conv4"]
    more = ["--head", "features", "--epochs", "1", "--precision", "fp32", "--solver", solver, "--folds", "2"]
    assert metasiam_command(["siamese", *arguments, *more]) == 0
    protocol = json.loads((out / "evaluation.json").read_text())["protocol"]
    shared = 2 if solver == "gradient" else 3  # cross-validation chooses on training pairs too
    assert f"validation pairs, with {shared} of the 10 people of the test pairs" in protocol["threshold_chosen_on"]
    assert protocol["test_trained_on"] == "1 of the 10 people"
    assert "note: 3 of the 10 people in the test pairs are in training" in capsys.readouterr().out


def test_what_the_result_says_of_people_is_true_where_nobody_is_named(pairs: PairSet, tmp_path: Path) -> None:
    unnamed = replace(pairs, people=("",) * len(pairs.people))
    for own, words in ((pairs, "people"), (unnamed, "images")):
        trained = train_pairs(own, out=tmp_path / words, epochs=1, **QUICK)
        protocol = trained.evaluation["protocol"]
        assert protocol["threshold_chosen_on"] == f"12 validation pairs of {words} not in the test pairs"
        assert "test_trained_on" not in protocol


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--head", "bilinear"], "--head bilinear is unknown"),
        (["--schedule", "linear"], "--schedule linear is unknown"),
        (["--milestones", "a,b"], "--milestones must be numbers"),
        (["--preset", "fast"], "--preset fast is unknown"),
        (["--validation", "0.9"], "--validation must be above 0"),
        (["--solver", "svm", "--head", "cosine"], "--solver svm needs a head"),
        (["--arch", "koch", "--image-size", "40"], "koch needs at least 65 pixels"),
    ],
)
def test_bad_options_end_in_one_line(
    lfw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    base = ["siamese", "--data", "lfw", "--data-dir", str(lfw), "--image-size", "16", "--arch", "conv4"]
    assert metasiam_command([*base, "--out", str(tmp_path / "run"), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_the_command_trains_on_a_list_and_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_list(tmp_path, people=24)
    arguments = ["siamese", "--data", f"pairs:{file}", "--data-dir", str(tmp_path), "--out", str(tmp_path / "run")]
    assert metasiam_command([*arguments, "--arch", "conv4", "--head", "cosine", "--lr", "0.01", "--epochs", "2"]) == 0
    out = capsys.readouterr().out
    assert "test accuracy" in out
    assert "report.html" in out
    assert metasiam_command(arguments) == 2
    assert "holds a finished run" in capsys.readouterr().err


def test_an_unfinished_run_of_another_list_is_not_resumed(pairs: PairSet, tmp_path: Path) -> None:
    train_pairs(pairs, out=tmp_path / "run", epochs=1, **QUICK)
    other = replace(pairs, same=~pairs.same)
    with pytest.raises(MetaSiamError, match="other pairs"):
        train_pairs(other, resume=tmp_path / "run")
    with pytest.raises(MetaSiamError, match="--lr cannot change when resuming.*started with 0.01"):
        train_pairs(pairs, resume=tmp_path / "run", lr=0.02)
