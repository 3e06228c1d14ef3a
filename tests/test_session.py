"""Whole trainings: resumed runs equal uninterrupted ones, kills lose nothing, bad input changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from listeners import Heard
from PIL import Image
from safetensors.torch import load_file

from metasiam import (
    MetaSiamError,
    ProtocolSettings,
    compare,
    embed_images,
    evaluate,
    load_embedder,
    open_run,
    split_domains,
    train,
)
from metasiam.kernels.build import library as kernels
from metasiam.session import TrainingStopped

SETTINGS = {"arch": "resnet8", "batch_size": 6, "device": "cpu", "precision": "fp32", "compile": "off"}
METHODS = {
    "reptile": {"iterations": 6, "inner_epochs": 2, "meta_step": 0.5, "meta_batch": 2, "meta_optimizer": "nesterov"},
    "triplet": {"iterations": 8, "loss": "softmax", "schedule": "onecycle"},
}


@pytest.fixture
def data(tiny_domains):
    domains = tiny_domains(domains=6, images=10)
    return domains, split_domains(domains, held_out=2)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "embedder.safetensors")


@pytest.mark.parametrize(
    ("method", "more"),
    [(method, {}) for method in METHODS] + [("reptile", {"compile": "on", "precision": "bf16"})],
    ids=[*METHODS, "reptile on our own kernels"],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, data, method, more):
    if more and kernels() is None:
        pytest.skip("needs Linux and a C++ compiler")
    options = {**SETTINGS, **METHODS[method], **more}
    train(method, *data, out=tmp_path / "whole", **options)
    with pytest.raises(TrainingStopped):
        _train_interrupted(tmp_path / "parts", data, method, options, after=3)
    assert not (tmp_path / "parts" / "embedder.safetensors").exists()
    train(method, *data, resume=tmp_path / "parts")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert [row["step"] for row in open_run(tmp_path / "parts").metrics()][-1] == options["iterations"]


@pytest.mark.parametrize("method", METHODS)
def test_a_compiled_run_goes_on_uncompiled_where_there_is_no_compiler(tmp_path, data, method, monkeypatch):
    options = {**SETTINGS, **METHODS[method], "compile": "auto"}
    with pytest.raises(TrainingStopped):
        _train_interrupted(tmp_path / "run", data, method, options, after=3)
    config = tmp_path / "run" / "config.json"
    stored = json.loads(config.read_text())
    stored["resolved"]["compiled"] = True
    config.write_text(json.dumps(stored))
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("torch.compile", lambda *_, **__: pytest.fail("it compiles"))
    heard = Heard()
    train(method, *data, resume=tmp_path / "run", listener=heard)
    assert [
        text
        for text in heard.notes
        if "continues without compiling, which needs a C++ compiler (g++ or clang++)" in text
    ]
    assert weights(tmp_path / "run")


def _train_interrupted(path, data, method, options, *, after):
    """Train, and send this process Ctrl-C when iteration ``after`` begins."""
    from metasiam.methods import METHODS as LEARNERS

    known = LEARNERS[method]
    build = known.learner

    def build_interrupted(config, context, processes):
        learner = build(config, context, processes)
        iterate = learner.iterate

        def iterate_or_interrupt(iteration, stop):
            if iteration == after:
                os.kill(os.getpid(), signal.SIGINT)
            return iterate(iteration, stop)

        learner.iterate = iterate_or_interrupt
        return learner

    LEARNERS[method] = replace(known, build=build_interrupted)
    try:
        train(method, *data, out=path, **options)
    finally:
        LEARNERS[method] = known


KILLED = """
import sys, torch
sys.path.insert(0, {tests!r})
from metasiam import split_domains, train, load_domains
from metasiam.training import loop
loop.LOG_EVERY = 0.0
domains = load_domains("npz:{npz}")
train({method!r}, domains, split_domains(domains, held_out=2), out={out!r}, checkpoint_every=0.0, **{options!r})
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_weights(tmp_path, tiny_domains, method, monkeypatch):
    import numpy as np

    from metasiam import load_domains
    from metasiam.training import loop

    tiny = tiny_domains(domains=6, images=10)
    train_part, test_part = ~tiny.is_test, tiny.is_test
    npz = tmp_path / "tiny.npz"
    np.savez(
        npz,
        train_images=tiny.images[train_part].permute(0, 2, 3, 1).numpy(),
        train_labels=tiny.labels[train_part].numpy(),
        test_images=tiny.images[test_part].permute(0, 2, 3, 1).numpy(),
        test_labels=tiny.labels[test_part].numpy(),
    )
    options = {**SETTINGS, **METHODS[method], "iterations": 120}
    code = KILLED.format(
        tests=str(Path(__file__).parent), npz=npz, method=method, out=str(tmp_path / "killed"), options=options
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while _iteration_of(checkpoint) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    (tmp_path / "killed" / f".checkpoint.pt.{process.pid}.partial").write_bytes(b"half a checkpoint")
    assert 3 <= _iteration_of(checkpoint) < 120

    monkeypatch.setattr(loop, "LOG_EVERY", 0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        domains = load_domains(f"npz:{npz}")
        split = split_domains(domains, held_out=2)
        train(method, domains, split, resume=tmp_path / "killed")
        train(method, domains, split, out=tmp_path / "whole", **options)
    finally:
        torch.set_num_threads(threads)
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[key], killed[key]) for key in whole)
    steps = [row["step"] for row in open_run(tmp_path / "killed").metrics()]
    assert steps == sorted(set(steps))


