"""The command line as people use it: real commands on a tiny data set, and bad input in one clear line."""

import errno
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from metasiam import EmbedderInfo, build_embedder, save_embedder
from metasiam.cli import run
from metasiam.data.preparation import UNSAID
from metasiam.errors import MetaSiamError
from metasiam.grouping import methods_of
from metasiam.methods import names, options_class
from metasiam.options.presets import preset_options
from metasiam.options.training import options_of
from metasiam.runs import Run, create_run, open_run
from metasiam.runs.locks import check_free, run_held

SMALL = ["--arch", "resnet8", "--batch-size", "6", "--device", "cpu", "--precision", "fp32", "--compile", "off",
         "--held-out", "3", "--validation", "2", "--pairs", "40"]  # fmt: skip


@pytest.fixture
def photos(tmp_path, tiny_domains) -> Path:
    """A folder of pictures laid out as ``folder:`` expects: ten domains, eight training and four test images."""
    domains = tiny_domains(domains=10, images=12, size=16)
    place = tmp_path / "photos"
    counts: dict[int, int] = {}
    for image, label, test in zip(domains.images, domains.labels.tolist(), domains.is_test.tolist(), strict=True):
        counts[label] = counts.get(label, 0) + 1
        folder = place / ("test" if test else "train") / domains.names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{counts[label]:02d}.png")
    return place


