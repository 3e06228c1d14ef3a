"""The search: what may be tried, in which order, resumed exactly, and blind to the test pairs."""

from __future__ import annotations

import json
import math
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from listeners import Heard
from pair_samples import write_lfw

from metasiam.cli import run as metasiam_command
from metasiam.data.pairs import PairSet
from metasiam.data.sources import load_pairs
from metasiam.errors import MetaSiamError
from metasiam.options.choices import Choice, parse_choice
from metasiam.options.pairs import PairDataOptions
from metasiam.reports.tune_report import numeric_options, trials_table
from metasiam.workflows.study import STUDY_FILE, finished, open_study, proposals, tell
from metasiam.workflows.tune import best_trial, check_search, next_command, read_trials, tune, without_test

FIXED: dict[str, Any] = {"arch": "conv4", "head": "features", "precision": "fp32", "batch_size": 16, "epochs": 1}


@pytest.fixture(scope="module")
def lfw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lfw(tmp_path_factory.mktemp("lfw"))


@pytest.fixture(scope="module")
def pairs(lfw: Path) -> PairSet:
    return load_pairs("lfw", data_dir=lfw, image_size=16)


def drawn(strategy: str, choices: list[Choice], trials: int, folder: Path) -> list[dict[str, Any]]:
    """Make trials whose score prefers a learning rate of 0.01, or go on with them."""
    folder.mkdir(exist_ok=True)
    study = open_study(folder, choices)
    for trial in proposals(study, strategy, choices, trials, 0):
        tell(study, trial, {"accuracy": -abs(math.log10(trial.params["lr"]) + 2), "auc": 0.5})
    return finished(study)


def test_values_and_ranges_are_read_with_their_options_type() -> None:
    assert parse_choice("lr=0.001,0.01") == Choice("lr", (0.001, 0.01))
    assert parse_choice("--batch-size=8,16") == Choice("batch_size", (8, 16))
    assert parse_choice("flip=true,no") == Choice("flip", (True, False))
    assert parse_choice("patience=none,3") == Choice("patience", (None, 3))
    assert parse_choice("lr=1e-4..1e-2") == Choice("lr", low=1e-4, high=1e-2, logarithmic=True)
    assert parse_choice("dropout=0..0.5") == Choice("dropout", low=0.0, high=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "has no values"),
        ("speed=1,2", "no option 'speed'"),
        ("lr=fast", "'fast' is not a valid value for lr"),
        ("lr=0.1..0.01", "range must grow"),
        ("lr=a..b", "is not a range"),
    ],
)
def test_bad_choices_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(MetaSiamError, match=message):
        parse_choice(text)


def test_a_grid_has_every_combination_once_in_order(tmp_path: Path) -> None:
    choices = [Choice("lr", (0.1, 0.2)), Choice("epochs", (1, 2, 3))]
    options = [row["options"] for row in drawn("grid", choices, 6, tmp_path)]
    assert options == [{"lr": a, "epochs": b} for a in (0.1, 0.2) for b in (1, 2, 3)]


def test_a_grid_over_a_range_is_refused() -> None:
    with pytest.raises(MetaSiamError, match="a grid needs listed values for lr"):
        check_search("grid", [Choice("lr", low=0.1, high=1.0)], {})


@pytest.mark.parametrize("strategy", ["random", "tpe"])
def test_a_stopped_search_goes_on_as_if_it_had_not(strategy: str, tmp_path: Path) -> None:
    choices = [parse_choice("lr=1e-5..1"), parse_choice("batch_size=4..64"), parse_choice("head=l1,features")]
    whole = drawn(strategy, choices, 8, tmp_path / "whole")
    first = drawn(strategy, choices, 5, tmp_path / "stopped")
    assert whole[:5] == first
    assert whole == drawn(strategy, choices, 8, tmp_path / "stopped")
    assert all(1e-5 <= row["options"]["lr"] <= 1 for row in whole)
    assert all(isinstance(row["options"]["batch_size"], int) for row in whole)
    assert len({row["options"]["lr"] for row in whole}) > 4


def test_tpe_comes_nearer_to_the_best_value_than_its_first_draws(tmp_path: Path) -> None:
    rows = drawn("tpe", [parse_choice("lr=1e-6..1")], 30, tmp_path)
    first, last = rows[:10], rows[-10:]
    assert sum(row["score"] for row in last) > sum(row["score"] for row in first)


def test_the_test_pairs_are_withheld(pairs: PairSet) -> None:
    kept = without_test(pairs)
    assert len(kept.rows("test")) == 0
    assert len(kept.first) == len(pairs.rows("train"))