def _iteration_of(checkpoint: Path) -> int:
    return torch.load(checkpoint, weights_only=True)["iteration"] if checkpoint.exists() else -1


def test_a_run_folder_holds_what_design_says(tmp_path, data):
    run = train("triplet", *data, out=tmp_path / "run", **SETTINGS, iterations=3)
    assert {"config.json", "metrics.jsonl", "checkpoint.pt", "embedder.safetensors", "tensorboard"} == {
        path.name for path in run.path.iterdir() if path.name != ".lock"
    }
    config = json.loads((run.path / "config.json").read_text())
    assert config["options"]["method"] == "triplet"
    assert config["options"]["seed"] == 0
    assert config["data"]["fingerprint"] == data[0].fingerprint
    assert config["split"]["held_out"] == [4, 5]
    assert {"torch", "python", "device", "metasiam"} <= config["machine"].keys()
    row = run.metrics()[-1]
    assert {"step", "loss", "images", "seconds"} <= row.keys()
    assert row["images"] == 3 * 3 * 6
    torch.load(run.path / "checkpoint.pt", weights_only=True)
    assert any((run.path / "tensorboard").iterdir())
    assert load_embedder(run.path)[1].trained_on == "tiny"


def test_evaluating_on_domains_that_a_run_was_trained_on_is_refused(tmp_path, data):
    domains, split = data
    run = train("triplet", domains, split, out=tmp_path / "run", **SETTINGS, iterations=1)
    with pytest.raises(MetaSiamError, match=r"was trained on \d of the domains that would be held out"):
        evaluate(run, domains, split_domains(domains, held_out=4), shots=(0,))