@pytest.fixture
def arguments(photos, tmp_path, monkeypatch) -> list[str]:
    monkeypatch.setenv("METASIAM_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return ["--data", f"folder:{photos}", *SMALL]


def complaint(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Run, check exit code 2 and exactly one line on stderr, and return that line."""
    assert run(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("metasiam: ")
    return lines[0]


REPTILE = ["reptile", "--iterations", "2", "--inner-epochs", "2", "--meta-step", "0.5"]
TRIPLET = ["triplet", "--iterations", "3"]


@pytest.mark.parametrize("command", [REPTILE, TRIPLET], ids=["reptile", "triplet"])
def test_training_ends_in_the_per_task_table_and_says_what_it_wrote(arguments, capsys, command):
    assert run([*command, *arguments, "--out", "run", "--adapt-shots", "0,all", "--adapt-steps", "1"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "5 seen, 2 validation, 3 held out",
        "Held-out tasks",
        "domain 07",
        "evaluation.json",
    ):
        assert text in shown
    evaluation = json.loads(Path("run/evaluation.json").read_text())
    assert evaluation["schema"] == 1
    assert set(evaluation["held_out"]["antidomain"]) == {"0", "all"}
    metrics = evaluation["held_out"]["closed"]["0"]
    assert set(metrics["pair_accuracy"]) == {"fixed", "global", "per_task", "oracle"}
    assert {"mean", "ci95", "n"} <= metrics["triplet_accuracy"].keys()
    rows = Path("run/tasks.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 2 * 2  # tasks, regimes, shots
    assert Path("run/report.html").is_file()
    assert Path("run/figures/loss.svg").is_file()


def test_compare_trains_both_methods_under_one_budget_and_writes_the_report(arguments, capsys):
    command = ["compare", "--methods", "triplet,reptile", "--budget-images", "144", "--set", "reptile.inner_epochs=2",
               *arguments, "--out", "both", "--adapt-shots", "0"]  # fmt: skip
    assert run(command) == 0
    report = json.loads(Path("both/compare.json").read_text())
    assert set(report["methods"]) == {"triplet", "reptile"}
    assert report["budget"]["images"] == 144
    for method in ("triplet", "reptile"):
        config = json.loads(Path(f"both/{method}/config.json").read_text())
        assert config["total_iterations"] * config["images_per_iteration"] == 144
    row = next(r for r in report["paired"] if r["metric"] == "triplet_accuracy" and r["regime"] == "closed")
    assert {"a", "b", "regime", "shots", "metric", "difference", "ci95", "p_value"} <= row.keys()
    assert {"report.html", "compare.md", "tasks.csv"} <= {path.name for path in Path("both").iterdir()}
    assert "triplet" in capsys.readouterr().out
    # The same runs, compared afterwards, give the same numbers.
    assert (
        run(["compare", "both/triplet", "both/reptile", "--out", "again", "--pairs", "40", "--adapt-shots", "0"]) == 0
    )
    again = json.loads(Path("again/compare.json").read_text())
    assert again["paired"] == report["paired"]
    # Only told where the data lies now, they keep their own split.
    moved = ["compare", "both/triplet", "both/reptile", *arguments[:2], "--out", "moved", "--pairs", "40"]
    assert run([*moved, "--adapt-shots", "0"]) == 0
    assert json.loads(Path("moved/compare.json").read_text())["paired"] == report["paired"]
    # Resumed, it takes what is finished, measures as it did before, and lets nothing else be changed.
    for more in (["--methods", "triplet"], ["--overwrite"], ["--lr", "0.5"], ["--held-out", "0"]):
        assert f"Omit {more[0]}" in complaint(capsys, ["compare", "--resume", "both", *more])
    assert run(["compare", "--resume", "both"]) == 0
    assert "used as it is" in capsys.readouterr().out
    assert json.loads(Path("both/compare.json").read_text()) == report
    both = ["compare", "both/triplet", "both/reptile", "--out", "more", "--pairs", "40", "--adapt-shots", "0"]
    assert run([*both, "--protocol", "balanced,reference", "--threshold", "0.3"]) == 0
    assert "By the published systems' own protocol" in capsys.readouterr().out
    more = json.loads(Path("more/compare.json").read_text())["methods"]["reptile"]
    assert more["protocol"]["threshold"] == 0.3
    assert more["reference_protocol"]


def test_compare_trains_each_method_with_several_seeds_and_compares_their_means(arguments, capsys):
    command = ["compare", "--methods", "triplet,reptile", "--budget-images", "144", "--set", "reptile.inner_epochs=2",
               *arguments, "--adapt-shots", "0", "--seeds", "3,1", "--out", "both"]  # fmt: skip
    assert "names a seed twice" in complaint(capsys, [*command[:-3], "0,0", "--out", "both"])
    assert "--seeds one is not a list" in complaint(capsys, [*command[:-3], "one", "--out", "both"])
    assert "one training at a time" in complaint(capsys, [*command, "--protocol", "reference"])
    assert not Path("both").exists()
    assert run(command) == 0
    words = "Every method was trained two times (seeds 3, 1)"
    assert words in " ".join(capsys.readouterr().out.split())
    report = json.loads(Path("both/compare.json").read_text())
    assert set(report["methods"]) == {"triplet", "reptile"}
    for method, listed in report["trainings"].items():
        assert [one["seed"] for one in listed] == [3, 1]
        means = []
        for one in listed:
            assert one["run"] == f"{method}-seed-{one['seed']}"
            assert json.loads(Path(f"both/{one['run']}/config.json").read_text())["options"]["seed"] == one["seed"]
            assert json.loads(Path(f"both/{one['run']}/evaluation.json").read_text()) == one["evaluation"]
            means.append(one["evaluation"]["held_out"]["closed"]["0"]["triplet_accuracy"]["mean"])
        mean = report["methods"][method]["held_out"]["closed"]["0"]["triplet_accuracy"]
        assert mean["mean"] == pytest.approx(sum(means) / 2)
        assert listed[0]["evaluation"] != listed[1]["evaluation"]
    assert words in Path("both/compare.md").read_text()
    assert words in Path("both/report.html").read_text()
    # The same runs, given in any order, are known as two trainings of each method.
    names = ("reptile-seed-1", "triplet-seed-3", "reptile-seed-3", "triplet-seed-1")
    found = methods_of(open_run(f"both/{name}") for name in names)
    assert {method: [run.path.name for run in runs] for method, runs in found.items()} == {
        "reptile": ["reptile-seed-1", "reptile-seed-3"],
        "triplet": ["triplet-seed-3", "triplet-seed-1"],
    }
    assert "Omit --seeds" in complaint(capsys, ["compare", "--resume", "both", "--seeds", "0"])
    assert run(["compare", "--resume", "both"]) == 0
    assert json.loads(Path("both/compare.json").read_text()) == report


def test_runs_that_differ_in_their_seed_alone_are_one_methods_trainings(tmp_path):
    def begun(name: str, seed: int, **options) -> Run:
        own = {"method": "triplet", "lr": 0.1, "init": None, "device": "cpu", "seed": seed} | options
        config = {"options": own, "total_iterations": 10, "images_per_iteration": 6}
        return create_run(tmp_path / name, config)

    first, again, other = begun("slow 1", 1), begun("slow 2", 2, device="cuda"), begun("fast-seed-1", 1, lr=0.2)
    same = begun("slow 3", 1)  # the very same training once more: it says nothing about chance
    assert methods_of([first, other, again]) == {
        "slow": [first, again],
        "fast-seed-1": [other],
    }
    assert methods_of([first, again]) == {"slow 1": [first], "slow 2": [again]}  # how far apart are they?
    twins = [begun(f"{place}/runs/fast", 1, lr=rate) for place, rate in (("mine", 0.3), ("yours", 0.4))]
    assert methods_of(twins) == {"mine/runs/fast": [twins[0]], "yours/runs/fast": [twins[1]]}
    assert methods_of([first, other, same]) == {"slow 1": [first], "fast-seed-1": [other], "slow 3": [same]}
    # Second stages of first stages that differ in their seeds alone, likewise.
    later = [begun(f"later {run.path.name}", 0, init=str(run.path)) for run in (first, again)]
    assert methods_of([*later, first]) == {"later slow": later, "slow 1": [first]}
    with pytest.raises(MetaSiamError, match="given twice"):
        methods_of([first, first])


def test_options_of_one_method_are_read_by_their_type(arguments, capsys):
    command = ["compare", "--methods", "triplet", *arguments, "--adapt-shots", "0", "--out", "both"]
    for text, problem in (
        ("triplet.flip=maybe", "'maybe' is not a valid value for flip"),
        ("triplet.lr=fast", "'fast' is not a valid value for lr"),
        ("triplet.rate=1", "triplet has no option 'rate'"),
    ):
        assert problem in complaint(capsys, [*command, "--set", text])
    settings = ["triplet.iterations=1", "triplet.flip=False", "triplet.lr=.01", "triplet.margin=none"]
    assert run([*command, *(word for text in settings for word in ("--set", text))]) == 0
    options = json.loads(Path("both/triplet/config.json").read_text())["options"]
    assert (options["flip"], options["lr"], options["margin"]) == (False, 0.01, None)


def test_domains_that_a_run_was_trained_on_are_not_held_out(arguments, capsys):
    assert run([*TRIPLET, *arguments, "--out", "run", "--adapt-shots", "0"]) == 0
    again = ["evaluate", "run", "--overwrite", "--pairs", "40", "--adapt-shots", "0"]
    for more in (["--held-out", "6"], ["--validation", "1"]):
        assert "was trained on" in complaint(capsys, [*again, *more])
    for more, held_out, validation in ((["--held-out", "2"], [8, 9], []), (["--validation", "2"], [7, 8, 9], [1, 5])):
        assert run([*again, *more]) == 0
        split = json.loads(Path("run/evaluation.json").read_text())["protocol"]["split"]
        assert (split["held_out"], split["validation"]) == (held_out, validation)


def test_a_run_on_pairs_has_no_split_to_be_tested_by(arguments, capsys):
    Path("faces").mkdir()
    save_embedder(Path("faces/embedder.safetensors"), build_embedder("resnet8"), EmbedderInfo("resnet8"))
    data = {"options": {"data": "lfw", "crop": 150}, "fingerprint": "of pairs"}
    Path("faces/config.json").write_text(json.dumps({"options": {"method": "siamese"}, "data": data}))
    assert "trained on pairs (siamese)" in complaint(capsys, ["evaluate", "faces"])
    assert "trained on pairs (siamese)" in complaint(capsys, ["compare", "faces", *arguments[:2], "--held-out", "3"])
    assert run(["evaluate", "faces", *arguments[:2], "--held-out", "3", "--pairs", "40", "--adapt-shots", "0"]) == 0


def test_reptiles_second_stage_needs_a_first(arguments, capsys):
    assert run([*TRIPLET, *arguments, "--out", "start", "--adapt-shots", "0"]) == 0
    same = [word for word in arguments if word not in ("--arch", "resnet8")]
    plan = [*same, "--preset", "best", "--init", "start", "--budget-images", "720", "--out", "both"]
    assert run(["compare", "--methods", "reptile", "--set", "reptile.meta_batch=2", *plan, "--adapt-shots", "0"]) == 0
    assert json.loads(Path("both/comparison.json").read_text())["methods"]["reptile"]["arch"] == "resnet8"
    capsys.readouterr()
    for command in (["reptile"], ["compare"], ["sweep", "--methods", "reptile"]):
        data = arguments[:2]
        assert "First run metasiam triplet" in complaint(capsys, [*command, *data, "--preset", "best"])
    assert not Path("runs").exists()


def test_sweep_goes_over_splits_and_takes_finished_runs_the_second_time(arguments, capsys):
    data = [a for a in arguments if a not in ("--held-out", "3", "--validation", "2")]
    command = ["sweep", *data, "--splits", "50,70,100", "--budget-images", "36", "--out", "sweep"]
    assert run(command) == 0
    rows = json.loads(Path("sweep/results.json").read_text())["runs"]
    assert [(row["seen"], row["held_out"]) for row in rows] == [(5, 5), (7, 3), (10, 0)]
    assert "reference_protocol" in rows[0]["evaluation"]
    capsys.readouterr()
    assert run(command) == 0
    assert capsys.readouterr().out.count("used as it is") == 3
    assert "other settings" in complaint(capsys, [*command, "--lr", "0.5"])
    assert "does not name a method" in complaint(capsys, [*command, "--methods", ","])
    assert "Use e.g. 10,50" in complaint(capsys, [*command, "--splits", "all"])
    # Without the sweep's own file, nothing says whose runs these are.
    Path("sweep/sweep.json").unlink()
    assert "is not empty" in complaint(capsys, command)
    # Runs of other options are not taken for the sweep's.
    Path("other").mkdir()
    Path("other/sweep.json").write_text(json.dumps({"options": {}, "data": {}}))
    assert "other settings" in complaint(capsys, [*command, "--out", "other"])
    config = Path("sweep/triplet-5-5/config.json")
    changed = json.loads(config.read_text())
    assert run([*command, "--out", "again", "--splits", "50"]) == 0
    changed["options"]["lr"] = 0.5
    Path("again/triplet-5-5/config.json").write_text(json.dumps(changed))
    assert "trained with lr 0.5, not 0.001" in complaint(capsys, [*command, "--out", "again", "--splits", "50"])


def test_evaluate_takes_runs_and_foreign_weights(arguments, capsys):
    from metasiam import build_embedder

    torch.save(build_embedder("resnet8").state_dict(), "w.pt")
    data = arguments[:2] + arguments[-6:]
    measure = [*data, "--adapt-shots", "0"]
    assert "Add --arch" in complaint(capsys, ["evaluate", "w.pt", *measure])
    assert (
        run(["evaluate", "w.pt", "--arch", "resnet8", *measure, "--out", "e", "--protocol", "balanced,reference"]) == 0
    )
    assert "reference_protocol" in json.loads(Path("e/evaluation.json").read_text())
    assert "By the published systems' own protocol" in capsys.readouterr().out
    assert "holds an evaluation" in complaint(capsys, ["evaluate", "w.pt", "--arch", "resnet8", *measure, "--out", "e"])
    Path("run").mkdir()
    Path("run/config.json").write_text("{}")
    assert "holds a run, not an evaluation" in complaint(
        capsys, ["evaluate", "w.pt", "--arch", "resnet8", *measure, "--out", "run", "--overwrite"]
    )
    assert "is not a resnet14" in complaint(capsys, ["evaluate", "w.pt", "--arch", "resnet14", *measure])


def test_evaluate_takes_inference_steps_and_kinds_of_episodes(arguments, capsys):
    weights = build_embedder("resnet8", image_size=(16, 16))
    torch.save(weights.state_dict(), "w.pt")
    measure = ["evaluate", "w.pt", "--arch", "resnet8", *arguments[:2], "--held-out", "3", "--adapt-shots", "0"]
    measure += ["--device", "cpu", "--pairs", "40"]
    steps = ["--inference", "mirror,lda,logistic", "--episodes", "3x2,2x1"]
    assert run([*measure, *steps, "--out", "e"]) == 0
    found = json.loads(Path("e/evaluation.json").read_text())
    names = {f"{kind}{head}" for kind in ("3-way 2-shot", "2-way 1-shot") for head in ("", " logistic")}
    assert names <= set(found["held_out"]["episodes"])
    assert found["protocol"]["episode_kinds"] == [[3, 2], [2, 1]]
    capsys.readouterr()
    assert "--inference pca is unknown" in complaint(capsys, [*measure, "--inference", "pca", "--out", "f"])
    assert "not a list of WAYSxSHOTS" in complaint(capsys, [*measure, "--episodes", "five", "--out", "f"])
    assert not Path("f").exists()


def test_evaluate_normalises_grey_weights_and_refuses_numbers_that_do_not_fit(arguments, photos, capsys):
    for picture in photos.rglob("*.png"):
        Image.open(picture).convert("L").save(picture)
    torch.save(build_embedder("resnet8", channels=1).state_dict(), "grey.pt")
    torch.save(build_embedder("resnet8").state_dict(), "colour.pt")
    measure = ["--arch", "resnet8", *arguments[:2], *arguments[-6:], "--adapt-shots", "0", "--out", "e"]
    assert "Pass --mean one number for each" in complaint(capsys, ["evaluate", "colour.pt", *measure, "--mean", "0.5"])
    assert "--std must be positive" in complaint(capsys, ["evaluate", "colour.pt", *measure, "--std", "0,0,0"])
    assert run(["evaluate", "colour.pt", *measure[:-1], "shown-in-colour"]) == 0
    assert "grey ones are repeated in 3 channels" in " ".join(capsys.readouterr().out.split())
    assert run(["evaluate", "grey.pt", *measure]) == 0
    assert Path("e/evaluation.json").is_file()


def test_evaluate_brings_images_to_the_size_that_the_weights_say(arguments, capsys):
    info = EmbedderInfo("conv4", image_size=(32, 32))
    save_embedder(Path("w.safetensors"), build_embedder("conv4"), info)
    save_embedder(Path("wide.safetensors"), build_embedder("conv4"), replace(info, image_size=(16, 32)))
    measure = [*arguments[:2], *arguments[-6:], "--adapt-shots", "0", "--device", "cpu", "--inference", "lda"]
    assert run(["evaluate", "w.safetensors", *measure, "--out", "stored"]) == 0
    assert run(["evaluate", "w.safetensors", *measure, "--out", "asked", "--image-size", "32"]) == 0
    assert Path("stored/evaluation.json").read_text() == Path("asked/evaluation.json").read_text()
    # Asked for another size, a network that can take it is measured with it.
    assert run(["evaluate", "w.safetensors", *measure, "--out", "other", "--image-size", "16"]) == 0
    capsys.readouterr()
    assert run(["evaluate", "wide.safetensors", *measure, "--out", "cut"]) == 0
    # Weights of before do not say how pictures get to a size that is no square.
    save_embedder(
        Path("wide.safetensors"), build_embedder("conv4"), replace(info, image_size=(16, 32), preparation=UNSAID)
    )
    capsys.readouterr()
    line = complaint(capsys, ["evaluate", "wide.safetensors", *measure, "--out", "e"])
    assert "wide.safetensors takes images of 32x16 pixels, folder:" in line
    assert "has 16x16" in line


def test_evaluate_writes_over_nobody_s_report_unless_told_to(arguments, capsys):
    torch.save(build_embedder("resnet8").state_dict(), "w.pt")
    Path("both").mkdir()
    for name in ("compare.json", "report.html", "tasks.csv"):
        Path("both", name).write_text("a comparison's")
    measure = ["evaluate", "w.pt", "--arch", "resnet8", *arguments[:2], *arguments[-6:], "--adapt-shots", "0"]
    line = complaint(capsys, [*measure, "--out", "both"])
    assert "both holds a comparison, not an evaluation. Choose another --out." in line
    complaint(capsys, [*measure, "--out", "both", "--overwrite"])
    assert {path.read_text() for path in Path("both").iterdir()} == {"a comparison's"}
    Path("both/compare.json").unlink()
    line = complaint(capsys, [*measure, "--out", "both", "--overwrite"])
    assert "both holds tasks.csv, report.html but no evaluation, and --overwrite replaces evaluations only" in line
    assert run([*measure, "--out", "fresh"]) == 0
    assert "Use --overwrite to replace it" in complaint(capsys, [*measure, "--out", "fresh"])
    assert run([*measure, "--out", "fresh", "--overwrite"]) == 0


@pytest.mark.parametrize("preset", ["quick", "best"])
def test_presets_of_all_methods_cost_about_as_many_images(preset):
    costs = []
    for method in names():
        config = options_of(options_class(method), preset_options(preset, method)[1])
        costs.append(config.iterations * config.images_per_iteration)
    first_stages = [
        cost for method, cost in zip(names(), costs, strict=True) if (preset, method) != ("best", "reptile")
    ]
    assert max(first_stages) < 1.05 * min(first_stages)


def test_ctrl_c_saves_and_resume_ends_where_it_would_have(arguments, tmp_path, capsys):
    """A real process, a real signal."""
    command = [sys.executable, "-m", "metasiam", "triplet", "--iterations", "300", *arguments, "--out", "run",
               "--adapt-shots", "0", "--seed", "3"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "METASIAM_DATA": str(tmp_path / "data")}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "metasiam triplet --resume run" in output
    assert not (tmp_path / "run" / "embedder.safetensors").exists()
    resumed = subprocess.run(
        [sys.executable, "-m", "metasiam", "triplet", "--resume", "run"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    assert "Held-out tasks" in resumed.stdout
    protocol = json.loads((tmp_path / "run" / "evaluation.json").read_text())["protocol"]
    assert (protocol["seed"], protocol["pairs"], protocol["shots"]) == (3, 40, [0])  # as it was begun
    for more in (["--validation", "1"], ["--held-out", "0"], ["--preset", "quick"], ["--out", "elsewhere"]):
        assert f"Omit {more[0]}" in complaint(capsys, ["triplet", "--resume", str(tmp_path / "run"), *more])


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (["--lr", "-1"], "--lr must be a positive number"),
        (["--lr", "fast"], "'--lr'"),
        (["--loss", "hinge"], "--loss hinge is unknown. Use one of: cosine"),
        (["--arch", "vgg"], "--arch vgg is unknown"),
        (["--held-out", "9"], "leaves 0 to train on"),
        (["--held-out", "50"], "leaves 0 to train on"),
        (["--adapt-shots", "few"], "'few' is not a number of images"),
        (["--preset", "fast"], "--preset fast is unknown. Use one of: quick"),
        (["--data", "cifar1000"], "cifar1000"),
        (["--data", "folder:nowhere"], "nowhere"),
        (["--device", "tpu"], "--device tpu is unknown"),
        (["--adapt-shots", "0,500"], "500"),
        (["--no-such-option"], "--no-such-option"),
        (["--init", "nowhere"], "nowhere does not exist"),
        (["--checkpoint-every", "nan"], "--checkpoint-every must be a finite number, not nan"),
        (["--checkpoint-every", "-1"], "--checkpoint-every must not be negative, not -1"),
        (["--pairs", "2000000"], "--pairs 2000000 is more than 1000000"),
        (["--epochs", "2"], "--epochs and --iterations both set the length. Use one of them."),
        (["--split", "/etc/hostname"], "Use cifar-fs, fc100, omniglot-vinyals, or a JSON file"),
    ],
)
def test_bad_options_get_one_clear_line_and_write_nothing(arguments, capsys, extra, text):
    assert text in complaint(capsys, [*TRIPLET, *arguments, "--out", "run", *extra])
    assert not Path("run").exists()


def test_epochs_win_over_a_presets_iterations(arguments):
    quick = ["triplet", "--preset", "quick", *arguments, "--epochs", "1", "--out", "run", "--adapt-shots", "0"]
    assert run(quick) == 0
    config = json.loads(Path("run/config.json").read_text())
    assert (config["options"]["epochs"], config["options"]["iterations"]) == (1, None)
    assert config["total_iterations"] < 18


def test_ctrl_c_while_measuring_says_that_the_training_is_kept_and_what_measures_it(arguments, capsys, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    both = ["compare", "--methods", "triplet", "--budget-images", "36", "--out", "my both", "--adapt-shots", "0"]
    with monkeypatch.context() as patched:
        for module in (
            "workflows.compare",
            "session",
            "workflows.sweep",
        ):  # imported meanwhile, they would keep the patched function
            importlib.import_module(f"metasiam.{module}")
        patched.setattr("metasiam.evaluation.protocol.evaluate", interrupted)
        patched.setattr("metasiam.workflows.compare.compare", interrupted)
        for command, out in (([*TRIPLET, "--out", "my run"], "my run"), (both, "my both")):
            assert run([*command, *arguments]) == 130
            shown = capsys.readouterr()
            assert shown.out.endswith(f"in {out}, not measured yet\nnext: metasiam {command[0]} --resume '{out}'\n")
            assert shown.err == "metasiam: interrupted\n"
    assert run(["triplet", "--resume", "my run", "--adapt-shots", "0"]) == 0
    assert Path("my run/evaluation.json").is_file()
    assert run(["compare", "--resume", "my both"]) == 0


def test_usage_errors_are_whole_sentences(capsys):
    for words in (["triplet", "--no-such-option"], ["triplet", "--epochs", "many"], ["triplet", "more"], ["evaluate"]):
        line = complaint(capsys, words)
        assert line.endswith(f". See metasiam {words[0]} --help.")
        assert ".." not in line


def test_no_command_shows_the_commands_and_complains_about_nothing(capsys):
    for words in ([], ["data"]):
        assert run(words) == 2
        shown = capsys.readouterr()
        assert "COMMAND" in shown.out
        assert shown.err == ""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried …"),
    ],
    ids=["numpy", "gpu", "cpu"],
)
def test_too_little_memory_is_said_in_one_line(arguments, capsys, monkeypatch, error):
    def fails(*args, **options):
        raise error

    monkeypatch.setattr("metasiam.session.train", fails)
    assert "Lower --batch-size, --image-size or --pairs" in complaint(capsys, [*TRIPLET, *arguments])


def test_folders_with_brackets_and_blanks_are_named_as_they_are(arguments, capsys):
    out = "my runs/a [old] [/b]"
    assert run([*TRIPLET, *arguments, "--out", out, "--adapt-shots", "0"]) == 0
    assert f"wrote to {out}: evaluation.json" in capsys.readouterr().out
    assert run(["compare", out, "--out", "both [new]", "--pairs", "40", "--adapt-shots", "0"]) == 0
    assert "wrote to both [new]: report.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (["--budget-minutes", "nan"], "--budget-minutes must be a finite number, not nan"),
        (["--budget-minutes", "inf"], "--budget-minutes must be a finite number, not inf"),
        (["--budget-images", "0"], "--budget-images must be above 0, not 0"),
        (["--methods", ""], "--methods names each method once"),
        (["--threshold", "nan"], "--threshold must be a finite number, not nan"),
    ],
)
def test_a_comparison_of_nothing_sensible_is_refused_before_it_begins(arguments, capsys, extra, text):
    assert text in complaint(capsys, ["compare", *arguments, "--out", "both", *extra])
    assert not Path("both").exists()


def test_overwrite_replaces_comparisons_and_sweeps_and_nothing_else(arguments, capsys):
    assert run([*TRIPLET, *arguments, "--out", "a", "--adapt-shots", "0"]) == 0
    capsys.readouterr()
    mine = Path("mine")
    mine.mkdir()
    (mine / "tasks.csv").write_text("mine")
    (mine / "results.json").write_text("mine")
    before = {path: path.read_bytes() for folder in ("a", "mine") for path in Path(folder).rglob("*") if path.is_file()}
    for command, kind in ((["compare", "a"], "comparison"), (["sweep", *arguments[:2]], "sweep")):
        for more in ([], ["--overwrite"]):
            assert f"a holds a run, not a {kind}" in complaint(capsys, [*command, "--out", "a", *more])
        assert "mine is not empty" in complaint(capsys, [*command, "--out", "mine"])
        assert f"but no {kind}" in complaint(capsys, [*command, "--out", "mine", "--overwrite"])
    assert before == {path: path.read_bytes() for path in before}
    compare = ["compare", "a", "--out", "c", "--pairs", "40", "--adapt-shots", "0"]
    assert run(compare) == 0
    capsys.readouterr()
    assert "c holds a comparison. Use --overwrite" in complaint(capsys, compare)
    assert run([*compare, "--overwrite"]) == 0


def test_finished_runs_take_no_training_options(arguments, capsys):
    line = complaint(capsys, ["compare", "a", "b", "--lr", "0.1", "--arch", "resnet8", "--compile", "off"])
    assert "Omit --arch, --lr, --compile" in line


def test_a_run_is_resumed_by_the_command_that_began_it(arguments, capsys):
    assert run([*TRIPLET, *arguments, "--out", "my run", "--adapt-shots", "0"]) == 0
    capsys.readouterr()
    line = complaint(capsys, ["siamese", "--resume", "my run"])
    assert line.endswith("my run was trained with triplet. Use metasiam triplet --resume 'my run'.")
    config = json.loads(Path("my run/config.json").read_text())
    config["options"]["method"] = "siamese"
    del config["split"]
    Path("my run/config.json").write_text(json.dumps(config))
    line = complaint(capsys, ["triplet", "--resume", "my run"])
    assert line.endswith("my run was trained with siamese. Use metasiam siamese --resume 'my run'.")
    config["options"]["method"] = "protonet"  # which has no command of its own
    Path("my run/config.json").write_text(json.dumps(config))
    assert complaint(capsys, ["triplet", "--resume", "my run"]).endswith("Use metasiam compare --resume ..")


def test_bad_data_get_one_clear_line(arguments, photos, capsys):
    picture = next((photos / "train" / "domain 00").iterdir())
    whole = picture.read_bytes()
    picture.write_bytes(whole[:60])
    assert picture.name in complaint(capsys, [*TRIPLET, *arguments, "--out", "run"])
    Image.new("RGB", (20, 16)).save(picture)
    line = complaint(capsys, [*TRIPLET, *arguments, "--out", "run"])
    assert picture.name in line
    assert "--image-size" in line
    picture.write_bytes(whole)
    lonely = photos / "train" / "alone"
    lonely.mkdir()
    (lonely / "1.png").write_bytes(whole)
    assert "alone" in complaint(capsys, [*TRIPLET, *arguments, "--out", "run"])
    assert not Path("run").exists()


def test_a_folder_that_cannot_be_written_is_named(arguments, capsys):
    Path("taken").write_text("a file")
    assert "taken is a file" in complaint(capsys, [*TRIPLET, *arguments, "--out", "taken"])
    assert "taken/below cannot be written" in complaint(capsys, [*TRIPLET, *arguments, "--out", "taken/below"])


def test_compare_refuses_runs_that_do_not_belong_together(arguments, capsys):
    measure = ["--adapt-shots", "0"]
    assert run([*TRIPLET, *arguments, "--out", "a", *measure]) == 0
    assert run([*REPTILE, *arguments, "--out", "b", *measure, "--held-out", "4"]) == 0
    capsys.readouterr()
    line = complaint(capsys, ["compare", "a", "b", "--out", "c"])
    assert "b was trained with another split" in line
    Path("a/embedder.safetensors").unlink()
    assert "other split" in complaint(capsys, ["compare", "b", "--held-out", "3", "--out", "c"])
    assert "does not contain embedder.safetensors" in complaint(capsys, ["compare", "a", "--out", "c"])
    assert not Path("c/compare.json").exists()


def test_every_command_has_help_with_an_example(capsys):
    from metasiam.cli import app

    for command in app.registered_commands:
        assert run([command.name, "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert f"metasiam {command.name}" in shown
        assert "Example" in shown


def test_the_version_is_the_packages(capsys):
    from metasiam import __version__

    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"metasiam {__version__}"


def test_a_run_finds_its_pictures_from_anywhere_and_where_they_moved(arguments, photos, tmp_path, capsys, monkeypatch):
    words = [word if not word.startswith("folder:") else "folder:photos" for word in arguments]
    assert run([*TRIPLET, *words, "--adapt-shots", "0", "--out", "run"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    evaluating = ["evaluate", "../run", "--pairs", "40", "--adapt-shots", "0", "--overwrite"]
    assert run(evaluating) == 0

    moved = photos.rename(tmp_path / "moved")
    capsys.readouterr()
    assert "photos" in complaint(capsys, evaluating)
    assert run(["triplet", "--resume", "../run", "--data", "folder:../moved"]) == 0
    assert open_run("../run").config["data"]["options"]["data"] == f"folder:{moved}"
    assert run(evaluating) == 0  # the run knows now

    evaluated = Path("../run/evaluation.json").read_bytes()
    (moved / "train" / "new").mkdir()
    (moved / "test" / "new").mkdir()
    for part in ("train", "test"):
        for place in range(2):
            Image.new("RGB", (16, 16), (0, 0, 100 * place)).save(moved / part / "new" / f"{place}.png")
    capsys.readouterr()
    line = complaint(capsys, evaluating)
    assert "holds other images (124) than ../run was trained on (120)" in line
    assert "was trained on other images (120)" in complaint(capsys, ["triplet", "--resume", "../run"])
    assert run([*evaluating[:-1], "--data", "folder:../moved", "--held-out", "3"]) == 0
    (folder,) = Path("runs").glob("evaluate-*")
    assert "folder:../moved" in (folder / "evaluation.json").read_text()
    assert Path("../run/evaluation.json").read_bytes() == evaluated


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["compare", "--methods", "triplet,protonet"], "protonet's 5 shots and 15 queries need 20 images of a domain"),
        (["compare", "--methods", "triplet,reptile", "--set", "reptile.ways=6"], "--ways 6 needs as many seen domains"),
        (["compare", "--methods", "triplet,reptile", "--budget-minutes", "9", "--set", "reptile.arch=koch"],
         "--arch koch does not fit the images"),
        (["sweep", "--methods", "triplet,protonet", "--splits", "80,50"], "protonet's 5 shots and 15 queries need 20"),
    ],
    ids=["images", "domains", "size", "sweep"],
)  # fmt: skip
def test_nothing_is_trained_before_everything_is_known_to_fit(arguments, capsys, monkeypatch, command, text):
    """Also what the second method has no data for."""
    monkeypatch.setattr("metasiam.session.train", lambda *_, **__: pytest.fail("it trains"))
    monkeypatch.setattr("metasiam.workflows.compare.images_in", lambda *_, **__: pytest.fail("it measures"))
    own = arguments if command[0] == "compare" else [*arguments[:-6], "--pairs", "40"]
    assert text in complaint(capsys, [*command, *own, "--out", "new"])
    assert not Path("new").exists()


def test_every_split_of_a_sweep_is_looked_at_before_the_first_training(arguments, capsys, monkeypatch):
    def fits_not(method, domains, split, **options):
        if len(split.seen) == 8:
            raise MetaSiamError("8 seen domains are too many.")

    monkeypatch.setattr("metasiam.workflows.sweep.check_trainable", fits_not)
    monkeypatch.setattr("metasiam.session.train", lambda *_, **__: pytest.fail("it trains"))
    sweeping = ["sweep", *arguments[:-6], "--pairs", "40", "--splits", "50,80", "--out", "new"]
    assert "8 seen domains are too many" in complaint(capsys, sweeping)
    assert not Path("new").exists()


def test_what_is_in_the_way_of_a_later_training_is_found_before_the_first(arguments, capsys, monkeypatch):
    monkeypatch.setattr("metasiam.session.train", lambda *_, **__: pytest.fail("it trains"))
    (Path("new/triplet-8-2/figures")).mkdir(parents=True)
    sweeping = ["sweep", *arguments[:-6], "--pairs", "40", "--splits", "50,80", "--out", "new"]
    assert "no run" in complaint(capsys, [*sweeping, "--overwrite"])
    Path("both/reptile").mkdir(parents=True)
    Path("both/compare.json").write_text("{}")
    with run_held(Path("both/reptile")):
        line = complaint(
            capsys, ["compare", "--methods", "triplet,reptile", *arguments, "--out", "both", "--overwrite"]
        )
    assert "both/reptile is being trained by another process" in line
    assert Path("both/compare.json").exists()


def test_a_comparison_and_a_sweep_are_made_by_one_process_at_a_time(arguments, capsys):
    Path("both").mkdir()
    Path("both/compare.json").write_text("{}")
    Path("swept").mkdir()
    with run_held(Path("both")), run_held(Path("swept")):
        comparing = ["compare", "--methods", "triplet", *arguments, "--out", "both", "--overwrite"]
        sweeping = ["sweep", *arguments[:-6], "--pairs", "40", "--splits", "50", "--out", "swept"]
        for command in (comparing, sweeping):
            assert "is being trained by another process" in complaint(capsys, command)


def test_a_run_is_trained_by_one_process_at_a_time(arguments, capsys):
    assert run([*TRIPLET, *arguments, "--adapt-shots", "0", "--out", "run"]) == 0
    capsys.readouterr()
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    with run_held(Path("run")):
        for command in (["triplet", "--resume", "run"], [*TRIPLET, *arguments, "--out", "run", "--overwrite"]):
            assert "run is being trained by another process" in complaint(capsys, command)
    assert before == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert run(["triplet", "--resume", "run"]) == 0


def test_nobody_starts_over_while_a_run_is_measured(arguments, capsys, monkeypatch):
    from metasiam.workflows import measure as measuring

    measure = measuring.evaluate_run

    def disturbed(trained, *rest):
        with pytest.raises(MetaSiamError, match="is being trained by another process"):
            check_free(trained.path)
        return measure(trained, *rest)

    monkeypatch.setattr(measuring, "evaluate_run", disturbed)
    assert run([*TRIPLET, *arguments, "--adapt-shots", "0", "--out", "run"]) == 0


def test_a_disk_that_is_full_at_the_first_checkpoint_is_said_in_one_line(arguments, capsys, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("metasiam.training.checkpoint.open", lambda path, mode: Full(path, mode), raising=False)
        line = complaint(capsys, [*TRIPLET, *arguments, "--out", "run"])
    assert line.startswith("metasiam: run/checkpoint.pt cannot be written: the disk is full. Free some space, then ")
    assert "start again with --overwrite" in line
    assert run([*TRIPLET, *arguments, "--out", "run", "--overwrite", "--adapt-shots", "0"]) == 0


def test_a_disk_that_fills_later_keeps_the_checkpoint_and_says_how_to_go_on(arguments, capsys, monkeypatch):
    monkeypatch.setattr("metasiam.training.loop.LOG_EVERY", 0.0)
    append = Run.append_metrics

    def full(self, row):
        if row["step"] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, row)

    command = [*TRIPLET, *arguments, "--adapt-shots", "0", "--checkpoint-every", "0"]
    with monkeypatch.context() as patched:
        patched.setattr(Run, "append_metrics", full)
        line = complaint(capsys, [*command, "--out", "my run"])
    assert "my run cannot be written: the disk is full." in line
    assert "continue with --resume 'my run': its checkpoint of iteration 1 is kept" in line
    assert run(["triplet", "--resume", "my run"]) == 0
    assert [row["step"] for row in open_run("my run").metrics()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space", "a.json"), "a.json cannot be written: the disk is full. Free some space"),
        (OSError(errno.EDQUOT, "Quota"), "the output cannot be written: your share of the disk is used up"),
        (OSError(errno.EROFS, "Read-only", b"b.json"), "b.json cannot be written: the disk is read-only"),
        (PermissionError(errno.EACCES, "Denied", "c"), "c cannot be used: permission denied. Change its permissions"),
    ],
    ids=["full", "quota", "read-only", "rights"],
)
def test_what_the_disk_refuses_is_said_in_one_line(arguments, capsys, monkeypatch, error, text):
    def fails(*args, **options):
        raise error

    monkeypatch.setattr("metasiam.session.train", fails)
    assert text in complaint(capsys, [*TRIPLET, *arguments])


def test_a_bug_is_no_full_disk(arguments, monkeypatch):
    def fails(*args, **options):
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")

    monkeypatch.setattr("metasiam.session.train", fails)
    with pytest.raises(FileNotFoundError):
        run([*TRIPLET, *arguments])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_an_output_that_takes_nothing_is_said_in_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "metasiam", "--version"], stdout=full, stderr=subprocess.PIPE,
                              text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "metasiam: the output cannot be written: the disk is full. Free some space, then try again; a saved run "
        "continues with --resume."
    ]


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["ascii", "C"],
)
def test_an_output_that_is_not_utf_8_gets_signs_that_look_alike(environment, tmp_path):
    code = (
        r"import sys, metasiam.cli as c; c._print_anything(); print('\xd7\u2026\u2713'); sys.stderr.write('\udcff\xb1')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | environment, capture_output=True, check=False)
    assert done.stdout.decode("ascii").strip() == r"x...\u2713", done.stderr
    assert done.stderr.decode("ascii") == r"\xff+-"
    words = ["triplet", "--data", "folder:" + "\xe9…", "--out", "run"]
    done = subprocess.run([sys.executable, "-m", "metasiam", *words], env=os.environ | environment, cwd=tmp_path,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.decode("ascii").splitlines()) == 1


def test_a_name_that_cannot_be_kept_is_said_in_one_line(arguments, capsys, monkeypatch):
    def fails(*args, **options):
        json.dumps({"data": "folder:caf\udce9", "x": 1}, ensure_ascii=False).encode()

    monkeypatch.setattr("metasiam.session.train", fails)
    line = complaint(capsys, [*TRIPLET, *arguments])
    assert "the name folder:caf\\xe9 has bytes that are not UTF-8" in line


def test_weights_that_overflow_while_the_loss_stays_finite_stop_the_training(arguments, capsys, monkeypatch):
    """Training normalises by the batch, so that only the running statistics tell."""
    from metasiam.learners.triplet import Triplet

    iterate = Triplet.iterate

    def overflowing(self, iteration, stop):
        loss = iterate(self, iteration, stop)
        if iteration == 1:
            self._tensors["statistics"][0][0] = float("inf")
        return loss

    monkeypatch.setattr(Triplet, "iterate", overflowing)
    monkeypatch.setattr("metasiam.training.loop.LOG_EVERY", 0.0)
    line = complaint(capsys, [*TRIPLET, *arguments, "--out", "run", "--checkpoint-every", "0"])
    assert "the weights are not finite at iteration 2. The last good checkpoint is kept in run (iteration 1)" in line
    assert "a lower --lr" in line
    assert torch.load("run/checkpoint.pt", weights_only=True)["iteration"] == 1
    assert not Path("run/embedder.safetensors").exists()


@pytest.mark.parametrize(("value", "text"), [(float("nan"), "w.safetensors contains NaN or infinite weights"),
                                             (1e30, "makes NaN or infinite embeddings")])  # fmt: skip
def test_weights_of_a_training_that_diverged_are_not_measured(arguments, capsys, value, text):
    embedder = build_embedder("resnet8")
    with torch.no_grad():
        for parameter in embedder.parameters():
            parameter.fill_(value)
    save_embedder(Path("w.safetensors"), embedder, EmbedderInfo("resnet8", image_size=(16, 16)))
    data = arguments[:2]
    line = complaint(
        capsys, ["evaluate", "w.safetensors", *data, "--held-out", "3", "--pairs", "40", "--device", "cpu"]
    )
    assert text in line
    assert "lower --lr" in line