def test_turning_the_test_answers_round_changes_no_trial(pairs: PairSet, tmp_path: Path) -> None:
    choices = [parse_choice("lr=0.001,0.01")]
    turned = replace(pairs, same=pairs.same ^ (pairs.part == 2))
    one, other = (tune(p, choices, out=tmp_path / str(n), **FIXED) for n, p in enumerate((pairs, turned)))
    assert [row["score"] for row in one] == [row["score"] for row in other]


def test_a_search_resumes_where_it_was_killed(pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found_one_after_the_other(monkeypatch, 0.6, 0.8, 0.7)
    choices = [parse_choice("lr=0.001,0.01,0.1")]
    seen = []

    def killed(config: dict[str, Any]) -> None:
        seen.append(config["trial"])
        if config["trial"] == 3 and len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(pairs, choices, out=tmp_path / "s", listener=Heard(started=killed), **FIXED)
    file = tmp_path / "s" / "trials.jsonl"
    with open(file, "a", encoding="utf-8") as text:
        text.write('{"trial": 2, "opti')  # half a line
    with pytest.raises(MetaSiamError, match="holds a search. Use --resume"):
        tune(pairs, choices, out=tmp_path / "s", **FIXED)
    with pytest.raises(MetaSiamError, match="other options or pairs"):
        tune(pairs, choices, out=tmp_path / "s", resume=True, seed=1, **FIXED)
    rows = tune(pairs, choices, out=tmp_path / "s", resume=True, listener=Heard(started=killed), **FIXED)
    assert seen == [1, 2, 3, 3]
    assert [row["trial"] for row in rows] == [0, 1, 2] == [row["trial"] for row in read_trials(file)]
    assert best_trial(rows)["options"] == {"lr": 0.01}
    table = trials_table(rows)
    assert [row[0] for row in table.rows] == ["2", "3", "1"]


def found_one_after_the_other(monkeypatch: pytest.MonkeyPatch, *accuracies: float) -> None:
    found = iter([{"accuracy": a, "auc": 0.5, "epochs": 1, "seconds": 1.0} for a in accuracies])
    monkeypatch.setattr("metasiam.workflows.tune.cross_validated", lambda *args, **kwargs: next(found))


@pytest.mark.parametrize("gone", [STUDY_FILE, "trials.jsonl"])
def test_a_search_goes_on_from_either_of_its_two_accounts(
    pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """Folders of before Optuna kept searches have no study."""
    found_one_after_the_other(monkeypatch, 0.6, 0.8, 0.7, 0.9)
    choices = [parse_choice("lr=0.001..0.1")]
    heard = Heard()
    before = tune(pairs, ["lr=0.001..0.1"], out=tmp_path / "s", strategy="tpe", trials=2, listener=heard, **FIXED)
    assert heard.rows == before
    (tmp_path / "s" / gone).unlink()
    rows = tune(pairs, choices, out=tmp_path / "s", strategy="tpe", trials=4, resume=True, **FIXED)
    assert rows[:2] == before
    assert [row["accuracy"] for row in rows] == [0.6, 0.8, 0.7, 0.9]
    assert read_trials(tmp_path / "s" / "trials.jsonl") == rows


def test_half_a_line_of_a_study_is_dropped_and_a_damaged_study_is_said(
    pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_one_after_the_other(monkeypatch, 0.6, 0.8)
    tune(pairs, [parse_choice("lr=0.01")], out=tmp_path / "s", **FIXED)
    study = tmp_path / "s" / STUDY_FILE
    whole = study.read_bytes()
    study.write_bytes(whole + b'{"op_code": 4, "tri')
    assert len(tune(pairs, [parse_choice("lr=0.01")], out=tmp_path / "s", resume=True, **FIXED)) == 1
    study.write_bytes(b"no JSON\n" + whole)
    with pytest.raises(MetaSiamError, match=r"study\.log is damaged .* Remove it: trials\.jsonl knows the trials too"):
        tune(pairs, [parse_choice("lr=0.01")], out=tmp_path / "s", resume=True, **FIXED)


def test_without_optuna_one_line_says_what_to_install(
    pairs: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MetaSiamError, match=r"needs Optuna. Install it with: pip install 'metasiam\[tune\]'"):
        tune(pairs, [parse_choice("lr=0.01")], out=tmp_path / "s", **FIXED)


def test_only_options_with_several_numbers_get_a_figure() -> None:
    rows = [
        {"options": {"head": "l1", "lr": 0.1, "epochs": 3, "flip": True}},
        {"options": {"head": "l1", "lr": 0.2, "epochs": 3, "flip": False}},
    ]
    assert numeric_options(rows) == ["lr"]


def test_the_command_writes_a_table_and_the_three_figures(
    lfw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "search"
    arguments = ["tune", "--data", "lfw", "--data-dir", str(lfw), "--image-size", "16", "--out", str(out)]
    arguments += ["--device", "cpu"]
    tries = ["--try", "lr=0.001,0.01", "--try", "epochs=1,2", "--try", "batch_size=32,64"]
    assert metasiam_command([*arguments, *tries, "--set", "arch=conv4", "--set", "head=cosine"]) == 0
    shown = capsys.readouterr().out
    assert "Trials, best first" in shown
    assert "metasiam siamese --data lfw" in " ".join(shown.split())
    assert "--device cpu" in " ".join(shown.split())
    assert {file.name for file in (out / "figures").iterdir()} == {
        "accuracy-over-lr.svg",
        "accuracy-over-epochs.svg",
        "accuracy-over-batch-size.svg",
    }
    rows = [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    assert all(torch.isfinite(torch.tensor(row["score"])) for row in rows)


def test_the_printed_command_runs_as_it_is_printed(
    lfw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "data of mine"
    place.symlink_to(lfw)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.chdir(tmp_path)
    arguments = ["tune", "--data-dir", str(place), "--crop", "32", "--image-size", "16", "--grey", "--preset", "quick"]
    fixed = ["mirror=yes", "freeze=true", "patience=none", "epochs=1", "compile=off", "head=cosine"]
    sets = [word for text in fixed for word in ("--set", text)]
    assert metasiam_command([*arguments, "--try", "lr=0.01", "--try", "flip=no", *sets]) == 0
    line = next(text for text in capsys.readouterr().out.splitlines() if text.startswith("next: metasiam "))
    words = shlex.split(line.removeprefix("next: metasiam "))
    assert metasiam_command([*words, "--out", "run"]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    wanted = {"mirror": True, "freeze": True, "flip": False, "patience": None, "epochs": 1, "head": "cosine"}
    assert config["options"].items() >= {**wanted, "arch": "conv4", "batch_size": 64, "lr": 0.01}.items()
    loaded = {"data": "lfw", "data_dir": str(place), "crop": 32, "image_size": 16, "grey": True}
    assert config["data"]["options"].items() >= loaded.items()


def test_a_preset_stays_a_word_of_the_printed_command() -> None:
    line = next_command(PairDataOptions("lfw", crop=150, image_size=48), "quick", {"lr": 0.01, "flip": None})
    assert line == "metasiam siamese --data lfw --preset quick --crop 150 --image-size 48 --lr 0.01"


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_file_as_folder_of_the_search_is_refused(
    lfw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    (tmp_path / "file").write_text("mine")
    arguments = ["tune", "--data-dir", str(lfw), "--image-size", "65", "--try", "lr=0.01"]
    assert metasiam_command([*arguments, "--out", str(tmp_path / out)]) == 2
    error = capsys.readouterr().err.strip()
    assert f"--out {tmp_path / out} " in error
    assert "Choose a" in error
    assert "\n" not in error
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--try", "epochs=5,0"], "--epochs must be at least 1, not 0"),
        (
            ["--try", "lr=0.1..2", "--try", "dropout=0..1", "--strategy", "random"],
            "--dropout must be from 0 to below 1",
        ),
        (["--try", "arch=koch,conv4", "--try", "dropout=0,0.5"], "--dropout is of koch's networks, and conv4 has none"),
        (["--try", "lr=0.1", "--strategy", "bayes"], "--strategy bayes is unknown"),
        (["--try", "lr=0.1", "--set", "epochs"], "--set epochs has no value. Use e.g. --set epochs=5."),
        (["--try", "lr=0.1", "--out", __file__], "is a file"),
    ],
)
def test_a_search_that_cannot_be_finished_is_refused_before_the_pairs_are_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "none.csv").write_text("no pairs")
    base = ["tune", "--data", f"pairs:{tmp_path / 'none.csv'}", "--out", str(tmp_path / "s")]
    assert metasiam_command([*base, *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_nothing_to_try_is_refused(pairs: PairSet, tmp_path: Path) -> None:
    with pytest.raises(MetaSiamError, match="nothing to try"):
        tune(pairs, [], out=tmp_path / "s")
    with pytest.raises(MetaSiamError, match="--strategy bayes is unknown"):
        tune(pairs, [parse_choice("lr=0.1")], out=tmp_path / "s", strategy="bayes")
