from __future__ import annotations

import inspect
import re
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
from listeners import Heard
from rich.console import Console

import metasiam as ms
from metasiam.progress import SHOWN, SILENT, Listener, Part, Progress, Relay, heard
from metasiam.progress_lines import announcement, lines

OPTIONS: dict[str, Any] = {"arch": "resnet8", "batch_size": 4, "iterations": 2, "device": "cpu", "precision": "fp32"}
HALF_WAY = Progress("triplet", 1, 2, 0.5, 12, 3.0, 4.0, 5.0)


@pytest.fixture
def data(tiny_domains: Any) -> tuple[ms.DomainSet, ms.Split]:
    domains = tiny_domains(domains=4, images=8, size=16)
    return domains, ms.split_domains(domains, held_out=1)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    """Standard output that says of itself that it is a terminal."""
    monkeypatch.setattr("metasiam.progress._watched", lambda: True)
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    return capsys


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A notebook: every text that stands below its cell, one after the other."""
    texts: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], *, raw: bool) -> None:
            texts.append(data["text/plain"])

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        texts.append(data["text/plain"])
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    for name in ("ipykernel", "IPython"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr("metasiam.progress_lines._NOTEBOOK_INTERVAL", 0.0)
    return texts


def test_in_a_terminal_a_training_shows_how_far_it_is(data: Any, tmp_path: Path, terminal: Any) -> None:
    ms.train("triplet", *data, out=tmp_path / "run", **OPTIONS)
    said = terminal.readouterr().out
    assert "triplet: tiny, 32 images of 16×16 in 4 domains (3 seen, 0 validation, 1 held out)" in said
    assert re.search(r"triplet .*2/2.* images/s  loss \d\.\d{4}  done", said)
    assert said.endswith("\x1b[?25h")  # the cursor is there again


def test_none_is_silent_in_a_terminal_too(data: Any, tmp_path: Path, terminal: Any) -> None:
    run = ms.train("triplet", *data, out=tmp_path / "run", listener=None, **OPTIONS)
    ms.evaluate(run, *data, shots=(0,), pairs=8, episodes=0, listener=None)
    assert terminal.readouterr() == ("", "")


def test_where_nobody_watches_nothing_is_shown(data: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    ms.train("triplet", *data, out=tmp_path / "run", **OPTIONS)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("RANK", "1")  # of several processes the first speaks
    assert capsys.readouterr() == ("", "")

    @heard
    def work(*, listener: Listener | None = SHOWN) -> bool:
        return listener is SHOWN

    assert work()


def test_a_terminal_is_given_back_when_work_fails(terminal: Any) -> None:
    @heard
    def work(*, listener: Listener | None = SHOWN) -> None:
        (listener or SILENT).progress("counting", 1, 2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert terminal.readouterr().out.endswith("\x1b[?25h")


def test_work_without_progress_leaves_a_terminal_untouched(terminal: Any) -> None:
    @heard
    def work(*, listener: Listener | None = SHOWN) -> None:
        """Neither of the two is anything to see."""

    work()
    assert terminal.readouterr().out == ""


def test_a_notebook_shows_a_text_that_changes_in_place(notebook: list[str]) -> None:
    @heard
    def work(*, listener: Listener | None = SHOWN) -> None:
        told = listener or SILENT
        told.progress("decoding images", 1, 2)
        told.training(HALF_WAY)
        told.progress("decoding images", 2, 2)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rich.console._is_jupyter", lambda: True)
        work()
    assert notebook[0] == "decoding images: 1 of 2"
    assert notebook[-1] == "decoding images: 2 of 2\ntriplet: 1 of 2  3 images/s  loss 0.5000  5 s left"


def test_what_is_left_out_is_a_warning_at_the_callers_line(tmp_path: Path, photos_with_a_gif: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ms.load_domains(f"folder:{photos_with_a_gif}", data_dir=tmp_path)
    assert [(Path(one.filename).name, "are not read" in str(one.message)) for one in caught] == [
        (Path(__file__).name, True)
    ]


@pytest.fixture
def photos_with_a_gif(tmp_path: Path) -> Path:
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            colour = (60 * number, 0 if name == "cat" else 200, 9)
            Image.new("RGB", (16, 16), colour).save(tmp_path / "photos" / name / f"{number}.png")
    (tmp_path / "photos" / "cat" / "5.heic").write_bytes(b"no picture that is read")
    return tmp_path / "photos"


def test_a_listener_hears_a_run_from_its_start_to_its_measurement(data: Any, tmp_path: Path) -> None:
    listener = Heard()
    run = ms.train("triplet", *data, out=tmp_path / "run", listener=listener, **OPTIONS)
    ms.evaluate(run, *data, shots=(0,), pairs=8, episodes=0, listener=listener)
    assert [config["options"]["method"] for config in listener.configs] == ["triplet"]
    assert (listener.trainings[-1].what, listener.trainings[-1].iteration) == ("triplet", 2)
    assert any("embedding" in what for what, _, _ in listener.steps)


def test_something_else_than_a_listener_is_refused(data: Any) -> None:
    with pytest.raises(ms.MetaSiamError, match="train: listener must be a Listener or None, not"):
        ms.train("triplet", *data, listener=print)  # type: ignore[arg-type]


def test_a_relay_passes_on_whatever_a_listener_can_hear() -> None:
    said = {name: method for name, method in vars(Listener).items() if inspect.isfunction(method)}
    assert {name for name in vars(Relay) if name in said} == set(said)
    listener = Heard()
    part = Part(listener, "fold 1 of 2")
    part.progress("embedding", 1, 2)
    part.training(HALF_WAY)
    part.note("left out")
    part.measured({"step": 1})
    part.started({"url": "here"})
    assert listener.steps == [("fold 1 of 2: embedding", 1, 2)]
    assert [progress.what for progress in listener.trainings] == ["fold 1 of 2"]
    assert (listener.notes, listener.rows, listener.configs) == (["left out"], [{"step": 1}], [{"url": "here"}])


def test_a_trial_is_announced_by_its_number_and_options() -> None:
    assert announcement({"trial": 2, "trials": 5, "options": {"lr": 0.1, "epochs": 3}}) == (
        "trial 2 of 5: lr 0.1, epochs 3"
    )


def test_elsewhere_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    clock = iter((0.0, 1.0, 3.0, 4.0, 19.0))
    monkeypatch.setattr("metasiam.progress_lines.time.monotonic", lambda: next(clock))
    with lines(Console(width=80)) as shown:
        for done in range(5):
            shown.progress("embedding", done, 9)
    assert capsys.readouterr().out == "embedding: 2 of 9\nembedding: 4 of 9\n"


def test_the_documented_tracker_logs_the_loss(data: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The code of docs/README.md, with a tracker and a training that only say what they are told."""
    text = (Path(__file__).parents[1] / "docs" / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Progress and experiment trackers")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    logged: list[tuple[dict[str, float], int]] = []
    tracker = types.ModuleType("trackio")
    tracker.init = lambda project: None  # type: ignore[attr-defined]
    tracker.finish = lambda: None  # type: ignore[attr-defined]
    tracker.log = lambda values, step: logged.append((values, step))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    monkeypatch.setattr(ms, "load_domains", lambda name: data[0], raising=False)
    monkeypatch.setattr(ms, "split_domains", lambda domains, held_out: data[1], raising=False)
    monkeypatch.setattr(ms, "train", lambda *_, listener, **__: listener.training(HALF_WAY), raising=False)
    space: dict[str, Any] = {}
    exec(blocks[0], space)
    assert logged == [({"loss": 0.5, "images/s": 3.0}, 1)]
    exec(blocks[1], space)
    assert logged[1:] == [({"loss": 0.5}, 1)]