def test_colour_is_shown_in_grey_where_grey_was_learned(tmp_path, data):
    domains, split = data
    as_pillow = [np.array(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")) for image in domains.images]
    grey = replace(domains, images=torch.from_numpy(np.stack(as_pillow))[:, None])
    shown = domains.with_channels(1)
    assert (shown.images.int() - grey.images.int()).abs().max() <= 1
    assert shown.fingerprint == domains.fingerprint
    run = train("triplet", grey, split, out=tmp_path / "run", **SETTINGS, iterations=1)
    few = {"shots": (0, 2), "adapt_steps": 1, "pairs": 20, "triplets": 20, "episodes": 2, "queries": 1}
    by_hand = replace(domains, images=shown.images)
    found, expected = (evaluate(run, images, split, **few).data for images in (domains, by_hand))
    assert found["held_out"] == expected["held_out"]
    assert found["protocol"]["fingerprint"] == domains.fingerprint


def test_a_grey_run_goes_on_with_pictures_in_colour(tmp_path, data):
    domains, split = data
    options = {**SETTINGS, "iterations": 2}
    by_hand = replace(domains, images=domains.with_channels(1).images)
    start = train("triplet", by_hand, split, out=tmp_path / "start", **options)
    heard = Heard()
    found = train("triplet", domains, split, out=tmp_path / "a", init=str(start.path), listener=heard, **options)
    expected = train("triplet", by_hand, split, out=tmp_path / "b", init=str(start.path), **options)
    assert f"{start.path} takes grey images only: colour images are converted to grey" in heard.notes
    assert load_embedder(found.path)[1].channels == 1
    ours, theirs = weights(found.path), weights(expected.path)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert evaluate(found, domains, split, shots=(0,), pairs=20, triplets=20, episodes=0).data["held_out"]["tasks"]


def test_grey_pictures_are_shown_to_an_embedder_of_colour_in_three_equal_channels(tmp_path, data):
    domains, split = data
    run = train("triplet", domains, split, out=tmp_path / "run", **SETTINGS, iterations=1)
    grey = replace(domains, images=domains.images[:, :1].contiguous())
    by_hand = replace(grey, images=grey.images.repeat(1, 3, 1, 1))
    few = {"shots": (0, 2), "adapt_steps": 1, "pairs": 20, "triplets": 20, "episodes": 2, "queries": 1}
    found, expected = (evaluate(run, images, split, **few).data for images in (grey, by_hand))
    assert found["held_out"] == expected["held_out"]
    assert found["protocol"]["fingerprint"] == grey.fingerprint != by_hand.fingerprint

    second = train("triplet", grey, split, out=tmp_path / "second", init=str(run.path), **SETTINGS, iterations=1)
    assert load_embedder(second.path)[1].channels == 3
    assert evaluate(second, grey, split, shots=(0,), pairs=20, triplets=20, episodes=0).data["held_out"]["tasks"]


def test_embeddings_can_be_learned_on(tmp_path, data):
    domains, split = data
    run = train("triplet", domains, split, out=tmp_path / "run", **SETTINGS, iterations=1)
    rows = embed_images(*load_embedder(run.path), domains, domains.pool(split.seen, "train").images)
    probe = torch.nn.Linear(rows.shape[1], 2)
    probe(rows).sum().backward()
    assert probe.weight.grad.isfinite().all()


def test_metrics_are_written_and_reported_also_without_tensorboard(tmp_path, data, monkeypatch):
    from metasiam.training import loop

    monkeypatch.setattr(loop, "_tensorboard", lambda *_: None)
    heard = Heard()
    run = train("triplet", *data, out=tmp_path / "run", **SETTINGS, iterations=3, listener=heard)
    assert run.metrics()[-1]["step"] == heard.trainings[-1].iteration == 3


def test_the_same_seed_trains_the_same_weights_and_another_seed_others(tmp_path, data):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train("reptile", *data, out=tmp_path / name, **SETTINGS, **METHODS["reptile"], seed=seed)
    a, b, c = (weights(tmp_path / name)["conv1.weight"] for name in "abc")
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_training_leaves_the_callers_random_state_alone(tmp_path, data):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    train("triplet", *data, out=tmp_path / "run", **SETTINGS, iterations=2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_second_start_is_refused_and_loses_nothing(tmp_path, data):
    train("triplet", *data, out=tmp_path / "run", **SETTINGS, iterations=2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(MetaSiamError, match=r"holds a finished run. Use --resume .* --overwrite to start over"):
        train("triplet", *data, out=tmp_path / "run", **SETTINGS, iterations=2)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    train("triplet", *data, out=tmp_path / "run", overwrite=True, **SETTINGS, iterations=3)
    assert open_run(tmp_path / "run").config["total_iterations"] == 3


def test_overwriting_spares_files_that_are_not_a_runs(tmp_path, data):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(MetaSiamError, match="is not empty and does not contain a run"):
        train("triplet", *data, out=tmp_path / "run", **SETTINGS, iterations=2)
    train("triplet", *data, out=tmp_path / "run", overwrite=True, **SETTINGS, iterations=2)
    assert (tmp_path / "run" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("config", [None, '{"name": "my own"}', "not JSON"])
def test_overwriting_refuses_a_folder_whose_figures_are_not_a_runs(tmp_path, data, config):
    paper = tmp_path / "paper"
    (paper / "figures").mkdir(parents=True)
    (paper / "figures" / "mine.svg").write_text("<svg/>")
    if config is not None:
        (paper / "config.json").write_text(config)
    before = {path: path.read_bytes() for path in paper.rglob("*") if path.is_file()}
    with pytest.raises(MetaSiamError, match=r"paper holds .*figures/ but no run, and --overwrite replaces runs only"):
        train("triplet", *data, out=paper, overwrite=True, **SETTINGS, iterations=2)
    assert before == {path: path.read_bytes() for path in paper.rglob("*") if path.is_file()}


def test_overwriting_leaves_nothing_of_the_earlier_run(tmp_path):
    from metasiam.learners.trained_head import HEAD_FILE
    from metasiam.runs import RUN, create_run

    config = {"options": {"method": "siamese"}}
    run = create_run(tmp_path / "run", config)
    for name in {*RUN.files, HEAD_FILE} - {"config.json"}:
        (run.path / name).write_text("of the earlier run")
    (run.path / ".checkpoint.pt.1234.partial").write_text("of a process that was killed while writing")
    for name in RUN.folders:
        (run.path / name).mkdir()
    create_run(run.path, config, overwrite=True)
    assert [path.name for path in run.path.iterdir()] == ["config.json"]
    (run.path / "config.json").write_text('{"options": {"meth')  # torn: with its checkpoint it is a run still
    (run.path / "checkpoint.pt").write_text("of the earlier run")
    with pytest.raises(MetaSiamError, match="is damaged"):
        open_run(run.path)
    assert create_run(run.path, config, overwrite=True).config == open_run(run.path).config


def test_folders_with_spaces_are_quoted_in_what_to_type_next(tmp_path, data, monkeypatch):
    from metasiam.methods import METHODS as LEARNERS
    from metasiam.training.distributed import ProcessLost

    path = train("triplet", *data, out=tmp_path / "my run", **SETTINGS, iterations=1).path
    with pytest.raises(MetaSiamError, match=f"--resume '{path}' to look at it again"):
        train("triplet", *data, out=path, **SETTINGS, iterations=1)
    stopped = tmp_path / "stopped run"
    with pytest.raises(TrainingStopped, match=f"continue with --resume '{stopped}'$"):
        _train_interrupted(stopped, data, "triplet", {**SETTINGS, "iterations": 3}, after=1)
    build = LEARNERS["triplet"].learner

    def build_losing(config, context, processes):
        learner = build(config, context, processes)

        def iterate(iteration, stop):
            raise ProcessLost("another of the 2 processes ended.")

        learner.iterate = iterate
        return learner

    monkeypatch.setitem(LEARNERS, "triplet", replace(LEARNERS["triplet"], build=build_losing))
    with pytest.raises(ProcessLost, match=f"continue with --resume '{stopped}'\\.$"):
        train("triplet", *data, resume=stopped)


def test_a_loss_that_turns_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path, data, monkeypatch):
    from metasiam.methods import METHODS as LEARNERS
    from metasiam.training import loop

    monkeypatch.setattr(loop, "LOG_EVERY", 0.0)
    build = LEARNERS["triplet"].learner

    def build_failing(config, context, processes):
        learner = build(config, context, processes)
        iterate = learner.iterate
        learner.iterate = lambda i, stop: iterate(i, stop) * (float("nan") if i == 4 else 1.0)
        return learner

    monkeypatch.setitem(LEARNERS, "triplet", replace(LEARNERS["triplet"], build=build_failing))
    with pytest.raises(MetaSiamError, match="the loss is nan at iteration 5. The last good checkpoint is kept"):
        train("triplet", *data, out=tmp_path / "run", checkpoint_every=0.0, **SETTINGS, iterations=9)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["iteration"] == 4


def test_a_start_that_knows_the_held_out_domains_is_refused(tmp_path, data):
    first = train("triplet", *data, out=tmp_path / "first", **SETTINGS, iterations=1)
    second = train("triplet", *data, out=tmp_path / "second", init=str(first.path), **SETTINGS, iterations=1)
    open_run(second.path).write_json("config.json", {**second.config, "split": {**second.config["split"], "seen": []}})
    split = split_domains(data[0], held_out=3)
    for start in (first, second):  # also where it was the start's own start that knew them
        with pytest.raises(MetaSiamError, match="first was trained on 1 of the domains"):
            train("triplet", data[0], split, out=tmp_path / "third", init=str(start.path), **SETTINGS, iterations=1)
    assert not (tmp_path / "third").exists()


def test_what_cannot_be_resumed_says_why(tmp_path, data, tiny_domains):
    run = train("triplet", *data, out=tmp_path / "run", **SETTINGS, iterations=2)
    with pytest.raises(MetaSiamError, match="was trained with triplet"):
        train("reptile", *data, resume=run.path)
    with pytest.raises(
        MetaSiamError, match=r"--lr cannot change when resuming: .* was started with 0.001, not 0.5\. Omit it"
    ):
        train("triplet", *data, resume=run.path, lr=0.5)
    other = tiny_domains(domains=6, images=10, seed=9)
    with pytest.raises(MetaSiamError, match="was trained on other images"):
        train("triplet", other, data[1], resume=run.path)
    with pytest.raises(MetaSiamError, match="with another split"):
        train("triplet", data[0], split_domains(data[0], held_out=3), resume=run.path)
    (run.path / "checkpoint.pt").write_bytes((run.path / "checkpoint.pt").read_bytes()[:1000])
    with pytest.raises(MetaSiamError, match=r"checkpoint\.pt cannot be read"):
        train("triplet", *data, resume=run.path)
    with pytest.raises(MetaSiamError, match="is not a run folder"):
        train("triplet", *data, resume=tmp_path)


def test_starting_from_trained_weights_takes_their_architecture_and_normalisation(tmp_path, data):
    first = train("triplet", *data, out=tmp_path / "first", **SETTINGS, iterations=2)
    options = {key: value for key, value in SETTINGS.items() if key != "arch"}
    second = train("reptile", *data, out=tmp_path / "second", init=str(first.path), **options, iterations=1,
                   inner_epochs=1, meta_step=1e-9)  # fmt: skip
    assert second.config["options"]["arch"] == "resnet8"
    torch.testing.assert_close(weights(first.path)["conv1.weight"], weights(second.path)["conv1.weight"])
    with pytest.raises(MetaSiamError, match="holds a resnet8, not the resnet14"):
        train("reptile", *data, out=tmp_path / "third", init=str(first.path), arch="resnet14", **options)


def test_unknown_methods_and_options_are_named(tmp_path, data):
    with pytest.raises(MetaSiamError, match="method metric is unknown. Use one of: reptile, triplet"):
        train("metric", *data, out=tmp_path / "x")
    with pytest.raises(MetaSiamError, match="triplet has no option 'inner_epochs'"):
        train("triplet", *data, out=tmp_path / "x", inner_epochs=3)
    assert not (tmp_path / "x").exists()


def test_the_softmax_loss_starts_a_second_stage_at_the_domains_mean_embeddings(tmp_path, data):
    from metasiam.data.augment import normalise
    from metasiam.learners.context import prepare
    from metasiam.options.triplet import TripletOptions

    domains, split = data
    first = train("triplet", domains, split, out=tmp_path / "first", **SETTINGS, iterations=4)
    config = TripletOptions(**SETTINGS, loss="softmax", init=str(first.path))
    proxies = prepare(config, domains, split).objective.proxies.detach()
    embedder, info = load_embedder(first.path)
    for domain in split.seen:
        images = domains.images[(domains.labels == domain) & ~domains.is_test]
        with torch.no_grad():
            rows = torch.nn.functional.normalize(embedder(normalise(images, info.mean, info.std)), dim=1)
        assert float(torch.cosine_similarity(rows.mean(0), proxies[domain], dim=0)) > 0.999


def test_methods_are_compared_by_the_means_over_their_trainings(tmp_path, data):
    runs = [train("triplet", *data, out=tmp_path / f"{n}", **SETTINGS, seed=n, iterations=1) for n in range(3)]
    settings = ProtocolSettings(shots=(0,), pairs=20, triplets=20, episodes=0, support_draws=0, bootstrap=100)
    found = compare({"twice": runs[:2], "once": runs[2]}, *data, settings)
    assert [(one["run"], one["seed"]) for one in found.data["trainings"]["twice"]] == [("0", 0), ("1", 1)]
    assert list(found.data["trainings"]) == ["twice"]
    assert len(found.evaluations["twice"].each) == 2
    row = next(r for r in found.data["paired"] if (r["regime"], r["metric"]) == ("closed", "auc"))
    means = [e.data["held_out"]["closed"]["0"]["auc"]["mean"] for e in found.evaluations["twice"].each]
    alone = found.data["methods"]["once"]["held_out"]["closed"]["0"]["auc"]["mean"]
    assert row["difference"] == pytest.approx(sum(means) / 2 - alone)
    with pytest.raises(MetaSiamError, match="nothing has no run"):
        compare({"nothing": [], "once": runs[2]}, *data, settings)
